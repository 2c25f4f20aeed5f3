//! How a command ends: the exit code that scripts read, and the words that people read.

use std::{borrow::Cow, fmt, io, path::Path, process::ExitCode};

use lull_shared::{hint, shown::without_number, state::JobState};

use crate::client::ClientError;

/// The exit codes, frozen: scripts depend on them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Done; of a job: every task succeeded.
    Succeeded,
    /// It could not be done; of a job: some task failed.
    Failed,
    /// The command line makes no sense.
    Usage,
    NotFound,
    Denied,
    /// No coordinator answers.
    Unreachable,
    /// Waiting took longer than it may.
    TimedOut,
    /// The job was cancelled.
    Cancelled,
    /// Somebody pressed Ctrl-C.
    Interrupted,
}

impl Exit {
    /// The number that the process ends with.
    pub const fn code(self) -> u8 {
        match self {
            Self::Succeeded => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::NotFound => 3,
            Self::Denied => 4,
            Self::Unreachable => 5,
            Self::TimedOut => 6,
            Self::Cancelled => 7,
            Self::Interrupted => 130,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// How a job's state ends the command that waited for it.
impl From<JobState> for Exit {
    fn from(state: JobState) -> Self {
        match state {
            JobState::Active | JobState::Succeeded => Self::Succeeded,
            JobState::Failed | JobState::Expired => Self::Failed,
            JobState::Cancelled => Self::Cancelled,
        }
    }
}

/// A command that did not do what was wanted.
#[derive(Debug)]
pub struct Failure {
    pub exit: Exit,
    pub message: String,
    pub hint: Option<Cow<'static, str>>,
}

impl Failure {
    /// A failure with its words: lower case, without a full stop. A hint that stands in them is its hint.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        let words = message.into();
        let (message, within) = hint::split(&words);
        Self { exit, message: message.to_owned(), hint: within.map(|hint| Cow::Owned(hint.to_owned())) }
    }

    /// A command line that makes no sense.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    /// A file or folder that cannot be read.
    pub fn unreadable(path: &Path, error: &io::Error) -> Self {
        let exit = match error.kind() {
            io::ErrorKind::NotFound => Exit::NotFound,
            io::ErrorKind::PermissionDenied => Exit::Denied,
            _ => Exit::Failed,
        };
        let hint = match error.kind() {
            io::ErrorKind::NotFound if path.is_relative() => match std::env::current_dir() {
                Ok(folder) => format!("look at the name; it is looked for in {}", folder.display()),
                Err(_) => "look at the name".to_owned(),
            },
            io::ErrorKind::NotFound => "look at the name and at the folders before it".to_owned(),
            io::ErrorKind::PermissionDenied => "ask whoever owns it to let you read it, or take a copy that is yours".to_owned(),
            io::ErrorKind::IsADirectory => "name a file in that folder".to_owned(),
            _ => "look whether its disk is there and in order".to_owned(),
        };
        Self::new(exit, format!("cannot read {}: {}", path.display(), words(error))).hint(hint)
    }

    /// A file or folder that cannot be written.
    pub fn unwritable(path: &Path, error: &io::Error) -> Self {
        let hint = match error.kind() {
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                "name another folder, or one that you may write to"
            }
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "make room there, or name a folder on another disk",
            io::ErrorKind::NotADirectory | io::ErrorKind::AlreadyExists => "name another folder: a file has that name",
            _ => "name another folder, or look whether its disk is there and in order",
        };
        Self::new(Exit::Failed, format!("cannot write {}: {}", path.display(), words(error))).hint(hint)
    }

    /// What to do next.
    pub fn hint(mut self, hint: impl Into<Cow<'static, str>>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl Exit {
    /// What to do when nothing better is known.
    const fn last_hint(self) -> Option<&'static str> {
        match self {
            Self::Usage => Some("`lull --help` lists the commands, and `lull COMMAND --help` what each takes"),
            Self::NotFound => Some("look at the name or the number again; `lull status` shows what there is"),
            Self::Denied => Some("ask an administrator of the network"),
            Self::Unreachable => Some("`lull status` says whether the coordinator answers; --server names another"),
            Self::TimedOut => Some("it goes on; wait again, or for longer"),
            Self::Interrupted => Some("give the command again; if it was to change something, look first whether that is done"),
            Self::Failed => Some("LULL_LOG=debug in the environment says more"),
            Self::Cancelled => Some("`lull job retry JOB` runs again what did not succeed"),
            Self::Succeeded => None,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}", self.message)?;
        match self.hint.as_deref().or(self.exit.last_hint()) {
            Some(hint) => write!(f, "\nhint: {hint}"),
            None => Ok(()),
        }
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let message = error.to_string();
        match error {
            ClientError::Unreachable { .. } => {
                Self::new(Exit::Unreachable, message).hint("is it running? `lull server run` starts one; --server names another")
            }
            ClientError::WrongPin { .. } | ClientError::Untrusted { .. } => Self::new(Exit::Unreachable, message),
            ClientError::Address(_) => Self::usage(message),
            ClientError::Nonsense { .. } => Self::new(Exit::Failed, message).hint("is this address a lull coordinator's?"),
            ClientError::Refused { status, detail } => {
                let exit = match status {
                    401 | 403 => Exit::Denied,
                    404 => Exit::NotFound,
                    400 | 413 => Exit::Usage,
                    503 => Exit::Unreachable,
                    _ => Exit::Failed,
                };
                // What is wrong with a request is told by its fields, and people write options.
                let told = |text: String| if status == 400 { in_options(&text) } else { text };
                Self { exit, message: told(message), hint: detail.hint.map(told).map(Cow::Owned) }
            }
        }
    }
}

/// The causes in turn, each said once; a hint among them comes last.
impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        let (mut message, mut hint) = (String::new(), None);
        for cause in error.chain() {
            let text = cause.to_string();
            let (words, advice) = hint::split(&text);
            hint = advice.map(ToOwned::to_owned).or(hint);
            if !message.contains(words) {
                let separator = if message.is_empty() { "" } else { ": " };
                message.push_str(&format!("{separator}{words}"));
            }
        }
        Self { exit: Exit::Failed, message, hint: hint.map(Cow::Owned) }
    }
}

/// Fields of requests, and the options of the command line that fill them.
const OPTIONS: [(&str, &str); 37] = [
    ("inputs", "INPUT"),
    ("inputs.range", "--array"),
    ("inputs.numbers", "--array"),
    ("inputs.pack", "INPUT"),
    ("name", "--name"),
    ("args", "--arg"),
    ("env", "--env"),
    ("priority", "--priority"),
    ("retries", "--retries"),
    ("backoff_ms", "--backoff"),
    ("backoff_max_ms", "--backoff-max"),
    ("time_limit_ms", "--time-limit"),
    ("memory_bytes", "--memory"),
    ("output_bytes", "--output-limit"),
    ("log_bytes", "--log-limit"),
    ("scratch_bytes", "--scratch-limit"),
    ("grants", "--grant"),
    ("require", "--require"),
    ("window", "--window"),
    ("finish_by", "--finish-by"),
    ("finish_in_ms", "--finish-by"),
    ("zone", "--zone"),
    ("after", "--after"),
    ("failures_max", "--max-fails"),
    ("at_once", "--at-once"),
    ("exit_codes", "--exit-codes"),
    ("fail_fast_on", "--fail-fast-on"),
    ("idempotency_key", "--idempotency-key"),
    ("moving", "--move"),
    ("verify", "--verify"),
    ("lost_after_ms", "--lost-after"),
    ("role", "--role"),
    ("uses_max", "--uses"),
    ("expires_s", "--expires"),
    ("names", "--for"),
    ("group", "--group"),
    ("conditions", "--for"),
];

/// What is said of a request, said of the command line that made it.
fn in_options(text: &str) -> String {
    let word = |(number, part): (usize, &str)| match OPTIONS.iter().find(|(field, _)| number % 2 == 1 && *field == part) {
        Some((_, option)) => (*option).to_owned(),
        None => part.to_owned(),
    };
    text.split('`').enumerate().map(word).collect::<Vec<_>>().join("`")
}

/// What the system says, in lower case and without its number for it.
fn words(error: &io::Error) -> String {
    without_number(&error.to_string().to_lowercase()).into_owned()
}

/// The answer of every command.
pub(super) type Outcome = Result<Exit, Failure>;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::ErrorDetail;

    fn refused(status: u16) -> Exit {
        let detail = ErrorDetail { code: "x".into(), message: "no".into(), hint: None, leader: None };
        Failure::from(ClientError::Refused { status, detail }).exit
    }

    #[test]
    fn the_codes_are_those_that_scripts_know() {
        let codes = [
            (Exit::Succeeded, 0),
            (Exit::Failed, 1),
            (Exit::Usage, 2),
            (Exit::NotFound, 3),
            (Exit::Denied, 4),
            (Exit::Unreachable, 5),
            (Exit::TimedOut, 6),
            (Exit::Cancelled, 7),
            (Exit::Interrupted, 130),
        ];
        for (exit, code) in codes {
            assert_eq!(exit.code(), code, "{exit:?}");
        }
    }

    #[test]
    fn an_answer_that_is_no_ends_with_its_own_code() {
        assert_eq!(
            [400, 401, 403, 404, 409, 413, 429, 503].map(refused),
            [Exit::Usage, Exit::Denied, Exit::Denied, Exit::NotFound, Exit::Failed, Exit::Usage, Exit::Failed, Exit::Unreachable]
        );
    }

    #[test]
    fn a_request_that_is_refused_is_told_by_the_options_that_made_it() {
        let detail = ErrorDetail {
            code: "invalid".into(),
            message: "`names`: `a b` is the name of names".into(),
            hint: Some("leave `uses_max` out".into()),
            leader: None,
        };
        let failure = Failure::from(ClientError::Refused { status: 400, detail });
        assert_eq!(failure.to_string(), "error: `--for`: `a b` is the name of names\nhint: leave `--uses` out");
    }

    #[test]
    fn every_field_of_a_submission_and_of_a_token_has_its_option() {
        use crate::api::{CreateToken, RetryRequest, SubmitRequest};
        use clap::CommandFactory as _;
        use lull_shared::misread::{self, Tree};
        fn fields<T: for<'de> serde::Deserialize<'de>>() -> Vec<String> {
            let unknown = Tree::Map(vec![("?".into(), Tree::Null)]);
            let hint = misread::decode::<T>(unknown, misread::JSON).err().map(|misread| misread.hint).unwrap_or_default();
            let list = hint.split_once("the fields are ").map(|(_, list)| list).unwrap_or_default();
            list.split(", ").map(ToOwned::to_owned).collect()
        }
        let mut program = crate::cli::Cli::command();
        program.build();
        let mut known = Vec::new();
        for path in [&["submit"][..], &["job", "retry"], &["token", "create"], &["policy", "set"]] {
            let command = path.iter().fold(&program, |command, name| command.find_subcommand(name).expect(name));
            known.extend(command.get_arguments().filter_map(clap::Arg::get_long).map(|long| format!("--{long}")));
        }
        for (field, option) in OPTIONS {
            assert!(option == "INPUT" || known.iter().any(|known| known == option), "{field}: there is no option {option}");
        }
        let fields: Vec<String> = [fields::<SubmitRequest>(), fields::<CreateToken>(), fields::<RetryRequest>()].concat();
        assert!(fields.len() > 30, "{fields:?}");
        for field in fields.iter().filter(|field| *field != "function") {
            assert!(OPTIONS.iter().any(|(known, _)| known == field), "{field} has no option");
        }
    }

    #[test]
    fn a_failure_says_what_to_do_next() {
        let failure = Failure::new(Exit::NotFound, "there is no job j9").hint("`lull job list` shows the jobs");
        assert_eq!(failure.to_string(), "error: there is no job j9\nhint: `lull job list` shows the jobs");
    }

    #[test]
    fn no_failure_is_without_a_hint() {
        let last = |failure: Failure| failure.to_string().lines().last().unwrap_or_default().to_owned();
        use Exit::{Cancelled, Denied, Failed, Interrupted, NotFound, TimedOut, Unreachable, Usage};
        for exit in [Failed, Usage, NotFound, Denied, Unreachable, TimedOut, Cancelled, Interrupted] {
            assert!(last(Failure::new(exit, "it is so")).starts_with("hint: "), "{exit:?}");
        }
        let within = Failure::usage("it is so\nhint: do that");
        assert_eq!((within.message.as_str(), within.hint.as_deref()), ("it is so", Some("do that")));
    }

    #[test]
    fn causes_are_said_once_and_their_hint_comes_last() {
        let error = anyhow::anyhow!("the link broke\nhint: look at the cable")
            .context("the store refused: the link broke")
            .context("cannot start");
        let failure = Failure::from(error);
        assert_eq!(failure.to_string(), "error: cannot start: the store refused: the link broke\nhint: look at the cable");
    }
}
