//! Tokens, agents, versions and the audit.

use lull_scheduler::effect::Change;
use lull_shared::{
    id::{AgentId, Term, VersionId},
    policy::{Book, Changes},
    state::{Intake, JobState},
};

use super::{super::record::*, World, sample::*};
use crate::{
    store::{Lead, StoreError},
    version::Which,
};

pub(super) async fn a_policy_follows_the_one_that_was_read(world: World) {
    let (store, lead) = (&world.store, &world.lead);
    let edition = |follows, version, pair: &str| {
        let book = Book { base: Changes::from_pairs(&[pair]).expect("changes"), overrides: Vec::new() };
        let record = PolicyRecord { version, book, set: at(3), set_by: "root".into() };
        NewPolicy { follows, record, detail: pair.into() }
    };
    assert_eq!(store.policy().await.expect("an answer"), None);
    assert!(store.set_policy(lead, edition(0, 1, "idle=5m")).await.expect("an answer"));
    assert!(!store.set_policy(lead, edition(0, 2, "idle=6m")).await.expect("an answer"), "another was faster");
    let second = edition(1, 7, "hours=18:00-08:00; 00:00-24:00 sat,sun");
    assert!(store.set_policy(lead, second.clone()).await.expect("an answer"));
    assert_eq!(store.policy().await.expect("an answer"), Some(second.record));
    let lines = store.audit(10).await.expect("an answer");
    let line = (lines[0].action.as_str(), lines[0].subject.as_str(), lines[0].by.as_str());
    assert_eq!((lines.len(), line), (2, ("policy.set", "version 7", "root")));
    let older = Lead::new(Term(lead.term.0 - 1), &lead.holder);
    assert!(matches!(store.set_policy(&older, edition(7, 8, "idle=1m")).await, Err(StoreError::Fenced(_))));
}

pub(super) async fn tokens_are_made_listed_and_revoked(world: World) {
    let (store, lead) = (&world.store, &world.lead);
    let mut new = token(TokenRole::Submitter, 1);
    (new.uses_max, new.expires) = (Some(5), Some(at(99)));
    let first = store.create_token(lead, new).await.expect("an answer").expect("a token is made");
    let second = store.create_token(lead, token(TokenRole::Agent, 2)).await.expect("an answer").expect("a token is made");
    assert_eq!((first.token, second.token, first.role, first.uses), (1, 2, TokenRole::Submitter, 0));
    assert_eq!((first.uses_max, first.expires, first.created_by.as_str()), (Some(5), Some(at(99)), "root"));
    assert!(store.revoke_token(lead, 1, "root", at(3)).await.expect("an answer"));
    assert!(store.revoke_token(lead, 1, "root", at(4)).await.expect("an answer"), "it is there, and revoked already");
    assert!(!store.revoke_token(lead, 3, "root", at(3)).await.expect("an answer"));
    let revoked = TokenRecord { revoked: Some(at(3)), ..first };
    assert_eq!(store.tokens().await.expect("an answer"), [revoked, second]);
}

pub(super) async fn a_token_authenticates_while_it_is_valid(world: World) {
    let (store, lead) = (&world.store, &world.lead);
    let mut new = token(TokenRole::Admin, 1);
    new.expires = Some(at(100));
    let made = store.create_token(lead, new).await.expect("an answer").expect("a token is made");
    store.create_token(lead, token(TokenRole::Agent, 2)).await.expect("an answer").expect("a token is made");
    let who = async |byte: u8, seconds| store.authenticate(&[byte; 32], at(seconds)).await.expect("an answer").map(|t| t.token);
    assert_eq!(who(1, 99).await, Some(made.token));
    assert_eq!(who(1, 100).await, None, "expired");
    assert_eq!(who(2, 1).await, None, "a join token is nobody's");
    assert_eq!(who(3, 1).await, None, "unknown");
    store.revoke_token(lead, made.token, "root", at(50)).await.expect("an answer");
    assert_eq!(who(1, 51).await, None, "revoked");
}

pub(super) async fn a_machine_enrols_and_is_found_again(world: World) {
    let (store, lead) = (&world.store, &world.lead);
    let made = store.create_token(lead, token(TokenRole::Agent, 1)).await.expect("an answer").expect("a token is made").token;
    let first = world.enrolled(enrolment(made, 1, "p1", "desk")).await;
    assert_eq!((first.agent, first.name.as_str(), first.enrolled, first.intake), (AgentId(1), "desk", at(1), Intake::Open));
    assert_eq!(world.enrolled(enrolment(made, 1, "p2", "desk")).await.name, "desk-2");
    assert_eq!(world.enrolled(enrolment(made, 1, "p3", "DESK")).await.name, "DESK-3", "told apart whatever the case");
    let again = store.enrol(lead, enrolment(made, 1, "p1", "other")).await.expect("an answer");
    assert_eq!(again, EnrolmentOutcome::Enrolled { agent: Box::new(first.clone()), new: false, replaced: None });
    assert_eq!(store.tokens().await.expect("an answer")[0].uses, 3, "being found again spends nothing");
    assert_eq!(store.agent_by_peer(b"p1").await.expect("an answer"), Some(first));
    assert_eq!(store.agents().await.expect("an answer").len(), 3);
}

pub(super) async fn a_join_token_ends_with_its_uses_and_its_time(world: World) {
    let (store, lead) = (&world.store, &world.lead);
    let mut new = token(TokenRole::Agent, 1);
    (new.uses_max, new.expires) = (Some(1), Some(at(10)));
    let made = store.create_token(lead, new).await.expect("an answer").expect("a token is made").token;
    let person = store.create_token(lead, token(TokenRole::Admin, 2)).await.expect("an answer").expect("a token is made").token;
    let enrol = async |wish: Enrolment| store.enrol(lead, wish).await.expect("an answer");
    assert_eq!(enrol(enrolment(77, 1, "p1", "a")).await, EnrolmentOutcome::UnknownToken);
    assert_eq!(enrol(enrolment(made, 9, "p1", "a")).await, EnrolmentOutcome::UnknownToken, "a wrong secret");
    assert_eq!(enrol(enrolment(person, 2, "p1", "a")).await, EnrolmentOutcome::UnknownToken, "a person's token");
    let late = Enrolment { at: at(10), ..enrolment(made, 1, "p1", "a") };
    assert_eq!(enrol(late.clone()).await, EnrolmentOutcome::Expired);
    let agent = world.enrolled(enrolment(made, 1, "p1", "a")).await;
    assert_eq!(enrol(enrolment(made, 1, "p2", "b")).await, EnrolmentOutcome::UsedUp);
    assert_eq!(
        enrol(late).await,
        EnrolmentOutcome::Enrolled { agent: Box::new(agent), new: false, replaced: None },
        "a lost answer can be asked for again"
    );
    store.revoke_token(lead, made, "root", at(2)).await.expect("an answer");
    assert_eq!(enrol(enrolment(made, 1, "p3", "c")).await, EnrolmentOutcome::UnknownToken);
}

pub(super) async fn a_revoked_machine_does_not_come_back(world: World) {
    let (store, lead) = (&world.store, &world.lead);
    let create = async |new| store.create_token(lead, new).await.expect("an answer").expect("a token is made").token;
    let made = create(token(TokenRole::Agent, 1)).await;
    let agent = world.enrolled(enrolment(made, 1, "p1", "desk")).await.agent;
    let change = |intake, before| Change::AgentIntake { agent, intake, before, by: "root".into(), at: at(5) };
    world.commit(&[change(Intake::Revoked, Intake::Open)]).await;
    let enrol = async |wish: Enrolment| store.enrol(lead, wish).await.expect("an answer");
    assert_eq!(enrol(enrolment(made, 1, "p1", "desk")).await, EnrolmentOutcome::Revoked);
    assert_eq!(enrol(enrolment(made, 1, "p1", "other")).await, EnrolmentOutcome::Revoked, "its key is remembered");
    assert_eq!(enrol(enrolment(made, 1, "p2", "desk")).await, EnrolmentOutcome::NameRevoked, "and so is its name");
    let patterned = create(NewToken { bound: bound(&["d*"], None), ..token(TokenRole::Agent, 3) }).await;
    assert_eq!(enrol(enrolment(patterned, 3, "p2", "desk")).await, EnrolmentOutcome::NameRevoked);
    let replacing = create(NewToken { bound: bound(&["desk"], None), ..token(TokenRole::Agent, 2) }).await;
    let outcome = enrol(enrolment(replacing, 2, "p2", "Desk")).await;
    let EnrolmentOutcome::Enrolled { agent: fresh, new: true, replaced: Some(replaced) } = outcome else { panic!("{outcome:?}") };
    assert_eq!(fresh.name, "Desk", "an administrator let another machine in, in its place");
    assert_eq!((replaced.agent, replaced.name.as_str(), replaced.intake), (agent, "Desk-replaced", Intake::Revoked));
    assert_eq!(store.agents().await.expect("an answer"), [*replaced, *fresh]);
    let audit = store.audit(2).await.expect("an answer");
    let lines: Vec<_> = audit.iter().rev().map(|line| (line.action.as_str(), line.subject.as_str(), &*line.detail)).collect();
    let words = "another machine is called Desk in its place, and it Desk-replaced";
    assert_eq!(lines, [("agent.replace", "a1", words), ("agent.enrol", "a2", "Desk")]);
    world.commit(&[change(Intake::Open, Intake::Revoked)]).await;
    assert_eq!(world.enrolled(enrolment(made, 1, "p1", "desk")).await.agent, agent);
    let second = world.enrolled(enrolment(made, 1, "p3", "desk")).await;
    assert_eq!(second.name, "desk-2", "nobody of that name is out any more");
}

pub(super) async fn a_machine_that_left_is_removed_and_what_it_ran_keeps_its_name(world: World) {
    let (store, lead) = (&world.store, &world.lead);
    let made = store.create_token(lead, token(TokenRole::Agent, 1)).await.expect("an answer").expect("a token is made").token;
    let (desk, other) = (
        world.enrolled(enrolment(made, 1, "p1", "desk")).await.agent,
        world.enrolled(enrolment(made, 1, "p2", "other")).await.agent,
    );
    let change = |agent, intake, before| Change::AgentIntake { agent, intake, before, by: "root".into(), at: at(7) };
    let remove = async |agent| store.remove_agent(lead, agent, "root", at(8)).await.expect("an answer");
    let record = async |agent: AgentId| {
        store.agents().await.expect("an answer").into_iter().find(|record| record.agent == agent).expect("it is there")
    };
    assert!(!remove(desk).await, "it belongs to the network");
    assert!(store.note_leaving(lead, desk, at(6)).await.expect("an answer"));
    assert!(!store.note_leaving(lead, AgentId(99), at(6)).await.expect("an answer"), "there is none");
    assert_eq!((record(desk).await.left(), record(desk).await.removed), (Some(at(6)), None));
    world.commit(&[change(desk, Intake::Revoked, Intake::Open), change(other, Intake::Revoked, Intake::Open)]).await;
    assert!(remove(desk).await && !remove(desk).await, "once");
    assert!(remove(other).await && !remove(AgentId(99)).await);
    assert_eq!((record(desk).await.removed, record(desk).await.standing()), (Some(at(8)), Standing::Gone));
    assert_eq!(record(other).await.standing(), Standing::Revoked, "it was thrown out");
    let enrol = async |wish: Enrolment| store.enrol(lead, wish).await.expect("an answer");
    assert_eq!(enrol(enrolment(made, 1, "p4", "other")).await, EnrolmentOutcome::NameRevoked, "which keeps its name from others");
    let EnrolmentOutcome::Enrolled { agent: fresh, replaced: Some(gone), .. } = enrol(enrolment(made, 1, "p3", "desk")).await
    else {
        panic!("the name of one that left and was removed is free")
    };
    assert_eq!((fresh.name.as_str(), gone.agent, gone.name.as_str()), ("desk", desk, "desk-replaced"));
    let audit = store.audit(10).await.expect("an answer");
    let told = |action: &str| {
        let found = audit.iter().find(|line| line.action == action && line.subject == "a1");
        found.map(|line| (line.by.clone(), line.detail.clone())).unwrap_or_default()
    };
    assert_eq!(told("agent.leave"), ("desk".into(), "".into()));
    assert_eq!(told("agent.remove"), ("root".into(), "desk".into()));
}

pub(super) async fn who_was_thrown_out_is_counted(world: World) {
    let (store, lead) = (&world.store, &world.lead);
    let made = store.create_token(lead, token(TokenRole::Agent, 1)).await.expect("an answer").expect("a token is made").token;
    assert_eq!(store.revocations().await.expect("an answer"), RevocationsRecord::default());
    let [first, second] = [
        world.enrolled(enrolment(made, 1, "p1", "one")).await.agent,
        world.enrolled(enrolment(made, 1, "p2", "two")).await.agent,
    ];
    let change = |agent, intake, before| Change::AgentIntake { agent, intake, before, by: "root".into(), at: at(5) };
    let (open, out) = (Intake::Open, Intake::Revoked);
    world.commit(&[change(first, Intake::Draining, open), change(first, out, Intake::Draining), change(second, out, open)]).await;
    let both = RevocationsRecord { counter: 2, peers: vec![b"p1".to_vec(), b"p2".to_vec()] };
    assert_eq!(store.revocations().await.expect("an answer"), both);
    // The clock was put back meanwhile: the count is not the clock's.
    world.commit(&[Change::AgentIntake { agent: first, intake: open, before: out, by: "root".into(), at: at(1) }]).await;
    let one = RevocationsRecord { counter: 3, peers: vec![b"p2".to_vec()] };
    assert_eq!(store.revocations().await.expect("an answer"), one, "who is let in again counts too");
    let audit = store.audit(1).await.expect("an answer");
    assert_eq!((audit[0].action.as_str(), audit[0].subject.as_str()), ("agent.restore", "a1"));
}

pub(super) async fn names_of_tokens_are_unique_while_they_are_valid(world: World) {
    let (store, lead) = (&world.store, &world.lead);
    let create = async |byte, name: Option<&str>| {
        let new = NewToken { name: name.map(str::to_owned), ..token(TokenRole::Viewer, byte) };
        store.create_token(lead, new).await.expect("an answer")
    };
    let first = create(1, Some("Ann")).await.expect("a token is made");
    assert_eq!((create(2, Some("Ann")).await, create(2, Some("aNN")).await), (None, None));
    let unnamed = create(3, None).await.expect("a token is made");
    assert_eq!(unnamed.name, format!("t{}", unnamed.token));
    assert!(store.revoke_token(lead, first.token, "root", at(3)).await.expect("an answer"));
    let again = create(4, Some("ann")).await.expect("the name is free");
    assert!(again.token > unnamed.token, "and it is somebody else");
    let audit = store.audit(1).await.expect("an answer");
    assert_eq!(audit[0].detail, "viewer for ann");
}

pub(super) async fn a_bound_token_admits_those_it_is_for(world: World) {
    let (store, lead) = (&world.store, &world.lead);
    let create = async |new| store.create_token(lead, new).await.expect("an answer").expect("a token is made");
    let made = create(NewToken { bound: bound(&["desk", "lab-*"], Some("lab")), ..token(TokenRole::Agent, 1) }).await;
    assert_eq!(store.tokens().await.expect("an answer"), std::slice::from_ref(&made));
    let enrol = async |wish: Enrolment| store.enrol(lead, wish).await.expect("an answer");
    assert_eq!(enrol(enrolment(made.token, 1, "p1", "hall-1")).await, EnrolmentOutcome::NotBound);
    let desk = world.enrolled(enrolment(made.token, 1, "p1", "desk")).await;
    assert_eq!((desk.name.as_str(), desk.group.as_deref(), desk.token.0), ("desk", Some("lab"), made.token));
    assert_eq!(enrol(enrolment(made.token, 1, "p2", "desk")).await, EnrolmentOutcome::NameTaken);
    assert_eq!(world.enrolled(enrolment(made.token, 1, "p3", "lab-7")).await.name, "lab-7");
    assert_eq!(world.enrolled(enrolment(made.token, 1, "p4", "LAB-7")).await.name, "LAB-7-2", "whatever the case");
    let snapshot = store.load(lead).await.expect("it loads").snapshot;
    assert!(snapshot.agents.iter().all(|agent| agent.group.as_deref() == Some("lab")));
}

fn bound(names: &[&str], group: Option<&str>) -> Bound {
    Bound { names: names.iter().map(|name| (*name).to_owned()).collect(), group: group.map(str::to_owned) }
}

pub(super) async fn versions_are_numbered_and_found_again(world: World) {
    let (store, lead) = (&world.store, &world.lead);
    let publish = async |new| store.publish(lead, new).await.expect("an answer");
    let (one, new) = publish(version("resize", b"one")).await;
    assert!(new);
    assert_eq!((one.version, one.number, one.function.as_str()), (VersionId(1), 1, "resize"));
    assert_eq!((&one.manifest.body[..], &one.manifest.signature[..]), (&1_u32.to_le_bytes()[..], &[1, 2, 3][..]));
    assert_eq!((one.interface.len(), one.published, one.published_by.as_str()), (2, at(2), "root"));
    let (two, _) = publish(version("resize", b"two")).await;
    let (other, _) = publish(version("blur", b"one")).await;
    assert_eq!((two.number, other.number, other.version), (2, 1, VersionId(3)));
    assert_eq!(publish(version("resize", b"one")).await, (one.clone(), false));
    let mut canonical = version("resize", b"one");
    canonical.canonical_nans = true;
    let (three, new) = publish(canonical).await;
    assert!(new && three.canonical_nans && three.number == 3, "other options are another version");
    let all = store.versions().await.expect("an answer");
    assert_eq!(all.iter().map(|found| found.version.0).collect::<Vec<_>>(), [3, 4, 2, 1]);
    let beside = |beyond| NewVersion { beyond, ..version("blur", b"one") };
    let (again, new) = publish(beside(1)).await;
    assert!(new && (again.number, again.module) == (2, other.module), "the same module with something else made of it");
    assert_eq!(publish(beside(1)).await, (again.clone(), false), "once");
    assert_eq!(publish(beside(0)).await, (again, false), "whichever of them: the newest");
    assert_eq!(store.version(VersionId(2)).await.expect("an answer"), Some(two.clone()));
    assert_eq!(store.version_named("resize", &Which::Usual).await.expect("an answer"), Some(three));
    assert_eq!(store.version_named("resize", &Which::Number(2)).await.expect("an answer"), Some(two));
    assert_eq!(store.version_named("Resize", &Which::Usual).await.expect("an answer"), None, "names are exact");
}

pub(super) async fn removed_versions_are_hidden_and_still_there(world: World) {
    let (store, lead) = (&world.store, &world.lead);
    for module in [&b"one"[..], b"two", b"three"] {
        store.publish(lead, version("resize", module)).await.expect("an answer");
    }
    let remove = async |number| store.remove_versions(lead, "resize", number, "root", at(9)).await.expect("an answer");
    assert_eq!((remove(Some(3)).await, remove(Some(3)).await, remove(Some(9)).await), (1, 0, 0));
    assert_eq!(store.version_named("resize", &Which::Usual).await.expect("an answer").map(|found| found.number), Some(2));
    assert_eq!(store.version_named("resize", &Which::Number(3)).await.expect("an answer"), None);
    let hidden = store.version(VersionId(3)).await.expect("an answer").expect("jobs that have it go on");
    assert_eq!(hidden.removed, Some(at(9)));
    assert_eq!(remove(None).await, 2);
    assert!(store.versions().await.expect("an answer").is_empty());
    let (again, new) = store.publish(lead, version("resize", b"one")).await.expect("an answer");
    assert!(new && again.number == 4, "a number is never given twice");
}

pub(super) async fn a_label_stands_for_one_version_and_remembers_those_before(world: World) {
    let (store, lead) = (&world.store, &world.lead);
    for (function, module) in [("resize", b"one"), ("resize", b"two"), ("resize", b"thr"), ("blur", b"one")] {
        store.publish(lead, version(function, &module[..])).await.expect("an answer");
    }
    let number = async |which: Which| {
        let found = store.version_named("resize", &which).await.expect("an answer");
        found.map(|version| version.number)
    };
    let called = |label: &str| Which::Label(label.to_owned());
    assert_eq!((number(Which::Usual).await, number(called("stable")).await), (Some(3), None), "no label: the newest");
    let move_label = async |new| store.move_label(lead, new).await.expect("an answer");
    assert!(move_label(label("resize", "stable", 1, 0, None)).await);
    assert!(!move_label(label("resize", "stable", 2, 0, None)).await, "another was faster");
    assert!(!move_label(label("resize", "stable", 9, 1, None)).await, "there is no such version");
    assert!(!move_label(label("grow", "stable", 1, 0, None)).await, "there is no such function");
    assert!(move_label(label("resize", "next", 3, 0, None)).await && move_label(label("blur", "stable", 1, 0, None)).await);
    let steps = store.label_moves("resize", "stable", 9).await.expect("an answer");
    assert_eq!((steps.len(), steps[0].number, steps[0].before), (1, 1, None));
    assert!(move_label(label("resize", "stable", 2, steps[0].step, Some(steps[0].step))).await);
    assert_eq!((number(Which::Usual).await, number(Which::Newest).await), (Some(2), Some(3)), "a name alone is what is stable");
    assert_eq!((number(called("stable")).await, number(called("next")).await), (Some(2), Some(3)));
    assert_eq!(number(Which::Number(1)).await, Some(1));
    let all = store.labels().await.expect("an answer");
    let all: Vec<_> = all.iter().map(|label| (label.function.as_str(), label.label.as_str(), label.number)).collect();
    assert_eq!(all, [("blur", "stable", 1), ("resize", "next", 3), ("resize", "stable", 2)]);
    let steps = store.label_moves("resize", "stable", 9).await.expect("an answer");
    assert_eq!(steps.iter().map(|step| step.number).collect::<Vec<_>>(), [2, 1], "the newest first");
    assert_eq!((steps[0].before, steps[0].moved, steps[0].moved_by.as_str()), (Some(steps[1].step), at(5), "root"));
    assert_eq!(store.label_moves("resize", "stable", 1).await.expect("an answer"), steps[..1]);
    store.remove_versions(lead, "resize", Some(2), "root", at(9)).await.expect("an answer");
    assert_eq!((number(called("stable")).await, number(Which::Usual).await), (None, Some(3)), "what was removed is not found");
    assert_eq!(store.labels().await.expect("an answer").len(), 2);
    let back = NewLabel { back: true, ..label("resize", "stable", 1, steps[0].step, steps[1].before) };
    assert!(move_label(back).await);
    assert_eq!(number(Which::Usual).await, Some(1));
    let audit = store.audit(1).await.expect("an answer");
    let line = (audit[0].action.as_str(), audit[0].subject.as_str(), audit[0].detail.as_str());
    assert_eq!(line, ("function.rollback", "resize@1", "stable"));
}

pub(super) async fn every_mutation_is_audited(world: World) {
    let world = world.peopled(1).await;
    world.commit(&[submitted(1, 1), stopped(1, JobState::Cancelled, 3), job_ended(1, JobState::Cancelled, 3)]).await;
    world.commit(&[retried(1, None, 4)]).await;
    world.commit(&[stopped(1, JobState::Expired, 5)]).await;
    let intake = |intake| Change::AgentIntake { agent: AgentId(1), intake, before: Intake::Open, by: "root".into(), at: at(6) };
    world.commit(&[intake(Intake::Cordoned), intake(Intake::Draining), intake(Intake::Open), intake(Intake::Revoked)]).await;
    world.store.remove_versions(&world.lead, "resize", Some(1), "root", at(7)).await.expect("an answer");
    world.store.revoke_token(&world.lead, 1, "root", at(8)).await.expect("an answer");
    let audit = world.store.audit(100).await.expect("an answer");
    let lines: Vec<String> = audit.iter().rev().map(|row| format!("{} {} {}", row.by, row.action, row.subject)).collect();
    assert_eq!(
        lines,
        [
            "root token.create t1",
            "token t1 agent.enrol a1",
            "root function.publish resize@1",
            "anna (t998938) job.submit j1",
            "ben job.cancel j1",
            "anna job.retry j1",
            "ben job.expire j1",
            "root agent.cordon a1",
            "root agent.drain a1",
            "root agent.open a1",
            "root agent.revoke a1",
            "root function.remove resize@1",
            "root token.revoke t1",
        ]
    );
    assert_eq!(world.store.audit(2).await.expect("an answer"), audit[..2], "the newest first");
}

pub(super) async fn an_idempotency_key_belongs_to_its_submitter(world: World) {
    let world = world.peopled(0).await;
    let keyed = |key: &str| {
        let mut spec = spec(1);
        spec.idempotency_key = Some(key.into());
        spec
    };
    world.commit(&[submitted_as(1, "anna", keyed("night")), submitted_as(2, "ben", keyed("night")), submitted(3, 1)]).await;
    world.commit(&[submitted_as(4, "anna", keyed("night ")), submitted_as(5, "anna", keyed("Night"))]).await;
    let find = async |who: &str, key: &str| world.store.job_by_key(owner(who), key).await.expect("an answer").map(|job| job.0);
    assert_eq!((find("anna", "night").await, find("ben", "night").await), (Some(1), Some(2)));
    assert_eq!((find("anna", "night ").await, find("anna", "Night").await), (Some(4), Some(5)), "keys are exact");
    assert_eq!(find("carl", "night").await, None);
}
