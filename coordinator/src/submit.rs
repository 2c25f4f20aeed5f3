//! Admission of jobs: is what somebody wants within all bounds? Says everything that is wrong at once.

use lull_shared::{
    amount::{exact, exact_ms, sizes},
    constraint::is_name,
    job::JobSpec,
    limits,
    name::check_title,
    share::Share,
};

/// One thing about a job that cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    #[error("it has no tasks: give at least one input")]
    Empty,
    #[error("it has {tasks} tasks and {} are allowed; split it", limits::TASKS_PER_JOB_MAX)]
    TooManyTasks { tasks: u32 },
    #[error("its name is empty, longer than {} bytes or not printable", limits::NAME_BYTES_MAX)]
    Name,
    #[error(
        "its arguments and variables take {} and {} are allowed; put the data into the inputs",
        sizes(*bytes as u64, limits::ARGS_BYTES_MAX as u64).0,
        sizes(*bytes as u64, limits::ARGS_BYTES_MAX as u64).1
    )]
    Args { bytes: usize },
    #[error("`{0}` cannot be the name of an environment variable")]
    Variable(String),
    #[error("its name reads as an id, or as a word that stands for another job; put a word before it")]
    NameMeansAnother,
    #[error("it has {0} constraints and {max} are allowed", max = limits::LABELS_MAX)]
    Constraints(usize),
    #[error("it waits for {0} jobs and {max} are allowed", max = limits::LABELS_MAX)]
    Dependencies(usize),
    #[error("{retries} retries are too many; at most {} are allowed", limits::RETRIES_MAX)]
    Retries { retries: u32 },
    #[error("its {what} of {asked} is outside 1 to {max}")]
    Limit { what: &'static str, asked: u64, max: u64 },
    #[error("its idempotency key is empty or longer than {} bytes", limits::NAME_BYTES_MAX)]
    IdempotencyKey,
    #[error("outputs can be compared only if nothing but the input goes into them: leave out --verify, or --grant {0}")]
    Verify(&'static str),
    #[error(
        "what it has with machines of which nothing is heard counts as lost after {}, which is outside {} to {}",
        exact_ms(*asked),
        exact(limits::LOST_AFTER_MIN),
        exact(limits::LOST_AFTER_MAX)
    )]
    LostAfter { asked: u64 },
    #[error("stopping after 0 failures would stop it before it began; give at least 1")]
    FailuresMax,
    #[error("with 0 tasks at once nothing of it would ever start; give at least 1")]
    AtOnce,
    #[error("it names {0} failures to fail fast on and {max} are allowed", max = limits::LABELS_MAX)]
    FailFastOn(usize),
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
    refuse_if(check_title(&spec.name).is_err(), Problem::NameMeansAnother);
    let name_ok = !spec.name.is_empty() && spec.name.len() <= limits::NAME_BYTES_MAX && !spec.name.contains(char::is_control);
    refuse_if(!name_ok, Problem::Name);
    let bytes = spec.args.iter().map(|arg| arg.len() + 1).sum::<usize>()
        + spec.env.iter().map(|(name, value)| name.len() + value.len() + 2).sum::<usize>();
    refuse_if(bytes > limits::ARGS_BYTES_MAX, Problem::Args { bytes });
    for (name, value) in &spec.env {
        let wrong = !is_name(name) || value.contains('\0') || name.starts_with("LULL_");
        refuse_if(wrong, Problem::Variable(name.clone()));
    }
    refuse_if(spec.constraints.len() > limits::LABELS_MAX, Problem::Constraints(spec.constraints.len()));
    refuse_if(spec.after.len() > limits::LABELS_MAX, Problem::Dependencies(spec.after.len()));
    refuse_if(spec.retry.retries > limits::RETRIES_MAX, Problem::Retries { retries: spec.retry.retries });
    refuse_if(spec.failures_max == Some(0), Problem::FailuresMax);
    let lost_after_ok = (limits::LOST_AFTER_MIN..=limits::LOST_AFTER_MAX).contains(&spec.lost_after());
    refuse_if(!lost_after_ok, Problem::LostAfter { asked: spec.lost_after_ms });
    refuse_if(spec.at_once == Some(0), Problem::AtOnce);
    refuse_if(spec.fail_fast_on.len() > limits::LABELS_MAX, Problem::FailFastOn(spec.fail_fast_on.len()));
    let grants = [(spec.grants.clock, "clock"), (spec.grants.random, "random"), (spec.grants.scratch, "scratch")];
    for (granted, name) in grants {
        refuse_if(granted && spec.verify != Share::NONE, Problem::Verify(name));
    }
    let key_ok = spec.idempotency_key.as_ref().is_none_or(|key| !key.is_empty() && key.len() <= limits::NAME_BYTES_MAX);
    refuse_if(!key_ok, Problem::IdempotencyKey);
    let bounded = [
        ("time limit (ms)", spec.limits.time_ms, limits::ATTEMPT_TIME_MAX.as_millis() as u64),
        ("memory limit", spec.limits.memory_bytes, limits::MEMORY_BYTES_MAX),
        ("output limit", spec.limits.output_bytes, limits::OUTPUT_BYTES_MAX),
        ("log limit", spec.limits.log_bytes, limits::LOG_BYTES_MAX),
        ("scratch limit", spec.limits.scratch_bytes, limits::SCRATCH_BYTES_MAX),
    ];
    for (what, asked, max) in bounded {
        refuse_if(asked == 0 || asked > max, Problem::Limit { what, asked, max });
    }
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
        assert!(check(&wrong).contains(&Problem::LostAfter { asked: 1_000 }));
        assert!(check(&wrong).contains(&Problem::Variable("LULL_JOB".into())));
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
