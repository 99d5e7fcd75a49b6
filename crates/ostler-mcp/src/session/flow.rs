//! How fast a server may notify us: a bucket of tokens. What comes faster is dropped, never waited for.

use std::time::Instant;

const BURST: f64 = 1_000.0;
const PER_SECOND: f64 = 200.0;

/// A bucket that holds a burst and fills at a steady rate.
#[derive(Debug)]
pub(crate) struct Bucket {
    tokens: f64,
    filled_at: Instant,
}

impl Bucket {
    /// A full bucket.
    pub(crate) fn full(now: Instant) -> Self {
        Self { tokens: BURST, filled_at: now }
    }

    /// Takes one token, if there is one.
    pub(crate) fn take(&mut self, now: Instant) -> bool {
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
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_burst_passes_and_then_the_rate_holds() {
        let start = crate::clock::now();
        let mut bucket = Bucket::full(start);
        let taken = |bucket: &mut Bucket, at: Instant| (0..5_000).filter(|_| bucket.take(at)).count();
        assert_eq!(taken(&mut bucket, start), 1_000);
        assert_eq!(taken(&mut bucket, start + Duration::from_secs(1)), 200);
        assert_eq!(taken(&mut bucket, start + Duration::from_secs(100)), 1_000);
    }
}
