//! What is said of a command line that is not understood: in one form for both programs, and never without a hint.
//!
//! The parser's errors are taken apart by their kind. What a value's own parser says counts as it is; if it says no hint, the
//! command's help is one.

use std::{
    error::Error as _,
    ffi::{OsStr, OsString},
};

use clap::{
    Arg, ArgMatches, Command, Parser,
    error::{ContextKind, ContextValue, ErrorKind},
    parser::ValueSource,
};
use lull_shared::{
    alike::{self, or},
    amount::quoted,
    hint,
};

use super::output::{self, printable_lines};

/// Where a command line got to: the command, as one types it.
struct Place<'a> {
    path: String,
    command: &'a Command,
}

/// A program that takes a negative number for a value, and not for an option, wherever a value is wanted: what is wrong with
/// it is then told by its own bound.
pub fn with_negative_numbers(program: Command) -> Command {
    let value = |argument: Arg| {
        let takes = argument.get_action().takes_values();
        if takes { argument.allow_negative_numbers(true) } else { argument }
    };
    program.mut_args(value).mut_subcommands(with_negative_numbers)
}

/// What a command line of this program means, and from where it has each of its values.
pub fn parse<T: Parser>(arguments: &[OsString]) -> Result<(T, ArgMatches), clap::Error> {
    let mut program = with_negative_numbers(T::command());
    let matches = matches(&mut program, arguments)?;
    let meant = T::from_arg_matches(&matches).map_err(|error| error.format(&mut program))?;
    Ok((meant, matches))
}

/// The options with these names that were typed, and not taken from the environment, as they are typed.
pub fn typed_options(matches: &ArgMatches, names: &[&str]) -> Vec<String> {
    let typed = |name: &&str| {
        let is_typed = matches.value_source(name) == Some(ValueSource::CommandLine);
        let value = matches.get_raw(name).filter(|_| is_typed)?.next()?;
        Some(output::typed(&format!("--{}", name.replace('_', "-")), &value.to_string_lossy()))
    };
    names.iter().filter_map(typed).collect()
}

/// What a command line of this program says, if no part of it silences another.
pub fn matches(program: &mut Command, arguments: &[OsString]) -> Result<ArgMatches, clap::Error> {
    let matches = program.try_get_matches_from_mut(arguments)?;
    match contradiction(program, arguments) {
        Some(error) => Err(error),
        None => Ok(matches),
    }
}

/// An option of every command that is given in several places with different values: the parser would take the last.
fn contradiction(program: &Command, arguments: &[OsString]) -> Option<clap::Error> {
    let words = || arguments.iter().take_while(|word| *word != "--").map(|word| word.to_string_lossy());
    let may_be_twice = |argument: &Arg| words().filter(|word| may_name(argument, word)).count() > 1;
    let global: Vec<&Arg> =
        program.get_arguments().filter(|argument| argument.is_global_set() && may_be_twice(argument)).collect();
    if global.is_empty() {
        return None;
    }
    // Where each command has such an option for itself, each keeps the value that was given there.
    let mut program = program.clone();
    program.build();
    let matches = each_for_itself(program.clone()).try_get_matches_from(arguments).ok()?;
    let levels = || std::iter::successors(Some(&matches), |level| level.subcommand().map(|(_, inner)| inner));
    global.into_iter().find_map(|argument| {
        let id = argument.get_id().as_str();
        let typed = |level: &ArgMatches| {
            let there = level.try_contains_id(id).unwrap_or(false) && level.value_source(id) == Some(ValueSource::CommandLine);
            there.then(|| level.get_raw(id).into_iter().flatten().map(OsStr::to_owned).collect::<Vec<OsString>>())
        };
        let given: Vec<Vec<OsString>> = levels().filter_map(typed).collect();
        let first = given.first()?;
        let other = given.iter().find(|values| *values != first)?;
        let shown = |values: &[OsString]| values.iter().map(|value| value.to_string_lossy()).collect::<Vec<_>>().join(" ");
        let values = if argument.is_hide_env_values_set() { Vec::new() } else { vec![shown(first), shown(other)] };
        let mut error = clap::Error::new(ErrorKind::ArgumentConflict).with_cmd(&program);
        error.insert(ContextKind::InvalidArg, ContextValue::String(argument.to_string()));
        error.insert(ContextKind::InvalidValue, ContextValue::Strings(values));
        Some(error)
    })
}

/// Whether a word may hold this option, alone or among others in one letter.
fn may_name(argument: &Arg, word: &str) -> bool {
    match word.strip_prefix("--") {
        Some(long) => argument.get_long().is_some_and(|own| long.split('=').next() == Some(own)),
        None => word.starts_with('-') && argument.get_short().is_some_and(|own| word.contains(own)),
    }
}

fn each_for_itself(program: Command) -> Command {
    program.mut_args(|argument| argument.global(false)).mut_subcommands(each_for_itself)
}

/// The words about a command line of this program that was not understood, `error:` in front and the hint at the end.
pub fn told(error: &clap::Error, program: &mut Command, arguments: &[OsString]) -> String {
    program.build();
    let place = Place::find(program, arguments);
    let (message, hint) = place.words(error, arguments);
    let help = match error.kind() {
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => format!("{}\n", error.render()),
        _ => String::new(),
    };
    printable_lines(&format!("{help}error: {message}\nhint: {hint}"))
}

impl<'a> Place<'a> {
    fn find(program: &'a Command, arguments: &[OsString]) -> Self {
        let (mut path, mut command) = (program.get_name().to_owned(), program);
        let mut words = arguments.iter().skip(1).map(|word| word.to_string_lossy());
        while let Some(word) = words.next() {
            if word == "--" {
                break;
            }
            if word.starts_with('-') {
                if option(command, &word).is_some_and(|option| option.get_action().takes_values()) {
                    words.next();
                }
            } else if let Some(sub) = command.find_subcommand(&*word) {
                path = format!("{path} {}", sub.get_name());
                command = sub;
            } else if command.has_subcommands() {
                break;
            }
        }
        Self { path, command }
    }

    fn words(&self, error: &clap::Error, arguments: &[OsString]) -> (String, String) {
        let Self { path, command } = self;
        let text = |kind| match error.get(kind) {
            Some(ContextValue::String(text)) => Some(text.as_str()),
            _ => None,
        };
        let list = |kind| match error.get(kind) {
            Some(ContextValue::Strings(list)) => list.clone(),
            Some(ContextValue::String(text)) => vec![text.clone()],
            _ => Vec::new(),
        };
        let argument = text(ContextKind::InvalidArg).unwrap_or_default();
        let name = bare(argument);
        let help = |what: &str| format!("`{path} --help` {what}");
        match error.kind() {
            ErrorKind::InvalidValue if text(ContextKind::InvalidValue).is_none_or(str::is_empty) => {
                if let Some(variable) = self.empty_variable(argument, arguments) {
                    return (format!("the variable {variable} is empty"), format!("set it to what {name} takes, or unset it"));
                }
                let values = list(ContextKind::ValidValue);
                let hint = if values.is_empty() { format!("write `{argument}`") } else { format!("write {}", or(&values)) };
                (format!("`{name}` needs a value"), hint)
            }
            ErrorKind::InvalidValue => {
                let value = text(ContextKind::InvalidValue).unwrap_or_default();
                let meant = text(ContextKind::SuggestedValue).map(|meant| format!("did you mean `{meant}`? "));
                let values = list(ContextKind::ValidValue);
                let values = if values.is_empty() { "what `--help` lists".to_owned() } else { or(&values) };
                let hint = format!("{}write {values}", meant.unwrap_or_default());
                (format!("{}: {} is not one of its values", self.source(argument, value, arguments), quoted(value)), hint)
            }
            ErrorKind::ValueValidation => {
                let value = text(ContextKind::InvalidValue).unwrap_or_default();
                if let Some(variable) = self.empty_variable(argument, arguments).filter(|_| value.is_empty()) {
                    return (format!("the variable {variable} is empty"), format!("set it to what {name} takes, or unset it"));
                }
                let words = error.source().map(ToString::to_string).unwrap_or_default();
                let place = self.source(argument, value, arguments);
                match hint::split(&words) {
                    (message, Some(hint)) => (format!("{place}: {message}"), hint.to_owned()),
                    (_, None) => (format!("{place}: {} cannot be used: {words}", quoted(value)), help("says what it takes")),
                }
            }
            ErrorKind::UnknownArgument if argument.starts_with('-') => {
                let known = command.get_arguments().filter_map(Arg::get_long);
                let meant =
                    alike::nearest(argument.trim_start_matches('-'), known).map(|meant| format!("did you mean `--{meant}`? "));
                let elsewhere = list(ContextKind::SuggestedSubcommand).into_iter().next();
                let elsewhere = elsewhere.map(|sub| format!("`{path} {sub}` has it; "));
                let passed_on = command.get_arguments().any(Arg::is_last_set) && !arguments.iter().any(|word| word == "--");
                let passed_on = passed_on.then(|| format!("an option of the function goes behind `--`, like `-- {argument}`; "));
                let hint = [meant, elsewhere, passed_on, Some(help("lists the options"))];
                (format!("`{path}` has no option `{argument}`"), hint.into_iter().flatten().collect())
            }
            ErrorKind::UnknownArgument => (format!("`{path}` has no use for {} here", quoted(argument)), self.example()),
            ErrorKind::InvalidSubcommand => {
                let wrong = text(ContextKind::InvalidSubcommand).unwrap_or_default();
                // The likeliest is the last of them.
                let meant = list(ContextKind::SuggestedSubcommand).pop();
                let meant = meant.map(|meant| format!("did you mean `{path} {meant}`? ")).unwrap_or_default();
                (format!("`{path}` has no command {}", quoted(wrong)), meant + &help("lists the commands"))
            }
            ErrorKind::MissingRequiredArgument => {
                let missing: Vec<String> = list(ContextKind::InvalidArg).iter().map(|one| one.replace(" <", " ")).collect();
                let mut missing: Vec<String> = missing.iter().map(|one| one.replace(['<', '>'], "")).collect();
                // What may be given in several ways is named last.
                missing.sort_by_key(|one| one.contains('|'));
                (format!("`{path}` needs {}", missing.join(" and ")), self.example())
            }
            ErrorKind::MissingSubcommand | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
                let subs: Vec<&str> = command.get_subcommands().map(Command::get_name).filter(|name| *name != "help").collect();
                let hint = match subs.first() {
                    Some(first) => format!("write one of them behind it; `{path} {first} --help` says what that one takes"),
                    None => help("says what it takes"),
                };
                (format!("`{path}` needs a command"), hint)
            }
            ErrorKind::ArgumentConflict if error.get(ContextKind::InvalidValue).is_some() => {
                let values: Vec<String> = list(ContextKind::InvalidValue).iter().map(|value| quoted(value)).collect();
                let values = if values.is_empty() {
                    "with different values".to_owned()
                } else {
                    format!("as {}", values.join(" and as "))
                };
                (format!("`{name}` is given twice, {values}"), "give it once, before the command or behind it".to_owned())
            }
            ErrorKind::ArgumentConflict => {
                let others: Vec<String> = list(ContextKind::PriorArg).iter().map(|other| format!("`{}`", bare(other))).collect();
                if others.is_empty() || others == [format!("`{name}`")] {
                    return (format!("`{name}` is there more than once"), "give it once".to_owned());
                }
                (format!("`{name}` cannot stand beside {}", others.join(" and ")), "leave one of them out".to_owned())
            }
            ErrorKind::TooManyValues | ErrorKind::TooFewValues | ErrorKind::WrongNumberOfValues | ErrorKind::NoEquals => {
                (format!("`{name}` has another number of values than it takes"), help("says what it takes"))
            }
            ErrorKind::InvalidUtf8 => (
                "an argument is not UTF-8 text".to_owned(),
                "write it in UTF-8; only names of files may be anything else".to_owned(),
            ),
            _ => {
                let said = error.render().to_string();
                let first = said.lines().next().unwrap_or_default();
                (first.trim_start_matches("error: ").to_owned(), help("says what it takes"))
            }
        }
    }

    /// The variable of the environment that gave nothing in an argument's place.
    fn empty_variable(&self, argument: &str, arguments: &[OsString]) -> Option<String> {
        let known = self.command.get_arguments().find(|known| known.to_string() == argument)?;
        let variable = known.get_env()?;
        let typed = arguments.iter().any(|word| word.to_string_lossy().starts_with(bare(argument)));
        let empty = std::env::var_os(variable).is_some_and(|value| value.is_empty());
        (empty && !typed).then(|| variable.to_string_lossy().into_owned())
    }

    /// What gave a value: the argument, or a variable of the environment in its place.
    fn source(&self, argument: &str, value: &str, arguments: &[OsString]) -> String {
        let name = bare(argument);
        let known = self.command.get_arguments().find(|known| known.to_string() == argument);
        let Some(variable) = known.and_then(Arg::get_env) else { return name.to_owned() };
        let typed = arguments.iter().map(|word| word.to_string_lossy()).any(|word| word.starts_with(name));
        match std::env::var_os(variable) {
            Some(set) if !typed && set == *value => format!("{} (in place of {name})", variable.to_string_lossy()),
            Some(_) | None => name.to_owned(),
        }
    }

    /// The command's first example.
    fn example(&self) -> String {
        let path = &self.path;
        let shown = self.command.get_after_help().map(ToString::to_string).unwrap_or_default();
        let program = path.split(' ').next().unwrap_or_default();
        let line = shown.lines().map(str::trim).find(|line| line.strip_prefix(program).is_some_and(|rest| rest.starts_with(' ')));
        // What stands beside it is a remark.
        let example = line.and_then(|line| line.split("  ").next());
        match example {
            Some(example) => format!("write it like `{example}`; `{path} --help` says more"),
            None => format!("`{path} --help` says what it takes"),
        }
    }
}

/// The option of this command that a word begins: `--name`, `--name=value`, `-n`.
fn option<'a>(command: &'a Command, word: &str) -> Option<&'a Arg> {
    // One with its value in the same word takes no other.
    if word.contains('=') {
        return None;
    }
    command.get_arguments().find(|argument| match word.strip_prefix("--") {
        Some(long) => argument.get_long() == Some(long),
        None => argument.get_short().is_some_and(|short| word.len() == 2 && word.ends_with(short)),
    })
}

/// An argument without what stands for its value: `--retries`, `JOB`.
fn bare(argument: &str) -> &str {
    if argument.starts_with('-') {
        return argument.split([' ', '=', '[']).next().unwrap_or(argument);
    }
    let one = argument.trim_end_matches("...");
    let within = |open, close| one.strip_prefix(open)?.strip_suffix(close);
    within('<', '>').or_else(|| within('[', ']')).unwrap_or(one)
}

#[cfg(test)]
mod tests {
    use clap::{Args, Subcommand};

    use super::*;

    #[derive(Debug, Parser)]
    #[command(name = "prog")]
    struct Cli {
        /// Where
        #[arg(short, long, global = true)]
        data: Option<String>,
        #[command(subcommand)]
        _command: Verb,
    }

    #[derive(Debug, Subcommand)]
    enum Verb {
        Go(Go),
        #[command(subcommand)]
        More(More),
    }

    #[derive(Debug, Subcommand)]
    enum More {
        /// Something
        Here,
    }

    #[derive(Debug, Args)]
    #[command(after_help = "EXAMPLES:\n  prog go home --times 3      thrice\n  prog go away")]
    struct Go {
        #[arg(value_name = "PLACE")]
        place: String,
        #[arg(long, value_name = "N", value_parser = lull_shared::bound::RETRIES.numbers::<u32>())]
        times: Option<u32>,
        #[arg(long, conflicts_with = "times")]
        once: bool,
        #[arg(long, value_name = "HOW", value_parser = ["fast", "slow"])]
        how: Option<String>,
        #[arg(long, value_name = "N")]
        bare: Option<u8>,
        #[arg(long, value_name = "DIR", env = "LULL_TEST_EMPTY")]
        folder: Option<std::path::PathBuf>,
        #[arg(last = true, value_name = "ARGS")]
        passed_on: Vec<String>,
    }

    fn said(line: &str) -> String {
        let arguments: Vec<OsString> = line.split(' ').map(Into::into).collect();
        let error = parse::<Cli>(&arguments).expect_err(line);
        told(&error, &mut <Cli as clap::CommandFactory>::command(), &arguments)
    }

    #[test]
    fn each_kind_of_mistake_is_told_with_what_to_do() {
        let cases = [
            (
                "prog go home --times x",
                "error: --times: `x` is not a whole number\nhint: write a whole number from 0 to 1,000, like 3",
            ),
            (
                "prog go home --times 1001",
                "error: --times: `1001` is more than 1,000\nhint: write a whole number from 0 to 1,000, like 3",
            ),
            (
                "prog go home --times -1",
                "error: --times: `-1` is less than 0\nhint: write a whole number from 0 to 1,000, like 3",
            ),
            (
                "prog go home --top 10",
                "error: `prog go` has no option `--top`\nhint: an option of the function goes behind `--`, like `-- --top`; \
                 `prog go --help` lists the options",
            ),
            ("prog go home --times", "error: `--times` needs a value\nhint: write `--times <N>`"),
            ("prog go home --how quick", "error: --how: `quick` is not one of its values\nhint: write fast or slow"),
            ("prog go home --how fas", "hint: did you mean `fast`? write fast or slow"),
            (
                "prog --data x go home --tims 3",
                "error: `prog go` has no option `--tims`\nhint: did you mean `--times`? an option of the function goes behind `--`, like `-- --tims`; `prog go --help` lists the options",
            ),
            (
                "prog go home away",
                "error: `prog go` has no use for `away` here\nhint: write it like `prog go home --times 3`; `prog go --help` says more",
            ),
            ("prog go", "error: `prog go` needs PLACE\nhint: write it like `prog go home --times 3`; `prog go --help` says more"),
            (
                "prog mroe",
                "error: `prog` has no command `mroe`\nhint: did you mean `prog more`? `prog --help` lists the commands",
            ),
            ("prog go home --once --times 3", "error: `--once` cannot stand beside `--times`\nhint: leave one of them out"),
            ("prog go home --once --once", "error: `--once` is there more than once\nhint: give it once"),
            (
                "prog more",
                "error: `prog more` needs a command\nhint: write one of them behind it; `prog more here --help` says what that one takes",
            ),
            (
                "prog go home --bare x",
                "error: --bare: `x` cannot be used: invalid digit found in string\nhint: `prog go --help` says what it takes",
            ),
        ];
        for (line, expected) in cases {
            assert!(said(line).ends_with(expected), "{line}: {}", said(line));
        }
    }

    #[test]
    fn a_negative_number_is_a_value_wherever_one_is_wanted() {
        let parsed = |line: &str| parse::<Cli>(&line.split(' ').map(Into::into).collect::<Vec<OsString>>());
        let Verb::Go(go) = parsed("prog go -5 --bare 7").expect("a place").0._command else { panic!("another command") };
        assert_eq!((go.place.as_str(), go.bare), ("-5", Some(7)));
    }

    #[test]
    fn an_option_of_every_command_is_given_once_or_twice_alike() {
        for line in ["prog --data a more --data b here", "prog --data=a more here -db", "prog more -d a here --data=b"] {
            let told = "`--data` is given twice, as `a` and as `b`\nhint: give it once, before the command or behind it";
            assert_eq!(said(line), format!("error: {told}"), "{line}");
        }
        for (line, data) in [
            ("prog --data a more --data a here", "a"),
            ("prog --data a go home --times 3", "a"),
            ("prog go home --data a -- --data b", "a"),
        ] {
            let words: Vec<OsString> = line.split(' ').map(Into::into).collect();
            assert_eq!(parse::<Cli>(&words).expect(line).0.data.as_deref(), Some(data), "{line}");
        }
    }

    #[test]
    fn what_a_terminal_would_obey_is_not_repeated() {
        assert!(!said("prog go \u{1b}[31m --times \u{1b}[31m").contains('\u{1b}'));
    }
}
