//! Small functions, as text.

/// Ends at once.
pub(crate) const NOOP: &str = r#"(module (memory (export "memory") 1) (func (export "_start")))"#;

/// Copies its input to its output.
pub(crate) const ECHO: &str = r#"(module
  (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 2)
  (func (export "_start")
    (loop $more
      (i32.store (i32.const 0) (i32.const 1024))
      (i32.store (i32.const 4) (i32.const 65536))
      (if (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)) (then unreachable))
      (i32.store (i32.const 4) (i32.load (i32.const 8)))
      (if (i32.load (i32.const 8))
        (then
          (if (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 12)) (then unreachable))
          (br $more))))))"#;

/// Exits with code 3.
pub(crate) const EXIT_3: &str = r#"(module
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 1)
  (func (export "_start") (call $exit (i32.const 3))))"#;

/// Exits with this code.
pub(crate) fn exit(code: i32) -> String {
    EXIT_3.replace("(i32.const 3)", &format!("(i32.const {code})"))
}

/// Writes so many bytes to standard output in one call, which must take them all.
pub(crate) fn one_write(bytes: u32) -> String {
    format!(
        r#"(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") {pages})
  (func (export "_start")
    (i32.store (i32.const 0) (i32.const 65536))
    (i32.store (i32.const 4) (i32.const {bytes}))
    (i32.store8 (i32.const 65536) (i32.const 1))
    (if (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)) (then unreachable))
    (if (i32.ne (i32.load (i32.const 8)) (i32.const {bytes})) (then unreachable))))"#,
        pages = bytes.div_ceil(65536) + 1
    )
}

/// Asks for so many random bytes in one call, and writes the last eight of them.
pub(crate) fn one_random(bytes: u32) -> String {
    format!(
        r#"(module
  (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") {pages})
  (func (export "_start")
    (if (call $random (i32.const 65536) (i32.const {bytes})) (then unreachable))
    (i32.store (i32.const 0) (i32.const {last}))
    (i32.store (i32.const 4) (i32.const 8))
    (if (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)) (then unreachable))))"#,
        pages = bytes.div_ceil(65536) + 1,
        last = 65536 + bytes - 8,
    )
}

/// Begins with so many pages of memory.
pub(crate) fn begins_with(pages: u32) -> String {
    format!(r#"(module (memory (export "memory") {pages}) (func (export "_start")))"#)
}

/// Traps two calls deep.
pub(crate) const TRAP: &str = r#"(module
  (memory (export "memory") 1)
  (func $inner unreachable)
  (func $_ZN4core3fmt5write17h0123456789abcdefE (call $inner))
  (func $start (export "_start") (call $_ZN4core3fmt5write17h0123456789abcdefE)))"#;

/// Never ends.
pub(crate) const SPIN: &str = r#"(module (memory (export "memory") 1) (func (export "_start") (loop $l (br $l))))"#;

/// Takes page after page of memory until it is refused, then traps.
pub(crate) const HUNGRY: &str = r#"(module
  (memory (export "memory") 1)
  (func (export "_start")
    (loop $more (br_if $more (i32.ne (memory.grow (i32.const 16)) (i32.const -1))))
    unreachable))"#;

/// Leaves marks in its memory, and traps if it finds any.
pub(crate) const DIRTY: &str = r#"(module
  (memory (export "memory") 40)
  (func (export "_start") (local $at i32)
    (loop $more
      (if (i32.load (local.get $at)) (then unreachable))
      (i32.store (local.get $at) (i32.const 0xdead))
      (local.set $at (i32.add (local.get $at) (i32.const 4096)))
      (br_if $more (i32.lt_u (local.get $at) (i32.const 2621440))))))"#;

/// Writes to a descriptor, `count` times a line of 64 bytes.
pub(crate) fn writes(descriptor: u32, count: u32) -> String {
    format!(
        r#"(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 64) "{}\n")
  (func (export "_start") (local $left i32)
    (i32.store (i32.const 0) (i32.const 64))
    (i32.store (i32.const 4) (i32.const 64))
    (local.set $left (i32.const {count}))
    (loop $more
      (drop (call $write (i32.const {descriptor}) (i32.const 0) (i32.const 1) (i32.const 8)))
      (br_if $more (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))))"#,
        "x".repeat(63)
    )
}

/// Writes its arguments or its environment, each ended by a zero byte.
pub(crate) fn strings(what: &str) -> String {
    format!(
        r#"(module
  (import "wasi_snapshot_preview1" "{what}_sizes_get" (func $sizes (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "{what}_get" (func $get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "_start")
    (drop (call $sizes (i32.const 8) (i32.const 4)))
    (drop (call $get (i32.const 256) (i32.const 4096)))
    (i32.store (i32.const 0) (i32.const 4096))
    (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 12)))))"#
    )
}

/// Writes 32 random bytes.
pub(crate) const RANDOM: &str = r#"(module
  (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "_start")
    (drop (call $random (i32.const 64) (i32.const 32)))
    (i32.store (i32.const 0) (i32.const 64))
    (i32.store (i32.const 4) (i32.const 32))
    (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))"#;

/// Reads the wall clock, the monotonic clock, sleeps, reads the wall clock; writes the three times.
pub(crate) fn clock(sleep_ns: u64) -> String {
    format!(
        r#"(module
  (import "wasi_snapshot_preview1" "clock_time_get" (func $clock (param i32 i64 i32) (result i32)))
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "_start")
    (drop (call $clock (i32.const 0) (i64.const 1) (i32.const 64)))
    (drop (call $clock (i32.const 1) (i64.const 1) (i32.const 72)))
    (i32.store (i32.const 1040) (i32.const 1))
    (i64.store (i32.const 1048) (i64.const {sleep_ns}))
    (if (call $poll (i32.const 1024) (i32.const 2048) (i32.const 1) (i32.const 16)) (then unreachable))
    (drop (call $clock (i32.const 0) (i64.const 1) (i32.const 80)))
    (i32.store (i32.const 0) (i32.const 64))
    (i32.store (i32.const 4) (i32.const 24))
    (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))"#
    )
}

/// Makes `/scratch/file` anew, which must not be there, and writes `count` times 64 KiB into it. A write that fails
/// ends it with the error as exit code.
pub(crate) fn scratch(count: u32) -> String {
    format!(
        r#"(module
  (import "wasi_snapshot_preview1" "path_open" (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 2)
  (data (i32.const 64) "file")
  (func (export "_start") (local $left i32) (local $error i32)
    (if (local.tee $error
        (call $open (i32.const 3) (i32.const 0) (i32.const 64) (i32.const 4) (i32.const 5)
          (i64.const 0x40) (i64.const 0) (i32.const 0) (i32.const 16)))
      (then (call $exit (local.get $error))))
    (i32.store (i32.const 0) (i32.const 1024))
    (i32.store (i32.const 4) (i32.const 65536))
    (local.set $left (i32.const {count}))
    (loop $more
      (if (local.tee $error (call $write (i32.load (i32.const 16)) (i32.const 0) (i32.const 1) (i32.const 8)))
        (then (call $exit (local.get $error))))
      (br_if $more (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))))"#
    )
}

/// Makes a file `count` times, writes 64 KiB into it and removes it; all of them stay open.
pub(crate) fn removed_files(count: u32) -> String {
    format!(
        r#"(module
  (import "wasi_snapshot_preview1" "path_open" (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_unlink_file" (func $unlink (param i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 2)
  (data (i32.const 64) "file")
  (func $check (param $error i32)
    (if (local.get $error) (then (call $exit (local.get $error)))))
  (func (export "_start") (local $left i32)
    (i32.store (i32.const 0) (i32.const 1024))
    (i32.store (i32.const 4) (i32.const 65536))
    (local.set $left (i32.const {count}))
    (loop $more
      (call $check (call $open (i32.const 3) (i32.const 0) (i32.const 64) (i32.const 4) (i32.const 5)
        (i64.const 0x40) (i64.const 0) (i32.const 0) (i32.const 16)))
      (call $check (call $unlink (i32.const 3) (i32.const 64) (i32.const 4)))
      (call $check (call $write (i32.load (i32.const 16)) (i32.const 0) (i32.const 1) (i32.const 8)))
      (br_if $more (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))))"#
    )
}

/// Nests so many folders, each in the one before, and lets go of each.
pub(crate) fn nested_folders(count: u32) -> String {
    format!(
        r#"(module
  (import "wasi_snapshot_preview1" "path_open" (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_create_directory" (func $make (param i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_close" (func $close (param i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 1)
  (data (i32.const 64) "d")
  (func $check (param $error i32)
    (if (local.get $error) (then (call $exit (local.get $error)))))
  (func (export "_start") (local $left i32) (local $at i32)
    (local.set $at (i32.const 3))
    (local.set $left (i32.const {count}))
    (loop $more
      (call $check (call $make (local.get $at) (i32.const 64) (i32.const 1)))
      (call $check (call $open (local.get $at) (i32.const 0) (i32.const 64) (i32.const 1) (i32.const 2)
        (i64.const 0x2) (i64.const 0) (i32.const 0) (i32.const 16)))
      (call $check (call $close (local.get $at)))
      (local.set $at (i32.load (i32.const 16)))
      (br_if $more (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))))"#
    )
}

/// Waits for so many deadlines at once; exits with what it was told.
pub(crate) fn polls(count: u32) -> String {
    format!(
        r#"(module
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 2048)
  (func (export "_start")
    (call $exit (call $poll (i32.const 1024) (i32.const 0x5000000) (i32.const {count}) (i32.const 16)))))"#
    )
}

/// Opens a path of so many bytes; exits with what it was told.
pub(crate) fn long_path(bytes: u32) -> String {
    format!(
        r#"(module
  (import "wasi_snapshot_preview1" "path_open" (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 2048)
  (func (export "_start")
    (memory.fill (i32.const 1024) (i32.const 97) (i32.const {bytes}))
    (call $exit (call $open (i32.const 3) (i32.const 0) (i32.const 1024) (i32.const {bytes}) (i32.const 0)
      (i64.const 0x2) (i64.const 0) (i32.const 0) (i32.const 16)))))"#
    )
}

/// Writes so many empty buffers to a file of its scratch folder; exits with what it was told.
pub(crate) fn many_buffers(count: u32) -> String {
    format!(
        r#"(module
  (import "wasi_snapshot_preview1" "path_open" (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 2048)
  (data (i32.const 64) "file")
  (func (export "_start")
    (if (call $open (i32.const 3) (i32.const 0) (i32.const 64) (i32.const 4) (i32.const 1)
          (i64.const 0x40) (i64.const 0) (i32.const 0) (i32.const 16))
      (then unreachable))
    (call $exit (call $write (i32.load (i32.const 16)) (i32.const 1024) (i32.const {count}) (i32.const 8)))))"#
    )
}
