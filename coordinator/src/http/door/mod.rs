//! Before a handler is called, and after it: who comes in, how long it may take, who asks, and what an answer says when it
//! is no.

pub(in crate::http) mod auth;
pub(in crate::http) mod body;
pub(in crate::http) mod cookie;
pub(in crate::http) mod error;
pub(in crate::http) mod failures;
pub(in crate::http) mod front;
pub(in crate::http) mod guests;
pub(in crate::http) mod hosts;
pub(in crate::http) mod page;
pub(in crate::http) mod serve;
pub(in crate::http) mod sessions;
pub(in crate::http) mod shares;
pub(in crate::http) mod spool;
pub(in crate::http) mod takes;
