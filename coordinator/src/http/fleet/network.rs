//! The mesh as the coordinator sees it, and what may be wrong with it.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use axum::{Json, extract::State};
use lull_engine::executor::engine::Platform;
use lull_mesh::{PeerInfo, apart};
use lull_scheduler::{event::QuarantineKind, view::AgentView};
use lull_shared::{
    amount::spoken,
    id::AgentId,
    identity::Role,
    state::{Intake, Part, PauseReason, Trouble},
};

use crate::{
    api::{AgentTraffic, BlobTraffic, CLONED_HINT, Finding, Page, PeerBody, Verdict},
    fleet::tracker::{AgentHoldings, BlobHoldings},
    http::{
        Interface, Shared,
        door::{auth::Viewer, error::Answer},
    },
};

/// Beyond it a turn of the store makes people wait.
const STORE_SLOW: Duration = Duration::from_millis(200);
/// Beyond it an answer of the scheduler makes people wait.
const SCHEDULER_SLOW: Duration = Duration::from_millis(200);
/// Blobs shown at once, those that were moved the most.
const BLOBS_SHOWN_MAX: usize = 1000;
/// Beyond it a clock is wrong, and certificates of thirty days are not far from being misread.
const CLOCK_WRONG_US: u64 = 5 * 60 * 1_000_000;
/// Beyond it a peer is far away or its link is full.
const ROUND_TRIP_SLOW_US: u64 = 250_000;

/// `GET /net/peers`
pub(crate) async fn peers(State(state): Shared, _viewer: Viewer) -> Answer<Json<Page<PeerBody>>> {
    let peers = state.coordinator.node.peers().await;
    Ok(Json(Page::whole(peers.into_iter().map(peer).collect())))
}

/// `GET /net/agents`
pub(crate) async fn agents(State(state): Shared, _viewer: Viewer) -> Answer<Json<Page<AgentTraffic>>> {
    let names = state.coordinator.store.agents().await?.into_iter().map(|agent| (agent.agent, agent.name));
    let names: BTreeMap<AgentId, String> = names.collect();
    let seen = state.coordinator.node.peers().await.into_iter().map(|info| (info.peer, info.address));
    let seen: BTreeMap<String, String> = seen.collect();
    let listens = state.coordinator.node.addresses();
    let traffic = |agent: AgentHoldings| {
        let peer = agent.peer.to_string();
        AgentTraffic {
            agent: agent.agent,
            name: names.get(&agent.agent).cloned().unwrap_or_default(),
            address: seen.get(&peer).cloned(),
            listens: listens.get(&agent.peer).into_iter().flatten().map(ToString::to_string).collect(),
            blobs: agent.blobs as u64,
            from_agents_bytes: agent.moved.from_agents_bytes,
            from_coordinators_bytes: agent.moved.from_coordinators_bytes,
            served_bytes: agent.moved.served_bytes,
            peer,
        }
    };
    Ok(Json(Page::whole(state.coordinator.mesh.tracker.agents().into_iter().map(traffic).collect())))
}

/// `GET /net/blobs`
pub(crate) async fn blobs(State(state): Shared, _viewer: Viewer) -> Answer<Json<Page<BlobTraffic>>> {
    let blobs = state.coordinator.mesh.tracker.blobs(BLOBS_SHOWN_MAX, Instant::now());
    let traffic = |blob: BlobHoldings| BlobTraffic {
        digest: blob.blob.digest,
        size_bytes: blob.blob.size_bytes,
        holders: blob.holders as u64,
        fetching: blob.fetching as u64,
        uploaded_bytes: blob.uploaded_bytes,
        uploads: blob.uploaded_bytes as f64 / blob.blob.size_bytes.max(1) as f64,
    };
    Ok(Json(Page::whole(blobs.into_iter().map(traffic).collect())))
}

/// `GET /net/doctor`
pub(crate) async fn doctor(State(state): Shared, _viewer: Viewer) -> Answer<Json<Page<Finding>>> {
    let mut findings = vec![listening(&state).await, store(&state).await];
    let asked = Instant::now();
    let agents = state.coordinator.dispatch.query(|scheduler, _| scheduler.agents()).await?;
    findings.push(scheduler(asked.elapsed()));
    let left = super::agents::left(&*state.coordinator.store).await?;
    let agents: Vec<AgentView> = agents.into_iter().filter(|agent| !left.contains(&agent.agent)).collect();
    findings.extend(fleet(&agents));
    findings.extend(links(&state.coordinator.node.peers().await, &kept_out(&agents)));
    Ok(Json(Page::whole(findings)))
}

fn peer(info: PeerInfo) -> PeerBody {
    let certificate = info.certificate.as_ref();
    let role = certificate.map(|certificate| match certificate.role {
        Role::Agent => "agent".to_owned(),
        Role::Coordinator => "coordinator".to_owned(),
    });
    PeerBody {
        role,
        agent: certificate.and_then(|certificate| certificate.agent),
        name: certificate.map(|certificate| certificate.name.clone()),
        peer: info.peer,
        software: info.software,
        address: info.address,
        direction: info.direction,
        transport: info.transport,
        round_trip_ms: info.round_trip_us.map(|us| us as f64 / 1_000.0),
        work_open: info.work_open,
        blob_bytes_sent: info.blob_bytes_sent,
        blob_bytes_received: info.blob_bytes_received,
    }
}

fn finding(check: &str, verdict: Verdict, message: impl Into<String>, hint: Option<&str>) -> Finding {
    Finding { check: check.into(), verdict, message: message.into(), hint: hint.map(Into::into) }
}

async fn listening(state: &Interface) -> Finding {
    let addresses = state.coordinator.presence.addresses();
    let beyond = addresses.iter().filter(|address| !is_loopback(address)).count();
    if addresses.is_empty() {
        let hint = "start the server with --listen /ip4/0.0.0.0/tcp/7410";
        return finding("listening", Verdict::Bad, "agents cannot reach this coordinator: it listens nowhere", Some(hint));
    }
    let list = addresses.join(", ");
    if beyond == 0 {
        let hint = "to take in other machines, start the server with --listen /ip4/0.0.0.0/tcp/7410";
        return finding("listening", Verdict::Odd, format!("only agents on this machine can reach it: {list}"), Some(hint));
    }
    finding("listening", Verdict::Good, list, None)
}

fn is_loopback(address: &str) -> bool {
    address.starts_with("/ip4/127.") || address.starts_with("/ip6/::1/")
}

async fn store(state: &Interface) -> Finding {
    let asked = Instant::now();
    let (name, answer) = (state.coordinator.store.describe(), state.coordinator.store.totals().await);
    let took = asked.elapsed();
    match answer {
        Err(_) => {
            finding("store", Verdict::Bad, format!("{name} does not answer"), Some("look at the server's log for the reason"))
        }
        Ok(_) if took > STORE_SLOW => {
            let hint = "look at the disk or the database server: every step waits for it";
            finding("store", Verdict::Odd, format!("{name} took {} to answer", spoken(took)), Some(hint))
        }
        Ok(_) => finding("store", Verdict::Good, format!("{name} answers in {}", spoken(took)), None),
    }
}

fn scheduler(took: Duration) -> Finding {
    let message = format!("it answers in {}", spoken(took));
    if took > SCHEDULER_SLOW {
        return finding(
            "scheduler",
            Verdict::Odd,
            message,
            Some("the coordinator has more to do than its machine can; look at its load"),
        );
    }
    finding("scheduler", Verdict::Good, message, None)
}

fn fleet(agents: &[AgentView]) -> Vec<Finding> {
    let members: Vec<&AgentView> = agents.iter().filter(|agent| agent.intake != Intake::Revoked).collect();
    if members.is_empty() {
        let hint = "make a token with `lull token create`, then run `lull-agent join --token-file FILE` on a machine";
        return vec![finding("agents", Verdict::Odd, "no agent is enrolled, so nothing runs", Some(hint))];
    }
    let connected: Vec<&&AgentView> = members.iter().filter(|agent| agent.connected.is_some()).collect();
    let message = format!("{} of {} are connected", connected.len(), members.len());
    let all_cloned = members.iter().all(|agent| agent.connected.is_some() || is_cloned(agent));
    let mut findings = vec![match connected.len() {
        0 if all_cloned => finding("agents", Verdict::Bad, message, Some("each is kept out for what is said of it below")),
        0 => finding("agents", Verdict::Bad, message, Some("`lull-agent status` on one of the machines says why")),
        _ => finding("agents", Verdict::Good, message, None),
    }];
    for agent in &members {
        let Some(quarantine) = &agent.quarantine else { continue };
        let hint = match quarantine.kind {
            QuarantineKind::Cloned => CLONED_HINT,
            QuarantineKind::Output | QuarantineKind::Overtime => "look into it; then `lull agent trust` lifts it",
        };
        let message = format!("it is given nothing ({}): {}", quarantine.kind.words(), quarantine.reason);
        findings.push(finding(&format!("agent {}", agent.name), Verdict::Bad, message, Some(hint)));
    }
    let own = env!("CARGO_PKG_VERSION");
    // What else may be odd about one whose identity is cloned follows from that.
    for agent in connected.into_iter().filter(|agent| !is_cloned(agent)) {
        let check = format!("agent {}", agent.name);
        match agent.capacity.as_ref().and_then(|capacity| capacity.paused.as_ref()) {
            Some(reason @ PauseReason::Trouble(Trouble { part, .. })) => {
                findings.push(finding(&check, Verdict::Bad, format!("it runs nothing: {reason}"), Some(mends(*part, agent))));
            }
            Some(reason) => findings.push(finding(&check, Verdict::Odd, format!("it runs nothing: {reason}"), None)),
            None => {}
        }
        let refuses =
            matches!(agent.capacity.as_ref().and_then(|capacity| capacity.paused.as_ref()), Some(PauseReason::Trouble(_)));
        if let Some(missing) = agent.open_cage.as_ref().filter(|_| !refuses) {
            let message = format!("it works although the cage around its functions is not closed: {missing}");
            findings.push(finding(&check, Verdict::Odd, message, Some(mends(Part::Cage, agent))));
        }
        if let Some(version) = agent.version.as_ref().filter(|version| !version.contains(own)) {
            findings.push(finding(
                &check,
                Verdict::Odd,
                format!("it runs {version}, the coordinator {own}"),
                Some("upgrade the older"),
            ));
        }
        if agent.capacity.is_none() {
            findings.push(finding(&check, Verdict::Odd, "nothing is known of what it has free", None));
        }
        if let Some(machine) = agent.machine.as_ref().filter(|machine| !compiled_for(&machine.engine)) {
            let message = format!("this coordinator cannot compile for its engine ({}), so it compiles itself", machine.engine);
            findings.push(finding(&check, Verdict::Odd, message, Some("upgrade it or the coordinator to the same version")));
        }
    }
    findings
}

fn is_cloned(agent: &AgentView) -> bool {
    agent.quarantine.as_ref().is_some_and(|quarantine| quarantine.kind == QuarantineKind::Cloned)
}

/// The agents that are turned away for what is said of them, so that they have no stream of work.
fn kept_out(agents: &[AgentView]) -> BTreeSet<AgentId> {
    agents.iter().filter(|agent| is_cloned(agent)).map(|agent| agent.agent).collect()
}

/// What to do about the trouble of an agent.
fn mends(part: Part, agent: &AgentView) -> &'static str {
    let is_windows = agent.machine.as_ref().is_some_and(|machine| machine.os == "windows");
    match part {
        Part::Outbox | Part::Cache | Part::Scratch => {
            "look at its disk and its folders; it goes on by itself when they can be written to"
        }
        Part::Executor => "look at its memory, limits of address space and processes; it goes on by itself",
        Part::Killed => "look into its system's log for who kills them; it goes on by itself after a while",
        Part::Cage if is_windows => {
            "its account or its policies forbid AppContainers or job objects; open_cage = \"work\" lets it work all the same"
        }
        Part::Cage => "its kernel or its unit lacks landlock or seccomp; open_cage = \"work\" lets it work all the same",
    }
}

/// Whether this coordinator makes artifacts that such an engine loads.
fn compiled_for(engine: &str) -> bool {
    Platform::of_engine(engine).and_then(|platform| platform.engine().ok()).is_some_and(|own| own == engine)
}

fn links(peers: &[PeerInfo], kept_out: &BTreeSet<AgentId>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for peer in peers {
        let Some(certificate) = &peer.certificate else {
            let hint = Some("it enrols at this moment, or it belongs to another network");
            findings.push(finding("link", Verdict::Odd, format!("a stranger is connected from {}", peer.address), hint));
            continue;
        };
        if peer.round_trip_us.is_some_and(|us| us > ROUND_TRIP_SLOW_US) {
            let ms = peer.round_trip_us.unwrap_or_default() / 1_000;
            findings.push(finding("link", Verdict::Odd, format!("{} is {ms} ms away", certificate.name), None));
        }
        if let Some(ahead_us) = peer.clock_ahead_us.filter(|ahead_us| ahead_us.unsigned_abs() > CLOCK_WRONG_US) {
            let message = format!("the clock of {} is {} this one's", certificate.name, apart(ahead_us));
            findings.push(finding("clock", Verdict::Odd, message, Some("set the one that is wrong, by NTP if possible")));
        }
        let is_kept_out = certificate.agent.is_some_and(|agent| kept_out.contains(&agent));
        if certificate.role == Role::Agent && !peer.work_open && !is_kept_out {
            let message = format!("{} is connected without a stream of work", certificate.name);
            findings.push(finding("link", Verdict::Odd, message, Some("it may be starting; otherwise look at its log")));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use lull_scheduler::event::Quarantine;
    use lull_shared::{
        identity::{Certificate, NetworkId},
        resources::Capacity,
        time::Timestamp,
    };

    use super::*;
    use crate::store::conformance::sample::{capacity, machine};

    /// A connected agent with which nothing is wrong.
    fn agent(name: &str) -> AgentView {
        let platform = Platform::host();
        let engine = platform.engine().expect("an engine for this machine");
        AgentView {
            agent: AgentId(1),
            name: name.into(),
            intake: Intake::Open,
            quarantine: None,
            connected: Some(Timestamp(1)),
            last_heard: Some(Timestamp(1)),
            silent_since: None,
            asleep: None,
            version: Some(format!("lull-agent/{}", env!("CARGO_PKG_VERSION"))),
            machine: Some(lull_shared::resources::Machine { engine, ..machine() }),
            labels: Default::default(),
            capacity: Some(capacity(1, 2)),
            open_cage: None,
            attempts: Vec::new(),
            snapshots: 0,
            claims_refused: 0,
            breaches: 0,
            overtimes: 0,
        }
    }

    fn told(agents: &[AgentView]) -> Vec<(String, Verdict, String)> {
        fleet(agents).into_iter().map(|finding| (finding.check, finding.verdict, finding.message)).collect()
    }

    /// What is said beside how many are connected.
    fn about(agent: AgentView) -> Vec<(Verdict, String)> {
        told(&[agent])
            .into_iter()
            .skip(1)
            .map(|(check, verdict, message)| {
                assert_eq!(check, "agent desk");
                (verdict, message)
            })
            .collect()
    }

    fn paused(reason: PauseReason) -> Option<Capacity> {
        Some(Capacity { paused: Some(reason), ..capacity(1, 2) })
    }

    #[test]
    fn a_fleet_is_told_by_who_is_there_and_whoever_was_thrown_out_is_none_of_it() {
        let away = || AgentView { connected: None, ..agent("away") };
        let out = || AgentView { intake: Intake::Revoked, ..agent("out") };
        let first = |agents: &[AgentView]| told(agents).swap_remove(0);
        let says = |verdict, words: &str| ("agents".to_owned(), verdict, words.to_owned());
        assert_eq!(first(&[]), says(Verdict::Odd, "no agent is enrolled, so nothing runs"));
        assert_eq!(first(&[out()]), says(Verdict::Odd, "no agent is enrolled, so nothing runs"));
        assert_eq!(first(&[away(), out()]), says(Verdict::Bad, "0 of 1 are connected"));
        assert_eq!(first(&[away(), agent("desk")]), says(Verdict::Good, "1 of 2 are connected"));
        assert_eq!(told(&[agent("desk"), away()]).len(), 1, "of whoever is away nothing more is known");
    }

    #[test]
    fn everything_that_is_odd_about_an_agent_is_told_and_nothing_of_one_that_is_well() {
        let desk = || agent("desk");
        assert_eq!(about(desk()), []);
        let quarantine = |kind| Some(Quarantine { kind, since: Timestamp(0), reason: "it lied".into() });
        let quarantined = AgentView { quarantine: quarantine(QuarantineKind::Output), ..desk() };
        assert_eq!(about(quarantined), [(Verdict::Bad, "it is given nothing (not believed): it lied".into())]);
        let hint = |kind| fleet(&[AgentView { quarantine: quarantine(kind), ..desk() }])[1].hint.clone();
        assert_eq!(hint(QuarantineKind::Cloned).as_deref(), Some(CLONED_HINT));
        assert_ne!(hint(QuarantineKind::Overtime).as_deref(), Some(CLONED_HINT));
        let cloned = AgentView { quarantine: quarantine(QuarantineKind::Cloned), connected: None, capacity: None, ..desk() };
        let found = fleet(std::slice::from_ref(&cloned));
        assert_eq!(found[0].hint.as_deref(), Some("each is kept out for what is said of it below"));
        assert_eq!(found[1].message, "it is given nothing (cloned identity): it lied");
        let there = about(AgentView { connected: Some(Timestamp(1)), ..cloned.clone() });
        assert_eq!(there.len(), 1, "what follows from that is not said: {there:?}");
        assert_eq!(kept_out(&[cloned, desk()]), BTreeSet::from([AgentId(1)]));
        let owner = PauseReason::Owner { until: None };
        let words = format!("it runs nothing: {owner}");
        assert_eq!(about(AgentView { capacity: paused(owner), ..desk() }), [(Verdict::Odd, words)]);
        let trouble = PauseReason::Trouble(Trouble::new(Part::Outbox, "full"));
        let words = format!("it runs nothing: {trouble}");
        let troubled = AgentView { capacity: paused(trouble), open_cage: Some("landlock".into()), ..desk() };
        assert_eq!(about(troubled), [(Verdict::Bad, words)], "whoever runs nothing needs no cage");
        let open = about(AgentView { open_cage: Some("landlock".into()), ..desk() });
        assert!(matches!(&open[..], [(Verdict::Odd, words)] if words.ends_with("is not closed: landlock")), "{open:?}");
        let old = about(AgentView { version: Some("lull-agent/0.0.0-old".into()), ..desk() });
        assert!(matches!(&old[..], [(Verdict::Odd, words)] if words.contains("it runs lull-agent/0.0.0-old")), "{old:?}");
        let silent = about(AgentView { capacity: None, ..desk() });
        assert_eq!(silent, [(Verdict::Odd, "nothing is known of what it has free".into())]);
        let foreign = about(AgentView { machine: Some(machine()), ..desk() });
        assert!(
            matches!(&foreign[..], [(Verdict::Odd, words)] if words.contains("cannot compile for its engine (w48)")),
            "{foreign:?}"
        );
        assert_eq!(about(AgentView { machine: None, version: None, ..desk() }), []);
    }

    fn link(role: Role) -> PeerInfo {
        let certificate = Certificate {
            network: NetworkId([0; 16]),
            peer: Vec::new(),
            role,
            agent: None,
            name: "desk".into(),
            group: None,
            issued: Timestamp(0),
            expires: Timestamp(0),
        };
        PeerInfo {
            peer: "peer".into(),
            certificate: Some(certificate),
            software: None,
            address: "/ip4/10.0.0.7/tcp/1".into(),
            direction: "inbound".into(),
            transport: "tcp".into(),
            round_trip_us: None,
            clock_ahead_us: None,
            revocations: Default::default(),
            work_open: true,
            blob_bytes_sent: 0,
            blob_bytes_received: 0,
        }
    }

    #[test]
    fn links_that_are_slow_strange_or_show_a_wrong_clock_are_told_from_their_bound_on() {
        let told = |peer: PeerInfo| {
            links(&[peer], &BTreeSet::new()).into_iter().map(|finding| (finding.check, finding.message)).collect::<Vec<_>>()
        };
        let desk = || link(Role::Agent);
        assert_eq!(told(desk()), []);
        let away = |us| told(PeerInfo { round_trip_us: Some(us), ..desk() });
        assert_eq!(
            (away(ROUND_TRIP_SLOW_US).len(), away(ROUND_TRIP_SLOW_US + 1)),
            (0, vec![("link".into(), "desk is 250 ms away".into())])
        );
        let wrong = CLOCK_WRONG_US as i64;
        let ahead = |us| told(PeerInfo { clock_ahead_us: Some(us), ..desk() }).len();
        assert_eq!([0, wrong, wrong + 1, -wrong, -wrong - 1].map(ahead), [0, 0, 1, 0, 1]);
        let idle = |role| told(PeerInfo { work_open: false, ..link(role) });
        assert_eq!((idle(Role::Agent).len(), idle(Role::Coordinator).len()), (1, 0), "coordinators give each other no work");
        let stranger = told(PeerInfo { certificate: None, round_trip_us: Some(u64::MAX), ..desk() });
        assert_eq!(stranger, [("link".into(), "a stranger is connected from /ip4/10.0.0.7/tcp/1".into())]);
    }

    #[test]
    fn an_answer_is_slow_from_its_bound_on() {
        assert_eq!(scheduler(SCHEDULER_SLOW).verdict, Verdict::Good);
        assert_eq!(scheduler(SCHEDULER_SLOW + Duration::from_micros(1)).verdict, Verdict::Odd);
        let loopback = ["/ip4/127.0.0.1/tcp/1", "/ip6/::1/tcp/1", "/ip4/10.0.0.7/tcp/1", "/ip6/fe80::1/tcp/1"].map(is_loopback);
        assert_eq!(loopback, [true, true, false, false]);
    }
}
