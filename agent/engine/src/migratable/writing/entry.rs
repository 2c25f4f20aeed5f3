//! The functions that a build has of its own: the entry, what makes room for frames, and what a restore must repeat.

use wasm_encoder::{BlockType, Function, Instruction as I, ValType};

use crate::migratable::{
    contract::{self, State},
    plan::Plan,
    reading::{source::Source, value::Value},
    writing::{copy::Header, frame::HEADER_BYTES},
};

const PAGE_SHIFT: i32 = 16;
const STACK_BASE: i32 = contract::STACK_BASE as i32;
/// Frames are made of these.
const WORD_BYTES: i32 = 4;
/// The entry's own: in which of the two functions that it calls it was.
const STAGE_BYTES: i32 = WORD_BYTES;

/// `(bytes) -> address`: moves the stack pointer and grows the memory, and traps when it may not grow.
pub(in crate::migratable) fn reserve(plan: &Plan) -> Function {
    let (sp, memory) = (plan.ids.stack_pointer, plan.ids.stack);
    let (bytes, address, end) = (0, 1, 2);
    let mut function = Function::new([(2, ValType::I32)]);
    for instruction in [
        I::GlobalGet(sp),
        I::LocalTee(address),
        I::LocalGet(bytes),
        I::I32Add,
        I::LocalTee(end),
        I::MemorySize(memory),
        I::I32Const(PAGE_SHIFT),
        I::I32Shl,
        I::I32GtU,
        I::If(BlockType::Empty),
        // Pages that are missing, rounded up.
        I::LocalGet(end),
        I::MemorySize(memory),
        I::I32Const(PAGE_SHIFT),
        I::I32Shl,
        I::I32Sub,
        I::I32Const((1 << PAGE_SHIFT) - 1),
        I::I32Add,
        I::I32Const(PAGE_SHIFT),
        I::I32ShrU,
        I::MemoryGrow(memory),
        I::I32Const(-1),
        I::I32Eq,
        I::If(BlockType::Empty),
        I::Unreachable,
        I::End,
        I::End,
        I::LocalGet(end),
        I::GlobalSet(sp),
        I::LocalGet(address),
        I::End,
    ] {
        function.instruction(&instruction);
    }
    function
}

/// `(from, to)`: turns the words between two addresses around.
pub(in crate::migratable) fn reverse(plan: &Plan) -> Function {
    let (from, to, word) = (0, 1, 2);
    let (load, store) = (Value::I32.load(plan.ids.stack, 0), Value::I32.store(plan.ids.stack, 0));
    let mut function = Function::new([(1, ValType::I32)]);
    for instruction in [
        I::Block(BlockType::Empty),
        I::Loop(BlockType::Empty),
        I::LocalGet(to),
        I::I32Const(WORD_BYTES),
        I::I32Sub,
        I::LocalTee(to),
        I::LocalGet(from),
        I::I32LeU,
        I::BrIf(1),
        I::LocalGet(from),
        load.clone(),
        I::LocalSet(word),
        I::LocalGet(from),
        I::LocalGet(to),
        load,
        store.clone(),
        I::LocalGet(to),
        I::LocalGet(word),
        store,
        I::LocalGet(from),
        I::I32Const(WORD_BYTES),
        I::I32Add,
        I::LocalSet(from),
        I::Br(0),
        I::End,
        I::End,
        I::End,
    ] {
        function.instruction(&instruction);
    }
    function
}

/// `lull_run`: the start function, if there is one, then `_start`; in state 2 first what was suspended.
///
/// ```text
/// stage, i32 | outermost frame | .. | innermost frame |  <- lull_sp
/// ```
/// The frames lie as the activations do on a stack. The innermost is taken and finished, then the one that called it,
/// until none is left; an activation that calls once more leaves its frame and the results of the call, and is entered
/// again behind it ([`crate::migratable::writing::resume`]). An unwinding leaves its frames the other way around, the innermost first, above those that were
/// not taken yet: their words are turned around all together, and then those of each.
///
/// It is here that the host is asked, when a poll has fired and all frames are spilled. Should the program go on after
/// all, it goes on in the same way.
pub(in crate::migratable) fn run(source: &Source<'_>, plan: &Plan, resume_type: u32) -> Function {
    let ids = &plan.ids;
    let (next, from, to) = (0, 1, 2);
    let mut function = Function::new([(3, ValType::I32)]);
    let mut emit = |instructions: &[I<'_>]| {
        for instruction in instructions {
            function.instruction(instruction);
        }
    };
    emit(&[
        I::GlobalGet(ids.state),
        I::I32Eqz,
        I::If(BlockType::Empty),
        I::I32Const(STAGE_BYTES),
        I::Call(ids.reserve),
        I::Drop,
        I::Else,
        I::I32Const(STACK_BASE),
        Value::I32.load(ids.stack, 0),
        I::I32Const(1),
        I::I32Add,
        I::LocalSet(next),
        I::End,
        // Again when the program goes on after all.
        I::Loop(BlockType::Empty),
        I::Block(BlockType::Empty),
    ]);
    if plan.needs_table() {
        emit(&[
            I::I32Const(State::Running as i32),
            I::GlobalSet(ids.state),
            I::Loop(BlockType::Empty),
            I::GlobalGet(ids.stack_pointer),
            I::I32Const(STACK_BASE + STAGE_BYTES),
            I::I32GtU,
            I::If(BlockType::Empty),
        ]);
        emit(&Header::Function.load(ids));
        emit(&[
            I::CallIndirect { type_index: resume_type, table_index: ids.table },
            I::GlobalGet(ids.state),
            I::I32Eqz,
            I::BrIf(1),
            I::Br(2),
            I::End,
            I::End,
        ]);
    }
    for (stage, called) in (0..).zip([source.start, Some(source.entry)]) {
        let Some(called) = called else { continue };
        emit(&[
            I::LocalGet(next),
            I::I32Const(stage),
            I::I32LeU,
            I::If(BlockType::Empty),
            I::I32Const(stage + 1),
            I::LocalSet(next),
            I::I32Const(STACK_BASE),
            I::I32Const(stage),
            Value::I32.store(ids.stack, 0),
            I::GlobalGet(ids.stack_pointer),
            I::GlobalSet(ids.mark),
            I::Call(ids.function(called)),
            I::GlobalGet(ids.state),
            I::BrIf(1),
            I::End,
        ]);
    }
    emit(&[
        I::I32Const(STACK_BASE),
        I::GlobalSet(ids.stack_pointer),
        I::Return,
        I::End,
        // All frames are spilled: they are put into their order.
        I::GlobalGet(ids.mark),
        I::LocalTee(from),
        I::GlobalGet(ids.stack_pointer),
        I::Call(ids.reverse),
        I::Loop(BlockType::Empty),
        I::LocalGet(from),
        I::LocalGet(from),
        // The header came to the front, last word first.
        I::LocalGet(from),
        Value::I32.load(ids.stack, HEADER_BYTES - WORD_BYTES as u32),
        I::I32Add,
        I::LocalTee(to),
        I::Call(ids.reverse),
        I::LocalGet(to),
        I::LocalTee(from),
        I::GlobalGet(ids.stack_pointer),
        I::I32LtU,
        I::BrIf(0),
        I::End,
        I::Call(ids.poll),
        I::I32Eqz,
        I::BrIf(0),
        I::End,
        I::End,
    ]);
    function
}

/// `lull_restored`: drops the passive data that had been dropped when the snapshot was taken.
pub(in crate::migratable) fn restored(plan: &Plan) -> Function {
    let mut function = Function::new([]);
    for (segment, global) in &plan.ids.dropped {
        for instruction in [I::GlobalGet(*global), I::If(BlockType::Empty), I::DataDrop(*segment), I::End] {
            function.instruction(&instruction);
        }
    }
    function.instruction(&I::End);
    function
}
