//! Writes the copy of a function that is entered to go on where an activation was suspended.
//!
//! It walks through the function once, from its beginning to the point in question, skipping what lies before, and
//! then runs the rest. Whatever is skipped is behind a look at `pending`, which is the point until it is reached and 0
//! from then on:
//! ```text
//! if pending == 0 { .. }                                             a stretch without points
//! if pending == 0 { .. call .. } else if pending == point { frame }  one that ends in a call
//! ```
//! Blocks are entered also on the way to a point behind them, which does nothing: each look costs the compiler a place
//! where every value that changed has two origins, so there are no more of them than must be. What lies before the first
//! point is left out.
//!
//! Between these stretches the operands are in their locals. Where a small loop was left in the midst of a round, that
//! round is finished here, and the loop goes on in a clean copy right behind, as fast as if it had never been left: loops
//! within small loops have one clean copy for each loop around them, and one more. A large loop goes on where it is: its
//! looks at `pending` are few beside what it does, and a second copy of everything large would double the build.
//!
//! Only one activation is on the engine's stack when it goes on: [`super::entry`] calls the innermost, and when that is
//! finished the one that had called it, which finds the results in globals. So a program that was moved never needs more
//! of that stack than it did before, however deep its calls are and however often it is moved.

use wasm_encoder::{BlockType, Instruction as I};

use super::{
    code::Label,
    copy::{Copy, Header},
    fast::OnStack,
    reason::NotMovable,
    tape::{Call, Kind, Open, Step},
    value::Value,
};

/// The size of loops that have a clean copy, in the module. What is larger has work to do in each round.
const CLEAN_BYTES: usize = 512;

/// The function as it is called to go on, `() -> ()`.
pub(super) fn write(copy: &mut Copy<'_, '_>, results: &[Value]) -> Result<(), NotMovable> {
    copy.begin();
    let ty = copy.types.block(results);
    let function = copy.code.block(ty);
    copy.code.enter_function(function);
    if copy.tape.polls_at_entry {
        copy.arrive(0);
    }
    let passed = copy.tape.polls_at_entry;
    let mut walk =
        Walk { copy: &mut *copy, passed, blocks: Vec::new(), stretch: Stretch::Closed, base: 0, operands: Box::default() };
    walk.run()?;
    copy.code.end();
    for carrier in copy.ids.carriers(results).into_iter().rev() {
        copy.code.emit(&I::GlobalSet(carrier));
    }
    copy.code.emit(&I::End);
    Ok(())
}

impl Copy<'_, '_> {
    /// Finds out where to go on. A frame of another function, or of no point, is a fault of whoever restored it.
    fn begin(&mut self) {
        let pending = self.homes.pending();
        self.header(Header::Function);
        self.code.emit_all(&[I::I32Const(self.function as i32), I::I32Ne]);
        self.trap_if();
        self.header(Header::Point);
        self.code.emit_all(&[I::LocalTee(pending), I::I32Const(1), I::I32Sub, I::I32Const(self.frames.len() as i32), I::I32GeU]);
        self.trap_if();
    }

    fn trap_if(&mut self) {
        self.code.if_rarely();
        self.code.emit(&I::Unreachable);
        self.code.end();
    }

    /// At a poll: the innermost frame is rebuilt.
    fn arrive(&mut self, point: u32) {
        self.code.emit_all(&[I::LocalGet(self.homes.pending()), I::I32Const(point as i32 + 1), I::I32Eq]);
        self.code.if_(BlockType::Empty);
        self.restore(point);
        self.code.end();
    }
}

/// Whether a stretch without points is being written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stretch {
    Closed,
    Open,
}

struct Walk<'c, 'w, 'a> {
    copy: &'c mut Copy<'w, 'a>,
    /// Whether there was a point already: nothing before it is ever run.
    passed: bool,
    /// The blocks with points that are open.
    blocks: Vec<Around>,
    stretch: Stretch,
    /// The height of the operand stack at the start of the innermost of them.
    base: u32,
    /// Its operands where no stretch is open: all in their locals.
    operands: Box<[Value]>,
}

/// What is around a block, and where it leads.
struct Around {
    base: u32,
    ways: Ways,
}

enum Ways {
    Straight,
    /// The round that is finished here, and the clean copy behind.
    Clean {
        exit: Label,
    },
    /// All rounds.
    Again {
        exit: Label,
        again: Label,
    },
}

impl<'a> Walk<'_, '_, 'a> {
    fn run(&mut self) -> Result<(), NotMovable> {
        let tape = self.copy.tape;
        let mut at = 0;
        while let Some(step) = tape.steps.get(at) {
            match step {
                Step::Open(open) if open.suspends() => self.enter(open),
                Step::Open(open) => {
                    if self.passed {
                        self.stretch();
                        self.copy.clean(at..open.end + 1)?;
                    }
                    at = open.end;
                }
                Step::Point(call) => self.call(call),
                Step::Else { reached, open } => {
                    if let Step::Open(open) = &tape.steps[*open] {
                        self.part(open, *reached);
                    }
                }
                Step::End { reached, open } => match open.map(|open| (open, &tape.steps[open])) {
                    Some((start, Step::Open(open))) => self.leave(start, open, *reached)?,
                    _ => self.finish(*reached),
                },
                _ if !self.passed => {}
                _ => {
                    self.stretch();
                    self.copy.clean(at..at + 1)?;
                }
            }
            self.copy.check_size()?;
            at += 1;
        }
        Ok(())
    }

    /// Begins a stretch, unless one is open.
    fn stretch(&mut self) {
        if self.stretch == Stretch::Closed {
            self.stretch = Stretch::Open;
            self.copy.code.emit_all(&[I::LocalGet(self.copy.homes.pending()), I::I32Eqz]);
            self.copy.code.if_(BlockType::Empty);
            self.copy.give(self.base, &self.operands);
        }
    }

    /// Ends a stretch with these operands, if it is left by its end.
    fn close(&mut self, operands: Option<&[Value]>) {
        if self.stretch == Stretch::Open {
            self.stretch = Stretch::Closed;
            if let Some(operands) = operands {
                self.copy.take(self.base, operands);
            }
            self.copy.code.end();
        }
        self.operands = operands.unwrap_or_default().into();
    }

    fn enter(&mut self, open: &Open) {
        self.close(Some(&open.operands));
        let ty = self.copy.types.block(&open.results);
        let ways = match open.kind {
            Kind::Block => {
                let label = self.copy.code.block(ty);
                self.copy.code.enter(label);
                Ways::Straight
            }
            Kind::If => {
                self.condition(open);
                let label = self.copy.code.if_(ty);
                self.copy.code.enter(label);
                Ways::Straight
            }
            Kind::Loop if open.bytes <= CLEAN_BYTES => Ways::Clean { exit: self.enter_small_loop(open) },
            Kind::Loop => self.enter_large_loop(open),
        };
        self.passed |= open.kind == Kind::Loop;
        self.blocks.push(Around { base: self.base, ways });
        self.base = open.inner_base();
        self.operands = open.parameters.clone();
    }

    /// The condition as it was, or the part with the point.
    fn condition(&mut self, open: &Open) {
        let pending = self.copy.homes.pending();
        let condition = self.copy.homes.of(open.base + open.operands.len() as u32 - 1, Value::I32);
        let last = open.points_else.unwrap_or(open.points.end);
        self.copy.code.emit_all(&[
            I::LocalGet(condition),
            I::LocalGet(pending),
            I::I32Const(last as i32),
            I::I32LeU,
            I::LocalGet(pending),
            I::I32Eqz,
            I::Select,
        ]);
    }

    fn enter_small_loop(&mut self, open: &Open) -> Label {
        let exit_type = self.copy.types.block(&open.results);
        let exit = self.copy.code.block(exit_type);
        let head_type = self.copy.types.block(&open.parameters);
        let head = self.copy.code.block(head_type);
        self.copy.code.emit_all(&[I::LocalGet(self.copy.homes.pending()), I::I32Eqz]);
        self.copy.code.if_(BlockType::Empty);
        self.copy.give(open.inner_base(), &open.parameters);
        self.copy.code.branch(head);
        self.copy.code.end();
        self.copy.code.enter(head);
        self.copy.arrive(open.points.start);
        exit
    }

    fn enter_large_loop(&mut self, open: &Open) -> Ways {
        let exit_type = self.copy.types.block(&open.results);
        let exit = self.copy.code.block(exit_type);
        let again = self.copy.code.loop_(BlockType::Empty);
        let head_type = self.copy.types.block(&open.parameters);
        let head = self.copy.code.block(head_type);
        self.copy.code.enter(head);
        self.copy.code.emit(&I::LocalGet(self.copy.homes.pending()));
        self.copy.code.if_(BlockType::Empty);
        self.copy.arrive(open.points.start);
        self.copy.code.emit(&I::Else);
        self.copy.poll(open.points.start);
        self.copy.code.end();
        Ways::Again { exit, again }
    }

    /// The way from the first part of an `if` to its other.
    fn part(&mut self, open: &Open, reached: bool) {
        self.arrive_at_end(open, reached);
        self.copy.code.emit(&I::Else);
        self.operands = open.parameters.clone();
    }

    fn arrive_at_end(&mut self, open: &Open, reached: bool) {
        self.close(reached.then_some(&open.results));
        // Also if the end is not reached: whoever is on the way to a point behind it comes along.
        self.copy.give(self.base, &open.results);
    }

    fn leave(&mut self, start: usize, open: &Open, reached: bool) -> Result<(), NotMovable> {
        self.arrive_at_end(open, reached);
        let Some(around) = self.blocks.pop() else { return Ok(()) };
        match around.ways {
            Ways::Straight => {
                if open.kind == Kind::If && open.points_else.is_none() && !open.results.is_empty() {
                    // Without `else` the parameters are the results.
                    self.copy.code.emit(&I::Else);
                    self.copy.give(self.base, &open.results);
                }
                self.copy.code.end();
                self.copy.code.leave();
            }
            Ways::Clean { exit } => {
                self.copy.code.branch(exit);
                self.copy.code.end();
                self.copy.code.leave();
                self.copy.clean_loop(start, open, OnStack::Parameters)?;
                self.copy.code.end();
            }
            Ways::Again { exit, again } => {
                self.copy.code.branch(exit);
                self.copy.code.end();
                self.copy.code.leave();
                self.copy.take(open.inner_base(), &open.parameters);
                self.copy.code.branch(again);
                self.copy.code.end();
                self.copy.code.emit(&I::Unreachable);
                self.copy.code.end();
            }
        }
        self.copy.take(self.base, &open.results);
        self.base = around.base;
        self.operands = open.below().iter().chain(&open.results).copied().collect();
        Ok(())
    }

    fn call(&mut self, call: &Call<'a>) {
        let copy = &mut *self.copy;
        let pending = copy.homes.pending();
        let kept = &call.operands[..call.operands.len() - call.taken];
        let top = call.base + kept.len() as u32;
        let point = I::I32Const(call.point as i32 + 1);
        if self.passed {
            match self.stretch {
                Stretch::Open => copy.take(call.base, &call.operands),
                Stretch::Closed => {
                    copy.code.emit_all(&[I::LocalGet(pending), I::I32Eqz]);
                    copy.code.if_(BlockType::Empty);
                }
            }
            copy.give(top, &call.operands[kept.len()..]);
            copy.call(&call.callee);
            copy.take(top, &call.results);
            copy.follow(call.point);
            copy.code.emit_all(&[I::Else, I::LocalGet(pending), point, I::I32Ne, I::BrIf(0)]);
        } else {
            copy.code.emit_all(&[I::LocalGet(pending), point, I::I32Eq]);
            copy.code.if_(BlockType::Empty);
        }
        copy.restore(call.point);
        for (height, (carrier, result)) in (top..).zip(copy.ids.carriers(&call.results).into_iter().zip(&call.results)) {
            let home = copy.homes.of(height, *result);
            copy.code.emit_all(&[I::GlobalGet(carrier), I::LocalSet(home)]);
        }
        copy.code.end();
        self.passed = true;
        self.stretch = Stretch::Closed;
        self.operands = kept.iter().chain(&call.results).copied().collect();
    }

    fn finish(&mut self, reached: bool) {
        let results = self.copy.tape.results.iter().map(|result| Value::of(*result)).collect::<Option<Box<[_]>>>();
        match results {
            Some(results) if reached => {
                self.close(Some(&results));
                self.copy.give(self.base, &results);
            }
            _ => {
                self.close(None);
                self.copy.code.emit(&I::Unreachable);
            }
        }
    }
}
