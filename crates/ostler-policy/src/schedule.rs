//! How long to wait after the n-th failure in a row.
//!
//! The table is computed once, at construction, by the crate `backoff` without its randomness and with a clock that
//! stands still. From then on it is only indexed. Jitter is an argument and stays inside the table's value.

use std::fmt;
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use backoff::backoff::Backoff;
use backoff::exponential::{ExponentialBackoff, ExponentialBackoffBuilder};
use backoff::{Clock, SystemClock};

/// The shortest base.
pub const MIN_BASE: Duration = Duration::from_millis(1);

/// The longest cap.
pub const MAX_CAP: Duration = Duration::from_hours(24);

/// The largest factor.
pub const MAX_FACTOR: f64 = 10.0;

/// The longest table. A schedule that has not reached its cap after so many failures grows no further.
const MAX_STEPS: usize = 256;

/// Delays by failures in a row: exponential up to a cap, with equal jitter below each value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    /// The longest delay for each number of failures, from 1. The last entry holds for all that follow. Never empty.
    table: Vec<Duration>,
    cap: Duration,
}

/// Why numbers make no schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScheduleError {
    /// The base is below [`MIN_BASE`].
    BaseTooShort,
    /// The factor is not a number from 1 to [`MAX_FACTOR`].
    FactorOutOfRange,
    /// The cap is below the base.
    CapBelowBase,
    /// The cap is above [`MAX_CAP`].
    CapTooLong,
}

impl fmt::Display for ScheduleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::BaseTooShort => "the first delay must be at least 1 ms",
            Self::FactorOutOfRange => "the factor must be a number from 1 to 10",
            Self::CapBelowBase => "the longest delay must not be shorter than the first",
            Self::CapTooLong => "the longest delay must be at most 24 h",
        })
    }
}

impl std::error::Error for ScheduleError {}

/// A clock that stands still: the table must not depend on when it is made.
struct Still(Instant);

impl Clock for Still {
    fn now(&self) -> Instant {
        self.0
    }
}

impl Schedule {
    /// Builds the table: `base`, then each value `factor` times the one before, never above `cap`.
    ///
    /// Bounds: `base` from [`MIN_BASE`] to `cap`, `cap` up to [`MAX_CAP`], `factor` from 1 to [`MAX_FACTOR`]. Errors: the
    /// first bound that is broken.
    pub fn new(base: Duration, factor: f64, cap: Duration) -> Result<Self, ScheduleError> {
        if base < MIN_BASE {
            return Err(ScheduleError::BaseTooShort);
        }
        if !(1.0..=MAX_FACTOR).contains(&factor) {
            return Err(ScheduleError::FactorOutOfRange);
        }
        if cap < base {
            return Err(ScheduleError::CapBelowBase);
        }
        if cap > MAX_CAP {
            return Err(ScheduleError::CapTooLong);
        }
        Ok(Self { table: table(base, factor, cap), cap })
    }

    /// The delay after `failures` failures in a row: from half of the table's value (jitter 0.0) to all of it (1.0).
    ///
    /// Never above [`Schedule::cap`]. A jitter outside 0.0 to 1.0 counts as the nearer end, one that is no number as 0.0.
    pub fn delay(&self, failures: NonZeroU32, jitter: f64) -> Duration {
        let longest = self.longest(failures);
        longest.mul_f64(0.5 + 0.5 * unit(jitter)).clamp(longest / 2, longest)
    }

    /// The longest delay that [`Schedule::delay`] can give for `failures` failures in a row.
    pub fn longest(&self, failures: NonZeroU32) -> Duration {
        let index = usize::try_from(failures.get() - 1).unwrap_or(usize::MAX);
        self.table[index.min(self.table.len() - 1)]
    }

    /// What no delay exceeds.
    pub fn cap(&self) -> Duration {
        self.cap
    }
}

impl Default for Schedule {
    /// 1 s, doubling, at most 30 s.
    fn default() -> Self {
        Self::new(Duration::from_secs(1), 2.0, Duration::from_secs(30)).expect("these numbers are within the bounds")
    }
}

/// Forces `jitter` into 0.0 to 1.0.
pub(crate) fn unit(jitter: f64) -> f64 {
    if jitter.is_nan() { 0.0 } else { jitter.clamp(0.0, 1.0) }
}

fn table(base: Duration, factor: f64, cap: Duration) -> Vec<Duration> {
    // The builder wants a system clock; the one moment that it reads becomes the moment at which ours stands still.
    let start_time = ExponentialBackoffBuilder::<SystemClock>::new().build().start_time;
    let mut backoff = ExponentialBackoff {
        current_interval: base,
        initial_interval: base,
        randomization_factor: 0.0,
        multiplier: factor,
        max_interval: cap,
        start_time,
        max_elapsed_time: None,
        clock: Still(start_time),
    };
    let mut table = Vec::new();
    while table.len() < MAX_STEPS {
        // The exact value of this step: what `next_backoff` returns may be a nanosecond above it, by its rounding.
        let delay = backoff.current_interval.min(cap);
        if table.last() == Some(&delay) {
            break;
        }
        table.push(delay);
        if backoff.next_backoff().is_none() {
            break;
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn nth(n: u32) -> NonZeroU32 {
        NonZeroU32::new(n).unwrap()
    }

    fn longest(schedule: &Schedule, count: u32) -> Vec<u128> {
        (1..=count).map(|n| schedule.longest(nth(n)).as_millis()).collect()
    }

    #[test]
    fn the_default_doubles_from_one_second_up_to_thirty() {
        let schedule = Schedule::default();
        assert_eq!(longest(&schedule, 8), [1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000, 30_000]);
        assert_eq!(schedule.longest(nth(u32::MAX)), Duration::from_secs(30));
    }

    #[test]
    fn the_numbers_decide_the_table() {
        let check = |base: u64, factor: f64, cap: u64, expected: &[u128]| {
            let schedule = Schedule::new(Duration::from_millis(base), factor, Duration::from_millis(cap)).unwrap();
            assert_eq!(longest(&schedule, u32::try_from(expected.len()).unwrap()), expected);
        };
        check(100, 1.0, 900, &[100, 100, 100]);
        check(100, 1.5, 1_000, &[100, 150, 225, 337, 506, 759, 1_000, 1_000]);
        check(100, 10.0, 900, &[100, 900, 900]);
        check(500, 2.0, 500, &[500, 500]);
    }

    #[test]
    fn numbers_outside_the_bounds_are_refused() {
        let check = |base: Duration, factor: f64, cap: Duration, expected: ScheduleError| {
            assert_eq!(Schedule::new(base, factor, cap), Err(expected));
        };
        let second = Duration::from_secs(1);
        check(Duration::ZERO, 2.0, second, ScheduleError::BaseTooShort);
        check(second, 0.99, second, ScheduleError::FactorOutOfRange);
        check(second, f64::NAN, second, ScheduleError::FactorOutOfRange);
        check(second, f64::INFINITY, second, ScheduleError::FactorOutOfRange);
        check(second, 2.0, second / 2, ScheduleError::CapBelowBase);
        check(second, 2.0, MAX_CAP + second, ScheduleError::CapTooLong);
    }

    #[test]
    fn jitter_spreads_from_half_to_all_of_the_delay() {
        let schedule = Schedule::default();
        let check = |jitter: f64, expected: u64| {
            assert_eq!(schedule.delay(nth(3), jitter), Duration::from_millis(expected), "jitter {jitter}");
        };
        check(0.0, 2_000);
        check(0.5, 3_000);
        check(1.0, 4_000);
        check(-3.0, 2_000);
        check(7.0, 4_000);
        check(f64::NAN, 2_000);
    }

    proptest! {
        #[test]
        fn a_delay_is_within_half_and_all_of_a_growing_table_below_the_cap(
            base in 1_u64..100_000,
            factor in 1.0_f64..=10.0,
            room in 0_u64..10_000_000,
            failures in prop_oneof![1_u32..40, Just(u32::MAX)],
            jitter in -0.1_f64..1.1,
        ) {
            let (base, cap) = (Duration::from_millis(base), Duration::from_millis(base + room));
            let schedule = Schedule::new(base, factor, cap).unwrap();
            let longest = schedule.longest(nth(failures));
            let delay = schedule.delay(nth(failures), jitter);
            prop_assert!(delay >= longest / 2 && delay <= longest && longest <= cap);
            prop_assert!(schedule.longest(nth(1)) == base);
            prop_assert!(schedule.longest(nth(failures.saturating_add(1))) >= longest);
            prop_assert_eq!(&Schedule::new(base, factor, cap).unwrap(), &schedule, "the table is the same each time");
        }
    }
}
