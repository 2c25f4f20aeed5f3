//! The process that works on a module: it opens what it was told to read, closes its cage, and only then looks at it.

use std::{
    io::{self, Read, Write as _},
    process::ExitCode,
    sync::{Arc, Mutex},
};

use lull_shared::{
    codec,
    digest::Digest,
    id::JobId,
    job::{AttemptLimits, Grants},
    limits,
    message::ModuleKind,
    time::Timestamp,
};

use super::{
    Answer, Bounds, INTERFACE_LINE_BYTES_MAX, INTERFACE_LINES_MAX, Inspected, MADE_WITH, Order, Refusal, Source, Target, Work,
};
use crate::{
    executor::{
        EXIT_GARBAGE, EXIT_ORPHANED,
        code::{
            engine::{self, CompileOptions},
            inspect,
        },
        inside::{
            pipe::{Incoming, Outgoing},
            program::Program,
        },
        protocol::{Build, Load, World},
        sys,
    },
    migratable,
};

/// An exit code for a panic whose words were sent.
const EXIT_DEFECT: i32 = 5;
/// The thread that does the work has the stack that programs have: a stranger's nesting is bounded by the validator for
/// that.
const STACK_BYTES: usize = 8 << 20;

/// The process: reads one order, answers, ends.
pub(in crate::executor) fn run(parent: Option<u32>) -> ExitCode {
    let orphaned = ExitCode::from(EXIT_ORPHANED as u8);
    if !sys::detach(parent) {
        return orphaned;
    }
    let Ok(order) = read_order(&mut io::stdin().lock()) else { return ExitCode::from(EXIT_GARBAGE as u8) };
    report_panics();
    let sent = match carry_out(&order) {
        Ok(Some(product)) => {
            let answer = Answer::Product { size_bytes: product.len() as u64, cpu: sys::cpu_time() };
            say(&answer).and_then(|()| io::stdout().lock().write_all(&product))
        }
        Ok(None) => Ok(()),
        Err(refusal) => say(&Answer::Refused(refusal)),
    };
    if sent.and_then(|()| io::stdout().lock().flush()).is_ok() { ExitCode::SUCCESS } else { orphaned }
}

fn read_order(pipe: &mut impl Read) -> io::Result<Order> {
    let mut prefix = [0; codec::LENGTH_BYTES];
    pipe.read_exact(&mut prefix)?;
    let mut body = vec![0; codec::frame_length(prefix).map_err(io::Error::other)?];
    pipe.read_exact(&mut body)?;
    codec::decode(&body).map_err(io::Error::other)
}

fn say(answer: &Answer) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(&codec::encode_frame(answer))?;
    out.flush()
}

/// A panic is our own code's failure: its words go to the parent, so that the process need not give up for it.
fn report_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(|place| format!(" ({}:{})", place.file(), place.line())).unwrap_or_default();
        let words = panic.payload_as_str().unwrap_or("it panicked");
        let _ = say(&Answer::Refused(Refusal::Defect(format!("{words}{place}"))));
        std::process::exit(EXIT_DEFECT);
    }));
}

/// What was made, if bytes were; all else is said on the way.
fn carry_out(order: &Order) -> Result<Option<Vec<u8>>, Refusal> {
    let Order { source, bounds, priority, work } = order;
    let priority = sys::set_priority(*priority);
    sys::be_killed_first();
    if let Work::Try { kind, build, memory_bytes, starts } = work {
        let mut load = load(source, *kind, *build);
        load.limits.memory_bytes = *memory_bytes;
        return try_out(&load, *starts, priority).map(|()| None);
    }
    let module = read(source)?;
    use_threads(bounds.threads);
    let cage = sys::close_pipe_cage(bounds, priority);
    say(&Answer::Caged(cage)).map_err(unreadable)?;
    let found = Digest::of(&module);
    if found != source.digest {
        return Err(Refusal::Digest { expected: source.digest, found });
    }
    match work {
        Work::Inspect => {
            let inspected = inspect(&module)?;
            say(&Answer::Inspected(inspected)).map_err(unreadable)?;
            Ok(None)
        }
        Work::Compile(target) => compile(&module, target, bounds).map(Some),
        Work::Rewrite => {
            let build = migratable::rewrite(&module).map_err(|reason| Refusal::Module(reason.to_string()))?;
            Ok(Some(build.module))
        }
        Work::Try { .. } => unreachable!("it was done above"),
    }
}

fn unreadable(error: io::Error) -> Refusal {
    Refusal::Unreadable(error.to_string())
}

fn read(source: &Source) -> Result<Vec<u8>, Refusal> {
    let mut module = Vec::new();
    let file = sys::open_lent(source.path.as_os_str()).map_err(unreadable)?;
    file.take(limits::BLOB_BYTES_MAX + 1).read_to_end(&mut module).map_err(unreadable)?;
    Ok(module)
}

/// The compiler's own pool of threads reads this when it is first used.
fn use_threads(threads: u16) {
    // SAFETY: this process has one thread yet, so that nobody reads the environment meanwhile.
    unsafe { std::env::set_var("RAYON_NUM_THREADS", threads.to_string()) };
}

fn compile(module: &[u8], target: &Target, bounds: &Bounds) -> Result<Vec<u8>, Refusal> {
    let refused = |error: engine::EngineError| {
        let words = error.to_string();
        if sys::tells_of_no_memory(&words) {
            // As the allocator does: the parent knows the limit.
            std::process::abort();
        }
        Refusal::Module(words)
    };
    let platform = target.platform.parse().map_err(refused)?;
    let options = CompileOptions { kind: target.kind, canonical_nans: target.canonical_nans, platform };
    let compile = || engine::precompile_on(module, &options, bounds.threads);
    std::thread::scope(|scope| {
        // A stack of a known size: the process's own is as large as its user's settings say.
        let thread = std::thread::Builder::new().stack_size(STACK_BYTES).spawn_scoped(scope, compile);
        match thread.map(std::thread::ScopedJoinHandle::join) {
            Ok(Ok(made)) => made.map_err(refused),
            Ok(Err(_)) => Err(Refusal::Defect("it panicked".into())),
            Err(_) => compile().map_err(refused),
        }
    })
}

fn inspect(module: &[u8]) -> Result<Inspected, Refusal> {
    let found = inspect::inspect(module).map_err(|refusal| Refusal::Module(refusal.to_string()))?;
    let imports = found.imports.iter().map(|import| format!("import {import}"));
    let exports = found.exports.iter().map(|export| format!("export {export}"));
    let makers = found.makers.iter().map(|maker| format!("{MADE_WITH}{maker}"));
    let interface = makers.chain(imports).chain(exports).take(INTERFACE_LINES_MAX).map(short).collect();
    Ok(Inspected { kind: found.kind, memory_bytes: found.memory_bytes, starts: found.starts, interface })
}

fn short(mut line: String) -> String {
    if line.len() > INTERFACE_LINE_BYTES_MAX {
        line.truncate(line.floor_char_boundary(INTERFACE_LINE_BYTES_MAX));
        line.push('…');
    }
    line
}

/// As an agent would load it for a job's first task.
fn load(artifact: &Source, kind: ModuleKind, build: Build) -> Load {
    let world = World {
        job: JobId(0),
        function: "trial".into(),
        args: Vec::new(),
        env: Vec::new(),
        exit_codes: lull_shared::codes::ExitCodes::default(),
        seed: 0,
        clock_start: Timestamp::from_millis(0),
    };
    Load {
        artifact: artifact.path.clone().into(),
        digest: artifact.digest,
        kind,
        build,
        limits: AttemptLimits::default(),
        grants: Grants::default(),
        scratch: None,
        priority: Default::default(),
        world,
    }
}

fn try_out(load: &Load, starts: bool, priority: crate::executor::protocol::Layer) -> Result<(), Refusal> {
    // What the module's own code writes is for nobody.
    let nowhere = || sys::nowhere().map_err(unreadable);
    let incoming = Arc::new(Mutex::new(Incoming::new(nowhere()?)));
    let outgoing = Arc::new(Mutex::new(Outgoing::new(nowhere()?)));
    let _ = sys::confine_to_reading(load.artifact.as_ref());
    let program = Program::load(load);
    say(&Answer::Caged(sys::close_cage(load, priority))).map_err(unreadable)?;
    let program = program.map_err(|error| Refusal::Module(error.to_string()))?;
    say(&Answer::Loaded).map_err(unreadable)?;
    program.try_out(load, starts, &incoming, &outgoing).map_err(Refusal::Module)?;
    say(&Answer::Tried).map_err(unreadable)
}
