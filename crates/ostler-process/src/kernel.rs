//! The calls of the kernel that no safe library offers: the only `unsafe` of the workspace.
//!
//! Each function is sound for every caller, or says what it asks of the caller. Used by the reaper process and, for
//! pidfds, by the sweep. Linux only.

use std::io::{self, IoSliceMut};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::libc;
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

/// Lets the child of `command` start with no signal blocked: the reaper blocks all of them, and a mask is inherited.
pub(crate) fn unblock_signals(command: &mut Command) {
    // SAFETY: between fork and exec the closure makes one async-signal-safe call, and allocates nothing.
    unsafe {
        command
            .pre_exec(|| sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None).map_err(io::Error::from));
    }
}

/// What one read of the control socket brought.
pub(crate) struct Received {
    pub(crate) length: usize,
    /// The descriptors of a spawn, if it began in this read; never those of two.
    pub(crate) descriptors: Option<Vec<OwnedFd>>,
}

/// Reads from `socket` without waiting. Errors: also if this process has no room for the descriptors.
pub(crate) fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<Received> {
    let mut slices = [IoSliceMut::new(buffer)];
    let mut space = nix::cmsg_space!([RawFd; 3]);
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

/// Reaps the child `pid`, or any with -1, without waiting.
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
