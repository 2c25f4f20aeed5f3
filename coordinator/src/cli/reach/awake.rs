//! A private mesh that was kept is started again for as long as a command works with it: its coordinator alone for one
//! that only looks, its agents too for one that waits for work.

use std::path::Path;

use crate::cli::{
    Command, Context,
    exit::{Exit, Failure},
    jobs::{job, submit::Submit},
    reach::private::{Data, Mesh, MeshConfig, Size},
    shown::steps::Stages,
};

/// Who is needed for a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Needed {
    /// Nobody: it works on files, or starts what it needs by itself.
    Nobody,
    Coordinator,
    Everybody,
}

/// Starts the kept mesh that the command is about, if it is about one and that does not run.
pub(crate) async fn wake(context: &Context, command: &Command) -> Result<Option<Mesh>, Failure> {
    let (None, Some(data)) = (&context.server.server, &context.server.data) else { return Ok(None) };
    let needed = needed(command);
    let Some(size) = kept(data).filter(|_| needed != Needed::Nobody) else { return Ok(None) };
    let size = if needed == Needed::Everybody { size } else { Size { agents: 0, ..size } };
    let _stage = Stages::new(&context.out).begin(format!("starting the private mesh in {}", data.display()));
    let config = MeshConfig { size, data: Some(data.clone()) };
    tokio::select! {
        mesh = Mesh::start(config) => mesh.map(Some),
        () = context.interrupted() => Err(Failure::new(Exit::Interrupted, "interrupted")
            .hint(format!("nothing was begun, and {} holds what it held; give the command again", data.display()))),
    }
}

fn kept(data: &Path) -> Option<Size> {
    match Data::of(data) {
        Data::Private(size) => Some(size),
        Data::Fresh | Data::InUse | Data::Coordinators => None,
    }
}

fn needed(command: &Command) -> Needed {
    let submits = |submit: &Submit| if submit.stays() { Needed::Everybody } else { Needed::Coordinator };
    match command {
        Command::Run(_) | Command::Login(_) | Command::Logout | Command::Server(_) | Command::Db(_) => Needed::Nobody,
        Command::Profile(profile) if !profile.asks() => Needed::Nobody,
        Command::Wait(_) | Command::Job(job::Job::Wait(_)) => Needed::Everybody,
        Command::Submit(submit) | Command::Job(job::Job::Submit(submit)) => submits(submit),
        Command::Status(_)
        | Command::Explain(_)
        | Command::Job(_)
        | Command::Task(_)
        | Command::Func(_)
        | Command::Agent(_)
        | Command::Policy(_)
        | Command::Token(_)
        | Command::Profile(_)
        | Command::Net(_)
        | Command::Audit(_)
        | Command::Portal(_) => Needed::Coordinator,
    }
}
