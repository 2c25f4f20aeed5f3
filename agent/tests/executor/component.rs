//! Components: the same contract through WASI 0.2.

use lull_agent::executor::inspect::inspect;
use lull_shared::{message::ModuleKind, state::Failure};

use super::bench::{Bench, inline};

/// A command that writes `hello` to standard output and then says whether it succeeded.
fn hello(result: u32) -> String {
    format!(
        r#"(component
  (import "wasi:io/error@0.2.0" (instance $error (export "error" (type (sub resource)))))
  (alias export $error "error" (type $error-type))
  (import "wasi:io/streams@0.2.0" (instance $streams
    (export "output-stream" (type $out (sub resource)))
    (alias outer 1 $error-type (type $e))
    (export "error" (type $error-again (eq $e)))
    (type $failed (variant (case "last-operation-failed" (own $error-again)) (case "closed")))
    (export "stream-error" (type $stream-error (eq $failed)))
    (export "[method]output-stream.blocking-write-and-flush"
      (func (param "self" (borrow $out)) (param "contents" (list u8)) (result (result (error $stream-error)))))))
  (alias export $streams "output-stream" (type $out))
  (import "wasi:cli/stdout@0.2.0" (instance $stdout
    (alias outer 1 $out (type $o))
    (export "output-stream" (type $out-again (eq $o)))
    (export "get-stdout" (func (result (own $out-again))))))
  (core module $memory
    (memory (export "memory") 1)
    (data (i32.const 64) "hello")
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024)))
  (core instance $m (instantiate $memory))
  (core func $get (canon lower (func $stdout "get-stdout")))
  (core func $write (canon lower (func $streams "[method]output-stream.blocking-write-and-flush")
    (memory (core memory $m "memory")) (realloc (core func $m "realloc"))))
  (core module $main
    (import "host" "get" (func $get (result i32)))
    (import "host" "write" (func $write (param i32 i32 i32 i32)))
    (func (export "run") (result i32)
      (call $write (call $get) (i32.const 64) (i32.const 5) (i32.const 256))
      (i32.const {result})))
  (core instance $i (instantiate $main (with "host" (instance
    (export "get" (func $get)) (export "write" (func $write))))))
  (func $run (result (result)) (canon lift (core func $i "run")))
  (instance $command (export "run" (func $run)))
  (export "wasi:cli/run@0.2.0" (instance $command)))"#
    )
}

#[tokio::test]
async fn a_component_runs_like_a_module() {
    let text = hello(0);
    let found = inspect(&wat::parse_str(&text).expect("valid text")).expect("it can be run");
    assert_eq!(found.kind, ModuleKind::Component);
    let mut bed = Bench::of_kind(&text, ModuleKind::Component).start().await;
    assert!(bed.executor.cage().is_closed());
    for index in 0..5 {
        bed.run(index, b"");
    }
    for _ in 0..5 {
        assert_eq!(inline(&bed.finished().await), b"hello");
    }
}

#[tokio::test]
async fn a_component_that_says_it_failed_has_failed() {
    assert_eq!(Bench::of_kind(&hello(1), ModuleKind::Component).failure().await, Failure::Exit { code: 1 });
}
