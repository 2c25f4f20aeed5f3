//! How long a program takes from the raised flag until it has unwound, compiled as agents compile it.
//!
//! The moves of [`super::differ`] count fuel, and code that counts fuel is not optimised like the code that agents run: a
//! compiler may drop a poll there that it keeps here. So these loops run as agents run them, and a thread beside them
//! raises the flag.

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use lull_engine::migratable::{
    contract::{self, State},
    rewrite,
};
use wasmtime::{Config, Engine, Linker, Module, Store, Val};

use super::{
    machine::Flag,
    wasi::{self, Wasi},
};

/// How long a program runs before the flag is raised, again and again.
const PAUSE: Duration = Duration::from_millis(3);
/// How often the second thread looks whether it is time.
const NAP: Duration = Duration::from_micros(50);

/// An engine as agents have it, less the pool, with its compiler.
pub fn engine() -> Engine {
    let mut config = Config::new();
    config
        .relaxed_simd_deterministic(true)
        .wasm_branch_hinting(true)
        .memory_reservation(4 << 30)
        .memory_guard_size(32 << 20)
        .max_wasm_stack(8 << 20)
        .async_stack_size(16 << 20)
        .generate_address_map(false);
    Engine::new(&config).expect("the engine takes this configuration")
}

#[derive(Default)]
struct World {
    wasi: Wasi,
    flag: Option<Flag>,
}

/// Suspends a program so many times on its way, each time a while after it has gone on: the times in between, in
/// processor time of the thread that runs it. A program that ends before is one that does not see the flag.
pub fn times(engine: &Engine, module: &[u8], moves: usize) -> Result<Vec<Duration>, String> {
    let build = rewrite(module).map_err(|reason| format!("it is not movable: {reason}"))?;
    let module = Module::new(engine, &build.module).map_err(|error| format!("the build does not compile: {error:#}"))?;
    let mut linker = Linker::new(engine);
    wasi::link(&mut linker, |world: &mut World| &mut world.wasi);
    let poll = |mut caller: wasmtime::Caller<'_, World>| -> i32 {
        if let Some(flag) = caller.data_mut().flag {
            flag.set(false);
        }
        1
    };
    linker.func_wrap(contract::IMPORT_MODULE, contract::IMPORT_POLL, poll).expect("the name is free");
    let mut store = Store::new(engine, World::default());
    let instance = linker.instantiate(&mut store, &module).map_err(|error| format!("{error:#}"))?;
    let flag = Flag::of(&instance, &mut store).expect("a build");
    store.data_mut().flag = Some(flag);
    let run = instance.get_typed_func::<(), ()>(&mut store, contract::RUN).expect("a build");
    let state = instance.get_global(&mut store, contract::STATE).expect("a build");
    let mut times = Vec::with_capacity(moves);
    while times.len() < moves {
        let (raised, ended) = (AtomicU64::new(0), AtomicBool::new(false));
        let clock = own_clock();
        let result = thread::scope(|scope| {
            let (raised, ended) = (&raised, &ended);
            scope.spawn(move || {
                let flag = flag;
                let began = Instant::now();
                while began.elapsed() < PAUSE && !ended.load(Ordering::SeqCst) {
                    thread::sleep(NAP);
                }
                raised.store(time_of(clock).as_nanos() as u64, Ordering::SeqCst);
                flag.set(true);
            });
            let result = run.call(&mut store, ());
            let now = time_of(clock);
            ended.store(true, Ordering::SeqCst);
            result.map(|()| now)
        });
        flag.set(false);
        let now = result.map_err(|error| format!("it fails: {error:#}"))?;
        if state.get(&mut store).i32() != Some(State::Unwinding as i32) {
            return Err(format!("it ended by itself after {} moves: it does not see the flag", times.len()));
        }
        times.push(now.saturating_sub(Duration::from_nanos(raised.load(Ordering::SeqCst))));
        state.set(&mut store, Val::I32(State::Rewinding as i32)).expect("it can be set");
    }
    Ok(times)
}

/// Loops of all kinds that a compiler may take apart, each by its name; they run for seconds.
pub fn loops() -> Vec<(&'static str, String)> {
    let step =
        "(local.set $h (i64.add (i64.mul (local.get $h) (i64.const 6364136223846793005)) (i64.const 1442695040888963407)))";
    let count = |local: &str, to: u64, label: &str| {
        format!("(br_if {label} (i64.lt_u (local.tee {local} (i64.add (local.get {local}) (i64.const 1))) (i64.const {to})))")
    };
    let long = 20_000_000_000;
    let in_loop = |label: &str, local: &str, to: u64, body: &str| {
        format!("(local.set {local} (i64.const 0)) (loop {label} {body} {})", count(local, to, label))
    };
    let program = |before: &str, body: &str| {
        format!(
            "(module (memory (export \"memory\") 4096) (global $g (mut i64) (i64.const 1)) {before}
               (func (export \"_start\") (local $h i64) (local $i i64) (local $j i64) (local $k i64)
                 {body} (global.set $g (local.get $h)) (i64.store (i32.const 8) (local.get $h))))"
        )
    };
    let reading = "(local.set $h (i64.add (local.get $h) (i64.load (i32.and (i32.wrap_i64 (local.get $i)) (i32.const 0xfff8)))))";
    let writing = "(i64.store (i32.and (i32.wrap_i64 (local.get $i)) (i32.const 0xfff8)) (local.get $i))";
    let short = "(local.set $c (i32.const 64)) (loop $s (local.set $x (i64.rotl (local.get $x) (i64.const 7)))
                 (br_if $s (local.tee $c (i32.sub (local.get $c) (i32.const 1)))))";
    let links: String = (0..48).map(|at| format!("(func $d{at} (call $d{0}) (call $d{0}))", at + 1)).collect();
    vec![
        ("a loop that only computes", program("", &in_loop("$a", "$i", long, step))),
        ("a loop that only reads", program("", &in_loop("$a", "$i", long, reading))),
        ("a loop that writes", program("", &in_loop("$a", "$i", long, writing))),
        ("a loop behind a loop", program("", &(in_loop("$a", "$i", 1000, step) + &in_loop("$b", "$j", long, step)))),
        (
            "a loop behind a loop, twice",
            program(
                "",
                &(in_loop("$a", "$i", 1000, step) + &in_loop("$b", "$j", 1000, reading) + &in_loop("$c", "$k", long, step)),
            ),
        ),
        ("a loop in a loop", program("", &in_loop("$a", "$i", 8, &in_loop("$b", "$j", long, step)))),
        ("a loop in a loop that only reads", program("", &in_loop("$a", "$j", 8, &in_loop("$b", "$i", long, reading)))),
        (
            "a loop in a loop in a loop",
            program("", &in_loop("$a", "$i", 8, &in_loop("$b", "$j", 8, &in_loop("$c", "$k", long, step)))),
        ),
        (
            "short loops in a loop",
            program(
                &format!("(func $w (param $x i64) (result i64) (local $c i32) {short} (local.get $x))"),
                &in_loop("$a", "$i", long, "(local.set $h (i64.add (i64.const 1) (call $w (local.get $h))))"),
            ),
        ),
        (
            "two ways around one loop",
            program(
                "",
                &in_loop(
                    "$a",
                    "$i",
                    long,
                    &format!("(if (i64.eqz (i64.and (local.get $h) (i64.const 1))) (then {step} (br $a))) {step}"),
                ),
            ),
        ),
        (
            "a recursion without loops",
            program(
                "(func $fib (param i64) (result i64) (if (result i64) (i64.lt_u (local.get 0) (i64.const 2)) (then (local.get 0))
                   (else (i64.add (call $fib (i64.sub (local.get 0) (i64.const 1))) (call $fib (i64.sub (local.get 0) (i64.const 2)))))))",
                "(local.set $h (call $fib (i64.const 60)))",
            ),
        ),
        (
            "a loop in a recursion",
            program(
                &format!(
                    "(func $down (param $n i64) (result i64) (local $h i64) (local $i i64)
                       (if (i64.eqz (local.get $n)) (then {} (return (local.get $h))))
                       (i64.add (call $down (i64.sub (local.get $n) (i64.const 1))) (i64.const 1)))",
                    in_loop("$a", "$i", long, step)
                ),
                "(local.set $h (call $down (i64.const 5000)))",
            ),
        ),
        ("calls that take long without a loop", program(&format!("{links} (func $d48)"), "(call $d0)")),
        (
            "memory that is filled and copied",
            program(
                "",
                &in_loop(
                    "$a",
                    "$i",
                    1_000_000,
                    "(memory.fill (i32.const 0) (i32.const 7) (i32.const 0x8000000))
                     (memory.copy (i32.const 0x8000000) (i32.const 0) (i32.const 0x8000000))",
                ),
            ),
        ),
    ]
}

/// The processor time of this thread.
pub fn processor_time() -> Duration {
    time_of(libc::CLOCK_THREAD_CPUTIME_ID)
}

/// The clock of this thread's processor time, which other threads can read.
pub fn own_clock() -> libc::clockid_t {
    let mut clock = libc::CLOCK_THREAD_CPUTIME_ID;
    // SAFETY: the thread exists, and the clock may be written.
    unsafe { libc::pthread_getcpuclockid(libc::pthread_self(), &mut clock) };
    clock
}

/// What a clock shows.
pub fn time_of(clock: libc::clockid_t) -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the structure is valid, and a failure leaves the zero in it.
    unsafe { libc::clock_gettime(clock, &mut time) };
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}
