//! Whatever somebody types wrong, on whichever command: they are told what is wrong and, on a last line, what to do.
//!
//! The commands and their arguments are those of the parsers themselves, so that a new one is tried here too.

use std::{collections::BTreeMap, ffi::OsString};

use clap::{Arg, ArgAction, Command, CommandFactory as _};

use super::{Cli, mistake};

/// Values that hardly any argument takes.
const BAD: [&str; 16] = [
    "",
    " ",
    "?",
    "x y",
    "-1",
    "0",
    "1.5",
    "99999999999999999999999",
    "-99999999999999999999s",
    "99999999999999 TiB",
    "99999999999h",
    "in 99999999999h",
    "0-100000000",
    "\u{1b}[31m",
    "/nowhere/x",
    "=",
];

/// A program's parser, made once: making it takes longer than asking it.
struct Parser(Command);

impl Parser {
    fn of(program: &str) -> Self {
        let command = if program == "lull" { Cli::command() } else { lull_agent::cli::command() };
        let mut command = mistake::with_negative_numbers(command);
        command.build();
        Self(command)
    }

    /// What is said of a command line; none if it is understood.
    fn said(&mut self, arguments: &[OsString]) -> Option<String> {
        let error = mistake::matches(&mut self.0, arguments).err()?;
        error.use_stderr().then(|| mistake::told(&error, &mut self.0, arguments))
    }
}

/// Refused in the form in which everything is.
fn assert_told(line: &[OsString], said: &str) {
    let lines: Vec<&str> = said.lines().collect();
    let [.., message, hint] = lines[..] else { panic!("{line:?}: {said}") };
    assert!(message.starts_with("error: ") && message.len() > "error: ".len(), "{line:?}: {said}");
    assert!(hint.starts_with("hint: ") && hint.len() > "hint: ".len(), "{line:?}: {said}");
    assert!(!said.contains('\u{1b}') && !said.contains("ParseIntError") && !said.contains("Some("), "{line:?}: {said}");
    assert!(message.len() < 400, "{line:?}: {said}");
}

/// Each command of both programs, with the words that lead to it.
fn each(look: &mut impl FnMut(&mut Parser, &[String], &Command)) {
    fn walk(parser: &mut Parser, path: &[String], command: &Command, look: &mut impl FnMut(&mut Parser, &[String], &Command)) {
        look(parser, path, command);
        for sub in command.get_subcommands().filter(|sub| sub.get_name() != "help") {
            walk(parser, &[path, &[sub.get_name().to_owned()]].concat(), sub, look);
        }
    }
    for program in ["lull", "lull-agent"] {
        let (mut parser, Parser(walked)) = (Parser::of(program), Parser::of(program));
        walk(&mut parser, &[program.to_owned()], &walked, look);
    }
}

fn line(path: &[String], words: &[&str]) -> Vec<OsString> {
    path.iter().map(OsString::from).chain(words.iter().map(OsString::from)).collect()
}

#[test]
fn every_option_of_every_command_refuses_bad_values_with_a_hint() {
    let mut refusals: BTreeMap<String, usize> = BTreeMap::new();
    each(&mut |parser, path, command| {
        for argument in command.get_arguments().filter(|argument| argument.get_action().takes_values()) {
            let Some(option) = argument.get_long() else { continue };
            let refused = refusals.entry(format!("{} --{option}", path.join(" "))).or_default();
            for bad in BAD {
                let line = line(path, &[&format!("--{option}={bad}")]);
                if let Some(said) = parser.said(&line) {
                    assert_told(&line, &said);
                    // Else it is the command that lacks something.
                    *refused += usize::from(said.contains(&format!("--{option}")));
                }
            }
            assert!(is_free(argument) || *refused > 0, "{} --{option} takes everything: {BAD:?}", path.join(" "));
        }
    });
    assert!(refusals.len() > 250, "only {} options were found", refusals.len());
}

/// Whether any text may be meant: a path, a file, a function's own argument.
fn is_free(argument: &Arg) -> bool {
    let free = ["arg", "token", "suffix", "store", "server", "http-host", "name", "submitter", "for", "executor-program"];
    let path = argument.get_value_names().is_some_and(|names| names.iter().any(|name| matches!(name.as_str(), "DIR" | "FILE")));
    path || argument.get_long().is_some_and(|long| free.contains(&long))
}

#[test]
fn every_command_tells_each_kind_of_mistake_with_a_hint() {
    let mut commands = 0;
    each(&mut |parser, path, command| {
        commands += 1;
        let mut wrong: Vec<Vec<&str>> = vec![
            vec!["--no-such-option"],
            vec!["--no-such-option=x"],
            vec!["-Z"],
            vec!["-o"],
            vec!["-o", "yaml"],
            vec!["-o", "json", "-o", "json"],
            vec!["x", "x", "x", "x", "--no-such-option"],
        ];
        let options: Vec<String> = command
            .get_arguments()
            .filter(|argument| !matches!(argument.get_action(), ArgAction::Help | ArgAction::Version | ArgAction::Append))
            .filter_map(|argument| argument.get_long().map(|long| (long, argument.get_action().takes_values())))
            .map(|(long, takes)| if takes { format!("--{long}") } else { format!("--{long}=x") })
            .collect();
        wrong.extend(options.iter().map(|option| vec![option.as_str()]));
        for words in &wrong {
            let line = line(path, words);
            let said = parser.said(&line).unwrap_or_else(|| panic!("{line:?} is taken"));
            assert_told(&line, &said);
        }
        // Too many, too few: most commands refuse these.
        for words in [&[][..], &["x"; 9][..], &["", ""][..], &["sumbit"][..], &["\u{1b}[31m"][..]] {
            let line = line(path, words);
            if let Some(said) = parser.said(&line) {
                assert_told(&line, &said);
            }
        }
    });
    assert!(commands > 55, "only {commands} commands were found");
}

#[test]
fn each_option_of_every_command_that_is_given_twice_is_refused_unless_it_says_the_same() {
    let mut refused = 0;
    each(&mut |parser, path, command| {
        let whole = line(path, &[]);
        if path.len() == 1 || parser.said(&whole).is_some() {
            return;
        }
        let program = path[0].as_str();
        let global = command.get_arguments().filter(|argument| argument.is_global_set() && argument.get_action().takes_values());
        for argument in global {
            let long = format!("--{}", argument.get_long().unwrap_or_else(|| panic!("{} has no name", argument.get_id())));
            let values = match argument.get_possible_values() {
                _ if long == "--pin" => ["a", "b"].map(|key| crate::pin::Pin::of_key(key.as_bytes()).to_string()),
                words if words.len() > 1 => [words[0].get_name().to_owned(), words[1].get_name().to_owned()],
                // What is read as something takes these too.
                _ => ["info".to_owned(), "debug".to_owned()],
            };
            let both = |first: &str, second: &str| {
                let before = [program, &long, first].map(OsString::from);
                before
                    .into_iter()
                    .chain(path[1..].iter().map(OsString::from))
                    .chain([long.as_str(), second].map(OsString::from))
                    .collect()
            };
            let line: Vec<OsString> = both(&values[0], &values[1]);
            let said = parser.said(&line).unwrap_or_else(|| panic!("{line:?} is taken"));
            assert_told(&line, &said);
            assert!(said.contains(&format!("`{long}` is given twice")), "{line:?}: {said}");
            let same: Vec<OsString> = both(&values[0], &values[0]);
            assert_eq!(parser.said(&same), None, "{same:?}");
            refused += 1;
        }
    });
    assert!(refused > 100, "only {refused} were tried");
}

#[test]
fn plausible_mistakes_are_answered_to_the_point() {
    let cases = [
        (
            "lull submit f --array 0 --retries x",
            "--retries: `x` is not a whole number",
            "write a whole number from 0 to 1,000, like 3",
        ),
        ("lull submit f --array 0 --memory 8GiB", "--memory: `8GiB` is more than 4 GiB", "write a size from 64 KiB to 4 GiB"),
        ("lull submit f --array 0 --memory 99999999999TiB", "--memory: `99999999999TiB` is more than 4 GiB", "write a size"),
        ("lull submit f --array 0 --time-limit=0", "--time-limit: `0` is less than 1ms", "from 1ms to 30d, like 10m"),
        ("lull submit f --array 0 --lost-after=0", "--lost-after: `0` is less than 1m", "from 1m to 30d"),
        ("lull submit f --array 0 --max-fails=0", "--max-fails: `0` is less than 1", "write a whole number from 1 on"),
        ("lull submit f --array 0 --at-once=0", "--at-once: `0` is less than 1", "write a whole number from 1 on"),
        ("lull submit f --array 0 --name=", "--name: an empty text cannot be the name of a job", "write 1 to 128 bytes"),
        ("lull submit f --array 0 --idempotency-key=", "--idempotency-key: an empty text cannot be", "write 1 to 128 bytes"),
        (
            "lull submit f --array=0-100000000",
            "--array: `0-100000000` is 100,000,001 tasks, and a job has at most 10,000,000",
            "split it",
        ),
        (
            "lull submit f --array 0 --window=22:00-06:00_mon",
            "--window: `22:00-06:00_mon` is not a valid window",
            "write HH:MM-HH:MM",
        ),
        (
            "lull submit f --array 0 --window=22:00-06:00~noday",
            "--window: `noday` is neither a day nor a time zone",
            "write days like",
        ),
        ("lull submit f --array 0 --require memory>=big", "--require: `memory>=big` compares by amount", "like memory=8GiB+"),
        (
            "lull submit f --array 0 --require memory",
            "--require: `memory` is not a constraint",
            "like os=linux or memory=8GiB+; an unquoted > or < is the shell's",
        ),
        ("lull submit f --array 0 --require=", "--require: an empty text is not a constraint", "like os=linux or memory=8GiB+"),
        ("lull submit f --array 1,1", "--array: the list names 1 twice", "write each number once"),
        ("lull submit f --array 0-9,5", "--array: the list names 5 twice", "write each number once"),
        ("lull submit f --array 0 --retries -1", "--retries: `-1` is less than 0", "write a whole number from 0 to 1,000"),
        ("lull submit f --array 0 --memory -1", "--memory: `-1` is less than 64 KiB", "write a size from 64 KiB to 4 GiB"),
        ("lull job list --limit -1", "--limit: `-1` is less than 1", "write a whole number from 1 to 1,000"),
        ("lull-agent run --slots -1", "--slots: `-1` is less than 1", "from 1 to 256, like 4"),
        (
            "lull run f.wasm in.txt --top 10",
            "`lull run` has no option `--top`",
            "an option of the function goes behind `--`, like `-- --top`",
        ),
        ("lull server run --store postgres://x", "--store: `postgres://` does not name a store", "Server=tcp:HOST,1433"),
        ("lull db check --store lull.db", "--store: this does not name a store", "write sqlite:DIR"),
        ("lull submit f --array 0 --finish-by=in~99999999999h", "--finish-by: `99999999999h` is more than 3650d", "like 8h"),
        (
            "lull submit f --array 0 --grant network",
            "--grant: `network` is not one of its values",
            "write clock, random or scratch",
        ),
        ("lull submit f --array 0 --env LULL_JOB=1", "--env: `LULL_JOB` cannot be the name of a variable", "use letters"),
        ("lull submit f", "`lull submit` needs INPUT", "write it like `lull submit stats report-*.txt -- --top 10`"),
        ("lull submit", "`lull submit` needs FUNCTION and ", "write it like `lull submit stats"),
        ("lull submit f x --array 0", "`INPUT` cannot stand beside `--array`", "leave one of them out"),
        ("lull sumbit f x", "`lull` has no command `sumbit`", "did you mean `lull submit`?"),
        ("lull job lsit", "`lull job` has no command `lsit`", "did you mean `lull job list`?"),
        ("lull job", "`lull job` needs a command", "`lull job submit --help`"),
        ("lull job list --limit=-1", "--limit: `-1` is less than 1", "write a whole number from 1 to 1,000"),
        ("lull job list --state waiting", "--state: a job that is shown as waiting is active", "write active"),
        (
            "lull job list --state activ",
            "--state: `activ` is not a state of jobs",
            "did you mean `active`? write active, succeeded",
        ),
        ("lull task list j1 --state unreachable", "--state: a task that is shown as unreachable is running", "write running"),
        ("lull --data a job list --data b", "`--data` is given twice, as `a` and as `b`", "give it once"),
        ("lull --token a job list --token b", "`--token` is given twice, with different values", "give it once"),
        ("lull -o json job list -o id", "`--output` is given twice, as `json` and as `id`", "give it once"),
        ("lull job show 42x", "JOB: `42x` does not name a job", "write it like j42"),
        ("lull job list --sate active", "`lull job list` has no option `--sate`", "did you mean `--state`?"),
        ("lull explain x", "JOB|TASK: `x` is neither a job nor a task", "write it like j42 or j42.7"),
        ("lull func show stats@+3", "NAME[@VERSION]: `stats@+3` does not name a version", "write NAME, NAME@NUMBER, NAME@LABEL"),
        ("lull server run --listen x", "--listen: `x` is not an address to listen at", "write it like /ip4/0.0.0.0/tcp/7410"),
        ("lull server run --http localhost:7411", "--http: `localhost:7411` is not an address and a port", "like 127.0.0.1:7411"),
        ("lull token create --role king", "--role: `king` is not a role", "write agent, viewer"),
        ("lull token create --expires 0s", "--expires: `0s` is less than 1s", "like 30d"),
        ("lull policy set --for linux idle=1m", "--for: `linux` is not a constraint", "write LABEL=VALUE"),
        ("lull policy test a1 --at noon", "--at: `noon` is not a moment of the week", "mon 14:00"),
        ("lull-agent run --slots x", "--slots: `x` is not a whole number", "from 1 to 256, like 4"),
        ("lull-agent run --slots 0", "--slots: `0` is less than 1", "from 1 to 256, like 4"),
        ("lull-agent run --slots 99999", "--slots: `99999` is more than 256", "from 1 to 256, like 4"),
        ("lull-agent run --memory-free-min x", "--memory-free-min: `x` is not a size", "like 512MiB"),
        ("lull-agent run --listen x", "--listen: `x` is not an address to listen at", "/ip4/0.0.0.0"),
        ("lull-agent run --label os=mine", "--label: `os` is set by the agent itself", "remove `os`"),
        ("lull-agent pause x", "DURATION: `x` is not a length of time", "write a length of time from 1s to 365d, like 2h"),
        ("lull-agent pause 0s", "DURATION: `0s` is less than 1s", "like 2h"),
        ("lull-agent pause 99999999999h", "DURATION: `99999999999h` is more than 365d", "lasts until `lull-agent resume`"),
        ("lull-agent --log verbose status", "--log: `verbose` does not say what is logged", "write error, warn, info"),
        ("lull-agent", "`lull-agent` needs a command", "`lull-agent join --help`"),
        ("lull-agent stauts", "`lull-agent` has no command `stauts`", "did you mean `lull-agent status`?"),
    ];
    let (mut lull, mut agent) = (Parser::of("lull"), Parser::of("lull-agent"));
    for (typed, message, hint) in cases {
        let parser = if typed.starts_with("lull-agent") { &mut agent } else { &mut lull };
        // `~` is a blank within a word.
        let line: Vec<OsString> = typed.split(' ').map(|word| word.replace('~', " ").into()).collect();
        let said = parser.said(&line).unwrap_or_else(|| panic!("{typed} is taken"));
        let (error, advice) = said.rsplit_once("\nhint: ").unwrap_or_else(|| panic!("{typed}: {said}"));
        assert!(error.contains(message) && advice.contains(hint), "{typed}: {said}");
    }
}
