//! Identifiers: small numbers with a letter in front, as people read and type them. They are that text in JSON too, and bare
//! numbers between programs.
//!
//! | thing | text | meaning |
//! |---|---|---|
//! | job | `j42` | the forty-second job of this network |
//! | task | `j42.7` | the task with index 7 of that job |
//! | attempt | `j42.7#2` | the second try at it; the fencing token |
//! | agent | `a3` | the third agent ever enrolled |
//! | token | `t5` | the fifth token ever made: whoever has it |
//! | version | `v5` | the fifth module ever published (people say `name@2`) |

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{amount::quoted, readable};

/// The text is not an identifier of the expected kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} is not {what}\nhint: write it like {like}", quoted(text))]
pub struct ParseIdError {
    text: String,
    what: &'static str,
    like: &'static str,
}

macro_rules! number_id {
    ($(#[$doc:meta])* $name:ident, $letter:literal, $what:literal, $like:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u64);

        readable!($name, u64, |id| id.0, Self);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($letter, "{}"), self.0)
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                let digits = text.strip_prefix($letter).unwrap_or(text);
                let number = digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse().ok()).flatten();
                number.map(Self).ok_or_else(|| ParseIdError { text: text.to_owned(), what: $what, like: $like })
            }
        }
    };
}

number_id!(
    /// A job, numbered from 1 in the order of submission.
    JobId, "j", "a job", "j42"
);
number_id!(
    /// An enrolled agent, numbered from 1 in the order of enrolment.
    AgentId, "a", "an agent", "a3"
);
number_id!(
    /// A published module, numbered from 1 over all functions.
    VersionId, "v", "a version", "v5"
);
number_id!(
    /// A token, numbered from 1: what tells people, and programs, from each other.
    TokenId, "t", "a token", "t5"
);

/// The term of one coordinator over the store. A coordinator with an older term is fenced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Term(pub u64);

/// A task's place in its job's array of inputs, from 0.
pub type TaskIndex = u32;

/// One input of one job: the unit that is scheduled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskId {
    pub job: JobId,
    pub index: TaskIndex,
}

readable!(TaskId, (JobId, TaskIndex), |id| (id.job, id.index), |(job, index)| Self { job, index });

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.job, self.index)
    }
}

impl FromStr for TaskId {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let error = || ParseIdError { text: text.to_owned(), what: "a task", like: "j42.7" };
        let (job, index) = text.split_once('.').ok_or_else(error)?;
        Ok(Self { job: job.parse().map_err(|_| error())?, index: index.parse().map_err(|_| error())? })
    }
}

/// A numbered try at a task, from 1. Only the live attempt of a task may complete it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AttemptId {
    pub task: TaskId,
    pub number: u32,
}

readable!(AttemptId, (TaskId, u32), |id| (id.task, id.number), |(task, number)| Self { task, number });

impl fmt::Display for AttemptId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}", self.task, self.number)
    }
}

impl FromStr for AttemptId {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let error = || ParseIdError { text: text.to_owned(), what: "an attempt", like: "j42.7#2" };
        let (task, number) = text.split_once('#').ok_or_else(error)?;
        Ok(Self { task: task.parse().map_err(|_| error())?, number: number.parse().map_err(|_| error())? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec;

    #[test]
    fn identifiers_read_back_what_they_print() {
        let attempt = AttemptId { task: TaskId { job: JobId(42), index: 7 }, number: 2 };
        assert_eq!(attempt.to_string(), "j42.7#2");
        assert_eq!("j42.7#2".parse(), Ok(attempt));
        assert_eq!("42.7".parse(), Ok(attempt.task));
    }

    #[test]
    fn identifiers_are_text_in_json_and_numbers_between_programs() {
        let attempt = AttemptId { task: TaskId { job: JobId(42), index: 7 }, number: 2 };
        assert_eq!(serde_json::to_string(&attempt).expect("it encodes"), "\"j42.7#2\"");
        assert_eq!(serde_json::from_str::<AttemptId>("\"j42.7#2\"").expect("it decodes"), attempt);
        let bytes = codec::encode(&((42_u64, 7_u32), 2_u32));
        assert_eq!(codec::encode(&attempt), bytes);
        assert_eq!(codec::decode::<AttemptId>(&bytes).expect("it decodes"), attempt);
        let error = serde_json::from_str::<JobId>("\"job-1\"").expect_err("no job");
        assert!(error.to_string().contains("write it like j42"), "{error}");
    }

    #[test]
    fn nonsense_is_refused_in_words() {
        let error = "j42,7".parse::<TaskId>().expect_err("a comma is no dot");
        assert_eq!(error.to_string(), "`j42,7` is not a task\nhint: write it like j42.7");
        assert!("j+4".parse::<JobId>().is_err());
        assert!("".parse::<JobId>().is_err());
    }
}
