//! What a coordinator's process is at the moment: it leads, or it stands by while another does.

use std::sync::Arc;

use tokio::sync::watch;

use super::Coordinator;

/// Told to whoever answers agents and people.
#[derive(Clone)]
pub enum Phase {
    /// It has not looked into its store yet.
    Starting,
    Standby(Arc<LeaderView>),
    Leading(Leading),
}

/// A term with its HTTP interface.
#[derive(Clone)]
pub struct Leading {
    pub coordinator: Arc<Coordinator>,
    pub routes: axum::Router,
}

/// What a standby knows of the leader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaderView {
    /// None while the store does not answer, or names nobody.
    pub leader: Option<Elsewhere>,
    /// The leader has missed a renewal, or nothing is known of it: this one may lead soon.
    pub in_doubt: bool,
}

/// Another coordinator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Elsewhere {
    pub name: String,
    pub machine: String,
    /// Its HTTP interface, if it can be reached from this machine.
    pub url: Option<String>,
    /// Where agents reach it.
    pub addresses: Vec<String>,
}

impl Phase {
    /// The term, if there is one.
    pub fn leader(&self) -> Option<&Leading> {
        match self {
            Self::Leading(leader) => Some(leader),
            Self::Starting | Self::Standby(_) => None,
        }
    }

    /// Whether agents are sent on at once: there is somebody who does lead.
    pub fn sends_on(&self) -> bool {
        matches!(self, Self::Standby(view) if !view.in_doubt)
    }
}

/// Says what one that stands by knows, if that is news.
pub fn publish(phases: &watch::Sender<Phase>, view: LeaderView) {
    phases.send_if_modified(|phase| {
        if matches!(phase, Phase::Standby(known) if **known == view) {
            return false;
        }
        *phase = Phase::Standby(Arc::new(view));
        true
    });
}
