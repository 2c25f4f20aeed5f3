//! Which of some known words is meant by one that is not among them.

use crate::amount::quoted;

/// Whoever writes a longer word copied it, and comparing takes the product of both lengths.
const CHARS_MAX: usize = 64;

/// The known word that is most likely meant: one that is spelt almost so, in whatever letters, or begins so.
pub fn nearest<'a>(own: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let own = own.trim().to_lowercase();
    let length = own.chars().count();
    if length == 0 || length > CHARS_MAX {
        return None;
    }
    let distance = |known: &str| {
        let lower = known.to_lowercase();
        // Of a short word half is another word.
        let most = if length < 5 { 1 } else { 1 + lower.chars().count() / 4 };
        let begins = length > 2 && lower.starts_with(&own) || length > 3 && lower.starts_with(all_but_the_last(&own));
        // Each letter that one of them has more is a letter of distance.
        if !begins && lower.chars().count().abs_diff(length) > most {
            return None;
        }
        let distance = strsim::osa_distance(&own, &lower);
        (begins || distance <= most && distance < length).then_some(distance)
    };
    let alike = known.into_iter().filter_map(|known| Some((distance(known)?, known)));
    alike.min().map(|(_, known)| known)
}

/// `mov` of `move`, which may well mean `moving`.
fn all_but_the_last(own: &str) -> &str {
    own.char_indices().next_back().map_or(own, |(end, _)| &own[..end])
}

/// What a hint begins with where a known word is most likely meant: ``did you mean `stats`? ``; nothing otherwise.
pub fn question<'a>(own: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    nearest(own, known).map(|known| format!("did you mean {}? ", quoted(known))).unwrap_or_default()
}

/// The words that are known, and the one that is most likely meant.
pub fn among(own: &str, known: &[&str], part: &str) -> String {
    format!("{}the {part}s are {}", question(own, known.iter().copied()), known.join(", "))
}

/// `a`, `a or b`, `a, b or c`.
pub fn or<T: AsRef<str>>(words: &[T]) -> String {
    match words {
        [] => String::new(),
        [one] => one.as_ref().to_owned(),
        [most @ .., last] => {
            let most: Vec<&str> = most.iter().map(AsRef::as_ref).collect();
            format!("{} or {}", most.join(", "), last.as_ref())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_finger_is_recognised_and_another_word_is_not() {
        let known = ["stats", "thumbnail", "desk-17", "desk-18", "a"];
        let meant = |own| nearest(own, known);
        assert_eq!((meant("statz"), meant("tsats"), meant("STATS")), (Some("stats"), Some("stats"), Some("stats")));
        assert_eq!(
            (meant("thumbnial"), meant("thumb"), meant("desk-71")),
            (Some("thumbnail"), Some("thumbnail"), Some("desk-17"))
        );
        assert_eq!((meant("desk17"), meant("desk-1")), (Some("desk-17"), Some("desk-17")));
        for other in ["", "b", "risk", "st", "x", "monte-carlo", &"s".repeat(100)] {
            assert_eq!(meant(other), None, "{other}");
        }
        assert_eq!((nearest("move", ["zone", "moving", "name"]), nearest("move", ["zone"])), (Some("moving"), None));
        assert_eq!(question("statz", known), "did you mean `stats`? ");
        assert_eq!(question("risk", known), "");
    }

    #[test]
    fn words_are_listed_as_people_list_them() {
        assert_eq!(or::<&str>(&[]), "");
        assert_eq!((or(&["a"]), or(&["a", "b"]), or(&["a", "b", "c"])), ("a".into(), "a or b".into(), "a, b or c".into()));
        assert_eq!(among("prio", &["priority", "name"], "setting"), "did you mean `priority`? the settings are priority, name");
    }
}
