//! Functions that can be moved, made by hand after the contract of migratable builds: what stands behind `;;+` belongs
//! to the migratable build only, and the rest is the plain one.

/// Mixes input, randomness, time and what it computes into a hash, `rounds` times: in each round it writes `lines`
/// lines of 64 bytes and one to its log, takes a page of memory, and computes for `steps` steps. Two functions deep.
pub(crate) fn mixer(rounds: u32, steps: u32, lines: u32) -> String {
    format!(
        r#"(module
  (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "clock_time_get" (func $clock (param i32 i64 i32) (result i32)))
  ;;+ (import "lull_migratable" "poll" (func $poll (result i32)))
  (memory $memory (export "memory") 1)
  ;;+ (memory $stack (export "lull_stack") 1 256)
  ;;+ (export "lull_memory_0" (memory $memory))
  (global $hash (mut i64) (i64.const 1469598103934665603))
  (global $ratio (mut f64) (f64.const 1.5))
  ;;+ (export "lull_global_0" (global $hash))
  ;;+ (export "lull_global_1" (global $ratio))
  ;;+ (global $state (export "lull_state") (mut i32) (i32.const 0))
  ;;+ (global $sp (export "lull_sp") (mut i32) (i32.const 16))
  (data (i32.const 2048) "what is here at the beginning is overwritten")

  (func $mix (param $word i64)
    (global.set $hash
      (i64.mul (i64.xor (global.get $hash) (local.get $word)) (i64.const 1099511628211))))

  (func $compute (param $steps i32) (local $step i32)
    ;;+ (if (i32.eq (global.get $state) (i32.const 2)) (then
    ;;+   (global.set $sp (i32.sub (global.get $sp) (i32.const 8)))
    ;;+   (local.set $steps (i32.load $stack (global.get $sp)))
    ;;+   (local.set $step (i32.load $stack offset=4 (global.get $sp)))
    ;;+   (global.set $state (i32.const 0))))
    (loop $more
      ;;+ (if (i32.load $stack (i32.const 0)) (then (if (call $poll) (then
      ;;+   (i32.store $stack (global.get $sp) (local.get $steps))
      ;;+   (i32.store $stack offset=4 (global.get $sp) (local.get $step))
      ;;+   (global.set $sp (i32.add (global.get $sp) (i32.const 8)))
      ;;+   (global.set $state (i32.const 1))
      ;;+   (return)))))
      (call $mix (i64.extend_i32_u (local.get $step)))
      (br_if $more (i32.lt_u (local.tee $step (i32.add (local.get $step) (i32.const 1))) (local.get $steps)))))

  (func $rounds (local $round i32) (local $line i32) (local $page i32)
    ;;+ (if (i32.eq (global.get $state) (i32.const 2)) (then
    ;;+   (global.set $sp (i32.sub (global.get $sp) (i32.const 4)))
    ;;+   (local.set $round (i32.load $stack (global.get $sp)))))
    (loop $more
      (block $computing
        ;;+ (br_if $computing (i32.eq (global.get $state) (i32.const 2)))
        ;; seven bytes of input, eight of randomness, the time
        (i64.store (i32.const 64) (i64.const 0))
        (i32.store (i32.const 0) (i32.const 64))
        (i32.store (i32.const 4) (i32.const 7))
        (if (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)) (then unreachable))
        (call $mix (i64.load (i32.const 64)))
        (if (call $random (i32.const 64) (i32.const 7)) (then unreachable))
        (call $mix (i64.load (i32.const 64)))
        (if (call $clock (i32.const 0) (i64.const 1) (i32.const 64)) (then unreachable))
        (call $mix (i64.load (i32.const 64)))
        (global.set $ratio (f64.mul (global.get $ratio) (f64.const 1.0009765625)))
        (call $mix (i64.reinterpret_f64 (global.get $ratio)))
        ;; every other new page stays empty
        (local.set $page (memory.grow (i32.const 1)))
        (if (i32.eq (local.get $page) (i32.const -1)) (then unreachable))
        (if (i32.and (local.get $page) (i32.const 1))
          (then (i64.store offset=4096 (i32.shl (local.get $page) (i32.const 16)) (global.get $hash))))
        (call $mix (i64.load offset=4096 (i32.shl (i32.shr_u (local.get $page) (i32.const 1)) (i32.const 16)))))
      (call $compute (i32.const {steps}))
      ;;+ (if (i32.eq (global.get $state) (i32.const 1)) (then
      ;;+   (i32.store $stack (global.get $sp) (local.get $round))
      ;;+   (global.set $sp (i32.add (global.get $sp) (i32.const 4)))
      ;;+   (return)))
      (i64.store (i32.const 2048) (global.get $hash))
      (i32.store (i32.const 0) (i32.const 2048))
      (i32.store (i32.const 4) (i32.const 64))
      (local.set $line (i32.const 0))
      (loop $lines
        (i32.store (i32.const 2100) (local.get $line))
        (if (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)) (then unreachable))
        (br_if $lines (i32.lt_u (local.tee $line (i32.add (local.get $line) (i32.const 1))) (i32.const {lines}))))
      (if (call $write (i32.const 2) (i32.const 0) (i32.const 1) (i32.const 8)) (then unreachable))
      (br_if $more (i32.lt_u (local.tee $round (i32.add (local.get $round) (i32.const 1))) (i32.const {rounds})))))

  ;;+ (func (export "lull_run") (call $rounds))
  (func (export "_start") (call $rounds)))"#
    )
}

/// Fills `pages` of 64 KiB with numbers, then computes until it is asked to stop, and never ends.
pub(crate) fn holder(pages: u32) -> String {
    format!(
        r#"(module
  ;;+ (import "lull_migratable" "poll" (func $poll (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory $memory (export "memory") {pages})
  ;;+ (memory $stack (export "lull_stack") 1 1)
  ;;+ (export "lull_memory_0" (memory $memory))
  ;;+ (global $state (export "lull_state") (mut i32) (i32.const 0))
  ;;+ (global $sp (export "lull_sp") (mut i32) (i32.const 16))
  (func $go (export "_start") (local $at i32) (local $x i32)
    (local.set $x (i32.const 12345))
    ;;+ (if (i32.eq (global.get $state) (i32.const 2)) (then (global.set $state (i32.const 0))) (else
    (loop $fill
      (local.set $x (i32.xor (local.get $x) (i32.shl (local.get $x) (i32.const 13))))
      (local.set $x (i32.xor (local.get $x) (i32.shr_u (local.get $x) (i32.const 17))))
      (local.set $x (i32.xor (local.get $x) (i32.shl (local.get $x) (i32.const 5))))
      (i32.store (local.get $at) (i32.and (local.get $x) (i32.const 0xffff)))
      (local.set $at (i32.add (local.get $at) (i32.const 4)))
      (br_if $fill (i32.lt_u (local.get $at) (i32.const {bytes}))))
    ;;+ ))
    (loop $wait
      ;;+ (if (i32.load $stack (i32.const 0)) (then (if (call $poll) (then (global.set $state (i32.const 1)) (return)))))
      (br $wait)))
  ;;+ (func (export "lull_run") (call $go))
)"#,
        bytes = pages * 65536
    )
}

/// Takes these steps one after the other, each a call to preview 1, and between any two waits to be moved. After each
/// it keeps the error code and the first [`KEPT_BYTES`] of its memory, and at the end it writes all that to a descriptor.
///
/// A step is a function's name, its parameters' types (`i` and `I` for 32 and 64 bits), and its arguments.
pub(crate) fn walker(steps: &[(&str, &str, &[i64])], written_to: u32) -> String {
    let mut imports = std::collections::BTreeMap::new();
    let mut calls = String::new();
    for (number, (name, types, arguments)) in steps.iter().enumerate() {
        let word = |letter| if letter == 'I' { "i64" } else { "i32" };
        let params = types.chars().map(word).collect::<Vec<_>>().join(" ");
        imports.insert(*name, params);
        let arguments = types.chars().zip(*arguments).map(|(letter, value)| format!("({}.const {value})", word(letter)));
        let arguments = arguments.collect::<Vec<_>>().join(" ");
        calls.push_str(&format!(
            "(if (i32.eq (global.get $step) (i32.const {number})) (then (local.set $errno (call ${name} {arguments}))))\n"
        ));
    }
    imports.insert("fd_write", "i32 i32 i32 i32".into());
    let imports = imports.iter().map(|(name, params)| {
        format!(r#"(import "wasi_snapshot_preview1" "{name}" (func ${name} (param {params}) (result i32)))"#)
    });
    format!(
        r#"(module
  {imports}
  ;;+ (import "lull_migratable" "poll" (func $poll (result i32)))
  (memory $memory (export "memory") 8)
  ;;+ (memory $stack (export "lull_stack") 1 1)
  ;;+ (export "lull_memory_0" (memory $memory))
  (global $step (mut i32) (i32.const 0))
  ;;+ (export "lull_global_0" (global $step))
  ;;+ (global $state (export "lull_state") (mut i32) (i32.const 0))
  ;;+ (global $sp (export "lull_sp") (mut i32) (i32.const 16))
  ;; a vector of two buffers, the first one empty; a subscription to the clock, one to a stream
  (data (i32.const 32) "\00\01\00\00\00\00\00\00\00\01\00\00\28\00\00\00")
  (data (i32.const 400) "\07\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\01\00\00\00\00\00\00\00\88\13\00\00\00\00\00\00")
  (data (i32.const 448) "\08\00\00\00\00\00\00\00\01\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00")
  (data (i32.const 512) "path")
  (func $go (export "_start") (local $errno i32) (local $at i32)
    ;;+ (if (i32.eq (global.get $state) (i32.const 2)) (then (global.set $state (i32.const 0))))
    (loop $more
      ;;+ (if (i32.ne (global.get $step) (global.get $moved)) (then
      ;;+   (loop $wait (br_if $wait (i32.eqz (i32.load $stack (i32.const 0)))))
      ;;+   (if (call $poll) (then
      ;;+     (global.set $moved (global.get $step)) (global.set $state (i32.const 1)) (return)))))
      {calls}
      (local.set $at (i32.add (i32.const 65536) (i32.mul (global.get $step) (i32.const {record}))))
      (i32.store (local.get $at) (local.get $errno))
      (memory.copy (i32.add (local.get $at) (i32.const 4)) (i32.const 0) (i32.const {KEPT_BYTES}))
      (global.set $step (i32.add (global.get $step) (i32.const 1)))
      (br_if $more (i32.lt_u (global.get $step) (i32.const {count}))))
    (i32.store (i32.const 0) (i32.const 65536))
    (i32.store (i32.const 4) (i32.const {all}))
    (if (call $fd_write (i32.const {written_to}) (i32.const 0) (i32.const 1) (i32.const 8)) (then unreachable)))
  ;;+ (global $moved (mut i32) (i32.const -1))
  ;;+ (export "lull_global_1" (global $moved))
  ;;+ (func (export "lull_run") (call $go))
)"#,
        imports = imports.collect::<Vec<_>>().join("\n  "),
        record = KEPT_BYTES + 4,
        count = steps.len(),
        all = steps.len() as u32 * (KEPT_BYTES + 4),
    )
}

/// What [`walker`] keeps of its memory after each step.
pub(crate) const KEPT_BYTES: u32 = 2048;
