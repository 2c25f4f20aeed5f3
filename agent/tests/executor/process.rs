//! The process around a function: freezing, killing, dying, and a pipe that carries nonsense.

use std::{
    io::{BufRead as _, Write as _},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use lull_engine::executor::{
    process::{Death, Event, RunError, SpawnError},
    protocol::LoadError,
};
use lull_shared::{
    digest::Digest,
    state::{Part, Trouble},
};

use super::{
    bench::{Bed, Bench, DEADLINE, attempt, program},
    guests,
};

async fn wait_for(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < DEADLINE, "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn state(bed: &Bed) -> char {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", bed.executor.pid())).expect("it lives");
    stat.rsplit(')').next().and_then(|rest| rest.trim_start().chars().next()).expect("a state")
}

#[tokio::test]
async fn freezing_takes_the_processor_and_thawing_gives_it_back() {
    let mut bed = Bench::new(guests::SPIN).start().await;
    bed.run(0, b"");
    bed.started(0).await;
    let cpu = |bed: &Bed| bed.executor.cpu_time().expect("it lives");
    wait_for("it runs", || cpu(&bed) > Duration::from_millis(30)).await;
    bed.executor.freeze().expect("it freezes");
    wait_for("it stands still", || state(&bed) == 'T').await;
    let frozen_at = cpu(&bed);
    wait_for("time passes", || bed.executor.frozen_time() > Duration::from_millis(200)).await;
    assert_eq!(cpu(&bed), frozen_at, "a frozen function gets no processor time");
    bed.executor.thaw().expect("it thaws");
    wait_for("it goes on", || cpu(&bed) > frozen_at + Duration::from_millis(30)).await;
    let frozen = bed.executor.frozen_time();
    wait_for("it goes on", || cpu(&bed) > frozen_at + Duration::from_millis(60)).await;
    assert_eq!(bed.executor.frozen_time(), frozen, "time on the processor is not counted as frozen");
    assert!(bed.executor.resident_bytes().expect("it lives") > 0);
}

#[tokio::test]
async fn an_endless_function_is_killed_even_when_frozen() {
    for freeze in [false, true] {
        let mut bed = Bench::new(guests::SPIN).start().await;
        for index in 0..3 {
            bed.run(index, b"");
        }
        bed.started(0).await;
        if freeze {
            bed.executor.freeze().expect("it freezes");
        }
        bed.executor.kill();
        let event = bed.event().await;
        let Event::Died { running, queued, death, .. } = event else { panic!("{event:?}") };
        assert_eq!((running, queued), (Some(attempt(0)), vec![attempt(1), attempt(2)]));
        assert_eq!((death.failure(), death), (None, Death::Killed));
        let run = lull_engine::executor::process::Run {
            attempt: attempt(9),
            input: lull_engine::executor::process::Input::Inline(bytes::Bytes::new()),
            output: "never".into(),
            resume: None,
        };
        assert_eq!(bed.executor.run(run), Err(RunError::Gone));
    }
}

#[tokio::test]
async fn a_process_that_somebody_else_killed_is_no_failure_of_its_attempt() {
    let mut bed = Bench::new(guests::SPIN).start().await;
    bed.run(0, b"");
    bed.started(0).await;
    let killed = Command::new("kill").args(["-9", &bed.executor.pid().to_string()]).status().expect("kill runs");
    assert!(killed.success());
    let event = bed.event().await;
    let Event::Died { running: Some(running), death, .. } = event else { panic!("{event:?}") };
    assert_eq!(running, attempt(0));
    assert_eq!((death.failure(), death.trouble()), (None, Some(Trouble::new(Part::Killed, "killed"))));
}

#[tokio::test]
async fn dropping_the_handle_ends_the_process() {
    let Bed { executor, mut events, .. } = Bench::new(guests::SPIN).start().await;
    drop(executor);
    let event = tokio::time::timeout(DEADLINE, events.recv()).await.expect("in time");
    assert!(matches!(event, Some(Event::Died { running: None, death: Death::Killed, .. })), "{event:?}");
}

/// Not a test by itself: the agent that the next one kills.
#[tokio::test]
#[ignore = "started by the test that kills it"]
async fn as_an_agent() {
    let mut bed = Bench::new(guests::SPIN).start().await;
    bed.run(0, b"");
    bed.started(0).await;
    println!("executor {}", bed.executor.pid());
    std::future::pending().await
}

#[tokio::test]
async fn an_executor_dies_with_its_agent_whatever_it_does() {
    let mut agent = Command::new(std::env::current_exe().expect("this program"))
        .args(["--ignored", "--exact", "process::as_an_agent", "--nocapture"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    let lines = std::io::BufReader::new(agent.stdout.take().expect("a pipe")).lines();
    let pid = lines.map_while(Result::ok).find_map(|line| Some(line.split_once("executor ")?.1.trim().to_owned()));
    let executor = format!("/proc/{}", pid.expect("the agent starts an executor"));
    assert!(std::path::Path::new(&executor).exists());
    agent.kill().expect("it lives");
    agent.wait().expect("it ends");
    wait_for("the executor dies too", || !std::path::Path::new(&executor).exists()).await;
}

#[tokio::test]
async fn an_input_file_that_is_gone_is_the_agents_trouble() {
    let mut bed = Bench::new(guests::ECHO).start().await;
    bed.run_with(0, lull_engine::executor::process::Input::File("/nonexistent/input".into()));
    bed.started(0).await;
    let death = bed.died_running().await;
    assert_eq!((death.failure(), death.trouble().map(|trouble| trouble.part)), (None, Some(Part::Cache)));
}

#[tokio::test]
async fn an_outputs_folder_is_made_again_and_one_that_cannot_be_is_the_agents_trouble() {
    let mut bed = Bench::new(guests::ECHO).start().await;
    let large = vec![7; 1 << 20];
    bed.run(0, &large);
    bed.finished().await.outcome.expect("the folder is made");
    std::fs::remove_dir_all(bed.outputs()).expect("it is there");
    std::fs::write(bed.outputs(), b"a file in its place").expect("a file");
    bed.run(1, &large);
    let death = bed.died_running().await;
    assert_eq!((death.failure(), death.trouble().map(|trouble| trouble.part)), (None, Some(Part::Outbox)));
}

#[tokio::test]
async fn a_machine_without_address_space_is_not_the_modules_fault() {
    let mut bench = Bench::new(guests::NOOP);
    let starved = bench.folder.path().join("starved");
    let text = format!("#!/bin/sh\nulimit -v 3000000\nexec '{}' \"$@\"\n", program().display());
    std::fs::write(&starved, text).expect("a script");
    std::fs::set_permissions(&starved, std::os::unix::fs::PermissionsExt::from_mode(0o700)).expect("its owner may");
    bench.program = starved;
    let refused = bench.try_start().await.err().expect("it cannot be started");
    assert!(matches!(refused, SpawnError::Load(LoadError::Engine { .. }) | SpawnError::Died { .. }), "{refused}");
}

#[tokio::test]
async fn a_scratch_folder_that_vanishes_is_the_agents_trouble() {
    let bench = Bench::new(&guests::scratch(2)).with_scratch(1 << 20);
    let mut bed = bench.start().await;
    std::fs::remove_dir_all(bench.folder.path().join("scratch")).expect("it is there");
    bed.run(0, b"");
    bed.finished().await.outcome.expect("an executor has what it needs from its start");
    let refused = bench.try_start().await.err().expect("the next one cannot be started");
    let SpawnError::Load(LoadError::Machine(trouble)) = refused else { panic!("{refused}") };
    assert_eq!(trouble.part, Part::Scratch);
}

#[tokio::test]
async fn an_artifact_with_another_digest_is_refused_before_it_is_loaded() {
    let mut bench = Bench::new(guests::NOOP);
    bench.load.digest = Digest::of(b"something else");
    let refused = bench.try_start().await.err().expect("it is refused");
    assert!(matches!(refused, SpawnError::Load(LoadError::Digest { .. })), "{refused}");
}

#[tokio::test]
async fn an_artifact_that_is_none_is_refused() {
    let mut bench = Bench::new(guests::NOOP);
    std::fs::write(&bench.load.artifact, b"not compiled code").expect("a file");
    bench.load.digest = Digest::of(b"not compiled code");
    let refused = bench.try_start().await.err().expect("it is refused");
    assert!(matches!(refused, SpawnError::Load(LoadError::Refused { .. })), "{refused}");
    bench.load.artifact = "/nonexistent".into();
    let refused = bench.try_start().await.err().expect("it is refused");
    assert!(matches!(refused, SpawnError::Load(LoadError::Unreadable { .. })), "{refused}");
}

#[test]
fn garbage_on_the_pipe_ends_the_executor() {
    for garbage in [&[0xff_u8; 64][..], b"\x04\0\0\0\x09\x09\x09\x09"] {
        let mut child = Command::new(program())
            .args(["executor", &std::process::id().to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("it starts");
        // It may have ended before it read everything.
        let _ = child.stdin.take().expect("a pipe").write_all(garbage);
        assert_eq!(child.wait().expect("it ends").code(), Some(4));
    }
}

#[test]
fn an_executor_without_its_agent_does_not_begin() {
    let status = Command::new(program()).args(["executor", "1"]).stdin(Stdio::null()).status().expect("it starts");
    assert_eq!(status.code(), Some(3));
}
