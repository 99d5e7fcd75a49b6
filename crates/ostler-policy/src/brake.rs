//! Whether what fails is this host and not its servers: when most of them fail at the same time.
//!
//! Pure: the shell tells every death that nobody ordered, and asks for the verdict after each. It brakes the gate with
//! [`crate::gate::Gate::brake_until`] and says one notice. Servers that go on failing are braked once a window and no
//! more, so that a lasting failure of many does not keep a healthy one from coming back.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use ostler_core::ServerId;

/// Within this time, failures are of one cause.
pub const WINDOW: Duration = Duration::from_mins(1);

/// How long restarts wait then.
pub const PAUSE: Duration = Duration::from_secs(10);

/// Of fewer servers, nothing is concluded.
pub const LEAST_SERVERS: usize = 4;

/// When each server failed last, as far as that matters.
#[derive(Debug, Clone, Default)]
pub struct Brake {
    failed: BTreeMap<ServerId, Instant>,
    problem: Option<Problem>,
}

#[derive(Debug, Clone, Copy)]
struct Problem {
    braked_at: Instant,
}

/// What the failures of late mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Each server fails for itself, or has had its pause.
    Free,
    /// More than half of them failed within a minute.
    HostProblem {
        /// Until when the gate is to be braked.
        until: Instant,
        /// Whether this is to be told: true once, when it begins.
        is_news: bool,
    },
}

impl Brake {
    /// A server died, or did not come up, and nobody had ordered it.
    pub fn failed(&mut self, server: ServerId, now: Instant) {
        self.failed.insert(server, now);
    }

    /// A server is gone: its failures mean nothing any more.
    pub fn forget(&mut self, server: &ServerId) {
        self.failed.remove(server);
    }

    /// Judges the failures of the last [`WINDOW`] among so many `servers` that are meant to run.
    pub fn verdict(&mut self, now: Instant, servers: usize) -> Verdict {
        self.failed.retain(|_, at| now.saturating_duration_since(*at) <= WINDOW);
        if servers < LEAST_SERVERS || self.failed.len() * 2 <= servers {
            self.problem = None;
            return Verdict::Free;
        }
        let is_news = self.problem.is_none();
        let problem = self.problem.get_or_insert(Problem { braked_at: now });
        if now.saturating_duration_since(problem.braked_at) > WINDOW {
            problem.braked_at = now;
        }
        let until = problem.braked_at + PAUSE;
        if now < until { Verdict::HostProblem { until, is_news } } else { Verdict::Free }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::disallowed_methods, reason = "an instant can only be made from the clock; which one is the same")]
    fn moment() -> Instant {
        Instant::now()
    }

    const fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// Servers `from..to` fail, a second apart. Returns the verdicts after each, and the moment after the last.
    fn fail(brake: &mut Brake, from: usize, to: usize, servers: usize, mut now: Instant) -> (Vec<Verdict>, Instant) {
        let mut verdicts = Vec::new();
        for number in from..to {
            brake.failed(ServerId::new(&format!("s{number}")).unwrap(), now);
            verdicts.push(brake.verdict(now, servers));
            now += secs(1);
        }
        (verdicts, now)
    }

    #[test]
    fn more_than_half_failing_within_a_minute_is_the_hosts_problem_and_is_told_once() {
        let (mut brake, begin) = (Brake::default(), moment());
        let (verdicts, _) = fail(&mut brake, 0, 7, 10, begin);
        let until = begin + secs(5) + PAUSE;
        assert_eq!(verdicts[..5], [Verdict::Free; 5], "half of them is not more than half");
        assert_eq!(verdicts[5], Verdict::HostProblem { until, is_news: true });
        assert_eq!(verdicts[6], Verdict::HostProblem { until, is_news: false }, "not one second longer");
        assert_eq!(brake.verdict(until, 10), Verdict::Free, "the pause is over");
    }

    #[test]
    fn one_server_that_fails_again_and_again_is_one() {
        let (mut brake, mut now) = (Brake::default(), moment());
        for _ in 0..20 {
            assert_eq!(fail(&mut brake, 0, 1, 4, now).0, [Verdict::Free]);
            now += secs(1);
        }
    }

    #[test]
    fn failures_that_are_a_minute_apart_have_nothing_to_do_with_each_other() {
        let (mut brake, begin) = (Brake::default(), moment());
        fail(&mut brake, 0, 2, 4, begin);
        assert_eq!(fail(&mut brake, 2, 3, 4, begin + WINDOW + secs(1)).0, [Verdict::Free]);
        let mut near = Brake::default();
        fail(&mut near, 0, 2, 4, begin);
        assert_ne!(fail(&mut near, 2, 3, 4, begin + WINDOW).0, [Verdict::Free]);
    }

    #[test]
    fn of_a_few_servers_nothing_is_concluded() {
        let (verdicts, _) = fail(&mut Brake::default(), 0, 3, 3, moment());
        assert_eq!(verdicts, [Verdict::Free; 3]);
    }

    #[test]
    fn a_lasting_problem_is_braked_once_a_window_and_told_anew_only_after_it_was_over() {
        let (mut brake, mut now) = (Brake::default(), moment());
        let begin = now;
        let mut braked = Vec::new();
        let mut news = 0;
        // All four fail every four seconds, for five minutes.
        while now < begin + secs(300) {
            let (verdicts, later) = fail(&mut brake, 0, 4, 4, now);
            for verdict in verdicts {
                if let Verdict::HostProblem { until, is_news } = verdict {
                    braked.push(until);
                    news += usize::from(is_news);
                }
            }
            now = later;
        }
        braked.dedup();
        assert_eq!((braked.len(), news), (5, 1));
        assert!(braked.windows(2).all(|pair| pair[1] - pair[0] > WINDOW));
        now += WINDOW + secs(1);
        assert_eq!(brake.verdict(now, 4), Verdict::Free);
        let (verdicts, _) = fail(&mut brake, 0, 3, 4, now);
        assert!(matches!(verdicts[2], Verdict::HostProblem { is_news: true, .. }), "{verdicts:?}");
    }

    #[test]
    fn a_server_that_is_gone_counts_no_more() {
        let (mut brake, now) = (Brake::default(), moment());
        fail(&mut brake, 0, 2, 4, now);
        brake.forget(&ServerId::new("s0").unwrap());
        assert_eq!(fail(&mut brake, 2, 3, 4, now).0, [Verdict::Free]);
    }
}
