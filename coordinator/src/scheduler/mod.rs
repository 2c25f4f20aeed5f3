//! CORE: which task runs where and when. Pure: events and the time go in, effects come out.

pub mod effect;
pub mod event;
pub mod view;
