//! Errors that end in a hint: what is wrong, then on a line of its own `hint:` and what to do.

/// What an error says, and its hint if it has one.
pub fn split(words: &str) -> (&str, Option<&str>) {
    match words.split_once("\nhint: ") {
        Some((message, hint)) => (message, Some(hint)),
        None => (words, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hint_is_what_follows_on_its_own_line() {
        assert_eq!(split("it is full\nhint: make room"), ("it is full", Some("make room")));
        assert_eq!(split("it is full; hint: none"), ("it is full; hint: none", None));
    }
}
