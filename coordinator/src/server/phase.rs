//! What a coordinator's process is at the moment: it reigns, or it stands by while another does.

use std::sync::Arc;

use tokio::sync::watch;

use super::Coordinator;

/// Told to whoever answers agents and people.
#[derive(Clone)]
pub enum Phase {
    /// It has not looked into its store yet.
    Starting,
    StandingBy(Arc<Standing>),
    Reigning(Reigning),
}

/// A reign with its HTTP interface.
#[derive(Clone)]
pub struct Reigning {
    pub coordinator: Arc<Coordinator>,
    pub routes: axum::Router,
}

/// What one that stands by knows of the one that reigns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// None while the store does not answer, or names nobody.
    pub reigning: Option<Elsewhere>,
    /// The one that reigns has missed a renewal, or nothing is known of it: this one may reign soon.
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
    /// The reign, if there is one.
    pub fn reigning(&self) -> Option<&Reigning> {
        match self {
            Self::Reigning(reigning) => Some(reigning),
            Self::Starting | Self::StandingBy(_) => None,
        }
    }

    /// Whether agents are sent on at once: there is somebody who does reign.
    pub fn sends_on(&self) -> bool {
        matches!(self, Self::StandingBy(standing) if !standing.in_doubt)
    }
}

/// Says what one that stands by knows, if that is news.
pub fn publish(phases: &watch::Sender<Phase>, standing: Standing) {
    phases.send_if_modified(|phase| {
        if matches!(phase, Phase::StandingBy(known) if **known == standing) {
            return false;
        }
        *phase = Phase::StandingBy(Arc::new(standing));
        true
    });
}
