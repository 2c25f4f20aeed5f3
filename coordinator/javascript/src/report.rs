//! What is said of a script that failed: where, what, the line itself, and how it came there.

use rquickjs::{Coerced, Ctx, Error, Exception, FromJs as _};

use crate::Script;

/// A longer line is not shown.
const LINE_CHARS_MAX: usize = 160;

pub(crate) fn say(ctx: &Ctx<'_>, script: &Script, error: &Error) {
    let name = &script.name;
    match error {
        Error::Exception => {}
        Error::WouldBlock => {
            eprintln!("{name}: it waits for a promise that nothing fulfils");
            return;
        }
        other => {
            eprintln!("{name}: {other}");
            return;
        }
    }
    let thrown = ctx.catch();
    let Some(exception) = thrown.as_object().and_then(|object| Exception::from_object(object.clone())) else {
        let value = Coerced::<String>::from_js(ctx, thrown).map(|value| value.0);
        eprintln!("{name}: thrown: {}", value.unwrap_or_else(|_| "a value without text".into()));
        return;
    };
    let kind: String = exception.as_object().get("name").unwrap_or_else(|_| "Error".into());
    let message = exception.message().unwrap_or_default();
    let stack = exception.stack().unwrap_or_default();
    let own: Vec<&str> = stack.lines().filter(|line| place(line, name).is_some()).collect();
    let at = own.first().and_then(|line| place(line, name));
    match at {
        Some((line, column)) => {
            eprintln!("{name}:{line}:{column}: {kind}: {message}");
            show_line(&script.source, line, column);
        }
        None => eprintln!("{name}: {kind}: {message}"),
    }
    for line in own.iter().filter(|line| line.contains('(')) {
        eprintln!("    {}", line.trim());
    }
}

fn show_line(source: &str, line: usize, column: usize) {
    let Some(text) = line.checked_sub(1).and_then(|index| source.lines().nth(index)) else { return };
    if text.chars().count() > LINE_CHARS_MAX {
        return;
    }
    // Tabs stay, so that the mark stands below its letter.
    let before: String = text.chars().take(column.saturating_sub(1)).map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
    eprintln!("{line:>5} | {text}\n      | {before}^");
}

/// Line and column of a line of the stack, `at name (report.js:3:7)` or `at report.js:3:7`, if it is the script's own.
fn place(line: &str, name: &str) -> Option<(usize, usize)> {
    let at = line.rfind(&format!("{name}:"))?;
    let mut numbers = line[at + name.len() + 1..].trim_end().trim_end_matches(')').split(':');
    let line = numbers.next()?.parse().ok()?;
    Some((line, numbers.next().and_then(|column| column.parse().ok()).unwrap_or(1)))
}
