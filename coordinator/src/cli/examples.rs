//! Every command line that is shown to people is one that both programs take: those of `--help` and of the READMEs.

use std::{ffi::OsString, path::Path};

use clap::{CommandFactory as _, Parser as _};

use super::Cli;

/// What this repository shows besides `--help`.
const PAGES: [(&str, &str); 5] = [
    ("README.md", include_str!("../../../README.md")),
    ("coordinator/README.md", include_str!("../../README.md")),
    ("agent/README.md", include_str!("../../../agent/README.md")),
    ("installer/README.md", include_str!("../../../installer/README.md")),
    (".github/CONTRIBUTING.md", include_str!("../../../.github/CONTRIBUTING.md")),
];
/// How a clone runs `lull` without installing it.
const FROM_A_CLONE: &str = "cargo run --release -p lull-coordinator -- ";

#[test]
fn every_example_of_every_help_parses() {
    let mut examples = 0;
    for program in [Cli::command(), lull_agent::cli::command()] {
        let name = program.get_name().to_owned();
        each(&program, &name, &mut |path, command| {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            let own = shown(&help);
            assert!(!own.is_empty(), "`{path}` shows no example");
            for words in own {
                assert_parses(&words, path);
                examples += 1;
            }
        });
    }
    assert!(examples > 90, "only {examples} examples were found");
}

#[test]
fn every_command_of_the_readmes_parses() {
    for (page, text) in PAGES {
        let mut found = 0;
        for block in text.split("```sh\n").skip(1) {
            let block = block.split("```").next().unwrap_or_default().replace(FROM_A_CLONE, "lull ");
            for words in shown(&block) {
                assert_parses(&words, page);
                found += 1;
            }
        }
        assert!(found >= 5 || page.starts_with('.'), "only {found} commands were found in {page}");
    }
}

/// Links, and files of this repository in code's type: `coordinator/src/http/{guests,shares}.rs` are two.
#[test]
fn every_path_that_the_pages_name_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let tests = ("tests/README.md", include_str!("../../../tests/README.md"));
    let mut found = 0;
    for (page, text) in PAGES.into_iter().chain([tests]) {
        let folder = root.join(page);
        let folder = folder.parent().expect("a page is in a folder");
        let links = text.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next());
        for link in links.filter(|link| !link.is_empty() && !link.contains("://")) {
            assert!(folder.join(link).exists(), "{page} links to {link}, which is not there");
            found += 1;
        }
        let prose = text.split("```").step_by(2);
        for named in prose.flat_map(|prose| prose.split('`').skip(1).step_by(2)).filter(|named| is_path(named)) {
            for path in each_of(named) {
                assert!(root.join(&path).exists() || folder.join(&path).exists(), "{page} names {path}, which is not there");
                found += 1;
            }
        }
    }
    assert!(found > 40, "only {found} paths were found");
}

/// Whether a name begins with a folder of this repository and has nothing that a path has not.
fn is_path(named: &str) -> bool {
    let ours = ["agent/", "coordinator/", "shared/", "tests/", "installer/", ".ci/", ".github/"];
    ours.iter().any(|folder| named.starts_with(folder)) && !named.contains([' ', '*', '<', '$'])
}

/// `a/{b,c}.rs` is `a/b.rs` and `a/c.rs`.
fn each_of(named: &str) -> Vec<String> {
    let Some((before, rest)) = named.split_once('{') else { return vec![named.to_owned()] };
    let (choices, after) = rest.split_once('}').expect("a brace is closed");
    choices.split(',').map(|choice| format!("{before}{choice}{after}")).collect()
}

/// `Jobs: submit, list, ...`: whoever reads only `lull --help` finds every command that there is.
#[test]
fn a_summary_that_lists_commands_lists_them_all() {
    let mut lists = 0;
    for program in [Cli::command(), lull_agent::cli::command()] {
        each(&program, program.get_name(), &mut |path, command| {
            let about = command.get_about().map(ToString::to_string).unwrap_or_default();
            let Some((_, listed)) = about.split_once(": ").filter(|_| command.has_subcommands()) else { return };
            let listed: Vec<&str> = listed.split(", ").collect();
            let there: Vec<&str> =
                command.get_subcommands().map(clap::Command::get_name).filter(|name| *name != "help").collect();
            assert!(there.iter().all(|name| listed.contains(name)), "`{path}` has {there:?} and its summary says {listed:?}");
            lists += 1;
        });
    }
    assert!(lists >= 5, "only {lists} summaries list commands");
}

/// An argument of a command that has the id of a global one is that one, with another type, and panics once it is used.
#[test]
fn no_argument_of_a_command_has_the_id_of_a_global_one() {
    let program = Cli::command();
    let globals: Vec<_> = program.get_arguments().filter(|argument| argument.is_global_set()).map(clap::Arg::get_id).collect();
    assert!(globals.len() >= 6, "{globals:?}");
    each(&program, "lull", &mut |path, command| {
        for argument in command.get_arguments().filter(|argument| !argument.is_global_set()) {
            assert!(!globals.contains(&argument.get_id()), "`{path}` has an own `{}`", argument.get_id());
        }
    });
}

/// A command and all below it, each with its path.
fn each(command: &clap::Command, path: &str, look: &mut impl FnMut(&str, &clap::Command)) {
    look(path, command);
    for sub in command.get_subcommands().filter(|sub| sub.get_name() != "help") {
        each(sub, &format!("{path} {}", sub.get_name()), look);
    }
}

fn assert_parses(words: &[String], place: &str) {
    let arguments = words.iter().map(OsString::from);
    let wrong = match words[0].as_str() {
        "lull" => Cli::try_parse_from(arguments).err(),
        _ => lull_agent::cli::check(arguments).err(),
    };
    let wrong = wrong.filter(clap::Error::use_stderr);
    assert!(wrong.is_none(), "`{}` of {place}: {}", words.join(" "), wrong.map(|wrong| wrong.to_string()).unwrap_or_default());
}

/// The command lines of both programs in a text of a shell, as words.
fn shown(text: &str) -> Vec<Vec<String>> {
    let mut whole = String::new();
    for line in text.lines() {
        match line.trim_end().strip_suffix('\\') {
            Some(begun) => whole.extend([begun.trim(), " "]),
            None => whole.extend([line.trim(), "\n"]),
        }
    }
    // What stands before them (sudo, systemd-run and its options) is another program's.
    let own = |command: Vec<String>| {
        if command.first().is_some_and(|program| program == "cargo") {
            return None;
        }
        let start = command.iter().position(|word| matches!(word.as_str(), "lull" | "lull-agent"))?;
        // A name alone is that of a package or a service.
        (command.len() > start + 1).then(|| command[start..].to_vec())
    };
    whole.lines().flat_map(words).filter_map(own).collect()
}

/// The commands of one line, each as its words: quotes are taken away; what follows `#`, `>` or several blanks is not theirs.
fn words(line: &str) -> Vec<Vec<String>> {
    let (mut commands, mut command, mut word) = (Vec::new(), Vec::new(), None::<String>);
    let (mut quote, mut blanks, mut redirected) = (None, 0, false);
    for c in line.trim().chars() {
        match (quote, c) {
            (Some(open), c) if open == c => quote = None,
            (Some(_), c) => word.get_or_insert_default().push(c),
            (None, '"' | '\'') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, ' ') => {
                command.extend(word.take().filter(|_| !std::mem::take(&mut redirected)));
                blanks += 1;
                // The remark beside an example.
                if blanks > 1 {
                    break;
                }
                continue;
            }
            (None, '#') if word.is_none() => break,
            (None, '>' | '<') => redirected = true,
            (None, '|' | '&' | ';') => {
                command.extend(word.take());
                commands.push(std::mem::take(&mut command));
            }
            (None, c) => word.get_or_insert_default().push(c),
        }
        blanks = 0;
    }
    command.extend(word.filter(|_| !redirected));
    commands.push(command);
    commands.retain(|command| !command.is_empty());
    commands
}

#[test]
fn a_line_is_taken_apart_as_a_shell_does() {
    let line = "lull login URL > x && lull submit \"a b\" --each-line 'c;d' | head   the first ones";
    assert_eq!(words(line), [vec!["lull", "login", "URL"], vec!["lull", "submit", "a b", "--each-line", "c;d"], vec!["head"]]);
    assert_eq!(words("lull explain j1.7        # why?"), [["lull", "explain", "j1.7"]]);
    assert_eq!(words("import /dev/stdin < network.secret"), [["import", "/dev/stdin"]]);
}
