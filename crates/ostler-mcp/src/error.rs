//! Turns what is known of an incarnation's end into a fault that tells a person what happened and what to do.

use std::time::Duration;

use ostler_core::CallError;
use ostler_core::status::{DeathReason, Exit, Fault, FaultClass};

use ostler_telemetry::log::line;

use crate::session::Ended;
use crate::transport::Beyond;

/// How long a message can be that holds words of a server, in bytes.
pub(crate) const MESSAGE: usize = 500;

/// How long a quotation of a server can be within a longer text, in bytes.
pub(crate) const QUOTE: usize = 200;

/// How far an incarnation had come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Spawned, not yet ready.
    Starting,
    /// Serving.
    Serving,
    /// We asked it to stop.
    Stopping,
}

/// What an incarnation said that was no message.
#[derive(Debug, Clone, Default)]
pub(crate) struct Words {
    /// The last lines of its standard error.
    pub(crate) stderr_tail: String,
    /// The first lines on its standard output that were no messages.
    pub(crate) noise: Vec<String>,
    /// What ended it that its exit does not tell.
    pub(crate) beyond: Option<Beyond>,
}

/// The fault of a death. At least one of `exit` and `ended` is known.
pub(crate) fn death(phase: Phase, exit: Option<Exit>, ended: Option<&Ended>, words: Words) -> Fault {
    let when = match phase {
        Phase::Starting => " before it was ready",
        Phase::Serving => "",
        Phase::Stopping => " after it was asked to stop",
    };
    let what = match (exit, ended) {
        (Some(exit), _) => format!("it ended with {exit}{when}"),
        (None, Some(Ended::Output)) => format!("it closed its standard output{when}"),
        (None, Some(Ended::Input)) => format!("it closed its standard input{when}"),
        (None, Some(Ended::Stalled(limit))) => {
            format!("it read nothing from its standard input for {} s", limit.as_secs_f64())
        }
        (None, Some(Ended::Broken(why))) => format!("its pipes failed: {why}"),
        (None, Some(Ended::RunAway)) => "it wrote a line without end".to_owned(),
        (None, Some(Ended::Flood)) => "it floods notifications".to_owned(),
        (None, None) => "it ended".to_owned(),
    };
    if let Some(beyond) = words.beyond.filter(|_| phase != Phase::Stopping) {
        return Fault { exit, stderr_tail: words.stderr_tail, ..beyond_fault(beyond) };
    }
    let (class, reason) = classify(phase, exit, ended);
    let hint = match phase {
        Phase::Starting => Some(hint(&words)),
        Phase::Serving | Phase::Stopping => None,
    };
    Fault { reason, class, message: what, hint, exit, stderr_tail: words.stderr_tail }
}

fn beyond_fault(beyond: Beyond) -> Fault {
    match beyond {
        Beyond::OutOfMemory => Fault::new(FaultClass::Oom, "it used more memory than it is allowed")
            .with_hint("raise its `memory`, or find out what it keeps"),
        Beyond::ReaperLost => Fault::new(FaultClass::HostResource, "the reaper, which keeps all servers, was lost")
            .with_hint("all servers are started again; if nobody killed it, please report this with the log"),
    }
}

fn classify(phase: Phase, exit: Option<Exit>, ended: Option<&Ended>) -> (FaultClass, DeathReason) {
    let running = match phase {
        Phase::Stopping => return (FaultClass::KilledByUs, DeathReason::Operator),
        Phase::Starting => FaultClass::CrashOnStart,
        Phase::Serving => FaultClass::CrashRunning,
    };
    match (exit, ended) {
        (Some(Exit::Code(0)), _) if phase == Phase::Serving => (FaultClass::CleanExit, DeathReason::Exit),
        (Some(Exit::Code(_)), _) => (running, DeathReason::Exit),
        (Some(Exit::Signal(_)), _) => (running, DeathReason::Signal),
        (None, Some(Ended::Stalled(_))) => (FaultClass::Hang, DeathReason::Hang),
        (None, Some(Ended::RunAway | Ended::Flood)) => (FaultClass::Protocol, DeathReason::Protocol),
        (None, Some(Ended::Output | Ended::Input | Ended::Broken(_)) | None) => (running, DeathReason::Eof),
    }
}

/// The fault of a start that took too long.
pub(crate) fn too_slow(waited_for: &str, after: Duration, words: Words) -> Fault {
    let message = format!("{waited_for} got no answer within {:.1} s", after.as_secs_f64());
    let mut fault = Fault::new(FaultClass::SlowStart, message).with_hint(hint(&words));
    fault.stderr_tail = words.stderr_tail;
    fault
}

/// The fault of a start that failed in the protocol. The server's own words in it are cleaned and cut.
pub(crate) fn broken_start(class: FaultClass, what: &str, error: &CallError, words: Words) -> Fault {
    let mut fault = Fault::new(class, line(&format!("{what} failed: {error}"), MESSAGE));
    fault.stderr_tail = words.stderr_tail;
    fault
}

/// What a person can look at when a server does not come up.
fn hint(words: &Words) -> String {
    let mut hint = match words.noise.first() {
        Some(noise) => format!(
            "it writes to standard output what is no MCP message, first: {noise:?}; nothing but messages may go there"
        ),
        None => "it wrote nothing to standard output; check that the command speaks MCP there \
                 (some servers need an argument such as 'stdio')"
            .to_owned(),
    };
    match words.stderr_tail.lines().rev().find(|line| !line.trim().is_empty()) {
        Some(last) => {
            hint.push_str("; the last line on standard error: ");
            hint.push_str(&line(last, QUOTE));
        }
        None => hint.push_str("; standard error is empty, too"),
    }
    hint
}

#[cfg(test)]
mod tests {
    use {DeathReason as Reason, FaultClass as Class};

    use super::*;

    #[test]
    fn what_the_exit_does_not_tell_decides_the_class() {
        let check = |phase, beyond, class| {
            let words = Words { beyond: Some(beyond), ..Words::default() };
            let fault = death(phase, Some(Exit::Signal(9)), None, words);
            assert_eq!((fault.class, fault.exit), (class, Some(Exit::Signal(9))));
        };
        check(Phase::Serving, Beyond::OutOfMemory, FaultClass::Oom);
        check(Phase::Starting, Beyond::OutOfMemory, FaultClass::Oom);
        check(Phase::Serving, Beyond::ReaperLost, FaultClass::HostResource);
        check(Phase::Stopping, Beyond::ReaperLost, FaultClass::KilledByUs);
    }

    #[test]
    fn each_death_has_its_class_and_its_label() {
        let check = |phase, exit, ended: Option<Ended>, class, reason| {
            let fault = death(phase, exit, ended.as_ref(), Words::default());
            assert_eq!((fault.class, fault.reason, fault.exit), (class, reason, exit), "{phase:?} {exit:?} {ended:?}");
        };
        let code = |code| Some(Exit::Code(code));
        let stalled = Some(Ended::Stalled(Duration::from_secs(1)));
        check(Phase::Starting, code(0), Some(Ended::Output), Class::CrashOnStart, Reason::Exit);
        check(Phase::Starting, None, Some(Ended::Output), Class::CrashOnStart, Reason::Eof);
        check(Phase::Serving, code(0), Some(Ended::Output), Class::CleanExit, Reason::Exit);
        check(Phase::Serving, code(3), None, Class::CrashRunning, Reason::Exit);
        check(Phase::Serving, Some(Exit::Signal(15)), None, Class::CrashRunning, Reason::Signal);
        check(Phase::Serving, None, Some(Ended::Output), Class::CrashRunning, Reason::Eof);
        check(Phase::Serving, None, Some(Ended::Input), Class::CrashRunning, Reason::Eof);
        check(Phase::Serving, None, stalled, Class::Hang, Reason::Hang);
        check(Phase::Serving, None, Some(Ended::RunAway), Class::Protocol, Reason::Protocol);
        check(Phase::Serving, None, Some(Ended::Flood), Class::Protocol, Reason::Protocol);
        check(Phase::Stopping, code(0), None, Class::KilledByUs, Reason::Operator);
    }

    #[test]
    fn a_failed_start_says_where_to_look() {
        let words = |stderr: &str, noise: &[&str]| Words {
            stderr_tail: stderr.to_owned(),
            noise: noise.iter().map(|line| (*line).to_owned()).collect(),
            beyond: None,
        };
        let check = |words: Words, parts: &[&str]| {
            let hint = too_slow("initialize", Duration::from_secs(30), words).hint.expect("a hint");
            for part in parts {
                assert!(hint.contains(part), "{hint}");
            }
        };
        check(words("", &[]), &["wrote nothing", "standard error is empty"]);
        check(words("a\nno module named x\n\n", &["hello"]), &["\"hello\"", "error: no module named x"]);
    }
}
