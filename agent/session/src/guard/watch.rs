//! The hysteresis of one rule: what trips it must last, and so must the calm that lets go of it.
//!
//! ```text
//! calm --over--> alarmed --over for pause_after--> tripped
//!   ^               |                               |   ^
//!   +-- not over ---+         under for resume_after|   | not under
//!   +---------------------------- easing <----------+---+
//! ```
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::time::Duration;

use lull_shared::time::Timestamp;

/// A measurement against a rule's two thresholds.
#[derive(Debug, Clone, Copy)]
pub(super) enum Reading {
    Over,
    Between,
    Under,
}

impl Reading {
    /// One side or the other; between them when it is neither.
    pub(super) fn of(over: bool, under: bool) -> Self {
        if over {
            Self::Over
        } else if under {
            Self::Under
        } else {
            Self::Between
        }
    }
}

/// One rule's state; `value` is what was measured when it tripped, so that the reason stays the same while it holds.
#[derive(Debug, Clone, Copy, Default)]
pub(super) enum Watch {
    #[default]
    Calm,
    Alarmed {
        since: Timestamp,
    },
    Tripped {
        value: u64,
    },
    Easing {
        value: u64,
        since: Timestamp,
    },
}

impl Watch {
    /// Takes a reading: over for `pause_after` trips the rule, under for `resume_after` lets go of it.
    pub(super) fn observe(
        &mut self,
        reading: Reading,
        value: u64,
        (pause_after, resume_after): (Duration, Duration),
        now: Timestamp,
    ) {
        *self = match (*self, reading) {
            (Self::Calm, Reading::Over) if pause_after.is_zero() => Self::Tripped { value },
            (Self::Calm, Reading::Over) => Self::Alarmed { since: now },
            (Self::Calm | Self::Alarmed { .. }, Reading::Between | Reading::Under) => Self::Calm,
            (Self::Alarmed { since }, Reading::Over) if now.since(since) >= pause_after => Self::Tripped { value },
            (alarmed @ Self::Alarmed { .. }, Reading::Over) => alarmed,
            (Self::Tripped { .. }, Reading::Under) if resume_after.is_zero() => Self::Calm,
            (Self::Tripped { value }, Reading::Under) => Self::Easing { value, since: now },
            (Self::Tripped { value } | Self::Easing { value, .. }, Reading::Over | Reading::Between) => Self::Tripped { value },
            (Self::Easing { since, .. }, Reading::Under) if now.since(since) >= resume_after => Self::Calm,
            (easing @ Self::Easing { .. }, Reading::Under) => easing,
        };
    }

    /// What was measured when it tripped, while it holds.
    pub(super) fn tripped_at(self) -> Option<u64> {
        match self {
            Self::Calm | Self::Alarmed { .. } => None,
            Self::Tripped { value } | Self::Easing { value, .. } => Some(value),
        }
    }
}
