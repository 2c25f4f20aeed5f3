//! Processes that work on modules: what holds them, what bounds them, and what they find before an agent does.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use lull_engine::executor::{
    compile::{Bounds, CompileError, Refusal, Source, Target, Trial, Workbench},
    engine::Platform,
    protocol::{Build, Priority},
};
use lull_shared::{digest::Digest, message::ModuleKind};

use super::{bench::program, guests};

/// Far beyond what anything here takes, on a machine that has much else to do.
const PATIENCE: Duration = Duration::from_secs(600);

struct Workshop {
    folder: tempfile::TempDir,
    bench: Workbench,
}

impl Workshop {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let bounds = Bounds { memory_bytes: 1 << 30, time: PATIENCE, cpu: None, threads: 2 };
        let bench = Workbench { program: Some(program()), priority: Priority::Normal, bounds };
        Self { folder, bench }
    }

    /// With a program file of its own, so that its processes are told from others.
    fn alone() -> Self {
        let mut workshop = Self::new();
        let own = workshop.folder.path().join("lull-agent");
        std::fs::hard_link(program(), &own).or_else(|_| std::fs::copy(program(), &own).map(drop)).expect("a program");
        workshop.bench.program = Some(own);
        workshop
    }

    fn within(&self, bounds: Bounds) -> Workbench {
        Workbench { bounds, ..self.bench.clone() }
    }

    fn module(&self, name: &str, bytes: &[u8]) -> Source {
        let path = self.folder.path().join(name);
        std::fs::write(&path, bytes).expect("a file");
        Source { path, digest: Digest::of(bytes) }
    }

    fn text(&self, text: &str) -> Source {
        self.module("module", &wat::parse_str(text).expect("valid text"))
    }

    fn artifact(&self) -> PathBuf {
        self.folder.path().join("artifact")
    }

    /// The running processes of this workshop.
    fn processes(&self) -> Vec<PathBuf> {
        let own = self.bench.program.as_deref().expect("a program");
        let entries = std::fs::read_dir("/proc").expect("it is there").flatten().map(|entry| entry.path());
        entries.filter(|process| std::fs::read_link(process.join("exe")).is_ok_and(|exe| exe == own)).collect()
    }

    async fn process(&self) -> PathBuf {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(process) = self.processes().pop() {
                return process;
            }
            assert!(Instant::now() < deadline, "no process was started");
            tokio::task::yield_now().await;
        }
    }

    /// Everything that is done before a module is published with its plain build.
    async fn look(&self, text: &str) -> Result<(), CompileError> {
        let module = self.text(text);
        let inspected = self.bench.inspect(&module).await?;
        let product = self.bench.compile(&module, &target(inspected.kind), &self.artifact()).await?;
        let artifact = Source { path: self.artifact(), digest: product.blob.digest };
        let (kind, memory_bytes, starts) = (inspected.kind, inspected.memory_bytes, inspected.starts);
        self.bench.try_out(&Trial { artifact, kind, build: Build::Plain, memory_bytes, starts }).await
    }
}

fn target(kind: ModuleKind) -> Target {
    Target { kind, canonical_nans: false, platform: Platform::host().to_string() }
}

/// Many functions, or few large ones: each is a loop with as many calls.
fn large(functions: usize, calls: usize) -> String {
    let call = "(local.set 0 (i32.add (local.get 1) (call $f (local.get 0))))";
    let function = format!("(func (param i32) (local i32) {})", call.repeat(calls));
    format!(
        "(module (memory (export \"memory\") 1) (func $f (param i32) (result i32) (local.get 0)) {} (func (export \"_start\")))",
        function.repeat(functions)
    )
}

#[tokio::test]
async fn a_compiler_is_caged_and_uses_its_threads() {
    let workshop = Workshop::alone();
    let module = workshop.text(&large(1_000, 40));
    let artifact = workshop.artifact();
    let (target, seen) = (target(ModuleKind::Preview1), std::cell::Cell::new(0));
    let watching = async {
        loop {
            for process in workshop.processes() {
                let threads = std::fs::read_dir(process.join("task")).map_or(0, Iterator::count);
                seen.set(seen.get().max(threads));
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let product = tokio::select! {
        product = workshop.bench.compile(&module, &target, &artifact) => product.expect("it compiles"),
        () = watching => unreachable!(),
    };
    let cage = &product.cage;
    assert!(cage.is_closed() && cage.system_calls.holds() && cage.limits.holds() && cage.container.holds(), "{cage}");
    assert!(seen.get() >= 3, "its own, the compiler's and two of the pool: {}", seen.get());
    let alone = workshop.within(Bounds { threads: 1, ..workshop.bench.bounds });
    let same = alone.compile(&module, &target, &artifact).await.expect("it compiles");
    assert_eq!(same.blob, product.blob, "whatever the number of threads");
}

#[tokio::test]
async fn what_takes_too_much_is_stopped_with_the_reason_and_the_next_one_works() {
    let workshop = Workshop::new();
    let module = workshop.text(&large(1, 20_000));
    let bounds = workshop.bench.bounds;
    let compile = async |bounds: Bounds, module: &Source| {
        workshop.within(bounds).compile(module, &target(ModuleKind::Preview1), &workshop.artifact()).await
    };
    let memory = compile(Bounds { memory_bytes: 48 << 20, ..bounds }, &module).await.expect_err("it takes more");
    assert!(matches!(memory, CompileError::Memory { limit_bytes } if limit_bytes == 48 << 20), "{memory}");
    assert!(memory.is_the_modules());
    let time = compile(Bounds { time: Duration::from_millis(1), ..bounds }, &module).await.expect_err("it takes longer");
    assert!(matches!(time, CompileError::Time { limit } if limit == Duration::from_millis(1)), "{time}");
    let second = Duration::from_secs(1);
    let endless = workshop.module("endless", &wat::parse_str(large(1, 120_000)).expect("valid text"));
    let cpu = compile(Bounds { cpu: Some(second), ..bounds }, &endless).await.expect_err("it takes more");
    assert!(matches!(cpu, CompileError::Cpu { limit } if limit == second), "{cpu}");
    let small = workshop.text(guests::NOOP);
    compile(bounds, &small).await.expect("nothing is left of them");
}

#[tokio::test]
async fn a_process_that_is_killed_or_not_wanted_any_more_is_gone() {
    let workshop = Workshop::alone();
    let module = workshop.text(&large(1, 60_000));
    let (artifact, target) = (workshop.artifact(), target(ModuleKind::Preview1));
    let killing = async {
        let process = workshop.process().await;
        let pid = process.file_name().and_then(|name| name.to_str()?.parse::<i32>().ok()).expect("a number");
        let pid = rustix::process::Pid::from_raw(pid).expect("a process");
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("killed");
    };
    let (ended, ()) = tokio::join!(workshop.bench.compile(&module, &target, &artifact), killing);
    let died = ended.expect_err("it was killed");
    assert!(matches!(&died, CompileError::Died { how } if how == "killed"), "{died}");
    assert!(!died.is_the_modules(), "it is nobody's fault");

    tokio::select! {
        _ = workshop.bench.compile(&module, &target, &artifact) => panic!("it takes longer than a look"),
        _ = workshop.process() => {}
    }
    // One that was just being started is ended by the thread that starts them.
    let deadline = Instant::now() + PATIENCE;
    while !workshop.processes().is_empty() {
        assert!(Instant::now() < deadline, "it ends with the future");
        tokio::task::yield_now().await;
    }
    let small = workshop.text(guests::NOOP);
    workshop.bench.compile(&small, &target, &artifact).await.expect("the next one works");
}

#[tokio::test]
async fn what_agents_would_refuse_is_refused_with_the_reason() {
    let wasi = "wasi_snapshot_preview1";
    let command = "(memory (export \"memory\") 1) (func (export \"_start\"))";
    let cases = [
        (format!("(module {command} {})", "(memory 1)".repeat(4)), "5 memories"),
        (format!("(module {command} (memory i64 1))"), "64-bit"),
        (format!("(module {command} {})", "(table 1 funcref)".repeat(9)), "9 tables"),
        (format!("(module {command} (table 3000000 funcref))"), "3000000"),
        ("(module (memory (export \"memory\") 1) (func (export \"_start\") (result i32) (i32.const 0)))".into(), "`_start`"),
        ("(module (memory (export \"memory\") 1) (func (export \"_start\") (param i32)))".into(), "`_start`"),
        (format!("(module (import \"{wasi}\" \"fd_write\" (func (param i32) (result i32))) {command})"), "fd_write"),
        (format!("(module (import \"{wasi}\" \"fd_write\" (global i32)) {command})"), "fd_write"),
        (format!("(module (import \"{wasi}\" \"fd_write\" (memory 1)) (func (export \"_start\")))"), "fd_write"),
        (format!("(module (import \"{wasi}\" \"fd_write\" (table 1 funcref)) {command})"), "fd_write"),
        (format!("(module {command} (data (i32.const 65536) \"x\"))"), "out of bounds"),
        (format!("(module {command} (table 1 funcref) (elem (i32.const 1) $f) (func $f))"), "out of bounds"),
    ];
    let workshop = Workshop::new();
    for (text, reason) in cases {
        match workshop.look(&text).await {
            Err(CompileError::Refused(Refusal::Module(words))) => assert!(words.contains(reason), "{text}: {words}"),
            other => panic!("{text}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn what_a_module_does_before_its_beginning_is_its_own_affair() {
    let workshop = Workshop::new();
    let starting =
        |body: &str| format!("(module (memory (export \"memory\") 1) (func $s {body}) (start $s) (func (export \"_start\")))");
    workshop.look(guests::NOOP).await.expect("a command");
    workshop.look(&starting("")).await.expect("it starts");
    workshop.look(&starting("(loop $l (br $l))")).await.expect("it is stopped after a moment");
    workshop.look(&starting("(unreachable)")).await.expect("it may depend on its arguments");
    let growing = "(loop $l (br_if $l (i32.ne (memory.grow (i32.const 16)) (i32.const -1))))";
    workshop.look(&starting(growing)).await.expect("it is told that there is no more");
}
