//! Amounts as people type them: `10m`, `256MiB`, `KEY=VALUE`, `0-999`.

use std::time::Duration;

pub use lull_shared::amount::spoken;
use lull_shared::{job::FailureClass, numbers::Numbers, window::Window, zone::Zone};

/// A length of time: `90s`, `10m`, `1h 30m`, `7d`.
pub fn duration(text: &str) -> Result<Duration, String> {
    lull_shared::amount::length(text)
}

/// A size in bytes: `256MiB`, `2GB`, `65536`.
pub fn size(text: &str) -> Result<u64, String> {
    let parsed = text.parse::<bytesize::ByteSize>();
    parsed.map(|size| size.as_u64()).map_err(|_| format!("`{text}` is not a size\nhint: write it like 256MiB or 2GB"))
}

/// `KEY=VALUE`.
pub fn variable(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(format!("`{text}` is not a variable\nhint: write KEY=VALUE")),
    }
}

/// `0-999`, `0-10:2`, `1,3,5`, or any of these together.
pub fn array(text: &str) -> Result<Numbers, String> {
    text.parse().map_err(|error: lull_shared::numbers::ParseNumbersError| error.to_string())
}

/// A window, as it was typed: what it means without a zone is up to whoever submits.
pub fn window(text: &str) -> Result<String, String> {
    text.parse::<Window>().map(|_| text.to_owned()).map_err(|error| error.to_string())
}

/// `trap`, `exit=2`.
pub fn failure(text: &str) -> Result<FailureClass, String> {
    text.parse().map_err(|error: lull_shared::job::NoFailureClass| error.to_string())
}

/// The time zone of this account, that of the machine or what TZ names, if it has a name that others know it by.
pub fn own_zone() -> Option<Zone> {
    Zone::named(jiff::tz::TimeZone::system())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_array_includes_both_ends() {
        let range = |text: &str| array(text).map(|numbers| numbers.as_range());
        assert_eq!(range("0-999"), Ok(Some((0, 1_000))));
        assert_eq!(range("7"), Ok(Some((7, 1))));
        assert_eq!(array("0-10:2,20").map(|numbers| numbers.count()), Ok(7));
        for text in ["", "a-b", "9-3", "-5", "0-99999999999"] {
            assert!(array(text).is_err(), "{text}");
        }
    }

    #[test]
    fn variables_and_sizes_are_refused_with_the_form_that_works() {
        assert_eq!(variable("A=b=c"), Ok(("A".into(), "b=c".into())));
        assert!(variable("A").is_err() && variable("=b").is_err());
        assert_eq!(size("256MiB"), Ok(256 << 20));
        assert!(size("much").is_err());
        assert_eq!(duration("1h30m"), Ok(Duration::from_secs(5_400)));
    }
}
