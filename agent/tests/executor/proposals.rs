//! What WebAssembly has had finished since its first version, and modules of today use: plain builds run it.

use std::path::Path;

use lull_engine::{
    executor::inspect::inspect,
    migratable::{self, NotMovable},
};
use lull_shared::{message::ModuleKind, state::Failure};

use super::bench::{Bench, inline};

/// A command that writes the four bytes of a number.
fn writes(rest: &str, number: &str) -> String {
    format!(
        r#"(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  {rest}
  (func (export "_start")
    (i32.store (i32.const 16) {number})
    (i32.store (i32.const 0) (i32.const 16))
    (i32.store (i32.const 4) (i32.const 4))
    (if (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)) (then unreachable))))"#
    )
}

/// What it writes; it is publishable, and there is no build of it that can be moved.
async fn written(text: &str) -> i32 {
    let module = wat::parse_str(text).expect("valid text");
    inspect(&module).unwrap_or_else(|refusal| panic!("{refusal}"));
    migratable::rewrite(&module).expect_err("it is not movable");
    let finished = Bench::new(text).once(b"").await;
    i32::from_le_bytes(inline(&finished).try_into().expect("four bytes"))
}

#[tokio::test]
async fn an_exception_is_caught_with_what_it_carries_from_any_depth() {
    let text = writes(
        r#"(tag $t (param i32)) (tag $other)
  (func $deep (param $n i32)
    (if (i32.eqz (local.get $n)) (then (throw $t (i32.const 5))))
    (call $deep (i32.sub (local.get $n) (i32.const 1))))
  (func $caught (result i32)
    (block $all
      (return (block $mine (result i32)
        (try_table (catch $t $mine) (catch_all $all) (call $deep (i32.const 100)))
        (i32.const 1))))
    (i32.const 2))
  (func $many (result i32) (local $left i32) (local $sum i32)
    (local.set $left (i32.const 100000))
    (loop $more
      (local.set $sum (i32.add (local.get $sum) (call $caught_once)))
      (br_if $more (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))
    (local.get $sum))
  (func $caught_once (result i32)
    (block $mine (result i32) (try_table (catch $t $mine) (throw $t (i32.const 1))) (i32.const 0)))"#,
        "(i32.add (call $many) (call $caught))",
    );
    assert_eq!(written(&text).await, 100_005);
}

/// What a function in `tests/functions` writes for an input, and that it runs plain only.
async fn written_by(module: &str, input: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../tests/functions/modules/{module}.wasm"));
    let module = std::fs::read(path).expect("the module");
    inspect(&module).unwrap_or_else(|refusal| panic!("{refusal}"));
    assert_eq!(migratable::rewrite(&module), Err(NotMovable::Exceptions));
    let finished = Bench::of_module(&module, ModuleKind::Preview1).once(input.as_bytes()).await;
    String::from_utf8(inline(&finished).to_vec()).expect("text")
}

#[tokio::test]
async fn a_cpp_program_throws_and_catches_by_base_class_and_destroys_what_it_leaves() {
    let input = "1+2*3\n(4\n8/(2-2)\n((((1))))x\n(((((2+3)*4)))-1)\n";
    let expected = "7\nunexpected at 3\ndivision by zero at 7\nunexpected at 10\n19\n0 alive\n";
    assert_eq!(written_by("expressions", input).await, expected);
}

#[tokio::test]
async fn a_lua_script_catches_its_errors_also_out_of_coroutines_and_c_functions() {
    let script = r#"
local function fails(n) if n == 0 then error({code = 7}) end return fails(n - 1) + 1 end
local ok, caught = pcall(fails, 100)
print(ok, caught.code)
print(pcall(string.rep))
local stepping = coroutine.wrap(function() for n = 1, 3 do coroutine.yield(n) end error("no more", 0) end)
print(stepping(), stepping(), stepping(), pcall(stepping))
local sum = 0
for n = 1, 2000 do sum = sum + select(2, pcall(error, n)) end
print(sum)
"#;
    let expected =
        "false\t7\nfalse\tbad argument #1 to 'string.rep' (string expected, got no value)\n1\t2\t3\tfalse\tno more\n2001000\n";
    assert_eq!(written_by("lua", script).await, expected);
}

#[tokio::test]
async fn an_exception_that_nothing_catches_is_said_to_be_one() {
    let text = "(module (memory (export \"memory\") 1) (tag $t) (func $f (throw $t)) (func (export \"_start\") (call $f)))";
    let Failure::Trap { message, .. } = Bench::new(text).failure().await else { panic!("it fails by it") };
    assert_eq!(message, "an exception that nothing catches");
}

#[tokio::test]
async fn collected_objects_are_collected_circles_too() {
    // A hundred million bytes in all, in circles of two, within a limit of 64 MiB.
    let text = writes(
        r#"(type $array (array (mut i8)))
  (type $node (struct (field $other (mut (ref null $node))) (field $bytes (ref $array)) (field $n i32)))
  (func $circles (result i32) (local $a (ref null $node)) (local $b (ref null $node)) (local $left i32) (local $sum i32)
    (local.set $left (i32.const 50000))
    (loop $more
      (local.set $a (struct.new $node (ref.null $node) (array.new $array (i32.const 1) (i32.const 1000)) (i32.const 2)))
      (local.set $b (struct.new $node (local.get $a) (array.new $array (i32.const 1) (i32.const 1000)) (i32.const 3)))
      (struct.set $node $other (local.get $a) (local.get $b))
      (local.set $sum (i32.add (local.get $sum) (struct.get $node $n (struct.get $node $other (local.get $a)))))
      (br_if $more (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))
    (local.get $sum))"#,
        "(call $circles)",
    );
    assert_eq!(written(&text).await, 150_000);
}

#[tokio::test]
async fn a_collected_heap_is_bounded_by_the_attempts_memory_and_the_next_attempt_finds_it_empty() {
    let text = r#"(module (memory (export "memory") 1)
  (type $node (struct (field (ref null $node)) (field i64)))
  (func (export "_start") (local $list (ref null $node))
    (loop $more (local.set $list (struct.new $node (local.get $list) (i64.const 1))) (br $more))))"#;
    let bench = Bench::new(text);
    let mut bed = bench.start().await;
    for index in 0..3 {
        bed.run(index, b"");
        let finished = bed.finished().await;
        assert_eq!(finished.outcome, Err(Failure::MemoryLimit { limit_bytes: 64 << 20 }));
        assert!(finished.usage.memory_peak_bytes <= 64 << 20, "{:?}", finished.usage);
    }
}

#[tokio::test]
async fn tables_of_foreign_references_and_references_to_functions_run() {
    let text = writes(
        r#"(table $t 4 externref) (type $f (func (result i32)))
  (func $seven (type $f) (i32.const 7)) (elem declare func $seven)
  (func $all (result i32)
    (table.set $t (i32.const 1) (ref.null extern))
    (drop (table.grow $t (ref.null extern) (i32.const 3)))
    (i32.add (i32.add (ref.is_null (table.get $t (i32.const 1))) (table.size $t)) (call_ref $f (ref.func $seven))))"#,
        "(call $all)",
    );
    assert_eq!(written(&text).await, 1 + 7 + 7);
}

#[tokio::test]
async fn a_million_tail_calls_take_no_stack() {
    let text = writes(
        r#"(func $count (param $left i32) (param $sum i32) (result i32)
    (if (i32.eqz (local.get $left)) (then (return (local.get $sum))))
    (return_call $count (i32.sub (local.get $left) (i32.const 1)) (i32.add (local.get $sum) (i32.const 2))))"#,
        "(call $count (i32.const 1000000) (i32.const 0))",
    );
    assert_eq!(written(&text).await, 2_000_000);
}

#[tokio::test]
async fn several_memories_and_tables_run_in_either_build() {
    let text = writes(
        r#"(memory $b 1) (memory $c 1) (memory $d 1) (table 1 funcref) (table 1 funcref) (table 1 funcref) (table 1 externref)
  (func $all (result i32)
    (i32.store $b (i32.const 0) (i32.const 70)) (i32.store $d (i32.const 0) (i32.const 7))
    (i32.add (i32.load $b (i32.const 0)) (i32.load $d (i32.const 0))))"#,
        "(call $all)",
    );
    assert_eq!(inline(&Bench::new(&text).once(b"").await), 77_i32.to_le_bytes());
}
