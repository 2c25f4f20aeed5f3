//! What may be a name: of a machine, a function, a job, a token, a label, a group.
//!
//! People type ids and names in the same places, so that nothing can have a name that reads as an id, or as a word that
//! stands for something else there. Whoever takes a name asks here. Names given before this held may exist: wherever an
//! id and a name can both be meant, the id is.

use crate::{
    amount::quoted,
    constraint::is_name,
    limits,
    shown::{escaped, is_unseen},
};

/// Letters that begin an id: agents, jobs, tokens and versions.
const ID_LETTERS: &[char] = &['a', 'j', 't', 'v'];

/// Words that select things, in any place where a name can stand.
const SELECTORS: &[&str] = &["all", "any", "last", "latest", "none", "self"];

/// Words by which the audit names whoever is no person, the roles, and what people take for them.
const ACTORS: &[&str] = &[
    "admin",
    "administrator",
    "agent",
    "anonymous",
    "coordinator",
    "finish_by",
    "identities",
    "lull",
    "network",
    "nobody",
    "policy",
    "publisher",
    "root",
    "rule",
    "scheduler",
    "server",
    "submitter",
    "system",
    "token",
    "verification",
    "viewer",
];

/// Why something cannot have a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    #[error("use letters, digits, `-`, `_` and `.`, at most {} bytes, beginning with a letter or digit", limits::NAME_BYTES_MAX)]
    Letters,
    #[error("it reads as an id, like a3, j42, t5 or 7; put a word before it")]
    Id,
    #[error("the word is reserved; choose another")]
    Reserved,
    #[error("write 1 to {} bytes in one line", limits::NAME_BYTES_MAX)]
    Text,
    #[error("leave out {}: nobody sees it, or it turns the order of what stands beside it", escaped(.0.encode_utf8(&mut [0; 4])))]
    Unseen(char),
}

impl NameError {
    /// That a text cannot be something, and what to write: `an agent's name`.
    pub fn told(self, text: &str, what: &str) -> String {
        format!("{} cannot be {what}\nhint: {self}", quoted(text))
    }
}

/// Whether a machine, a function, a label or a group can be called so.
pub fn check_name(text: &str) -> Result<(), NameError> {
    if !is_name(text) {
        return Err(NameError::Letters);
    }
    check_title(text)
}

/// Whether it can stand for machines: a name in which a `*` stands for any letters.
pub fn check_pattern(text: &str) -> Result<(), NameError> {
    // What a `*` stands for is checked when a machine joins.
    check_name(&text.replace('*', "x-"))
}

/// The same of what may be written in any letters, as the name of a job.
pub fn check_title(text: &str) -> Result<(), NameError> {
    if is_id(text) {
        return Err(NameError::Id);
    }
    if is_one_of(text, SELECTORS) { Err(NameError::Reserved) } else { Ok(()) }
}

/// Whether it is some text of one line of which everything is seen, as the name of a job and the key of a submission are.
pub fn check_text(text: &str) -> Result<(), NameError> {
    if text.is_empty() || text.len() > limits::NAME_BYTES_MAX || text.contains(['\n', '\r']) {
        return Err(NameError::Text);
    }
    match text.chars().find(|c| is_unseen(*c)) {
        Some(unseen) => Err(NameError::Unseen(unseen)),
        None => Ok(()),
    }
}

/// Whether a job can be called so.
pub fn check_job(text: &str) -> Result<(), NameError> {
    check_text(text)?;
    check_title(text)
}

/// Whether a token, and so whoever has it, can be called so.
pub fn check_person(text: &str) -> Result<(), NameError> {
    check_name(text)?;
    if is_one_of(text, ACTORS) { Err(NameError::Reserved) } else { Ok(()) }
}

/// Whether the text has the form of an id: a number with or without its letter, and what follows it in the ids of tasks
/// and attempts.
pub fn is_id(text: &str) -> bool {
    let rest = text.strip_prefix(|first: char| ID_LETTERS.contains(&first.to_ascii_lowercase())).unwrap_or(text);
    rest.starts_with(|c: char| c.is_ascii_digit()) && rest.chars().all(|c| c.is_ascii_digit() || matches!(c, '.' | '#'))
}

fn is_one_of(text: &str, words: &[&str]) -> bool {
    words.iter().any(|word| word.eq_ignore_ascii_case(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_reads_as_an_id_is_no_name() {
        for text in ["a1", "A1", "j42", "t5", "v3", "7", "007", "j42.7", "1.2"] {
            assert_eq!(check_name(text), Err(NameError::Id), "{text}");
        }
        assert_eq!(check_job("j42.7#2"), Err(NameError::Id));
        for text in ["a", "a1b", "desk-1", "pc1", "f1", "x", "a-1", "j", "v1.0-beta", "1a"] {
            assert_eq!(check_name(text), Ok(()), "{text}");
        }
    }

    #[test]
    fn words_that_stand_for_something_are_no_names() {
        for text in ["last", "all", "ALL"] {
            assert_eq!(check_name(text), Err(NameError::Reserved), "{text}");
        }
        for text in ["admin", "Admin", "system", "lull", "finish_by", "server", "submitter"] {
            assert_eq!(check_person(text), Err(NameError::Reserved), "{text}");
        }
        assert_eq!(check_name("server"), Ok(()), "a machine may be called so");
        assert_eq!(check_person("ann"), Ok(()));
        assert_eq!(check_person("a b"), Err(NameError::Letters));
    }

    #[test]
    fn an_id_is_a_number_with_or_without_one_letter_of_ids_and_nothing_else() {
        for text in ["7", "a7", "J7.1", "j7.1#2", "t007"] {
            assert!(is_id(text), "{text}");
        }
        for text in ["", "a", "aa7", "x7", "7x", "j7.x", "j.7", "#7", ".7", "j 7", "-7"] {
            assert!(!is_id(text), "{text}");
        }
    }

    #[test]
    fn a_title_may_be_of_any_letters_and_a_name_may_not() {
        assert_eq!((check_title("Überstunden 7"), check_name("Überstunden 7")), (Ok(()), Err(NameError::Letters)));
        assert_eq!((check_title("latest"), check_title("the latest")), (Err(NameError::Reserved), Ok(())));
        assert_eq!(
            [check_person("7"), check_person("none"), check_person("rooter")],
            [Err(NameError::Id), Err(NameError::Reserved), Ok(())]
        );
    }

    #[test]
    fn a_pattern_is_a_name_with_stars() {
        for text in ["lab-*", "*", "desk-17", "*-berlin"] {
            assert_eq!(check_pattern(text), Ok(()), "{text}");
        }
        assert_eq!(
            [check_pattern(""), check_pattern("a b"), check_pattern("a7")],
            [Err(NameError::Letters), Err(NameError::Letters), Err(NameError::Id)]
        );
    }

    #[test]
    fn a_job_may_be_called_anything_of_one_line() {
        for text in ["", "a\nb", &"x".repeat(129)] {
            assert_eq!(check_job(text), Err(NameError::Text), "{text:?}");
        }
        for unseen in ['\u{1b}', '\u{202e}', '\u{2066}', '\u{2069}', '\u{200b}', '\u{feff}', '\t'] {
            assert_eq!(check_job(&format!("a{unseen}b")), Err(NameError::Unseen(unseen)), "{unseen:?}");
        }
        assert_eq!(
            NameError::Unseen('\u{202e}').told("pay\u{202e}lla", "the name of a job"),
            "`pay\\u{202e}lla` cannot be the name of a job\nhint: leave out \\u{202e}: nobody sees it, or it turns the order of \
             what stands beside it"
        );
        assert_eq!(check_job("夜間バッチ 🦀"), Ok(()));
        assert_eq!((check_job("the night of \u{e9}t\u{e9}"), check_job("last")), (Ok(()), Err(NameError::Reserved)));
        assert_eq!(
            check_name("my desk").map_err(|why| why.told("my desk", "an agent's name")),
            Err("`my desk` cannot be an agent's name\nhint: use letters, digits, `-`, `_` and `.`, at most 128 bytes, beginning with \
                 a letter or digit".to_owned())
        );
    }
}
