//! Who leads, who stands by, and what every write shows first.

use std::time::Duration;

use async_trait::async_trait;
use lull_shared::{id::Term, time::Timestamp};
use rusqlite::{OptionalExtension as _, Transaction, params};

use super::{
    super::{
        Attendance, Lead, Leadership, StoreResult, Takeover,
        bounds::{self, number},
        cells::json,
        lead::{Counts, LeaderRow, Shown},
        record::*,
        rows,
        turn::Broken,
    },
    Embedded,
    error::Fail,
    reader::{all, first},
    turn::insert_audit,
};

/// Counts a write, or says why it is not let through. The transaction holds the lock for writing, so what is found holds
/// until the commit.
pub(super) fn fence(tx: &Transaction<'_>, shown: &Shown) -> Result<Counts, Fail> {
    let mut count = tx.prepare_cached(
        "UPDATE leader SET writes = writes + 1, turns = turns + (?4 IS NOT NULL)
         WHERE term = ?1 AND holder = ?2 AND writes >= ?3 AND turns = coalesce(?4, turns)
         RETURNING writes, turns",
    )?;
    let values = params![number(shown.term.0), &*shown.holder, number(shown.writes), shown.turns.map(number)];
    let counted = count.query_row(values, |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?))).optional()?;
    match counted {
        Some((writes, turns)) => Ok(Counts { writes: writes as u64, turns: turns as u64 }),
        None => match leader_row(tx)?.refusal(shown) {
            Some(refusal) => Err(refusal.into()),
            None => Err(Broken("the leader's row neither lets a write through nor refuses it".into()).into()),
        },
    }
}

/// The leader's row.
pub(super) fn leader_row(tx: &Transaction<'_>) -> Result<LeaderRow, Fail> {
    let found = first(tx, "SELECT term, holder, lease_end_us, writes, turns FROM leader", [], rows::leader_row)?;
    found.ok_or_else(|| Broken("the row of the leader is not there".into()).into())
}

/// Begins a new term if nobody else's lease is running.
pub(super) fn take_over(tx: &Transaction<'_>, holder: &str, length: Duration, now: Timestamp) -> Result<Takeover, Fail> {
    let LeaderRow { leader, counts } = leader_row(tx)?;
    let holder = bounds::name(holder);
    if let Some(other) = leader.holder.filter(|other| *other != holder && leader.until > now) {
        return Ok(Takeover::Theirs { holder: other, until: leader.until });
    }
    let lead = Lead::with_counts(Term(leader.term.0 + 1), &holder, Counts { writes: counts.writes + 1, ..counts });
    tx.execute(
        "UPDATE leader SET term = ?1, holder = ?2, lease_end_us = ?3, writes = writes + 1",
        params![number(lead.term.0), holder, (now + length).0],
    )?;
    Ok(Takeover::Ours(lead))
}

/// Prolongs the lease.
pub(super) fn renew(tx: &Transaction<'_>, lease: Duration, now: Timestamp) -> Result<(), Fail> {
    tx.execute("UPDATE leader SET lease_end_us = ?1", [(now + lease).0])?;
    Ok(())
}

/// Ends the term; nothing more can be written in it.
pub(super) fn step_down(tx: &Transaction<'_>) -> Result<(), Fail> {
    tx.execute("UPDATE leader SET holder = NULL, lease_end_us = 0", [])?;
    Ok(())
}

/// Ends the term; the next one is above a given term.
pub(super) fn raise(tx: &Transaction<'_>, rise: &Rise) -> Result<(), Fail> {
    let sql = "UPDATE leader SET holder = NULL, lease_end_us = 0, term = max(term, ?1), last_job = max(last_job, ?2)";
    tx.execute(sql, [number(rise.above.0), number(rise.last_job)])?;
    insert_audit(tx, &rise.audit())
}

/// Notes that a coordinator is there.
pub(super) fn check_in(tx: &Transaction<'_>, own: &CoordinatorRecord, forget: Timestamp) -> Result<(), Fail> {
    tx.prepare_cached(
        "INSERT INTO coordinators (peer, name, machine, network, http, addresses, leads_us, seen_us)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
         ON CONFLICT (peer) DO UPDATE SET name = excluded.name, machine = excluded.machine, network = excluded.network,
             http = excluded.http, addresses = excluded.addresses, leads_us = excluded.leads_us, seen_us = excluded.seen_us",
    )?
    .execute(params![
        own.peer,
        own.name,
        own.machine,
        own.network,
        own.http,
        json(&own.addresses),
        own.leads.map(|at| at.0),
        own.seen.0
    ])?;
    tx.execute("DELETE FROM coordinators WHERE seen_us < ?1", [forget.0])?;
    Ok(())
}

/// The network whose store this is.
pub(super) fn network(tx: &Transaction<'_>) -> Result<Option<NetworkRecord>, Fail> {
    first(tx, "SELECT network, authority FROM network", [], rows::network_record)
}

/// Makes the store a network's, if it has none or is to be named anew.
pub(super) fn name_network(tx: &Transaction<'_>, own: &NetworkRecord, anew: bool) -> Result<NetworkRecord, Fail> {
    if anew {
        tx.execute("DELETE FROM network", [])?;
    }
    tx.execute(
        "INSERT INTO network (network_id, network, authority) VALUES (1, ?1, ?2) ON CONFLICT DO NOTHING",
        params![own.network, own.authority],
    )?;
    network(tx)?.ok_or_else(|| Broken("the row of the network is not there".into()).into())
}

#[async_trait]
impl Attendance for Embedded {
    async fn leader(&self) -> StoreResult<LeaderRecord> {
        self.read(|tx| Ok(leader_row(tx)?.leader)).await
    }

    async fn check_in(&self, own: &CoordinatorRecord, forget: Timestamp) -> StoreResult<()> {
        let own = bounds::coordinator(own);
        self.write(move |tx| check_in(tx, &own, forget)).await
    }

    async fn coordinators(&self) -> StoreResult<Vec<CoordinatorRecord>> {
        self.read(|tx| all(tx, "SELECT * FROM coordinators ORDER BY peer", [], rows::coordinator_record)).await
    }
}

#[async_trait]
impl Leadership for Embedded {
    async fn take_over(&self, holder: &str, lease: Duration, now: Timestamp) -> StoreResult<Takeover> {
        let holder = holder.to_owned();
        self.write(move |tx| take_over(tx, &holder, lease, now)).await
    }

    async fn renew(&self, lead: &Lead, length: Duration, now: Timestamp) -> StoreResult<()> {
        self.fenced(lead, move |tx| renew(tx, length, now)).await
    }

    async fn step_down(&self, lead: &Lead) -> StoreResult<()> {
        self.fenced(lead, step_down).await
    }

    async fn raise(&self, lead: &Lead, rise: &Rise) -> StoreResult<()> {
        let rise = rise.clone();
        self.fenced(lead, move |tx| raise(tx, &rise)).await
    }

    async fn network(&self) -> StoreResult<Option<NetworkRecord>> {
        self.read(network).await
    }

    async fn name_network(&self, network: &NetworkRecord, anew: bool) -> StoreResult<NetworkRecord> {
        let network = network.clone();
        self.write(move |tx| name_network(tx, &network, anew)).await
    }
}
