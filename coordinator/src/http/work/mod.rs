//! What there is to do: functions and their versions, jobs, tasks, logs and the bytes that go in and out.

pub(in crate::http) mod blobs;
pub(in crate::http) mod causes;
pub(in crate::http) mod explained;
pub(in crate::http) mod functions;
pub(in crate::http) mod jobs;
pub(in crate::http) mod logs;
pub(in crate::http) mod publish;
pub(in crate::http) mod submission;
pub(in crate::http) mod tasks;
pub(in crate::http) mod watch;
