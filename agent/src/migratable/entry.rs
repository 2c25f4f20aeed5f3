//! The functions that a build has of its own: the entry, what makes room for frames, and what a restore must repeat.

use wasm_encoder::{BlockType, Function, Instruction as I, ValType};

use super::{contract::State, plan::Plan, source::Source, value::Value};

const PAGE_SHIFT: i32 = 16;
/// The entry's own frame: in which of the two functions that it calls it was.
const STAGE_BYTES: i32 = 4;

/// `(bytes) -> address`: moves the stack pointer and grows the memory, and traps when it may not grow.
pub(super) fn reserve(plan: &Plan) -> Function {
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

/// `lull_run`: the start function, if there is one, then `_start`; in state 2 whichever was suspended.
///
/// It is here that the host is asked, when a poll has fired and all frames are spilled. Should the program go on after
/// all, it is rewound on the spot.
pub(super) fn run(source: &Source<'_>, plan: &Plan) -> Function {
    let ids = &plan.ids;
    let stage = 0;
    let mut function = Function::new([(1, ValType::I32)]);
    let mut emit = |instructions: &[I<'_>]| {
        for instruction in instructions {
            function.instruction(instruction);
        }
    };
    emit(&[
        I::Loop(BlockType::Empty),
        I::GlobalGet(ids.state),
        I::If(BlockType::Empty),
        I::GlobalGet(ids.stack_pointer),
        I::I32Const(STAGE_BYTES),
        I::I32Sub,
        I::GlobalSet(ids.stack_pointer),
        I::GlobalGet(ids.stack_pointer),
        Value::I32.load(ids.stack, 0),
        I::LocalSet(stage),
        I::End,
        I::Block(BlockType::Empty),
    ]);
    for (number, called) in (0..).zip([source.start, Some(source.entry)]) {
        let Some(called) = called else { continue };
        emit(&[I::LocalGet(stage), I::I32Const(number), I::I32LeU, I::If(BlockType::Empty)]);
        let resume = called.checked_sub(source.imported).and_then(|defined| ids.resume.get(&defined));
        if let Some(resume) = resume {
            emit(&[
                I::I32Const(number),
                I::LocalSet(stage),
                I::GlobalGet(ids.state),
                I::If(BlockType::Empty),
                I::Call(*resume),
                I::Else,
                I::Call(ids.function(called)),
                I::End,
                I::GlobalGet(ids.state),
                I::BrIf(1),
            ]);
        } else {
            emit(&[I::Call(ids.function(called))]);
        }
        emit(&[I::End]);
    }
    emit(&[
        I::Return,
        I::End,
        I::I32Const(STAGE_BYTES),
        I::Call(ids.reserve),
        I::LocalGet(stage),
        Value::I32.store(ids.stack, 0),
        I::Call(ids.poll),
        I::If(BlockType::Empty),
        I::Return,
        I::End,
        I::I32Const(State::Rewinding as i32),
        I::GlobalSet(ids.state),
        I::Br(0),
        I::End,
        I::End,
    ]);
    function
}

/// `lull_restored`: drops the passive data that had been dropped when the snapshot was taken.
pub(super) fn restored(plan: &Plan) -> Function {
    let mut function = Function::new([]);
    for (segment, global) in &plan.ids.dropped {
        for instruction in [I::GlobalGet(*global), I::If(BlockType::Empty), I::DataDrop(*segment), I::End] {
            function.instruction(&instruction);
        }
    }
    function.instruction(&I::End);
    function
}
