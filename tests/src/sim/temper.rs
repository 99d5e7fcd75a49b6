//! How a scripted server is inclined: how it starts, how long it lives, how it dies, how it answers.

use std::time::Duration;

use ostler_core::status::{Fault, FaultClass};

use super::dice::Dice;

/// A server's inclination. It may change from one life to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Temper {
    /// It works, for long.
    Steady,
    /// It works, for a while.
    Flaky,
    /// It hardly ever comes up.
    Looping,
    /// Its launch line cannot work.
    Missing,
    /// It refuses us.
    Refusing,
    /// It takes its time for everything, sometimes too much.
    Sluggish,
    /// The host is short of something when it starts.
    Short,
}

/// How a start goes.
pub(super) struct Start {
    pub(super) after: Duration,
    pub(super) end: StartEnd,
}

pub(super) enum StartEnd {
    Up,
    Fails(Fault),
    /// It never ends by itself.
    Hangs,
    /// It ends by its own deadline.
    TimesOut,
}

/// How a request goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    Result,
    Error,
    Never,
    /// The request is never written.
    NotSent,
}

const TEMPERS: &[Temper] = &[
    Temper::Steady,
    Temper::Steady,
    Temper::Steady,
    Temper::Flaky,
    Temper::Flaky,
    Temper::Looping,
    Temper::Missing,
    Temper::Refusing,
    Temper::Sluggish,
    Temper::Short,
];

/// What kills a server that serves.
const DEATHS: &[FaultClass] = &[
    FaultClass::CrashRunning,
    FaultClass::CrashRunning,
    FaultClass::CrashRunning,
    FaultClass::CleanExit,
    FaultClass::Oom,
    FaultClass::Network,
    FaultClass::Protocol,
    FaultClass::Hang,
    FaultClass::Throttled,
    FaultClass::HostResource,
    FaultClass::Auth,
];

impl Temper {
    pub(super) fn any(dice: &mut Dice) -> Self {
        dice.pick(TEMPERS).copied().unwrap_or(Self::Steady)
    }

    /// The temper of the next life.
    pub(super) fn next(self, dice: &mut Dice) -> Self {
        if dice.chance(7) { Self::any(dice) } else { self }
    }

    pub(super) fn start(self, dice: &mut Dice) -> Start {
        let end = self.start_end(dice);
        let after = match self {
            Self::Sluggish => dice.millis(1_000..=36_000),
            Self::Steady | Self::Flaky | Self::Looping | Self::Missing | Self::Refusing | Self::Short => {
                if dice.chance(20) { Duration::ZERO } else { dice.millis(1..=2_500) }
            }
        };
        Start { after, end }
    }

    fn start_end(self, dice: &mut Dice) -> StartEnd {
        let failing = match self {
            Self::Steady => 2,
            Self::Flaky => 15,
            Self::Sluggish => 5,
            Self::Looping => 90,
            Self::Missing | Self::Refusing | Self::Short => 60,
        };
        if !dice.chance(failing) {
            return StartEnd::Up;
        }
        if dice.chance(6) {
            return if dice.chance(50) { StartEnd::Hangs } else { StartEnd::TimesOut };
        }
        let usual: &[FaultClass] = match self {
            Self::Steady | Self::Flaky | Self::Looping | Self::Sluggish => &[FaultClass::CrashOnStart],
            Self::Missing => &[FaultClass::NotFound, FaultClass::BadConfig],
            Self::Refusing => &[FaultClass::Auth, FaultClass::Consent, FaultClass::Incompatible],
            Self::Short => &[FaultClass::HostResource],
        };
        let classes = if dice.chance(80) { usual } else { FaultClass::ALL };
        let class = dice.pick(classes).copied().unwrap_or(FaultClass::CrashOnStart);
        StartEnd::Fails(Fault::new(class, format!("start failed: {class}")))
    }

    /// How long a life lasts if nobody ends it.
    pub(super) fn span(self, dice: &mut Dice) -> Duration {
        let mean = match self {
            Self::Steady => 900,
            Self::Sluggish | Self::Missing | Self::Refusing | Self::Short => 200,
            Self::Flaky => 45,
            Self::Looping => 3,
        };
        dice.about(Duration::from_secs(mean))
    }

    pub(super) fn death(dice: &mut Dice) -> Fault {
        let class = dice.pick(DEATHS).copied().unwrap_or(FaultClass::CrashRunning);
        Fault::new(class, format!("died: {class}"))
    }

    pub(super) fn answer(self, dice: &mut Dice) -> (Duration, Answer) {
        let after = match dice.below(10) {
            0..=2 => Duration::ZERO,
            3..=7 => dice.millis(1..=400),
            8 => dice.millis(400..=8_000),
            _ if self == Self::Sluggish => dice.millis(5_000..=90_000),
            _ => dice.millis(1_000..=30_000),
        };
        let answer = match dice.below(40) {
            0 => Answer::Never,
            1 => Answer::NotSent,
            2..=3 => Answer::Error,
            _ => Answer::Result,
        };
        (after, answer)
    }
}

/// How long something of a life stays when the life is over. Most leave nothing.
pub(super) fn cling(dice: &mut Dice) -> Duration {
    if dice.chance(75) { Duration::ZERO } else { dice.millis(1..=8_000) }
}
