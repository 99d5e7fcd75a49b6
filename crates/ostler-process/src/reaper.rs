//! The reaper: one small process between us and all children, and our handle on it.
//!
//! It is this program, executed again before any runtime starts (or `ostler-reaper`, named by path). It is a child
//! subreaper, so whatever runs below a server stays below it, and it kills all of that when the server ends or when we do,
//! SIGKILL included. Without it (no [`intercept`], or not Linux) servers get process groups and one warning says so.
//! Inside: `wire` is what is said, `warden` the process, `link` the socket, `keeper` the task that owns both.

#[cfg(target_os = "linux")]
mod keeper;
#[cfg(target_os = "linux")]
mod link;
#[cfg(target_os = "linux")]
mod warden;
#[cfg(target_os = "linux")]
mod wire;

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::child::Child;
use crate::clock;
use crate::direct::Direct;
use crate::environment;
use crate::spawn::{Launch, Line, SpawnError};

/// How the reaper is called, as its first argument.
#[cfg(target_os = "linux")]
const NAME: &str = "ostler-reaper";
/// The variable that carries the number of the control socket. With [`NAME`] it makes a process the reaper.
#[cfg(target_os = "linux")]
const SOCKET: &str = "OSTLER_REAPER_FD";
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

/// Ends the process with 70 (`EX_SOFTWARE`) if the reaper fails; the daemon sees its socket end.
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
    std::process::exit(if serve().is_ok() { 0 } else { 70 });
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
#[derive(Debug, Clone, Default)]
pub struct ReaperOptions {
    /// A program whose `main` calls [`intercept`] first, such as `ostler-reaper`. `None`: this one, if it called it.
    pub program: Option<PathBuf>,
}

/// A handle on the reaper. Cheap to clone. When the last handle and the last child are dropped, it ends.
#[derive(Clone)]
pub struct Reaper {
    shared: Arc<Shared>,
}

struct Shared {
    /// Tells our cookies from those of every other reaper, before and beside ours.
    instance: String,
    next_id: AtomicU64,
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
        let shared = Shared { instance: instance(), next_id: AtomicU64::new(1), way: way(options) };
        Self { shared: Arc::new(shared) }
    }

    /// Starts a server in a process group of its own and hands out its pipes.
    ///
    /// The lease is dropped when nothing of the tree is left; at once, if nothing came to be. Dropping the future
    /// midway leaves nothing running either. Bounded by 30 seconds.
    pub async fn spawn(&self, launch: Launch, lease: ostler_core::port::Lease) -> Result<Child, SpawnError> {
        let id = self.shared.next_id.fetch_add(1, Ordering::Relaxed);
        let prepared = Prepared::new(&self.shared, id, launch)?;
        match &self.shared.way {
            #[cfg(target_os = "linux")]
            Way::Kept(keeper) => keeper.spawn(prepared, lease).await,
            Way::Direct(direct) => Arc::clone(direct).spawn(prepared, lease),
        }
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
    /// How the cookies of all trees of this daemon begin.
    #[cfg_attr(not(target_os = "linux"), expect(dead_code, reason = "only a dead reaper's trees are known by it"))]
    pub(crate) instance: String,
    pub(crate) cookie: OsString,
    pub(crate) args: Vec<OsString>,
    pub(crate) env: Vec<(OsString, OsString)>,
    pub(crate) line: Line,
}

impl Prepared {
    fn new(shared: &Shared, id: u64, launch: Launch) -> Result<Self, SpawnError> {
        let Launch { server, incarnation, program, args, env, cwd } = launch;
        let instance = format!("{}.", shared.instance);
        let cookie = OsString::from(format!("{instance}{id}.{server}.{incarnation}"));
        let env = environment::of_child(std::env::vars_os(), env, cookie.clone());
        let line = Line { program, path: env.get(std::ffi::OsStr::new("PATH")).cloned(), cwd };
        let folder = line.cwd.as_ref().map(|cwd| cwd.as_os_str());
        let texts = env.iter().flat_map(|(name, value)| [name, value]).chain(&args).chain([&line.program]);
        if texts.map(OsString::as_os_str).chain(folder).any(|text| text.as_bytes().contains(&0)) {
            return Err(line.refused("contains a NUL character"));
        }
        if env.keys().any(|name| name.is_empty() || name.as_bytes().contains(&b'=')) {
            return Err(line.refused("names an environment variable that is empty or contains '='"));
        }
        Ok(Self { id, instance, cookie, args, env: env.into_iter().collect(), line })
    }
}

/// Names this reaper among all that ever were on this machine.
fn instance() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let nanos = clock::since_epoch().as_nanos();
    format!("{nanos:x}-{:x}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

#[cfg(target_os = "linux")]
fn way(options: ReaperOptions) -> Way {
    let soft_limit = INTERCEPTED.get().copied().flatten();
    match (options.program, INTERCEPTED.get()) {
        (Some(program), _) => Way::Kept(keeper::Keeper::start(program, soft_limit)),
        // Not the path of our executable: that may name another file by now.
        (None, Some(_)) => Way::Kept(keeper::Keeper::start("/proc/self/exe".into(), soft_limit)),
        (None, None) => {
            Way::Direct(without_reaper("reaper::intercept() was not called and no reaper program is named"))
        }
    }
}

#[cfg(not(target_os = "linux"))]
fn way(_options: ReaperOptions) -> Way {
    Way::Direct(without_reaper("this system has no subreapers"))
}

fn without_reaper(reason: &'static str) -> Arc<Direct> {
    tracing::warn!(reason, "no reaper: servers get process groups, and outlive this process if it is killed");
    Arc::new(Direct::default())
}
