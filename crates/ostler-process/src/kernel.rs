//! The calls of the kernel that no safe library offers: the only `unsafe` of the workspace.
//!
//! Each function is sound for every caller, or says what it asks of the caller. Used by the reaper process and, for
//! pidfds, by the sweep. Linux only.

use std::io::{self, IoSliceMut};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::errno::Errno;
use nix::libc;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigSet, SigmaskHow, sigprocmask};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use ostler_core::status::Exit;

/// Closes every descriptor above standard error, whoever left it to us.
///
/// Only for the reaper's first moments: nobody in this process may own such a descriptor yet.
pub(crate) fn close_inherited() {
    // SAFETY: the numbers name descriptors, no memory; by the rule above none of them has an owner.
    let closed = unsafe { libc::syscall(libc::SYS_close_range, 3_u32, u32::MAX, 0_u32) };
    if closed == 0 {
        return;
    }
    // Before Linux 5.9. The listing's own descriptor is closed by then, so its number is tried in vain.
    let Ok(entries) = std::fs::read_dir("/proc/self/fd") else { return };
    let numbers: Vec<RawFd> =
        entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).filter(|fd| *fd > 2).collect();
    for fd in numbers {
        // SAFETY: as above.
        unsafe { libc::close(fd) };
    }
}

/// Whatever is given to the number of an error when a process could not enter its control group: far above every real one.
const OUTSIDE: i32 = 100_000;
/// The same, when it could not take the sandbox upon itself.
const UNBOUND: i32 = 200_000;

/// What a child takes upon itself between fork and exec.
#[derive(Debug, Default)]
pub(crate) struct Bounds {
    /// Where `0` is written to enter a control group.
    pub(crate) doors: Vec<OwnedFd>,
    /// Its Landlock ruleset.
    pub(crate) ruleset: Option<OwnedFd>,
    pub(crate) open_files: Option<u64>,
    pub(crate) core: u64,
    /// Set when a group could not be entered: the next try does without.
    pub(crate) is_ungrouped: Arc<AtomicBool>,
}

/// Where a spawn failed before the exec.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    Group(i32),
    Sandbox(i32),
    /// In the fork or in the exec itself.
    Exec(i32),
}

impl Stage {
    /// Sorts the error of a spawn with [`Bounds`].
    pub(crate) fn of(error: &io::Error) -> Self {
        match error.raw_os_error().unwrap_or(libc::EINVAL) {
            number if number >= UNBOUND => Self::Sandbox(number - UNBOUND),
            number if number >= OUTSIDE => Self::Group(number - OUTSIDE),
            number => Self::Exec(number),
        }
    }
}

/// Runs `spawn` with no signal blocked, so that none is in the child. The caller shrugs at signals.
pub(crate) fn unblocked<T>(spawn: impl FnOnce() -> T) -> nix::Result<T> {
    let mut before = SigSet::empty();
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), Some(&mut before))?;
    let spawned = spawn();
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&before), None)?;
    Ok(spawned)
}

/// Puts bounds on the child of `command`, and lets it start with no signal blocked: the reaper blocks all of them.
pub(crate) fn confine(command: &mut Command, bounds: Bounds) {
    // SAFETY: between fork and exec the closure makes async-signal-safe calls alone, and allocates nothing; errors are
    // made of numbers.
    unsafe {
        command.pre_exec(move || bounds.take());
    }
}

impl Bounds {
    /// Whether they are those of every child of the reaper, which has them itself.
    pub(crate) fn are_usual(&self) -> bool {
        self.doors.is_empty() && self.ruleset.is_none() && self.open_files.is_none() && self.core == 0
    }

    /// Async-signal-safe.
    fn take(&self) -> io::Result<()> {
        let failed = |offset: i32, errno: Errno| io::Error::from_raw_os_error(offset + errno as i32);
        if !self.is_ungrouped.load(Ordering::Relaxed) {
            for door in &self.doors {
                nix::unistd::write(door, b"0").map_err(|errno| failed(OUTSIDE, errno))?;
            }
        }
        let lower = |resource, soft: u64| {
            let (_, hard) = getrlimit(resource)?;
            setrlimit(resource, soft.min(hard), hard)
        };
        lower(Resource::RLIMIT_CORE, self.core)?;
        if let Some(open_files) = self.open_files {
            lower(Resource::RLIMIT_NOFILE, open_files)?;
        }
        if let Some(ruleset) = &self.ruleset {
            nix::sys::prctl::set_no_new_privs().map_err(|errno| failed(UNBOUND, errno))?;
            drop_capabilities().map_err(|errno| failed(UNBOUND, errno))?;
            // SAFETY: the call takes two numbers; the descriptor is open.
            let bound = unsafe { libc::syscall(libc::SYS_landlock_restrict_self, ruleset.as_raw_fd(), 0_u32) };
            Errno::result(bound).map_err(|errno| failed(UNBOUND, errno))?;
        }
        sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None).map_err(io::Error::from)
    }
}

/// Lets every signal that asks a process to end, or means nothing to it, pass this process by without being ignored.
///
/// A caught signal is at its default again in what is executed; an ignored or a blocked one would stay so.
pub(crate) fn shrug_at_signals() {
    extern "C" fn shrug(_: libc::c_int) {}
    // What tells of our own mistakes keeps its meaning.
    const FAULTS: &[libc::c_int] =
        &[libc::SIGSEGV, libc::SIGBUS, libc::SIGILL, libc::SIGFPE, libc::SIGABRT, libc::SIGTRAP, libc::SIGSYS];
    for signal in (1..=libc::SIGRTMAX()).filter(|signal| !FAULTS.contains(signal)) {
        // SAFETY: all-zero bytes are a valid sigaction.
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        action.sa_sigaction = shrug as extern "C" fn(libc::c_int) as libc::sighandler_t;
        action.sa_flags = libc::SA_RESTART;
        // SAFETY: the handler does nothing, which is safe at any moment. For SIGKILL and the like it fails, harmlessly.
        unsafe { libc::sigaction(signal, &raw const action, std::ptr::null_mut()) };
    }
}

/// What a sandboxed server of root keeps, by number in `capabilities(7)`: `CHOWN`, `DAC_OVERRIDE`, `FOWNER`, `FSETID`,
/// `KILL`, `SETGID`, `SETUID`, `NET_BIND_SERVICE`. All of it is bounded by the ruleset.
const KEPT_CAPABILITIES: &[libc::c_ulong] = &[0, 1, 3, 4, 5, 6, 7, 10];

/// Gives up what reaches around a ruleset, from the exec on: reading the memory of others (`PERFMON`), raw devices, mounts.
///
/// Needs that no privileges can be gained any more. Async-signal-safe.
fn drop_capabilities() -> Result<(), Errno> {
    // SAFETY: these orders to the kernel take numbers and touch no memory of ours.
    let order = |order, first: libc::c_ulong, second: libc::c_ulong| {
        Errno::result(unsafe { libc::prctl(order, first, second, 0 as libc::c_ulong, 0 as libc::c_ulong) })
    };
    match order(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL as libc::c_ulong, 0) {
        // Before Linux 4.3 there are none.
        Ok(_) | Err(Errno::EINVAL) => {}
        Err(errno) => return Err(errno),
    }
    for capability in (0..64).filter(|capability| !KEPT_CAPABILITIES.contains(capability)) {
        match order(libc::PR_CAPBSET_READ, capability, 0) {
            Ok(0) => continue,
            Ok(_) => {}
            // The kernel knows no more.
            Err(_) => break,
        }
        match order(libc::PR_CAPBSET_DROP, capability, 0) {
            // Nobody but root has any after an exec.
            Err(Errno::EPERM) if !nix::unistd::geteuid().is_root() => break,
            outcome => outcome?,
        };
    }
    Ok(())
}

/// How many descriptors come with one spawn at most: three pipes, the doors of two control groups, a ruleset.
const MOST_DESCRIPTORS: usize = 6;

/// What one read of the control socket brought.
pub(crate) struct Received {
    pub(crate) length: usize,
    /// The descriptors of a spawn, if it began in this read; never those of two.
    pub(crate) descriptors: Option<Vec<OwnedFd>>,
}

/// Reads from `socket` without waiting. Errors: also if this process has no room for the descriptors.
pub(crate) fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<Received> {
    let mut slices = [IoSliceMut::new(buffer)];
    let mut space = nix::cmsg_space!([RawFd; MOST_DESCRIPTORS]);
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_CMSG_CLOEXEC;
    let message = recvmsg::<()>(socket.as_raw_fd(), &mut slices, Some(&mut space), flags)?;
    let mut descriptors = None;
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(numbers) = control {
            // SAFETY: the kernel has just made these descriptors for us; nobody else knows their numbers.
            descriptors = Some(numbers.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }).collect());
        }
    }
    Ok(Received { length: message.bytes, descriptors })
}

/// How the child `pid` ended, if it did. It stays a zombie, so its number cannot be given to another.
///
/// The number of a real-time signal is told too, which nix's own decoding refuses.
pub(crate) fn peek(pid: i32) -> io::Result<Option<Exit>> {
    let Ok(id) = libc::id_t::try_from(pid) else { return Err(io::ErrorKind::InvalidInput.into()) };
    // SAFETY: all-zero bytes are a valid siginfo_t.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    let flags = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    // SAFETY: the kernel writes one siginfo_t to a place of that type.
    if unsafe { libc::waitid(libc::P_PID, id, &raw mut info, flags) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: after a successful waitid these fields are set, or zero if nothing has ended.
    let (ended, status) = unsafe { (info.si_pid() != 0, info.si_status()) };
    let exit = if info.si_code == libc::CLD_EXITED { Exit::Code(status) } else { Exit::Signal(status) };
    Ok(ended.then_some(exit))
}

/// What there was to reap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reaped {
    One,
    /// There are children, and none of them has ended.
    NoneEnded,
    NoChild,
}

/// Reaps the child `pid`, or any with -1, or any of a group with its negative number, without waiting.
pub(crate) fn reap(pid: i32) -> Reaped {
    // SAFETY: a null status pointer is allowed and means that the status is not wanted.
    match unsafe { libc::waitpid(pid, std::ptr::null_mut(), libc::WNOHANG) } {
        0 => Reaped::NoneEnded,
        reaped if reaped > 0 => Reaped::One,
        _ => Reaped::NoChild,
    }
}

/// Sends SIGKILL to the process that `pid` names while `is_still_it` says so, with no room for another in between.
pub(crate) fn kill_exactly(pid: i32, is_still_it: impl FnOnce() -> bool) {
    // SAFETY: the call takes numbers and returns a new descriptor or an error.
    let opened = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0_u32) };
    let Ok(number) = RawFd::try_from(opened) else { return };
    if number < 0 {
        // Before Linux 5.3, or out of descriptors: the moment between look and signal must do.
        if io::Error::last_os_error().raw_os_error() != Some(libc::ESRCH) && is_still_it() {
            let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
        }
        return;
    }
    // SAFETY: the kernel has just made this descriptor for us.
    let handle = unsafe { OwnedFd::from_raw_fd(number) };
    if is_still_it() {
        let no_info = std::ptr::null::<libc::siginfo_t>();
        // SAFETY: a null siginfo is allowed and means the default one; the descriptor is open.
        unsafe { libc::syscall(libc::SYS_pidfd_send_signal, handle.as_raw_fd(), libc::SIGKILL, no_info, 0_u32) };
    }
}
