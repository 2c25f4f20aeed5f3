//! The loop over a store in memory.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use futures::{StreamExt as _, stream::FuturesUnordered};
use lull_scheduler::{
    Limits,
    effect::{EndedAttempt, NewJob, TaskAfter},
    event::{AgentSnapshot, Submission},
};
use lull_shared::{
    id::{AttemptId, TaskId, Term, TokenId},
    job::{Inputs, JobSpec},
    message::{Build, Finished, GoodbyeReason, Hello, Outcome, Payload},
    state::{AttemptEnd, Intake, JobState, Usage},
    time::Timestamp,
};

use super::*;
use crate::{
    dispatch::{Catalogue, DispatchError, DispatchHandle, Lease, LeaseTimes, channel, writer::Numbered},
    store::{
        Leadership as _, Ledger as _, Reading as _, Registry as _, Store, Takeover,
        conformance::sample,
        faulty::{Fault, Faulty},
        memory::Memory,
        record::{EnrolmentOutcome, TokenRole},
    },
};

fn shell(store: Arc<dyn Store>, lease: Lease) -> Shell {
    let (revoked, _) = tokio::sync::mpsc::unbounded_channel();
    let (own_copies, _) = tokio::sync::mpsc::unbounded_channel();
    let catalogue = Arc::new(Catalogue::new(store.clone()));
    Shell {
        store,
        catalogue,
        limits: Limits::default(),
        tracker: Arc::default(),
        lease,
        turn_wait: company::WAIT_MAX,
        losses: Arc::default(),
        revoked,
        own_copies,
    }
}

fn lease(length: Duration) -> Lease {
    Lease::begin(LeaseTimes { length, ..LeaseTimes::default() })
}

/// Takes over a new store for so long.
async fn led(store: &Memory, length: Duration) -> Lead {
    match store.take_over("us", length, Timestamp(0)).await {
        Ok(Takeover::Ours(lead)) => lead,
        other => panic!("a new store has no leader: {other:?}"),
    }
}

/// A term whose lease has lapsed, over a store in which another may have taken over since.
async fn asked_after_the_lease(overtaken: bool) -> (Result<Reply, DispatchError>, StoreResult<Ended>) {
    let store = Arc::new(Memory::default());
    let lead = led(&store, Duration::from_secs(6)).await;
    let other = store.clone();
    let shell = shell(store, lease(Duration::ZERO));
    let (handle, mut inbox) = channel();
    let shutdown = CancellationToken::new();
    let leader = run(&shell, &lead, &mut inbox, &shutdown);
    let ask = async {
        if overtaken {
            other.take_over("them", Duration::from_secs(6), Timestamp::from_millis(100_000)).await.expect("the lease is over");
        }
        let answer = handle.request(|request| Event::Cancel { request, job: JobId(7), by: "ann".into() }).await;
        shutdown.cancel();
        answer
    };
    let (ended, answer) = tokio::join!(leader, ask);
    (answer, ended)
}

#[tokio::test]
async fn whoever_may_have_been_replaced_says_nothing_that_the_store_has_not_confirmed() {
    let (answer, ended) = asked_after_the_lease(true).await;
    assert!(answer.is_err(), "{answer:?}");
    assert!(matches!(ended, Ok(Ended::Fenced)), "{ended:?}");
}

#[tokio::test]
async fn whoever_was_not_replaced_answers_when_the_store_has_confirmed_it() {
    let (answer, ended) = asked_after_the_lease(false).await;
    assert!(matches!(answer, Ok(Reply::Refused(Refusal::NoJob(JobId(7))))), "{answer:?}");
    assert!(matches!(ended, Ok(Ended::Stopped)), "{ended:?}");
}

#[tokio::test]
async fn people_who_look_are_answered_while_the_store_refuses_to_remember_more() {
    let memory = Arc::new(Memory::default());
    let lead = led(&memory, Duration::from_secs(6)).await;
    let refuses = |method: &str| if method == "commit" { Fault::Refused } else { Fault::None };
    let store = Arc::new(Faulty::new(memory, refuses));
    let shell = shell(store, lease(Duration::from_secs(600)));
    let (handle, mut inbox) = channel();
    let shutdown = CancellationToken::new();
    let leader = run(&shell, &lead, &mut inbox, &shutdown);
    let ask = async {
        let jobs = || handle.query(|scheduler, now| scheduler.jobs(now).len());
        let mut waits = std::pin::pin!(handle.submit(submission(1), handle.moment()));
        // The first answer that has the job in it may come before the commit is tried, the next one cannot.
        let mut seen = 0;
        while seen < 2 {
            tokio::select! {
                answer = &mut waits => panic!("nothing is remembered: {answer:?}"),
                jobs = jobs() => seen += jobs.expect("an answer"),
            }
        }
        shutdown.cancel();
    };
    let (ended, ()) = tokio::join!(leader, ask);
    assert!(matches!(ended, Ok(Ended::Stopped)), "{ended:?}");
}

/// More than some transactions take.
const MANY: u32 = 17_000;

/// A store in which many tasks of a job wait to be started again, and its term.
async fn with_many_that_wait() -> (Arc<Memory>, Lead) {
    with_many(AttemptEnd::Evicted, TaskAfter::Again { not_before: Timestamp(1), failures: 0 }).await
}

/// A store in which many tasks of a job have failed, and with them the job; and its term.
async fn with_many_that_failed() -> (Arc<Memory>, Lead) {
    let (memory, lead) = with_many(AttemptEnd::Failed, TaskAfter::Failed).await;
    let ended = Change::JobEnded { job: JobId(1), state: JobState::Failed, at: Timestamp(2) };
    memory.commit(&lead, &[ended]).await.expect("memory takes it");
    (memory, lead)
}

async fn with_many(end: AttemptEnd, after: TaskAfter) -> (Arc<Memory>, Lead) {
    let memory = Arc::new(Memory::default());
    let lead = led(&memory, Duration::from_secs(6)).await;
    let agent = enrolled(&memory, &lead, 7).await;
    let new = NewJob {
        job: JobId(1),
        owner: Some(TokenId(1)),
        submitter: "ann".into(),
        spec: JobSpec::plain("nightly", VersionId(1), Inputs::Range { first: 0, count: MANY }),
        version_name: "f@1".into(),
        seed: 1,
        movable: None,
        at: Timestamp(0),
    };
    memory.commit(&lead, &[Change::JobSubmitted(Box::new(new))]).await.expect("memory takes it");
    let attempts = (0..MANY).map(|index| AttemptId { task: TaskId { job: JobId(1), index }, number: 1 });
    let began = attempts.clone().map(|attempt| Change::AttemptStarted {
        attempt,
        agent,
        at: Timestamp(0),
        build: Build::Plain,
        resume: None,
        beside: false,
        cause: None,
    });
    let ended = attempts.map(|attempt| {
        Change::AttemptEnded(Box::new(EndedAttempt {
            attempt,
            agent,
            end,
            reason: None,
            failure: None,
            at: Timestamp(1),
            after,
            output: None,
            answer: None,
            log: Default::default(),
            log_dropped_bytes: 0,
            usage: Default::default(),
            slot_us: 0,
        }))
    });
    memory.commit(&lead, &began.collect::<Vec<_>>()).await.expect("memory takes them");
    memory.commit(&lead, &ended.collect::<Vec<_>>()).await.expect("memory takes them");
    (memory, lead)
}

/// A machine that has joined with a token of its own, called by its number.
async fn enrolled(memory: &Memory, lead: &Lead, number: u8) -> AgentId {
    let token = memory.create_token(lead, sample::token(TokenRole::Agent, number)).await.expect("memory answers");
    let token = token.expect("a new name").token;
    let enrolment = sample::enrolment(token, number, &format!("peer {number}"), &format!("desk-{number}"));
    match memory.enrol(lead, enrolment).await.expect("memory answers") {
        EnrolmentOutcome::Enrolled { agent, .. } => agent.agent,
        other => panic!("{other:?}"),
    }
}

/// The first words of an agent with so many slots.
fn hello(agent: AgentId, slots: u16) -> Box<Hello> {
    Box::new(Hello {
        agent_version: "1".into(),
        machine: sample::machine(),
        labels: Default::default(),
        capacity: sample::capacity(agent.0, slots),
        holding: Vec::new(),
        snapshots: Vec::new(),
        instance: Default::default(),
        open_cage: None,
    })
}

/// A job of so many tasks, submitted by ann.
fn submission(count: u32) -> Submission {
    Submission {
        owner: TokenId(1),
        submitter: "ann".into(),
        spec: JobSpec::plain("nightly", VersionId(1), Inputs::Range { first: 0, count }),
        version_name: "f@1".into(),
        seed: 1,
        movable: None,
        ended: BTreeMap::new(),
    }
}

fn cancel(request: RequestId) -> Event {
    Event::Cancel { request, job: JobId(1), by: "ann".into() }
}

/// A store that counts commits, each of which takes a moment.
fn counted(memory: Arc<Memory>) -> (Arc<dyn Store>, Arc<AtomicU32>) {
    let commits = Arc::<AtomicU32>::default();
    let counted = commits.clone();
    let store = Faulty::new(memory, move |method| match method {
        "commit" => {
            counted.fetch_add(1, Ordering::Relaxed);
            Fault::Delayed(Duration::from_millis(1))
        }
        _ => Fault::None,
    });
    (Arc::new(store), commits)
}

/// Asks for something that concerns many tasks, and then for something else and how things stand, until it is through.
/// At how many commits it was answered, the other wish, each look, and all at the end.
async fn asked_in_between<T>(
    store: Arc<dyn Store>,
    commits: &AtomicU32,
    lead: &Lead,
    wish: impl AsyncFnOnce(&DispatchHandle) -> T,
    through: impl Fn(&Scheduler, Timestamp) -> bool + Copy + Send + 'static,
) -> (T, [u32; 3], Vec<u32>) {
    let shell = shell(store, lease(Duration::from_secs(600)));
    let (handle, mut inbox) = channel();
    let shutdown = CancellationToken::new();
    let leader = run(&shell, lead, &mut inbox, &shutdown);
    let ask = async {
        let now = || commits.load(Ordering::Relaxed);
        let answer = wish(&handle).await;
        let answered = now();
        let mut other = std::pin::pin!(handle.submit(submission(1), handle.moment()));
        let (mut other_at, mut looks) = (None, Vec::new());
        loop {
            tokio::select! {
                biased;
                reply = &mut other, if other_at.is_none() => {
                    assert!(matches!(reply, Ok(Reply::Submitted { .. })), "{reply:?}");
                    other_at = Some(now());
                }
                is_through = handle.query(through) => {
                    looks.push(now());
                    if other_at.is_some() && is_through == Ok(true) {
                        break;
                    }
                }
            }
        }
        // What was decided is committed before this is answered.
        let _ = handle.request(|request| Event::Cancel { request, job: JobId(77), by: "ann".into() }).await;
        shutdown.cancel();
        (answer, [answered, other_at.expect("it was answered"), now()], looks)
    };
    let (ended, asked) = tokio::join!(leader, ask);
    assert!(matches!(ended, Ok(Ended::Stopped)), "{ended:?}");
    asked
}

#[tokio::test]
async fn what_changes_more_than_a_transaction_takes_is_cut_and_everybody_has_their_turn_in_between() {
    let (memory, lead) = with_many_that_wait().await;
    let (store, commits) = counted(memory.clone());
    let through = |scheduler: &Scheduler, now| scheduler.job(JobId(1), now).is_none();
    let wish = async |handle: &DispatchHandle| handle.request(cancel).await;
    let (reply, [answered, other, all], looks) = asked_in_between(store, &commits, &lead, wish, through).await;
    assert!(matches!(reply, Ok(Reply::Done { affected }) if affected == u64::from(MANY)), "{reply:?}");
    assert!(all >= MANY / 4_096, "{all} commits");
    assert!(answered < all && other < all, "it is answered after {answered}, and another after {other} of {all} commits");
    assert!(looks.iter().any(|at| (1..all).contains(at)), "looked after {looks:?} of {all} commits");
    let job = memory.job(JobId(1)).await.expect("memory answers").expect("submitted");
    assert_eq!((job.state, job.counts.cancelled), (JobState::Cancelled, MANY));
}

#[tokio::test]
async fn a_retry_of_many_goes_on_in_parts_and_everybody_has_their_turn_in_between() {
    let (memory, lead) = with_many_that_failed().await;
    let (store, commits) = counted(memory.clone());
    let through = |scheduler: &Scheduler, now| scheduler.job(JobId(1), now).is_some_and(|job| job.counts.queued == MANY);
    let wish = async |handle: &DispatchHandle| handle.retry(JobId(1), "ann".into(), None).await;
    let (reply, [answered, other, all], looks) = asked_in_between(store, &commits, &lead, wish, through).await;
    assert!(matches!(reply, Ok(Reply::Done { affected }) if affected == u64::from(MANY)), "{reply:?}");
    assert!(all >= MANY / 2_048, "{all} commits");
    assert!(answered < all && other < all, "it is answered after {answered}, and another after {other} of {all} commits");
    assert!(looks.iter().any(|at| (1..all).contains(at)), "looked after {looks:?} of {all} commits");
    let job = memory.job(JobId(1)).await.expect("memory answers").expect("submitted");
    assert_eq!((job.state, job.counts.queued), (JobState::Active, MANY));
}

#[tokio::test]
async fn a_coordinator_that_dies_in_the_middle_of_a_retry_is_followed_by_one_that_does_the_rest() {
    for committed in 1..=MANY / 2_048 {
        let (memory, lead) = with_many_that_failed().await;
        let store = dies_after(&memory, committed);
        let shell_of = |store| shell(store, lease(Duration::from_secs(600)));
        let (handle, mut inbox) = channel();
        let shutdown = CancellationToken::new();
        let dies = shell_of(store);
        let ask = async { tokio::time::timeout(Duration::from_secs(60), handle.retry(JobId(1), "ann".into(), None)).await };
        let (ended, asked) = tokio::join!(run(&dies, &lead, &mut inbox, &shutdown), ask);
        assert!(matches!(ended, Ok(Ended::InDoubt)), "{ended:?}");
        assert!(matches!(asked, Ok(Ok(Reply::Done { affected })) if affected == u64::from(MANY)), "{asked:?}");
        let queued = memory.job(JobId(1)).await.expect("memory answers").expect("submitted").counts.queued;
        assert!(queued > 0 && queued < MANY, "{queued} are queued again");
        let follows = shell_of(memory.clone());
        let (ended, again) = tokio::join!(run(&follows, &lead, &mut inbox, &shutdown), async {
            let all = |scheduler: &Scheduler, now| scheduler.job(JobId(1), now).map(|job| job.counts.queued) == Some(MANY);
            while handle.query(all).await != Ok(true) {}
            let again = handle.retry(JobId(1), "ann".into(), None).await;
            shutdown.cancel();
            again
        });
        assert!(matches!(ended, Ok(Ended::Stopped)), "{ended:?}");
        assert!(matches!(again, Ok(Reply::Refused(Refusal::NothingToRetry(_)))), "{again:?}");
        let job = memory.job(JobId(1)).await.expect("memory answers").expect("submitted");
        assert_eq!((job.state, job.counts.queued), (JobState::Active, MANY), "after {committed} commits");
    }
}

/// A store of which nothing is heard any more after so many commits.
fn dies_after(memory: &Arc<Memory>, commits: u32) -> Arc<dyn Store> {
    let mut left = commits;
    Arc::new(Faulty::new(memory.clone(), move |method| match method {
        "commit" if left == 0 => Fault::Lost,
        "commit" => {
            left -= 1;
            Fault::None
        }
        _ => Fault::None,
    }))
}

#[tokio::test]
async fn a_coordinator_that_dies_between_two_parts_is_followed_by_one_that_does_the_rest() {
    for committed in 1..=MANY / 4_096 {
        let (memory, lead) = with_many_that_wait().await;
        let store = dies_after(&memory, committed);
        let shell_of = |store| shell(store, lease(Duration::from_secs(600)));
        let (handle, mut inbox) = channel();
        let shutdown = CancellationToken::new();
        let dies = shell_of(store);
        let (ended, _) = tokio::join!(run(&dies, &lead, &mut inbox, &shutdown), async {
            // The reply dies with its coordinator, or came before it did.
            let asked = tokio::time::timeout(Duration::from_secs(60), handle.request(cancel)).await;
            asked.is_ok()
        });
        assert!(matches!(ended, Ok(Ended::InDoubt)), "{ended:?}");
        let job = memory.job(JobId(1)).await.expect("memory answers").expect("submitted");
        assert!(job.state == JobState::Active && job.counts.cancelled > 0 && job.counts.cancelled < MANY, "{job:?}");
        let follows = shell_of(memory.clone());
        let (ended, ()) = tokio::join!(run(&follows, &lead, &mut inbox, &shutdown), async {
            while handle.query(|scheduler, now| scheduler.jobs(now).len()).await != Ok(0) {}
            // What was decided is committed before this is answered.
            let after = handle.request(cancel).await;
            assert!(matches!(after, Ok(Reply::Refused(Refusal::NoJob(JobId(1))))), "{after:?}");
            shutdown.cancel();
        });
        assert!(matches!(ended, Ok(Ended::Stopped)), "{ended:?}");
        let job = memory.job(JobId(1)).await.expect("memory answers").expect("submitted");
        assert_eq!((job.state, job.counts.cancelled), (JobState::Cancelled, MANY), "after {committed} commits");
    }
}

#[test]
fn others_learn_which_jobs_change_who_is_out_and_that_a_job_ended() {
    let intake = |number, before, intake| Change::AgentIntake {
        agent: AgentId(number),
        intake,
        before,
        by: "ann".into(),
        at: Timestamp(1),
    };
    let ended = |job| Change::JobEnded { job: JobId(job), state: JobState::Succeeded, at: Timestamp(1) };
    let news = News::of(&[
        intake(1, Intake::Open, Intake::Cordoned),
        intake(2, Intake::Open, Intake::Revoked),
        intake(3, Intake::Revoked, Intake::Open),
    ]);
    assert_eq!((news.jobs, news.revoked, news.job_ended), (BTreeSet::new(), vec![AgentId(2), AgentId(3)], false));
    let news = News::of(&[ended(2), ended(1), ended(2)]);
    assert_eq!((news.jobs, news.revoked, news.job_ended), (BTreeSet::from([JobId(1), JobId(2)]), vec![], true));
    let (state, by) = (JobState::Cancelled, "ann".to_owned());
    let stopped = Change::JobStopped { job: JobId(3), state, by, at: Timestamp(1) };
    let news = News::of(&[stopped]);
    assert_eq!((news.jobs, news.job_ended), (BTreeSet::from([JobId(3)]), false));
}

#[tokio::test]
async fn what_waits_is_taken_as_far_as_one_turn_goes() {
    let (inbox, mut inputs) = mpsc::channel(2 * INPUTS_PER_TURN);
    let put = async |count: usize| {
        for _ in 0..count {
            let (reply, _) = oneshot::channel();
            inbox.send(Input::Request { make: Box::new(cancel), reply }).await.expect("there is room");
        }
    };
    let mut batch = Vec::new();
    put(3).await;
    take_waiting(&mut inputs, &mut batch);
    assert_eq!(batch.len(), 3);
    put(INPUTS_PER_TURN).await;
    take_waiting(&mut inputs, &mut batch);
    assert_eq!((batch.len(), inputs.len()), (INPUTS_PER_TURN, 3));
}

#[tokio::test]
async fn a_stream_is_closed_with_the_last_order_and_where_its_agent_does_not_keep_up() {
    let shell = shell(Arc::new(Memory::default()), lease(Duration::from_secs(600)));
    let (scheduler, agent) = with_a_busy_agent();
    let mut leader = leader(&shell, scheduler);
    let outgoing = |number, order| Outgoing { agent, stream: StreamId(1), number, order };
    let forget = || Order::Forget { job: JobId(1) };
    let (link, mut queue) = AgentLink::loose();
    leader.links.insert(StreamId(1), link);
    leader.send(outgoing(1, forget()));
    leader.send(Outgoing { stream: StreamId(2), ..outgoing(2, forget()) });
    assert_eq!(leader.links.len(), 1, "it goes on");
    leader.send(outgoing(2, Order::Goodbye { reason: GoodbyeReason::Revoked }));
    assert!(leader.links.is_empty());
    leader.send(outgoing(3, forget()));
    let mut written = Vec::new();
    while let Some(Numbered { number, .. }) = queue.recv().await {
        written.push(number);
    }
    assert_eq!(written, [1, 2]);

    let (link, queue) = AgentLink::loose();
    leader.links.insert(StreamId(1), link);
    drop(queue);
    leader.send(outgoing(1, forget()));
    assert!(leader.links.is_empty(), "it broke");

    let (link, _queue) = AgentLink::loose();
    leader.links.insert(StreamId(1), link);
    for number in 1..=1_000_000 {
        leader.send(outgoing(number, forget()));
    }
    assert!(leader.links.is_empty(), "it reads nothing");
}

/// A scheduler with an agent that has short tasks waiting behind the one that it runs.
fn with_a_busy_agent() -> (Scheduler, AgentId) {
    let (agent, at) = (AgentId(1), Timestamp::from_millis(1));
    let mut scheduler = Scheduler::restore(Default::default(), Limits::default(), 1, at);
    let name = "desk".to_owned();
    let snapshot = AgentSnapshot { agent, name, group: None, intake: Intake::Open, quarantine: None };
    scheduler.handle(Event::Enrolled { agent: snapshot }, at);
    scheduler.handle(Event::Connected { agent, stream: StreamId(1), hello: hello(agent, 1), from: "here".into() }, at);
    let submission = Box::new(submission(1_000));
    scheduler.handle(Event::Submit { request: RequestId(1), submission }, at);
    for ms in 2..40 {
        let at = Timestamp::from_millis(ms);
        let attempt = scheduler.agent(agent).expect("enrolled").attempts[0];
        let started = ToCoordinator::Started { attempts: vec![attempt] };
        scheduler.handle(Event::Message { agent, stream: StreamId(1), message: started }, at);
        scheduler.handle(finished(agent, attempt), at);
        while scheduler.poll_effect().is_some() {}
    }
    assert!(scheduler.waiting_at(agent) >= 5, "{:?}", scheduler.agent(agent));
    (scheduler, agent)
}

fn finished(agent: AgentId, attempt: AttemptId) -> Event {
    let outcome = Outcome::Succeeded { output: Payload::inline(Vec::new()) };
    let usage = Usage { wall_us: 1_000, ..Usage::default() };
    let result = Finished { attempt, outcome, log: Default::default(), log_dropped_bytes: 0, usage };
    Event::Message { agent, stream: StreamId(1), message: ToCoordinator::Finished(vec![result]) }
}

/// A loop that has just begun.
fn leader(shell: &Shell, scheduler: Scheduler) -> Leader<'_> {
    Leader {
        shell,
        lead: Lead::new(Term(1), "us"),
        clock: Steady::start(),
        scheduler,
        links: BTreeMap::new(),
        replies: BTreeMap::new(),
        company: Company::new(company::WAIT_MAX),
        last_request: 0,
        looks: JoinSet::new(),
        changed: tokio::sync::broadcast::Sender::new(1),
        moments: submission::Moments::default(),
        shutdown: CancellationToken::new(),
    }
}

async fn heard(event: Event) -> Input {
    let place = || async { Arc::new(tokio::sync::Semaphore::new(1)).acquire_owned().await.expect("it is open") };
    Input::Heard(Box::new(event), super::super::Place::new(Arc::new(place().await), place().await))
}

#[tokio::test]
async fn results_wait_for_company_where_nobody_is_idle_for_it_and_nothing_else_waits() {
    let shell = shell(Arc::new(Memory::default()), lease(Duration::from_secs(600)));
    let (scheduler, agent) = with_a_busy_agent();
    let attempts = scheduler.agent(agent).expect("enrolled").attempts;
    let mut leader = leader(&shell, scheduler);
    let ((inbox, mut inputs), (_queries, mut queries)) = (mpsc::channel(1_024), mpsc::channel(1));
    let mut batch = vec![heard(finished(agent, attempts[0])).await];
    inbox.send(heard(finished(agent, attempts[1])).await).await.expect("there is room");
    assert!(leader.gather(&mut batch, &mut inputs, &mut queries, None).await.is_none());
    assert_eq!(batch.len(), 1, "the turn before had no company");
    leader.company.note(company::FULL, Instant::now());
    leader.gather(&mut batch, &mut inputs, &mut queries, None).await;
    assert_eq!(batch.len(), 2, "the next is committed with it");

    // Half as many as wait there are no reason to hurry, one more is.
    let waiting = leader.scheduler.waiting_at(agent);
    for _ in 0..waiting + 2 {
        inbox.send(heard(finished(agent, attempts[2])).await).await.expect("there is room");
    }
    leader.company.note(company::FULL, Instant::now());
    leader.gather(&mut batch, &mut inputs, &mut queries, None).await;
    assert_eq!(batch.len(), waiting / 2 + 1, "whoever has little more to run does not wait");

    let (reply, _) = oneshot::channel();
    let mut batch = vec![Input::Request { make: Box::new(cancel), reply }];
    leader.company.note(company::FULL, Instant::now());
    leader.gather(&mut batch, &mut inputs, &mut queries, None).await;
    assert_eq!(batch.len(), 1, "a person does not wait");
}

/// An agent that runs so many tasks at once, each for so long, and tells each result by itself.
async fn work(
    handle: DispatchHandle,
    agent: AgentId,
    slots: usize,
    task: Duration,
    mut orders: mpsc::UnboundedReceiver<Numbered>,
    done: Arc<AtomicU32>,
) {
    let (mut waiting, mut held, mut running) = (VecDeque::new(), BTreeSet::new(), FuturesUnordered::new());
    let (mut read, mut beat) = (0, tokio::time::interval(Duration::from_secs(1)));
    loop {
        while running.len() < slots
            && let Some(attempt) = waiting.pop_front()
        {
            running.push(async move {
                tokio::time::sleep(task).await;
                attempt
            });
        }
        let event = tokio::select! {
            order = orders.recv() => {
                let Some(Numbered { number, order }) = order else { return };
                read = number;
                if let Order::Assign { attempts } = order {
                    held.extend(attempts.iter().map(|given| given.attempt));
                    waiting.extend(attempts.into_iter().map(|given| given.attempt));
                }
                continue;
            }
            Some(attempt) = running.next(), if !running.is_empty() => {
                held.remove(&attempt);
                done.fetch_add(1, Ordering::Relaxed);
                let mut event = finished(agent, attempt);
                if let Event::Message { stream, message: ToCoordinator::Finished(results), .. } = &mut event {
                    (*stream, results[0].usage.wall_us) = (StreamId(agent.0), task.as_micros() as u64);
                }
                event
            }
            _ = beat.tick() => {
                let message = ToCoordinator::Heartbeat { frame_read: read, holding: held.iter().copied().collect() };
                Event::Message { agent, stream: StreamId(agent.0), message }
            }
        };
        let Input::Heard(event, place) = heard(event).await else { return };
        if handle.heard(*event, place).await.is_err() {
            return;
        }
    }
}

/// Commits for 1,000 completions, and completions in a second, with a store this far away.
async fn cost(wait: Duration, round_trip: Duration, task: Duration, agents: u64, slots: u16) -> (f64, f64) {
    let memory = Arc::new(Memory::default());
    let lead = led(&memory, Duration::from_secs(600)).await;
    for number in 0..agents {
        enrolled(&memory, &lead, number as u8).await;
    }
    let commits = Arc::<AtomicU32>::default();
    let counted = commits.clone();
    let store = Faulty::new(memory.clone(), move |method| {
        if method != "commit" {
            return Fault::None;
        }
        counted.fetch_add(1, Ordering::Relaxed);
        Fault::Delayed(round_trip)
    });
    let shell = Shell { turn_wait: wait, ..shell(Arc::new(store), lease(Duration::from_secs(600))) };
    let (handle, mut inbox) = channel();
    let (shutdown, done) = (CancellationToken::new(), Arc::<AtomicU32>::default());
    let leader = run(&shell, &lead, &mut inbox, &shutdown);
    let ask = async {
        for number in 1..=agents {
            let agent = AgentId(number);
            let (link, orders) = AgentLink::loose();
            handle.attach(StreamId(number), link).await.expect("it leads");
            let connected = Event::Connected { agent, stream: StreamId(number), hello: hello(agent, slots), from: "here".into() };
            handle.event(connected).await.expect("it leads");
            tokio::spawn(work(handle.clone(), agent, usize::from(slots), task, orders, done.clone()));
        }
        handle.submit(submission(1_000_000), handle.moment()).await.expect("it leads");
        tokio::time::sleep(Duration::from_secs(3)).await;
        let (first, began, from) = (done.load(Ordering::Relaxed), Instant::now(), commits.load(Ordering::Relaxed));
        tokio::time::sleep(Duration::from_secs(5)).await;
        let completions = f64::from(done.load(Ordering::Relaxed) - first);
        let spent = f64::from(commits.load(Ordering::Relaxed) - from);
        shutdown.cancel();
        (spent * 1_000.0 / completions, completions / began.elapsed().as_secs_f64())
    };
    let (_, cost) = tokio::join!(leader, ask);
    cost
}

/// `cargo test -p lull-coordinator --lib -- --ignored --nocapture what_a_stream_of_results_costs`
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement"]
async fn what_a_stream_of_results_costs_the_store() {
    for round_trip_ms in [1, 5, 20] {
        for task_ms in [5, 20, 80, 400] {
            let (round_trip, task) = (Duration::from_millis(round_trip_ms), Duration::from_millis(task_ms));
            let (alone, rate_alone) = cost(Duration::ZERO, round_trip, task, 20, 4).await;
            let (commits, rate) = cost(company::WAIT_MAX, round_trip, task, 20, 4).await;
            println!(
                "round trip {round_trip_ms} ms, tasks of {task_ms} ms: {commits:.1} commits for 1,000 completions at {rate:.0} a \
                 second; without waiting {alone:.1} at {rate_alone:.0}"
            );
        }
    }
}
