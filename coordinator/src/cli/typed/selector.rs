//! Jobs and tasks as people name them: `j42` and `j42.7`, or `last` and `last.7` for the job that they submitted last.

use std::{fmt, str::FromStr};

use lull_shared::{
    id::{JobId, TaskId},
    job::DependencyCondition,
};

use crate::{
    api::AfterBody,
    cli::exit::{Exit, Failure},
    client::{Client, JobQuery},
};

const LAST: &str = "last";

/// A job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobName {
    /// The one that whoever asks submitted last.
    Last,
    Number(JobId),
}

/// A task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TaskName {
    job: JobName,
    index: u32,
    /// The attempt, where the task is named by one of its attempts, as tables print them.
    pub attempt: Option<u32>,
}

/// A job that must end first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AfterName {
    pub job: JobName,
    pub condition: DependencyCondition,
}

impl JobName {
    /// Its number; `last` is looked up.
    pub async fn find(self, client: &Client) -> Result<JobId, Failure> {
        match self {
            Self::Number(job) => Ok(job),
            Self::Last => {
                let query = JobQuery { mine: Some(true), limit: Some(1), ..JobQuery::default() };
                let newest = client.jobs(&query).await?.items.first().map(|job| job.job);
                newest.ok_or_else(|| {
                    Failure::new(Exit::NotFound, "you have not submitted a job here yet, so none is the last")
                        .hint("`lull job list` shows the jobs of others")
                })
            }
        }
    }
}

impl TaskName {
    /// Its job and its index.
    pub async fn find(self, client: &Client) -> Result<TaskId, Failure> {
        Ok(TaskId { job: self.job.find(client).await?, index: self.index })
    }
}

impl AfterName {
    /// The same with the job's number.
    pub async fn find(self, client: &Client) -> Result<AfterBody, Failure> {
        Ok(AfterBody { job: self.job.find(client).await?, condition: self.condition })
    }
}

impl FromStr for JobName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == LAST {
            return Ok(Self::Last);
        }
        text.parse().map(Self::Number).map_err(|_| {
            let text: String = text.chars().take(64).collect();
            format!("`{text}` does not name a job\nhint: write it like j42, or `last` for the one that you submitted last")
        })
    }
}

impl FromStr for TaskName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let no = || {
            let text: String = text.chars().take(64).collect();
            format!(
                "`{text}` does not name a task\nhint: write it like j42.7, or last.7 for task 7 of the job that you submitted last"
            )
        };
        if let Some((task, number)) = text.split_once('#') {
            let attempt = number.parse().ok().filter(|number| *number > 0).ok_or_else(no)?;
            return Ok(Self { attempt: Some(attempt), ..task.parse::<Self>().map_err(|_| no())? });
        }
        if let Some(index) = text.strip_prefix(LAST).and_then(|rest| rest.strip_prefix('.')) {
            let plain = index.bytes().all(|byte| byte.is_ascii_digit());
            let index = plain.then(|| index.parse().ok()).flatten().ok_or_else(no)?;
            return Ok(Self { job: JobName::Last, index, attempt: None });
        }
        let task: TaskId = text.parse().map_err(|_| no())?;
        Ok(Self { job: JobName::Number(task.job), index: task.index, attempt: None })
    }
}

impl FromStr for AfterName {
    type Err = String;

    /// `ok:JOB` or `any:JOB`; a job alone means `ok`.
    fn from_str(text: &str) -> Result<Self, String> {
        let (condition, job) = match text.split_once(':') {
            Some(("ok", job)) => (DependencyCondition::Ok, job),
            Some(("any", job)) => (DependencyCondition::Any, job),
            Some(_) => return Err(format!("`{text}` does not name a condition\nhint: write ok:JOB or any:JOB")),
            None => (DependencyCondition::Ok, text),
        };
        Ok(Self { job: job.parse()?, condition })
    }
}

impl fmt::Display for TaskName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.job, self.index)
    }
}

impl fmt::Display for JobName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Last => f.write_str(LAST),
            Self::Number(job) => job.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_stands_where_a_job_does() {
        assert_eq!("last".parse(), Ok(JobName::Last));
        assert_eq!("j42".parse(), Ok(JobName::Number(JobId(42))));
        assert_eq!("last.7".parse(), Ok(TaskName { job: JobName::Last, index: 7, attempt: None }));
        let seventh = TaskName { job: JobName::Number(JobId(42)), index: 7, attempt: None };
        assert_eq!("j42.7".parse(), Ok(seventh));
        assert_eq!("j42.7#2".parse(), Ok(TaskName { attempt: Some(2), ..seventh }), "as tables print attempts");
        assert_eq!("any:last".parse(), Ok(AfterName { job: JobName::Last, condition: DependencyCondition::Any }));
        for text in ["", "Last", "last.7", "j", "job-1"] {
            assert!(text.parse::<JobName>().is_err(), "{text}");
        }
        for text in ["last", "last.", "last.-1", "last.+1", "j42", "lastly.1", "j42.7#", "j42.7#0", "j42.7#x", "j42.7#1#2"] {
            assert!(text.parse::<TaskName>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_dependency_alone_must_succeed() {
        let condition = |text: &str| text.parse::<AfterName>().map(|after| after.condition);
        assert_eq!(condition("j3"), Ok(DependencyCondition::Ok));
        assert_eq!(condition("any:j3"), Ok(DependencyCondition::Any));
        assert!(condition("maybe:j3").is_err() && condition("ok:x").is_err());
    }
}
