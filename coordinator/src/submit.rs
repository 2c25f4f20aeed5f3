//! Admission of jobs: is what somebody wants within all bounds? Says everything that is wrong at once.

use lull_shared::{
    amount::{grouped, quoted, sizes},
    bound::{self, Bound, Unit},
    constraint::is_name,
    hint,
    job::JobSpec,
    limits,
    name::{NameError, check_job, check_text},
    share::Share,
};

/// How the name of a variable may be written.
pub const VARIABLE_HINT: &str =
    "use letters, digits, `-`, `_` and `.`, beginning with a letter or digit; LULL_ in front is kept for Lull's own";

/// One thing about a job that cannot be: by the field of the request that it is about, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    #[error("`inputs` holds no task\nhint: give at least one input")]
    Empty,
    #[error(
        "`inputs` holds {} tasks, and a job has at most {}\nhint: split them over several jobs",
        grouped(u64::from(*tasks)),
        grouped(limits::TASKS_PER_JOB_MAX.into())
    )]
    TooManyTasks { tasks: u32 },
    #[error("`name`: {}", .why.told(name, "the name of a job"))]
    Name { name: String, why: NameError },
    #[error(
        "`args` and `env` take {}, and {} are allowed\nhint: put the data into the inputs",
        sizes(*bytes as u64, limits::ARGS_BYTES_MAX as u64).0,
        sizes(*bytes as u64, limits::ARGS_BYTES_MAX as u64).1
    )]
    Args { bytes: usize },
    #[error("`env`: {} cannot be the name of a variable\nhint: {VARIABLE_HINT}", quoted(.0))]
    Variable(String),
    #[error("`env`: the value of {} holds a zero byte\nhint: put such data into the inputs", quoted(.0))]
    Value(String),
    #[error("`{field}` holds {count} entries, and {max} are allowed\nhint: leave some out", max = limits::LABELS_MAX)]
    TooMany { field: &'static str, count: usize },
    #[error("`{field}`: {}", outside(*value, *bound, field))]
    Outside { field: &'static str, value: u64, bound: Bound },
    #[error(
        "`backoff_ms` is {backoff} and more than `backoff_max_ms`, which is {max}\nhint: raise `backoff_max_ms` (--backoff-max), or leave it out",
        backoff = bound::BACKOFF.told(*backoff_ms), max = bound::BACKOFF.told(*max_ms)
    )]
    Backoff { backoff_ms: u64, max_ms: u64 },
    #[error("`idempotency_key`: {}", .why.told(key, "an idempotency key"))]
    IdempotencyKey { key: String, why: NameError },
    #[error("outputs can be compared only if nothing but the input goes into them\nhint: leave out --verify, or --grant {0}")]
    Verify(&'static str),
}

impl Problem {
    /// What is wrong, and what to do.
    pub fn in_words(&self) -> (String, String) {
        let words = self.to_string();
        let (message, hint) = hint::split(&words);
        (message.to_owned(), hint.unwrap_or("leave it out").to_owned())
    }
}

/// What is said of a number that a program gave: the bound in the unit of the field.
pub fn outside(value: u64, bound: Bound, field: &str) -> String {
    let words = bound.check(value).map_or_else(|outside| outside.to_string(), |_| String::new());
    let (message, _) = hint::split(&words);
    let Bound { least, most, unit, .. } = bound;
    let unit = match unit {
        Unit::Number => "",
        Unit::Bytes => " bytes",
        Unit::Time => " milliseconds",
    };
    format!("{message}\nhint: give `{field}` from {least} to {most}{unit}")
}

/// Everything that is wrong with a job; nothing, if it may come in.
pub fn check(spec: &JobSpec) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut refuse_if = |wrong: bool, problem: Problem| {
        if wrong {
            problems.push(problem);
        }
    };
    let tasks = spec.inputs.count();
    refuse_if(tasks == 0, Problem::Empty);
    refuse_if(tasks > limits::TASKS_PER_JOB_MAX, Problem::TooManyTasks { tasks });
    if let Err(why) = check_job(&spec.name) {
        refuse_if(true, Problem::Name { name: spec.name.clone(), why });
    }
    let bytes = spec.args.iter().map(|arg| arg.len() + 1).sum::<usize>()
        + spec.env.iter().map(|(name, value)| name.len() + value.len() + 2).sum::<usize>();
    refuse_if(bytes > limits::ARGS_BYTES_MAX, Problem::Args { bytes });
    for (name, value) in &spec.env {
        refuse_if(!is_name(name) || name.starts_with("LULL_"), Problem::Variable(name.clone()));
        refuse_if(value.contains('\0'), Problem::Value(name.clone()));
    }
    let lists = [("require", spec.constraints.len()), ("after", spec.after.len()), ("fail_fast_on", spec.fail_fast_on.len())];
    for (field, count) in lists {
        refuse_if(count > limits::LABELS_MAX, Problem::TooMany { field, count });
    }
    let grants = [(spec.grants.clock, "clock"), (spec.grants.random, "random"), (spec.grants.scratch, "scratch")];
    for (granted, name) in grants {
        refuse_if(granted && spec.verify != Share::NONE, Problem::Verify(name));
    }
    if let Some((key, why)) = spec.idempotency_key.as_ref().and_then(|key| Some((key, check_text(key).err()?))) {
        refuse_if(true, Problem::IdempotencyKey { key: key.clone(), why });
    }
    let bounded = [
        ("retries", Some(spec.retry.retries.into()), bound::RETRIES),
        ("backoff_ms", Some(spec.retry.backoff_ms), bound::BACKOFF),
        ("backoff_max_ms", Some(spec.retry.backoff_max_ms), bound::BACKOFF),
        ("time_limit_ms", Some(spec.limits.time_ms), bound::TIME_LIMIT),
        ("memory_bytes", Some(spec.limits.memory_bytes), bound::MEMORY),
        ("output_bytes", Some(spec.limits.output_bytes), bound::OUTPUT),
        ("log_bytes", Some(spec.limits.log_bytes), bound::LOG),
        ("scratch_bytes", Some(spec.limits.scratch_bytes), bound::SCRATCH),
        ("lost_after_ms", Some(spec.lost_after_ms), bound::LOST_AFTER),
        ("failures_max", spec.failures_max.map(u64::from), bound::SOME),
        ("at_once", spec.at_once.map(u64::from), bound::SOME),
    ];
    for (field, value, bound) in bounded {
        if let Some(value) = value.filter(|value| bound.check(*value).is_err()) {
            refuse_if(true, Problem::Outside { field, value, bound });
        }
    }
    let (backoff_ms, max_ms) = (spec.retry.backoff_ms, spec.retry.backoff_max_ms);
    refuse_if(backoff_ms > max_ms, Problem::Backoff { backoff_ms, max_ms });
    problems
}

#[cfg(test)]
mod tests {
    use lull_shared::{id::VersionId, job::Inputs};

    use super::*;

    fn spec() -> JobSpec {
        JobSpec {
            args: vec!["--fast".into()],
            env: vec![("MODE".into(), "full".into())],
            ..JobSpec::plain("nightly", VersionId(1), Inputs::Range { first: 0, count: 10 })
        }
    }

    #[test]
    fn an_ordinary_job_comes_in() {
        assert_eq!(check(&spec()), Vec::new());
    }

    #[test]
    fn everything_that_is_wrong_is_said_at_once() {
        let mut wrong = spec();
        wrong.inputs = Inputs::Range { first: 0, count: 0 };
        wrong.limits.memory_bytes = 0;
        wrong.env.push(("LULL_JOB".into(), "mine".into()));
        wrong.failures_max = Some(0);
        wrong.lost_after_ms = 1_000;
        wrong.at_once = Some(0);
        assert_eq!(check(&wrong).len(), 6);
        assert!(check(&wrong).contains(&Problem::Outside { field: "lost_after_ms", value: 1_000, bound: bound::LOST_AFTER }));
        assert!(check(&wrong).contains(&Problem::Variable("LULL_JOB".into())));
    }

    #[test]
    fn each_problem_names_its_field_and_what_it_takes_as_people_and_as_programs_write_it() {
        type Wrong = fn(&mut JobSpec);
        let cases: [(Wrong, &str, &str); 14] = [
            (
                |spec| spec.limits.memory_bytes = 8 << 30,
                "`memory_bytes`: `8 GiB` is more than 4 GiB",
                "from 65536 to 4294967296 bytes",
            ),
            (|spec| spec.limits.memory_bytes = u64::MAX, "`memory_bytes`: `16 EiB` is more than 4 GiB", "give `memory_bytes`"),
            (|spec| spec.limits.time_ms = 0, "`time_limit_ms`: `0s` is less than 1ms", "from 1 to 2592000000 milliseconds"),
            (|spec| spec.retry.retries = 5_000, "`retries`: `5,000` is more than 1,000", "give `retries` from 0 to 1000"),
            (|spec| spec.retry.backoff_max_ms = u64::MAX, "`backoff_max_ms`: `", "give `backoff_max_ms`"),
            (|spec| spec.retry.backoff_ms = 600_000, "`backoff_ms` is 10m and more than `backoff_max_ms`, which is 5m", "raise"),
            (|spec| spec.lost_after_ms = 0, "`lost_after_ms`: `0s` is less than 1m", "from 60000 to"),
            (|spec| spec.failures_max = Some(0), "`failures_max`: `0` is less than 1", "give `failures_max` from 1"),
            (|spec| spec.at_once = Some(0), "`at_once`: `0` is less than 1", "give `at_once` from 1"),
            (|spec| spec.name = String::new(), "`name`: an empty text cannot be the name of a job", "write 1 to 128 bytes"),
            (|spec| spec.name = "j42".into(), "`name`: `j42` cannot be the name of a job", "it reads as an id"),
            (
                |spec| spec.idempotency_key = Some(String::new()),
                "`idempotency_key`: an empty text cannot be",
                "write 1 to 128 bytes",
            ),
            (|spec| spec.env.push(("a b".into(), String::new())), "`env`: `a b` cannot be the name of a variable", "use letters"),
            (|spec| spec.env.push(("A".into(), "\0".into())), "`env`: the value of `A` holds a zero byte", "into the inputs"),
        ];
        for (wrong, message, hint) in cases {
            let mut spec = spec();
            wrong(&mut spec);
            let problems = check(&spec);
            let [problem] = &problems[..] else { panic!("one problem: {problems:?}") };
            let words = problem.in_words();
            assert!(words.0.contains(message) && words.1.contains(hint), "{words:?}");
        }
    }

    #[test]
    fn a_job_that_was_stored_without_the_newer_fields_reads_as_it_was_meant() {
        let spec = JobSpec::plain("nightly", VersionId(1), Inputs::Range { first: 0, count: 1 });
        let mut stored = serde_json::to_value(&spec).expect("it encodes");
        let fields = stored.as_object_mut().expect("an object");
        for newer in ["zone", "at_once", "exit_codes", "fail_fast_on", "request"] {
            assert!(fields.remove(newer).is_some(), "{newer}");
        }
        assert_eq!(serde_json::from_value::<JobSpec>(stored).expect("it decodes"), spec);
    }
}
