//! What a function finds: input, arguments, environment, clocks, randomness, clean memory.

use lull_engine::executor::{
    process::{Input, Output},
    protocol::World,
};
use lull_shared::{digest::BlobRef, id::JobId};

use super::{
    bench::{Bench, inline},
    guests,
};

#[tokio::test]
async fn attempts_run_one_after_the_other_in_one_process() {
    let mut bed = Bench::new(guests::ECHO).start().await;
    for index in 0..200 {
        bed.run(index, format!("input {index}").as_bytes());
    }
    for index in 0..200 {
        bed.started(index).await;
        assert_eq!(inline(&bed.finished().await), format!("input {index}").as_bytes());
    }
}

#[tokio::test]
async fn large_inputs_and_outputs_go_through_files() {
    let bench = Bench::new(guests::ECHO);
    let large = (0..3_000_001_u32).map(|i| (i * 7) as u8).collect::<Vec<_>>();
    let path = bench.folder.path().join("input");
    std::fs::write(&path, &large).expect("a file");
    let mut bed = bench.start().await;
    bed.run_with(0, Input::File(path));
    bed.run(1, b"small");
    let finished = bed.finished().await;
    let Ok(Output::File { path, blob }) = finished.outcome else { panic!("{finished:?}") };
    assert_eq!(blob, BlobRef::of(&large));
    assert_eq!(std::fs::read(path).expect("the output"), large);
    assert_eq!(inline(&bed.finished().await), b"small");
}

#[tokio::test]
async fn input_that_a_function_leaves_is_not_the_next_ones() {
    let bench = Bench::new(guests::NOOP);
    let path = bench.folder.path().join("input");
    std::fs::write(&path, vec![0xff; 1_000_000]).expect("a file");
    let mut bed = bench.start().await;
    bed.run_with(0, Input::File(path));
    bed.run(1, b"");
    assert_eq!(inline(&bed.finished().await), b"");
    assert_eq!(inline(&bed.finished().await), b"");
}

#[tokio::test]
async fn arguments_and_environment_are_those_of_the_contract() {
    let text = |finished: &lull_engine::executor::process::Finished| {
        let mut strings = String::from_utf8(inline(finished).to_vec()).expect("text");
        strings.pop();
        strings.split('\0').map(str::to_owned).collect::<Vec<_>>()
    };
    let finished = Bench::new(&guests::strings("args")).once(b"").await;
    assert_eq!(text(&finished), ["resize", "--width", "640"]);
    let finished = Bench::new(&guests::strings("environ")).once(b"").await;
    assert_eq!(text(&finished), ["LULL_TASK_INDEX=0", "LULL_ATTEMPT=2", "LULL_JOB=j7", "COLOUR=yes"]);
}

#[tokio::test]
async fn the_next_job_of_a_version_finds_its_own_world_in_the_same_process() {
    let bench = Bench::new(&guests::strings("environ"));
    let mut bed = bench.start().await;
    let world = World { job: JobId(8), env: vec![("COLOUR".into(), "no".into())], ..bench.load.world.clone() };
    bed.run(0, b"");
    bed.executor.serve(world).expect("it lives");
    bed.run(1, b"");
    let (first, next) = (bed.finished().await, bed.finished().await);
    assert!(inline(&first).ends_with(b"LULL_JOB=j7\0COLOUR=yes\0"));
    assert_eq!(inline(&next), b"LULL_TASK_INDEX=1\0LULL_ATTEMPT=2\0LULL_JOB=j8\0COLOUR=no\0");

    let bench = Bench::new(guests::RANDOM);
    let mut bed = bench.start().await;
    bed.run(0, b"");
    bed.executor.serve(World { seed: 12, ..bench.load.world.clone() }).expect("it lives");
    bed.run(0, b"");
    assert_ne!(inline(&bed.finished().await), inline(&bed.finished().await), "its randomness is its own too");
}

#[tokio::test]
async fn randomness_is_the_tasks_own_and_the_same_each_time() {
    let bench = Bench::new(guests::RANDOM);
    let mut bed = bench.start().await;
    bed.run(0, b"");
    bed.run(1, b"");
    bed.run(0, b"");
    let (first, other, again) = (bed.finished().await, bed.finished().await, bed.finished().await);
    assert_eq!(inline(&first), inline(&again));
    assert_ne!(inline(&first), inline(&other));
    let mut elsewhere = bench.start().await;
    elsewhere.run(1, b"");
    assert_eq!(inline(&elsewhere.finished().await), inline(&other));
}

#[tokio::test]
async fn granted_randomness_is_real() {
    let mut bench = Bench::new(guests::RANDOM);
    bench.load.grants.random = true;
    let mut bed = bench.start().await;
    bed.run(0, b"");
    bed.run(0, b"");
    assert_ne!(inline(&bed.finished().await), inline(&bed.finished().await));
}

fn times(finished: &lull_engine::executor::process::Finished) -> Vec<u64> {
    inline(finished).chunks_exact(8).map(|bytes| u64::from_le_bytes(bytes.try_into().expect("eight bytes"))).collect()
}

#[tokio::test]
async fn clocks_start_where_the_job_says_and_move_when_read() {
    let start = 1_000_000_000_000;
    let expected = [start, start + 1_000, start + 2_000 + 3_600_000_000_000];
    assert_eq!(times(&Bench::new(&guests::clock(3_600_000_000_000)).once(b"").await), expected);
}

#[tokio::test]
async fn a_granted_clock_is_the_machines() {
    let sleep_ns = 20_000_000;
    let mut bench = Bench::new(&guests::clock(sleep_ns));
    bench.load.grants.clock = true;
    let now = || std::time::UNIX_EPOCH.elapsed().expect("after 1970").as_nanos() as u64;
    let before = now();
    let times = times(&bench.once(b"").await);
    assert!(before <= times[0] && times[0] + sleep_ns <= times[2] && times[2] <= now(), "{times:?}");
}

#[tokio::test]
async fn every_attempt_finds_zeroed_memory() {
    let mut bed = Bench::new(guests::DIRTY).start().await;
    for index in 0..20 {
        bed.run(index, b"");
    }
    for _ in 0..20 {
        let finished = bed.finished().await;
        assert_eq!(inline(&finished), b"");
        assert_eq!(finished.usage.memory_peak_bytes, 40 * 65536);
    }
}
