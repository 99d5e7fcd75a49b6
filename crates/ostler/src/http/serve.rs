//! Serves a router on a listener: a cap on connections, a limit for slow heads, and an end within its grace.
//!
//! A client that goes away takes its request with it: the handler is dropped, which cancels what it does.

use std::future::Future;
use std::io;
use std::pin::pin;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// The most connections at a time; more wait in the kernel's queue.
const CONNECTIONS: usize = 256;

/// How long a client may take to send a request's head, and how long an idle connection is kept.
const HEAD_TIME: Duration = Duration::from_secs(30);

/// The pause after a failed accept: the usual reason is that descriptors ran out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Where connections come from.
pub trait Door: Send {
    /// One connection.
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// The next connection that may come in. Cancel-safe.
    fn accept(&mut self) -> impl Future<Output = io::Result<Self::Stream>> + Send;
}

impl Door for TcpListener {
    type Stream = TcpStream;

    async fn accept(&mut self) -> io::Result<TcpStream> {
        TcpListener::accept(self).await.map(|(stream, _)| stream)
    }
}

/// Serves until `stop` resolves; then requests in flight have `grace` to end. No connection lasts longer than `longest`,
/// whether its client reads or not.
pub async fn serve(
    mut door: impl Door,
    router: Router,
    longest: Duration,
    stop: impl Future<Output = ()> + Send,
    grace: Duration,
) {
    let mut connections = JoinSet::new();
    let (stopping, _) = watch::channel(false);
    let mut stop = pin!(stop);
    loop {
        let has_room = connections.len() < CONNECTIONS;
        tokio::select! {
            biased;
            () = &mut stop => break,
            Some(_) = connections.join_next() => {}
            accepted = door.accept(), if has_room => match accepted {
                Ok(stream) => {
                    connections.spawn(timeout(longest, connection(stream, router.clone(), stopping.subscribe())));
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    drop(door);
    stopping.send_replace(true);
    // Whoever is not done by then is aborted when the set is dropped.
    let _ = timeout(grace, async { while connections.join_next().await.is_some() {} }).await;
}

async fn connection(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    router: Router,
    mut stopping: watch::Receiver<bool>,
) {
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut served = pin!(served);
    let ended = tokio::select! {
        biased;
        ended = &mut served => ended,
        () = async { drop(stopping.wait_for(|stopping| *stopping).await) } => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection broke off");
    }
}
