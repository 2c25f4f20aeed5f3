//! How a text of somebody else's is shown: how many columns it takes, and what of it is written instead of being obeyed.

use std::borrow::Cow;

use unicode_width::UnicodeWidthStr as _;

/// The columns that a text takes in a terminal: two for a wide character, none for one that stands on another.
pub fn columns(text: &str) -> usize {
    if text.is_ascii() { text.len() } else { text.width() }
}

/// Whether a character is never seen as itself: a terminal obeys it, it turns the order of what stands beside it, or it takes
/// no room at all, so that two names that differ by it look alike.
pub fn is_unseen(c: char) -> bool {
    c.is_control()
        || matches!(c,
            // A hyphen that shows at the end of a line alone, and what joins or parts letters without a sign.
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}'
            // Ends of lines and paragraphs.
            | '\u{2028}' | '\u{2029}'
            // Orders of writing, and what is invisible in formulas.
            | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            // Letters without a shape, marks of order, annotations and tags.
            | '\u{115f}' | '\u{1160}' | '\u{3164}' | '\u{ffa0}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// A text in which what is never seen stands as its number: `\u{202e}`.
pub fn escaped(text: &str) -> Cow<'_, str> {
    escaped_but(text, |_| false)
}

/// The same for a text of several lines.
pub fn escaped_lines(text: &str) -> Cow<'_, str> {
    escaped_but(text, |c| matches!(c, '\n' | '\t'))
}

fn escaped_but(text: &str, left: impl Fn(char) -> bool) -> Cow<'_, str> {
    let is_odd = |c: char| is_unseen(c) && !left(c);
    if !text.contains(is_odd) {
        return Cow::Borrowed(text);
    }
    let mut whole = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if is_odd(c) {
            whole.extend(c.escape_unicode());
        } else {
            whole.push(c);
        }
    }
    Cow::Owned(whole)
}

/// What a system says of an error without its number for it, which says nothing to people.
pub fn without_number(text: &str) -> Cow<'_, str> {
    const BEGIN: &str = " (os error ";
    let Some(first) = text.find(BEGIN) else { return Cow::Borrowed(text) };
    let (mut whole, mut rest) = (text[..first].to_owned(), &text[first..]);
    while let Some(at) = rest.find(BEGIN) {
        let (before, from) = rest.split_at(at);
        let number = &from[BEGIN.len()..];
        let end = number.find(|c: char| !c.is_ascii_digit() && c != '-').unwrap_or(number.len());
        whole.push_str(before);
        match number[end..].strip_prefix(')') {
            Some(behind) => rest = behind,
            None => {
                whole.push_str(BEGIN);
                rest = number;
            }
        }
    }
    whole.push_str(rest);
    Cow::Owned(whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wide_character_takes_two_columns_and_a_mark_none() {
        let cases = [("", 0), ("abc", 3), ("夜間バッチ", 10), ("e\u{301}", 1), ("é", 1), ("🦀x", 3)];
        assert_eq!(cases.map(|(text, _)| columns(text)), cases.map(|(_, columns)| columns));
    }

    #[test]
    fn what_is_never_seen_is_written_as_its_number() {
        assert_eq!(escaped("a\u{202e}b\u{1b}[2J\u{200b}"), "a\\u{202e}b\\u{1b}[2J\\u{200b}");
        assert_eq!(escaped_lines("a\n\tb\r\u{2066}"), "a\n\tb\\u{d}\\u{2066}");
        for plain in ["", "été", "夜間バッチ", "שלום", "🦀", "a\u{a0}b", "✈\u{fe0f}"] {
            assert!(matches!(escaped(plain), Cow::Borrowed(same) if same == plain), "{plain}");
        }
    }

    #[test]
    fn the_number_of_a_system_s_error_is_left_out_wherever_it_stands() {
        for (text, told) in [
            ("no space left on device (os error 28)", "no space left on device"),
            ("a (os error 2): b (os error -1); c", "a: b; c"),
            ("plain", "plain"),
            ("a (os error x) (os error 7)", "a (os error x)"),
            ("a (os error ", "a (os error "),
        ] {
            assert_eq!(without_number(text), told);
        }
    }
}
