//! Before a handler is called, and after it: who comes in, how long it may take, who asks, and what an answer says when it
//! is no.

pub(crate) mod auth;
pub(in crate::http) mod body;
pub(in crate::http) mod cookie;
pub(crate) mod error;
pub(crate) mod failures;
pub(in crate::http) mod front;
pub(in crate::http) mod guests;
pub(in crate::http) mod headers;
pub(in crate::http) mod hosts;
pub(crate) mod page;
pub(in crate::http) mod serve;
pub(in crate::http) mod sessions;
pub(crate) mod shares;
pub(in crate::http) mod spool;
pub(in crate::http) mod takes;
pub(in crate::http) mod tls;
