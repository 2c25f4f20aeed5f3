//! Attempts over machines, as a picture. Where nothing happened for long, the time axis is cut.

use std::{collections::BTreeMap, time::Duration};

use lull_shared::{amount::spoken, time::Timestamp};

use crate::{
    api::AttemptBody,
    portal::{
        draw::{Reader, cut, picture},
        words::{Html, about, clock, clock_exact, escape},
    },
};

/// Machines that are drawn: those where something happened last.
const MACHINES_MAX: usize = 14;
const WIDTH: f64 = 1_000.0;
const LEFT: f64 = 140.0;
const RIGHT: f64 = WIDTH - 16.0;
const ROW: f64 = 22.0;
/// What is left of a long gap.
const GAP: f64 = 26.0;
/// A gap is long if it is this part of the time in which something happened.
const LONG: i64 = 6;
/// Below this length the axis is in seconds: ten minutes.
const SECONDS_BELOW_US: i64 = 600_000_000;

/// Time from left to right, with long gaps cut.
struct Cut {
    /// Spans in which something happened, with where each begins and ends.
    spans: Vec<(Timestamp, Timestamp, f64, f64)>,
}

impl Cut {
    fn new(mut spans: Vec<(Timestamp, Timestamp)>) -> Self {
        spans.sort_unstable();
        let mut merged: Vec<(Timestamp, Timestamp)> = Vec::new();
        for (begin, end) in spans {
            match merged.last_mut() {
                Some(last) if begin <= last.1 => last.1 = last.1.max(end),
                _ => merged.push((begin, end)),
            }
        }
        let busy: i64 = merged.iter().map(|(begin, end)| end.0 - begin.0).sum();
        let long = (busy / LONG).max(1_000_000);
        let mut joined: Vec<(Timestamp, Timestamp)> = Vec::new();
        for (begin, end) in merged {
            match joined.last_mut() {
                Some(last) if begin.0 - last.1.0 <= long => last.1 = end,
                _ => joined.push((begin, end)),
            }
        }
        let whole = joined.iter().map(|(begin, end)| end.0 - begin.0).sum::<i64>().max(1) as f64;
        let room = (RIGHT - LEFT - GAP * joined.len().saturating_sub(1) as f64).max(RIGHT / 4.0);
        let mut x = LEFT;
        let mut placed = Vec::new();
        for (begin, end) in joined {
            let wide = room * (end.0 - begin.0) as f64 / whole;
            placed.push((begin, end, x, x + wide));
            x += wide + GAP;
        }
        Self { spans: placed }
    }

    fn x(&self, at: Timestamp) -> f64 {
        for (begin, end, left, right) in &self.spans {
            if at <= *begin {
                return *left;
            }
            if at <= *end {
                return left + (right - left) * (at.0 - begin.0) as f64 / (end.0 - begin.0).max(1) as f64;
            }
        }
        self.spans.last().map_or(LEFT, |(_, _, _, right)| *right)
    }
}

fn class(attempt: &AttemptBody) -> &'static str {
    use lull_shared::state::AttemptEnd::{Cancelled, Evicted, Failed, Lost, Recalled, Succeeded};
    match attempt.end {
        None if attempt.paused.is_some() => "wait",
        None => "busy",
        Some(Succeeded) => "good",
        Some(Failed) => "bad",
        Some(Evicted | Recalled | Lost) => "moved",
        Some(Cancelled) => "faint",
    }
}

/// The attempts by machine, with lines where a task went on elsewhere; none if there is nothing to draw.
pub(super) fn timeline(attempts: &[AttemptBody], now: Timestamp, reader: Reader<'_>) -> Option<Html> {
    let span = |attempt: &AttemptBody| {
        let begin = Timestamp::from(attempt.started);
        (begin, attempt.ended.map_or(now, Timestamp::from).max(begin))
    };
    let mut machines: BTreeMap<&str, Timestamp> = BTreeMap::new();
    for attempt in attempts {
        let last = machines.entry(&attempt.agent_name).or_insert(Timestamp(0));
        *last = (*last).max(span(attempt).1);
    }
    let all = machines.len();
    let mut machines: Vec<(&str, Timestamp)> = machines.into_iter().collect();
    machines.sort_by_key(|(_, last)| std::cmp::Reverse(*last));
    machines.truncate(MACHINES_MAX);
    machines.sort_unstable();
    let rows: BTreeMap<&str, f64> = machines.iter().map(|(name, _)| *name).zip((0..).map(|row| ROW * f64::from(row))).collect();
    let shown: Vec<&AttemptBody> = attempts.iter().filter(|attempt| rows.contains_key(attempt.agent_name.as_str())).collect();
    if shown.is_empty() {
        return None;
    }
    let axis = Cut::new(shown.iter().map(|attempt| span(attempt)).collect());
    let mut inner = String::new();
    for (name, y) in &rows {
        let (text, line) = (y + 15.0, y + ROW - 1.0);
        inner.push_str(&format!("<text class=\"ink\" x=\"0\" y=\"{text:.0}\">{}</text>", escape(&cut(name, 20))));
        inner.push_str(&format!("<line class=\"axis\" x1=\"{LEFT:.0}\" x2=\"{RIGHT:.0}\" y1=\"{line:.0}\" y2=\"{line:.0}\"/>"));
    }
    for attempt in &shown {
        let (begin, end) = span(attempt);
        let (y, left) = (rows[attempt.agent_name.as_str()] + 4.0, axis.x(begin));
        let wide = (axis.x(end) - left).max(1.5);
        inner.push_str(&format!(
            "<rect class=\"solid {}\" x=\"{left:.1}\" y=\"{y:.0}\" width=\"{wide:.1}\" height=\"13\" rx=\"2\"/>",
            class(attempt)
        ));
    }
    inner.push_str(&moves(&shown, &axis, &rows, &span));
    let height = ROW * rows.len() as f64;
    inner.push_str(&scale(&axis, height, reader));
    let machines =
        if all > rows.len() { format!("the last {} of {all} machines", rows.len()) } else { format!("{all} machines") };
    let words = format!("{} attempts over {machines}; the pages of the tasks list them", shown.len());
    Some(picture(WIDTH as u32, (height + 22.0) as u32, &words, &inner))
}

/// Lines from where an attempt ended to where the task went on.
fn moves(
    shown: &[&AttemptBody],
    axis: &Cut,
    rows: &BTreeMap<&str, f64>,
    span: &dyn Fn(&AttemptBody) -> (Timestamp, Timestamp),
) -> String {
    let by_id: BTreeMap<_, &AttemptBody> = shown.iter().map(|attempt| (attempt.attempt, *attempt)).collect();
    let mut lines = String::new();
    for attempt in shown {
        let mut before = attempt.attempt;
        before.number = before.number.saturating_sub(1);
        let Some(from) = by_id.get(&before).filter(|from| from.ended.is_some() && from.agent_name != attempt.agent_name) else {
            continue;
        };
        let middle = |name: &str| rows.get(name).copied().unwrap_or_default() + ROW / 2.0;
        let (left, right) = (axis.x(span(from).1), axis.x(span(attempt).0));
        let (above, below) = (middle(&from.agent_name), middle(&attempt.agent_name));
        lines.push_str(&format!(
            "<path class=\"move\" d=\"M{left:.1} {above:.0}C{:.1} {above:.0} {:.1} {below:.0} {right:.1} {below:.0}\"/>",
            left + 8.0,
            right - 8.0
        ));
    }
    lines
}

/// When each span began and ended, and how long the gaps between them are.
fn scale(axis: &Cut, height: f64, reader: Reader<'_>) -> String {
    let y = height + 16.0;
    let whole = axis.spans.first().zip(axis.spans.last()).map_or(0, |(first, last)| last.1.0 - first.0.0);
    let at = |at: Timestamp| match whole < SECONDS_BELOW_US {
        true => clock_exact(at.to_jiff(), reader.now, reader.zone),
        false => clock(at.to_jiff(), reader.now, reader.zone),
    };
    let mut scale = String::new();
    for (number, (begin, end, left, right)) in axis.spans.iter().enumerate() {
        if right - left > 60.0 || axis.spans.len() == 1 {
            scale.push_str(&format!("<text x=\"{left:.0}\" y=\"{y:.0}\">{}</text>", at(*begin)));
        }
        if right - left > 140.0 {
            let (from, to) = (at(*begin), at(*end));
            // A span within one second ends where it began, to the second: its length says more.
            let to =
                if from == to { format!("+{}", spoken(Duration::from_micros((end.0 - begin.0).unsigned_abs()))) } else { to };
            scale.push_str(&format!("<text x=\"{right:.0}\" y=\"{y:.0}\" text-anchor=\"end\">{to}</text>"));
        }
        if let Some((next, _, _, _)) = axis.spans.get(number + 1) {
            let x = right + GAP / 2.0;
            let length = about(Duration::from_micros((next.0 - end.0).unsigned_abs()));
            scale.push_str(&format!("<line class=\"gap\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"0\" y2=\"{height:.0}\"><title>nothing for {length}</title></line>"));
        }
    }
    scale
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_gap_takes_little_room_and_order_is_kept() {
        let at = |minute: i64| Timestamp::from_millis(minute * 60_000);
        let days = 3 * 1_440;
        let axis = Cut::new(vec![(at(0), at(10)), (at(10), at(12)), (at(days), at(days + 8))]);
        assert_eq!(axis.spans.len(), 2, "a short pause is no gap");
        let (end, next) = (axis.x(at(12)), axis.x(at(days)));
        assert!((next - end - GAP).abs() < 0.01, "{end} {next}");
        let moments = [0, 5, 12, 900, days, days + 8, days + 9];
        let places = moments.map(|minute| axis.x(at(minute)));
        assert!(places.is_sorted() && places[0] == LEFT && (places[6] - RIGHT).abs() < 0.01, "{places:?}");
    }

    #[test]
    fn a_short_stretch_is_told_to_the_second_and_one_within_a_second_by_its_length() {
        let told = |length_ms: i64| {
            let zone = jiff::tz::TimeZone::UTC;
            let (begin, end) = (Timestamp::from_millis(47_100), Timestamp::from_millis(47_100 + length_ms));
            let reader = Reader { now: end.to_jiff(), zone: &zone };
            scale(&Cut::new(vec![(begin, end)]), ROW, reader)
        };
        for (length_ms, from, to) in [(195, "00:00:47", "+195ms"), (9_000, "00:00:47", "00:00:56"), (3_600_000, "00:00", "01:00")]
        {
            let scale = told(length_ms);
            assert!(scale.contains(&format!(">{from}<")) && scale.contains(&format!(">{to}<")), "{length_ms}: {scale}");
        }
    }

    #[test]
    fn nothing_and_a_single_moment_are_drawn_without_trouble() {
        assert!(Cut::new(Vec::new()).x(Timestamp(5)) == LEFT);
        let axis = Cut::new(vec![(Timestamp(7), Timestamp(7))]);
        assert!(axis.x(Timestamp(7)) >= LEFT && axis.x(Timestamp(9)) <= RIGHT);
    }
}
