//! What the icon shows and its menu says: a pure function of what is known of the agent.

#[cfg(test)]
mod tests;

use jiff::{Timestamp as Instant, ToSpan as _, Zoned};
use lull_desk::{Status, share::Count, status::energy};
use lull_session::{LinkStatus, SlotStatus, TaskStatus};
use lull_shared::{
    amount::{counted, exact, grouped, spoken},
    hint,
    portal::is_portal,
    state::{Intake, PauseReason},
    time::Timestamp,
};
use std::time::Duration;

/// Tasks that the menu lists, before it only counts.
const TASKS_MAX: usize = 5;
/// A line of the menu; a wider one makes the menu as wide.
const LINE_CHARS_MAX: usize = 72;
/// Windows shows no more of a tooltip.
pub const TOOLTIP_CHARS_MAX: usize = 127;
/// Lines of one reason; whoever needs more of it finds it in the agent's log.
const REASON_LINES_MAX: usize = 5;
/// When a morning begins.
const MORNING: i8 = 8;

/// What is known of the agent.
#[derive(Debug, Clone, PartialEq)]
pub enum View {
    /// It is being looked for.
    Unknown,
    /// It cannot be reached, and why.
    Absent {
        why: String,
    },
    Present(Box<Status>),
}

/// What the icon says at a glance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Idle,
    Working,
    /// For a reason of the machine's: its owner is there, it is on battery, ...
    Paused,
    /// By its owner's word.
    Snoozed,
    Offline,
    /// Somebody has to do something.
    Attention,
}

impl State {
    pub const ALL: [Self; 6] = [Self::Idle, Self::Working, Self::Paused, Self::Snoozed, Self::Offline, Self::Attention];
}

/// What is shown.
#[derive(Debug, Clone, PartialEq)]
pub struct Face {
    pub state: State,
    pub tooltip: String,
    pub menu: Vec<Item>,
}

/// A line of the menu.
#[derive(Debug, Clone, PartialEq)]
pub enum Item {
    /// Only to be read.
    Line(String),
    Separator,
    Choice(String, Action),
}

/// What a person can choose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Leave the machine to its owner until then.
    Snooze(Instant),
    Resume,
    ShowGrants,
    OpenPortal(String),
    About,
}

/// The face at `now`, in the machine's time zone. `trouble` is what became of the last choice, if it failed.
pub fn face(view: &View, trouble: Option<&str>, now: &Zoned) -> Face {
    let (state, headline, mut lines) = match view {
        View::Unknown => (State::Offline, "Looking for the agent".to_owned(), Vec::new()),
        View::Absent { why } => (State::Offline, "The agent of this machine is not running".to_owned(), reasons(why)),
        View::Present(status) => present(status, now),
    };
    lines.extend(trouble.into_iter().flat_map(|trouble| reasons(&format!("That did not work: {trouble}"))));
    let mut menu = vec![Item::Line(headline.clone())];
    menu.extend(lines.into_iter().map(Item::Line));
    if let View::Present(status) = view {
        menu.push(Item::Separator);
        menu.extend(snoozes(status, now));
        menu.push(Item::Separator);
        menu.extend(share(status, now).into_iter().map(Item::Line));
        menu.push(Item::Separator);
        menu.extend(status.machine_policy.iter().flat_map(|words| reasons(words)).map(Item::Line));
        menu.push(Item::Choice("What may these functions touch?".into(), Action::ShowGrants));
        // It leaves the program by the desktop: what is no address is not offered, whoever said it.
        let portal = status.portal.iter().filter(|portal| is_portal(portal));
        menu.extend(portal.map(|portal| Item::Choice("Open the portal".into(), Action::OpenPortal(portal.clone()))));
    } else {
        menu.push(Item::Separator);
    }
    menu.push(Item::Choice("About Lull".into(), Action::About));
    for item in &mut menu {
        if let Item::Line(text) | Item::Choice(text, _) = item {
            *text = fit(text, LINE_CHARS_MAX);
        }
    }
    Face { state, tooltip: fit(&format!("Lull: {}", cased(&headline, char::to_lowercase)), TOOLTIP_CHARS_MAX), menu }
}

fn present(status: &Status, now: &Zoned) -> (State, String, Vec<String>) {
    let session = &status.session;
    let running = session.slots.iter().filter(|slot| matches!(slot, SlotStatus::Running { .. })).count();
    let is_up = matches!(session.link, LinkStatus::Up { .. });
    let mut lines = Vec::new();
    let (state, headline) = if let Some((headline, why)) = trouble(status) {
        lines.extend(reasons(&why));
        (State::Attention, headline.to_owned())
    } else if let Some(PauseReason::Owner { until }) = &session.paused {
        let until = until.map_or_else(|| "until you resume".into(), |until| format!("until {}", moment(until, now)));
        (State::Snoozed, format!("Paused by you {until}"))
    } else if running > 0 {
        let beside = if session.beside { " beside you" } else { "" };
        (State::Working, format!("Working{beside}: {}", counted(running as u64, "task")))
    } else if let Some(reason) = session.paused.as_ref().filter(|reason| **reason != PauseReason::Starting) {
        let (headline, more) = pause(reason);
        lines.extend(more);
        (State::Paused, headline)
    } else if !is_up {
        (State::Offline, "Not connected to the coordinator; trying again".to_owned())
    } else if session.paused.is_some() {
        (State::Idle, "Just started".to_owned())
    } else if session.waiting > 0 || session.slots.iter().any(|slot| matches!(slot, SlotStatus::Starting { .. })) {
        (State::Idle, "Getting ready for work".to_owned())
    } else {
        (State::Idle, "Ready; nothing runs now".to_owned())
    };
    lines.extend(tasks(status, now));
    if !is_up && state != State::Offline && state != State::Attention {
        lines.push("Not connected to the coordinator; trying again".into());
    }
    match session.intake {
        Intake::Open | Intake::Revoked => {}
        Intake::Cordoned => lines.push("Nothing new comes here, by the administrator's word".into()),
        Intake::Draining => lines.push("It finishes what runs, by the administrator's word".into()),
    }
    (state, headline, lines)
}

/// What somebody has to see to.
fn trouble(status: &Status) -> Option<(&'static str, String)> {
    let session = &status.session;
    let ask = "Ask your administrator.";
    if session.intake == Intake::Revoked {
        return Some(("This machine was removed from its network", ask.into()));
    }
    if let Some(why) = status.unwanted.as_ref().filter(|_| !matches!(session.link, LinkStatus::Up { .. })) {
        return Some(("The network does not accept this machine", why.clone()));
    }
    if let Some(why) = &session.disk_trouble {
        return Some(("Results cannot be kept on the disk", why.clone()));
    }
    match &session.paused {
        Some(PauseReason::Trouble(trouble)) => Some(("Something does not work", trouble.to_string())),
        Some(PauseReason::Unseen) => {
            Some(("Nothing here sees whether you are there, so nothing runs", "`lull-agent status` says what is missing.".into()))
        }
        _ => None,
    }
}

/// Why nothing runs, said to its owner, and what ends it.
fn pause(reason: &PauseReason) -> (String, Option<String>) {
    let headline = match reason {
        PauseReason::Touched => "Paused because you are here".into(),
        PauseReason::Present { idle_s } => {
            let idle = exact(Duration::from_secs((*idle_s).into()));
            return ("Paused because you are here".into(), Some(format!("It works when you have been away for {idle}")));
        }
        PauseReason::Owner { .. } => "Paused by you".into(),
        PauseReason::Busy { cpu_percent } => format!("Paused: your programs use {cpu_percent} % of the processors"),
        PauseReason::Memory { .. } => "Paused: your programs need the memory".into(),
        PauseReason::Hours { opens: Some(opens) } => format!("Paused: it may work from {opens} on"),
        PauseReason::Hours { opens: None } => "Paused: its policy never lets it work".into(),
        PauseReason::Beside { .. } => "Paused: enough runs beside you already".into(),
        PauseReason::Unseen => "Paused: nothing sees whether you are here".into(),
        PauseReason::Stalled { .. } => "Paused: your programs wait for memory".into(),
        PauseReason::Battery { percent: Some(percent) } => format!("Paused: this machine is on battery, at {percent} %"),
        PauseReason::Battery { percent: None } => "Paused: this machine is on battery".into(),
        PauseReason::Temperature { celsius } => format!("Paused: this machine is {celsius} degrees hot"),
        PauseReason::FullScreen => "Paused: a program fills the screen".into(),
        PauseReason::Metered => "Paused: the network is metered".into(),
        PauseReason::Reboot => "Paused: this machine waits to be restarted".into(),
        PauseReason::Lid => "Paused: the lid is closed".into(),
        PauseReason::Sleep => "Paused: this machine goes to sleep".into(),
        PauseReason::Shutdown => "Paused: this machine is being shut down".into(),
        PauseReason::Starting => "Just started".into(),
        PauseReason::Upgrade => "Paused: Lull is being upgraded".into(),
        PauseReason::Trouble(trouble) => format!("Paused: {trouble}"),
    };
    (headline, None)
}

/// What runs or is kept in memory: since when, and for whom.
fn tasks(status: &Status, now: &Zoned) -> Vec<String> {
    let line = |slot: &SlotStatus| {
        let (task, begun, is_frozen) = match slot {
            SlotStatus::Running { task, begun, .. } => (task, begun, false),
            SlotStatus::Paused { task, begun, .. } => (task, begun, true),
            SlotStatus::Idle
            | SlotStatus::Starting { .. }
            | SlotStatus::Warm { .. }
            | SlotStatus::Suspending { .. }
            | SlotStatus::Stopping => return None,
        };
        let TaskStatus { function, job_name, submitter, .. } = task;
        let whose = if submitter.is_empty() { String::new() } else { format!(" of {submitter}") };
        let frozen = if is_frozen { ", waiting in memory" } else { "" };
        Some(format!("\u{2022} {function} for {job_name}{whose}, since {}{frozen}", moment(*begun, now)))
    };
    let mut lines: Vec<String> = status.session.slots.iter().filter_map(line).collect();
    let more = lines.len().saturating_sub(TASKS_MAX);
    if more > 0 {
        lines.truncate(TASKS_MAX);
        lines.push(format!("\u{2022} and {more} more"));
    }
    lines
}

fn snoozes(status: &Status, now: &Zoned) -> Vec<Item> {
    let mut items = Vec::new();
    if let Some(PauseReason::Owner { .. }) = status.session.paused {
        items.push(Item::Choice("Resume now".into(), Action::Resume));
    }
    let hour = now.timestamp().checked_add(1.hour()).ok();
    let told = |until: Instant| moment(until.into(), now);
    items.extend(hour.map(|until| Item::Choice(format!("Pause for an hour, until {}", told(until)), Action::Snooze(until))));
    let morning = now.date().tomorrow().and_then(|date| date.at(MORNING, 0, 0, 0).to_zoned(now.time_zone().clone()));
    items.extend(morning.ok().map(|morning| {
        Item::Choice(format!("Pause until tomorrow, {}", morning.strftime("%a %H:%M")), Action::Snooze(morning.timestamp()))
    }));
    items
}

/// What this machine did for others.
fn share(status: &Status, now: &Zoned) -> Vec<String> {
    let tally = &status.share.tally;
    let say = |name: &str, count: &Count| {
        let run = Duration::from_millis(count.run_ms);
        let tasks = format!("{} {}", grouped(count.tasks), if count.tasks == 1 { "task" } else { "tasks" });
        let run = if run < Duration::from_secs(60) {
            "less than a minute".into()
        } else {
            spoken(Duration::from_secs(run.as_secs() / 60 * 60))
        };
        format!(
            "{name}: {tasks}, {}, {}",
            run.trim_end_matches(" 00s"),
            energy(count.watt_hours(status.share.watts_per_processor))
        )
    };
    let in_words = |name: &str, count: &Count| if count.is_none() { format!("{name}: nothing yet") } else { say(name, count) };
    // In the morning the night is over, and until the evening it is the last one that counts.
    let is_morning = (6..12).contains(&now.hour());
    let night = match &tally.last_night {
        Some(last) if tally.tonight.is_none() && !last.is_none() => say("Last night", last),
        _ if is_morning => in_words("Last night", &tally.tonight),
        _ => in_words("Tonight", &tally.tonight),
    };
    vec![night, in_words("This month", &tally.month)]
}

/// What went wrong and what to do, a line each.
fn reasons(why: &str) -> Vec<String> {
    let (what, hint) = hint::split(why);
    let lines = [Some(what), hint].into_iter().flatten().flat_map(str::lines).filter(|line| !line.is_empty());
    lines.flat_map(|line| wrapped(&cased(line, char::to_uppercase))).take(REASON_LINES_MAX).collect()
}

/// A sentence, in lines that a menu can have.
fn wrapped(text: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let last = lines.last_mut().expect("one at least");
        if !last.is_empty() && last.chars().count() + 1 + word.chars().count() > LINE_CHARS_MAX {
            lines.push(word.to_owned());
        } else {
            last.push_str(if last.is_empty() { "" } else { " " });
            last.push_str(word);
        }
    }
    lines
}

/// A moment as short as it can be told.
fn moment(at: Timestamp, now: &Zoned) -> String {
    let at = at.to_jiff().to_zoned(now.time_zone().clone());
    let days = at.date().since(now.date()).map_or(i32::MAX, |span| span.get_days().abs());
    let form = match days {
        0 => "%H:%M",
        ..7 => "%a %H:%M",
        _ => "%b %-d %H:%M",
    };
    at.strftime(form).to_string()
}

/// One line without anything that is not text, and not all of what is longer.
fn fit(text: &str, chars_max: usize) -> String {
    // Marks that turn the direction of what follows would let a name read as another.
    let turns = |c: char| matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let clean = text.chars().map(|c| if c.is_control() || turns(c) { '\u{fffd}' } else { c });
    match text.chars().count() > chars_max {
        true => clean.take(chars_max - 1).chain(['\u{2026}']).collect(),
        false => clean.collect(),
    }
}

/// The same with its first letter large or small.
fn cased<L: Iterator<Item = char>>(text: &str, case: impl Fn(char) -> L) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| case(first).chain(chars).collect())
}
