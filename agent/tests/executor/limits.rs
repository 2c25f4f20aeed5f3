//! What stops a function, and the cause that is told.

use lull_agent::executor::process::{Death, Event};
use lull_shared::state::Failure;

use super::{
    bench::{Bench, attempt, inline},
    guests,
};

#[tokio::test]
async fn an_exit_code_is_told() {
    assert_eq!(Bench::new(guests::EXIT_3).failure().await, Failure::Exit { code: 3 });
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
async fn a_module_that_begins_with_more_memory_than_the_job_allows_is_told_so() {
    let mut bench = Bench::new(guests::NOOP);
    bench.load.limits.memory_bytes = 1000;
    assert_eq!(bench.failure().await, Failure::MemoryLimit { limit_bytes: 1000 });
}

#[tokio::test]
async fn output_beyond_its_limit_stops_the_function() {
    for limit_bytes in [640, 1 << 20] {
        let mut bench = Bench::new(&guests::writes(1, u32::MAX));
        bench.load.limits.output_bytes = limit_bytes;
        assert_eq!(bench.failure().await, Failure::OutputLimit { limit_bytes });
        assert!(!bench.folder.path().join("output-0").exists(), "what was written is removed");
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
async fn nothing_is_left_in_the_scratch_folder() {
    let bench = Bench::new(&guests::scratch(2)).with_scratch(1 << 20);
    bench.once(b"").await.outcome.expect("it succeeds");
    let scratch = bench.folder.path().join("scratch");
    assert_eq!(std::fs::read_dir(scratch).expect("the folder stays").count(), 0);
}

#[tokio::test]
async fn a_full_scratch_folder_is_told() {
    let bench = Bench::new(&guests::scratch(100)).with_scratch(1 << 20);
    let mut bed = bench.start().await;
    bed.run(0, b"");
    let failure = loop {
        match bed.event().await {
            Event::Started { .. } => {}
            Event::Finished(finished) => break finished.outcome.expect_err("it fails"),
            Event::Died { running, death, .. } => {
                assert_eq!(running, Some(attempt(0)));
                break death.failure().unwrap_or_else(|| panic!("{:?}", Death::Killed));
            }
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(failure, Failure::ScratchLimit { limit_bytes: 1 << 20 });
}

#[tokio::test]
async fn without_the_grant_there_is_no_scratch_folder() {
    const BAD_DESCRIPTOR: i32 = 8;
    assert_eq!(Bench::new(&guests::scratch(1)).failure().await, Failure::Exit { code: BAD_DESCRIPTOR });
}
