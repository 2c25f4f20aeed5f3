//! Random programs that end, and on their way do what makes suspending hard: operands that lie below blocks, loops with
//! parameters, calls in the midst of expressions, recursion, tables, branches out of everything, code nobody reaches.
//!
//! Every loop and every call takes one from a budget in a global, and goes no further when it is used up.

use rand::{Rng as _, RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use wasm_encoder::{
    BlockType, CodeSection, ConstExpr, DataCountSection, DataSection, ElementSection, Elements, Encode as _, ExportKind,
    ExportSection, Function, FunctionSection, GlobalSection, GlobalType, Instruction as I, MemArg, MemorySection, MemoryType,
    Module, RefType, StartSection, TableSection, TableType, TypeSection, ValType,
};

const TYPES: [ValType; 5] = [ValType::I32, ValType::I64, ValType::F32, ValType::F64, ValType::V128];
/// Rounds and calls of a run: some hundred polls.
const BUDGET: std::ops::Range<i32> = 100..1_500;
/// Addresses are cut to this many bits, so that most loads hit.
const ADDRESS_MASK: i32 = 0x7ff8;
const DATA_BYTES: usize = 64;
/// Instructions in one function, about.
const SIZE: u32 = 260;

/// Locals that loops take for themselves.
const OF_LOOPS: [ValType; 3] = [ValType::I32, ValType::I64, ValType::I32];

/// The global with the budget; the others follow, two of each type.
const BUDGET_GLOBAL: u32 = 0;

/// Writes the program of a seed.
pub fn program(seed: u64) -> Vec<u8> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let shape = Shape::new(&mut random);
    shape.module(&mut random)
}

type Signature = (Vec<ValType>, Vec<ValType>);

/// What the functions of a program know of each other.
struct Shape {
    signatures: Vec<Signature>,
    /// The signature of each function; the last is `_start`.
    functions: Vec<usize>,
    memories: u32,
    segments: u32,
    /// Functions in the table; the last entries are empty.
    table: Vec<u32>,
    budget: i32,
    start: Option<u32>,
}

impl Shape {
    fn new(random: &mut ChaCha8Rng) -> Self {
        let mut signatures: Vec<Signature> = vec![(Vec::new(), Vec::new())];
        for _ in 0..random.random_range(1..5) {
            signatures.push((types(random, 4), types(random, 3)));
        }
        let mut functions: Vec<usize> =
            (0..random.random_range(1..7)).map(|_| random.random_range(0..signatures.len())).collect();
        functions.push(0);
        let table = (0..random.random_range(1..8)).map(|_| random.random_range(0..functions.len() as u32 - 1)).collect();
        let idle = functions.iter().position(|signature| *signature == 0).map(|at| at as u32);
        Self {
            memories: random.random_range(1..3),
            segments: random.random_range(0..3),
            budget: random.random_range(BUDGET),
            start: idle.filter(|at| *at as usize + 1 < functions.len() && random.random_ratio(1, 3)),
            signatures,
            functions,
            table,
        }
    }

    fn module(&self, random: &mut ChaCha8Rng) -> Vec<u8> {
        let mut module = Module::new();
        let mut types = TypeSection::new();
        for (parameters, results) in &self.signatures {
            types.ty().function(parameters.iter().copied(), results.iter().copied());
        }
        // The bodies come first because they add types of blocks.
        let mut added = Vec::new();
        let mut code = CodeSection::new();
        for function in 0..self.functions.len() {
            code.function(&Body::new(self, &mut added, random, function).write());
        }
        for (parameters, results) in &added {
            types.ty().function(parameters.iter().copied(), results.iter().copied());
        }
        module.section(&types);
        let mut functions = FunctionSection::new();
        for signature in &self.functions {
            functions.function(*signature as u32);
        }
        module.section(&functions);
        let size = self.table.len() as u64 + 1;
        let mut tables = TableSection::new();
        tables.table(TableType {
            element_type: RefType::FUNCREF,
            table64: false,
            minimum: size,
            maximum: Some(size),
            shared: false,
        });
        module.section(&tables);
        let mut memories = MemorySection::new();
        for _ in 0..self.memories {
            memories.memory(MemoryType { minimum: 1, maximum: Some(3), memory64: false, shared: false, page_size_log2: None });
        }
        module.section(&memories);
        module.section(&self.globals());
        module.section(&self.exports());
        if let Some(function_index) = self.start {
            module.section(&StartSection { function_index });
        }
        let mut elements = ElementSection::new();
        elements.active(None, &ConstExpr::i32_const(0), Elements::Functions(self.table.as_slice().into()));
        module.section(&elements);
        module.section(&DataCountSection { count: self.segments });
        module.section(&code);
        let mut data = DataSection::new();
        for _ in 0..self.segments {
            let mut bytes = [0; DATA_BYTES];
            random.fill_bytes(&mut bytes);
            data.passive(bytes);
        }
        module.section(&data);
        module.finish()
    }

    fn globals(&self) -> GlobalSection {
        let mut globals = GlobalSection::new();
        let ty = |val_type| GlobalType { val_type, mutable: true, shared: false };
        globals.global(ty(ValType::I32), &ConstExpr::i32_const(self.budget));
        for val_type in TYPES.into_iter().flat_map(|ty| [ty, ty]) {
            let mut zero = Vec::new();
            constant(val_type, 7).encode(&mut zero);
            globals.global(ty(val_type), &ConstExpr::raw(zero));
        }
        globals
    }

    fn exports(&self) -> ExportSection {
        let mut exports = ExportSection::new();
        exports.export("_start", ExportKind::Func, self.functions.len() as u32 - 1);
        for at in 0..self.memories {
            exports.export(&format!("m{at}"), ExportKind::Memory, at);
        }
        for at in 0..=2 * TYPES.len() as u32 {
            exports.export(&format!("g{at}"), ExportKind::Global, at);
        }
        exports
    }
}

fn types(random: &mut ChaCha8Rng, most: usize) -> Vec<ValType> {
    (0..random.random_range(0..most)).map(|_| a_type(random)).collect()
}

fn a_type(random: &mut ChaCha8Rng) -> ValType {
    // Most programs count in integers.
    if random.random_ratio(1, 2) { ValType::I32 } else { TYPES[random.random_range(0..TYPES.len())] }
}

fn constant(ty: ValType, value: u64) -> I<'static> {
    match ty {
        ValType::I32 => I::I32Const(value as i32),
        ValType::I64 => I::I64Const(value as i64),
        ValType::F32 => I::F32Const((value as f32).into()),
        ValType::F64 => I::F64Const((value as f64).into()),
        _ => I::V128Const(value as i128 * 0x1_0001_0001),
    }
}

fn global_of(ty: ValType, nth: u32) -> u32 {
    1 + 2 * TYPES.iter().position(|known| *known == ty).unwrap_or_default() as u32 + nth
}

/// One function while it is written.
struct Body<'s> {
    shape: &'s Shape,
    /// Types of blocks, for which the module gets types behind its signatures.
    added: &'s mut Vec<Signature>,
    random: &'s mut ChaCha8Rng,
    code: Function,
    locals: Vec<ValType>,
    /// How many of the locals anybody uses; the others belong to loops, which only read them where a round begins.
    common: usize,
    results: Vec<ValType>,
    /// What a branch to each open block takes, and whether it leads backwards.
    labels: Vec<(Vec<ValType>, Way)>,
    left: u32,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Out,
    Back,
}

impl<'s> Body<'s> {
    fn new(shape: &'s Shape, added: &'s mut Vec<Signature>, random: &'s mut ChaCha8Rng, function: usize) -> Self {
        let (parameters, results) = shape.signatures[shape.functions[function]].clone();
        let mut own: Vec<ValType> = (0..random.random_range(1..7)).map(|_| a_type(random)).collect();
        let common = parameters.len() + own.len();
        own.extend(OF_LOOPS);
        let code = Function::new_with_locals_types(own.iter().copied());
        let locals = parameters.into_iter().chain(own).collect();
        Self { shape, added, random, code, locals, common, labels: vec![(results.clone(), Way::Out)], results, left: SIZE }
    }

    fn write(mut self) -> Function {
        self.spend();
        self.emit(&[I::GlobalGet(BUDGET_GLOBAL), I::I32Const(0), I::I32LeS, I::If(BlockType::Empty)]);
        for result in self.results.clone() {
            self.emit(&[constant(result, 1)]);
        }
        self.emit(&[I::Return, I::End]);
        self.statements(0);
        for result in self.results.clone() {
            self.value(result, 0);
        }
        self.emit(&[I::End]);
        self.code
    }

    fn emit(&mut self, instructions: &[I<'_>]) {
        for instruction in instructions {
            self.code.instruction(instruction);
        }
        self.left = self.left.saturating_sub(instructions.len() as u32);
    }

    fn chance(&mut self, of: u32) -> bool {
        self.random.random_ratio(1, of)
    }

    /// Takes one from the budget.
    fn spend(&mut self) {
        self.emit(&[I::GlobalGet(BUDGET_GLOBAL), I::I32Const(1), I::I32Sub, I::GlobalSet(BUDGET_GLOBAL)]);
    }

    fn local(&mut self, ty: ValType) -> Option<u32> {
        let of_type: Vec<u32> =
            (0..).zip(&self.locals[..self.common]).filter(|(_, local)| **local == ty).map(|(at, _)| at).collect();
        if of_type.is_empty() { None } else { Some(of_type[self.random.random_range(0..of_type.len())]) }
    }

    fn block_type(&mut self, parameters: &[ValType], results: &[ValType]) -> BlockType {
        match (parameters, results) {
            ([], []) => BlockType::Empty,
            ([], [one]) => BlockType::Result(*one),
            _ => {
                let key = (parameters.to_vec(), results.to_vec());
                let at = self.added.iter().position(|known| *known == key).unwrap_or_else(|| {
                    self.added.push(key);
                    self.added.len() - 1
                });
                BlockType::FunctionType((self.shape.signatures.len() + at) as u32)
            }
        }
    }

    fn statements(&mut self, depth: u32) {
        if self.chance(3) {
            self.observe_any();
        }
        for _ in 0..self.random.random_range(1..4) {
            self.statement(depth);
        }
    }

    fn statement(&mut self, depth: u32) {
        let deep = depth > 5 || self.left == 0;
        match self.random.random_range(0..if deep { 5 } else { 12 }) {
            0 | 1 => {
                let local = self.random.random_range(0..self.common);
                self.value(self.locals[local], depth + 1);
                self.emit(&[I::LocalSet(local as u32)]);
            }
            2 => self.observe_any(),
            3 => self.store(depth),
            4 => self.rare(depth),
            5 | 6 => self.nested(&[], &[], depth),
            7 | 8 => {
                let (parameters, results) = (types(self.random, 3), types(self.random, 3));
                self.values(&parameters, depth + 1);
                self.nested(&parameters, &results, depth);
                results.iter().for_each(|_| self.emit(&[I::Drop]));
            }
            9 => self.branch(depth),
            _ => {
                let function = self.random.random_range(0..self.shape.functions.len() - 1);
                let results = self.call(function, depth);
                results.iter().for_each(|_| self.emit(&[I::Drop]));
            }
        }
    }

    fn observe_any(&mut self) {
        let local = self.random.random_range(0..self.common);
        self.observe(local);
    }

    /// Leaves a trace of a local in a global: whatever goes wrong shows in the end.
    fn observe(&mut self, local: usize) {
        let ty = self.locals[local];
        let global = global_of(ty, self.random.random_range(0..2));
        self.emit(&[I::GlobalGet(global), I::LocalGet(local as u32)]);
        self.combine(ty);
        self.emit(&[I::GlobalSet(global)]);
    }

    fn values(&mut self, types: &[ValType], depth: u32) {
        types.iter().for_each(|ty| self.value(*ty, depth));
    }

    /// A block, a loop or a choice whose parameters are on the stack.
    fn nested(&mut self, parameters: &[ValType], results: &[ValType], depth: u32) {
        let ty = self.block_type(parameters, results);
        match self.random.random_range(0..4) {
            0 => {
                self.emit(&[I::Block(ty)]);
                self.labels.push((results.to_vec(), Way::Out));
                self.inside(parameters, results, depth);
            }
            1 => {
                self.value(ValType::I32, depth + 1);
                self.emit(&[I::If(ty)]);
                self.labels.push((results.to_vec(), Way::Out));
                self.inside(parameters, results, depth);
                if parameters != results || !self.chance(4) {
                    self.emit(&[I::Else]);
                    self.inside(parameters, results, depth);
                }
            }
            _ => {
                let own = self.common + self.random.random_range(0..OF_LOOPS.len());
                self.value(self.locals[own], depth + 1);
                self.emit(&[I::LocalSet(own as u32), I::Loop(ty)]);
                self.labels.push((parameters.to_vec(), Way::Back));
                self.observe(own);
                self.inside(parameters, parameters, depth);
                self.again(0, depth);
                parameters.iter().for_each(|_| self.emit(&[I::Drop]));
                self.values(results, depth + 1);
            }
        }
        self.labels.pop();
        self.emit(&[I::End]);
    }

    /// Takes some operands and leaves others.
    fn inside(&mut self, taken: &[ValType], left: &[ValType], depth: u32) {
        if taken == left && self.chance(2) {
            self.statements(depth + 1);
            return;
        }
        for ty in taken.iter().rev() {
            match self.local(*ty) {
                Some(local) => self.emit(&[I::LocalSet(local)]),
                None => self.emit(&[I::Drop]),
            }
        }
        self.statements(depth + 1);
        self.values(left, depth + 1);
    }

    /// Branches back to a loop for some rounds while there is budget, with its parameters on the stack. Few rounds: an
    /// inner loop that spent it all would leave none for the loops around it.
    fn again(&mut self, label: u32, depth: u32) {
        self.spend();
        let rounds = if self.chance(8) { 63 } else { 3 };
        self.emit(&[I::GlobalGet(BUDGET_GLOBAL), I::I32Const(0), I::I32GtS]);
        self.emit(&[I::GlobalGet(BUDGET_GLOBAL), I::I32Const(rounds), I::I32And, I::I32Const(0), I::I32Ne, I::I32And]);
        if self.chance(3) {
            self.value(ValType::I32, depth + 2);
            self.emit(&[I::I32Const(7), I::I32And, I::I32Const(0), I::I32Ne, I::I32And]);
        }
        self.emit(&[I::BrIf(label)]);
    }

    fn branch(&mut self, depth: u32) {
        let label = self.random.random_range(0..self.labels.len() as u32);
        let (types, way) = self.labels[self.labels.len() - 1 - label as usize].clone();
        self.values(&types, depth + 1);
        match way {
            Way::Back => self.again(label, depth),
            Way::Out => {
                self.value(ValType::I32, depth + 1);
                let others: Vec<u32> = (0..self.labels.len() as u32)
                    .filter(|at| self.labels[self.labels.len() - 1 - *at as usize] == (types.clone(), Way::Out))
                    .collect();
                if self.chance(3) {
                    // Nothing behind it is reached, which is a case of its own.
                    self.emit(&[I::BrTable(others.into(), label)]);
                    types.iter().for_each(|ty| self.emit(&[constant(*ty, 3)]));
                } else {
                    self.emit(&[I::BrIf(label)]);
                }
            }
        }
        types.iter().for_each(|_| self.emit(&[I::Drop]));
    }

    fn call(&mut self, function: usize, depth: u32) -> Vec<ValType> {
        let signature = self.shape.functions[function];
        let (parameters, results) = self.shape.signatures[signature].clone();
        self.values(&parameters, depth + 1);
        let in_table = self.shape.table.iter().position(|entry| *entry as usize == function);
        match in_table {
            Some(at) if self.chance(2) => {
                // Now and then an entry of another type, or none.
                let at = if self.chance(40) { self.random.random_range(0..=self.shape.table.len()) } else { at };
                self.emit(&[I::I32Const(at as i32), I::CallIndirect { type_index: signature as u32, table_index: 0 }]);
            }
            _ => self.emit(&[I::Call(function as u32)]),
        }
        results
    }

    fn address(&mut self, depth: u32) -> MemArg {
        self.value(ValType::I32, depth + 1);
        self.emit(&[I::I32Const(ADDRESS_MASK), I::I32And]);
        MemArg {
            offset: self.random.random_range(0..64),
            align: 0,
            memory_index: self.random.random_range(0..self.shape.memories),
        }
    }

    fn store(&mut self, depth: u32) {
        let ty = a_type(self.random);
        let at = self.address(depth);
        self.value(ty, depth + 1);
        self.emit(&[match ty {
            ValType::I32 => I::I32Store(at),
            ValType::I64 => I::I64Store(at),
            ValType::F32 => I::F32Store(at),
            ValType::F64 => I::F64Store(at),
            _ => I::V128Store(at),
        }]);
    }

    /// What programs seldom do.
    fn rare(&mut self, depth: u32) {
        let memory = self.random.random_range(0..self.shape.memories);
        match self.random.random_range(0..12) {
            0 => self.emit(&[I::I32Const(1), I::MemoryGrow(memory), I::Drop]),
            1 => {
                self.address(depth);
                self.address(depth);
                self.emit(&[I::I32Const(48), I::MemoryCopy { src_mem: memory, dst_mem: memory }]);
            }
            2 => {
                self.address(depth);
                self.value(ValType::I32, depth + 1);
                self.emit(&[I::I32Const(24), I::MemoryFill(memory)]);
            }
            3 | 4 if self.shape.segments > 0 => {
                let data_index = self.random.random_range(0..self.shape.segments);
                if self.chance(3) {
                    self.emit(&[I::DataDrop(data_index)]);
                } else {
                    self.address(depth);
                    // Nothing, of nothing: not even a dropped segment minds. Something: it traps if it was dropped.
                    let size = if self.chance(3) { 8 } else { 0 };
                    self.emit(&[I::I32Const(0), I::I32Const(size), I::MemoryInit { mem: memory, data_index }]);
                }
            }
            5 if self.chance(8) => self.emit(&[I::Unreachable]),
            6 if self.chance(4) => {
                let results = self.results.clone();
                self.values(&results, depth + 1);
                self.emit(&[I::Return]);
            }
            _ => self.emit(&[I::Nop]),
        }
    }

    /// Pushes a value.
    fn value(&mut self, ty: ValType, depth: u32) {
        let deep = depth > 6 || self.left == 0;
        match self.random.random_range(0..if deep { 4 } else { 14 }) {
            0 => {
                let value = self.random.random_range(0..100);
                self.emit(&[constant(ty, value)]);
            }
            1 | 2 => match self.local(ty) {
                Some(local) => self.emit(&[I::LocalGet(local)]),
                None => self.emit(&[constant(ty, 5)]),
            },
            3 => {
                let global = global_of(ty, self.random.random_range(0..2));
                self.emit(&[I::GlobalGet(global)]);
            }
            4..=6 => {
                self.value(ty, depth + 1);
                self.value(ty, depth + 1);
                self.combine(ty);
            }
            7 => {
                let at = self.address(depth);
                self.emit(&[match ty {
                    ValType::I32 => I::I32Load(at),
                    ValType::I64 => I::I64Load(at),
                    ValType::F32 => I::F32Load(at),
                    ValType::F64 => I::F64Load(at),
                    _ => I::V128Load(at),
                }]);
            }
            8 => {
                let parameters = types(self.random, 3);
                self.values(&parameters, depth + 1);
                self.nested(&parameters, &[ty], depth + 1);
            }
            9 | 10 => {
                let calls: Vec<usize> = (0..self.shape.functions.len() - 1)
                    .filter(|function| self.shape.signatures[self.shape.functions[*function]].1.contains(&ty))
                    .collect();
                if calls.is_empty() {
                    return self.nested(&[], &[ty], depth + 1);
                }
                let function = calls[self.random.random_range(0..calls.len())];
                let results = self.call(function, depth);
                // The last of this type stays.
                let kept = results.iter().rposition(|result| *result == ty).unwrap_or_default();
                results[kept + 1..].iter().for_each(|_| self.emit(&[I::Drop]));
                (0..kept).for_each(|_| self.keep_upper(ty));
            }
            11 => {
                self.value(ty, depth + 1);
                match self.local(ty) {
                    Some(local) => self.emit(&[I::LocalTee(local)]),
                    None => self.emit(&[I::Nop]),
                }
            }
            12 => {
                self.value(ty, depth + 1);
                self.value(ty, depth + 1);
                self.value(ValType::I32, depth + 1);
                self.emit(&[I::TypedSelect(ty)]);
            }
            _ => self.convert(ty, depth),
        }
    }

    /// Takes away the operand below the uppermost.
    fn keep_upper(&mut self, upper: ValType) {
        let global = global_of(upper, 1);
        self.emit(&[I::GlobalSet(global), I::Drop, I::GlobalGet(global)]);
    }

    fn combine(&mut self, ty: ValType) {
        let nth = self.random.random_range(0..6);
        self.emit(&[match (ty, nth) {
            (ValType::I32, 0) => I::I32Sub,
            (ValType::I32, 1) => I::I32Mul,
            (ValType::I32, 2) => I::I32Xor,
            (ValType::I32, 3) => I::I32LtS,
            (ValType::I32, 4) => I::I32Rotl,
            (ValType::I32, _) => I::I32Add,
            (ValType::I64, 0) => I::I64Sub,
            (ValType::I64, 1) => I::I64Mul,
            (ValType::I64, 2) => I::I64Xor,
            (ValType::I64, _) => I::I64Add,
            (ValType::F32, 0) => I::F32Mul,
            (ValType::F32, _) => I::F32Add,
            (ValType::F64, 0) => I::F64Mul,
            (ValType::F64, _) => I::F64Sub,
            (_, 0) => I::V128Xor,
            (_, 1) => I::I8x16Sub,
            _ => I::I32x4Add,
        }]);
    }

    fn convert(&mut self, ty: ValType, depth: u32) {
        let (from, instruction) = match ty {
            ValType::I32 if self.chance(6) => return self.divide(depth),
            ValType::I32 if self.chance(2) => (ValType::I64, I::I32WrapI64),
            ValType::I32 if self.chance(2) => (ValType::V128, I::I32x4ExtractLane(2)),
            ValType::I32 => (ValType::F64, I::I32TruncSatF64S),
            ValType::I64 => (ValType::I32, I::I64ExtendI32S),
            ValType::F32 => (ValType::F64, I::F32DemoteF64),
            ValType::F64 => (ValType::I32, I::F64ConvertI32S),
            _ => (ValType::I32, I::I32x4Splat),
        };
        self.value(from, depth + 1);
        self.emit(&[instruction]);
    }

    /// May trap: by zero, seldom.
    fn divide(&mut self, depth: u32) {
        self.value(ValType::I32, depth + 1);
        self.value(ValType::I32, depth + 1);
        if !self.chance(4) {
            self.emit(&[I::I32Const(1), I::I32Or]);
        }
        self.emit(&[I::I32RemU]);
    }
}
