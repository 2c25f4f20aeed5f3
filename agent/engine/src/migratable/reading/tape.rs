//! A function as a flat list of steps, with all that the later parts must know at the places where it can be suspended.
//!
//! The list is read forwards to emit and backwards to find live locals, with the open blocks on a list of their own: a
//! module nested a million deep costs memory, not stack. Code that cannot be reached is left out.

use std::ops::Range;

use wasmparser::{BlockType, FuncType, FuncValidator, FuncValidatorAllocations, Operator, ValidatorResources};

use crate::migratable::{
    plan::Plan,
    reading::{
        reason::NotMovable,
        source::{Body, Source},
        value::Value,
    },
};

/// Types of operands noted in one function: a function that has more is made to exhaust us.
const OPERANDS_MAX: usize = 1 << 22;

/// A function as steps.
pub(in crate::migratable) struct Tape<'a> {
    pub steps: Vec<Step<'a>>,
    /// The types of all locals, parameters first.
    pub locals: Vec<wasmparser::ValType>,
    pub parameters: usize,
    pub results: Vec<wasmparser::ValType>,
    /// Where it can be suspended, in the order of the steps. Point 0 is the entry, if it polls there.
    pub points: Vec<Point>,
    pub polls_at_entry: bool,
}

/// A place where a function can be suspended.
pub(in crate::migratable) struct Point {
    /// The whole operand stack that is kept there, from the bottom.
    pub kept: Box<[Value]>,
}

/// One step.
pub(in crate::migratable) enum Step<'a> {
    /// Instructions that stay as they are.
    Plain(&'a [u8]),
    Get(u32),
    Set(u32),
    Tee(u32),
    /// A call that cannot be suspended.
    Call(u32),
    RefFunc(u32),
    DataDrop {
        segment: u32,
    },
    Branch(u32),
    BranchIf(u32),
    /// The last target is the default.
    BranchTable(Box<[u32]>),
    Return,
    Unreachable,
    /// A call that can be suspended.
    Point(Box<Call<'a>>),
    Open(Box<Open>),
    Else {
        /// Whether the part before falls through.
        reached: bool,
        open: usize,
    },
    /// The end of what was opened at a step, or of the function.
    End {
        reached: bool,
        open: Option<usize>,
    },
}

/// A call that can be suspended.
pub(in crate::migratable) struct Call<'a> {
    pub point: u32,
    pub callee: Callee<'a>,
    /// Height of the operand stack at the start of the block that it is in.
    pub base: u32,
    /// The operands of that block, arguments last.
    pub operands: Box<[Value]>,
    /// How many of them the call takes, the index into a table among them.
    pub taken: usize,
    pub results: Box<[Value]>,
}

pub(in crate::migratable) enum Callee<'a> {
    Function(u32),
    /// A `call_indirect` as it is in the module.
    Table(&'a [u8]),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::migratable) enum Kind {
    Block,
    If,
    Loop,
}

/// The beginning of a block.
pub(in crate::migratable) struct Open {
    pub kind: Kind,
    pub ty: BlockType,
    /// The step with its end.
    pub end: usize,
    /// Its size in the module; until its end is read, where it begins.
    pub bytes: usize,
    /// The points within; a loop's own is the first. Empty if nothing in it can be suspended.
    pub points: Range<u32>,
    /// The first point behind `else`, if there is one.
    pub points_else: Option<u32>,
    pub base: u32,
    /// The operands of the block around it, its parameters last, for `if` followed by the condition. Without meaning
    /// if there are no points.
    pub operands: Box<[Value]>,
    pub parameters: Box<[Value]>,
    pub results: Box<[Value]>,
    /// Whether none of these is a reference.
    numeric: bool,
}

impl Open {
    /// Whether it can be suspended within.
    pub(crate) fn suspends(&self) -> bool {
        !self.points.is_empty()
    }

    /// The operands that stay below while the block runs.
    pub(crate) fn below(&self) -> &[Value] {
        let taken = self.parameters.len() + usize::from(self.kind == Kind::If);
        &self.operands[..self.operands.len() - taken]
    }

    /// The height of the operand stack below its parameters.
    pub(crate) fn inner_base(&self) -> u32 {
        self.base + self.below().len() as u32
    }
}

/// Reads a function, checking it on the way.
pub(in crate::migratable) fn read<'a>(
    source: &Source<'a>,
    plan: &Plan,
    function: usize,
    allocations: FuncValidatorAllocations,
) -> Result<(Tape<'a>, FuncValidatorAllocations), NotMovable> {
    let body = &source.bodies[function];
    let mut reader = Reader::new(source, plan, function, body, allocations)?;
    reader.run(body)?;
    let Reader { tape, validator, .. } = reader;
    Ok((tape, validator.into_allocations()))
}

struct Reader<'r, 'a> {
    source: &'r Source<'a>,
    plan: &'r Plan,
    function: usize,
    validator: FuncValidator<ValidatorResources>,
    tape: Tape<'a>,
    /// The blocks that are open, by their steps.
    open: Vec<usize>,
    /// Blocks opened in code that cannot be reached.
    dead: usize,
    /// Loops seen so far, reached or not.
    loops: usize,
    /// Types of operands noted so far.
    noted: usize,
    plain: Range<usize>,
}

/// The operands of the innermost block, or none if there is a reference among them.
type Operands = Option<Box<[Value]>>;

impl<'r, 'a> Reader<'r, 'a> {
    fn new(
        source: &'r Source<'a>,
        plan: &'r Plan,
        function: usize,
        body: &Body<'a>,
        allocations: FuncValidatorAllocations,
    ) -> Result<Self, NotMovable> {
        let ty = &source.types[source.functions[source.imported as usize + function] as usize];
        let mut validator = body.validator(allocations);
        validator.read_locals(&mut body.code.get_binary_reader())?;
        let locals = (0..validator.len_locals()).filter_map(|at| validator.get_local_type(at)).collect();
        let polls_at_entry = plan.graph.suspendable[function] && plan.graph.polls_at_entry[function];
        let tape = Tape {
            steps: Vec::new(),
            locals,
            parameters: ty.params().len(),
            results: ty.results().to_vec(),
            points: if polls_at_entry { vec![Point { kept: Box::default() }] } else { Vec::new() },
            polls_at_entry,
        };
        Ok(Self { source, plan, function, validator, tape, open: Vec::new(), dead: 0, loops: 0, noted: 0, plain: 0..0 })
    }

    fn run(&mut self, body: &Body<'a>) -> Result<(), NotMovable> {
        let mut operators = body.code.get_operators_reader()?;
        while !operators.eof() {
            let (operator, at) = operators.read_with_offset()?;
            let bytes = at..operators.original_position();
            // Within a block that is never entered the validator takes code for reachable again.
            let reached = self.dead == 0 && self.validator.get_control_frame(0).is_some_and(|frame| !frame.unreachable);
            if reached {
                self.live(&operator, bytes)?;
            } else {
                self.dead(&operator, bytes.end)?;
            }
            self.validator.op(at, &operator)?;
        }
        operators.finish()?;
        Ok(())
    }

    /// An instruction that is never executed: kept only if it ends a block that was entered.
    fn dead(&mut self, operator: &Operator<'a>, end: usize) -> Result<(), NotMovable> {
        match operator {
            Operator::Loop { .. } => {
                self.loops += 1;
                self.dead += 1;
            }
            Operator::Block { .. } | Operator::If { .. } => self.dead += 1,
            Operator::End if self.dead > 0 => self.dead -= 1,
            Operator::End => self.end(false, end)?,
            Operator::Else if self.dead == 0 => self.part(false),
            _ => {}
        }
        Ok(())
    }

    fn live(&mut self, operator: &Operator<'a>, bytes: Range<usize>) -> Result<(), NotMovable> {
        let step = match operator {
            Operator::LocalGet { local_index } => Step::Get(*local_index),
            Operator::LocalSet { local_index } => Step::Set(*local_index),
            Operator::LocalTee { local_index } => Step::Tee(*local_index),
            Operator::Br { relative_depth } => Step::Branch(*relative_depth),
            Operator::BrIf { relative_depth } => Step::BranchIf(*relative_depth),
            Operator::BrTable { targets } => {
                let mut all = targets.targets().collect::<Result<Vec<_>, _>>()?;
                all.push(targets.default());
                Step::BranchTable(all.into())
            }
            Operator::Return => Step::Return,
            Operator::Unreachable => Step::Unreachable,
            Operator::RefFunc { function_index } => Step::RefFunc(*function_index),
            Operator::DataDrop { data_index } => Step::DataDrop { segment: *data_index },
            Operator::Block { blockty } => return self.open(Kind::Block, *blockty, bytes.start),
            Operator::If { blockty } => return self.open(Kind::If, *blockty, bytes.start),
            Operator::Loop { blockty } => return self.open(Kind::Loop, *blockty, bytes.start),
            Operator::Else => {
                self.part(true);
                return Ok(());
            }
            Operator::End => return self.end(true, bytes.end),
            Operator::Call { function_index } => {
                if !self.plan.suspends(*function_index) || !self.suspendable() {
                    Step::Call(*function_index)
                } else {
                    let ty = self.source.type_of(*function_index);
                    self.call(ty, ty.params().len(), Callee::Function(*function_index))?
                }
            }
            Operator::CallIndirect { type_index, .. } if self.plan.type_suspends(*type_index) && self.suspendable() => {
                let ty = &self.source.types[*type_index as usize];
                self.call(ty, ty.params().len() + 1, Callee::Table(&self.source.bytes[bytes]))?
            }
            _ => {
                self.plain(bytes);
                return Ok(());
            }
        };
        self.push(step);
        Ok(())
    }

    fn suspendable(&self) -> bool {
        self.plan.graph.suspendable[self.function]
    }

    fn push(&mut self, step: Step<'a>) {
        self.plain = 0..0;
        self.tape.steps.push(step);
    }

    /// Joins neighbours, which are neighbours in the module too.
    fn plain(&mut self, bytes: Range<usize>) {
        if self.plain.end == bytes.start
            && let Some(Step::Plain(last)) = self.tape.steps.last_mut()
        {
            self.plain.end = bytes.end;
            *last = &self.source.bytes[self.plain.clone()];
            return;
        }
        self.tape.steps.push(Step::Plain(&self.source.bytes[bytes.clone()]));
        self.plain = bytes;
    }

    fn call(&mut self, ty: &FuncType, taken: usize, callee: Callee<'a>) -> Result<Step<'a>, NotMovable> {
        let (base, operands) = self.operands()?;
        let operands = operands.ok_or(NotMovable::References)?;
        let results = Value::all_of(ty.results()).ok_or(NotMovable::References)?;
        let point = self.point(taken)?;
        Ok(Step::Point(Box::new(Call { point, callee, base, operands, taken, results })))
    }

    /// Notes a place where the function can be suspended, which keeps all operands but the uppermost.
    fn point(&mut self, taken: usize) -> Result<u32, NotMovable> {
        let height = self.validator.operand_stack_height() as usize;
        let kept = self.stack(taken, height)?.ok_or(NotMovable::References)?;
        self.tape.points.push(Point { kept });
        Ok(self.tape.points.len() as u32 - 1)
    }

    fn operands(&mut self) -> Result<(u32, Operands), NotMovable> {
        let base = self.validator.get_control_frame(0).map_or(0, |frame| frame.height);
        let height = self.validator.operand_stack_height() as usize;
        Ok((base as u32, self.stack(0, height.saturating_sub(base))?))
    }

    /// The types of operands from a depth down to another, the deepest first.
    fn stack(&mut self, from: usize, to: usize) -> Result<Operands, NotMovable> {
        self.noted += to.saturating_sub(from);
        if self.noted > OPERANDS_MAX {
            return Err(NotMovable::TooLarge { what: "a function has too many operands on its stack" });
        }
        Ok((from..to).rev().map(|depth| Value::of(self.validator.get_operand_type(depth)??)).collect())
    }

    fn open(&mut self, kind: Kind, ty: BlockType, start: usize) -> Result<(), NotMovable> {
        let polls = match kind {
            Kind::Loop => {
                self.loops += 1;
                self.suspendable() && self.plan.polls_loop(self.function, self.loops - 1)
            }
            Kind::Block | Kind::If => false,
        };
        let (base, operands) = if self.suspendable() { self.operands()? } else { (0, Some(Box::default())) };
        let first = self.tape.points.len() as u32;
        if polls {
            self.point(0)?;
        }
        let (parameters, results) = match ty {
            BlockType::Empty => (Some(Box::default()), Some(Box::default())),
            BlockType::Type(result) => (Some(Box::default()), Value::all_of(&[result])),
            BlockType::FuncType(at) => {
                let ty = &self.source.types[at as usize];
                (Value::all_of(ty.params()), Value::all_of(ty.results()))
            }
        };
        // Whether references matter is known when the block ends with or without points in it.
        let numeric = operands.is_some() && parameters.is_some() && results.is_some();
        self.open.push(self.tape.steps.len());
        self.push(Step::Open(Box::new(Open {
            kind,
            ty,
            end: 0,
            bytes: start,
            points: first..first,
            points_else: None,
            base,
            operands: operands.unwrap_or_default(),
            parameters: parameters.unwrap_or_default(),
            results: results.unwrap_or_default(),
            numeric,
        })));
        Ok(())
    }

    fn part(&mut self, reached: bool) {
        let Some(open) = self.open.last().copied() else { return };
        let points = self.tape.points.len() as u32;
        if let Step::Open(block) = &mut self.tape.steps[open] {
            block.points_else = Some(points);
        }
        self.push(Step::Else { reached, open });
    }

    fn end(&mut self, reached: bool, after: usize) -> Result<(), NotMovable> {
        let end = self.tape.steps.len();
        let open = self.open.pop();
        let points = self.tape.points.len() as u32;
        if let Some(at) = open
            && let Step::Open(block) = &mut self.tape.steps[at]
        {
            block.points.end = points;
            block.end = end;
            block.bytes = after - block.bytes;
            if block.suspends() && !block.numeric {
                return Err(NotMovable::References);
            }
        }
        self.push(Step::End { reached, open });
        Ok(())
    }
}
