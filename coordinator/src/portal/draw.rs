//! Pictures, drawn here as SVG: with classes instead of styles, and with a sentence for whoever does not see them.

use jiff::{Timestamp as Moment, tz::TimeZone};
use lull_shared::{
    amount::grouped,
    state::{TaskCounts, TaskState},
    time::Timestamp,
};

use crate::api::Hour;
use crate::portal::words::{Html, clock, escape};

const HOUR_US: i64 = 3_600_000_000;
/// The room of an hour's mark.
const MARK: f64 = 100.0;

/// A stretch of time that is drawn from left to right.
#[derive(Debug, Clone, Copy)]
pub(super) struct Axis {
    pub from: Timestamp,
    pub to: Timestamp,
    pub left: f64,
    pub right: f64,
}

impl Axis {
    /// Where a moment is; what is beyond an end is at it.
    pub(super) fn x(&self, at: Timestamp) -> f64 {
        let whole = (self.to.0 - self.from.0).max(1) as f64;
        let part = (at.0 - self.from.0) as f64 / whole;
        self.left + part.clamp(0.0, 1.0) * (self.right - self.left)
    }

    /// Whole hours of the reader's clock with their places, as many as there is room for.
    pub(super) fn hours(&self, now: Moment, zone: &TimeZone) -> Vec<(f64, String)> {
        let span = (self.to.0 - self.from.0).max(1);
        let most = ((self.right - self.left) / MARK) as i64;
        let step = [1, 2, 3, 6, 12, 24].into_iter().find(|hours| span / (hours * HOUR_US) <= most).unwrap_or(48) * HOUR_US;
        let ahead = i64::from(zone.to_offset(self.from.to_jiff()).seconds()) * 1_000_000;
        let first = (self.from.0 + ahead).div_euclid(step) * step + step - ahead;
        let mut marks = Vec::new();
        let mut at = first;
        while at < self.to.0 && marks.len() < 16 {
            marks.push((self.x(Timestamp(at)), clock(Timestamp(at).to_jiff(), now, zone)));
            at += step;
        }
        marks
    }
}

/// Who reads: when, and by which clock.
#[derive(Clone, Copy)]
pub(super) struct Reader<'a> {
    pub now: Moment,
    pub zone: &'a TimeZone,
}

/// A picture of this size with what is in it, and what it shows in words.
pub(super) fn picture(width: u32, height: u32, words: &str, inner: &str) -> Html {
    let words = escape(words);
    Html(format!("<svg class=\"chart\" viewBox=\"0 0 {width} {height}\" role=\"img\" aria-label=\"{words}\">{inner}</svg>"))
}

pub(super) fn marks(axis: &Axis, reader: Reader<'_>, y: f64) -> String {
    let text = |(x, word): (f64, String)| format!("<text x=\"{x:.0}\" y=\"{y:.0}\" text-anchor=\"middle\">{word}</text>");
    axis.hours(reader.now, reader.zone).into_iter().map(text).collect()
}

pub(super) fn now_line(axis: &Axis, at: Timestamp, height: f64) -> String {
    let x = axis.x(at);
    format!("<line class=\"now\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"4\" y2=\"{height:.0}\"/>")
}

/// Lines that go through these points.
fn path(points: &[(f64, f64)]) -> String {
    points.iter().enumerate().map(|(at, (x, y))| format!("{}{x:.1} {y:.1}", if at == 0 { "M" } else { "L" })).collect()
}

/// What is offered and used, and expected: each by its points in time.
pub(super) struct Capacity<'a> {
    pub offered: &'a [(Timestamp, u64)],
    pub used: &'a [(Timestamp, u64)],
    pub expected: &'a [(Timestamp, u64)],
    pub at: Timestamp,
}

/// For which screens a picture is drawn. A page has it for both and shows the one that fits: a picture for a desk that is made
/// as small as a phone cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Screen {
    Desk,
    Phone,
}

impl Screen {
    const fn width(self) -> u32 {
        match self {
            Self::Desk => 1_000,
            Self::Phone => 480,
        }
    }

    const fn class(self) -> &'static str {
        match self {
            Self::Desk => "chart desk",
            Self::Phone => "chart phone",
        }
    }

    fn picture(self, height: f64, words: &str, inner: &str) -> String {
        let (class, width, words) = (self.class(), self.width(), escape(words));
        format!("<svg class=\"{class}\" viewBox=\"0 0 {width} {height:.0}\" role=\"img\" aria-label=\"{words}\">{inner}</svg>")
    }
}

/// Slots over time.
pub(super) fn capacity(of: &Capacity<'_>, words: &str, reader: Reader<'_>) -> Html {
    Html([Screen::Desk, Screen::Phone].map(|screen| capacity_on(screen, of, words, reader)).concat())
}

fn capacity_on(screen: Screen, of: &Capacity<'_>, words: &str, reader: Reader<'_>) -> String {
    const HEIGHT: f64 = 190.0;
    let all = || of.offered.iter().chain(of.used).chain(of.expected);
    let top = all().map(|(_, slots)| *slots).max().unwrap_or(0).max(1);
    let step = step_of(top);
    let top = top.div_ceil(step) * step;
    let from = all().map(|(at, _)| *at).min().unwrap_or(of.at);
    let to = all().map(|(at, _)| *at).max().unwrap_or(of.at);
    let axis = Axis { from, to, left: 46.0, right: f64::from(screen.width()) - 24.0 };
    let (base, full) = (HEIGHT - 24.0, 12.0);
    let y = |slots: u64| base - (base - full) * slots as f64 / top as f64;
    let point = |(at, slots): &(Timestamp, u64)| (axis.x(*at), y(*slots));
    let mut inner = String::new();
    for slots in (0..=top).step_by(usize::try_from(step).unwrap_or(1)) {
        let y = y(slots);
        inner.push_str(&format!(
            "<line class=\"axis\" x1=\"{:.0}\" x2=\"{:.0}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/><text x=\"38\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            axis.left,
            axis.right,
            y + 4.0,
            grouped(slots)
        ));
    }
    let area = |of: &[(Timestamp, u64)], class: &str| {
        let points: Vec<_> = of.iter().map(point).collect();
        let (Some(first), Some(last)) = (points.first(), points.last()) else { return String::new() };
        format!("<path class=\"{class}\" d=\"{}L{:.1} {base}L{:.1} {base}Z\"/>", path(&points), last.0, first.0)
    };
    inner.push_str(&area(of.offered, "offered"));
    inner.push_str(&area(of.used, "used"));
    let expected: Vec<_> = of.expected.iter().map(point).collect();
    inner.push_str(&format!("<path class=\"expected\" d=\"{}\"/>", path(&expected)));
    inner.push_str(&now_line(&axis, of.at, base));
    inner.push_str(&marks(&axis, reader, HEIGHT - 6.0));
    screen.picture(HEIGHT, words, &inner)
}

/// The distance of the lines of a scale that ends there: four at most, on round numbers.
fn step_of(top: u64) -> u64 {
    let mut step = 1;
    loop {
        for factor in [1, 2, 5] {
            if step * factor * 4 >= top {
                return step * factor;
            }
        }
        step *= 10;
    }
}

/// When one job runs.
pub(super) struct Bar<'a> {
    pub name: &'a str,
    /// What it did, solid; what it will probably do, in outline.
    pub done: Option<(Timestamp, Timestamp)>,
    pub expected: Option<(Timestamp, Timestamp)>,
    /// When it must have ended.
    pub due: Option<Timestamp>,
    pub class: &'static str,
    pub words: String,
}

/// The time that bars are drawn in, and the present.
#[derive(Clone, Copy)]
pub(super) struct Stretch {
    pub from: Timestamp,
    pub to: Timestamp,
    pub at: Timestamp,
}

/// When each job runs.
pub(super) fn bars(bars: &[Bar<'_>], stretch: Stretch, words: &str, reader: Reader<'_>) -> Html {
    Html([Screen::Desk, Screen::Phone].map(|screen| bars_on(screen, bars, stretch, words, reader)).concat())
}

fn bars_on(screen: Screen, bars: &[Bar<'_>], stretch: Stretch, words: &str, reader: Reader<'_>) -> String {
    let Stretch { from, to, at } = stretch;
    // On a phone a job's name is above its bar.
    let (left, row, below, name_chars) = match screen {
        Screen::Desk => (180.0, 30.0, 0.0, 24),
        Screen::Phone => (8.0, 48.0, 18.0, 40),
    };
    let axis = Axis { from, to, left, right: f64::from(screen.width()) - 24.0 };
    let height = row * bars.len() as f64 + 24.0;
    let mut inner = String::new();
    for (bar, y) in bars.iter().zip((0..).map(|number| row * f64::from(number))) {
        inner.push_str(&format!("<g><title>{}</title>", escape(&bar.words)));
        inner.push_str(&format!(
            "<text class=\"ink\" x=\"0\" y=\"{:.0}\">{}</text>",
            y + 20.0,
            escape(&cut(bar.name, name_chars))
        ));
        let line = y + row - 1.0;
        inner.push_str(&format!(
            "<line class=\"axis\" x1=\"{:.0}\" x2=\"{:.0}\" y1=\"{line}\" y2=\"{line}\"/>",
            axis.left, axis.right
        ));
        let mut rect = |span: Option<(Timestamp, Timestamp)>, class: &str| {
            let Some((begin, end)) = span.filter(|(begin, end)| *end > from && *begin < to) else { return };
            let (left, right) = (axis.x(begin), axis.x(end));
            let (y, wide) = (y + 8.0 + below, (right - left).max(2.0));
            inner.push_str(&format!(
                "<rect class=\"{class}\" x=\"{left:.1}\" y=\"{y:.0}\" width=\"{wide:.1}\" height=\"14\" rx=\"3\"/>"
            ));
        };
        rect(bar.done, &format!("solid {}", bar.class));
        rect(bar.expected, &format!("outline {}", bar.class));
        if let Some(due) = bar.due.filter(|due| *due > from && *due < to) {
            let x = axis.x(due);
            inner.push_str(&format!("<path class=\"due\" d=\"M{x:.1} {:.0}l6 8-6 8-6-8z\"/>", y + 7.0 + below));
        }
        inner.push_str("</g>");
    }
    inner.push_str(&now_line(&axis, at, height - 22.0));
    inner.push_str(&marks(&axis, reader, height - 4.0));
    screen.picture(height, words, &inner)
}

/// How a job's tasks stand, as parts of one bar.
pub(super) fn meter(counts: &TaskCounts) -> Html {
    const LENGTH: f64 = 1_000.0;
    let all = counts.total().max(1) as f64;
    let (mut x, mut inner) = (0.0, String::new());
    for (state, class) in [
        (TaskState::Succeeded, "good"),
        (TaskState::Failed, "bad"),
        (TaskState::Expired, "bad"),
        (TaskState::Cancelled, "faint"),
        (TaskState::Verifying, "busy"),
        (TaskState::Running, "busy"),
        (TaskState::Paused, "wait"),
        (TaskState::Moving, "moved"),
    ] {
        let wide = LENGTH * f64::from(counts.get(state)) / all;
        if wide > 0.0 {
            inner.push_str(&format!("<rect class=\"{class}\" x=\"{x:.1}\" width=\"{wide:.1}\" height=\"10\"/>"));
        }
        x += wide;
    }
    let some = TaskState::ALL.into_iter().filter(|state| counts.get(*state) > 0);
    let words: Vec<String> = some.map(|state| format!("{} {state}", counts.get(state))).collect();
    let words = if words.is_empty() { "no tasks".to_owned() } else { words.join(", ") };
    let head = "<svg class=\"meter\" viewBox=\"0 0 1000 10\" preserveAspectRatio=\"none\" role=\"img\"";
    Html(format!("{head} aria-label=\"{words}\">{inner}</svg>"))
}

const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

/// A week of hours, each with its class and what it says.
fn week(hours: impl Fn(usize, usize) -> (&'static str, String), words: &str) -> Html {
    const SIDE: f64 = 24.0;
    let mut inner = String::new();
    for hour in (0..24).step_by(3) {
        inner.push_str(&format!("<text x=\"{:.0}\" y=\"12\">{hour:02}</text>", 42.0 + SIDE * hour as f64));
    }
    for (day, name) in DAYS.iter().enumerate() {
        let y = 18.0 + 20.0 * day as f64;
        inner.push_str(&format!("<text x=\"0\" y=\"{:.0}\">{name}</text>", y + 14.0));
        for hour in 0..24 {
            let (class, words) = hours(day, hour);
            let x = 40.0 + SIDE * hour as f64;
            inner.push_str(&format!(
                "<rect class=\"{class}\" x=\"{x:.0}\" y=\"{y:.0}\"><title>{name} {hour:02}:00, {words}</title></rect>"
            ));
        }
    }
    let (words, head) = (escape(words), "<svg class=\"chart heat\" viewBox=\"0 0 620 162\" role=\"img\"");
    Html(format!("{head} aria-label=\"{words}\">{inner}</svg>"))
}

/// In which part of each hour of its week a machine was there for work.
pub(super) fn idle(days: &[Vec<Option<f64>>]) -> Html {
    let share = |day: usize, hour: usize| days.get(day).and_then(|hours| hours.get(hour).copied()).flatten();
    let known: Vec<f64> = days.iter().flatten().flatten().copied().collect();
    let mean = known.iter().sum::<f64>() / known.len().max(1) as f64;
    let words =
        format!("When it was there for work: {} of 168 hours are known, {:.0} % of them on average", known.len(), mean * 100.0);
    let cell = |day, hour| match share(day, hour) {
        None => ("hx", "not known yet".to_owned()),
        Some(share) => {
            let steps = [0.05, 0.35, 0.65, 0.95];
            let class = ["h0", "h1", "h2", "h3", "h4"][steps.iter().filter(|step| share >= **step).count()];
            (class, format!("{:.0} %", share * 100.0))
        }
    };
    week(cell, &words)
}

/// What a policy allows in each hour of the week.
pub(super) fn allowed(days: &[Vec<Hour>]) -> Html {
    let of = |day: usize, hour: usize| days.get(day).and_then(|hours| hours.get(hour)).copied();
    let open = days.iter().flatten().filter(|hour| hour.full_min > 0).count();
    let words = format!("In {open} of 168 hours of the week it may work while its owner is away");
    let cell = |day, hour| match of(day, hour) {
        Some(Hour { full_min, .. }) if full_min >= 60 => ("h4", "all that the policy gives while the owner is away".to_owned()),
        Some(Hour { full_min, .. }) if full_min > 0 => ("h2", format!("for {full_min} minutes while the owner is away")),
        Some(Hour { light_min, .. }) if light_min > 0 => ("h1", "light work only".to_owned()),
        Some(_) | None => ("h0", "nothing".to_owned()),
    };
    week(cell, &words)
}

/// A name that fits before its bar.
pub(super) fn cut(name: &str, chars: usize) -> String {
    match name.char_indices().nth(chars) {
        Some(_) => name.chars().take(chars - 1).chain(['…']).collect(),
        None => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scale_has_few_lines_on_round_numbers() {
        assert_eq!([1, 4, 5, 9, 31, 400, 1_238].map(step_of), [1, 1, 2, 5, 10, 100, 500]);
    }

    #[test]
    fn hours_are_those_of_the_readers_clock() {
        let at = |text: &str| Timestamp::from(text.parse::<Moment>().expect("a moment"));
        let axis = Axis { from: at("2027-03-01T20:30:00Z"), to: at("2027-03-02T04:30:00Z"), left: 0.0, right: 800.0 };
        let zone = TimeZone::get("Asia/Kolkata").expect("a zone");
        let hours = axis.hours(axis.from.to_jiff(), &zone);
        assert_eq!(hours.first(), Some(&(0.0 + 100.0, "03:00".to_owned())), "{hours:?}");
        assert_eq!(hours.len(), 7);
        assert_eq!((axis.x(at("2027-01-01T00:00:00Z")), axis.x(at("2028-01-01T00:00:00Z"))), (0.0, 800.0));
    }

    #[test]
    fn a_name_of_somebody_elses_stays_a_name() {
        let zone = TimeZone::UTC;
        let reader = Reader { now: Moment::UNIX_EPOCH, zone: &zone };
        let bar = Bar { name: "<script>\"'&", done: None, expected: None, due: None, class: "busy", words: "</title><b>".into() };
        let drawn =
            bars(&[bar], Stretch { from: Timestamp(0), to: Timestamp(HOUR_US), at: Timestamp(5) }, "\"><script>", reader).0;
        assert!(!drawn.contains("<script>") && !drawn.contains("<b>"), "{drawn}");
        assert_eq!(cut("abcdef", 4), "abc…");
    }
}
