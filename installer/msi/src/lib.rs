//! Finishes an installer that `wixl` has made of a WiX source: sets what `wixl` leaves out, and makes one file of one content.
//!
//! ```text
//! *.wxs + programs --wixl--> raw --finish--> finished
//!                                   codes     product and package, from version and content
//!                                   actions   kinds, what is hidden, the old version's removal within the transaction
//!                                   tables    conditions, secure and hidden properties, short names, versions of programs
//!                                   file      code page, times, no leftovers
//! ```
//! [`finish`] takes bytes and gives bytes. The names of the agent that stand in the sources are compared with the code by the
//! tests in `names`, on every system.

mod finish;
#[cfg(test)]
mod names;
pub mod sbom;
#[cfg(test)]
mod tests;
pub mod winget;

pub use self::finish::{FinishError, Wish, finish};
