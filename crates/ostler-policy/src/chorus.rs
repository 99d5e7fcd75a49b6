//! Which notices are said one by one and which together: when many servers have something to say at once, it is one thing.
//!
//! Pure: the shell asks about each notice before it says it, and asks again when [`Chorus::wake_at`] is due.

use std::collections::{BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use ostler_core::ServerId;

/// So many notices within [`PERIOD`] are a chorus.
pub const VOICES: usize = 5;

/// See [`VOICES`]. It is also the shortest time between two notices of the fleet.
pub const PERIOD: Duration = Duration::from_secs(10);

/// The notices of late.
#[derive(Debug, Clone, Default)]
pub struct Chorus {
    /// Those said alone, oldest first; fewer than [`VOICES`].
    alone: VecDeque<(Instant, ServerId)>,
    /// Set while it sings: when the fleet last spoke.
    spoke_at: Option<Instant>,
    /// Who has spoken since, each once.
    unsaid: BTreeSet<ServerId>,
}

/// What is to be done about a notice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Voice {
    /// It is said.
    Alone,
    /// One notice of the fleet is said in its place: these servers have spoken within [`PERIOD`], this one among them.
    Together(Vec<ServerId>),
    /// It is part of the fleet's next notice.
    Unsaid,
}

impl Chorus {
    /// A server has something to say.
    pub fn hear(&mut self, server: ServerId, now: Instant) -> Voice {
        self.alone.retain(|(at, _)| now.saturating_duration_since(*at) < PERIOD);
        if self.spoke_at.is_some() {
            self.unsaid.insert(server);
            return self.due(now).map_or(Voice::Unsaid, Voice::Together);
        }
        self.alone.push_back((now, server));
        if self.alone.len() < VOICES {
            return Voice::Alone;
        }
        self.spoke_at = Some(now);
        let together: BTreeSet<ServerId> = self.alone.drain(..).map(|(_, server)| server).collect();
        Voice::Together(together.into_iter().collect())
    }

    /// The servers of which the fleet is to say a notice now, if it is time and somebody has spoken. Without anybody, the
    /// chorus is over.
    pub fn due(&mut self, now: Instant) -> Option<Vec<ServerId>> {
        if self.wake_at().is_none_or(|due| now < due) {
            return None;
        }
        let servers: Vec<ServerId> = std::mem::take(&mut self.unsaid).into_iter().collect();
        self.spoke_at = (!servers.is_empty()).then_some(now);
        (!servers.is_empty()).then_some(servers)
    }

    /// When to ask [`Chorus::due`].
    pub fn wake_at(&self) -> Option<Instant> {
        self.spoke_at.map(|at| at + PERIOD)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::disallowed_methods, reason = "an instant can only be made from the clock; which one is the same")]
    fn moment() -> Instant {
        Instant::now()
    }

    fn server(number: usize) -> ServerId {
        ServerId::new(&format!("s{number}")).unwrap()
    }

    fn servers(numbers: std::ops::Range<usize>) -> Vec<ServerId> {
        numbers.map(server).collect()
    }

    #[test]
    fn four_notices_are_said_and_the_fifth_is_the_fleets() {
        let (mut chorus, now) = (Chorus::default(), moment());
        for number in 0..4 {
            assert_eq!(chorus.hear(server(number), now), Voice::Alone);
        }
        assert_eq!(chorus.hear(server(4), now), Voice::Together(servers(0..5)));
        assert_eq!(chorus.wake_at(), Some(now + PERIOD));
    }

    #[test]
    fn a_storm_is_one_notice_in_ten_seconds_and_nobody_is_left_out() {
        let (mut chorus, begin) = (Chorus::default(), moment());
        let mut said: Vec<(u64, Vec<ServerId>)> = Vec::new();
        for number in 0..60 {
            let second = u64::try_from(number).unwrap() / 2;
            let voice = chorus.hear(server(number), begin + Duration::from_secs(second));
            if let Voice::Together(servers) = voice {
                said.push((second, servers));
            }
        }
        let end = chorus.wake_at().unwrap();
        said.push(((end - begin).as_secs(), chorus.due(end).unwrap()));
        let moments: Vec<u64> = said.iter().map(|(second, _)| *second).collect();
        assert_eq!(moments, [2, 12, 22, 32]);
        let mut all: Vec<ServerId> = said.into_iter().flat_map(|(_, servers)| servers).collect();
        all.sort();
        let mut expected = servers(0..60);
        expected.sort();
        assert_eq!(all, expected);
    }

    #[test]
    fn when_nobody_has_spoken_for_a_period_the_chorus_is_over() {
        let (mut chorus, now) = (Chorus::default(), moment());
        for number in 0..5 {
            let _ = chorus.hear(server(number), now);
        }
        assert_eq!(chorus.due(now + PERIOD / 2), None);
        assert_eq!((chorus.due(now + PERIOD), chorus.wake_at()), (None, None));
        assert_eq!(chorus.hear(server(9), now + PERIOD), Voice::Alone);
    }

    #[test]
    fn notices_that_are_spread_out_are_said_one_by_one() {
        let (mut chorus, now) = (Chorus::default(), moment());
        for number in 0..20 {
            let at = now + PERIOD / 4 * u32::try_from(number).unwrap();
            assert_eq!(chorus.hear(server(number), at), Voice::Alone);
        }
    }
}
