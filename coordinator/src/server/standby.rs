//! SHELL: waits until this coordinator reigns.

use std::{sync::Arc, time::Duration};

use anyhow::bail;
use lull_shared::id::Epoch;
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

use super::{
    REIGN_LEASE, RENEWAL,
    attendance::Attendance,
    phase::{self, Phase, Standing},
    vigil::{Claim, Vigil},
};
use crate::{
    clock,
    dispatch::Lease,
    store::{Reign, Store, StoreError, record::ReignRecord},
};

/// Between two looks at the reign: what a handover takes beyond the lease. One read of one row.
const LOOK: Duration = Duration::from_millis(500);
/// Whoever has not renewed for this long missed a renewal: a renewal, and a look before and after it.
const DOUBT: Duration = Duration::from_millis(RENEWAL.as_millis() as u64 + 2 * LOOK.as_millis() as u64);

/// One that would reign.
pub struct Candidate {
    pub store: Arc<dyn Store>,
    pub attendance: Arc<Attendance>,
    pub phases: Arc<watch::Sender<Phase>>,
}

impl Candidate {
    /// Waits for its turn; `None` when it was told to stop before. `fenced` is the epoch that this process reigned in
    /// before another took over.
    pub async fn stand_by(&self, fenced: Option<Epoch>, shutdown: &CancellationToken) -> anyhow::Result<Option<(Epoch, Lease)>> {
        let own = self.attendance.holder();
        let mut vigil = Vigil::new(own.clone(), REIGN_LEASE);
        let began = Instant::now();
        loop {
            match self.store.reign().await {
                Ok(reign) => {
                    if reign.holder.as_ref() == Some(&own) && fenced.is_some_and(|epoch| reign.epoch > epoch) {
                        bail!(
                            "another process with this coordinator's identity has taken over\nhint: never copy a data folder; \
                             `lull server export` and `lull server import` set up a second coordinator"
                        );
                    }
                    if let Some(ours) = self.claim(&mut vigil, &reign, began.elapsed()).await {
                        return Ok(Some(ours));
                    }
                }
                Err(error) => {
                    vigil.blinked();
                    tracing::warn!(%error, "cannot see who reigns; trying again");
                    phase::publish(&self.phases, Standing { reigning: None, in_doubt: true });
                }
            }
            tokio::select! {
                () = sleep(LOOK) => {}
                () = shutdown.cancelled() => return Ok(None),
            }
        }
    }

    async fn claim(&self, vigil: &mut Vigil, reign: &ReignRecord, now: Duration) -> Option<(Epoch, Lease)> {
        let as_of = match vigil.look(reign, now) {
            Claim::Vacant => clock::now(),
            Claim::Lapsed { until } => until,
            Claim::Held { quiet } => {
                let reigning = reign.holder.as_deref().and_then(|holder| self.attendance.elsewhere(holder));
                let in_doubt = quiet > DOUBT || reigning.is_none();
                phase::publish(&self.phases, Standing { reigning, in_doubt });
                return None;
            }
        };
        let lease = Lease::begin(REIGN_LEASE);
        match self.store.take_over(&self.attendance.holder(), REIGN_LEASE, as_of).await {
            Ok(Reign::Ours { epoch }) => return Some((epoch, lease)),
            // It was renewed at the last moment, or a third one was faster.
            Ok(Reign::Theirs { holder, .. }) => tracing::debug!(holder, "another was faster"),
            Err(StoreError::Fenced) => {}
            Err(error) => {
                vigil.blinked();
                tracing::warn!(%error, "cannot take over; trying again");
            }
        }
        None
    }
}
