//! What stops a function, and the cause that is told.

use lull_engine::executor::process::Output;
use lull_shared::{message::ModuleKind, state::Failure};

use super::{
    bench::{Bench, inline},
    functions::builds,
    guests,
};

/// Both builds of a module in its text form.
fn both(text: &str) -> [Bench; 2] {
    let (plain, movable) = builds(&wat::parse_str(text).expect("valid text"), &[]);
    [plain, movable]
}

#[tokio::test]
async fn an_exit_code_is_told() {
    assert_eq!(Bench::new(guests::EXIT_3).failure().await, Failure::Exit { code: 3 });
}

#[tokio::test]
async fn every_exit_code_is_told_by_either_build() {
    for code in [1, 125, 126, 127, 200, 255, 256, -1] {
        for bench in both(&guests::exit(code)) {
            assert_eq!(bench.failure().await, Failure::Exit { code });
        }
    }
}

#[tokio::test]
async fn a_code_that_means_success_brings_the_output_and_0_may_be_a_failure() {
    let mut bench = Bench::new(guests::EXIT_3);
    bench.load.world.exit_codes = "3-5".parse().expect("codes");
    assert!(bench.once(b"").await.outcome.is_ok(), "3 means success");
    let mut bench = Bench::new(guests::ECHO);
    bench.load.world.exit_codes = "3-5".parse().expect("codes");
    assert_eq!(bench.failure().await, Failure::Exit { code: 0 });
}

#[tokio::test]
async fn one_call_may_write_as_much_as_the_guest_has() {
    let bytes = (128 << 20) + 4096;
    for mut bench in both(&guests::one_write(bytes)) {
        bench.load.limits.memory_bytes = 160 << 20;
        bench.load.limits.output_bytes = 160 << 20;
        let finished = bench.once(b"").await;
        let Ok(Output::File { blob, .. }) = finished.outcome else { panic!("{finished:?}") };
        assert_eq!(blob.size_bytes, u64::from(bytes));
    }
}

#[tokio::test]
async fn one_call_may_ask_for_as_many_random_bytes_as_the_guest_has_room_for() {
    let mut last = Vec::new();
    for mut bench in both(&guests::one_random((65 << 20) + 8)) {
        bench.load.limits.memory_bytes = 80 << 20;
        last.push(inline(&bench.once(b"").await).to_vec());
    }
    assert_eq!(last[0], last[1], "they are the task's own");
}

#[tokio::test]
async fn a_trap_is_told_with_the_functions_that_led_there() {
    let Failure::Trap { message, backtrace } = Bench::new(guests::TRAP).failure().await else { panic!("it traps") };
    assert!(message.contains("unreachable"), "{message}");
    assert_eq!(backtrace, ["inner", "core::fmt::write", "start"]);
}

#[tokio::test]
async fn an_executor_goes_on_after_a_trap() {
    let bench = Bench::new(guests::TRAP);
    let mut bed = bench.start().await;
    for index in 0..3 {
        bed.run(index, b"");
        assert!(bed.finished().await.outcome.is_err());
    }
}

#[tokio::test]
async fn memory_that_is_refused_is_the_cause_of_the_trap_after_it() {
    let bench = Bench::new(guests::HUNGRY);
    let finished = bench.once(b"").await;
    assert_eq!(finished.outcome, Err(Failure::MemoryLimit { limit_bytes: 64 << 20 }));
    assert!((60 << 20..=64 << 20).contains(&finished.usage.memory_peak_bytes), "{:?}", finished.usage);
}

#[tokio::test]
async fn what_begins_with_more_memory_than_the_job_allows_is_told_so_however_much_more() {
    let limit_bytes = 64 << 20;
    let failure = Failure::MemoryLimit { limit_bytes };
    assert!(failure.to_string().contains("raise --memory"), "{failure}");
    for pages in [1025, 1200, 8320, 12_800, 16_384, 65_536] {
        for mut bench in both(&guests::begins_with(pages)) {
            bench.load.limits.memory_bytes = limit_bytes;
            assert_eq!(bench.failure().await, failure, "{pages} pages");
        }
        let component = format!(
            r#"(component
  (core module $m (memory {pages}) (func (export "run") (result i32) (i32.const 0)))
  (core instance $i (instantiate $m))
  (func $run (result (result)) (canon lift (core func $i "run")))
  (instance $command (export "run" (func $run)))
  (export "wasi:cli/run@0.2.0" (instance $command)))"#
        );
        assert_eq!(Bench::of_kind(&component, ModuleKind::Component).failure().await, failure, "{pages} pages");
    }
    let mut bench = Bench::new(guests::NOOP);
    bench.load.limits.memory_bytes = 1000;
    assert_eq!(bench.failure().await, Failure::MemoryLimit { limit_bytes: 1000 });
}

#[tokio::test]
async fn several_memories_are_counted_together() {
    let two = r#"(module (memory (export "memory") 600) (memory 600) (func (export "_start")))"#;
    for mut bench in both(two) {
        bench.load.limits.memory_bytes = 64 << 20;
        assert_eq!(bench.failure().await, Failure::MemoryLimit { limit_bytes: 64 << 20 });
        bench.load.limits.memory_bytes = 128 << 20;
        bench.once(b"").await.outcome.expect("there is room for both");
    }
    let beyond_the_process = two.replace("600", "16000");
    for bench in both(&beyond_the_process) {
        assert_eq!(bench.failure().await, Failure::MemoryLimit { limit_bytes: 64 << 20 });
    }
}

#[tokio::test]
async fn output_beyond_its_limit_stops_the_function() {
    for limit_bytes in [640, 1 << 20] {
        let mut bench = Bench::new(&guests::writes(1, u32::MAX));
        bench.load.limits.output_bytes = limit_bytes;
        assert_eq!(bench.failure().await, Failure::OutputLimit { limit_bytes });
        assert!(!bench.folder.path().join("outputs").join("output-0").exists(), "what was written is removed");
    }
    let mut bench = Bench::new(&guests::writes(1, 10));
    bench.load.limits.output_bytes = 640;
    assert_eq!(inline(&bench.once(b"").await).len(), 640);
}

#[tokio::test]
async fn a_log_keeps_both_ends_within_its_limit() {
    let mut bench = Bench::new(&guests::writes(2, 100));
    bench.load.limits.log_bytes = 1000;
    let finished = bench.once(b"").await;
    assert_eq!((finished.log.len(), finished.log_dropped_bytes), (1000, 5400));
    assert_eq!(finished.outcome.as_ref().map(|_| ()), Ok(()));
}

#[tokio::test]
async fn scratch_is_private_and_clean_for_every_attempt() {
    let mut bed = Bench::new(&guests::scratch(2)).with_scratch(1 << 20).start().await;
    for index in 0..3 {
        bed.run(index, b"");
        assert_eq!(inline(&bed.finished().await), b"");
    }
}

#[tokio::test]
async fn nothing_of_a_scratch_folder_has_a_name_on_the_machine() {
    let bench = Bench::new(&guests::scratch(2)).with_scratch(1 << 20);
    let mut bed = bench.start().await;
    bed.run(0, b"");
    bed.finished().await.outcome.expect("it succeeds");
    let folder = bench.folder.path().join("scratch");
    let names = || std::fs::read_dir(&folder).expect("it is there").map(|entry| entry.expect("an entry").file_name());
    let mut left: Vec<_> = names().collect();
    left.sort();
    assert_eq!(left, ["file", "old"], "what is there besides is left alone, and nothing comes to it");
}

#[tokio::test]
async fn a_full_scratch_folder_is_told_and_the_executor_goes_on() {
    let mut bed = Bench::new(&guests::scratch(100)).with_scratch(1 << 20).start().await;
    for index in 0..2 {
        bed.run(index, b"");
        let failure = bed.finished().await.outcome.expect_err("it fails");
        assert_eq!(failure, Failure::ScratchLimit { limit_bytes: 1 << 20 });
    }
}

#[tokio::test]
async fn files_that_were_removed_and_are_still_open_count() {
    let limit_bytes = 1 << 20;
    let bench = Bench::new(&guests::removed_files(100)).with_scratch(limit_bytes);
    let mut bed = bench.start().await;
    bed.run(0, b"");
    assert_eq!(bed.finished().await.outcome, Err(Failure::ScratchLimit { limit_bytes }));
    assert!(largest_file(bed.executor.pid()) <= limit_bytes);
    let mut bed = Bench::new(&guests::removed_files(16)).with_scratch(limit_bytes).start().await;
    for index in 0..3 {
        bed.run(index, b"");
        bed.finished().await.outcome.expect("that many fit, each time anew");
    }
}

/// The space of the largest file that a process has open.
fn largest_file(pid: u32) -> u64 {
    let open = std::fs::read_dir(format!("/proc/{pid}/fd")).expect("it lives").flatten();
    let sizes = open.filter_map(|entry| std::fs::metadata(entry.path()).ok()).filter(std::fs::Metadata::is_file);
    sizes.filter(|file| std::os::unix::fs::MetadataExt::nlink(file) == 0).map(|file| file.len()).max().unwrap_or(0)
}

#[tokio::test]
async fn folders_may_nest_deeper_than_any_path_and_are_gone_with_the_attempt() {
    let mut bed = Bench::new(&guests::nested_folders(20_000)).with_scratch(1 << 20).start().await;
    for index in 0..2 {
        bed.run(index, b"");
        bed.finished().await.outcome.expect("they are folders like any other");
    }
}

#[tokio::test]
async fn no_more_files_are_open_at_once_than_may_be() {
    const TOO_MANY: i32 = 33;
    let bench = Bench::new(&guests::removed_files(2000)).with_scratch(1 << 30);
    assert_eq!(bench.failure().await, Failure::Exit { code: TOO_MANY });
}

#[tokio::test]
async fn without_the_grant_there_is_no_scratch_folder() {
    const BAD_DESCRIPTOR: i32 = 8;
    assert_eq!(Bench::new(&guests::scratch(1)).failure().await, Failure::Exit { code: BAD_DESCRIPTOR });
}

#[tokio::test]
async fn one_call_makes_the_host_work_no_more_than_it_should() {
    const INVALID: i32 = 28;
    const NAME_TOO_LONG: i32 = 37;
    let cases = [
        (guests::polls(1_000_000), INVALID),
        (guests::long_path(100 << 20), NAME_TOO_LONG),
        (guests::many_buffers(10_000_000), INVALID),
    ];
    for (text, expected) in cases {
        for clock in [false, true] {
            let mut bench = Bench::new(&text).with_scratch(1 << 20);
            bench.load.limits.memory_bytes = 160 << 20;
            bench.load.grants.clock = clock;
            assert_eq!(bench.failure().await, Failure::Exit { code: expected }, "{text}");
        }
    }
}
