//! Where everything comes from that the run loop hears, in the order in which it listens.
//!
//! | | from | what | who waits when much comes |
//! |---|---|---|---|
//! | 1 | sensor | the owner's input, what the operating system announces | nobody: it cannot be full |
//! | 2 | command line and tray | the owner's word | a conversation |
//! | 3 | signals | the end | |
//! | 4 | executors | what became of attempts | the executor's pipe |
//! | 5 | disk and mesh | what was asked of outbox, cache and transfers | a transfer, the outbox's thread |
//! | 6 | coordinator | work | its stream |
//!
//! The owner is looked for before each word of anybody else. Of the others each is heard in every turn, so that none keeps
//! another waiting for long.

use lull_session::Event;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::processes::Report;
use crate::{
    ipc::Call,
    network::Said,
    sensor::{Told, Word},
};

/// Words of one edge that may wait; whoever has more waits with them.
const WAITING_MAX: usize = 64;

/// One word of any edge.
pub(super) enum Input {
    Owner(Word),
    Call(Call),
    Stop,
    Executor(Report),
    Answer(Event),
    Coordinator(Said),
}

/// The ends that the run loop listens at.
pub(super) struct Edges {
    owner: Told,
    calls: mpsc::Receiver<Call>,
    stop: CancellationToken,
    /// Whether that was heard.
    stopping: bool,
    reports: mpsc::Receiver<Report>,
    answers: mpsc::Receiver<Event>,
    said: mpsc::Receiver<Said>,
}

/// The ends that edges speak into.
pub(super) struct Mouths {
    pub calls: mpsc::Sender<Call>,
    pub reports: mpsc::Sender<Report>,
    pub answers: mpsc::Sender<Event>,
    pub said: mpsc::Sender<Said>,
}

impl Edges {
    /// Both ends. `owner` is what the sensor tells, `stop` the wish that the agent ends.
    pub(super) fn new(owner: Told, stop: CancellationToken) -> (Mouths, Self) {
        let ((calls, called), (reports, reported)) = (mpsc::channel(WAITING_MAX), mpsc::channel(WAITING_MAX));
        let ((answers, answered), (said, heard)) = (mpsc::channel(WAITING_MAX), mpsc::channel(WAITING_MAX));
        let edges = Self { owner, calls: called, stop, stopping: false, reports: reported, answers: answered, said: heard };
        (Mouths { calls, reports, answers, said }, edges)
    }

    /// Waits for the next word of anybody. Nothing is lost when the wait is given up.
    pub(super) async fn next(&mut self) -> Input {
        tokio::select! {
            biased;
            word = self.owner.next() => Input::Owner(word),
            Some(call) = self.calls.recv() => Input::Call(call),
            () = self.stop.cancelled(), if !self.stopping => {
                self.stopping = true;
                Input::Stop
            }
            Some(report) = self.reports.recv() => Input::Executor(report),
            Some(event) = self.answers.recv() => Input::Answer(event),
            Some(said) = self.said.recv() => Input::Coordinator(said),
        }
    }

    /// The owner's next word, if there is one.
    pub(super) fn owner(&self) -> Option<Input> {
        self.owner.take().map(Input::Owner)
    }

    /// What waits at one edge of the others, by its number in the order of listening, from 0 on. None when nothing does;
    /// the last number is [`Self::OTHERS`] less one.
    pub(super) fn other(&mut self, edge: usize) -> Option<Input> {
        match edge {
            0 => self.calls.try_recv().ok().map(Input::Call),
            1 => self.reports.try_recv().ok().map(Input::Executor),
            2 => self.answers.try_recv().ok().map(Input::Answer),
            _ => self.said.try_recv().ok().map(Input::Coordinator),
        }
    }

    /// Edges beside the owner's that may have several words at once.
    pub(super) const OTHERS: usize = 4;

    /// Waits until the coordinator's stream is closed, whatever else is said.
    pub(super) async fn closed(&mut self) {
        while let Some(said) = self.said.recv().await {
            if matches!(said, Said::Closed) {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use lull_shared::state::Part;
    use tokio::sync::oneshot;

    use super::*;
    use crate::{ipc::Request, sensor::words};

    fn call() -> Call {
        Call { request: Request::Status, reply: oneshot::channel().0 }
    }

    #[tokio::test]
    async fn the_owner_is_heard_first_whoever_else_has_filled_the_edges() {
        let (teller, told) = words();
        let stop = CancellationToken::new();
        let (mouths, mut edges) = Edges::new(told, stop.clone());
        while mouths.said.try_send(Said::Closed).is_ok() {}
        while mouths.reports.try_send(Report::TriedScratch(Ok(()))).is_ok() {}
        while mouths.answers.try_send(Event::Probed { part: Part::Cache, result: Ok(()) }).is_ok() {}
        while mouths.calls.try_send(call()).is_ok() {}
        stop.cancel();
        teller.input();
        assert!(matches!(edges.next().await, Input::Owner(Word::Input)));
        assert!(matches!(edges.next().await, Input::Call(_)));
        while matches!(edges.other(0), Some(Input::Call(_))) {}
        assert!(matches!(edges.next().await, Input::Stop), "before work goes on");
        assert!(matches!(edges.next().await, Input::Executor(_)), "and that is said once");
        teller.input();
        assert!(matches!(edges.owner(), Some(Input::Owner(Word::Input))));
    }

    #[tokio::test]
    async fn every_edge_is_heard_while_another_has_much_to_say() {
        let (_teller, told) = words();
        let (mouths, mut edges) = Edges::new(told, CancellationToken::new());
        while mouths.reports.try_send(Report::TriedScratch(Ok(()))).is_ok() {}
        assert!(mouths.said.try_send(Said::Closed).is_ok() && mouths.calls.try_send(call()).is_ok());
        assert!(mouths.answers.try_send(Event::Probed { part: Part::Cache, result: Ok(()) }).is_ok());
        assert!(matches!(edges.other(0), Some(Input::Call(_))));
        assert!(matches!(edges.other(1), Some(Input::Executor(_))));
        assert!(matches!(edges.other(2), Some(Input::Answer(_))));
        assert!(matches!(edges.other(3), Some(Input::Coordinator(Said::Closed))));
    }
}
