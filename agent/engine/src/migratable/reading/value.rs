//! The types of values that can be written into a frame.

use wasm_encoder::{ConstExpr, Instruction, MemArg, ValType};

/// A numeric type: what a frame can hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::migratable) enum Value {
    I32,
    I64,
    F32,
    F64,
    V128,
}

/// All of them, in their order.
pub(in crate::migratable) const VALUES: [Value; 5] = [Value::I32, Value::I64, Value::F32, Value::F64, Value::V128];

impl Value {
    /// The numeric type, or none for a reference.
    pub(crate) fn of(ty: wasmparser::ValType) -> Option<Self> {
        Some(match ty {
            wasmparser::ValType::I32 => Self::I32,
            wasmparser::ValType::I64 => Self::I64,
            wasmparser::ValType::F32 => Self::F32,
            wasmparser::ValType::F64 => Self::F64,
            wasmparser::ValType::V128 => Self::V128,
            wasmparser::ValType::Ref(_) => return None,
        })
    }

    /// All as numeric types, or none if a reference is among them.
    pub(crate) fn all_of(types: &[wasmparser::ValType]) -> Option<Box<[Self]>> {
        types.iter().map(|ty| Self::of(*ty)).collect()
    }

    /// Bytes in a frame.
    pub(crate) fn size(self) -> u32 {
        match self {
            Self::I32 | Self::F32 => 4,
            Self::I64 | Self::F64 => 8,
            Self::V128 => 16,
        }
    }

    pub(crate) fn load(self, memory: u32, offset: u32) -> Instruction<'static> {
        let at = argument(memory, offset);
        match self {
            Self::I32 => Instruction::I32Load(at),
            Self::I64 => Instruction::I64Load(at),
            Self::F32 => Instruction::F32Load(at),
            Self::F64 => Instruction::F64Load(at),
            Self::V128 => Instruction::V128Load(at),
        }
    }

    pub(crate) fn store(self, memory: u32, offset: u32) -> Instruction<'static> {
        let at = argument(memory, offset);
        match self {
            Self::I32 => Instruction::I32Store(at),
            Self::I64 => Instruction::I64Store(at),
            Self::F32 => Instruction::F32Store(at),
            Self::F64 => Instruction::F64Store(at),
            Self::V128 => Instruction::V128Store(at),
        }
    }

    /// Zero as a global begins with it.
    pub(crate) fn rest(self) -> ConstExpr {
        match self {
            Self::I32 => ConstExpr::i32_const(0),
            Self::I64 => ConstExpr::i64_const(0),
            Self::F32 => ConstExpr::f32_const(0.0.into()),
            Self::F64 => ConstExpr::f64_const(0.0.into()),
            Self::V128 => ConstExpr::v128_const(0),
        }
    }

    pub(crate) fn zero(self) -> Instruction<'static> {
        match self {
            Self::I32 => Instruction::I32Const(0),
            Self::I64 => Instruction::I64Const(0),
            Self::F32 => Instruction::F32Const(0.0.into()),
            Self::F64 => Instruction::F64Const(0.0.into()),
            Self::V128 => Instruction::V128Const(0),
        }
    }
}

impl From<Value> for ValType {
    fn from(value: Value) -> Self {
        match value {
            Value::I32 => Self::I32,
            Value::I64 => Self::I64,
            Value::F32 => Self::F32,
            Value::F64 => Self::F64,
            Value::V128 => Self::V128,
        }
    }
}

/// Frames are aligned to four bytes; the alignment is a hint only.
fn argument(memory_index: u32, offset: u32) -> MemArg {
    MemArg { offset: offset.into(), align: 2, memory_index }
}
