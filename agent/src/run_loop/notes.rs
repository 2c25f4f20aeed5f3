//! What must hold after a restart, written down in the order in which it was said, while the run loop goes on.

use std::{io, path::PathBuf, sync::Arc};

use libp2p::Multiaddr;
use lull_desk::share::Tally;
use lull_mesh::NodeHandle;
use lull_session::{Standing, guard::OwnerWord};
use lull_shared::{identity::Signed, policy::Changes};
use tokio::{
    sync::{mpsc, oneshot},
    task::{JoinHandle, spawn_blocking},
};

use crate::{ipc::Response, member::Member, owner, policy, tally};

/// Notes that may wait. Owners wait for their answers; only a coordinator that says new things without end has more.
const NOTES_WAITING_MAX: usize = 64;

/// Something that holds already and is to be written down.
pub(super) enum Note {
    /// The owner's word, and whom to tell that it was written.
    Owner(OwnerWord, oneshot::Sender<Response>),
    /// What the owner narrows, what follows from it, and whom to tell.
    Narrowed(Changes, Box<Standing>, oneshot::Sender<Response>),
    /// What the administrator allows.
    Policy(Signed),
    /// A fresh certificate of this agent's.
    Certificate(Signed),
    /// What this machine did for others.
    Tally(Tally),
    /// Where coordinators are, and where the one is that works now.
    Coordinators(Vec<String>, Option<Multiaddr>),
}

/// A handle on what is written. Its task ends when the handle is gone and everything was written.
pub(super) struct Notes(mpsc::Sender<Note>);

impl Notes {
    /// Nothing to write yet.
    pub(super) fn start(data: PathBuf, member: Arc<Member>, node: NodeHandle) -> (Self, JoinHandle<()>) {
        let (notes, mut queue) = mpsc::channel(NOTES_WAITING_MAX);
        let task = tokio::spawn(async move {
            while let Some(note) = queue.recv().await {
                let (data, member) = (data.clone(), Arc::clone(&member));
                // It fails only while the agent ends.
                if let Ok(Some(certificate)) = spawn_blocking(move || write(note, &data, &member)).await {
                    node.set_certificate(certificate).await;
                }
            }
        });
        (Self(notes), task)
    }

    /// Has something written down.
    pub(super) fn write(&self, note: Note) {
        let Err(mpsc::error::TrySendError::Full(note) | mpsc::error::TrySendError::Closed(note)) = self.0.try_send(note) else {
            return;
        };
        let error = io::Error::other("too much is being written already");
        match note {
            Note::Owner(_, reply) | Note::Narrowed(_, _, reply) => drop(reply.send(holds_until_restart(&error))),
            // It is written again in a minute.
            Note::Tally(_) => {}
            Note::Policy(_) | Note::Certificate(_) | Note::Coordinators(..) => {
                tracing::warn!(%error, "what the coordinator said is not written down; it says it again");
            }
        }
    }
}

/// Writes a note, and gives back the certificate that is this agent's from now on, if it was one.
fn write(note: Note, data: &std::path::Path, member: &Member) -> Option<Signed> {
    // Whoever asked may have gone away.
    match note {
        Note::Owner(word, reply) => {
            let written = owner::remember(data, word);
            drop(reply.send(written.map_or_else(|error| holds_until_restart(&error), |()| Response::Done)));
        }
        Note::Narrowed(changes, standing, reply) => {
            let written = policy::remember(data, &changes);
            drop(reply.send(written.map_or_else(|error| holds_until_restart(&error), |()| Response::Policy(standing))));
        }
        Note::Policy(signed) => {
            if let Err(error) = policy::keep(data, &signed) {
                tracing::warn!(%error, "the policy holds, but only until the agent restarts");
            }
        }
        Note::Tally(tally) => {
            if let Err(error) = tally::remember(data, &tally) {
                tracing::debug!(%error, "what this machine did for others is not written down");
            }
        }
        Note::Certificate(fresh) => return member.take_certificate(fresh.clone()).then_some(fresh),
        Note::Coordinators(announced, working) => member.take_coordinators(announced, working.as_ref()),
    }
    None
}

fn holds_until_restart(error: &io::Error) -> Response {
    Response::Error { message: format!("it holds, but only until the agent restarts: {error}") }
}
