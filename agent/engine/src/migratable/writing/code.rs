//! Instructions of one function while they are written: bytes, depth of nesting, labels, hints.

use std::collections::BTreeMap;

use wasm_encoder::{BlockType, BranchHint, Encode, Instruction, ValType};

use crate::migratable::reading::value::Value;

/// The body of a function without its locals.
#[derive(Default)]
pub(in crate::migratable) struct Code {
    bytes: Vec<u8>,
    depth: u32,
    /// Depth of what a branch to each of the module's own open blocks leads to.
    labels: Vec<u32>,
    /// Depth of what a branch out of the module's function leads to: the function itself, or a block in its place.
    outermost: u32,
    hints: Vec<BranchHint>,
}

/// A block that is open: where a branch can lead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::migratable) struct Label(u32);

impl Code {
    pub(crate) fn emit(&mut self, instruction: &Instruction<'_>) {
        instruction.encode(&mut self.bytes);
    }

    pub(crate) fn emit_all(&mut self, instructions: &[Instruction<'_>]) {
        instructions.iter().for_each(|instruction| self.emit(instruction));
    }

    pub(crate) fn raw(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(crate) fn block(&mut self, ty: BlockType) -> Label {
        self.open(&Instruction::Block(ty))
    }

    pub(crate) fn loop_(&mut self, ty: BlockType) -> Label {
        self.open(&Instruction::Loop(ty))
    }

    pub(crate) fn if_(&mut self, ty: BlockType) -> Label {
        self.open(&Instruction::If(ty))
    }

    /// An `if` that is hardly ever entered.
    pub(crate) fn if_rarely(&mut self) -> Label {
        self.hint();
        self.if_(BlockType::Empty)
    }

    pub(crate) fn end(&mut self) {
        self.emit(&Instruction::End);
        self.depth -= 1;
    }

    pub(crate) fn branch(&mut self, label: Label) {
        self.emit(&Instruction::Br(self.distance(label)));
    }

    /// What a branch to an open block must say.
    pub(crate) fn distance(&self, label: Label) -> u32 {
        self.depth - label.0
    }

    /// A branch to the end of the written function, with its results.
    pub(crate) fn branch_to_end(&mut self) {
        self.emit(&Instruction::Br(self.depth));
    }

    /// From now on the module's innermost open block is at this label.
    pub(crate) fn enter(&mut self, label: Label) {
        self.labels.push(label.0);
    }

    /// What leaves the module's function from now on leads to this label, with the results.
    pub(crate) fn enter_function(&mut self, label: Label) {
        self.outermost = label.0;
    }

    /// Leaves the module's function, with its results.
    pub(crate) fn leave_function(&mut self) {
        self.emit(&Instruction::Br(self.depth - self.outermost));
    }

    /// The module's innermost open block has ended.
    pub(crate) fn leave(&mut self) {
        self.labels.pop();
    }

    /// What a branch of the module must now say to get to the same place. The function itself is the outermost label.
    pub(crate) fn relative(&self, depth: u32) -> u32 {
        let label = (self.labels.len() as u32).checked_sub(depth + 1).map_or(self.outermost, |at| self.labels[at as usize]);
        self.depth - label
    }

    fn open(&mut self, instruction: &Instruction<'_>) -> Label {
        self.emit(instruction);
        self.depth += 1;
        Label(self.depth)
    }

    fn hint(&mut self) {
        self.hints.push(BranchHint { branch_func_offset: self.bytes.len() as u32, branch_hint_value: 0 });
    }

    /// The finished function: its locals (without parameters) before its instructions, and its hints.
    pub(crate) fn finish(self, locals: impl IntoIterator<Item = ValType>) -> Written {
        let mut bytes = wasm_encoder::Function::new_with_locals_types(locals).into_raw_body();
        let moved = bytes.len() as u32;
        bytes.extend_from_slice(&self.bytes);
        let hints = self.hints.into_iter();
        let hints = hints.map(|hint| BranchHint { branch_func_offset: hint.branch_func_offset + moved, ..hint }).collect();
        Written { bytes, hints }
    }
}

/// A function's body as it goes into the code section.
pub(in crate::migratable) struct Written {
    pub bytes: Vec<u8>,
    pub hints: Vec<BranchHint>,
}

/// Locals that the pass adds behind the module's own, as they come into use.
pub(in crate::migratable) struct Homes {
    first: u32,
    by_place: BTreeMap<Place, u32>,
    types: Vec<Value>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    Pending,
    /// A height of the operand stack, and what is there.
    Operand(u32, Value),
}

impl Homes {
    pub(crate) fn new(locals: u32) -> Self {
        Self { first: locals, by_place: BTreeMap::new(), types: Vec::new() }
    }

    /// The point at which the activation is to go on, counted from 1; 0 when it runs.
    pub(crate) fn pending(&mut self) -> u32 {
        self.home(Place::Pending, Value::I32)
    }

    /// The local for an operand.
    pub(crate) fn of(&mut self, height: u32, value: Value) -> u32 {
        self.home(Place::Operand(height, value), value)
    }

    fn home(&mut self, place: Place, value: Value) -> u32 {
        let next = self.first + self.types.len() as u32;
        *self.by_place.entry(place).or_insert_with(|| {
            self.types.push(value);
            next
        })
    }

    pub(crate) fn types(&self) -> impl Iterator<Item = ValType> + '_ {
        self.types.iter().map(|value| ValType::from(*value))
    }
}

/// Types of functions and blocks that the pass adds behind the module's own.
pub(in crate::migratable) struct Types {
    first: u32,
    added: BTreeMap<(Vec<Value>, Vec<Value>), u32>,
    in_order: Vec<(Vec<Value>, Vec<Value>)>,
}

impl Types {
    pub(crate) fn new(present: usize) -> Self {
        Self { first: present as u32, added: BTreeMap::new(), in_order: Vec::new() }
    }

    pub(crate) fn function(&mut self, parameters: &[Value], results: &[Value]) -> u32 {
        let key = (parameters.to_vec(), results.to_vec());
        let next = self.first + self.in_order.len() as u32;
        *self.added.entry(key.clone()).or_insert_with(|| {
            self.in_order.push(key);
            next
        })
    }

    /// A block that takes nothing.
    pub(crate) fn block(&mut self, results: &[Value]) -> BlockType {
        match results {
            [] => BlockType::Empty,
            [one] => BlockType::Result((*one).into()),
            _ => BlockType::FunctionType(self.function(&[], results)),
        }
    }

    pub(crate) fn added(&self) -> &[(Vec<Value>, Vec<Value>)] {
        &self.in_order
    }
}
