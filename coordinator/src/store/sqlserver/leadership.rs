//! Who leads, and who stands by.

use std::time::Duration;

use async_trait::async_trait;
use lull_shared::time::Timestamp;
use serde_json::json;

use super::{
    super::{
        Attendance, Lead, Leadership, StoreResult, Takeover,
        bounds::{self, number},
        lead::LeaderRow,
        record::*,
        rows::{self, Damaged},
    },
    SqlServer,
    jobs::{all, first},
    registry::{line_values, settled},
    statements,
};

#[async_trait]
impl Attendance for SqlServer {
    async fn leader(&self) -> StoreResult<LeaderRecord> {
        let found = first(&self.session.read(statements::LEADER, &[]).await?, 0, rows::leader_row)?;
        Ok(found.ok_or_else(|| Damaged::new("leader", "no row"))?.leader)
    }

    async fn check_in(&self, own: &CoordinatorRecord, forget: Timestamp) -> StoreResult<()> {
        let own = bounds::coordinator(own);
        let values = [
            own.peer.as_str().into(),
            own.name.as_str().into(),
            own.machine.as_str().into(),
            own.network.as_str().into(),
            own.http.as_str().into(),
            json!(own.addresses).to_string().into(),
            own.leads.map(|at| at.0).into(),
            own.seen.0.into(),
            forget.0.into(),
        ];
        Ok(self.session.write(statements::CHECK_IN, &values).await.map(drop)?)
    }

    async fn coordinators(&self) -> StoreResult<Vec<CoordinatorRecord>> {
        Ok(all(&self.session.read(statements::COORDINATORS, &[]).await?, 0, rows::coordinator_record)?)
    }
}

#[async_trait]
impl Leadership for SqlServer {
    async fn take_over(&self, holder: &str, length: Duration, now: Timestamp) -> StoreResult<Takeover> {
        let values = [bounds::name(holder).into(), now.0.into(), (now + length).0.into()];
        let answer = self.session.write(statements::TAKE_OVER, &values).await?;
        let found = first(&answer, 0, |row| Ok((rows::int(row, "ours")?, rows::leader_row(row)?)))?;
        let (ours, LeaderRow { leader, counts }) = found.ok_or_else(|| Damaged::new("leader", "no row"))?;
        let holder = leader.holder.unwrap_or_default();
        Ok(match ours {
            1 => Takeover::Ours(Lead::with_counts(leader.term, &holder, counts)),
            _ => Takeover::Theirs { holder, until: leader.until },
        })
    }

    async fn renew(&self, lead: &Lead, length: Duration, now: Timestamp) -> StoreResult<()> {
        Ok(settled(&self.session, lead, statements::RENEW, vec![(now + length).0.into()]).await.map(drop)?)
    }

    async fn step_down(&self, lead: &Lead) -> StoreResult<()> {
        Ok(settled(&self.session, lead, statements::STEP_DOWN, Vec::new()).await.map(drop)?)
    }

    async fn raise(&self, lead: &Lead, rise: &Rise) -> StoreResult<()> {
        let mut values = vec![number(rise.above.0).into(), number(rise.last_job).into()];
        values.extend(line_values(&rise.audit()));
        Ok(settled(&self.session, lead, statements::RAISE, values).await.map(drop)?)
    }

    async fn network(&self) -> StoreResult<Option<NetworkRecord>> {
        Ok(first(&self.session.read(statements::NETWORK, &[]).await?, 0, rows::network_record)?)
    }

    async fn name_network(&self, network: &NetworkRecord, anew: bool) -> StoreResult<NetworkRecord> {
        let values = [network.network.as_str().into(), network.authority.as_str().into(), i64::from(anew).into()];
        let found = first(&self.session.write(statements::NAME_NETWORK, &values).await?, 0, rows::network_record)?;
        Ok(found.ok_or_else(|| Damaged::new("network", "no row"))?)
    }
}
