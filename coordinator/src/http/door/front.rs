//! In front of all routes: those of the term while there is one, and a word on where to go otherwise.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{
    Json,
    extract::{Request, State},
    http::{HeaderMap, Method},
    response::{IntoResponse, Response},
};
use tokio::sync::watch;
use tower::Service as _;

use crate::{
    api::{CoordinatorBody, PREFIX, Page},
    http::{
        door::{
            auth,
            error::{Answer, Refused},
            takes::without_parameters,
        },
        fleet::coordinators,
    },
    pin::Address,
    portal,
    store::{ForPeople, record::TokenRole},
    term::phase::{LeaderView, Phase},
};

/// How long somebody who asks one that stands by waits for the store.
const STORE_PATIENCE: Duration = Duration::from_millis(1_500);

/// What answers for as long as the process lives.
#[derive(Clone)]
pub struct Front {
    store: Arc<dyn ForPeople>,
    phases: watch::Receiver<Phase>,
}

impl Front {
    /// Answers by this phase.
    pub fn new(store: Arc<dyn ForPeople>, phases: watch::Receiver<Phase>) -> Self {
        Self { store, phases }
    }

    /// Who shares the store can be asked of one that stands by too.
    async fn coordinators(&self, headers: HeaderMap) -> Answer<Json<Page<CoordinatorBody>>> {
        let listed = async {
            auth::caller_of_standby(&headers, &*self.store).await?.require(TokenRole::Viewer)?;
            coordinators::list(&*self.store).await
        };
        let silent = || Refused::unavailable("this coordinator stands by, and the database does not answer");
        tokio::time::timeout(STORE_PATIENCE, listed).await.unwrap_or_else(|_| Err(silent()))
    }
}

/// Answers a request.
pub(crate) async fn answer(State(front): State<Front>, request: Request) -> Response {
    let phase = front.phases.borrow().clone();
    let page = portal::elsewhere(&request);
    let told = |refused: Refused| match page {
        Some(page) => page(refused),
        None => refused.into_response(),
    };
    match phase {
        Phase::Leading(mut leader) => {
            let answered: Result<Response, Infallible> = leader.routes.call(request).await;
            match answered {
                Ok(response) => response,
                Err(never) => match never {},
            }
        }
        Phase::Standby(_) if is_for_coordinators(&request) => {
            let (parts, _) = request.into_parts();
            match without_parameters(&parts.uri) {
                Ok(()) => front.coordinators(parts.headers).await.into_response(),
                Err(refused) => refused.into_response(),
            }
        }
        Phase::Standby(view) => told(refused(&view)),
        Phase::Starting => told(Refused::unavailable("the coordinator is starting")),
    }
}

fn is_for_coordinators(request: &Request) -> bool {
    request.method() == Method::GET && request.uri().path().strip_prefix(PREFIX) == Some("/coordinators")
}

fn refused(view: &LeaderView) -> Refused {
    match &view.leader {
        None => {
            Refused::standby("this coordinator stands by, and it is not known which one leads", None, "try again in a moment")
        }
        Some(other) if view.in_doubt => {
            let message = format!("this coordinator stands by; {} on {} leads and does not answer", other.name, other.machine);
            Refused::standby(message, None, "try again in a few seconds: this one is about to take over")
        }
        Some(other) => {
            let message = format!("this coordinator stands by; {} on {} leads", other.name, other.machine);
            match &other.url {
                Some(named) => Refused::standby(message, Some(named.clone()), format!("ask it at {}", Address::read(named).url)),
                None => {
                    let hint = "its interface is open to its own machine only: run the command there, or start the servers with \
                                an --http address that others reach";
                    Refused::standby(message, None, hint)
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::presence::Elsewhere;

    #[test]
    fn a_standby_names_the_leader_or_says_why_it_cannot() {
        let elsewhere = |url: Option<&str>| LeaderView {
            leader: Some(Elsewhere {
                name: "north".into(),
                machine: "n.example".into(),
                url: url.map(Into::into),
                addresses: Vec::new(),
            }),
            in_doubt: false,
        };
        let words = |view| format!("{:?}", refused(&view));
        assert!(words(elsewhere(Some("http://n:1"))).contains("ask it at http://n:1"));
        assert!(words(elsewhere(None)).contains("--http"));
        let in_doubt = LeaderView { in_doubt: true, ..elsewhere(Some("http://n:1")) };
        assert!(!words(in_doubt).contains("http://n:1"), "nobody is sent to one that may be frozen");
        assert!(words(LeaderView { leader: None, in_doubt: true }).contains("try again"));
    }
}
