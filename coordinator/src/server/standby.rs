//! SHELL: waits until this coordinator leads.

use std::{sync::Arc, time::Duration};

use anyhow::bail;
use lull_shared::id::Term;
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

use super::{
    LEADER_LEASE, RENEWAL,
    lease_watch::{Claim, LeaseWatch},
    phase::{self, LeaderView, Phase},
    presence::Presence,
};
use crate::{
    clock,
    dispatch::Lease,
    store::{Lead, Store, StoreError, Takeover, record::LeaderRecord},
};

/// Between two looks at the lease: what a handover takes beyond the lease. One read of one row.
const LOOK: Duration = Duration::from_millis(500);
/// Whoever has not renewed for this long missed a renewal: a renewal, and a look before and after it.
const DOUBT: Duration = Duration::from_millis(RENEWAL.as_millis() as u64 + 2 * LOOK.as_millis() as u64);

/// A standby.
pub struct Standby {
    pub store: Arc<dyn Store>,
    pub presence: Arc<Presence>,
    pub phases: Arc<watch::Sender<Phase>>,
}

impl Standby {
    /// Waits for its turn; `None` when it was told to stop before. `fenced` is the term that this process led in
    /// before another took over.
    pub async fn stand_by(&self, fenced: Option<Term>, shutdown: &CancellationToken) -> anyhow::Result<Option<(Lead, Lease)>> {
        let own = self.presence.holder();
        let mut watch = LeaseWatch::new(own.clone(), LEADER_LEASE);
        let began = Instant::now();
        loop {
            match self.store.leader().await {
                Ok(leader) => {
                    if leader.holder.as_ref() == Some(&own) && fenced.is_some_and(|term| leader.term > term) {
                        bail!(
                            "another process with this coordinator's identity has taken over\nhint: never copy a data folder; \
                             `lull server export` and `lull server import` set up a second coordinator"
                        );
                    }
                    if let Some(ours) = self.claim(&mut watch, &leader, began.elapsed()).await {
                        return Ok(Some(ours));
                    }
                }
                Err(error) => {
                    watch.blinked();
                    tracing::warn!(%error, "cannot see who leads; trying again");
                    phase::publish(&self.phases, LeaderView { leader: None, in_doubt: true });
                }
            }
            tokio::select! {
                () = sleep(LOOK) => {}
                () = shutdown.cancelled() => return Ok(None),
            }
        }
    }

    async fn claim(&self, watch: &mut LeaseWatch, leader: &LeaderRecord, now: Duration) -> Option<(Lead, Lease)> {
        let as_of = match watch.look(leader, now) {
            Claim::Vacant => clock::now(),
            Claim::Lapsed { until } => until,
            Claim::Held { quiet } => {
                let leader = leader.holder.as_deref().and_then(|holder| self.presence.elsewhere(holder));
                let in_doubt = quiet > DOUBT || leader.is_none();
                phase::publish(&self.phases, LeaderView { leader, in_doubt });
                return None;
            }
        };
        let lease = Lease::begin(LEADER_LEASE);
        match self.store.take_over(&self.presence.holder(), LEADER_LEASE, as_of).await {
            Ok(Takeover::Ours(lead)) => return Some((lead, lease)),
            // It was renewed at the last moment, or a third one was faster.
            Ok(Takeover::Theirs { holder, .. }) => tracing::debug!(holder, "another was faster"),
            Err(StoreError::Fenced(_)) => {}
            Err(error) => {
                watch.blinked();
                tracing::warn!(%error, "cannot take over; trying again");
            }
        }
        None
    }
}
