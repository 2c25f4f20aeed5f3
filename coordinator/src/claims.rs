//! EDGE: what agents claim, held against its bounds before the scheduler hears it.

use lull_shared::{
    id::AgentId,
    limits,
    message::{GoodbyeReason, Hello, Outcome, Payload, ToCoordinator},
    name::check_name,
    resources::Capacity,
};
use semver::Version;

use crate::store::Store;

/// Agents before this version speak otherwise. Raised when support for a version of the work protocol ends.
pub const AGENT_OLDEST: Version = Version::new(0, 1, 0);

/// Whether a greeting may be answered; if not, how the stream ends.
pub fn check_hello(agent: AgentId, hello: &Hello) -> Result<(), GoodbyeReason> {
    let wrong = |what: String| Err(GoodbyeReason::Protocol(what));
    if hello.holding.len() > limits::ATTEMPTS_PER_AGENT_MAX {
        return wrong(format!("{} attempts held", hello.holding.len()));
    }
    if hello.labels.len() > limits::LABELS_MAX {
        return wrong(format!("{} labels", hello.labels.len()));
    }
    for (key, value) in &hello.labels {
        if check_name(key).is_err() || value.len() > limits::NAME_BYTES_MAX {
            return wrong(format!("the label `{}`", key.chars().take(limits::NAME_BYTES_MAX).collect::<String>()));
        }
    }
    let machine = &hello.machine;
    let words = [&machine.os, &machine.arch, &machine.engine, &hello.agent_version];
    if words.iter().any(|word| word.len() > 2 * limits::NAME_BYTES_MAX) {
        return wrong("a machine described at too great a length".into());
    }
    match Version::parse(&hello.agent_version) {
        Ok(version) if version < AGENT_OLDEST => return Err(GoodbyeReason::TooOld { oldest: AGENT_OLDEST.to_string() }),
        Ok(_) => {}
        Err(error) => return wrong(format!("a version that is none: {error}")),
    }
    check_capacity(agent, &hello.capacity).map_err(GoodbyeReason::Protocol)
}

/// A message within its bounds; a large output must have been delivered before it is spoken of.
pub async fn check(store: &dyn Store, agent: AgentId, message: ToCoordinator) -> Result<ToCoordinator, String> {
    match &message {
        ToCoordinator::Hello(_) => return Err("a second `Hello`".into()),
        ToCoordinator::Finished(finished) => {
            for one in finished {
                if one.log.len() as u64 > limits::LOG_BYTES_MAX {
                    return Err(format!("a log of {} bytes", one.log.len()));
                }
                match &one.outcome {
                    Outcome::Succeeded { output: Payload::Inline(bytes) } if bytes.len() > limits::INLINE_BYTES_MAX => {
                        return Err(format!("an inline output of {} bytes", bytes.len()));
                    }
                    Outcome::Succeeded { output: Payload::Blob(blob) } => {
                        let known = store.blob_outline(&blob.digest).await.map_err(|error| error.to_string())?;
                        if known.is_none_or(|(stored, _)| stored != *blob) {
                            return Err(format!("the output {} was not delivered before", blob.digest));
                        }
                    }
                    Outcome::Failed(failure) if failure.text_bytes() > limits::FAILURE_BYTES_MAX => {
                        return Err(format!("a failure told in {} bytes", failure.text_bytes()));
                    }
                    Outcome::Succeeded { .. } | Outcome::Failed(_) => {}
                }
            }
        }
        ToCoordinator::Saved { snapshot, .. } if snapshot.blob.size_bytes > limits::SNAPSHOT_BYTES_MAX => {
            return Err(format!("a snapshot of {} bytes", snapshot.blob.size_bytes));
        }
        ToCoordinator::Heartbeat { holding, .. } if holding.len() > limits::ATTEMPTS_PER_AGENT_MAX => {
            return Err(format!("{} attempts held", holding.len()));
        }
        ToCoordinator::Remains(remains) if remains.log.len() as u64 > limits::LOG_BYTES_MAX => {
            return Err(format!("a log of {} bytes", remains.log.len()));
        }
        ToCoordinator::Log(piece) if piece.bytes.len() > limits::LOG_PIECE_BYTES => {
            return Err(format!("{} bytes of a log", piece.bytes.len()));
        }
        ToCoordinator::Cards(cards) if cards.len() > limits::CARDS_MAX => return Err(format!("{} network cards", cards.len())),
        ToCoordinator::Capacity(capacity) => check_capacity(agent, capacity)?,
        ToCoordinator::Started { .. }
        | ToCoordinator::Paused { .. }
        | ToCoordinator::Released { .. }
        | ToCoordinator::Remains(_)
        | ToCoordinator::Log(_)
        | ToCoordinator::Refused { .. }
        | ToCoordinator::Heartbeat { .. }
        | ToCoordinator::Saved { .. }
        | ToCoordinator::Cards(_)
        | ToCoordinator::Sleeps
        | ToCoordinator::Keeps(_)
        | ToCoordinator::Unkept { .. }
        | ToCoordinator::Blobs(_)
        | ToCoordinator::Policy(_)
        | ToCoordinator::Farewell => {}
    }
    Ok(message)
}

fn check_capacity(agent: AgentId, capacity: &Capacity) -> Result<(), String> {
    if capacity.agent != agent {
        return Err(format!("the capacity of {}", capacity.agent));
    }
    if capacity.slots > limits::SLOTS_PER_AGENT_MAX {
        return Err(format!("{} slots", capacity.slots));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use lull_shared::resources::{Labels, Machine};

    use super::*;

    fn hello(version: &str) -> Hello {
        let machine =
            Machine { os: "linux".into(), arch: "x86_64".into(), cores: 4, memory_bytes: 8 << 30, engine: "engine".into() };
        let capacity = Capacity {
            agent: AgentId(3),
            run: 0,
            sequence: 1,
            slots: 4,
            slots_busy: 0,
            waiting: 0,
            cpu_free_percent: 100,
            memory_free_bytes: 4 << 30,
            paused: None,
        };
        Hello {
            agent_version: version.into(),
            machine,
            labels: Labels::new(),
            capacity,
            holding: Vec::new(),
            snapshots: Vec::new(),
            instance: Default::default(),
            open_cage: None,
        }
    }

    #[test]
    fn an_agent_that_is_too_old_is_told_from_which_version_on_it_is_understood() {
        assert_eq!(check_hello(AgentId(3), &hello(env!("CARGO_PKG_VERSION"))), Ok(()));
        let too_old = check_hello(AgentId(3), &hello("0.0.9"));
        assert_eq!(too_old, Err(GoodbyeReason::TooOld { oldest: AGENT_OLDEST.to_string() }));
        assert!(matches!(check_hello(AgentId(3), &hello("yesterday's")), Err(GoodbyeReason::Protocol(_))));
    }

    #[test]
    fn an_agent_speaks_for_itself_only() {
        assert!(matches!(check_hello(AgentId(4), &hello("1.0.0")), Err(GoodbyeReason::Protocol(_))));
    }
}
