//! Real functions in their migratable builds as the pass makes them, moved between processes.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use lull_agent::{
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
fn builds(module: &[u8], args: &[&str]) -> (Bench, Bench) {
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
async fn moved(bench: &Bench, input: &Input, moves_max: u32, apart_us: u64) -> (Finished, u32) {
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

#[tokio::test]
async fn a_run_whose_stack_just_fits_fits_after_a_move_too() {
    let (plain, movable) = builds(&wat::parse_str(DEEP).expect("valid text"), &[]);
    let calls = |count: u32| Input::Inline(Bytes::copy_from_slice(&count.to_le_bytes()));
    let mut bed = plain.start().await;
    // The deepest that fits, to within a hundredth.
    let (mut fits, mut overflows) = (1_000_u32, 1_000_000_u32);
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
    let (finished, moves) = moved(&movable, &calls(fits), 5, 20_000).await;
    assert_eq!(inline(&finished), fits.to_le_bytes());
    assert_eq!(moves, 5, "at {fits} calls");
}
