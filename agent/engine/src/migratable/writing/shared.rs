//! Functions that write values into frames and take them back, shared by all places that have as many values of each type.
//!
//! Spilling is most of what a build has more than its module, and runs hardly ever: a call in its place makes the build
//! half as large.

use std::collections::BTreeMap;

use wasm_encoder::{Function, Instruction as I, ValType};

use crate::migratable::{
    contract::State,
    plan::Ids,
    reading::value::{VALUES, Value},
    writing::frame::HEADER_BYTES,
};

/// How many values of each type, in the order of [`VALUES`].
pub(in crate::migratable) type Shape = [u32; VALUES.len()];

/// The header of a frame.
const HEADER: [Value; 3] = [Value::I32; 3];
const _: () = assert!(HEADER.len() as u32 * 4 == HEADER_BYTES);

/// Whether the values are the last of a frame, which its header follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::migratable) enum Part {
    Values,
    Last,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Direction {
    /// `(values) -> ()`, the last with `(values, bytes, point, function) -> ()`, which also begins to unwind.
    Spill,
    /// The same, but the program runs on, and what it leaves when it is suspended begins behind.
    Push,
    /// `() -> (values)`.
    Restore,
}

/// The functions that were asked for.
pub(in crate::migratable) struct Shared {
    first: u32,
    known: BTreeMap<(Direction, Part, Shape), u32>,
    in_order: Vec<(Direction, Part, Shape)>,
}

impl Shared {
    pub(crate) fn new(ids: &Ids) -> Self {
        Self { first: ids.first_shared, known: BTreeMap::new(), in_order: Vec::new() }
    }

    /// The function that writes values of these types into a frame.
    pub(crate) fn spill(&mut self, part: Part, shape: Shape) -> u32 {
        self.function(Direction::Spill, part, shape)
    }

    /// The function that writes them down in a program that runs on.
    pub(crate) fn push(&mut self, part: Part, shape: Shape) -> u32 {
        match part {
            Part::Values => self.spill(part, shape),
            Part::Last => self.function(Direction::Push, part, shape),
        }
    }

    /// The function that takes them back.
    pub(crate) fn restore(&mut self, part: Part, shape: Shape) -> u32 {
        self.function(Direction::Restore, part, shape)
    }

    fn function(&mut self, direction: Direction, part: Part, shape: Shape) -> u32 {
        let next = self.first + self.in_order.len() as u32;
        let key = (direction, part, shape);
        *self.known.entry(key).or_insert_with(|| {
            self.in_order.push(key);
            next
        })
    }

    /// All of them in the order of their indices: parameters, results and code.
    pub(crate) fn written(&self, ids: &Ids) -> impl Iterator<Item = (Vec<Value>, Vec<Value>, Function)> {
        self.in_order.iter().map(|(direction, part, shape)| {
            let values = values(shape);
            match direction {
                Direction::Spill | Direction::Push => {
                    let function = write(ids, *direction, *part, &values);
                    ([&values, header(*part)].concat(), Vec::new(), function)
                }
                Direction::Restore => (Vec::new(), values.clone(), restore(ids, *part, &values)),
            }
        })
    }
}

fn values(shape: &Shape) -> Vec<Value> {
    VALUES.iter().zip(shape).flat_map(|(value, count)| (0..*count).map(|_| *value)).collect()
}

/// What follows the values.
fn header(part: Part) -> &'static [Value] {
    match part {
        Part::Values => &[],
        Part::Last => &HEADER,
    }
}

fn size(part: Part, values: &[Value]) -> u32 {
    values.iter().chain(header(part)).map(|value| value.size()).sum()
}

fn write(ids: &Ids, direction: Direction, part: Part, values: &[Value]) -> Function {
    let header = header(part);
    let address = (values.len() + header.len()) as u32;
    let mut function = Function::new([(1, ValType::I32)]);
    for instruction in [I::I32Const(size(part, values) as i32), I::Call(ids.reserve), I::LocalSet(address)] {
        function.instruction(&instruction);
    }
    let mut offset = 0;
    for (local, value) in (0..).zip(values.iter().chain(header)) {
        for instruction in [I::LocalGet(address), I::LocalGet(local), value.store(ids.stack, offset)] {
            function.instruction(&instruction);
        }
        offset += value.size();
    }
    let then = match (part, direction) {
        (Part::Values, _) => None,
        (Part::Last, Direction::Push) => Some([I::GlobalGet(ids.stack_pointer), I::GlobalSet(ids.mark)]),
        (Part::Last, _) => Some([I::I32Const(State::Unwinding as i32), I::GlobalSet(ids.state)]),
    };
    for instruction in then.iter().flatten() {
        function.instruction(instruction);
    }
    function.instruction(&I::End);
    function
}

fn restore(ids: &Ids, part: Part, values: &[Value]) -> Function {
    let address = 0;
    let mut function = Function::new([(1, ValType::I32)]);
    for instruction in [
        I::GlobalGet(ids.stack_pointer),
        I::I32Const(size(part, values) as i32),
        I::I32Sub,
        I::LocalTee(address),
        I::GlobalSet(ids.stack_pointer),
        // What this activation leaves, should it be suspended again, begins here.
        I::LocalGet(address),
        I::GlobalSet(ids.mark),
    ] {
        function.instruction(&instruction);
    }
    let mut offset = 0;
    for value in values {
        function.instruction(&I::LocalGet(address));
        function.instruction(&value.load(ids.stack, offset));
        offset += value.size();
    }
    function.instruction(&I::End);
    function
}
