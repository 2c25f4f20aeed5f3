//! From a module to what an engine loads: `engine` is set up once for all, `inspect` says whether any agent can run a module,
//! `compile` works on it in a process of its own, `artifact` keeps what came of that, and `naming` and `probe` are
//! processes that say which engine this is and whether it works.

pub mod artifact;
pub mod compile;
pub mod engine;
pub mod inspect;
pub mod naming;
pub(in crate::executor) mod preview1;
pub mod probe;
