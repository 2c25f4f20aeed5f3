//! Who shares the store: the leader and those that stand by.

use std::time::Duration;

use axum::{Json, extract::State};

use crate::{
    api::{CoordinatorBody, Page, Post, shape},
    clock,
    http::{
        Shared,
        door::{auth::Viewer, error::Answer},
    },
    pin::Address,
    store::{
        Attendance,
        record::{CoordinatorRecord, LeaderRecord},
    },
};

/// One that has not said for this long that it is there is away: it says so every three seconds.
const AWAY: Duration = Duration::from_secs(15);

/// `GET /coordinators`
pub(crate) async fn show(State(state): Shared, _viewer: Viewer) -> Answer<Json<Page<CoordinatorBody>>> {
    let Json(mut list) = list(&*state.coordinator.store).await?;
    if let (Some(loss), Some(own)) = (&state.coordinator.loss, list.items.iter_mut().find(|one| one.post == Post::Leader)) {
        own.store_loss = Some(shape::store_loss(loss));
    }
    Ok(Json(list))
}

/// All of them, by peer.
pub(crate) async fn list(store: &dyn Attendance) -> Answer<Json<Page<CoordinatorBody>>> {
    let (leader, coordinators) = (store.leader().await?, store.coordinators().await?);
    Ok(Json(Page::whole(coordinators.into_iter().map(|record| body(record, &leader)).collect())))
}

fn body(record: CoordinatorRecord, leader: &LeaderRecord) -> CoordinatorBody {
    let leads = leader.holder.as_deref() == Some(record.holder().as_str());
    let post = match clock::now().since(record.seen) {
        _ if leads => Post::Leader,
        silent if silent > AWAY => Post::Away,
        _ => Post::Standby,
    };
    let address = Address::read(&record.http);
    CoordinatorBody {
        post,
        term: leads.then_some(leader.term.0),
        since: record.leads.filter(|_| leads).map(|at| at.to_jiff()),
        name: record.name,
        machine: record.machine,
        peer: record.peer,
        http: address.url,
        pin: address.pin,
        addresses: record.addresses,
        seen: record.seen.to_jiff(),
        store_loss: None,
    }
}
