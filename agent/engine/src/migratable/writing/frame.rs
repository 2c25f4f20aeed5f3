//! What one activation of a function leaves in `lull_stack` when it is suspended, the same whichever copy it was in.
//!
//! ```text
//! values, by type | bytes, i32 | point, i32 | function, i32 |  <- lull_sp
//! ```
//! `bytes` is the size of the whole frame, by which frames are put into their order (see [`crate::migratable::writing::entry`]).
//! The values are live locals and operands that are kept. Sorted by type they need few different functions to write them
//! (see [`crate::migratable::writing::shared`]).

use crate::migratable::{
    reading::{
        live::live_locals,
        reason::NotMovable,
        tape::Tape,
        value::{VALUES, Value},
    },
    writing::shared::{Part, Shape},
};

/// The three numbers at the end of each frame.
pub(in crate::migratable) const HEADER_BYTES: u32 = 12;
/// Values in all frames of a function; more is made to exhaust us.
const SLOTS_MAX: usize = 1 << 23;

/// Values that one function writes; engines take a thousand parameters.
const PART_SLOTS: usize = 64;

/// The layout of a frame.
pub(in crate::migratable) struct Frame {
    pub slots: Vec<(Slot, Value)>,
}

/// Values of a frame that lie beside each other and are written by one function.
pub(in crate::migratable) struct Slots<'f> {
    pub part: Part,
    pub shape: Shape,
    pub slots: &'f [(Slot, Value)],
}

impl Frame {
    /// The size of the whole frame.
    pub(crate) fn bytes(&self) -> u32 {
        self.slots.iter().map(|(_, value)| value.size()).sum::<u32>() + HEADER_BYTES
    }

    /// All slots in parts, from the bottom. The last is the one that the header follows, be it empty.
    pub(crate) fn parts(&self) -> Vec<Slots<'_>> {
        let chunks = self.slots.chunks(PART_SLOTS);
        let mut parts: Vec<_> = chunks.map(|slots| Slots { part: Part::Values, shape: shape(slots), slots }).collect();
        match parts.last_mut() {
            Some(last) => last.part = Part::Last,
            None => parts.push(Slots { part: Part::Last, shape: Shape::default(), slots: &[] }),
        }
        parts
    }
}

fn shape(slots: &[(Slot, Value)]) -> Shape {
    VALUES.map(|value| slots.iter().filter(|(_, of)| *of == value).count() as u32)
}

/// Where a value is while the function runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::migratable) enum Slot {
    Local(u32),
    /// An operand, by its height on the stack.
    Operand(u32),
}

/// The layouts for all points of a function.
pub(in crate::migratable) fn frames(tape: &Tape<'_>) -> Result<Vec<Frame>, NotMovable> {
    let mut total = 0;
    live_locals(tape)?
        .into_iter()
        .zip(&tape.points)
        .map(|(locals, point)| {
            let locals = locals.into_iter().map(|local| Some((Slot::Local(local), Value::of(tape.locals[local as usize])?)));
            let operands = (0..).zip(&point.kept).map(|(height, value)| Some((Slot::Operand(height), *value)));
            let mut slots: Vec<_> = locals.chain(operands).collect::<Option<_>>().ok_or(NotMovable::References)?;
            total += slots.len();
            if total > SLOTS_MAX {
                return Err(NotMovable::TooLarge { what: "a function keeps too many values" });
            }
            slots.sort_by_key(|(_, value)| *value);
            Ok(Frame { slots })
        })
        .collect()
}
