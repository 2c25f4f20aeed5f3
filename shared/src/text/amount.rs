//! Lengths of time and sizes as people read them: the one form that errors, reasons and tables share.

use std::time::Duration;

use bytesize::ByteSize;

use crate::shown::escaped;

/// A length of time that was measured: its two largest units, `250ms`, `2.2s`, `1m 01s`, `1h 02m`, `1d 01h`.
pub fn spoken(length: Duration) -> String {
    let seconds = length.as_secs();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) if seconds == 0 => format!("{}ms", length.as_millis()),
        (0, 0, 0) if seconds < 10 && length.subsec_millis() > 0 => format!("{:.1}s", length.as_secs_f64()),
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m {:02}s", seconds % 60),
        (0, _, _) => format!("{hours}h {minutes:02}m"),
        (_, _, _) => format!("{days}d {hours:02}h"),
    }
}

/// A length of time that somebody set, to the millisecond: `4s`, `1m 30s`, `8h`.
pub fn exact(length: Duration) -> String {
    let (seconds, millis) = (length.as_secs(), u64::from(length.subsec_millis()));
    let units =
        [(seconds / 86_400, "d"), (seconds / 3_600 % 24, "h"), (seconds / 60 % 60, "m"), (seconds % 60, "s"), (millis, "ms")];
    let parts: Vec<String> =
        units.into_iter().filter(|(count, _)| *count > 0).map(|(count, unit)| format!("{count}{unit}")).collect();
    if parts.is_empty() { "0s".to_owned() } else { parts.join(" ") }
}

/// A length of time that somebody set in milliseconds.
pub fn exact_ms(millis: u64) -> String {
    exact(Duration::from_millis(millis))
}

/// A length of time as people type it: `90s`, `10m`, `1h 30m`, `7d`.
pub fn length(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|error| {
        let what = match error {
            humantime::DurationError::NumberOverflow => "longer than can be counted",
            _ => "not a length of time",
        };
        format!("{} is {what}\nhint: write it like 90s, 10m, 1h30m or 7d", quoted(text))
    })
}

/// What somebody wrote, as an error repeats it: not all of what is longer than a line.
pub fn quoted(text: &str) -> String {
    const CHARS_MAX: usize = 64;
    match text.char_indices().nth(CHARS_MAX) {
        _ if text.is_empty() => "an empty text".to_owned(),
        Some((end, _)) => format!("`{}...`", escaped(&text[..end])),
        None => format!("`{}`", escaped(text)),
    }
}

/// A number with its thousands apart: `10,000,000`.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// How many of something, as one says it: `1 task`, `3 tasks`.
pub fn counted(count: u64, thing: &str) -> String {
    if count == 1 { format!("1 {thing}") } else { format!("{count} {thing}s") }
}

/// A size in bytes: `64.0 KiB`, `1.5 GiB`.
pub fn size(bytes: u64) -> String {
    ByteSize(bytes).to_string()
}

/// Two different sizes that are compared: in bytes where they would read alike.
pub fn sizes(one: u64, other: u64) -> (String, String) {
    let spoken = (size(one), size(other));
    let alike = one != other && spoken.0 == spoken.1;
    if alike { (format!("{one} bytes"), format!("{other} bytes")) } else { spoken }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_spoken_in_two_units() {
        let spoken = |seconds: f64| spoken(Duration::from_secs_f64(seconds));
        assert_eq!(spoken(0.25), "250ms");
        assert_eq!(spoken(2.25), "2.2s");
        assert_eq!(spoken(1.0), "1s");
        assert_eq!(spoken(59.0), "59s");
        assert_eq!(spoken(61.0), "1m 01s");
        assert_eq!(spoken(3_720.0), "1h 02m");
        assert_eq!(spoken(90_000.0), "1d 01h");
    }

    #[test]
    fn what_somebody_set_is_told_to_the_millisecond() {
        assert_eq!(["4s", "1m 30s", "8h", "1s 500ms"], [4_000, 90_000, 28_800_000, 1_500].map(exact_ms));
        assert_eq!(exact(Duration::from_micros(2_000_001)), "2s");
    }

    #[test]
    fn what_is_told_can_be_typed() {
        for text in ["0s", "4s", "1m 30s", "8h", "1d 12h", "7d", "250ms"] {
            assert_eq!(length(text).map(exact).as_deref(), Ok(text));
        }
        assert!(length("soon").is_err() && length("600").is_err());
    }

    #[test]
    fn what_somebody_wrote_is_repeated_up_to_a_line() {
        assert_eq!((quoted("x"), quoted("")), ("`x`".into(), "an empty text".into()));
        assert_eq!(quoted(&"\u{e9}".repeat(100)), format!("`{}...`", "\u{e9}".repeat(64)));
        assert!(length("99999999999999999h").is_err_and(|error| error.contains("longer than can be counted\nhint: ")));
    }

    #[test]
    fn one_is_told_in_the_singular() {
        assert_eq!([0, 1, 2].map(|count| counted(count, "task")), ["0 tasks", "1 task", "2 tasks"]);
    }

    #[test]
    fn thousands_stand_apart() {
        assert_eq!([0, 999, 1_000, 10_000_000].map(grouped), ["0", "999", "1,000", "10,000,000"]);
    }

    #[test]
    fn sizes_that_differ_read_differently() {
        assert_eq!(size(256 << 20), "256.0 MiB");
        assert_eq!(sizes(9 << 30, 8 << 30), ("9.0 GiB".into(), "8.0 GiB".into()));
        assert_eq!(sizes((8 << 30) + 1, 8 << 30), ("8589934593 bytes".into(), "8589934592 bytes".into()));
        assert_eq!(sizes(5, 5).0, "5 B");
    }

    #[test]
    fn tenths_are_spoken_below_ten_seconds_alone_and_only_where_there_are_some() {
        let spoken = |millis| spoken(Duration::from_millis(millis));
        let said =
            [0, 999, 1_000, 9_500, 10_000, 10_500, 59_999, 60_000, 3_599_000, 3_600_000, 86_399_000, 86_400_000].map(spoken);
        let right = ["0ms", "999ms", "1s", "9.5s", "10s", "10s", "59s", "1m 00s", "59m 59s", "1h 00m", "23h 59m", "1d 00h"];
        assert_eq!(said, right);
    }

    #[test]
    fn sizes_are_told_in_bytes_only_where_they_would_read_alike() {
        assert_eq!(sizes(5 << 30, 5 << 30), ("5.0 GiB".into(), "5.0 GiB".into()), "they are alike");
        assert_eq!(sizes(1, 2), ("1 B".into(), "2 B".into()));
    }
}
