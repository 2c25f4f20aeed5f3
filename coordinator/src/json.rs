//! What is wrong with the form of a JSON text, in words for people.

use serde_json::error::Category;

/// Whether the text is JSON all the same: only a bound of this program does not let it be read.
pub fn is_json(error: &serde_json::Error) -> bool {
    let words = error.to_string();
    error.classify() == Category::Data || words.starts_with("number out of range") || words.starts_with("recursion limit")
}

/// What is wrong, and where.
pub fn told(error: &serde_json::Error) -> String {
    let words = error.to_string();
    let words = words.rsplit_once(" at line ").map_or(words.as_str(), |(words, _)| words);
    let what = match words {
        "expected value" => "a value is missing".to_owned(),
        "expected ident" => "a word is neither true, false nor null".to_owned(),
        "key must be a string" => "a name is not in quotes".to_owned(),
        "trailing comma" => "a comma stands before an end".to_owned(),
        "trailing characters" => "more stands behind it".to_owned(),
        "number out of range" => "a number is too large".to_owned(),
        "recursion limit exceeded" => "it is nested too deeply".to_owned(),
        _ if words.starts_with("control character") => "a text holds a control character, which is written like \\n".to_owned(),
        _ => match (words.strip_prefix("EOF while parsing "), words.strip_prefix("expected ")) {
            (Some(within), _) => format!("it ends within {within}"),
            (None, Some(expected)) => format!("{expected} is missing"),
            (None, None) => words.to_lowercase(),
        },
    };
    format!("{what}, at line {}, column {}", error.line(), error.column())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_with_the_form_is_told_in_plain_words() {
        for (text, expected) in [
            ("{", "it ends within an object, at line 1, column 1"),
            ("[1,", "it ends within a value, at line 1, column 3"),
            ("{\"a\" 1}", "`:` is missing, at line 1, column 6"),
            ("[1 2]", "`,` or `]` is missing, at line 1, column 4"),
            ("{a: 1}", "a name is not in quotes, at line 1, column 2"),
            ("[1,]", "a comma stands before an end, at line 1, column 4"),
            ("{} {}", "more stands behind it, at line 1, column 4"),
            ("\n nule", "a word is neither true, false nor null, at line 2"),
            ("[x]", "a value is missing, at line 1, column 2"),
            ("1e999", "a number is too large, at line 1"),
            ("\"a\u{1}\"", "a text holds a control character, which is written like \\n, at line 1"),
        ] {
            let error = serde_json::from_str::<serde_json::Value>(text).expect_err(text);
            assert!(told(&error).starts_with(expected), "{text}: {}", told(&error));
            assert_eq!(is_json(&error), text == "1e999", "{text}");
        }
        let deep = "[".repeat(1_000) + &"]".repeat(1_000);
        let error = serde_json::from_str::<serde_json::Value>(&deep).expect_err("too deep");
        assert!(is_json(&error) && told(&error).starts_with("it is nested too deeply"));
    }
}
