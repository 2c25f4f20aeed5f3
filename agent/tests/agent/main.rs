//! The real program against a coordinator of a few lines: join, run, results, absence, crashes, words with the owner.

mod world;

use std::time::{Duration, Instant};

use lull_agent::status::Status;
use lull_desk::{Companion, Farewell, News, Whom};
use lull_session::SlotStatus;
use lull_shared::{
    message::{GoodbyeReason, Outcome, Payload, RecallReason, ToAgent, ToCoordinator},
    state::{Failure, PauseReason},
};

use self::world::{Agent, Network, attempt, within};

const ECHO: &str = include_str!("../../../tests/functions/fixtures/echo.wat");
const SPIN: &str = include_str!("../../../tests/functions/fixtures/spin.wat");

fn inline(bytes: &[u8]) -> Payload {
    Payload::inline(bytes.to_vec())
}

#[tokio::test]
async fn a_task_runs_on_a_machine_that_joined_with_a_token() {
    let mut network = Network::start().await;
    let agent = Agent::join(&mut network, &["--name", "desk-17", "--label", "site=berlin"]).await;
    let mut running = agent.run(&["--slots", "2"]);
    let mut stream = network.work().await;
    let hello = stream.hello().await;
    assert_eq!(
        (hello.capacity.slots, hello.labels.get("site").map(String::as_str), &hello.holding[..]),
        (2, Some("berlin"), &[][..])
    );
    stream.welcome().await;
    stream.say(vec![network.brief(1, ECHO, 10_000)]).await;
    stream.assign(1, 0, inline(b"good night")).await;
    let result = stream.result().await;
    assert_eq!((result.attempt, result.outcome), (attempt(1, 0), Outcome::Succeeded { output: inline(b"good night") }));

    let status: Status = serde_json::from_slice(&agent.cli(&["status", "-o", "json"]).await.expect_ok()).expect("a status");
    assert_eq!((status.name.as_str(), status.session.outbox), ("desk-17", 1));
    assert!(status.cage.is_some() && status.coordinator.is_some());
    stream.say(vec![ToAgent::Acknowledge { attempts: vec![attempt(1, 0)] }]).await;
    stream
        .hear("an empty hand", |message| {
            matches!(message, ToCoordinator::Heartbeat { holding, .. } if holding.is_empty()).then_some(())
        })
        .await;

    running.terminate();
    stream.hear("a farewell", |message| matches!(message, ToCoordinator::Farewell).then_some(())).await;
    assert_eq!(running.exit_code().await, Some(0));
}

#[tokio::test]
async fn a_program_whose_stream_another_took_stays_away_for_a_while() {
    let mut network = Network::start().await;
    let agent = Agent::join(&mut network, &[]).await;
    let _running = agent.run(&["--slots", "1"]);
    let mut stream = network.welcomed().await;
    // The stream closes with the word, which must be heard all the same.
    stream.say(vec![ToAgent::Goodbye { reason: GoodbyeReason::Superseded }]).await;
    drop(stream);
    let began = Instant::now();
    network.work().await;
    assert!(began.elapsed() >= Duration::from_secs(4), "it was back after {:?}", began.elapsed());
}

#[tokio::test]
async fn large_inputs_and_outputs_travel_as_blobs() {
    let mut network = Network::start().await;
    let agent = Agent::join(&mut network, &[]).await;
    let _running = agent.run(&["--slots", "1"]);
    let mut stream = network.welcomed().await;
    let large: Vec<u8> = (0..700_000_u32).flat_map(|n| n.to_le_bytes()).collect();
    let input = network.blobs.put(&large);
    stream.say(vec![network.brief(1, ECHO, 10_000)]).await;
    stream.assign(1, 0, Payload::Blob(input)).await;
    let result = stream.result().await;
    assert_eq!(result.outcome, Outcome::Succeeded { output: Payload::Blob(input) });
    assert_eq!(network.blobs.delivered(), [(attempt(1, 0), large)], "it was there before it was spoken of");
}

#[tokio::test]
async fn work_goes_on_while_the_coordinator_is_away_and_results_wait_for_it() {
    let mut network = Network::start().await;
    let agent = Agent::join(&mut network, &[]).await;
    let mut running = agent.run(&["--slots", "1"]);
    let mut stream = network.welcomed().await;
    stream.say(vec![network.brief(1, ECHO, 10_000)]).await;
    stream.assign(1, 0, inline(b"first")).await;
    assert_eq!(stream.result().await.attempt, attempt(1, 0));
    drop(stream);

    let mut stream = network.work().await;
    assert_eq!(stream.hello().await.holding, [attempt(1, 0)]);
    stream.welcome().await;
    assert_eq!(stream.result().await.attempt, attempt(1, 0), "said again, since nobody acknowledged it");
    drop(stream);

    running.kill().await;
    let mut again = agent.run(&["--slots", "1"]);
    let mut stream = network.work().await;
    assert_eq!(stream.hello().await.holding, [attempt(1, 0)], "the outbox survives a crash");
    stream.welcome().await;
    assert_eq!(stream.result().await.outcome, Outcome::Succeeded { output: inline(b"first") });
    again.kill().await;
}

#[tokio::test]
async fn the_owner_pauses_and_resumes_and_a_cancelled_task_is_released() {
    let mut network = Network::start().await;
    let agent = Agent::join(&mut network, &[]).await;
    let _running = agent.run(&["--slots", "1"]);
    let mut stream = network.welcomed().await;
    stream.say(vec![network.brief(1, SPIN, 600_000)]).await;
    stream.assign(1, 0, inline(b"")).await;
    stream.hear("a start", |message| matches!(message, ToCoordinator::Started { .. }).then_some(())).await;
    agent.cli(&["pause", "1h"]).await.expect_ok();
    let paused = |message| if let ToCoordinator::Paused { reason, .. } = message { Some(reason) } else { None };
    assert!(matches!(stream.hear("a pause", paused).await, Some(PauseReason::Owner { until: Some(_) })));
    let table = String::from_utf8(agent.cli(&["status"]).await.expect_ok()).expect("text");
    assert!(table.contains("paused: its owner paused it") && table.contains("frozen: j1.0"), "{table}");
    agent.cli(&["resume"]).await.expect_ok();
    assert_eq!(stream.hear("a resumption", paused).await, None);
    stream.say(vec![ToAgent::Recall { attempts: vec![attempt(1, 0)], reason: RecallReason::Cancelled }]).await;
    stream.hear("a release", |message| matches!(message, ToCoordinator::Released { .. }).then_some(())).await;
}

#[tokio::test]
async fn a_tray_is_told_what_runs_for_whom_and_that_it_is_to_end_and_the_share_survives_a_restart() {
    let mut network = Network::start().await;
    let agent = Agent::join(&mut network, &[]).await;
    let mut running = agent.run(&["--slots", "1"]);
    let mut stream = network.welcomed().await;
    let Companion { mut ears, mouth } = Companion::join(&Whom::Folder(agent.data())).await.expect("a connection");
    let mut told = async |what: &str, suits: &dyn Fn(&News) -> bool| loop {
        let news = within(what, ears.next()).await.expect("news").expect("the agent lives");
        if suits(&news) {
            return;
        }
    };
    told("what is there", &|news| matches!(news, News::Status(_))).await;
    stream.say(vec![network.brief(1, SPIN, 600_000)]).await;
    stream.assign(1, 0, inline(b"")).await;
    told("to look closely", &|news| *news == News::Watch { closely: true }).await;
    let runs_for_ana = |news: &News| {
        let News::Status(status) = news else { return false };
        let ana = |slot: &SlotStatus| matches!(slot, SlotStatus::Running { task, .. } if task.submitter == "ana");
        status.session.slots.iter().any(ana) && status.session.functions.len() == 1
    };
    told("what runs", &runs_for_ana).await;
    stream.say(vec![ToAgent::Recall { attempts: vec![attempt(1, 0)], reason: RecallReason::Cancelled }]).await;
    told("that it is over", &|news| *news == News::Watch { closely: false }).await;
    stream.say(vec![network.brief(2, ECHO, 10_000)]).await;
    stream.assign(2, 0, inline(b"good night")).await;
    let counted = |news: &News| matches!(news, News::Status(status) if status.share.tally.tonight.tasks == 1);
    told("what this machine has done", &counted).await;

    let dismissal = tokio::spawn(async move {
        agent.cli(&["tray", "end", "--because", "uninstall"]).await.expect_ok();
        agent
    });
    told("to end", &|news| *news == News::End { reason: Farewell::Uninstall }).await;
    drop((ears, mouth));
    let agent = dismissal.await.expect("it is answered");
    running.terminate();
    running.exit_code().await;
    let _again = agent.run(&["--slots", "1"]);
    network.work().await.hello().await;
    let status: Status = serde_json::from_slice(&agent.cli(&["status", "-o", "json"]).await.expect_ok()).expect("a status");
    let night = status.share.tally.tonight;
    assert!(night.tasks == 1 && night.cpu_ms > 0 && night.run_ms > 0, "{night:?}");
}

#[tokio::test]
async fn a_task_that_runs_too_long_fails_and_the_next_one_runs() {
    let mut network = Network::start().await;
    let agent = Agent::join(&mut network, &[]).await;
    let _running = agent.run(&["--slots", "1"]);
    let mut stream = network.welcomed().await;
    stream.say(vec![network.brief(1, SPIN, 300), network.brief(2, ECHO, 10_000)]).await;
    stream.assign(1, 0, inline(b"")).await;
    stream.hear("a start", |message| matches!(message, ToCoordinator::Started { .. }).then_some(())).await;
    stream.assign(2, 0, inline(b"next")).await;
    assert_eq!(stream.result().await.outcome, Outcome::Failed(Failure::TimeLimit { limit_ms: 300 }));
    assert_eq!(stream.result().await.outcome, Outcome::Succeeded { output: inline(b"next") });
}

#[tokio::test]
async fn a_module_that_is_none_fails_with_a_reason_for_its_author() {
    let mut network = Network::start().await;
    let agent = Agent::join(&mut network, &[]).await;
    let _running = agent.run(&["--slots", "1"]);
    let mut stream = network.welcomed().await;
    stream.say(vec![network.terms_of_bytes(1, b"not WebAssembly", 10_000)]).await;
    stream.assign(1, 0, inline(b"")).await;
    let outcome = stream.result().await.outcome;
    assert!(matches!(outcome, Outcome::Failed(Failure::BadModule { .. })), "{outcome:?}");
}

#[tokio::test]
async fn leaving_stops_the_agent_and_forgets_the_network() {
    let mut network = Network::start().await;
    let agent = Agent::join(&mut network, &[]).await;
    let mut running = agent.run(&["--slots", "1"]);
    let mut stream = network.welcomed().await;
    let (left, ()) = tokio::join!(
        agent.cli(&["leave"]),
        stream.hear("a farewell", |message| matches!(message, ToCoordinator::Farewell).then_some(()))
    );
    left.expect_ok();
    assert_eq!(running.exit_code().await, Some(0));
    assert_eq!(agent.cli(&["run"]).await.code, Some(3));
    assert_eq!(agent.cli(&["leave"]).await.code, Some(3));
}

#[tokio::test]
async fn exit_codes_and_words_tell_what_went_wrong() {
    let mut network = Network::start().await;
    let stranger = Agent::new();
    for command in ["status", "pause", "resume", "run", "leave"] {
        let output = within("an answer", stranger.cli(&[command])).await;
        assert_eq!(output.code, Some(3), "{command}: {}", output.stderr);
        let hint = format!("`lull-agent --data {} join --token-file FILE`", stranger.data().display());
        assert!(output.stderr.contains(&hint), "{}", output.stderr);
    }
    assert_eq!(stranger.cli(&["join", "lull1-nonsense"]).await.code, Some(2));
    let spent = network.refusing(stranger.cli(&["join", &network.token()])).await;
    assert_eq!(spent.code, Some(4), "{}", spent.stderr);
    let nobody = within("a refusal", stranger.cli(&["join", &network.token_for("/ip4/127.0.0.1/tcp/1")])).await;
    assert_eq!(nobody.code, Some(5), "{}", nobody.stderr);
    let member = Agent::join(&mut network, &[]).await;
    let stopped = member.cli(&["status"]).await;
    assert_eq!(stopped.code, Some(5));
    let hint = format!("start it with `lull-agent --data {} run`", member.data().display());
    assert!(stopped.stderr.contains(&hint), "{}", stopped.stderr);
    assert_eq!(member.cli(&["join", &network.token()]).await.code, Some(0), "joining again changes nothing");
    std::fs::write(member.data().join("agent.toml"), "slotz = 3\n").expect("a file");
    let wrong = member.cli(&["run"]).await;
    assert!(wrong.code == Some(2) && wrong.stderr.contains("slotz"), "{}", wrong.stderr);
}
