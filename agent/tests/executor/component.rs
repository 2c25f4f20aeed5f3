//! Components: the same contract through WASI 0.2.

use lull_engine::executor::{inspect::inspect, process::Event};
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

/// Polls its input beside a deadline, which the input wins, then a later deadline alone; its exit code is 200 and how
/// many were ready, the second time counted tenfold.
const POLL_TWICE: &str = r#"(component
  (import "wasi:io/poll@0.2.0" (instance $poll
    (export "pollable" (type $p (sub resource)))
    (export "poll" (func (param "in" (list (borrow $p))) (result (list u32))))))
  (alias export $poll "pollable" (type $pollable))
  (import "wasi:io/streams@0.2.0" (instance $streams
    (export "input-stream" (type $in (sub resource)))
    (alias outer 1 $pollable (type $q))
    (export "pollable" (type $p (eq $q)))
    (export "[method]input-stream.subscribe" (func (param "self" (borrow $in)) (result (own $p))))))
  (alias export $streams "input-stream" (type $in))
  (import "wasi:cli/stdin@0.2.0" (instance $stdin
    (alias outer 1 $in (type $i))
    (export "input-stream" (type $in-again (eq $i)))
    (export "get-stdin" (func (result (own $in-again))))))
  (import "wasi:clocks/monotonic-clock@0.2.0" (instance $clock
    (alias outer 1 $pollable (type $q))
    (export "pollable" (type $p (eq $q)))
    (export "subscribe-duration" (func (param "when" u64) (result (own $p))))))
  (import "wasi:cli/exit@0.2.12" (instance $exit
    (export "exit-with-code" (func (param "status-code" u8)))))
  (core module $memory
    (memory (export "memory") 1)
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024)))
  (core instance $m (instantiate $memory))
  (core func $poll-these (canon lower (func $poll "poll")
    (memory (core memory $m "memory")) (realloc (core func $m "realloc"))))
  (core func $subscribe (canon lower (func $streams "[method]input-stream.subscribe")))
  (core func $get (canon lower (func $stdin "get-stdin")))
  (core func $wait (canon lower (func $clock "subscribe-duration")))
  (core func $leave (canon lower (func $exit "exit-with-code")))
  (core module $main
    (import "host" "memory" (memory 1))
    (import "host" "poll" (func $poll (param i32 i32 i32)))
    (import "host" "subscribe" (func $subscribe (param i32) (result i32)))
    (import "host" "get" (func $get (result i32)))
    (import "host" "wait" (func $wait (param i64) (result i32)))
    (import "host" "leave" (func $leave (param i32)))
    (func (export "run") (result i32) (local $ready i32)
      (i32.store (i32.const 16) (call $subscribe (call $get)))
      (i32.store (i32.const 20) (call $wait (i64.const 1000000000)))
      (call $poll (i32.const 16) (i32.const 2) (i32.const 64))
      (local.set $ready (i32.load (i32.const 68)))
      (i32.store (i32.const 16) (call $wait (i64.const 2000000000)))
      (call $poll (i32.const 16) (i32.const 1) (i32.const 64))
      (call $leave (i32.add (i32.const 200)
        (i32.add (local.get $ready) (i32.mul (i32.const 10) (i32.load (i32.const 68))))))
      unreachable))
  (core instance $i (instantiate $main (with "host" (instance
    (export "memory" (memory $m "memory"))
    (export "poll" (func $poll-these)) (export "subscribe" (func $subscribe)) (export "get" (func $get))
    (export "wait" (func $wait)) (export "leave" (func $leave))))))
  (func $run (result (result)) (canon lift (core func $i "run")))
  (instance $command (export "run" (func $run)))
  (export "wasi:cli/run@0.2.0" (instance $command)))"#;

#[tokio::test]
async fn a_poll_after_one_whose_deadline_was_not_needed_returns_and_an_exit_code_comes_through() {
    inspect(&wat::parse_str(POLL_TWICE).expect("valid text")).expect("it can be run");
    let bench = Bench::of_kind(POLL_TWICE, ModuleKind::Component);
    assert_eq!(bench.failure().await, Failure::Exit { code: 211 });
}

/// A command that makes handles of a resource of its own for as long as it gets any.
const HANDLES: &str = r#"(component
  (type $r (resource (rep i32)))
  (core func $new (canon resource.new $r))
  (core module $main
    (import "host" "new" (func $new (param i32) (result i32)))
    (func (export "run") (result i32)
      (loop $more
        (drop (call $new (i32.const 1)))
        (br $more))
      unreachable))
  (core instance $i (instantiate $main (with "host" (instance (export "new" (func $new))))))
  (func $run (result (result)) (canon lift (core func $i "run")))
  (instance $command (export "run" (func $run)))
  (export "wasi:cli/run@0.2.0" (instance $command)))"#;

#[tokio::test]
async fn handles_without_end_end_the_executor_and_nothing_else() {
    let mut bench = Bench::of_kind(HANDLES, ModuleKind::Component);
    bench.load.limits.memory_bytes = 16 << 20;
    let mut bed = bench.start().await;
    bed.run(0, b"");
    let failure = loop {
        match bed.event().await {
            Event::Started { .. } => {}
            Event::Finished(finished) => break finished.outcome.expect_err("it fails"),
            Event::Died { death, .. } => break death.failure().expect("it is the function's fault"),
            other => panic!("{other:?}"),
        }
    };
    assert!(matches!(failure, Failure::ExecutorDied { .. } | Failure::Trap { .. } | Failure::MemoryLimit { .. }), "{failure:?}");
}
