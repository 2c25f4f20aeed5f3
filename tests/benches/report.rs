//! What every bench takes, and how it prints: for people as it goes, and with `--json` as one value at its end.
//!
//! Shared by the benches of all crates, each of which includes this file by its path.
#![allow(dead_code)]

use std::{fmt::Display, fs};

use serde_json::{Value, json};

/// How a bench is run.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct Manner {
    /// Print one JSON value on standard output at the end; what people read goes to standard error.
    #[arg(long)]
    pub json: bool,
    /// A first answer: everything once or a few times only, within a minute.
    #[arg(long)]
    pub short: bool,
    /// Passed by `cargo bench`.
    #[arg(long, hide = true)]
    bench: bool,
}

impl Manner {
    /// What was asked for, or else what suits the manner.
    pub(crate) fn choose<T>(&self, asked: Option<T>, long: T, short: T) -> T {
        asked.unwrap_or(if self.short { short } else { long })
    }
}

/// The figures of one run.
pub(crate) struct Report {
    bench: &'static str,
    manner: Manner,
    load: f64,
    figures: Vec<Value>,
}

/// What a figure should be.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Goal {
    AtMost(f64),
    AtLeast(f64),
}

impl Report {
    /// Of this bench; says how busy the machine is as it begins.
    pub(crate) fn new(bench: &'static str, manner: Manner) -> Self {
        let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
        let load = load.split(' ').next().and_then(|load| load.parse().ok()).unwrap_or(f64::NAN);
        let report = Self { bench, manner, load, figures: Vec::new() };
        report.say(format_args!("{bench}: load average {load}"));
        report
    }

    /// A line for people.
    pub(crate) fn say(&self, line: impl Display) {
        if self.manner.json {
            eprintln!("{line}");
        } else {
            println!("{line}");
        }
    }

    /// A figure, said elsewhere.
    pub(crate) fn figure(&mut self, name: impl Into<String>, value: f64, unit: &str) {
        self.figures.push(json!({ "name": name.into(), "value": number(value), "unit": unit }));
    }

    /// A figure with its goal, said elsewhere: the word for whether it is met.
    pub(crate) fn goal(&mut self, name: impl Into<String>, value: f64, unit: &str, goal: Goal) -> &'static str {
        let (key, bound, met) = match goal {
            Goal::AtMost(most) => ("at_most", most, value <= most),
            Goal::AtLeast(least) => ("at_least", least, value >= least),
        };
        self.figures.push(json!({ "name": name.into(), "value": number(value), "unit": unit, key: bound, "met": met }));
        if met { "met" } else { "missed" }
    }

    /// A figure on a line of its own.
    pub(crate) fn line(&mut self, name: &str, value: f64, unit: &str) {
        self.say(format_args!("  {name:<32} {value:>9.2} {unit}"));
        self.figure(name, value, unit);
    }

    /// A figure with the most that it should be, on a line of its own.
    pub(crate) fn line_at_most(&mut self, name: &str, value: f64, unit: &str, most: f64) {
        let verdict = self.goal(name, value, unit, Goal::AtMost(most));
        self.say(format_args!("  {name:<32} {value:>9.2} {unit:<14} target <= {most} {unit}: {verdict}"));
    }

    /// Prints the value, if one was asked for.
    pub(crate) fn end(self) {
        if self.manner.json {
            let Self { bench, manner, load, figures } = self;
            let load = number(load);
            let value = json!({
                "schema_version": 1, "bench": bench, "short": manner.short, "load_average": load, "figures": figures,
            });
            println!("{value}");
        }
    }
}

/// JSON has no name for what is not a number.
fn number(value: f64) -> Value {
    if value.is_finite() { json!((value * 1e4).round() / 1e4) } else { Value::Null }
}
