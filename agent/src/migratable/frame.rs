//! What one activation of a function leaves in `lull_stack` when it is suspended, the same whichever copy it was in.
//!
//! ```text
//! live locals, by index | operands that are kept, from the bottom | point, i32 | function, i32 |  <- lull_sp
//! ```

use super::{live::live_locals, reason::NotMovable, tape::Tape, value::Value};

/// The two numbers at the end of each frame.
pub(super) const HEADER_BYTES: u32 = 8;
/// Values in all frames of a function; more is made to exhaust us.
const SLOTS_MAX: usize = 1 << 23;

/// The layout of a frame.
pub(super) struct Frame {
    pub slots: Vec<(Slot, Value)>,
    pub bytes: u32,
}

/// Where a value is while the function runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Slot {
    Local(u32),
    /// An operand, by its height on the stack.
    Operand(u32),
}

/// The layouts for all points of a function.
pub(super) fn frames(tape: &Tape<'_>) -> Result<Vec<Frame>, NotMovable> {
    let mut total = 0;
    live_locals(tape)?
        .into_iter()
        .zip(&tape.points)
        .map(|(locals, point)| {
            let locals = locals.into_iter().map(|local| Some((Slot::Local(local), Value::of(tape.locals[local as usize])?)));
            let operands = (0..).zip(&point.kept).map(|(height, value)| Some((Slot::Operand(height), *value)));
            let slots: Vec<_> = locals.chain(operands).collect::<Option<_>>().ok_or(NotMovable::References)?;
            total += slots.len();
            if total > SLOTS_MAX {
                return Err(NotMovable::TooLarge { what: "a function keeps too many values" });
            }
            let bytes = slots.iter().map(|(_, value)| value.size()).sum::<u32>() + HEADER_BYTES;
            Ok(Frame { slots, bytes })
        })
        .collect()
}
