//! Amounts as people type them: `10m`, `256MiB`, `KEY=VALUE`, `0-999`.

pub use lull_shared::amount::spoken;
use lull_shared::{
    amount::quoted,
    constraint::{Constraint, is_name},
    hint,
    hours::WeekMinute,
    job::FailureClass,
    name::{check_job, check_name, check_pattern, check_person, check_text},
    numbers::Numbers,
    policy::{Changes, PolicyError},
    window::Window,
    zone::Zone,
};

use crate::submit::VARIABLE_HINT;

/// `KEY=VALUE`.
pub fn variable(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, _)) if !is_name(key) || key.starts_with("LULL_") => {
            Err(format!("{} cannot be the name of a variable\nhint: {VARIABLE_HINT}", quoted(key)))
        }
        Some((key, value)) => Ok((key.to_owned(), value.to_owned())),
        None => Err(format!("{} is not a variable\nhint: write KEY=VALUE", quoted(text))),
    }
}

/// The order among one submitter's jobs.
pub fn priority(text: &str) -> Result<i8, String> {
    text.parse().map_err(|_| format!("{} is not a priority\nhint: write a whole number from -128 to 127, like 10", quoted(text)))
}

/// What people call a job.
pub fn job_name(text: &str) -> Result<String, String> {
    check_job(text).map(|()| text.to_owned()).map_err(|why| why.told(text, "the name of a job"))
}

/// What a submission is known by when it comes again.
pub fn key(text: &str) -> Result<String, String> {
    check_text(text).map(|()| text.to_owned()).map_err(|why| why.told(text, "an idempotency key"))
}

/// The address of something that answers over HTTP.
pub fn url(text: &str) -> Result<String, String> {
    crate::client::check_url(text).map(|()| text.to_owned())
}

/// What a profile is called.
pub fn profile(text: &str) -> Result<String, String> {
    crate::cli::reach::profiles::check_name(text).map(|()| text.to_owned())
}

/// The pin of a key.
pub fn pin(text: &str) -> Result<crate::pin::Pin, String> {
    text.parse().map_err(|wrong: crate::pin::NoPin| wrong.to_string())
}

/// A path below which something is, without a slash at its end.
pub fn base(text: &str) -> Result<String, String> {
    let path = text.trim_end_matches('/');
    let is_part = |part: &str| {
        !part.is_empty()
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte))
            && !part.starts_with('.')
    };
    match path.strip_prefix('/') {
        None if text.starts_with('/') => Ok(String::new()),
        Some(parts) if parts.split('/').all(is_part) => Ok(path.to_owned()),
        Some(_) | None => Err(hint::with(&format!("{} is not the path of an address", quoted(text)), "write it like /lull")),
    }
}

/// What a coordinator remembers in, as it was typed: `sqlite:DIR`, or an ADO connection string, of which nothing is repeated.
pub fn store(text: &str) -> Result<String, String> {
    const FORMS: &str = "leave it out for an embedded database in the data folder, or write sqlite:DIR, or for an SQL Server \
                         \"Server=tcp:HOST,1433;Database=NAME;User Id=LOGIN;Password=SECRET\"";
    let scheme = text.split_once("://").map(|(scheme, _)| scheme).filter(|scheme| is_name(scheme));
    match (text.strip_prefix("sqlite:"), scheme) {
        (Some(folder), _) if folder.trim().is_empty() => Err(hint::with("`sqlite:` names no folder", FORMS)),
        (Some(_), _) => Ok(text.to_owned()),
        (None, Some(scheme)) => {
            Err(hint::with(&format!("{} does not name a store that a coordinator has", quoted(&format!("{scheme}://"))), FORMS))
        }
        (None, None) if text.contains('=') => Ok(text.to_owned()),
        (None, None) => Err(hint::with("this does not name a store", FORMS)),
    }
}

/// A condition on labels, as it was typed.
pub fn condition(text: &str) -> Result<String, String> {
    text.parse::<Constraint>().map(|_| text.to_owned()).map_err(|error| error.to_string())
}

/// The key of a setting of the policy.
pub fn setting(text: &str) -> Result<String, String> {
    match Changes::default().without(text) {
        Some(_) => Ok(text.to_owned()),
        None => Err(PolicyError::Key(text.to_owned()).to_string()),
    }
}

/// A minute of the week, as it was typed.
pub fn week_moment(text: &str) -> Result<String, String> {
    text.parse::<WeekMinute>().map(|_| text.to_owned()).map_err(|error| error.to_string())
}

/// The name of a function.
pub fn function_name(text: &str) -> Result<String, String> {
    check_name(text).map(|()| text.to_owned()).map_err(|why| why.told(text, "the name of a function"))
}

/// The name of a group of machines.
pub fn group_name(text: &str) -> Result<String, String> {
    check_name(text).map(|()| text.to_owned()).map_err(|why| why.told(text, "the name of a group"))
}

/// The name of machines, in which a `*` stands for any letters.
pub fn machines(text: &str) -> Result<String, String> {
    check_pattern(text).map(|()| text.to_owned()).map_err(|why| why.told(text, "the name or pattern of machines"))
}

/// The name of a person or program.
pub fn person(text: &str) -> Result<String, String> {
    check_person(text).map(|()| text.to_owned()).map_err(|why| why.told(text, "the name of a token"))
}

/// What is looked for by its name: whoever wrote nothing did not mean everything.
pub fn some(text: &str) -> Result<String, String> {
    if text.trim().is_empty() {
        Err("an empty text names nothing\nhint: write a name, or leave this out".into())
    } else {
        Ok(text.to_owned())
    }
}

/// `0-999`, `0-10:2`, `1,3,5`, or any of these together.
pub fn array(text: &str) -> Result<Numbers, String> {
    text.parse().map_err(|error: lull_shared::numbers::ParseNumbersError| error.to_string())
}

/// A window, as it was typed: what it means without a zone is up to whoever submits.
pub fn window(text: &str) -> Result<String, String> {
    text.parse::<Window>().map(|_| text.to_owned()).map_err(|error| error.to_string())
}

/// `trap`, `exit=2`.
pub fn failure(text: &str) -> Result<FailureClass, String> {
    text.parse().map_err(|error: lull_shared::job::NoFailureClass| error.to_string())
}

/// The time zone of this account, that of the machine or what TZ names, if it has a name that others know it by.
pub fn own_zone() -> Option<Zone> {
    Zone::named(jiff::tz::TimeZone::system())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_array_includes_both_ends() {
        let range = |text: &str| array(text).map(|numbers| numbers.as_range());
        assert_eq!(range("0-999"), Ok(Some((0, 1_000))));
        assert_eq!(range("7"), Ok(Some((7, 1))));
        assert_eq!(array("0-10:2,20").map(|numbers| numbers.count()), Ok(7));
        for text in ["", "a-b", "9-3", "-5", "0-99999999999", "0-100000000"] {
            assert!(array(text).is_err(), "{text}");
        }
    }

    #[test]
    fn variables_and_sizes_are_refused_with_the_form_that_works() {
        assert_eq!(variable("A=b=c"), Ok(("A".into(), "b=c".into())));
        assert!(variable("A").is_err() && variable("=b").is_err());
        assert!(variable("LULL_JOB=1").is_err_and(|words| words.contains("\nhint: ")) && variable("a b=1").is_err());
    }

    #[test]
    fn a_store_is_one_that_there_is() {
        for text in ["sqlite:/srv/lull", "Server=tcp:db,1433;Database=lull", "Server=tcp:db;Password=a://b"] {
            assert_eq!(store(text).as_deref(), Ok(text));
        }
        let refused = store("postgres://me:secret@db/lull").expect_err("another database");
        assert!(refused.starts_with("`postgres://` does not name a store"), "{refused}");
        for text in ["", "sqlite:", "lull.db", "postgres://me:secret@db/lull", "mysql://x?a=b"] {
            let refused = store(text).expect_err(text);
            assert!(
                refused.contains("\nhint: leave it out for an embedded database") && !refused.contains("secret"),
                "{refused}"
            );
        }
    }

    #[test]
    fn a_name_or_a_key_of_nothing_is_refused() {
        for read in [job_name, key, function_name, group_name, person, some] {
            assert!(read("").is_err_and(|words| words.contains("\nhint: ")));
        }
        assert_eq!(
            (job_name("all of it").is_ok(), job_name("j42").is_ok(), function_name("all of it").is_ok()),
            (true, false, false)
        );
        assert_eq!((priority("-3"), priority("300").is_err()), (Ok(-3), true));
    }
}
