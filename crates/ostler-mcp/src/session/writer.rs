//! Writes one line after the other, and what calls a request off before all that waits. A server that takes no byte for
//! too long ends the session.

use std::io::ErrorKind;
use std::sync::Arc;

use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::{Ended, Outgoing, Shared};
use crate::envelope;

/// Runs until the queue is closed, the stream fails, or the task is aborted; each of these closes the stream.
pub(super) async fn run(
    mut input: Box<dyn AsyncWrite + Send + Unpin>,
    mut queue: mpsc::Receiver<Outgoing>,
    shared: Arc<Shared>,
) {
    loop {
        let outgoing = tokio::select! {
            biased;
            id = shared.cancels.next() => Some(Outgoing::Other(envelope::cancelled(id))),
            outgoing = queue.recv() => outgoing,
        };
        let line = match outgoing {
            None => return,
            Some(Outgoing::Request(id, line)) => {
                if !shared.pending().begin_write(id) {
                    continue;
                }
                line
            }
            Some(Outgoing::Other(line)) => line,
        };
        if let Err(why) = write(&mut *input, &line, &shared).await {
            tracing::debug!(server.id = %shared.server, error = ?why, "the server's input failed");
            shared.end(why);
            return;
        }
    }
}

async fn write(input: &mut (dyn AsyncWrite + Send + Unpin), line: &[u8], shared: &Shared) -> Result<(), Ended> {
    let stall = shared.limits.write_stall;
    let mut rest = line;
    while !rest.is_empty() {
        // The limit is for each step: a slow reader is no dead reader.
        match timeout(stall, input.write(rest)).await {
            Err(_) => return Err(Ended::Stalled(stall)),
            Ok(Ok(0)) => return Err(Ended::Input),
            Ok(Ok(count)) => rest = &rest[count..],
            Ok(Err(error)) => return Err(broken(&error)),
        }
    }
    shared.meter.bytes_out(line.len() as u64);
    match timeout(stall, input.flush()).await {
        Err(_) => Err(Ended::Stalled(stall)),
        Ok(flushed) => flushed.map_err(|error| broken(&error)),
    }
}

fn broken(error: &std::io::Error) -> Ended {
    if error.kind() == ErrorKind::BrokenPipe { Ended::Input } else { Ended::Broken(error.to_string()) }
}
