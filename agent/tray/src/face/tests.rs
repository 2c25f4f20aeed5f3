use jiff::civil::DateTime;
use lull_desk::{
    share::{Gain, Share, Tally},
    status::Version,
};
use lull_session::SessionStatus;
use lull_shared::{
    id::{AgentId, AttemptId, JobId, TaskId, Term},
    resources::Capacity,
    state::{Part, Trouble},
};
use proptest::prelude::*;

use super::*;

fn now() -> Zoned {
    at("2026-11-30T22:14[Europe/Amsterdam]")
}

fn at(text: &str) -> Zoned {
    text.parse().expect("a time")
}

fn idle() -> Status {
    let local = DateTime::constant(2026, 11, 30, 22, 0, 0, 0);
    let mut tally = Tally::new(local);
    tally.month.tasks = 1_234;
    tally.month.run_ms = 90_000_000;
    tally.month.cpu_ms = 72_000_000;
    Status {
        schema_version: Version,
        version: "0.1.0".into(),
        agent: AgentId(3),
        name: "desk-17".into(),
        network: "00".into(),
        peer: "12D3".into(),
        pid: 99,
        started: Timestamp::default(),
        now: Timestamp::default(),
        data: "/data".into(),
        coordinator: Some("/ip4/10.0.0.1/tcp/7070".into()),
        unwanted: None,
        portal: None,
        machine_policy: None,
        session: SessionStatus {
            link: LinkStatus::Up { since: Timestamp::from_millis(1_000), term: Term(1) },
            intake: Intake::Open,
            paused: None,
            beside: false,
            capacity: Capacity {
                agent: AgentId(3),
                run: 0,
                sequence: 1,
                slots: 2,
                slots_busy: 0,
                waiting: 0,
                cpu_free_percent: 90,
                memory_free_bytes: 1 << 30,
                paused: None,
            },
            cpu_others_percent: Some(1),
            memory_available_bytes: Some(1 << 31),
            slots: vec![SlotStatus::Idle, SlotStatus::Idle],
            functions: Vec::new(),
            waiting: 0,
            fetching: 0,
            outbox: 0,
            disk_trouble: None,
        },
        share: Share { tally, watts_per_processor: 8 },
        sources: Vec::new(),
        cage: None,
        cache_bytes: 0,
        cache_bytes_max: 0,
    }
}

fn with(change: impl FnOnce(&mut Status)) -> View {
    let mut status = idle();
    change(&mut status);
    View::Present(Box::new(status))
}

fn paused(reason: PauseReason) -> View {
    with(|status| status.session.paused = Some(reason))
}

fn running(job: &str, since: &str) -> SlotStatus {
    SlotStatus::Running { task: task(job), begun: at(since).timestamp().into(), run_ms: 5, piped: 0 }
}

fn task(job: &str) -> TaskStatus {
    TaskStatus {
        attempt: AttemptId { task: TaskId { job: JobId(42), index: 7 }, number: 1 },
        job_name: job.into(),
        submitter: "ana".into(),
        function: "resize@3".into(),
    }
}

fn shown(view: &View) -> Face {
    face(view, None, &now())
}

/// The menu as a person reads it: choices in brackets.
fn read(face: &Face) -> Vec<String> {
    let line = |item: &Item| match item {
        Item::Line(text) => text.clone(),
        Item::Separator => "--".into(),
        Item::Choice(text, _) => format!("[{text}]"),
    };
    face.menu.iter().map(line).collect()
}

const SNOOZES: [&str; 2] = ["[Pause for an hour, until 23:14]", "[Pause until tomorrow, Tue 08:00]"];
const MONTH: &str = "This month: 1,234 tasks, 1d 01h, estimated 160 Wh";

/// A whole menu: what is said first, and what comes between that and the end.
fn menu(first: &[&str], resume: bool, night: &str) -> Vec<String> {
    let mut lines = first.to_vec();
    lines.push("--");
    lines.extend(resume.then_some("[Resume now]"));
    lines.extend(SNOOZES);
    lines.extend(["--", night, MONTH, "--", "[What may these functions touch?]", "[About Lull]"]);
    lines.into_iter().map(str::to_owned).collect()
}

#[test]
fn what_the_machines_administrator_has_set_stands_beside_what_functions_may_touch() {
    let read = read(&shown(&with(|status| {
        status.machine_policy = Some("this machine's administrator has set idle=30m".into());
    })));
    let at = read.iter().position(|line| line == "This machine's administrator has set idle=30m").expect("it is told");
    assert_eq!(read[at + 1], "[What may these functions touch?]");
}

#[test]
fn a_machine_without_work_says_that_it_is_ready() {
    let face = shown(&with(|_| {}));
    assert_eq!(face.state, State::Idle);
    assert_eq!(face.tooltip, "Lull: ready; nothing runs now");
    assert_eq!(read(&face), menu(&["Ready; nothing runs now"], false, "Tonight: nothing yet"));
}

#[test]
fn what_runs_is_named_with_its_job_and_since_when() {
    let face = shown(&with(|status| {
        status.session.slots = vec![
            running("thumbnails", "2026-11-30T21:05[Europe/Amsterdam]"),
            running("risk", "2026-11-29T23:00[Europe/Amsterdam]"),
        ];
        let gain = Gain { tasks: 12, run: Duration::from_secs(4_860), cpu: Duration::from_secs(4_500) };
        status.share.tally.tonight.tasks = 0;
        let month = status.share.tally.month;
        status.share.tally.add(gain, DateTime::constant(2026, 11, 30, 22, 0, 0, 0));
        status.share.tally.month = month;
    }));
    assert_eq!((face.state, face.tooltip.as_str()), (State::Working, "Lull: working: 2 tasks"));
    let first = [
        "Working: 2 tasks",
        "\u{2022} resize@3 for thumbnails of ana, since 21:05",
        "\u{2022} resize@3 for risk of ana, since Sun 23:00",
    ];
    assert_eq!(read(&face), menu(&first, false, "Tonight: 12 tasks, 1h 21m, estimated 10 Wh"));
}

#[test]
fn light_work_beside_the_owner_says_so_and_many_tasks_are_counted() {
    let face = shown(&with(|status| {
        status.session.beside = true;
        status.session.slots = (0..9).map(|_| running("thumbnails", "2026-11-30T21:05[Europe/Amsterdam]")).collect();
    }));
    assert_eq!(face.state, State::Working);
    let lines = read(&face);
    assert_eq!(lines[0], "Working beside you: 9 tasks");
    assert_eq!((lines[6].as_str(), lines[7].as_str()), ("\u{2022} and 4 more", "--"));
}

#[test]
fn an_owner_who_is_there_is_told_when_it_works_again_and_what_waits() {
    let face = shown(&with(|status| {
        status.session.paused = Some(PauseReason::Present { idle_s: 600 });
        let begun = at("2026-11-30T21:05[Europe/Amsterdam]").timestamp().into();
        status.session.slots = vec![SlotStatus::Paused { task: task("thumbnails"), begun, run_ms: 1, piped: 0 }];
    }));
    assert_eq!((face.state, face.tooltip.as_str()), (State::Paused, "Lull: paused because you are here"));
    let first = [
        "Paused because you are here",
        "It works when you have been away for 10m",
        "\u{2022} resize@3 for thumbnails of ana, since 21:05, waiting in memory",
    ];
    assert_eq!(read(&face), menu(&first, false, "Tonight: nothing yet"));
    assert_eq!(shown(&paused(PauseReason::Touched)).state, State::Paused);
}

#[test]
fn a_pause_by_its_owner_says_until_when_and_can_be_ended() {
    let until = Some(at("2026-12-01T08:00[Europe/Amsterdam]").timestamp().into());
    let face = shown(&paused(PauseReason::Owner { until }));
    assert_eq!((face.state, face.tooltip.as_str()), (State::Snoozed, "Lull: paused by you until Tue 08:00"));
    assert_eq!(read(&face), menu(&["Paused by you until Tue 08:00"], true, "Tonight: nothing yet"));
    assert!(face.menu.contains(&Item::Choice("Resume now".into(), Action::Resume)));
    assert_eq!(read(&shown(&paused(PauseReason::Owner { until: None })))[0], "Paused by you until you resume");
}

#[test]
fn tomorrow_morning_is_eight_by_the_machines_clock_also_when_clocks_change() {
    let choice = |now: &str| {
        let face = face(&with(|_| {}), None, &at(now));
        face.menu.into_iter().filter_map(|item| match item {
            Item::Choice(_, Action::Snooze(until)) => Some(until.to_string()),
            _ => None,
        })
    };
    let until = |now: &str| choice(now).nth(1).expect("a choice");
    assert_eq!(until("2026-11-30T22:14[Europe/Amsterdam]"), "2026-12-01T07:00:00Z");
    assert_eq!(until("2026-11-30T02:00[Europe/Amsterdam]"), "2026-12-01T07:00:00Z", "after midnight it is the next day too");
    assert_eq!(until("2026-10-24T22:00[Europe/Amsterdam]"), "2026-10-25T07:00:00Z", "summer time ends in that night");
    assert_eq!(choice("2026-11-30T22:14[Europe/Amsterdam]").next().expect("a choice"), "2026-11-30T22:14:00Z");
}

#[test]
fn without_an_agent_there_is_nothing_to_choose_that_does_nothing() {
    let lines = ["The agent of this machine is not running", "--", "[About Lull]"];
    let face = shown(&View::Absent { why: String::new() });
    assert_eq!((face.state, read(&face)), (State::Offline, lines.map(str::to_owned).to_vec()));
    let why = "the agent's socket cannot be used: access denied\nhint: run this as the user that the agent runs as";
    let lines = read(&shown(&View::Absent { why: why.into() }));
    assert_eq!(lines[1..3], ["The agent's socket cannot be used: access denied", "Run this as the user that the agent runs as"]);
    assert_eq!(shown(&View::Unknown).state, State::Offline);
}

#[test]
fn without_a_coordinator_it_is_offline_unless_something_runs_or_waits_for_its_owner() {
    let down = |change: fn(&mut Status)| {
        shown(&with(|status| {
            (status.session.link, status.coordinator) = (LinkStatus::Down, None);
            change(status);
        }))
    };
    assert_eq!(down(|_| {}).state, State::Offline);
    let working = down(|status| status.session.slots = vec![running("x", "2026-11-30T21:05[Europe/Amsterdam]")]);
    assert_eq!(working.state, State::Working);
    assert!(read(&working).contains(&"Not connected to the coordinator; trying again".to_owned()));
    assert_eq!(down(|status| status.session.paused = Some(PauseReason::Touched)).state, State::Paused);
}

#[test]
fn what_somebody_has_to_see_to_comes_before_everything_else() {
    let trouble = |part| PauseReason::Trouble(Trouble::new(part, "landlock is switched off"));
    let views = [
        with(|status| status.session.intake = Intake::Revoked),
        with(|status| {
            status.session.link = LinkStatus::Down;
            status.unwanted = Some("this machine was revoked\nhint: ask".into());
        }),
        with(|status| status.session.disk_trouble = Some("no space left".into())),
        paused(trouble(Part::Cage)),
        paused(trouble(Part::Cache)),
        paused(PauseReason::Unseen),
    ];
    for view in views {
        let face = shown(&view);
        let lines = read(&face);
        assert_eq!(face.state, State::Attention, "{lines:?}");
        assert!(lines[1] != "--", "it says why: {lines:?}");
    }
    assert!(read(&shown(&paused(trouble(Part::Cage)))).iter().any(|line| line.contains("andlock is switched off")));
}

#[test]
fn every_reason_to_pause_is_said_to_the_owner_and_not_about_them() {
    let reasons = [
        PauseReason::Busy { cpu_percent: 80 },
        PauseReason::Memory { free_bytes: 1 },
        PauseReason::Touched,
        PauseReason::Present { idle_s: 60 },
        PauseReason::Hours { opens: "mon 22:00".parse().ok() },
        PauseReason::Hours { opens: None },
        PauseReason::Beside { slots: 1 },
        PauseReason::Stalled { percent: 5 },
        PauseReason::Battery { percent: Some(40) },
        PauseReason::Battery { percent: None },
        PauseReason::Temperature { celsius: 90 },
        PauseReason::FullScreen,
        PauseReason::Metered,
        PauseReason::Reboot,
        PauseReason::Lid,
        PauseReason::Sleep,
        PauseReason::Shutdown,
        PauseReason::Upgrade,
    ];
    for reason in reasons {
        let face = shown(&paused(reason.clone()));
        assert_eq!(face.state, State::Paused, "{reason:?}");
        assert!(face.tooltip.starts_with("Lull: paused") && !face.tooltip.contains("owner"), "{}", face.tooltip);
    }
    assert_eq!(shown(&paused(PauseReason::Starting)).state, State::Idle);
}

#[test]
fn in_the_morning_and_after_noon_the_night_that_is_over_is_told() {
    let night = |time: &str, turn: Option<DateTime>| {
        let view = with(|status| {
            let tally = &mut status.share.tally;
            tally.tonight.tasks = 3;
            turn.into_iter().for_each(|local| tally.turn(local));
        });
        let lines = read(&face(&view, None, &at(time)));
        lines.into_iter().find(|line| line.contains("ight: ")).expect("a line")
    };
    let said = "3 tasks, less than a minute, estimated less than 1 Wh";
    assert_eq!(night("2026-11-30T22:14[Europe/Amsterdam]", None), format!("Tonight: {said}"));
    assert_eq!(night("2026-12-01T09:00[Europe/Amsterdam]", None), format!("Last night: {said}"));
    let noon = DateTime::constant(2026, 12, 1, 12, 30, 0, 0);
    assert_eq!(night("2026-12-01T13:00[Europe/Amsterdam]", Some(noon)), format!("Last night: {said}"));
}

#[test]
fn the_portal_is_there_when_its_address_is_known_and_a_choice_that_failed_is_told() {
    let portal = Item::Choice("Open the portal".into(), Action::OpenPortal("https://lull.example".into()));
    let view = with(|status| status.portal = Some("https://lull.example".into()));
    assert!(shown(&view).menu.contains(&portal));
    let other = with(|status| status.portal = Some("file:///etc/passwd".into()));
    let opens = |item: &Item| matches!(item, Item::Choice(_, Action::OpenPortal(_)));
    assert!(!shown(&other).menu.iter().any(opens), "what is no address of the web is not opened");
    let face = face(&with(|_| {}), Some("only administrators may do this\nhint: ask one"), &now());
    assert_eq!(read(&face)[1..3], ["That did not work: only administrators may do this", "Ask one"]);
}

proptest! {
    #[test]
    fn whatever_an_agent_says_becomes_lines_of_text(name in ".{0,300}", why in "(?s).{0,2000}", begun in any::<i64>(), run in any::<u64>()) {
        let view = with(|status| {
            let mut named = task(&name);
            named.function = why.clone();
            status.session.slots = vec![SlotStatus::Running { task: named, begun: Timestamp(begun), run_ms: run, piped: 0 }];
            (status.share.tally.month.run_ms, status.share.tally.month.cpu_ms) = (run, run);
            status.session.disk_trouble = Some(why.clone());
        });
        let face = face(&view, Some(&why), &now());
        prop_assert!(face.tooltip.encode_utf16().count() <= 2 * TOOLTIP_CHARS_MAX && face.menu.len() < 30);
        for line in read(&face) {
            prop_assert!(line.chars().count() <= LINE_CHARS_MAX + 2 && !line.contains(char::is_control), "{line:?}");
        }
    }
}
