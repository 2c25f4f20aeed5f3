//! What there is to do: functions and their versions, jobs, tasks, logs and the bytes that go in and out.

pub(crate) mod archive;
pub(in crate::http) mod blobs;
pub(crate) mod causes;
pub(crate) mod explained;
pub(crate) mod functions;
pub(crate) mod jobs;
pub(in crate::http) mod labels;
pub(crate) mod logs;
pub(in crate::http) mod publish;
pub(in crate::http) mod submission;
pub(crate) mod tasks;
pub(in crate::http) mod watch;
