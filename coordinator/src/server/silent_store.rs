//! A leader whose store is gone: people are told so at once, and what it knows from memory.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use lull_shared::id::JobId;
use tokio::time::Instant;

use super::{tests::*, *};
use crate::{
    client::{Client, ClientError, JobQuery},
    store::faulty::{Fault, Faulty},
};

/// What somebody waits who asks how things are.
const AT_ONCE: Duration = Duration::from_secs(2);
/// The same of everything else: until a renewal of the lease is overdue, and a look.
const SOON: Duration = Duration::from_secs(8);

/// How a store is gone.
const WAYS: [Fault; 2] = [Fault::Refused, Fault::Delayed(Duration::from_secs(3600))];

#[tokio::test(flavor = "multi_thread")]
async fn with_the_store_gone_people_are_told_so_at_once_and_the_process_ends_cleanly() {
    for way in WAYS {
        let (([north, _], memory), gone) = (site().await, Arc::new(AtomicBool::new(false)));
        let seen = gone.clone();
        let cable = Faulty::new(Arc::new(memory), move |_| if seen.load(Ordering::Relaxed) { way } else { Fault::None });
        let stop = CancellationToken::new();
        let server = start_on(Arc::new(cable), config(north.path(), "north"), stop.clone()).await.expect("it starts");
        let token = std::fs::read_to_string(north.path().join(ADMIN_TOKEN_FILE)).expect("a token");
        let client = Client::new(&format!("http://{}", server.http_address), Some(token.clone())).expect("a client");
        gone.store(true, Ordering::Relaxed);

        // It has never asked before: whoever reads the data folder is known all the same.
        let asked = Instant::now();
        let status = client.status().await.expect("an answer from memory");
        assert!(asked.elapsed() < AT_ONCE, "{way:?}: {:?}", asked.elapsed());
        let silent = status.store_silent.expect("it says that the store is gone");
        assert!(silent.since <= jiff::Timestamp::now() && silent.message.contains("does not answer since"), "{silent:?}");
        assert_eq!((status.coordinator.term, status.totals), (1, None));

        let browser = reqwest::Client::new();
        let page = async |path: &str| {
            let asked = browser.get(format!("http://{}{path}", server.http_address)).bearer_auth(token.trim());
            let answer = asked.header("accept", "text/html").send().await.expect("an answer");
            (answer.status().as_u16(), answer.text().await.expect("a page"))
        };
        let (code, tonight) = page("/").await;
        assert!(code == 200 && tonight.contains("the database does not answer"), "{way:?}: {code} {tonight}");
        let (code, jobs) = page("/jobs").await;
        assert!(code == 503 && jobs.contains("<h1>") && !jobs.contains("fault"), "{way:?}: {code} {jobs}");

        let asked = Instant::now();
        let refusals = tokio::join!(
            async { client.jobs(&JobQuery::default()).await.err() },
            async { client.cancel(JobId(1)).await.err() },
            async { client.agents().await.err() },
        );
        for refusal in <[_; 3]>::from(refusals) {
            let Some(ClientError::Refused { status: 503, detail }) = refusal else { panic!("{way:?}: {refusal:?}") };
            assert!(detail.hint.is_some() && !detail.message.contains("fault"), "{way:?}: {detail:?}");
        }
        assert!(asked.elapsed() < SOON, "{way:?}: {:?}", asked.elapsed());
        let known_silent = async || matches!(client.jobs(&JobQuery::default()).await, Err(ClientError::Refused { detail, .. }) if detail.code == "store_silent");
        until_true("it says since when", known_silent).await;

        let stopped = Instant::now();
        stop.cancel();
        server.stopped().await.expect("it stops in good order");
        assert!(stopped.elapsed() < 2 * SOON, "{way:?}: {:?}", stopped.elapsed());
    }
}
