//! Events in, effects out, with an audit after each turn.

mod simple;
