//! Makes a *migratable build* of a module: the same program, which can be suspended, written into a snapshot, restored on
//! another machine and resumed there.
//!
//! WebAssembly hides its stack, so the program itself must write its stack down when asked to, and build it up again. This
//! pass teaches it to, by rewriting the module; no engine needs to know. [`contract`] is what the host must do.
//!
//! ```text
//!   flag up, poll fires                         another machine
//!   in c, called by b, called by a
//!
//!   a ── b ── c                                 c'                      ' = resume copies
//!             spills its frame, returns         takes its frame back, goes on behind the poll, calls
//!        spills its frame, returns              fast copies again, and leaves its results
//!   spills its frame, returns                   b'   goes on behind its call of c
//!   lull_run asks the host, returns: suspended  a'   goes on behind its call of b
//!                  └──── lull_stack, memories, globals ────┘
//! ```
//! Each function that can be on the stack when a poll fires (`callgraph`) has two copies. The *fast* copy (`fast`) is
//! the function with polls at the heads of loops, a look at the state after calls that can be suspended, and code aside
//! that spills what is live (`live`, `frame`). Nothing enters it but at its beginning, so a compiler optimises its loops
//! as ever. The *resume* copy (`resume`) is entered only to go on: it takes its frame back and runs the activation to its
//! end, or to its next call if no loop leads back there. Both spill the same frames.
//!
//! ```text
//! reason    is the module acceptable? if not, why
//! source    the module's parts          survey, counted   calls and loops of all functions
//! callgraph who can be suspended        plan              indices in the build
//! tape      a function as a flat list   live, frame       what is spilled at each point
//! copy, fast, resume                    the two copies
//! shared    what writes and reads frames  entry, output     lull_run and the sections
//! ```
//! The pass is pure and its output depends on the module alone. Work and growth are bounded whatever the module is.

pub mod contract;
mod plan;
mod reading;
#[cfg(test)]
mod tests;
mod writing;

use wasm_encoder::{BranchHints, CodeSection};
use wasmparser::{FuncValidatorAllocations, Parser, Validator, WasmFeatures};

pub use self::reading::reason::NotMovable;
use self::{
    plan::Plan,
    reading::{reason, source::Source, survey, tape, value::Value},
    writing::{
        code::{Types, Written},
        copy::{Copy, Ending},
        entry, fast, frame, output,
        output::Functions,
        resume,
        shared::Shared,
    },
};

/// How many times a function's own size its two copies may take together, to which [`GROWTH_BYTES`] are added. Real ones
/// take three to five times.
const GROWTH: usize = 64;
/// What even small functions may grow by.
const GROWTH_BYTES: usize = 64 << 10;
/// The same for the whole module.
const GROWTH_MODULE: usize = 16;

/// A migratable build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Build {
    pub module: Vec<u8>,
    pub stats: Stats,
}

/// What was done to a module.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Functions that the module defines.
    pub functions: usize,
    /// Those that have two copies.
    pub suspendable: usize,
    /// Places where they can be suspended.
    pub points: usize,
    /// Values in the frames of all these.
    pub spilled: usize,
    /// Code of all functions of the module.
    pub code_bytes: usize,
    /// Code of all fast copies, and of functions that have one copy.
    pub fast_bytes: usize,
    /// Code of all resume copies.
    pub resume_bytes: usize,
    /// The size of the module.
    pub bytes_before: usize,
    /// The size of its build.
    pub bytes_after: usize,
}

/// Makes the migratable build of a module, or says why there is none.
pub fn rewrite(module: &[u8]) -> Result<Build, NotMovable> {
    if Parser::is_component(module) {
        return Err(NotMovable::Component);
    }
    reason::validate(module)?;
    let source = Source::parse(module)?;
    let plan = Plan::new(&source, survey::survey(&source)?);
    let mut stats = Stats {
        functions: source.bodies.len(),
        code_bytes: source.bodies.iter().map(|body| body.code.range().len()).sum(),
        suspendable: plan.ids.resume.len(),
        bytes_before: module.len(),
        ..Stats::default()
    };
    let mut types = Types::new(source.types.len());
    let functions = functions(&source, &plan, &mut types, &mut stats)?;
    let module = output::assemble(&source, &plan, types, &functions)?;
    // A module must not use atomics, but its build polls with them.
    let features = reason::ACCEPTED | WasmFeatures::MULTI_MEMORY | WasmFeatures::THREADS;
    Validator::new_with_features(features)
        .validate_all(&module)
        .map_err(|error| NotMovable::Defect { reason: error.to_string() })?;
    stats.bytes_after = module.len();
    Ok(Build { module, stats })
}

/// Writes all functions: the fast copies in the module's order, the resume copies, then the build's own.
fn functions(source: &Source<'_>, plan: &Plan, types: &mut Types, stats: &mut Stats) -> Result<Functions, NotMovable> {
    let mut out = Functions { code: CodeSection::new(), hints: BranchHints::new(), added: Vec::new() };
    let mut shared = Shared::new(&plan.ids);
    let mut resumes = Vec::new();
    let mut allocations = FuncValidatorAllocations::default();
    let mut left = source.bytes.len() * GROWTH_MODULE + GROWTH_BYTES;
    for function in 0..source.bodies.len() {
        let (tape, allocated) = tape::read(source, plan, function, allocations)?;
        allocations = allocated;
        let frames = frame::frames(&tape)?;
        stats.points += frames.len();
        stats.spilled += frames.iter().map(|frame| frame.slots.len()).sum::<usize>();
        let bytes_max = (source.bodies[function].code.range().len() * GROWTH + GROWTH_BYTES).min(left);
        let index = plan.ids.resume.get(&(function as u32)).copied();
        let number = index.unwrap_or_default().saturating_sub(plan.ids.first_resume);

        let mut fast = Copy::new(&tape, &frames, &plan.ids, types, &mut shared, number, bytes_max, Ending::Returned);
        fast::write(&mut fast)?;
        let fast = fast.finish(tape.parameters)?;
        stats.fast_bytes += fast.bytes.len();
        left = left.saturating_sub(fast.bytes.len());
        add(&mut out, source.imported + 1 + function as u32, fast);

        let Some(index) = index else { continue };
        let results = Value::all_of(&tape.results).ok_or(NotMovable::References)?;
        let ty = types.function(&[], &[]);
        let mut resume = Copy::new(&tape, &frames, &plan.ids, types, &mut shared, number, bytes_max, Ending::Carried);
        resume::write(&mut resume, &results)?;
        let resume = resume.finish(0)?;
        stats.resume_bytes += resume.bytes.len();
        left = left.saturating_sub(resume.bytes.len());
        out.added.push(ty);
        resumes.push((index, resume));
    }
    for (index, resume) in resumes {
        add(&mut out, index, resume);
    }
    out.added.push(types.function(&[Value::I32], &[Value::I32]));
    out.code.function(&entry::reserve(plan));
    out.added.push(types.function(&[Value::I32, Value::I32], &[]));
    out.code.function(&entry::reverse(plan));
    let resume_type = types.function(&[], &[]);
    out.added.push(resume_type);
    out.code.function(&entry::run(source, plan, resume_type));
    if !plan.ids.dropped.is_empty() {
        out.added.push(types.function(&[], &[]));
        out.code.function(&entry::restored(plan));
    }
    for (parameters, results, function) in shared.written(&plan.ids) {
        out.added.push(types.function(&parameters, &results));
        out.code.function(&function);
    }
    Ok(out)
}

fn add(out: &mut Functions, index: u32, written: Written) {
    out.code.raw(&written.bytes);
    if !written.hints.is_empty() {
        out.hints.function_hints(index, written.hints);
    }
}
