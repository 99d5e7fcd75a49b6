//! The reaper: one small process between us and all children, and our handle on it.
//!
//! It is this program, executed again before any runtime starts (or `ostler-reaper`, named by path). It is a child
//! subreaper, so whatever runs below a server stays below it, and it kills all of that when the server ends or when we do,
//! SIGKILL included. A process that leaves its parent and drops its environment besides cannot be told whose it is: it ends
//! with the last server or with us. Without a reaper (no [`intercept`], or not Linux) servers get process groups, and one
//! warning says so. Inside: `wire` is what is said, `warden` the process, `link` the socket, `keeper` the task that owns both.

#[cfg(target_os = "linux")]
mod keeper;
#[cfg(target_os = "linux")]
mod link;
#[cfg(target_os = "linux")]
mod warden;
#[cfg(target_os = "linux")]
mod wire;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use ostler_core::id::ServerId;
use ostler_core::port::{Lease, Ledger};

use crate::child::Child;
use crate::clock;
use crate::confine::{Confines, Means, confine};
use crate::direct::Direct;
use crate::environment;
use crate::ledger::{Book, SweepReport};
use crate::look::Looks;
use crate::spawn::{Launch, Line, SpawnError};
use crate::stderr::{Redactor, Stderr};

/// How the reaper is called, as its first argument.
#[cfg(target_os = "linux")]
const NAME: &str = "ostler-reaper";
/// The variable that carries the number of the control socket. With [`NAME`] it makes a process the reaper.
#[cfg(target_os = "linux")]
const SOCKET: &str = "OSTLER_REAPER_FD";
/// How a reaper exits that cannot go on: `EX_SOFTWARE`.
#[cfg(target_os = "linux")]
const FAILED: i32 = 70;
/// The variable that carries the soft limit of descriptors that children get.
#[cfg(target_os = "linux")]
const SOFT_LIMIT: &str = "OSTLER_REAPER_NOFILE";

/// Set by [`intercept`]: executing ourselves again will meet it. Holds the soft limit of descriptors before we raised it.
static INTERCEPTED: OnceLock<Option<u64>> = OnceLock::new();

/// Becomes the reaper and never returns, if this process was started as one. The first line of `main`.
///
/// Must run before anything opens a descriptor or starts a thread. Otherwise it allows [`Reaper::start`] to execute this
/// program again, raises our own soft limit of descriptors to the hard one (children get the old one), and returns.
pub fn intercept() {
    #[cfg(target_os = "linux")]
    become_reaper();
    INTERCEPTED.get_or_init(raise_descriptor_limit);
}

/// Ends the process with [`FAILED`] if the reaper fails; the daemon sees its socket end.
#[cfg(target_os = "linux")]
fn become_reaper() {
    use std::os::fd::AsFd;

    let is_named = std::env::args_os().next().is_some_and(|name| name == NAME);
    // The daemon hands the socket over as standard input: no descriptor has to be made inheritable for that.
    if !is_named || std::env::var_os(SOCKET).is_none_or(|number| number != "0") {
        return;
    }
    let soft_limit = std::env::var(SOFT_LIMIT).ok().and_then(|limit| limit.parse().ok());
    crate::kernel::close_inherited();
    let serve = || {
        let input = std::io::stdin();
        nix::sys::socket::getsockopt(&input, nix::sys::socket::sockopt::SockType)?;
        // Out of the way of the children's standard input, and closed in them.
        let socket = input.as_fd().try_clone_to_owned()?;
        nix::unistd::dup2_stdin(std::fs::File::open("/dev/null")?)?;
        warden::run(socket, soft_limit)
    };
    std::process::exit(if serve().is_ok() { 0 } else { FAILED });
}

/// Raises the soft limit to the hard one. Returns what it was, if it was below.
fn raise_descriptor_limit() -> Option<u64> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).ok()?;
    if soft >= hard {
        return None;
    }
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).ok().map(|()| soft)
}

/// How the reaper is started.
#[derive(Clone, Default)]
pub struct ReaperOptions {
    /// A program whose `main` calls [`intercept`] first, such as `ostler-reaper`. `None`: this one, if it called it.
    pub program: Option<PathBuf>,
    /// Where it is written down what was started, for [`Reaper::sweep`] of the next run.
    pub ledger: Option<Arc<dyn Ledger>>,
}

impl fmt::Debug for ReaperOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReaperOptions").field("program", &self.program).finish_non_exhaustive()
    }
}

/// From how many servers on the standard errors of ended ones are forgotten.
const KEPT: usize = 1024;

/// A handle on the reaper. Cheap to clone. When the last handle and the last child are dropped, it ends.
#[derive(Clone)]
pub struct Reaper {
    shared: Arc<Shared>,
}

struct Shared {
    /// Tells our cookies from those of every other reaper, before and beside ours.
    instance: String,
    next_id: AtomicU64,
    means: Arc<Means>,
    looks: Looks,
    book: Book,
    /// The newest standard error of every server.
    stderrs: Mutex<BTreeMap<ServerId, Stderr>>,
    way: Way,
}

enum Way {
    #[cfg(target_os = "linux")]
    Kept(keeper::Keeper),
    Direct(Arc<Direct>),
}

impl Reaper {
    /// Starts the reaper, in the background, and again whenever it died and a spawn needs it.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn start(options: ReaperOptions) -> Self {
        #[cfg(target_os = "linux")]
        crate::init::serve();
        let book = Book::new(options.ledger);
        let shared = Shared {
            instance: instance(),
            next_id: AtomicU64::new(1),
            means: Arc::default(),
            looks: Looks::default(),
            stderrs: Mutex::default(),
            way: way(options.program, &book),
            book,
        };
        Self { shared: Arc::new(shared) }
    }

    /// Starts a server in a process group of its own and hands out its pipes.
    ///
    /// The lease is dropped when nothing of the tree is left; at once, if nothing came to be. Dropping the future
    /// midway leaves nothing running either. Bounded by 40 seconds. Program and working folder are looked at before the
    /// reaper is asked, so that a file system that hangs fails this spawn alone; what hangs later (a script's interpreter, a
    /// library, a scanner of what is executed) still costs the reaper, and all servers with it.
    pub async fn spawn(&self, launch: Launch, lease: Lease) -> Result<Child, SpawnError> {
        let id = self.shared.next_id.fetch_add(1, Ordering::Relaxed);
        let (limits, sandbox) = (launch.limits, launch.sandbox.clone());
        let prepared = Prepared::new(&self.shared, id, launch)?;
        let server = prepared.server.clone();
        self.shared.looks.at(&prepared.line).await?;
        let prepared = confine(prepared, Arc::clone(&self.shared.means), limits, sandbox).await?;
        let child = match &self.shared.way {
            #[cfg(target_os = "linux")]
            Way::Kept(keeper) => keeper.spawn(prepared, lease).await?,
            Way::Direct(direct) => Arc::clone(direct).spawn(prepared, lease)?,
        };
        self.keep(server, child.stderr());
        Ok(child)
    }

    /// The standard error of the server's newest incarnation, also after its death. `None`: it was never started.
    pub fn stderr(&self, server: &ServerId) -> Option<Stderr> {
        self.stderrs().get(server).cloned()
    }

    /// Keeps it. Of servers that are not started any more, ended ones make room.
    fn keep(&self, server: ServerId, stderr: Stderr) {
        let mut stderrs = self.stderrs();
        if stderrs.len() >= KEPT {
            stderrs.retain(|_, kept| !kept.has_ended());
        }
        stderrs.insert(server, stderr);
    }

    fn stderrs(&self) -> MutexGuard<'_, BTreeMap<ServerId, Stderr>> {
        self.shared.stderrs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends what an earlier process of ours had started and not seen the end of, by the ledger. For boot, before spawns.
    ///
    /// Only what is certainly ours is killed. Takes at most some seconds for each that cannot be killed.
    pub async fn sweep(&self) -> SweepReport {
        self.shared.book.sweep().await
    }

    /// The reaper's own process id, while it lives.
    pub fn pid(&self) -> Option<u32> {
        match &self.shared.way {
            #[cfg(target_os = "linux")]
            Way::Kept(keeper) => keeper.pid(),
            Way::Direct(_) => None,
        }
    }

    /// Kills every tree and ends the reaper; spawns from now on are refused. Waits for it, at most until `deadline`.
    pub async fn shutdown(&self, deadline: Instant) {
        match &self.shared.way {
            #[cfg(target_os = "linux")]
            Way::Kept(keeper) => keeper.shutdown(deadline).await,
            Way::Direct(direct) => direct.shutdown(deadline).await,
        }
    }
}

/// A launch with everything resolved.
pub(crate) struct Prepared {
    pub(crate) id: u64,
    pub(crate) server: ServerId,
    /// How the cookies of all trees of this daemon begin.
    #[cfg_attr(not(target_os = "linux"), expect(dead_code, reason = "only a dead reaper's trees are known by it"))]
    pub(crate) instance: String,
    pub(crate) cookie: String,
    pub(crate) args: Vec<OsString>,
    pub(crate) env: Vec<(OsString, OsString)>,
    pub(crate) line: Line,
    /// The working folder, if one was asked for.
    #[cfg_attr(not(target_os = "linux"), expect(dead_code, reason = "only a sandbox opens it"))]
    pub(crate) asked_cwd: Option<PathBuf>,
    pub(crate) redactor: Redactor,
    pub(crate) confines: Confines,
}

impl Prepared {
    fn new(shared: &Shared, id: u64, launch: Launch) -> Result<Self, SpawnError> {
        let Launch { server, incarnation, program, args, env, cwd: asked_cwd, redact, .. } = launch;
        // Ours is not the reaper's. An error means that our folder was removed: then any will do.
        let cwd = asked_cwd.clone().or_else(|| std::env::current_dir().ok());
        let instance = format!("{}.", shared.instance);
        let cookie = format!("{instance}{id}.{server}.{incarnation}");
        let env = environment::of_child(std::env::vars_os(), env, cookie.clone().into());
        let line = Line { program, path: env.get(std::ffi::OsStr::new("PATH")).cloned(), cwd };
        let folder = line.cwd.as_ref().map(|cwd| cwd.as_os_str());
        let texts = env.iter().flat_map(|(name, value)| [name, value]).chain(&args).chain([&line.program]);
        if texts.map(OsString::as_os_str).chain(folder).any(|text| text.as_bytes().contains(&0)) {
            return Err(line.refused("contains a NUL character"));
        }
        if env.keys().any(|name| name.is_empty() || name.as_bytes().contains(&b'=')) {
            return Err(line.refused("names an environment variable that is empty or contains '='"));
        }
        let (env, redactor, confines) = (env.into_iter().collect(), Redactor::new(&redact), Confines::default());
        Ok(Self { id, server, instance, cookie, args, env, line, asked_cwd, redactor, confines })
    }
}

/// Names this reaper among all that ever were on this machine.
fn instance() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let nanos = clock::since_epoch().as_nanos();
    format!("{nanos:x}-{:x}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

#[cfg(target_os = "linux")]
fn way(program: Option<PathBuf>, book: &Book) -> Way {
    let soft_limit = INTERCEPTED.get().copied().flatten();
    if !crate::census::is_ours() {
        tracing::warn!(
            "/proc belongs to another PID namespace: of servers only process groups are ended; mount it anew"
        );
    }
    match (program, INTERCEPTED.get()) {
        (Some(program), _) => Way::Kept(keeper::Keeper::start(program, soft_limit, book.clone())),
        // Not the path of our executable: that may name another file by now.
        (None, Some(_)) => Way::Kept(keeper::Keeper::start("/proc/self/exe".into(), soft_limit, book.clone())),
        (None, None) => {
            Way::Direct(without_reaper("reaper::intercept() was not called and no reaper program is named", book))
        }
    }
}

#[cfg(not(target_os = "linux"))]
fn way(_program: Option<PathBuf>, book: &Book) -> Way {
    Way::Direct(without_reaper("this system has no subreapers", book))
}

fn without_reaper(reason: &'static str, book: &Book) -> Arc<Direct> {
    tracing::warn!(reason, "no reaper: servers get process groups, and outlive this process if it is killed");
    Arc::new(Direct::new(book.clone()))
}
