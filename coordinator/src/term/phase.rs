//! What a coordinator's process is at the moment: it leads, or it stands by while another does.

use std::sync::Arc;

use tokio::sync::watch;

use super::Coordinator;
use crate::presence::Elsewhere;

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agents_are_sent_on_only_while_somebody_is_known_to_lead_and_only_news_are_told() {
        let (phases, mut told) = watch::channel(Phase::Starting);
        assert!(!phases.borrow().sends_on());
        let view = |name: Option<&str>, in_doubt| {
            let elsewhere = |name: &str| Elsewhere { name: name.into(), machine: "m".into(), url: None, addresses: Vec::new() };
            LeaderView { leader: name.map(elsewhere), in_doubt }
        };
        for (view, is_news, sends_on) in [
            (view(None, true), true, false),
            (view(None, true), false, false),
            (view(Some("north"), true), true, false),
            (view(Some("north"), false), true, true),
            (view(Some("north"), false), false, true),
            (view(Some("south"), false), true, true),
        ] {
            publish(&phases, view.clone());
            assert_eq!(told.has_changed().expect("it is open"), is_news, "{view:?}");
            let phase = told.borrow_and_update();
            assert!(matches!(&*phase, Phase::Standby(known) if **known == view), "{view:?}");
            assert_eq!(phase.sends_on(), sends_on, "{view:?}");
            assert!(phase.leader().is_none());
        }
    }
}
