//! How fast a server may notify us: buckets of tokens, and what is done about a server that never keeps to them.
//!
//! What comes too fast is dropped. Who goes on like that is read in slices: after each read that dropped something the
//! reader rests for [`SLICE`], so that the server's own writes begin to block. Answers stand in the same pipe, which is
//! why the reader never stops for longer. Who is not impressed by that is ended.

use std::time::{Duration, Instant};

const BURST: f64 = 1_000.0;
const PER_SECOND: f64 = 200.0;

/// How long the reader rests between two reads of a flood.
pub(crate) const SLICE: Duration = Duration::from_millis(20);

/// How long a flood may last before it is read in slices.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long it may go on then.
const LAST_CHANCE: Duration = Duration::from_secs(30);

/// A flood is over when nothing was dropped for this long: the time in which an empty bucket fills.
const CALM: Duration = Duration::from_secs(5);

/// What is to be done about a flood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pressure {
    /// Nothing.
    Free,
    /// The next read waits for a slice.
    Rest,
    /// The session ends.
    End,
}

/// The notifications of one server.
#[derive(Debug)]
pub(crate) struct Flow {
    all: Bucket,
    /// Progress of live calls has a bucket of its own: a chatty call must not silence the server.
    progress: Bucket,
    flood: Option<Flood>,
}

#[derive(Debug)]
struct Flood {
    began: Instant,
    last: Instant,
    /// Whether something was dropped since the pressure was last looked at.
    is_fresh: bool,
}

impl Flow {
    /// A flow with all its burst left.
    pub(crate) fn new(now: Instant) -> Self {
        Self { all: Bucket::full(now), progress: Bucket::full(now), flood: None }
    }

    /// Counts a notification. False if it came too fast.
    pub(crate) fn take(&mut self, now: Instant) -> bool {
        let is_taken = self.all.take(now);
        self.watch(is_taken, now)
    }

    /// Counts the progress of a call that somebody observes. False if it came too fast.
    pub(crate) fn take_progress(&mut self, now: Instant) -> bool {
        let is_taken = self.progress.take(now);
        self.watch(is_taken, now)
    }

    /// What is to be done after one read.
    pub(crate) fn pressure(&mut self) -> Pressure {
        let Some(flood) = &mut self.flood else { return Pressure::Free };
        if !std::mem::take(&mut flood.is_fresh) {
            return Pressure::Free;
        }
        let lasted = flood.last.saturating_duration_since(flood.began);
        if lasted > PATIENCE + LAST_CHANCE {
            Pressure::End
        } else if lasted > PATIENCE {
            Pressure::Rest
        } else {
            Pressure::Free
        }
    }

    fn watch(&mut self, is_taken: bool, now: Instant) -> bool {
        if !is_taken {
            let began = match &self.flood {
                Some(flood) if now.saturating_duration_since(flood.last) < CALM => flood.began,
                Some(_) | None => now,
            };
            self.flood = Some(Flood { began, last: now, is_fresh: true });
        }
        is_taken
    }
}

/// A bucket that holds a burst and fills at a steady rate.
#[derive(Debug)]
struct Bucket {
    tokens: f64,
    filled_at: Instant,
}

impl Bucket {
    fn full(now: Instant) -> Self {
        Self { tokens: BURST, filled_at: now }
    }

    /// Takes one token, if there is one.
    fn take(&mut self, now: Instant) -> bool {
        let elapsed = now.saturating_duration_since(self.filled_at).as_secs_f64();
        self.filled_at = now;
        self.tokens = (self.tokens + elapsed * PER_SECOND).min(BURST);
        if self.tokens < 1.0 {
            return false;
        }
        self.tokens -= 1.0;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a second with this many notifications leads to.
    fn second(flow: &mut Flow, start: Instant, number: u32, count: u32) -> Pressure {
        let at = start + Duration::from_secs(number.into());
        for nth in 0..count {
            flow.take(at + Duration::from_secs(1) * nth / count);
        }
        flow.pressure()
    }

    #[test]
    fn a_burst_passes_and_then_the_rate_holds() {
        let start = crate::clock::now();
        let mut flow = Flow::new(start);
        let taken = |flow: &mut Flow, at: Instant| (0..5_000).filter(|_| flow.take(at)).count();
        assert_eq!(taken(&mut flow, start), 1_000);
        assert_eq!(taken(&mut flow, start + Duration::from_secs(1)), 200);
        assert!(flow.take_progress(start), "progress is not held up by the rest");
        assert_eq!(taken(&mut flow, start + Duration::from_secs(100)), 1_000);
    }

    #[test]
    fn a_flood_is_slowed_after_ten_seconds_and_ended_thirty_later() {
        let start = crate::clock::now();
        let mut flow = Flow::new(start);
        // The first drop is in second 0, once the burst is through.
        let pressures: Vec<_> = (0..45).map(|number| second(&mut flow, start, number, 5_000)).collect();
        let first = |wanted| pressures.iter().position(|pressure| *pressure == wanted);
        assert_eq!((first(Pressure::Rest), first(Pressure::End)), (Some(10), Some(40)));
        assert!(pressures[41..].iter().all(|pressure| *pressure == Pressure::End));
    }

    #[test]
    fn who_keeps_to_the_rate_is_never_slowed() {
        let start = crate::clock::now();
        let mut flow = Flow::new(start);
        assert!((0..300).all(|number| second(&mut flow, start, number, 200) == Pressure::Free));
    }

    #[test]
    fn storms_with_calm_between_them_are_no_flood() {
        let start = crate::clock::now();
        let mut flow = Flow::new(start);
        for number in 0..300 {
            let count = if number % 15 < 9 { 1_000 } else { 0 };
            assert_eq!(second(&mut flow, start, number, count), Pressure::Free, "second {number}");
        }
    }

    #[test]
    fn a_flood_rests_only_after_a_read_that_dropped_something() {
        let start = crate::clock::now();
        let mut flow = Flow::new(start);
        for number in 0..12 {
            second(&mut flow, start, number, 5_000);
        }
        assert_eq!(flow.pressure(), Pressure::Free);
        assert!(flow.take(start + Duration::from_millis(12_100)), "there are tokens again");
        assert_eq!(flow.pressure(), Pressure::Free);
        assert_eq!(second(&mut flow, start, 13, 5_000), Pressure::Rest);
    }
}
