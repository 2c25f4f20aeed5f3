//! How things are written in pages.

use std::{fmt, time::Duration};

use askama::filters::HtmlSafe;
use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use lull_shared::{amount::spoken, shown::escaped};

use crate::api::standing::Tone;

/// A piece of a page. Whatever is in it that others wrote went through [`escape`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Html(pub String);

impl fmt::Display for Html {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl HtmlSafe for Html {}

/// A text as it stands in a page or an attribute.
pub(super) fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            c => safe.push(c),
        }
    }
    safe
}

/// A text as a value in a query.
pub(super) fn encoded(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b'/' => safe.push(char::from(byte)),
            byte => safe.push_str(&format!("%{byte:02X}")),
        }
    }
    safe
}

/// The text of a value in a cookie; what is not written so stays as it is.
pub(super) fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, others @ ..] = rest {
        let digits = others.get(..2).filter(|_| *first == b'%').and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &others[2..];
            }
            None => {
                bytes.push(*first);
                rest = others;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A path of this site that somebody may be sent back to: nothing that leads elsewhere.
pub(super) fn own_path(text: &str) -> &str {
    let leads_elsewhere = text.starts_with("//") || text.contains('\\') || text.chars().any(char::is_control);
    if text.starts_with('/') && !leads_elsewhere { text } else { "/" }
}

/// What people know an input by, where that says more than its number.
pub(super) fn label(label: Option<&str>, index: u32) -> String {
    let label = label.filter(|label| *label != index.to_string());
    label.map(|label| escaped(label).into_owned()).unwrap_or_default()
}

/// A moment to the minute: the time within a day, with the day beyond it.
pub(super) fn clock(at: Timestamp, now: Timestamp, zone: &TimeZone) -> String {
    written(at, now, zone, ["%H:%M", "%a %-d %b %H:%M"])
}

/// A moment to the second: as [`clock`] tells it to the minute.
pub(super) fn clock_exact(at: Timestamp, now: Timestamp, zone: &TimeZone) -> String {
    written(at, now, zone, ["%H:%M:%S", "%a %-d %b %H:%M:%S"])
}

fn written(at: Timestamp, now: Timestamp, zone: &TimeZone, [near, far]: [&str; 2]) -> String {
    let form = if at.duration_since(now).abs() < SignedDuration::from_hours(18) { near } else { far };
    at.to_zoned(zone.clone()).strftime(form).to_string()
}

/// A length of time, to the minute beyond the first.
pub(super) fn about(length: Duration) -> String {
    let minutes = length.as_secs().div_ceil(60);
    match (minutes / 1_440, minutes / 60 % 24, minutes % 60) {
        (0, 0, _) if length.as_secs() < 60 => spoken(length),
        (0, 0, minutes) => format!("{minutes} min"),
        (0, hours, minutes) => format!("{hours} h {minutes:02} min"),
        (days, hours, _) => format!("{days} d {hours:02} h"),
    }
}

/// The sign and the colour of a state.
fn sign(word: &str, tone: Tone) -> (&'static str, &'static str) {
    match word {
        "active" | "running" | "verifying" | "live" => ("run", "busy"),
        "queued" | "waiting" => ("wait", "wait"),
        "paused" => ("pause", "wait"),
        "moving" | "evicted" | "recalled" => ("move", "moved"),
        "lost" => ("off", "moved"),
        "away" | "silent" | "asleep" | "left" | "removed" => ("off", "faint"),
        "cancelled" | "cancelling" | "expiring" | "stopping" | "cordoned" | "draining" => ("stop", "faint"),
        _ => match tone {
            Tone::Good => ("done", "good"),
            Tone::Bad => ("warn", "bad"),
            Tone::Odd => ("stop", "wait"),
            Tone::Plain => ("dot", "faint"),
        },
    }
}

/// A sign with its colour.
pub(super) fn mark(sign: &str, class: &str) -> Html {
    Html(format!("<svg class=\"mark {class}\" viewBox=\"0 0 12 12\" aria-hidden=\"true\"><use href=\"#g-{sign}\"/></svg>"))
}

/// A state: a sign, a word and a colour.
pub(super) fn state(word: &str, tone: Tone) -> Html {
    let (sign, class) = sign(word, tone);
    Html(format!("<span class=\"state\">{}{}</span>", mark(sign, class), escape(word)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_sent_to_another_site() {
        for path in ["/jobs", "/jobs?state=failed&before=j9", "/"] {
            assert_eq!(own_path(path), path);
        }
        for elsewhere in ["//evil.example", "/\\evil.example", "https://evil.example", "", "jobs", "/a\nb", "javascript:x"] {
            assert_eq!(own_path(elsewhere), "/", "{elsewhere:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn what_was_encoded_is_decoded(text in "\\PC{0,20}") {
            proptest::prop_assert_eq!(decoded(&encoded(&text)), text);
        }

        #[test]
        fn nothing_that_was_escaped_opens_a_tag_or_ends_an_attribute(text in "\\PC{0,20}") {
            let safe = escape(&text);
            proptest::prop_assert!(!safe.contains(['<', '>', '"', '\'']));
        }
    }

    #[test]
    fn a_length_is_told_no_more_exactly_than_it_is_known() {
        let told = |seconds| about(Duration::from_secs(seconds));
        assert_eq!([5, 61, 3_600, 5_430, 90_000].map(told), ["5s", "2 min", "1 h 00 min", "1 h 31 min", "1 d 01 h"]);
    }
}
