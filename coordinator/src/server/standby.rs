//! SHELL: waits until this coordinator leads.

use std::{sync::Arc, time::Duration};

use anyhow::bail;
use lull_shared::id::Term;
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

use super::lease_watch::{Claim, LeaseWatch};
use crate::{
    clock,
    dispatch::{Lease, LeaseTimes},
    presence::Presence,
    store::{Lead, Leadership, StoreError, Takeover, record::LeaderRecord},
    term::phase::{self, LeaderView, Phase},
};

/// Between two looks at the lease: what a handover takes beyond the lease. One read of one row.
const LOOK: Duration = Duration::from_millis(500);

/// A standby.
pub(super) struct Standby {
    pub store: Arc<dyn Leadership>,
    pub presence: Arc<Presence>,
    pub phases: Arc<watch::Sender<Phase>>,
    pub lease: LeaseTimes,
}

impl Standby {
    /// Waits for its turn; `None` when it was told to stop before. `fenced` is the term that this process led in
    /// before another took over.
    pub(super) async fn stand_by(
        &self,
        fenced: Option<Term>,
        shutdown: &CancellationToken,
    ) -> anyhow::Result<Option<(Lead, Lease)>> {
        let own = self.presence.holder();
        let mut watch = LeaseWatch::new(own.clone(), self.lease.length);
        let began = Instant::now();
        // A takeover of which the store did not say whether it happened: the newer term may be this process's own.
        let mut in_doubt = false;
        loop {
            let asked = began.elapsed();
            match self.store.leader().await {
                Ok(leader) => {
                    let newer = fenced.is_some_and(|term| leader.term > term);
                    if leader.holder.as_ref() == Some(&own) && newer && !in_doubt {
                        bail!(
                            "another process with this coordinator's identity has taken over\nhint: never copy a data folder; \
                             `lull server export` and `lull server import` set up a second coordinator"
                        );
                    }
                    match self.claim(&mut watch, &leader, asked, began.elapsed()).await {
                        Claimed::Ours(lead, lease) => return Ok(Some((lead, lease))),
                        Claimed::Theirs => {}
                        Claimed::InDoubt => in_doubt = true,
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

    async fn claim(&self, watch: &mut LeaseWatch, leader: &LeaderRecord, asked: Duration, answered: Duration) -> Claimed {
        let as_of = match watch.look(leader, asked, answered) {
            Claim::Vacant => clock::now(),
            Claim::Lapsed { until } => until,
            Claim::Held { quiet } => {
                let leader = leader.holder.as_deref().and_then(|holder| self.presence.elsewhere(holder));
                let in_doubt = quiet > self.missed() || leader.is_none();
                phase::publish(&self.phases, LeaderView { leader, in_doubt });
                return Claimed::Theirs;
            }
        };
        let lease = Lease::begin(self.lease);
        match self.store.take_over(&self.presence.holder(), self.lease.length, as_of).await {
            Ok(Takeover::Ours(lead)) => return Claimed::Ours(lead, lease),
            // It was renewed at the last moment, or a third one was faster.
            Ok(Takeover::Theirs { holder, .. }) => tracing::debug!(holder, "another was faster"),
            Err(StoreError::Fenced(_)) => {}
            Err(error) => {
                watch.blinked();
                tracing::warn!(%error, "cannot take over; trying again");
                return Claimed::InDoubt;
            }
        }
        Claimed::Theirs
    }

    /// Whoever has not renewed for this long missed a renewal: a renewal, and a look before and after it.
    fn missed(&self) -> Duration {
        self.lease.renewal + 2 * LOOK
    }
}

/// What came of a look at the lease.
enum Claimed {
    Ours(Lead, Lease),
    Theirs,
    /// The store did not say whether it did it.
    InDoubt,
}
