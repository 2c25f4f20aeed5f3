//! Writes the copy of a function that is entered to go on where an activation was suspended.
//!
//! It is entered at its points and nowhere else: a table of branches leads to the code behind the point in question,
//! which takes the frame back and goes on. WebAssembly has no branches into blocks, so the blocks around points are
//! opened all together before the table, and each ends where it ended in the module:
//! ```text
//! block block block  br_table  end  take frame 1 ..  end  take frame 2 ..  end  ..
//! ```
//! What is run once only, because no loop leads back to it, calls others in a way of its own. It writes its frame down as if
//! it had been suspended in the call, makes the call, and returns; [`crate::migratable::writing::entry`] finds that frame on top and enters
//! the function again behind the call. So nothing is ever live across such a call and no two ways join behind it, which is
//! what a compiler would spend most of its time on.
//!
//! Where a small loop was left in the midst of a round, that round is finished here, and the loop goes on in a clean copy
//! right behind, as fast as if it had never been left: loops within small loops have one clean copy for each loop around
//! them, and one more. A large loop goes on where it is, calls as usual, and has a table of its own at its head: a second
//! copy of everything large would double the build.
//!
//! Only one activation is on the engine's stack when it goes on: [`crate::migratable::writing::entry`] calls the innermost, and when that is
//! finished the one that had called it, which finds the results in globals. So a program that was moved never needs more
//! of that stack than it did before, however deep its calls are and however often it is moved.

use std::{collections::BTreeMap, ops::Range};

use wasm_encoder::{BlockType, Instruction as I};

use crate::migratable::{
    reading::{
        reason::NotMovable,
        tape::{Call, Kind, Open, Step},
        value::Value,
    },
    writing::{
        code::Label,
        copy::{Copy, Header},
        fast::OnStack,
    },
};

/// The size of loops that have a clean copy, in the module. What is larger has work to do in each round.
const CLEAN_BYTES: usize = 512;

/// The function as it is called to go on, `() -> ()`.
pub(in crate::migratable) fn write(copy: &mut Copy<'_, '_>, results: &[Value]) -> Result<(), NotMovable> {
    copy.begin();
    let ty = copy.types.block(results);
    let function = copy.code.block(ty);
    copy.code.enter_function(function);
    let mut walk = Walk {
        copy: &mut *copy,
        labels: BTreeMap::new(),
        passed: false,
        blocks: Vec::new(),
        stretch: Stretch::Closed,
        base: 0,
        operands: Box::default(),
    };
    walk.run()?;
    copy.code.end();
    copy.carry(results);
    copy.code.emit(&I::End);
    Ok(())
}

impl Copy<'_, '_> {
    /// Finds out where to go on. A frame of another function is a fault of whoever restored it.
    fn begin(&mut self) {
        let pending = self.homes.pending();
        self.header(Header::Function);
        self.code.emit_all(&[I::I32Const(self.function as i32), I::I32Ne]);
        self.code.if_rarely();
        self.code.emit(&I::Unreachable);
        self.code.end();
        self.header(Header::Point);
        self.code.emit(&I::LocalSet(pending));
    }

    /// Puts results where the activation that waits for them looks.
    fn carry(&mut self, results: &[Value]) {
        for carrier in self.ids.carriers(results).into_iter().rev() {
            self.code.emit(&I::GlobalSet(carrier));
        }
    }

    /// Fetches results that another activation left.
    fn fetch(&mut self, top: u32, results: &[Value]) {
        for (height, (carrier, result)) in (top..).zip(self.ids.carriers(results).into_iter().zip(results)) {
            let home = self.homes.of(height, *result);
            self.code.emit_all(&[I::GlobalGet(carrier), I::LocalSet(home)]);
        }
    }
}

/// A place that a branch leads to: the end of a block, which is known by a step of the function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    /// Where no frame leads.
    Nowhere,
    /// The point at the function's entry.
    Entry,
    /// The point of a call or of a small loop, or the way to a large one.
    Landing,
    /// Where the way through a point of a large loop and the way by the table join.
    Behind,
    /// The other part of an `if`.
    Otherwise,
    /// The head of a loop that goes on: the clean copy of a small one, the next round of a large one.
    Head,
    /// The end of a block.
    Exit,
}

type Mark = (usize, Place);

/// A part of a function in which a table of branches can lead to every place: the function itself or the body of a large
/// loop, without the large loops in it.
struct Region {
    /// In the order in which they end.
    places: Vec<(Mark, BlockType)>,
    /// Where the points lead, in their order.
    targets: Vec<Mark>,
}

/// Whether the operands are on the stack, or all in their locals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stretch {
    Closed,
    Open,
}

struct Walk<'c, 'w, 'a> {
    copy: &'c mut Copy<'w, 'a>,
    labels: BTreeMap<Mark, Label>,
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
    Clean,
    /// All rounds.
    Again {
        exit: Label,
        again: Label,
    },
}

fn is_large(open: &Open) -> bool {
    open.bytes > CLEAN_BYTES
}

impl<'a> Walk<'_, '_, 'a> {
    fn run(&mut self) -> Result<(), NotMovable> {
        let tape = self.copy.tape;
        self.begin();
        let mut at = 0;
        while let Some(step) = tape.steps.get(at) {
            match step {
                Step::Open(open) if open.suspends() => self.enter(at, open),
                Step::Open(open) => {
                    if self.passed {
                        self.stretch();
                        self.copy.clean(at..open.end + 1)?;
                    }
                    at = open.end;
                }
                Step::Point(call) => self.call(at, call),
                Step::Else { reached, open } => {
                    if let Step::Open(block) = &tape.steps[*open] {
                        self.part(*open, block, *reached);
                    }
                }
                Step::End { reached, open } => match open.map(|open| (open, &tape.steps[open])) {
                    Some((start, Step::Open(open))) => self.leave(start, open, *reached)?,
                    _ => self.arrive_at_end(*reached),
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

    /// The way into the function.
    fn begin(&mut self) {
        let tape = self.copy.tape;
        let mut region = self.region(0..tape.steps.len(), false);
        region.places.insert(0, ((0, Place::Nowhere), BlockType::Empty));
        if tape.polls_at_entry {
            region.places.insert(1, ((0, Place::Entry), BlockType::Empty));
            region.targets.insert(0, (0, Place::Entry));
        }
        self.open_places(&region);
        self.branch_to_points(0, &region.targets, (0, Place::Nowhere));
        self.end_place(0, Place::Nowhere);
        self.copy.code.emit(&I::Unreachable);
        if tape.polls_at_entry {
            self.land(0, Place::Entry, 0);
        }
    }

    /// What is between two steps.
    fn region(&mut self, range: Range<usize>, again: bool) -> Region {
        let tape = self.copy.tape;
        let mut region = Region { places: Vec::new(), targets: Vec::new() };
        let mut small = 0_usize;
        let mut at = range.start;
        while at < range.end {
            let mut place = |at: usize, place: Place, ty: BlockType| region.places.push(((at, place), ty));
            match &tape.steps[at] {
                Step::Open(open) if !open.suspends() => at = open.end,
                Step::Open(open) if open.kind == Kind::Loop => {
                    place(at, Place::Landing, BlockType::Empty);
                    let points = if is_large(open) { open.points.len() } else { 1 };
                    region.targets.extend(std::iter::repeat_n((at, Place::Landing), points));
                    if is_large(open) {
                        at = open.end;
                    } else {
                        small += 1;
                    }
                }
                Step::Point(_) => {
                    place(at, Place::Landing, BlockType::Empty);
                    if again && small == 0 {
                        place(at, Place::Behind, BlockType::Empty);
                    }
                    region.targets.push((at, Place::Landing));
                }
                Step::Else { open, .. } => place(*open, Place::Otherwise, BlockType::Empty),
                Step::End { open: Some(start), .. } => {
                    let Step::Open(open) = &tape.steps[*start] else { break };
                    match open.kind {
                        Kind::If if open.points_else.is_none() => place(*start, Place::Otherwise, BlockType::Empty),
                        Kind::Loop => {
                            place(*start, Place::Head, self.copy.types.block(&open.parameters));
                            small -= 1;
                        }
                        Kind::If | Kind::Block => {}
                    }
                    place(*start, Place::Exit, self.copy.types.block(&open.results));
                }
                _ => {}
            }
            at += 1;
        }
        region
    }

    fn open_places(&mut self, region: &Region) {
        for (mark, ty) in region.places.iter().rev() {
            let label = self.copy.code.block(*ty);
            self.labels.insert(*mark, label);
        }
    }

    /// The innermost block ends here: it is this one.
    fn end_place(&mut self, at: usize, place: Place) {
        self.labels.remove(&(at, place));
        self.copy.code.end();
    }

    fn branch(&mut self, at: usize, place: Place) {
        self.copy.code.branch(self.labels[&(at, place)]);
    }

    /// Leads to the point that is pending, of those from `first` on.
    fn branch_to_points(&mut self, first: u32, targets: &[Mark], other: Mark) {
        let code = &mut self.copy.code;
        let depths: Vec<u32> = targets.iter().map(|mark| code.distance(self.labels[mark])).collect();
        let other = code.distance(self.labels[&other]);
        code.emit_all(&[I::LocalGet(self.copy.homes.pending()), I::I32Const(first as i32 + 1), I::I32Sub]);
        code.emit(&I::BrTable(depths.into(), other));
    }

    /// Where a table leads for a point: the frame is rebuilt, and the activation runs.
    fn land(&mut self, at: usize, place: Place, point: u32) {
        self.end_place(at, place);
        self.copy.restore(point);
        self.passed = true;
        self.stretch = Stretch::Closed;
    }

    /// Begins a stretch, unless one is open.
    fn stretch(&mut self) {
        if self.stretch == Stretch::Closed {
            self.stretch = Stretch::Open;
            self.copy.give(self.base, &self.operands);
        }
    }

    /// Ends a stretch with these operands.
    fn close(&mut self, operands: &[Value]) {
        if self.stretch == Stretch::Open {
            self.stretch = Stretch::Closed;
            self.copy.take(self.base, operands);
        }
    }

    fn enter(&mut self, at: usize, open: &Open) {
        self.close(&open.operands);
        let around = self.base;
        self.base = open.inner_base();
        let ways = match open.kind {
            Kind::Block => {
                self.copy.code.enter(self.labels[&(at, Place::Exit)]);
                Ways::Straight
            }
            Kind::If => {
                if self.passed {
                    let condition = self.copy.homes.of(around + open.operands.len() as u32 - 1, Value::I32);
                    let otherwise = self.copy.code.distance(self.labels[&(at, Place::Otherwise)]);
                    self.copy.code.emit_all(&[I::LocalGet(condition), I::I32Eqz, I::BrIf(otherwise)]);
                }
                self.copy.code.enter(self.labels[&(at, Place::Exit)]);
                Ways::Straight
            }
            Kind::Loop if is_large(open) => self.enter_large_loop(at, open),
            Kind::Loop => {
                if self.passed {
                    self.copy.give(self.base, &open.parameters);
                    self.branch(at, Place::Head);
                }
                self.land(at, Place::Landing, open.points.start);
                self.copy.code.enter(self.labels[&(at, Place::Head)]);
                Ways::Clean
            }
        };
        self.blocks.push(Around { base: around, ways });
        self.operands = open.parameters.clone();
    }

    fn enter_large_loop(&mut self, at: usize, open: &Open) -> Ways {
        self.end_place(at, Place::Landing);
        self.passed = true;
        let mut region = self.region(at + 1..open.end, true);
        region.places.splice(..0, [Place::Landing, Place::Behind].map(|place| ((at, place), BlockType::Empty)));
        region.places.push(((at, Place::Head), self.copy.types.block(&open.parameters)));
        region.targets.insert(0, (at, Place::Landing));
        let exit_type = self.copy.types.block(&open.results);
        let exit = self.copy.code.block(exit_type);
        let again = self.copy.code.loop_(BlockType::Empty);
        self.open_places(&region);
        self.copy.code.enter(self.labels[&(at, Place::Head)]);
        self.copy.code.emit(&I::LocalGet(self.copy.homes.pending()));
        self.copy.code.if_rarely();
        self.branch_to_points(open.points.start, &region.targets, (at, Place::Landing));
        self.copy.code.end();
        self.copy.poll(open.points.start);
        self.branch(at, Place::Behind);
        self.land(at, Place::Landing, open.points.start);
        self.end_place(at, Place::Behind);
        Ways::Again { exit, again }
    }

    /// The way from the first part of an `if` to its other.
    fn part(&mut self, at: usize, open: &Open, reached: bool) {
        self.arrive_at_end(reached);
        self.branch(at, Place::Exit);
        self.end_place(at, Place::Otherwise);
        self.operands = open.parameters.clone();
    }

    /// Has the results on the stack, if this end is ever reached.
    fn arrive_at_end(&mut self, reached: bool) {
        if reached && self.passed {
            self.stretch();
        } else {
            self.copy.code.emit(&I::Unreachable);
        }
        self.stretch = Stretch::Closed;
    }

    fn leave(&mut self, start: usize, open: &Open, reached: bool) -> Result<(), NotMovable> {
        self.arrive_at_end(reached);
        let Some(around) = self.blocks.pop() else { return Ok(()) };
        self.copy.code.leave();
        match around.ways {
            Ways::Straight => {
                if open.kind == Kind::If && open.points_else.is_none() {
                    // Without `else` the parameters are the results.
                    self.branch(start, Place::Exit);
                    self.end_place(start, Place::Otherwise);
                    self.copy.give(self.base, &open.results);
                }
                self.end_place(start, Place::Exit);
            }
            Ways::Clean => {
                self.branch(start, Place::Exit);
                self.end_place(start, Place::Head);
                self.copy.clean_loop(start, open, OnStack::Parameters)?;
                self.end_place(start, Place::Exit);
            }
            Ways::Again { exit, again } => {
                self.copy.code.branch(exit);
                self.end_place(start, Place::Head);
                self.copy.take(self.base, &open.parameters);
                self.copy.code.branch(again);
                self.copy.code.end();
                self.copy.code.emit(&I::Unreachable);
                self.copy.code.end();
            }
        }
        self.base = around.base;
        self.copy.take(open.inner_base(), &open.results);
        self.operands = open.below().iter().chain(&open.results).copied().collect();
        Ok(())
    }

    fn call(&mut self, at: usize, call: &Call<'a>) {
        let kept = &call.operands[..call.operands.len() - call.taken];
        let top = call.base + kept.len() as u32;
        let again = self.labels.contains_key(&(at, Place::Behind));
        if self.passed {
            self.close(&call.operands);
            let copy = &mut *self.copy;
            if !again {
                copy.push(call.point);
            }
            copy.give(top, &call.operands[kept.len()..]);
            copy.call(&call.callee);
            if again {
                copy.take(top, &call.results);
                copy.follow(call.point);
                self.branch(at, Place::Behind);
            } else {
                // Should the call have been suspended, whoever is resumed first leaves other results.
                copy.carry(&call.results);
                copy.code.branch_to_end();
            }
        }
        self.land(at, Place::Landing, call.point);
        self.copy.fetch(top, &call.results);
        if again {
            self.end_place(at, Place::Behind);
        }
        self.operands = kept.iter().chain(&call.results).copied().collect();
    }
}
