//! What the pass takes and refuses, and what it does to a module. That builds run as their modules do is tried by the
//! programs in `tests/moves`, which move them.

use proptest::prelude::*;
use wasmparser::{Parser, Payload};

use super::{Build, NotMovable, contract, rewrite};

fn wasm(text: &str) -> Vec<u8> {
    wat::parse_str(text).expect("the text is valid")
}

/// A command with this beside an empty `_start`.
fn command(rest: &str) -> Vec<u8> {
    wasm(&format!("(module {rest} (func (export \"_start\")))"))
}

fn built(module: &[u8]) -> Build {
    rewrite(module).expect("it is movable")
}

fn refused(module: &[u8]) -> NotMovable {
    rewrite(module).expect_err("it is not movable")
}

fn exports(module: &[u8]) -> Vec<String> {
    let sections = Parser::new(0).parse_all(module).map(|payload| payload.expect("it is valid"));
    let exports = sections.filter_map(|payload| if let Payload::ExportSection(exports) = payload { Some(exports) } else { None });
    exports.flatten().map(|export| export.expect("it is valid").name.to_owned()).collect()
}

#[test]
fn what_cannot_be_written_into_a_snapshot_is_refused_with_its_reason() {
    let table = |instruction| NotMovable::Table { instruction };
    let cases = [
        ("(tag) (func (throw 0))", NotMovable::Exceptions),
        ("(func $f return_call $f)", NotMovable::TailCalls),
        ("(memory 1 1 shared)", NotMovable::Threads),
        ("(memory i64 1)", NotMovable::Memory64),
        ("(type $t (func)) (func (param (ref $t)))", NotMovable::FunctionReferences),
        ("(type (struct))", NotMovable::Gc),
        ("(table 1 externref)", NotMovable::ForeignReferences),
        ("(func (param externref))", NotMovable::ForeignReferences),
        ("(table 1 funcref) (func (table.set (i32.const 0) (ref.null func)))", table("table.set")),
        ("(table 1 funcref) (func (drop (table.grow (ref.null func) (i32.const 1))))", table("table.grow")),
        ("(table 1 funcref) (elem func 0) (func (table.init 0 (i32.const 0) (i32.const 0) (i32.const 0)))", table("table.init")),
        ("(global (mut funcref) (ref.null func))", NotMovable::References),
        ("(func (export \"lull_run\"))", NotMovable::Reserved { name: "lull_run".into() }),
    ];
    for (text, reason) in cases {
        assert_eq!(refused(&command(text)), reason, "{text}");
    }
}

#[test]
fn a_module_that_imports_more_than_functions_is_refused() {
    let module = wasm(r#"(module (import "env" "memory" (memory 1)) (func (export "_start")))"#);
    assert_eq!(refused(&module), NotMovable::Import { import: "env::memory".into() });
}

#[test]
fn a_library_a_component_and_nonsense_are_refused() {
    assert_eq!(refused(&wasm("(module)")), NotMovable::NoStart);
    assert_eq!(refused(&wasm(r#"(module (func (export "_start") (param i32)))"#)), NotMovable::NoStart);
    assert_eq!(refused(&wasm("(component)")), NotMovable::Component);
    assert!(matches!(refused(b"nonsense"), NotMovable::Invalid { .. }));
}

#[test]
fn a_reference_that_is_alive_at_a_poll_is_refused_and_one_that_is_not_is_taken() {
    let with = |after: &str| {
        command(&format!(
            r#"(table 1 funcref) (start $f) (func $f (local $r funcref)
               (local.set $r (table.get (i32.const 0)))
               (drop (ref.is_null (local.get $r)))
               (loop $l (br_if $l (i32.eqz (i32.const 1)))) {after})"#
        ))
    };
    assert_eq!(refused(&with("(drop (ref.is_null (local.get $r)))")), NotMovable::References);
    built(&with(""));
}

#[test]
fn a_build_exports_what_the_host_needs_beside_what_the_module_exports() {
    let module = command(
        r#"(memory (export "memory") 1) (memory 2) (global $g (mut i64) (i64.const 3)) (global i32 (i32.const 1))
           (data $d "passive") (func (export "own") (data.drop $d))"#,
    );
    let names = exports(&built(&module).module);
    let expected = [
        "memory",
        "own",
        "_start",
        contract::STACK,
        contract::STATE,
        contract::STACK_POINTER,
        contract::RUN,
        contract::RESTORED,
        "lull_memory_0",
        "lull_memory_1",
        "lull_global_0",
        "lull_global_2",
    ];
    assert_eq!(names, expected);
}

#[test]
fn a_build_says_which_module_it_was_made_of() {
    let module = command("");
    let build = built(&module).module;
    let mark = Parser::new(0).parse_all(&build).find_map(|payload| match payload.expect("it is valid") {
        Payload::CustomSection(section) if section.name() == contract::SECTION => Some(section.data().to_vec()),
        _ => None,
    });
    let mark = mark.expect("the section is there");
    assert_eq!(mark[0], contract::VERSION);
    assert_eq!(mark[1..], *blake3::hash(&module).as_bytes());
}

#[test]
fn equal_modules_give_equal_builds_and_a_build_is_not_built_again() {
    let module = command("(func $f (loop $l (br_if $l (i32.const 0)))) (start $f)");
    let build = built(&module);
    assert_eq!(build, built(&module));
    assert_eq!(refused(&build.module), NotMovable::Threads, "its polls are atomic");
    let without_polls = built(&command("")).module;
    assert!(matches!(refused(&without_polls), NotMovable::Reserved { .. }));
}

#[test]
fn a_function_that_cannot_be_on_the_stack_when_a_poll_fires_is_left_alone() {
    let module = wasm(
        r#"(module
            (func $leaf (param i32) (result i32) (i32.add (local.get 0) (i32.const 1)))
            (func $unused (loop $l (br $l)))
            (func $loops (loop $l (br_if $l (call $leaf (i32.const -1)))))
            (func (export "_start") (call $loops)))"#,
    );
    let stats = built(&module).stats;
    assert_eq!((stats.functions, stats.suspendable), (4, 2), "the one that loops and the one that calls it");
}

#[test]
fn a_circle_of_calls_polls_once_also_through_a_table() {
    let direct = "(func $a (call $b)) (func $b (call $a)) (start $a)";
    let table = "(table funcref (elem $a)) (type $t (func)) (func $a (call_indirect (type $t) (i32.const 0))) (start $a)";
    // A point for each call that can be suspended, and one at an entry.
    assert_eq!(built(&command(direct)).stats.points, 3);
    assert_eq!(built(&command(table)).stats.points, 2);
}

#[test]
fn calls_that_take_long_without_a_loop_poll_now_and_then() {
    let chain = |length: usize| {
        let links: String = (0..length).map(|at| format!("(func $f{at} (call $f{0}) (call $f{0}))", at + 1)).collect();
        built(&command(&format!("{links} (func $f{length}) (start $f0)"))).stats
    };
    assert_eq!(chain(10).points, 0, "a thousand calls");
    let stats = chain(60);
    // Two points in each but the last, and polls at entries.
    assert!((2..6).contains(&(stats.points - 2 * (stats.suspendable - 1))), "{stats:?}");
}

#[test]
fn only_locals_that_are_read_later_are_spilled() {
    let module = command(
        "(start $f) (func $f (local $once i32) (local $kept i64) (local $anew f64)
            (drop (local.get $once))
            (loop $l (br_if $l (i32.eqz (i32.wrap_i64 (local.get $kept)))) )
            (local.set $anew (f64.const 1)) (drop (local.get $anew)))",
    );
    let stats = built(&module).stats;
    assert_eq!((stats.points, stats.spilled), (1, 1));
}

#[test]
fn a_loop_of_few_rounds_has_no_poll_and_one_of_many_has() {
    let rounds = |last: u32| {
        let module = command(&format!(
            "(start $f) (func $f (local $i i32) (local.set $i (i32.const 0))
                (loop $l (br_if $l (i32.ne (local.tee $i (i32.add (local.get $i) (i32.const 4))) (i32.const {last})))))"
        ));
        built(&module).stats.points
    };
    assert_eq!(rounds(64), 0);
    assert_eq!(rounds(400_000), 1);
    assert_eq!(rounds(66), 1, "it goes all the way around");
}

#[test]
fn blocks_nested_a_hundred_thousand_deep_do_not_exhaust_the_stack() {
    // The text format's own parser has a limit, so the bytes are made by hand.
    let mut function = wasm_encoder::Function::new([]);
    for _ in 0..100_000 {
        function.instruction(&wasm_encoder::Instruction::Block(wasm_encoder::BlockType::Empty));
    }
    function.instruction(&wasm_encoder::Instruction::Loop(wasm_encoder::BlockType::Empty));
    for _ in 0..=100_001 {
        function.instruction(&wasm_encoder::Instruction::End);
    }
    let stats = built(&start(&function)).stats;
    assert_eq!(stats.points, 1);
}

/// So many nests of loops, each so many deep.
fn nests(count: usize, depth: usize) -> Vec<u8> {
    let mut function = wasm_encoder::Function::new([]);
    for _ in 0..count {
        for _ in 0..depth {
            function.instruction(&wasm_encoder::Instruction::Loop(wasm_encoder::BlockType::Empty));
        }
        for _ in 0..depth {
            function.instruction(&wasm_encoder::Instruction::End);
        }
    }
    function.instruction(&wasm_encoder::Instruction::End);
    start(&function)
}

#[test]
fn loops_nested_deep_are_built_and_so_many_that_the_build_would_be_huge_are_refused() {
    assert_eq!(built(&nests(1, 40)).stats.points, 40);
    assert!(matches!(refused(&nests(40, 160)), NotMovable::TooLarge { .. }));
}

/// A command whose `_start` is this.
fn start(function: &wasm_encoder::Function) -> Vec<u8> {
    let mut module = wasm_encoder::Module::new();
    let mut types = wasm_encoder::TypeSection::new();
    types.ty().function([], []);
    let mut functions = wasm_encoder::FunctionSection::new();
    functions.function(0);
    let mut exports = wasm_encoder::ExportSection::new();
    exports.export("_start", wasm_encoder::ExportKind::Func, 0);
    let mut code = wasm_encoder::CodeSection::new();
    code.function(function);
    module.section(&types).section(&functions).section(&exports).section(&code);
    module.finish()
}

proptest! {
    #[test]
    fn a_damaged_module_is_refused_or_built_but_never_a_panic(at in 0_usize..1 << 16, byte: u8, cut in 0_usize..64) {
        let mut module = command(
            r#"(memory 1) (table 2 funcref) (elem (i32.const 0) $f $g) (type $t (func (param i32) (result i32 i64)))
               (global $x (mut f32) (f32.const 1)) (data $d "some") (start $f)
               (func $g (type $t) (local v128) (local.get 0) (i64.const 3)
                 (block (param i32 i64) (result i32 i64) (br_table 0 0 (i32.const 0))))
               (func $f (local i32 f64) (i32.const 3)
                 (loop $l (param i32) (result i32) (local.set 0)
                   (if (i32.lt_s (local.get 0) (i32.const 9))
                     (then (drop (drop (call_indirect (type $t) (local.get 0) (i32.const 1))))) (else (data.drop $d)))
                   (br_if $l (local.tee 0 (i32.sub (local.get 0) (i32.const 1))) (local.get 0)))
                 (drop))"#,
        );
        let length = module.len();
        module[at % length] = byte;
        module.truncate(length - cut % 8);
        let _ = rewrite(&module);
    }
}
