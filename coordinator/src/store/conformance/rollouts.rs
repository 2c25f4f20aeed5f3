//! How agents become another version, as it is remembered.

use lull_scheduler::rollout::{Standing, Step, Unsaved};
use lull_shared::{id::AgentId, release::Platform};

use super::{super::record::*, World, sample::*};

fn mark(number: u64, changes: Unsaved, line: Option<RolloutLine>) -> RolloutMark {
    RolloutMark { number, changes, at: at(9), line }
}

pub(super) async fn a_rollout_is_remembered_with_how_far_each_agent_is(world: World) {
    let world = world.peopled(2).await;
    let (store, lead) = (&world.store, &world.lead);
    assert_eq!(store.rollouts().await.expect("an answer"), []);
    let begun = rollout(5, "0.2.0");
    assert!(store.begin_rollout(lead, begun.clone()).await.expect("an answer"));
    assert_eq!(store.rollouts().await.expect("an answer"), std::slice::from_ref(&begun));
    let agents = [(AgentId(1), Step::Told), (AgentId(2), Step::Failed("dpkg: \u{e4}nd".into()))].into();
    let changes = Unsaved { begun: 1, forgiven: 0, stopped: None, agents };
    store.mark_rollout(lead, mark(5, changes, None)).await.expect("kept");
    let agents = [(AgentId(1), Step::Healthy)].into();
    let changes = Unsaved { begun: 2, forgiven: 1, stopped: Some("enough".into()), agents };
    let line = RolloutLine { by: "root".into(), action: "rollout.stop".into(), detail: "enough".into() };
    store.mark_rollout(lead, mark(5, changes, Some(line))).await.expect("kept");
    let agents = [(AgentId(1), Step::Healthy), (AgentId(2), Step::Failed("dpkg: \u{e4}nd".into()))].into();
    let standing = Standing { begun: 2, forgiven: 1, stopped: Some("enough".into()), agents };
    assert_eq!(store.rollouts().await.expect("an answer"), [RolloutRecord { standing, ..begun }]);
    let audit = store.audit(2).await.expect("an answer");
    let lines: Vec<String> =
        audit.iter().map(|row| format!("{} {} {}: {}", row.by, row.action, row.subject, row.detail)).collect();
    let wanted = "root rollout.begin release 5: deb_amd64 0.2.0 in waves of 5%,25%,100%";
    assert_eq!(lines, ["root rollout.stop release 5: enough", wanted]);
}

pub(super) async fn of_each_platform_the_newest_rollout_holds(world: World) {
    let (store, lead) = (&world.store, &world.lead);
    let windows = |number| RolloutRecord { platform: Platform::MsiX64, ..rollout(number, "0.3.0") };
    for record in [rollout(1, "0.2.0"), windows(2), rollout(4, "0.3.0")] {
        assert!(store.begin_rollout(lead, record).await.expect("an answer"));
    }
    for late in [windows(3), windows(4)] {
        assert!(!store.begin_rollout(lead, late).await.expect("an answer"), "its number was given");
    }
    assert_eq!(store.rollouts().await.expect("an answer"), [windows(2), rollout(4, "0.3.0")]);
}
