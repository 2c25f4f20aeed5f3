//! CORE: which task runs where and when. Pure: events and the time go in, effects come out.

pub mod effect;
pub mod event;
pub mod view;
use lull_shared::time::Timestamp;
pub struct Scheduler;
#[derive(Debug, Clone, Default)]
pub struct Limits;
impl Scheduler {
    pub fn restore(_s: event::Snapshot, _l: Limits, _seed: u64, _now: Timestamp) -> Self {
        Self
    }
    pub fn handle(&mut self, _e: event::Event, _now: Timestamp) {}
    pub fn handle_timeout(&mut self, _now: Timestamp) {}
    pub fn poll_timeout(&self) -> Option<Timestamp> {
        None
    }
    pub fn poll_effect(&mut self) -> Option<effect::Effect> {
        None
    }
}
