//! Writes the code that runs: polls at the heads of loops, a look at the state after calls, and nothing to enter by.
//!
//! A loop that polls becomes
//! ```text
//! loop L  (flag)  if  spill  br to the function's end  end  ..body..  end
//! ```
//! A poll that fires always unwinds; whether to go on after all is asked when all frames are spilled (see
//! [`crate::migratable::writing::entry`]). So nothing leads from the spilling back into the loop: the compiler's register allocator does not
//! weigh it as part of the loop, and no value of the loop lives across a call that is hardly ever made.

use std::ops::Range;

use wasm_encoder::{BlockType, Instruction as I};

use crate::migratable::{
    reading::{
        reason::NotMovable,
        tape::{Call, Kind, Open, Step},
    },
    writing::copy::{Copy, Ending},
};

/// The function as it is normally called. Without points it is the module's own but for indices.
pub(in crate::migratable) fn write(copy: &mut Copy<'_, '_>) -> Result<(), NotMovable> {
    if copy.tape.polls_at_entry {
        copy.poll(0);
    }
    copy.clean(0..copy.tape.steps.len())
}

/// What of its block's operands is on the stack where a polled loop begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::migratable) enum OnStack {
    All,
    /// The rest is in its locals already.
    Parameters,
}

impl<'a> Copy<'_, 'a> {
    /// Writes steps; blocks that are opened among them end among them.
    pub(crate) fn clean(&mut self, range: Range<usize>) -> Result<(), NotMovable> {
        range.into_iter().try_for_each(|at| self.clean_step(at))
    }

    /// Writes a loop that polls.
    pub(crate) fn clean_loop(&mut self, at: usize, open: &Open, on_stack: OnStack) -> Result<(), NotMovable> {
        self.open_polled(open, on_stack);
        self.clean(at + 1..open.end + 1)
    }

    fn clean_step(&mut self, at: usize) -> Result<(), NotMovable> {
        let tape = self.tape;
        match &tape.steps[at] {
            Step::Plain(bytes) => self.code.raw(bytes),
            Step::Get(local) => self.code.emit(&I::LocalGet(*local)),
            Step::Set(local) => self.code.emit(&I::LocalSet(*local)),
            Step::Tee(local) => self.code.emit(&I::LocalTee(*local)),
            Step::Call(function) => self.code.emit(&I::Call(self.ids.function(*function))),
            Step::RefFunc(function) => self.code.emit(&I::RefFunc(self.ids.function(*function))),
            Step::DataDrop { segment } => {
                self.code.emit(&I::DataDrop(*segment));
                if let Some(global) = self.ids.dropped.get(segment) {
                    self.code.emit_all(&[I::I32Const(1), I::GlobalSet(*global)]);
                }
            }
            Step::Branch(depth) => self.code.emit(&I::Br(self.code.relative(*depth))),
            Step::BranchIf(depth) => self.code.emit(&I::BrIf(self.code.relative(*depth))),
            Step::BranchTable(depths) => {
                let mut depths: Vec<u32> = depths.iter().map(|depth| self.code.relative(*depth)).collect();
                let default = depths.pop().unwrap_or_default();
                self.code.emit(&I::BrTable(depths.into(), default));
            }
            Step::Return => match self.ending {
                Ending::Returned => self.code.emit(&I::Return),
                Ending::Carried => self.code.leave_function(),
            },
            Step::Unreachable => self.code.emit(&I::Unreachable),
            Step::Point(call) => self.clean_call(call),
            Step::Open(open) if open.suspends() && open.kind == Kind::Loop => self.open_polled(open, OnStack::All),
            Step::Open(open) => self.open(open),
            Step::Else { .. } => self.code.emit(&I::Else),
            Step::End { open: Some(_), .. } => {
                self.code.end();
                self.code.leave();
            }
            Step::End { open: None, .. } => self.code.emit(&I::End),
        }
        self.check_size()
    }

    fn clean_call(&mut self, call: &Call<'a>) {
        if call.operands.len() > call.taken {
            self.note(call.base, &call.operands);
        }
        self.call(&call.callee);
        self.follow(call.point);
    }

    fn open(&mut self, open: &Open) {
        if open.suspends() && !(open.below().is_empty() && open.parameters.is_empty()) {
            self.note(open.base, &open.operands);
        }
        let ty = block_type(open.ty);
        let label = match open.kind {
            Kind::Block => self.code.block(ty),
            Kind::If => self.code.if_(ty),
            Kind::Loop => self.code.loop_(ty),
        };
        self.code.enter(label);
    }

    fn open_polled(&mut self, open: &Open, on_stack: OnStack) {
        match on_stack {
            OnStack::All => self.note(open.base, &open.operands),
            OnStack::Parameters => {}
        }
        let label = self.code.loop_(block_type(open.ty));
        self.code.enter(label);
        self.take(open.inner_base(), &open.parameters);
        self.poll(open.points.start);
        self.give(open.inner_base(), &open.parameters);
    }
}

/// A block's type, which is the same in the build.
fn block_type(ty: wasmparser::BlockType) -> BlockType {
    match ty {
        wasmparser::BlockType::Empty => BlockType::Empty,
        wasmparser::BlockType::FuncType(at) => BlockType::FunctionType(at),
        wasmparser::BlockType::Type(ty) => BlockType::Result(match crate::migratable::reading::value::Value::of(ty) {
            Some(value) => value.into(),
            None => wasm_encoder::ValType::Ref(wasm_encoder::RefType::FUNCREF),
        }),
    }
}
