//! Errors that end in a hint: what is wrong, then on a line of its own `hint:` and what to do. The one place that puts the
//! two together and takes them apart.

/// What stands between the two.
const MARK: &str = "\nhint: ";

/// What an error says, and its hint if it has one.
pub fn split(words: &str) -> (&str, Option<&str>) {
    match words.split_once(MARK) {
        Some((message, hint)) => (message, Some(hint)),
        None => (words, None),
    }
}

/// What an error says with its hint.
pub fn with(message: &str, hint: &str) -> String {
    format!("{message}{MARK}{hint}")
}

/// The same in one line, for a table and for a log.
pub fn in_one_line(words: &str) -> String {
    words.replace(MARK, "; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hint_is_what_follows_on_its_own_line() {
        assert_eq!(split("it is full\nhint: make room"), ("it is full", Some("make room")));
        assert_eq!(split("it is full; hint: none"), ("it is full; hint: none", None));
        assert_eq!(with("it is full", "make room"), "it is full\nhint: make room");
        assert_eq!(in_one_line("it is full\nhint: make room"), "it is full; make room");
    }
}
