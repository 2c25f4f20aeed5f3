//! Real functions in their migratable builds as the pass makes them, moved between processes.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use lull_engine::{
    executor::{
        engine::{self, CompileOptions, Platform},
        process::{AskError, Death, Finished, Input, Output},
        protocol::Build,
    },
    migratable,
};
use lull_shared::{digest::Digest, message::ModuleKind, state::Failure};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};

use super::bench::{Bench, attempt, inline};

fn functions() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/functions")
}

/// Both builds of a module.
pub(crate) fn builds(module: &[u8], args: &[&str]) -> (Bench, Bench) {
    let build = migratable::rewrite(module).expect("it can be moved").module;
    let bench = |module: &[u8], build| {
        let options = CompileOptions { kind: ModuleKind::Preview1, canonical_nans: false, platform: Platform::host() };
        let artifact = engine::precompile(module, &options).expect("it compiles");
        let mut bench = Bench::new("(module)");
        std::fs::write(&bench.load.artifact, &artifact).expect("a file");
        bench.load.digest = Digest::of(&artifact);
        bench.load.build = build;
        bench.load.world.args = args.iter().map(|arg| (*arg).to_owned()).collect();
        bench
    };
    (bench(module, Build::Plain), bench(&build, Build::Migratable { code: Digest::of(&build) }))
}

fn output(finished: &Finished) -> Vec<u8> {
    match &finished.outcome {
        Ok(Output::Inline(bytes)) => bytes.to_vec(),
        Ok(Output::File { path, .. }) => std::fs::read(path).expect("the output"),
        Err(failure) => panic!("{failure}"),
    }
}

/// Runs it, moving it to another process at random instants, and how often it was moved.
pub(crate) async fn moved(bench: &Bench, input: &Input, moves_max: u32, apart_us: u64) -> (Finished, u32) {
    let mut random = StdRng::seed_from_u64(4);
    let mut snapshot: Option<PathBuf> = None;
    for moves in 0.. {
        let mut bed = bench.start().await;
        match snapshot.take() {
            None => bed.run_with(0, input.clone()),
            Some(path) => bed.resume(0, input.clone(), path),
        }
        bed.started(0).await;
        if moves < moves_max {
            tokio::time::sleep(std::time::Duration::from_micros(random.random_range(0..apart_us))).await;
            let path = bench.folder.path().join(format!("snapshot-{moves}"));
            match bed.executor.suspend(attempt(0), path.clone()) {
                Ok(()) => snapshot = Some(path),
                // It has ended before it could be asked.
                Err(AskError::NotRunning) => {}
                Err(error) => panic!("{error}"),
            }
        }
        match bed.saved_or_finished().await {
            Ok(_) => assert_eq!(bed.died().await, (None, Vec::new(), Death::Killed)),
            Err(finished) => return (finished, moves),
        }
    }
    unreachable!("it ends")
}

async fn plain(bench: &Bench, input: &Input) -> Finished {
    let mut bed = bench.start().await;
    bed.run_with(0, input.clone());
    bed.finished().await
}

async fn ends_alike(module: &str, args: &[&str], input: Input, moves_max: u32) -> u32 {
    let path = functions().join(format!("modules/{module}.wasm"));
    let (module, movable) = builds(&std::fs::read(path).expect("the module"), args);
    let (moved, moves) = moved(&movable, &input, moves_max, 10_000).await;
    let plain = plain(&module, &input).await;
    assert_eq!(output(&plain), output(&moved));
    assert_eq!(plain.log, moved.log);
    assert_eq!(plain.usage.memory_peak_bytes, moved.usage.memory_peak_bytes);
    moves
}

#[tokio::test]
async fn monte_carlo_moved_twenty_times_gives_the_undisturbed_result() {
    let input = Input::Inline(Bytes::from_static(b"7\n"));
    let moves = ends_alike("monte-carlo", &["--paths", "4000000"], input, 20).await;
    assert_eq!(moves, 20);
}

#[tokio::test]
async fn functions_that_read_and_write_files_end_alike_however_often_they_are_moved() {
    let file = |name: &str| Input::File(functions().join("inputs").join(name));
    let text = "documents/alice-in-wonderland.txt";
    ends_alike("text-stats", &["--top", "10"], file(text), 20).await;
    ends_alike("compress", &["--level", "9"], file(text), 20).await;
}

/// Calls itself as often as its input says (four bytes), computes for a while, and writes the number of the calls.
const DEEP: &str = r#"(module
  (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func $down (param $left i32) (param $mark i64) (result i32) (local $spins i32)
    (if (i32.eqz (local.get $left))
      (then
        (loop $spin
          (i32.store (i32.const 100) (local.get $spins))
          (br_if $spin (i32.lt_u (local.tee $spins (i32.add (local.get $spins) (i32.const 1))) (i32.const 200000000))))
        (return (i32.const 0))))
    (i32.add
      (call $down (i32.sub (local.get $left) (i32.const 1)) (i64.add (local.get $mark) (i64.const 3)))
      (i64.eq (local.get $mark) (i64.mul (i64.const 3) (i64.extend_i32_u (i32.sub (i32.load (i32.const 64)) (local.get $left)))))))
  (func (export "_start")
    (i32.store (i32.const 0) (i32.const 64))
    (i32.store (i32.const 4) (i32.const 4))
    (if (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)) (then unreachable))
    (i32.store (i32.const 64) (call $down (i32.load (i32.const 64)) (i64.const 0)))
    (if (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)) (then unreachable))))"#;

/// The same with much in each call: it evaluates an expression nested as deep as its input says, with operands and
/// locals that are alive on the way back.
const WIDE: &str = r#"(module
  (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func $factor (param $a f64) (param $b f64) (param $c f64) (param $d f64) (param $left i32) (result f64) (local $spins i32)
    (if (i32.eqz (local.get $left))
      (then
        (loop $spin
          (i32.store (i32.const 100) (local.get $spins))
          (br_if $spin (i32.lt_u (local.tee $spins (i32.add (local.get $spins) (i32.const 1))) (i32.const 200000000))))
        (return (f64.const 1))))
    (f64.add
      (f64.mul (f64.add (local.get $a) (local.get $c)) (f64.const 1e-9))
      (f64.add
        (call $expression (f64.mul (local.get $a) (f64.const 1.0001)) (f64.sub (local.get $b) (local.get $d))
          (f64.add (local.get $c) (local.get $d)) (f64.mul (local.get $d) (f64.const 0.999)) (i32.sub (local.get $left) (i32.const 1)))
        (f64.mul (local.get $b) (f64.mul (local.get $d) (f64.const 1e-12))))))
  (func $expression (param $a f64) (param $b f64) (param $c f64) (param $d f64) (param $left i32) (result f64)
    (f64.add
      (f64.add
        (f64.mul (call $factor (local.get $a) (local.get $b) (local.get $c) (local.get $d) (local.get $left)) (f64.const 0.5))
        (f64.add (local.get $a) (local.get $b)))
      (f64.add (f64.mul (local.get $c) (f64.const 1e-9)) (local.get $d))))
  (func (export "_start")
    (i32.store (i32.const 0) (i32.const 64))
    (i32.store (i32.const 4) (i32.const 4))
    (if (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)) (then unreachable))
    (drop (call $expression (f64.const 1) (f64.const 2) (f64.const 3) (f64.const 4) (i32.load (i32.const 64))))
    (if (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)) (then unreachable))))"#;

fn calls(count: u32) -> Input {
    Input::Inline(Bytes::copy_from_slice(&count.to_le_bytes()))
}

/// How deep it can call, to within a hundredth.
async fn deepest(bench: &Bench) -> u32 {
    let mut bed = bench.start().await;
    let (mut fits, mut overflows) = (1_000_u32, 4_000_000_u32);
    while overflows - fits > fits / 100 {
        let middle = fits.midpoint(overflows);
        bed.run_with(0, calls(middle));
        match bed.finished().await.outcome {
            Ok(_) => fits = middle,
            Err(Failure::Trap { message, .. }) => {
                assert!(message.contains("stack"), "{message}");
                overflows = middle;
            }
            Err(other) => panic!("{other}"),
        }
    }
    fits
}

/// The same without its loop at the bottom, to find out how deep it can call.
fn without_spinning(text: &str) -> Vec<u8> {
    wat::parse_str(text.replace("200000000", "2")).expect("valid text")
}

#[tokio::test]
async fn a_run_whose_stack_just_fits_fits_in_every_build_and_after_any_number_of_moves() {
    for text in [DEEP, WIDE] {
        let (plain, movable) = builds(&without_spinning(text), &[]);
        let (fits_plain, fits_movable) = (deepest(&plain).await, deepest(&movable).await);
        println!("{fits_plain} calls fit in the plain build, {fits_movable} in the movable one");
        assert!(fits_plain > 50_000, "a parser of nested text gets somewhere");
        assert!(fits_plain <= fits_movable, "what succeeds plain succeeds movable: {fits_plain} and {fits_movable}");
        let (_, movable) = builds(&wat::parse_str(text).expect("valid text"), &[]);
        let (finished, moves) = moved(&movable, &calls(fits_movable), 5, 20_000).await;
        assert_eq!(inline(&finished), fits_movable.to_le_bytes());
        assert_eq!(moves, 5, "at {fits_movable} calls");
    }
}

#[tokio::test]
async fn a_hundred_thousand_calls_are_not_too_many_for_any_build() {
    let (plain, movable) = builds(&without_spinning(DEEP), &[]);
    for bench in [plain, movable] {
        let mut bed = bench.start().await;
        bed.run_with(0, calls(100_000));
        assert_eq!(inline(&bed.finished().await), 100_000_u32.to_le_bytes());
    }
}
