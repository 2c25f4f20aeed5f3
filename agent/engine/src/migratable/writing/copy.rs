//! What both copies of a function are written with: the parts that poll, spill, and move operands to and from locals.

use wasm_encoder::{Instruction as I, MemArg, RefType, ValType};

use crate::migratable::{
    plan::Ids,
    reading::{
        reason::NotMovable,
        tape::{Callee, Tape},
        value::Value,
    },
    writing::{
        code::{Code, Homes, Types, Written},
        frame::{Frame, HEADER_BYTES, Slot, Slots},
        shared::{Part, Shape, Shared},
    },
};

/// Locals that engines take in one function.
const LOCALS_MAX: usize = 50_000;

/// One copy of a function while it is written.
pub(in crate::migratable) struct Copy<'w, 'a> {
    pub code: Code,
    pub homes: Homes,
    pub tape: &'w Tape<'a>,
    pub frames: &'w [Frame],
    pub ids: &'w Ids,
    pub types: &'w mut Types,
    pub shared: &'w mut Shared,
    /// The number of its resume copy, which its frames carry.
    pub function: u32,
    /// What this function may grow to, in bytes.
    pub bytes_max: usize,
    pub ending: Ending,
}

/// How a copy hands over its results.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::migratable) enum Ending {
    /// As the module's function does.
    Returned,
    /// In globals, to whichever resume copy is called next.
    Carried,
}

impl<'w, 'a> Copy<'w, 'a> {
    #[expect(clippy::too_many_arguments, reason = "one for each thing that a copy is written with")]
    pub(crate) fn new(
        tape: &'w Tape<'a>,
        frames: &'w [Frame],
        ids: &'w Ids,
        types: &'w mut Types,
        shared: &'w mut Shared,
        function: u32,
        bytes_max: usize,
        ending: Ending,
    ) -> Self {
        let homes = Homes::new(tape.locals.len() as u32);
        Self { code: Code::default(), homes, tape, frames, ids, types, shared, function, bytes_max, ending }
    }

    /// Refuses a function that grows without measure.
    pub(crate) fn check_size(&self) -> Result<(), NotMovable> {
        if self.code.len() > self.bytes_max {
            return Err(NotMovable::TooLarge { what: "loops in a function are nested so deeply that its build would be huge" });
        }
        Ok(())
    }

    /// Writes the function down. A fast copy has parameters, a resume copy has them as locals.
    pub(crate) fn finish(self, parameters: usize) -> Result<Written, NotMovable> {
        let mut locals = Vec::with_capacity(self.tape.locals.len());
        for local in &self.tape.locals[parameters..] {
            locals.push(match Value::of(*local) {
                Some(value) => value.into(),
                None if *local == wasmparser::ValType::FUNCREF => ValType::Ref(RefType::FUNCREF),
                None => return Err(NotMovable::References),
            });
        }
        locals.extend(self.homes.types());
        if locals.len() + parameters > LOCALS_MAX {
            return Err(NotMovable::TooLarge { what: "a function would have too many locals" });
        }
        Ok(self.code.finish(locals))
    }

    /// Moves the uppermost operands into their locals.
    pub(crate) fn take(&mut self, base: u32, operands: &[Value]) {
        for (at, value) in operands.iter().enumerate().rev() {
            let home = self.homes.of(base + at as u32, *value);
            self.code.emit(&I::LocalSet(home));
        }
    }

    /// Puts operands back from their locals.
    pub(crate) fn give(&mut self, base: u32, operands: &[Value]) {
        for (height, value) in (base..).zip(operands) {
            let home = self.homes.of(height, *value);
            self.code.emit(&I::LocalGet(home));
        }
    }

    /// Leaves copies of the uppermost operands in their locals.
    pub(crate) fn note(&mut self, base: u32, operands: &[Value]) {
        self.take(base, operands);
        self.give(base, operands);
    }

    /// Unwinds at a point if the flag is up.
    ///
    /// The load is atomic because nobody but the host writes the flag: a compiler takes an ordinary load for one that
    /// an earlier poll has made already, and a loop that stores nothing would never see the flag again.
    pub(crate) fn poll(&mut self, point: u32) {
        let at = MemArg { offset: 0, align: 2, memory_index: self.ids.stack };
        self.code.emit_all(&[I::I32Const(0), I::I32AtomicLoad(at)]);
        self.code.if_rarely();
        self.spill(point);
        self.code.end();
    }

    /// Unwinds at a point if the call before it was suspended.
    pub(crate) fn follow(&mut self, point: u32) {
        self.code.emit(&I::GlobalGet(self.ids.state));
        self.code.if_rarely();
        self.spill(point);
        self.code.end();
    }

    /// Writes the frame of a point down, to be found when what is called now has ended.
    pub(crate) fn push(&mut self, point: u32) {
        self.write_frame(point, Shared::push);
    }

    /// Writes the frame of a point and returns.
    fn spill(&mut self, point: u32) {
        self.write_frame(point, Shared::spill);
        let results = if self.ending == Ending::Returned { &self.tape.results[..] } else { &[] };
        for result in results {
            match Value::of(*result) {
                Some(value) => self.code.emit(&value.zero()),
                None => self.code.emit(&I::RefNull(wasm_encoder::HeapType::FUNC)),
            }
        }
        // Unlike `return`, a branch to the end shares what the compiler puts there.
        self.code.branch_to_end();
    }

    fn write_frame(&mut self, point: u32, how: fn(&mut Shared, Part, Shape) -> u32) {
        let frames = self.frames;
        for Slots { part, shape, slots } in frames[point as usize].parts() {
            for (slot, value) in slots {
                let local = self.local(*slot, *value);
                self.code.emit(&I::LocalGet(local));
            }
            if part == Part::Last {
                let bytes = frames[point as usize].bytes();
                self.code.emit_all(&[
                    I::I32Const(bytes as i32),
                    I::I32Const(point as i32 + 1),
                    I::I32Const(self.function as i32),
                ]);
            }
            self.code.emit(&I::Call(how(self.shared, part, shape)));
        }
    }

    /// Takes the frame of a point back, and lets the activation run.
    pub(crate) fn restore(&mut self, point: u32) {
        let frames = self.frames;
        for Slots { part, shape, slots } in frames[point as usize].parts().into_iter().rev() {
            self.code.emit(&I::Call(self.shared.restore(part, shape)));
            for (slot, value) in slots.iter().rev() {
                let local = self.local(*slot, *value);
                self.code.emit(&I::LocalSet(local));
            }
        }
        let pending = self.homes.pending();
        self.code.emit_all(&[I::I32Const(0), I::LocalSet(pending)]);
    }

    /// Loads one of the numbers at the end of the uppermost frame.
    pub(crate) fn header(&mut self, number: Header) {
        self.code.emit_all(&number.load(self.ids));
    }

    pub(crate) fn call(&mut self, callee: &Callee<'a>) {
        match callee {
            Callee::Function(function) => self.code.emit(&I::Call(self.ids.function(*function))),
            Callee::Table(instruction) => self.code.raw(instruction),
        }
    }

    fn local(&mut self, slot: Slot, value: Value) -> u32 {
        match slot {
            Slot::Local(local) => local,
            Slot::Operand(height) => self.homes.of(height, value),
        }
    }
}

/// A number in a frame.
pub(in crate::migratable) enum Header {
    Point,
    Function,
}

impl Header {
    /// Loads it from the uppermost frame.
    pub(crate) fn load(self, ids: &Ids) -> [I<'static>; 4] {
        let offset = match self {
            Self::Point => 4,
            Self::Function => 8,
        };
        [I::GlobalGet(ids.stack_pointer), I::I32Const(HEADER_BYTES as i32), I::I32Sub, Value::I32.load(ids.stack, offset)]
    }
}
