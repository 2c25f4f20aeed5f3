//! Programs that are moved while they run end as they do undisturbed.
//!
//! `cargo run --workspace --bin moves` does the same with as many random programs as one likes.

use std::{fs, sync::LazyLock, time::Duration};

use lull_tests::{
    cluster::functions,
    moves::{
        differ::{Agreement, Pace, Pair},
        machine::engine,
        program::program,
        unwinding,
        wasi::Wasi,
    },
};
use wasmtime::Engine;

static ENGINE: LazyLock<Engine> = LazyLock::new(engine);

/// Random programs of each run; `moves` tries thousands.
const PROGRAMS: u64 = 40;

/// Moves a program at random moments, then at every poll.
fn agrees(text: &str) -> Agreement {
    let module = wat::parse_str(text).expect("the text is valid");
    let pair = Pair::new(&ENGINE, &module).unwrap_or_else(|reason| panic!("{reason}"));
    let agree = |pace| pair.compare(&Wasi::default(), 7, pace).unwrap_or_else(|difference| panic!("{pace:?}: {difference}"));
    agree(Pace::Fuel(50));
    agree(Pace::Always)
}

#[test]
fn a_loop_keeps_its_locals_of_every_type_and_every_round_makes_progress() {
    let agreement = agrees(
        r#"(module
            (global (export "sum") (mut f64) (f64.const 0))
            (global (export "bits") (mut v128) (v128.const i64x2 0 0))
            (func (export "_start") (local $i i32) (local $l i64) (local $f f32) (local $d f64) (local $v v128)
              (local.set $i (i32.const 100))
              (loop $again
                (local.set $l (i64.add (local.get $l) (i64.const 0x100000001)))
                (local.set $f (f32.add (local.get $f) (f32.const 0.5)))
                (local.set $d (f64.add (local.get $d) (f64.promote_f32 (local.get $f))))
                (local.set $v (i64x2.add (local.get $v) (i64x2.splat (local.get $l))))
                (br_if $again (local.tee $i (i32.sub (local.get $i) (i32.const 1)))))
              (global.set 0 (local.get $d))
              (global.set 1 (local.get $v))))"#,
    );
    assert_eq!(agreement.moves, 100, "one at each poll");
}

#[test]
fn a_local_that_is_read_only_in_the_next_round_or_behind_a_branch_is_kept_across_a_call() {
    agrees(
        r#"(module
            (global (export "g") (mut i32) (i32.const 0))
            (func $wait (param $n i32)
              (loop $l (br_if $l (local.tee $n (i32.sub (local.get $n) (i32.const 1))))))
            (func (export "_start") (local $i i32) (local $next i32) (local $behind i32)
              (local.set $i (i32.const 9)) (local.set $next (i32.const 5)) (local.set $behind (i32.const 7))
              block $out
                loop $l
                  (global.set 0 (i32.add (i32.mul (global.get 0) (i32.const 31)) (local.get $next)))
                  (call $wait (i32.const 3))
                  (br_if $out (i32.eqz (local.tee $i (i32.sub (local.get $i) (i32.const 1)))))
                  (br_if $l (i32.const 1))
                end
                unreachable
              end
              (global.set 0 (i32.add (global.get 0) (local.get $behind)))))"#,
    );
}

#[test]
fn operands_below_blocks_and_loops_with_parameters_are_kept() {
    let agreement = agrees(
        r#"(module
            (global (export "g") (mut i64) (i64.const 0))
            (func $two (param $n i32) (result i64 i32)
              loop $l
                local.get $n  i32.const 1  i32.sub  local.tee $n  br_if $l
              end
              i64.const 5  local.get $n)
            (func (export "_start") (local $i i32) (local $x f32)
              (local.set $i (i32.const 6))
              loop $again
                i64.const 1000
                block $out (result i64)
                  i64.const 7
                  f32.const 2.5
                  loop $inner (param f32) (result f32)
                    f32.const 1  f32.add  local.tee $x
                    i32.const 3  call $two  drop  drop
                    local.get $x  f32.const 9  f32.lt  br_if $inner
                  end
                  i64.trunc_f32_s
                  local.get $i  call $two  drop  i64.add  i64.add
                  local.get $i  i32.const 3  i32.eq  br_if $out
                  i64.const 1  i64.add
                end
                i64.mul
                global.get 0  i64.add  global.set 0
                local.get $i  i32.const 1  i32.sub  local.tee $i  br_if $again
              end))"#,
    );
    assert!(agreement.moves > 60, "it was moved {} times", agreement.moves);
}

#[test]
fn both_ways_of_a_choice_are_resumed_in_the_way_that_was_taken() {
    agrees(
        r#"(module
            (global (export "g") (mut i32) (i32.const 1))
            (func $wait (param $n i32) (result i32)
              (loop $l (br_if $l (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
              (i32.const 3))
            (func (export "_start") (local $i i32)
              (local.set $i (i32.const 20))
              loop $again
                global.get 0
                local.get $i  i32.const 1  i32.and
                if (param i32) (result i32)
                  i32.const 2  call $wait  i32.mul
                else
                  i32.const 3  call $wait  i32.add
                end
                local.get $i  i32.const 4  i32.and
                if (param i32) (result i32)
                  i32.const 4  call $wait  i32.xor
                end
                global.set 0
                local.get $i  i32.const 1  i32.sub  local.tee $i  br_if $again
              end))"#,
    );
}

#[test]
fn recursion_ten_thousand_deep_is_written_down_and_built_up_again() {
    let module = wat::parse_str(
        r#"(module
            (global (export "g") (mut i64) (i64.const 0))
            (func $down (param $n i32) (result i64)
              (if (result i64) (local.get $n)
                (then (i64.add (i64.extend_i32_u (local.get $n)) (call $down (i32.sub (local.get $n) (i32.const 1)))))
                (else (call $wait))))
            (func $wait (result i64) (local $i i32)
              (local.set $i (i32.const 100000))
              (loop $l (br_if $l (local.tee $i (i32.sub (local.get $i) (i32.const 1)))))
              (i64.const 3))
            (func (export "_start") (global.set 0 (call $down (i32.const 10000)))))"#,
    )
    .expect("the text is valid");
    let pair = Pair::new(&ENGINE, &module).expect("it is movable");
    let agreement = pair.compare(&Wasi::default(), 3, Pace::Times(4)).expect("it ends alike");
    assert!(agreement.frames_bytes_max > 100_000, "only {} bytes of frames", agreement.frames_bytes_max);
}

#[test]
fn calls_through_tables_find_the_copy_that_was_suspended() {
    agrees(
        r#"(module
            (type $t (func (param i32) (result i32)))
            (table 4 funcref)
            (elem (i32.const 0) $even $odd)
            (elem (table 0) (offset (i32.const 2)) funcref (item (ref.func $odd)) (item (ref.null func)))
            (elem declare func $even)
            (global (export "g") (mut i32) (i32.const 0))
            (func $even (type $t)
              (if (result i32) (local.get 0)
                (then (call_indirect (type $t) (i32.sub (local.get 0) (i32.const 1)) (i32.const 1)))
                (else (i32.const 1))))
            (func $odd (type $t) (local $keep i32)
              (local.set $keep (i32.mul (local.get 0) (i32.const 3)))
              (if (result i32) (local.get 0)
                (then (i32.add (local.get $keep) (call_indirect (type $t) (i32.sub (local.get 0) (i32.const 1)) (i32.const 0))))
                (else (i32.const 0))))
            (func (export "_start")
              (global.set 0 (call_indirect (type $t) (i32.const 33) (i32.const 2)))
              (drop (call_indirect (type $t) (i32.const 1) (i32.const 3)))))"#,
    );
}

#[test]
fn a_start_function_is_suspended_too_and_runs_once() {
    agrees(
        r#"(module
            (memory (export "m") 1)
            (func $wait (loop $l
              (i32.store (i32.const 8) (i32.add (i32.load (i32.const 8)) (i32.const 1)))
              (br_if $l (i32.rem_u (i32.load (i32.const 8)) (i32.const 10)))))
            (func $first (i32.store (i32.const 0) (i32.add (i32.load (i32.const 0)) (i32.const 1))) (call $wait))
            (func (export "_start") (call $wait) (i32.store (i32.const 4) (i32.load (i32.const 0))))
            (start $first))"#,
    );
}

#[test]
fn passive_data_that_was_dropped_stays_dropped() {
    let agreement = agrees(
        r#"(module
            (memory (export "m") 1) (memory (export "n") 1 2)
            (data $a "first") (data $b "second")
            (func $wait (local $i i32)
              (local.set $i (i32.const 5))
              (loop $l (br_if $l (local.tee $i (i32.sub (local.get $i) (i32.const 1))))))
            (func (export "_start")
              (memory.init $a (i32.const 0) (i32.const 0) (i32.const 5))
              (data.drop $a)
              (drop (memory.grow 1 (i32.const 1)))
              (call $wait)
              (memory.init 1 $b (i32.const 70000) (i32.const 0) (i32.const 6))
              (memory.copy 0 1 (i32.const 100) (i32.const 70000) (i32.const 6))
              (call $wait)
              (memory.init $a (i32.const 0) (i32.const 0) (i32.const 5))))"#,
    );
    assert!(agreement.trapped, "the last of it traps");
}

#[test]
fn branches_out_of_everything_lead_where_they_led() {
    agrees(
        r#"(module
            (global (export "g") (mut i32) (i32.const 0))
            (func (export "_start") (local $i i32)
              loop $top
                block $a
                  block $b
                    block $c
                      loop $spin
                        local.get $i  i32.const 1  i32.add  local.tee $i
                        i32.const 5  i32.rem_u
                        br_table $spin $a $b $c $top
                      end
                      unreachable
                    end
                    global.get 0  i32.const 100  i32.add  global.set 0
                    br $a
                    loop $dead (br $dead) end
                  end
                  global.get 0  i32.const 10  i32.add  global.set 0
                end
                global.get 0  i32.const 1  i32.add  global.set 0
                local.get $i  i32.const 80  i32.lt_u  br_if $top
              end
              return))"#,
    );
}

#[test]
fn a_trap_after_a_move_is_the_same_trap() {
    let agreement = agrees(
        r#"(module
            (global (export "g") (mut i32) (i32.const 9))
            (func (export "_start")
              (loop $l
                (drop (i32.div_u (i32.const 1) (global.get 0)))
                (global.set 0 (i32.sub (global.get 0) (i32.const 1)))
                (br $l))))"#,
    );
    assert!(agreement.trapped && agreement.moves > 5);
}

#[test]
fn random_programs_agree_with_themselves() {
    for seed in 0..PROGRAMS {
        let pair = Pair::new(&ENGINE, &program(seed)).unwrap_or_else(|reason| panic!("seed {seed}: {reason}"));
        for pace in [Pace::Always, Pace::Fuel(400)] {
            if let Err(difference) = pair.compare(&Wasi::default(), seed, pace) {
                panic!("seed {seed}, {pace:?}: {difference}");
            }
        }
    }
}

/// From the flag to the last instruction. What a loop takes is microseconds; the bound leaves room for memory that is
/// filled by the hundred megabytes, on a busy machine.
const UNWOUND_MAX: Duration = Duration::from_millis(500);

#[test]
fn a_loop_of_any_kind_sees_the_flag_also_after_it_was_moved() {
    let engine = unwinding::engine();
    for (name, text) in unwinding::loops() {
        let module = wat::parse_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
        let times = unwinding::times(&engine, &module, 4).unwrap_or_else(|reason| panic!("{name}: {reason}"));
        assert!(times.iter().all(|time| *time <= UNWOUND_MAX), "{name}: {times:?}");
    }
}

#[test]
fn results_of_every_type_come_back_to_the_caller_that_was_suspended() {
    let agreement = agrees(
        r#"(module
            (global (export "a") (mut i32) (i32.const 0)) (global (export "b") (mut i64) (i64.const 0))
            (global (export "c") (mut f32) (f32.const 0)) (global (export "d") (mut f64) (f64.const 0))
            (global (export "e") (mut v128) (v128.const i64x2 0 0)) (global (export "f") (mut i32) (i32.const 0))
            (func $all (param $n i32) (result i32 i64 f32 f64 v128 i32)
              (loop $l (br_if $l (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
              (if (i32.and (global.get 0) (i32.const 1))
                (then (return (i32.const 3) (i64.const 4) (f32.const 5) (f64.const 6) (v128.const i64x2 7 8) (i32.const 9))))
              (i32.const 13) (i64.const 14) (f32.const 15) (f64.const 16) (v128.const i64x2 17 18) (i32.const 19))
            (func $through (result i32 i64 f32 f64 v128 i32)
              (call $all (i32.const 4)))
            (func (export "_start") (local $i i32)
              (local.set $i (i32.const 7))
              loop $again
                call $through
                global.get 5  i32.add  global.set 5
                global.get 4  i64x2.add  global.set 4
                global.get 3  f64.add  global.set 3
                global.get 2  f32.add  global.set 2
                global.get 1  i64.add  global.set 1
                global.get 0  i32.add  global.set 0
                local.get $i  i32.const 1  i32.sub  local.tee $i  br_if $again
              end))"#,
    );
    assert!(agreement.moves > 20);
}

#[test]
fn a_program_that_is_moved_again_while_it_comes_back_keeps_what_lies_below() {
    // Each level waits on its way back too, when its callers are frames still.
    let agreement = agrees(
        r#"(module
            (global (export "g") (mut i64) (i64.const 0))
            (func $wait (param $n i32) (loop $l (br_if $l (local.tee $n (i32.sub (local.get $n) (i32.const 1))))))
            (func $down (param $n i32) (param $mark i64) (result i64) (local $below i64)
              (if (i32.eqz (local.get $n)) (then (call $wait (i32.const 3)) (return (i64.const 1))))
              (local.set $below (call $down (i32.sub (local.get $n) (i32.const 1)) (i64.mul (local.get $mark) (i64.const 3))))
              (call $wait (i32.const 2))
              (drop (call $leaf (i32.const 2)))
              (i64.add (local.get $below) (local.get $mark)))
            (func $leaf (param $n i32) (result i64)
              (if (i32.eqz (local.get $n)) (then (call $wait (i32.const 2)) (return (i64.const 0))))
              (call $leaf (i32.sub (local.get $n) (i32.const 1))))
            (func (export "_start") (global.set 0 (call $down (i32.const 20) (i64.const 5)))))"#,
    );
    assert!(agreement.moves > 100, "{agreement:?}");
}

/// The smaller functions; `moves --functions` tries all, SQLite among them, which takes a compiler a while.
#[test]
fn real_functions_moved_twenty_times_say_what_they_say() {
    let document = fs::read(functions().join("inputs/documents/declaration-of-independence.txt")).expect("the document");
    let letters = fs::read(functions().join("inputs/letters.txt")).expect("the letters");
    let cases = [
        ("text-stats", vec![], document.clone()),
        ("monte-carlo", vec!["--paths", "2000"], b"7".to_vec()),
        ("redact", vec!["--report"], letters),
        ("compress", vec!["--level", "9"], document),
    ];
    for (name, arguments, input) in cases {
        let module = fs::read(functions().join(format!("modules/{name}.wasm"))).expect("the module");
        let pair = Pair::new(&ENGINE, &module).unwrap_or_else(|reason| panic!("{name}: {reason}"));
        let arguments = [name].into_iter().chain(arguments).map(str::to_owned).collect();
        let wasi = Wasi { arguments, input, ..Wasi::default() };
        let agreement = pair.compare(&wasi, 11, Pace::Times(20)).unwrap_or_else(|difference| panic!("{name}: {difference}"));
        assert!(agreement.moves >= 15, "{name} was moved {} times", agreement.moves);
    }
}
