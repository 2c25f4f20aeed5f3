//! `lull func publish`: read, send, and stay with the publication until it has ended, whatever becomes of the connection.

use std::{
    fs::File,
    io::{self, Read as _, Seek as _},
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures::TryStreamExt as _;
use lull_shared::{
    digest::{BlobRef, OutlineBuilder},
    limits::MODULE_BYTES_MAX,
};
use reqwest::Body;
use tokio::time::{Instant, sleep};
use tokio_util::io::ReaderStream;

use crate::{
    api::{ErrorDetail, PublicationBody, PublicationId, PublicationState, PublishOptions, PublishRequest, PublishedBody},
    cli::{
        Context,
        exit::{Exit, Failure, Outcome},
        functions::{
            develop,
            func::{Publication, Publish, moves, own_name},
            project::Project,
            sample::Sample,
            source,
        },
        shown::{
            output::{Cell, Deed, Look, Row, pairs},
            steps::Steps,
        },
        typed::amount::spoken,
    },
    client::{Client, ClientError},
    version::{Named, STABLE, Which},
};

/// Between two looks at how far something has come.
const LOOK_AGAIN: Duration = Duration::from_millis(500);
/// How long a coordinator may be away: a restart or a take-over is far shorter.
const AWAY_MAX: Duration = Duration::from_secs(120);
/// How often a publication is begun anew that its coordinator has forgotten over a restart.
const BEGUN_MAX: u32 = 3;

/// `lull func publish`
pub(crate) async fn run(wanted: &Publish, context: &Context) -> Outcome {
    let client = context.server.connect()?;
    let mut begun = None;
    let published = tokio::select! {
        published = measured(wanted, context, &client, &mut begun) => published,
        () = context.interrupted() => Err(Failure::new(Exit::Interrupted, "interrupted")),
    };
    let published = match published {
        Err(failure) if failure.exit == Exit::Interrupted => return Err(interrupted(failure, begun)),
        published => published?,
    };
    let (published, submission) = published;
    show(&published, submission.as_deref(), context)?;
    tell_of_stable(&client, &published, context).await;
    Ok(Exit::Succeeded)
}

/// The name alone may stand for another version than the one that was published.
async fn tell_of_stable(client: &Client, published: &PublishedBody, context: &Context) {
    let (function, number) = (&published.function.function, published.function.number);
    let usual = Named { function: function.clone(), which: Which::Usual };
    // It is no more than a remark.
    let Ok(usual) = client.version(&usual).await else { return };
    if usual.number != number {
        let what = if usual.labels.iter().any(|label| label == STABLE) { "which is stable" } else { "the newest" };
        context.out.note(format!(
            "`{function}` alone is {}, {what}; `lull func promote {function}@{number}` makes it this one",
            usual.called()
        ));
    }
}

fn interrupted(failure: Failure, begun: Option<PublicationId>) -> Failure {
    match begun {
        None => failure.hint("nothing was published"),
        Some(begun) => failure.hint(format!(
            "the coordinator goes on with it: the same command joins it, `lull func publication {begun} --wait` waits for it, \
             and --cancel stops it"
        )),
    }
}

/// Publishes it, and says how it is submitted if its project asks for more than is usual.
async fn measured(
    wanted: &Publish,
    context: &Context,
    client: &Client,
    begun: &mut Option<PublicationId>,
) -> Result<(PublishedBody, Option<String>), Failure> {
    let project = match &wanted.file {
        Some(_) => None,
        None => Some(Project::open(&wanted.project).await?),
    };
    if let Some(project) = &project {
        develop::build(project, context).await?;
    }
    let file = wanted.file.clone().or_else(|| project.as_ref().map(Project::module)).unwrap_or_default();
    let source = source(&file, context).await?;
    let canonical_nans = wanted.canonical_nans || project.as_ref().is_some_and(|project| project.canonical_nans);
    let migratable = wanted.migratable.map(Into::into).or_else(|| project.as_ref().map(|project| project.migratable));
    let migratable = migratable.unwrap_or_default();
    let mut options = PublishOptions { canonical_nans, migratable, cost_percent: None };
    if let Some(input) = &wanted.sample {
        let steps = Mutex::new(Steps::new(&context.out));
        let args: Vec<String> = project.iter().flat_map(|project| &project.args).chain(&wanted.args).cloned().collect();
        let sample = Sample { input, args: &args, canonical_nans };
        let tell = |step: &str| steps.lock().unwrap_or_else(PoisonError::into_inner).show(step, "");
        let measured = sample.measure(&source.path, tell).await?;
        drop(steps);
        context.out.note(measured.to_string());
        options.cost_percent = measured.cost_percent();
    }
    let own = project.as_ref().map(|project| project.name.clone()).or_else(|| own_name(&file));
    let name = wanted.name.as_deref().or(own.as_deref()).ok_or_else(|| nameless(&file))?;
    let published = send(context, client, &source.path, name, options, begun).await?;
    let submission = project.and_then(|project| project.submission(&published.function.called()));
    Ok((published, submission))
}

fn nameless(file: &Path) -> Failure {
    Failure::usage(format!("{} gives the function no name", file.display())).hint("name it with --name NAME")
}

async fn source(file: &Path, context: &Context) -> Result<source::Module, Failure> {
    let steps = Mutex::new(Steps::new(&context.out));
    let tell = |step: &str| steps.lock().unwrap_or_else(PoisonError::into_inner).show(step, "");
    source::Module::of(file, &context.out, tell).await
}

fn show(published: &PublishedBody, submission: Option<&str>, context: &Context) -> Result<(), Failure> {
    let function = &published.function;
    let called = function.called();
    context.out.one(published, &called, |_| format!("{called}\n"))?;
    match &published.not_movable {
        Some(reason) if published.existing => context.out.note(format!("tasks cannot be moved while they run: {reason}")),
        _ => context.out.note(moves(function)),
    }
    let what = match (published.existing, &published.same_module_as) {
        (true, _) => "was published before, with what these options ask for".to_owned(),
        (false, None) => "is published".to_owned(),
        (false, Some(other)) => {
            format!("is published: a version of its own, since {other} is the same module with other options")
        }
    };
    let runs = match submission {
        Some(submission) => format!("`{submission}` runs it as lull.toml says"),
        None => format!("`lull submit {called} INPUT...` runs it"),
    };
    context.out.note(format!("{called} {what}; {runs}"));
    Ok(())
}

/// Publishes a module or a script with the usual options.
pub(crate) async fn publish(context: &Context, client: &Client, file: &Path) -> Result<PublishedBody, Failure> {
    let name = own_name(file).ok_or_else(|| nameless(file))?;
    let source = source(file, context).await?;
    send(context, client, &source.path, &name, PublishOptions::default(), &mut None).await
}

/// Publishes a module, and says in `begun` what can be asked for once the coordinator has it.
async fn send(
    context: &Context,
    client: &Client,
    module: &Path,
    name: &str,
    options: PublishOptions,
    begun: &mut Option<PublicationId>,
) -> Result<PublishedBody, Failure> {
    let mut steps = Steps::new(&context.out);
    let module = Module::read(module, &mut steps).await?;
    for _ in 0..BEGUN_MAX {
        module.send(client, &mut steps).await?;
        let request = PublishRequest { module: module.blob.digest, options };
        let publication = client.begin_publication(name, &request).await?;
        *begun = Some(publication.publication);
        match follow(client, publication, &mut steps).await {
            Err(ClientError::Refused { status: 404, .. }) => {
                context.out.note("the coordinator was started anew meanwhile; publishing again");
            }
            ended => return published(ended?),
        }
    }
    Err(Failure::new(Exit::Unreachable, "the coordinator was started anew again and again").hint("publish again later"))
}

/// What came of an ended publication.
fn published(ended: PublicationBody) -> Result<PublishedBody, Failure> {
    match (ended.state, ended.published, ended.error) {
        (PublicationState::Published, Some(published), _) => Ok(published),
        (PublicationState::Failed, _, Some(detail)) => {
            Err(ClientError::Refused { status: ended.status.unwrap_or_default(), detail }.into())
        }
        (PublicationState::Cancelled, _, _) => {
            Err(Failure::new(Exit::Cancelled, format!("the publication {} was stopped", ended.publication))
                .hint("`lull func publish` begins it again"))
        }
        (_, _, _) => {
            let detail = ErrorDetail {
                code: "unknown".into(),
                message: format!("it is not said what became of the publication {}", ended.publication),
                hint: None,
                leader: None,
            };
            Err(ClientError::Refused { status: ended.status.unwrap_or_default(), detail }.into())
        }
    }
}

/// Stays with a publication until it has ended.
async fn follow(client: &Client, mut publication: PublicationBody, steps: &mut Steps) -> Result<PublicationBody, ClientError> {
    let begun = Instant::now();
    let mut away_since: Option<Instant> = None;
    while !publication.state.is_ended() {
        let detail = format!(" ({})", spoken(Duration::from_secs(begun.elapsed().as_secs())));
        steps.show(&step(&publication), &detail);
        let next = client.publication_after(publication.publication, publication.revision, Duration::from_secs(1));
        match next.await {
            Ok(next) => (publication, away_since) = (next, None),
            Err(error) if passes(&error) && away_since.get_or_insert_with(Instant::now).elapsed() < AWAY_MAX => {
                steps.show("the coordinator does not answer", "");
                sleep(LOOK_AGAIN).await;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(publication)
}

/// Whether the same request may succeed in a moment.
fn passes(error: &ClientError) -> bool {
    matches!(error, ClientError::Unreachable { .. } | ClientError::Refused { status: 429 | 503, .. })
}

fn step(publication: &PublicationBody) -> String {
    let id = publication.publication;
    match (&publication.phase, publication.ahead) {
        (Some(phase), _) => format!("{}: {phase}", publication.function),
        (None, Some(1)) => format!("{}: waiting as {id}, one publication is before it", publication.function),
        (None, Some(ahead)) if ahead > 1 => {
            format!("{}: waiting as {id}, {ahead} publications are before it", publication.function)
        }
        (None, _) => format!("{}: waiting as {id}", publication.function),
    }
}

/// A module on this machine.
struct Module {
    file: File,
    blob: BlobRef,
    shown: String,
}

impl Module {
    /// Hashes a file as a module.
    async fn read(path: &Path, steps: &mut Steps) -> Result<Self, Failure> {
        let unreadable = |error: io::Error| Failure::unreadable(path, &error);
        let size = tokio::fs::metadata(path).await.map_err(unreadable)?.len();
        if size > MODULE_BYTES_MAX {
            let message = format!("{} is larger than {}", path.display(), bytesize::ByteSize(MODULE_BYTES_MAX));
            let hint = "build it without debug information: wasm-strip, or strip = true in its profile";
            return Err(Failure::usage(message).hint(hint));
        }
        let shown = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
        let counted = Arc::new(AtomicU64::new(0));
        let (path_read, count) = (path.to_owned(), counted.clone());
        let mut reading = tokio::task::spawn_blocking(move || hash(&path_read, &count));
        let (file, blob) = loop {
            tokio::select! {
                read = &mut reading => break read.map_err(anyhow::Error::from)?.map_err(unreadable)?,
                () = sleep(LOOK_AGAIN) => steps.show(&format!("reading {shown}"), &so_far(&counted, size)),
            }
        };
        Ok(Self { file, blob, shown })
    }

    /// Sends it to the coordinator, unless that has it.
    async fn send(&self, client: &Client, steps: &mut Steps) -> Result<(), Failure> {
        if client.has_blob(&self.blob.digest).await? {
            return Ok(());
        }
        let mut file = self.file.try_clone().map_err(anyhow::Error::from)?;
        file.rewind().map_err(anyhow::Error::from)?;
        let counted = Arc::new(AtomicU64::new(0));
        let count = counted.clone();
        let parts = ReaderStream::new(tokio::fs::File::from_std(file)).inspect_ok(move |part| {
            count.fetch_add(part.len() as u64, Ordering::Relaxed);
        });
        let sending = client.upload(Body::wrap_stream(parts));
        tokio::pin!(sending);
        let stored = loop {
            tokio::select! {
                stored = &mut sending => break stored?,
                () = sleep(LOOK_AGAIN) => {
                    steps.show(&format!("sending {}", self.shown), &so_far(&counted, self.blob.size_bytes));
                }
            }
        };
        if BlobRef::from(stored) == self.blob {
            return Ok(());
        }
        let message = format!("{} changed while it was read", self.shown);
        Err(Failure::new(Exit::Failed, message).hint("publish again once nobody writes to it"))
    }
}

fn hash(path: &Path, counted: &AtomicU64) -> io::Result<(File, BlobRef)> {
    let mut file = File::open(path)?;
    let (mut outline, mut buffer) = (OutlineBuilder::default(), vec![0; 256 << 10]);
    // A file that grows without end is not read without end.
    let mut limited = file.by_ref().take(MODULE_BYTES_MAX + 1);
    loop {
        match limited.read(&mut buffer)? {
            0 => break,
            read => {
                outline.update(&buffer[..read]);
                counted.fetch_add(read as u64, Ordering::Relaxed);
            }
        }
    }
    Ok((file, outline.finish().0))
}

fn so_far(counted: &AtomicU64, of: u64) -> String {
    let counted = bytesize::ByteSize(counted.load(Ordering::Relaxed));
    format!(": {counted} of {}", bytesize::ByteSize(of))
}

/// `lull func publication`
pub(crate) async fn publication(wanted: &Publication, context: &Context) -> Outcome {
    let client = context.server.connect()?;
    let Some(id) = wanted.publication else {
        context.out.list(&client.publications().await?.items)?;
        return Ok(Exit::Succeeded);
    };
    if wanted.cancel {
        let affected = client.cancel_publication(id).await?.affected;
        let words = if affected > 0 { "it is stopped" } else { "it had ended before" };
        context.out.done(&Deed::new("cancelled", id).affecting(affected), words)?;
        return Ok(Exit::Succeeded);
    }
    let found = client.publication(id).await?;
    if wanted.wait {
        let mut steps = Steps::new(&context.out);
        let ended = follow(&client, found, &mut steps).await?;
        drop(steps);
        show(&published(ended)?, None, context)?;
        return Ok(Exit::Succeeded);
    }
    context.out.one(&found, &id.to_string(), |look| describe(&found, look))?;
    Ok(Exit::Succeeded)
}

impl Row for PublicationBody {
    const NAME: &'static str = "publications";
    const HEADINGS: &'static [&'static str] = &["PUBLICATION", "FUNCTION", "STATE", "BEGUN", "BY"];

    fn id(&self) -> String {
        self.publication.to_string()
    }

    fn cells(&self, look: &Look) -> Vec<Cell> {
        let called = self.published.as_ref().map_or_else(|| self.function.clone(), |made| made.function.called());
        vec![self.id().into(), called.into(), standing(self).into(), look.time(self.begun).into(), self.by.as_str().into()]
    }
}

fn standing(publication: &PublicationBody) -> String {
    match publication.state {
        PublicationState::Waiting => "waiting".into(),
        PublicationState::Working => publication.phase.clone().unwrap_or_else(|| "worked on".into()),
        PublicationState::Published => "published".into(),
        PublicationState::Failed => "failed".into(),
        PublicationState::Cancelled => "cancelled".into(),
    }
}

fn describe(publication: &PublicationBody, look: &Look) -> String {
    let mut lines: Vec<(&str, Cell)> = vec![
        ("publication", publication.id().into()),
        ("function", publication.function.as_str().into()),
        ("module", publication.module.to_string().into()),
        ("state", standing(publication).into()),
        ("begun", format!("{} by {}", look.time(publication.begun), publication.by).into()),
    ];
    if let Some(ahead) = publication.ahead {
        lines.push(("before it", ahead.to_string().into()));
    }
    if let Some(published) = &publication.published {
        lines.push(("version", published.function.called().into()));
    }
    if let Some(error) = &publication.error {
        lines.push(("reason", error.message.as_str().into()));
    }
    pairs(lines, look)
}
