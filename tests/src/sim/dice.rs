//! Where chance comes from: the seed, split into streams by name and number.
//!
//! One stream for all would make every choice hang on the order in which equals are woken, and tokio's `watch` wakes
//! its waiters in an order of its own. A stream a thing makes the choices of that thing independent of all others.

use std::ops::RangeInclusive;
use std::time::Duration;

/// One stream of choices.
pub(super) struct Dice(fastrand::Rng);

impl Dice {
    /// The stream of `what` number `number` under `seed`.
    pub(super) fn of(seed: u64, what: &str, number: u64) -> Self {
        let mut state = fastrand::Rng::with_seed(seed).u64(..);
        for byte in what.bytes() {
            state = fastrand::Rng::with_seed(state ^ u64::from(byte)).u64(..);
        }
        Self(fastrand::Rng::with_seed(state ^ fastrand::Rng::with_seed(number).u64(..)))
    }

    /// Whether something comes to pass that does so `percent` times in a hundred.
    pub(super) fn chance(&mut self, percent: u32) -> bool {
        self.0.u32(0..100) < percent
    }

    pub(super) fn below(&mut self, end: usize) -> usize {
        self.0.usize(0..end.max(1))
    }

    pub(super) fn millis(&mut self, range: RangeInclusive<u64>) -> Duration {
        Duration::from_millis(self.0.u64(range))
    }

    /// A time of which `mean` is the mean, as between events that know nothing of each other. In whole milliseconds.
    pub(super) fn about(&mut self, mean: Duration) -> Duration {
        let seconds = -mean.as_secs_f64() * (1.0 - self.0.f64()).max(1e-9).ln();
        Duration::from_millis(Duration::from_secs_f64(seconds).as_millis().try_into().unwrap_or(u64::MAX))
    }

    pub(super) fn pick<'a, T>(&mut self, of: &'a [T]) -> Option<&'a T> {
        (!of.is_empty()).then(|| &of[self.0.usize(0..of.len())])
    }
}
