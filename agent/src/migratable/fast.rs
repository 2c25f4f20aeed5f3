//! Writes the code that runs: polls at the heads of loops, a look at the state after calls, and nothing to enter by.
//!
//! A loop that polls becomes
//! ```text
//! block exit
//!   loop again
//!     block slow
//!       loop L  (flag) br_if slow  ..body..  end
//!       br exit
//!     end
//!     call poll  if  state = unwinding  spill  return  end
//!     br again
//!   end
//! end
//! ```
//! so that within `L` there is only a load and a branch: what the slow way needs lies outside of the loop, where
//! the compiler's register allocator does not weigh it as part of the loop.

use std::ops::Range;

use wasm_encoder::{BlockType, Instruction as I};

use super::{
    code::Label,
    copy::Copy,
    reason::NotMovable,
    tape::{Call, Kind, Open, Step},
};

/// The function as it is normally called. Without points it is the module's own but for indices.
pub(super) fn write(copy: &mut Copy<'_, '_>) -> Result<(), NotMovable> {
    if copy.tape.polls_at_entry {
        copy.flag();
        copy.code.if_rarely();
        copy.ask(0);
        copy.code.end();
    }
    copy.clean(0..copy.tape.steps.len())
}

/// A polled loop that is being written.
struct Polled {
    exit: Label,
    again: Label,
}

/// What of its block's operands is on the stack where a polled loop begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OnStack {
    All,
    /// The rest is in its locals already.
    Parameters,
}

impl<'a> Copy<'_, 'a> {
    /// Writes steps; blocks that are opened among them end among them.
    pub fn clean(&mut self, range: Range<usize>) -> Result<(), NotMovable> {
        let mut polled = Vec::new();
        for at in range {
            self.clean_step(at, &mut polled)?;
        }
        Ok(())
    }

    /// Writes a loop that polls.
    pub fn clean_loop(&mut self, at: usize, open: &Open, on_stack: OnStack) -> Result<(), NotMovable> {
        let mut polled = vec![self.open_polled(open, on_stack)];
        for at in at + 1..=open.end {
            self.clean_step(at, &mut polled)?;
        }
        Ok(())
    }

    fn clean_step(&mut self, at: usize, polled: &mut Vec<Polled>) -> Result<(), NotMovable> {
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
            Step::Return => self.code.emit(&I::Return),
            Step::Unreachable => self.code.emit(&I::Unreachable),
            Step::Point(call) => self.clean_call(call),
            Step::Open(open) if open.suspends() && open.kind == Kind::Loop => {
                let opened = self.open_polled(open, OnStack::All);
                polled.push(opened);
            }
            Step::Open(open) => self.open(open),
            Step::Else { .. } => self.code.emit(&I::Else),
            Step::End { open, .. } => {
                self.code_end(*open);
                if let Some(Step::Open(open)) = open.map(|open| &tape.steps[open])
                    && open.suspends()
                    && open.kind == Kind::Loop
                    && let Some(opened) = polled.pop()
                {
                    self.end_polled(&opened, open.points.start);
                }
            }
        }
        self.check_size()
    }

    /// Ends a block, or the function.
    fn code_end(&mut self, open: Option<usize>) {
        match open {
            Some(_) => {
                self.code.end();
                self.code.leave();
            }
            None => self.code.emit(&I::End),
        }
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

    fn open_polled(&mut self, open: &Open, on_stack: OnStack) -> Polled {
        match on_stack {
            OnStack::All => {
                self.take(open.base, &open.operands);
                self.give(open.base, open.below());
            }
            OnStack::Parameters => self.take(open.inner_base(), &open.parameters),
        }
        let exit_type = self.types.block(&open.results);
        let exit = self.code.block(exit_type);
        let again = self.code.loop_(BlockType::Empty);
        let slow = self.code.block(BlockType::Empty);
        self.give(open.inner_base(), &open.parameters);
        let label = self.code.loop_(block_type(open.ty));
        self.code.enter(label);
        self.take(open.inner_base(), &open.parameters);
        self.flag();
        self.code.branch_if_rarely(slow);
        self.give(open.inner_base(), &open.parameters);
        Polled { exit, again }
    }

    fn end_polled(&mut self, polled: &Polled, point: u32) {
        self.code.branch(polled.exit);
        self.code.end();
        self.ask(point);
        self.code.branch(polled.again);
        self.code.end();
        self.code.emit(&I::Unreachable);
        self.code.end();
    }
}

/// A block's type, which is the same in the build.
fn block_type(ty: wasmparser::BlockType) -> BlockType {
    match ty {
        wasmparser::BlockType::Empty => BlockType::Empty,
        wasmparser::BlockType::FuncType(at) => BlockType::FunctionType(at),
        wasmparser::BlockType::Type(ty) => BlockType::Result(match super::value::Value::of(ty) {
            Some(value) => value.into(),
            None => wasm_encoder::ValType::Ref(wasm_encoder::RefType::FUNCREF),
        }),
    }
}
