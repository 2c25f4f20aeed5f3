//! A client of the HTTP interface: one method for each thing that can be asked, errors in words.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use futures::{Stream, StreamExt as _, TryStreamExt as _};
use lull_shared::{
    digest::Digest,
    id::{JobId, TaskId, TokenId},
    state::{Intake, JobState, TaskState},
};
use reqwest::{
    Body, Method, RequestBuilder, Response, StatusCode,
    header::{self, HeaderMap},
};
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    api::*,
    pin::{Address, Pin},
    trust::{self, Doubt},
    version::{Named, Which},
};

/// A coordinator that does not answer the connection in this time is unreachable.
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// How long a connection is kept for the next request: half of what the server keeps it.
const IDLE_MAX: Duration = Duration::from_secs(15);
/// Silence in the middle of an answer.
const SILENCE_MAX: Duration = Duration::from_secs(300);
/// One event of a job is far below it.
const EVENT_BYTES_MAX: usize = 1024 * 1024;

/// A request without the answer that was hoped for.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody answered, or the connection broke.
    #[error("cannot reach the coordinator at {url}: {reason}")]
    Unreachable {
        url: String,
        reason: String,
        /// Something may have been asked before the connection broke.
        connected: bool,
    },
    /// It said no.
    #[error("{}", detail.message)]
    Refused { status: u16, detail: ErrorDetail },
    /// It is another kind of server, or a much newer one.
    #[error("{url} answered something that is not understood: {reason}")]
    Nonsense { url: String, reason: String },
    /// Somebody else answered, or the coordinator has a new key.
    #[error(
        "the coordinator at {url} has another key than the one that is expected: its pin is {found}, and {wanted} was given\nhint: \
         compare it with what `lull server status` shows on its machine; if it was changed on purpose, give the new one with --pin, \
         or import a new profile; if not, somebody else answers there"
    )]
    WrongPin { url: String, wanted: Pin, found: Pin },
    /// Nobody whom this machine trusts vouches for it.
    #[error(
        "the certificate of {url} is none that this machine trusts\nhint: give the pin of its key, as `lull server run` prints it and \
         `lull server status` shows it: --pin sha256//..."
    )]
    Untrusted { url: String },
    /// The address cannot be one.
    #[error("{} is not the address of a coordinator\nhint: write it like https://coordinator:7411", lull_shared::amount::quoted(.0))]
    Address(String),
}

/// The answer of a request.
pub type Answer<T> = Result<T, ClientError>;

/// A coordinator's interface as one caller sees it.
#[derive(Clone)]
pub struct Client {
    own: Place,
    /// Others that share its store, asked in turn when it cannot be reached.
    others: Arc<[Address]>,
    /// Where it was sent on to by a coordinator that stands by.
    leader: Arc<Mutex<Option<Place>>>,
    token: Option<String>,
}

/// One coordinator, and how it is spoken to.
#[derive(Clone)]
struct Place {
    http: reqwest::Client,
    /// Scheme, authority and the path of a proxy, without a slash at the end.
    base: String,
    pin: Option<Pin>,
}

impl Place {
    fn at(address: &Address) -> Answer<Self> {
        let wrong = || ClientError::Address(address.url.clone());
        let base = url(&address.url).ok_or_else(wrong)?;
        trust::provide();
        let http = reqwest::Client::builder()
            .connect_timeout(CONNECT_MAX)
            .read_timeout(SILENCE_MAX)
            .pool_idle_timeout(IDLE_MAX)
            .tcp_nodelay(true)
            .user_agent(concat!("lull/", env!("CARGO_PKG_VERSION")));
        let http = match (base.starts_with("https:"), address.pin) {
            (true, Some(pin)) => http.tls_backend_preconfigured(trust::pinned(pin)),
            (true, None) => http,
            // The system's roots take a while to be read, and there may be none.
            (false, _) => http.tls_backend_preconfigured(trust::nobody()),
        };
        // Without any roots on this machine, nobody vouches for anybody.
        let http = http.build().map_err(|_| ClientError::Untrusted { url: base.clone() })?;
        Ok(Self { http, base, pin: address.pin })
    }

    /// Whether what it says of others is its own word: nobody between could have changed it.
    fn is_heard_well(&self) -> bool {
        self.base.starts_with("https:") || is_loopback(&self.base)
    }

    /// The address of the one that it names as the leader; none that would be spoken to less safely than this one.
    fn leader(&self, named: &str) -> Option<Address> {
        let mut address = Address::read(named);
        if !self.is_heard_well() {
            address.pin = None;
        }
        let downwards = self.base.starts_with("https:") && !address.url.starts_with("https:") && !is_loopback(&address.url);
        (!downwards).then_some(address)
    }
}

/// Whether an address leads to this machine itself.
pub(crate) fn is_loopback(base: &str) -> bool {
    let host = reqwest::Url::parse(base).ok().and_then(|url| url.host_str().map(str::to_owned)).unwrap_or_default();
    let ip = host.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
    host == "localhost" || ip.is_ok_and(|ip| ip.is_loopback())
}

/// Which jobs to list.
#[derive(Debug, Clone, Default, Serialize)]
pub struct JobQuery {
    /// Only those that whoever asks submitted.
    pub mine: Option<bool>,
    pub state: Option<JobState>,
    pub submitter: Option<String>,
    pub name: Option<String>,
    pub before: Option<String>,
    pub limit: Option<u32>,
}

/// An address with its scheme and without a slash at its end, in the form that all have, if it is one of the web.
pub(crate) fn url(text: &str) -> Option<String> {
    let with_scheme = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
    let url = reqwest::Url::parse(&with_scheme).ok()?;
    let ours = matches!(url.scheme(), "http" | "https") && url.has_host() && url.query().is_none();
    ours.then(|| url.as_str().trim_end_matches('/').to_owned())
}

/// Refuses, in words, what cannot be the address of a coordinator.
pub fn check_url(text: &str) -> Result<(), String> {
    url(&Address::read(text).url).map(drop).ok_or_else(|| ClientError::Address(text.to_owned()).to_string())
}

impl Client {
    /// A client for the coordinator at `base`, `https://host:port`, behind which the pin of its key may stand: see [`Address`].
    pub fn new(base: &str, token: Option<String>) -> Answer<Self> {
        Self::at(&Address::read(base), token)
    }

    /// The same for an address that was read.
    pub fn at(address: &Address, token: Option<String>) -> Answer<Self> {
        Self::at_one_of(std::slice::from_ref(address), token)
    }

    /// The same for several that share a store: the first that answers is asked.
    pub fn at_one_of(addresses: &[Address], token: Option<String>) -> Answer<Self> {
        let (first, others) = addresses.split_first().ok_or_else(|| ClientError::Address(String::new()))?;
        Ok(Self { own: Place::at(first)?, others: others.into(), leader: Arc::default(), token })
    }

    /// Where the coordinator is.
    pub fn base(&self) -> &str {
        &self.own.base
    }

    /// The same with the pin of its key, if one was given.
    pub fn address(&self) -> Address {
        Address::new(self.own.base.clone(), self.own.pin)
    }

    pub async fn health(&self) -> Answer<Health> {
        let request = self.own.http.get(format!("{}/health", self.own.base));
        self.json(request).await
    }

    pub async fn status(&self) -> Answer<Status> {
        self.get("/status").await
    }

    pub async fn policy(&self) -> Answer<PolicyBody> {
        self.get("/policy").await
    }

    pub async fn set_policy(&self, wanted: &SetPolicy) -> Answer<PolicyBody> {
        self.json(self.request(Method::PUT, "/policy").json(wanted)).await
    }

    pub async fn outlook(&self, agent: &str, at: Option<&str>) -> Answer<OutlookBody> {
        self.json(self.request(Method::GET, &format!("/agents/{}/policy", segment(agent))).query(&[("at", at)])).await
    }

    /// Who this client is to the coordinator.
    pub async fn asker(&self) -> Answer<Asker> {
        self.get("/session").await
    }

    pub async fn tokens(&self) -> Answer<Page<TokenBody>> {
        self.get("/tokens").await
    }

    pub async fn create_token(&self, wanted: &CreateToken) -> Answer<CreatedToken> {
        self.json(self.request(Method::POST, "/tokens").json(wanted)).await
    }

    /// Makes a token and the file that carries it, which is given once.
    pub async fn create_profile(&self, wanted: &CreateProfile) -> Answer<ProfileFile> {
        self.json(self.request(Method::POST, "/profiles").json(wanted)).await
    }

    /// `own`: also if it is the one that this client shows.
    pub async fn revoke_token(&self, token: TokenId, own: bool) -> Answer<Affected> {
        let request = self.request(Method::DELETE, &format!("/tokens/{token}"));
        self.json(if own { request.query(&[("own", true)]) } else { request }).await
    }

    pub async fn audit(&self, limit: u32) -> Answer<Page<AuditBody>> {
        self.json(self.request(Method::GET, "/audit").query(&[("limit", limit)])).await
    }

    pub async fn functions(&self) -> Answer<Page<FunctionBody>> {
        self.get("/functions").await
    }

    pub async fn function(&self, name: &str, version: Option<u32>) -> Answer<FunctionBody> {
        let which = version.map_or(Which::Usual, Which::Number);
        self.version(&Named { function: name.to_owned(), which }).await
    }

    /// A version of a function, by its number, its label, or neither.
    pub async fn version(&self, named: &Named) -> Answer<FunctionBody> {
        let request = self.request(Method::GET, &function_path(&named.function));
        self.json(match &named.which {
            Which::Usual => request,
            which => request.query(&[("version", which.to_string().trim_start_matches('@'))]),
        })
        .await
    }

    /// Lets a label of a function stand for this version.
    pub async fn promote(&self, name: &str, label: &str, number: u32) -> Answer<LabelBody> {
        self.json(self.request(Method::POST, &label_path(name, label)).json(&LabelRequest { number })).await
    }

    /// Lets it stand for the version before.
    pub async fn roll_back(&self, name: &str, label: &str) -> Answer<LabelBody> {
        self.json(self.request(Method::POST, &format!("{}/rollback", label_path(name, label)))).await
    }

    /// What it has stood for, the newest first.
    pub async fn label(&self, name: &str, label: &str) -> Answer<Page<LabelBody>> {
        self.get(&label_path(name, label)).await
    }

    pub async fn remove_function(&self, name: &str, version: Option<u32>) -> Answer<Affected> {
        self.json(self.request(Method::DELETE, &function_path(name)).query(&[("version", version)])).await
    }

    /// Begins to publish a module that is a blob of the coordinator, or joins who does.
    pub async fn begin_publication(&self, name: &str, wanted: &PublishRequest) -> Answer<PublicationBody> {
        let path = format!("{}/publications", function_path(name));
        self.json(self.request(Method::POST, &path).json(wanted)).await
    }

    pub async fn publications(&self) -> Answer<Page<PublicationBody>> {
        self.get("/publications").await
    }

    pub async fn publication(&self, publication: PublicationId) -> Answer<PublicationBody> {
        self.get(&format!("/publications/{publication}")).await
    }

    /// The publication once it is not at this revision any more, or as it stands after this time.
    pub async fn publication_after(&self, publication: PublicationId, seen: u64, wait: Duration) -> Answer<PublicationBody> {
        let request = self.request(Method::GET, &format!("/publications/{publication}"));
        self.json(request.query(&[("seen", seen), ("wait_s", wait.as_secs().max(1))])).await
    }

    pub async fn cancel_publication(&self, publication: PublicationId) -> Answer<Affected> {
        self.json(self.request(Method::DELETE, &format!("/publications/{publication}"))).await
    }

    /// Uploads bytes that are known to be missing, or not known to be there.
    pub async fn upload(&self, body: impl Into<Body>) -> Answer<BlobBody> {
        let request = self.request(Method::PUT, "/blobs").header(header::CONTENT_TYPE, "application/octet-stream");
        self.json(request.body(body)).await
    }

    /// Whether the coordinator has this blob.
    pub async fn has_blob(&self, digest: &Digest) -> Answer<bool> {
        match self.send(self.request(Method::HEAD, &format!("/blobs/{digest}"))).await {
            Ok(_) => Ok(true),
            Err(ClientError::Refused { status: 404, .. }) => Ok(false),
            // A `HEAD` is refused without a word; a `GET` is refused for the same reason, and says it.
            Err(ClientError::Refused { .. }) => match self.send(self.request(Method::GET, &format!("/blobs/{digest}"))).await {
                Ok(_) => Ok(true),
                Err(ClientError::Refused { status: 404, .. }) => Ok(false),
                Err(error) => Err(error),
            },
            Err(error) => Err(error),
        }
    }

    pub async fn blob(&self, digest: &Digest) -> Answer<impl Stream<Item = Answer<Bytes>> + use<>> {
        self.bytes(&format!("/blobs/{digest}")).await
    }

    pub async fn submit(&self, wanted: &SubmitRequest) -> Answer<Submitted> {
        self.json(self.request(Method::POST, "/jobs").json(wanted)).await
    }

    pub async fn jobs(&self, query: &JobQuery) -> Answer<Page<JobBody>> {
        self.json(self.request(Method::GET, "/jobs").query(query)).await
    }

    pub async fn job(&self, job: JobId) -> Answer<JobDetails> {
        self.get(&format!("/jobs/{job}")).await
    }

    /// The job as soon as it has ended, or as it stands when the coordinator will not wait any longer.
    pub async fn wait(&self, job: JobId, timeout: Duration) -> Answer<JobBody> {
        let seconds = timeout.as_secs().max(1);
        self.json(self.request(Method::GET, &format!("/jobs/{job}/wait")).query(&[("timeout_s", seconds)])).await
    }

    /// The job now and whenever it changes; the stream ends after the job has.
    pub async fn events(&self, job: JobId) -> Answer<impl Stream<Item = Answer<JobBody>> + use<>> {
        let parts = self.bytes(&format!("/jobs/{job}/events")).await?;
        let url = self.own.base.clone();
        let start = (Box::pin(parts), Vec::new(), url);
        Ok(futures::stream::try_unfold(start, |(mut parts, mut pending, url)| async move {
            loop {
                if let Some(event) = next_event(&mut pending) {
                    let body = serde_json::from_slice(&event).map_err(|error| nonsense(&url, &error.to_string()))?;
                    return Ok(Some((body, (parts, pending, url))));
                }
                if pending.len() > EVENT_BYTES_MAX {
                    return Err(nonsense(&url, "an event without an end"));
                }
                match parts.next().await {
                    Some(part) => pending.extend_from_slice(&part?),
                    None => return Ok(None),
                }
            }
        }))
    }

    pub async fn cancel(&self, job: JobId) -> Answer<Affected> {
        self.json(self.request(Method::POST, &format!("/jobs/{job}/cancel"))).await
    }

    pub async fn retry(&self, job: JobId, wanted: &RetryRequest) -> Answer<Affected> {
        self.json(self.request(Method::POST, &format!("/jobs/{job}/retry")).json(wanted)).await
    }

    pub async fn results(&self, job: JobId, from: u32, limit: u32) -> Answer<Page<ResultBody>> {
        self.json(self.request(Method::GET, &format!("/jobs/{job}/results")).query(&[("from", from), ("limit", limit)])).await
    }

    pub async fn tasks(&self, job: JobId, state: Option<TaskState>, from: u32, limit: u32) -> Answer<Page<TaskBody>> {
        let request = self.request(Method::GET, &format!("/jobs/{job}/tasks"));
        self.json(request.query(&[("state", state)]).query(&[("from", from), ("limit", limit)])).await
    }

    pub async fn task(&self, task: TaskId) -> Answer<TaskDetails> {
        self.get(&task_path(task)).await
    }

    pub async fn output(&self, task: TaskId) -> Answer<impl Stream<Item = Answer<Bytes>> + use<>> {
        self.bytes(&format!("{}/output", task_path(task))).await
    }

    pub async fn log(&self, task: TaskId, attempt: Option<u32>) -> Answer<LogBody> {
        self.json(self.request(Method::GET, &format!("{}/log", task_path(task))).query(&[("attempt", attempt)])).await
    }

    /// The log from a byte on; waits for more of one that is still written.
    pub async fn log_from(&self, task: TaskId, attempt: Option<u32>, from: u64, wait: Duration) -> Answer<LogBody> {
        let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        let request = self.request(Method::GET, &format!("{}/log", task_path(task)));
        self.json(request.query(&[("attempt", attempt)]).query(&[("from", from), ("wait_ms", wait_ms)])).await
    }

    pub async fn explain(&self, task: TaskId) -> Answer<ExplanationBody> {
        self.get(&format!("{}/explain", task_path(task))).await
    }

    pub async fn explain_job(&self, job: JobId) -> Answer<JobExplanationBody> {
        self.get(&format!("/jobs/{job}/explain")).await
    }

    pub async fn agents(&self) -> Answer<Page<AgentBody>> {
        self.get("/agents").await
    }

    pub async fn agent(&self, called: &str) -> Answer<AgentBody> {
        self.get(&format!("/agents/{}", segment(called))).await
    }

    pub async fn set_intake(&self, called: &str, intake: Intake) -> Answer<AgentDeed> {
        let path = format!("/agents/{}/intake", segment(called));
        self.json(self.request(Method::POST, &path).json(&IntakeRequest { intake })).await
    }

    pub async fn restore(&self, called: &str) -> Answer<AgentDeed> {
        self.json(self.request(Method::POST, &format!("/agents/{}/restore", segment(called)))).await
    }

    pub async fn remove_agent(&self, called: &str) -> Answer<AgentDeed> {
        self.json(self.request(Method::DELETE, &format!("/agents/{}", segment(called)))).await
    }

    pub async fn trust(&self, called: &str) -> Answer<AgentDeed> {
        self.json(self.request(Method::POST, &format!("/agents/{}/trust", segment(called)))).await
    }

    pub async fn upgrades(&self) -> Answer<Page<UpgradeBody>> {
        self.get("/upgrades").await
    }

    pub async fn begin_upgrade(&self, wanted: &BeginUpgrade) -> Answer<UpgradeBody> {
        self.json(self.request(Method::POST, "/upgrades").json(wanted)).await
    }

    pub async fn stop_upgrades(&self) -> Answer<Affected> {
        self.json(self.request(Method::POST, "/upgrades/stop")).await
    }

    pub async fn resume_upgrades(&self) -> Answer<Affected> {
        self.json(self.request(Method::POST, "/upgrades/resume")).await
    }

    pub async fn agent_traffic(&self) -> Answer<Page<AgentTraffic>> {
        self.get("/net/agents").await
    }

    pub async fn blob_traffic(&self) -> Answer<Page<BlobTraffic>> {
        self.get("/net/blobs").await
    }

    /// Those that share the store; one that stands by answers this too.
    pub async fn coordinators(&self) -> Answer<Page<CoordinatorBody>> {
        self.get("/coordinators").await
    }

    pub async fn peers(&self) -> Answer<Page<PeerBody>> {
        self.get("/net/peers").await
    }

    pub async fn doctor(&self) -> Answer<Page<Finding>> {
        self.get("/net/doctor").await
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Answer<T> {
        self.json(self.request(Method::GET, path)).await
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let Place { http, base, .. } = self.leader().unwrap_or_else(|| self.own.clone());
        let request = http.request(method, format!("{base}{PREFIX}{path}"));
        match &self.token {
            Some(token) => request.bearer_auth(token.trim()),
            None => request,
        }
    }

    async fn json<T: DeserializeOwned>(&self, request: RequestBuilder) -> Answer<T> {
        let response = self.send(request).await?;
        let bytes = response.bytes().await.map_err(|error| self.unreachable(&error))?;
        serde_json::from_slice(&bytes).map_err(|error| nonsense(&self.own.base, &error.to_string()))
    }

    async fn bytes(&self, path: &str) -> Answer<impl Stream<Item = Answer<Bytes>> + use<>> {
        let response = self.send(self.request(Method::GET, path)).await?;
        let url = self.own.base.clone();
        Ok(response.bytes_stream().map_err(move |error| unreachable_at(&url, &error)))
    }

    /// Sends a request, and to others in turn if the one that was asked cannot be reached: it has heard nothing of it.
    async fn send(&self, request: RequestBuilder) -> Answer<Response> {
        let again = request.try_clone();
        let mut answer = self.send_here(request).await;
        for other in self.others.iter() {
            if !matches!(answer, Err(ClientError::Unreachable { connected: false, .. })) {
                break;
            }
            let Some(request) = again.as_ref().and_then(RequestBuilder::try_clone) else { break };
            let Some(request) = Place::at(other).ok().and_then(|place| self.moved(request, &self.own, place).ok()) else {
                continue;
            };
            answer = self.send_here(request).await;
        }
        answer
    }

    /// Sends a request, and once more to the leader if the one that was asked stands by: that one did
    /// nothing.
    async fn send_here(&self, mut request: RequestBuilder) -> Answer<Response> {
        let again = request.try_clone();
        // A body that is a stream can be sent once only, so it is asked before who leads.
        if again.is_none() && self.leader().is_none() {
            request = self.to_the_leader(request).await?;
        }
        match self.send_once(request).await {
            Err(ClientError::Refused { status, detail }) if detail.code == STANDBY && detail.leader.is_some() => {
                let next = again.and_then(|again| self.sent_on(again, detail.leader.as_deref()?).ok());
                match next {
                    Some(next) => {
                        self.ensure_awake().await?;
                        self.send_once(next).await
                    }
                    None => Err(ClientError::Refused { status, detail }),
                }
            }
            other => other,
        }
    }

    /// The request for the coordinator that leads, if the one that is named stands by and knows which.
    async fn to_the_leader(&self, request: RequestBuilder) -> Answer<RequestBuilder> {
        match self.send_once(self.own.http.get(format!("{}/health", self.own.base)).timeout(CONNECT_MAX)).await {
            Err(ClientError::Refused { detail, .. }) if detail.code == STANDBY => match detail.leader {
                Some(leader) => Ok(self.sent_on(request, &leader).unwrap_or_else(|request| *request)),
                None => Ok(request),
            },
            // Whatever else is wrong, the request itself is told better.
            Ok(_) | Err(_) => Ok(request),
        }
    }

    /// The request for the coordinator that was named as the leader, where further ones go too; as it was if that is the one that
    /// was asked, or not to be asked.
    fn sent_on(&self, request: RequestBuilder, named: &str) -> Result<RequestBuilder, Box<RequestBuilder>> {
        let asked = self.leader().unwrap_or_else(|| self.own.clone());
        match asked.leader(named).and_then(|address| Place::at(&address).ok()) {
            Some(place) => self.moved(request, &asked, place),
            None => Err(Box::new(request)),
        }
    }

    /// The request for another place than the one that it was made for, where further ones go too; as it was if they are one.
    fn moved(&self, request: RequestBuilder, from: &Place, place: Place) -> Result<RequestBuilder, Box<RequestBuilder>> {
        let (client, request) = request.build_split();
        // One that cannot be built says so when it is sent.
        let mut request = match request {
            Ok(request) => request,
            Err(_) => return Err(Box::new(client.get(self.own.base.as_str()))),
        };
        if !redirect(request.url_mut(), &from.base, &place.base) {
            return Err(Box::new(RequestBuilder::from_parts(client, request)));
        }
        let request = RequestBuilder::from_parts(place.http.clone(), request);
        *self.leader.lock().unwrap_or_else(PoisonError::into_inner) = Some(place);
        Ok(request)
    }

    /// The one that others name may have frozen a moment ago, and a request to it would wait for minutes.
    async fn ensure_awake(&self) -> Answer<()> {
        let Place { http, base, .. } = self.leader().unwrap_or_else(|| self.own.clone());
        let request = http.get(format!("{base}/health")).timeout(CONNECT_MAX);
        request.send().await.map(drop).map_err(|error| self.unreachable(&error))
    }

    fn leader(&self) -> Option<Place> {
        self.leader.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn send_once(&self, request: RequestBuilder) -> Answer<Response> {
        let response = request.send().await.map_err(|error| self.unreachable(&error))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let headers = response.headers().clone();
        let body = response.bytes().await.unwrap_or_default();
        let detail = serde_json::from_slice::<ErrorBody>(&body).map(|body| body.error);
        let detail = detail.unwrap_or_else(|_| by_headers(status, &headers));
        Err(ClientError::Refused { status: status.as_u16(), detail })
    }

    /// Whoever was sent on and finds nobody there begins anew with the address it was given.
    fn unreachable(&self, error: &reqwest::Error) -> ClientError {
        let leader = self.leader.lock().unwrap_or_else(PoisonError::into_inner).take();
        unreachable_at(leader.as_ref().map_or(&self.own.base, |leader| &leader.base), error)
    }
}

fn unreachable_at(url: &str, error: &reqwest::Error) -> ClientError {
    let reason = match trust::doubt(error) {
        Some(Doubt::Pin(wrong)) => {
            return ClientError::WrongPin { url: url.to_owned(), wanted: wrong.wanted, found: wrong.found };
        }
        Some(Doubt::Certificate) => return ClientError::Untrusted { url: url.to_owned() },
        Some(Doubt::Plain) => Some("it speaks plain HTTP and no HTTPS"),
        None => None,
    };
    if let Some(reason) = reason {
        return ClientError::Unreachable { url: url.to_owned(), reason: reason.to_owned(), connected: false };
    }
    // The outermost texts repeat the address; the innermost says what happened.
    let mut reason: &dyn std::error::Error = error;
    while let Some(source) = reason.source() {
        reason = source;
    }
    // The system's number for it says nothing that its words do not.
    let words = reason.to_string().to_lowercase();
    let words = words.split(" (os error").next().unwrap_or_default();
    ClientError::Unreachable { url: url.to_owned(), reason: words.to_owned(), connected: !error.is_connect() }
}

fn nonsense(url: &str, reason: &str) -> ClientError {
    ClientError::Nonsense { url: url.to_owned(), reason: reason.to_owned() }
}

/// What an answer without a body says: `HEAD` gets none.
fn by_headers(status: StatusCode, headers: &HeaderMap) -> ErrorDetail {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let message = format!("the server answered {}", status.as_str());
    match text(CODE_HEADER) {
        Some(code) => ErrorDetail { code, message, hint: None, leader: text(LEADER_HEADER) },
        None => {
            let hint = Some("is this address a lull coordinator's?".into());
            ErrorDetail { code: "unknown".into(), message, hint, leader: None }
        }
    }
}

/// Sends a URL below one base to the same place below another; whether it was not there already.
fn redirect(target: &mut reqwest::Url, from: &str, to: &str) -> bool {
    if from == to {
        return false;
    }
    let moved = target.as_str().strip_prefix(from).and_then(|rest| reqwest::Url::parse(&format!("{to}{rest}")).ok());
    let place = |url: &reqwest::Url| (url.host_str().map(str::to_owned), url.port_or_known_default());
    match moved {
        Some(moved) if place(&moved) != place(target) => {
            *target = moved;
            true
        }
        Some(_) | None => false,
    }
}

/// Takes the data of the next whole event off `pending`; comments and other fields are passed over.
fn next_event(pending: &mut Vec<u8>) -> Option<Vec<u8>> {
    loop {
        let end = pending.windows(2).position(|pair| pair == b"\n\n")?;
        let block: Vec<u8> = pending.drain(..end + 2).collect();
        let mut data = Vec::new();
        for line in block.split(|byte| *byte == b'\n') {
            if let Some(text) = line.strip_prefix(b"data:") {
                data.extend_from_slice(text.strip_prefix(b" ").unwrap_or(text));
            }
        }
        if !data.is_empty() {
            return Some(data);
        }
    }
}

fn function_path(name: &str) -> String {
    format!("/functions/{}", segment(name))
}

fn label_path(name: &str, label: &str) -> String {
    format!("{}/labels/{}", function_path(name), segment(label))
}

fn task_path(task: TaskId) -> String {
    format!("/jobs/{}/tasks/{}", task.job, task.index)
}

/// A name as one segment of a path. Names are letters, digits and `-_.`; whatever else somebody typed is escaped.
fn segment(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for byte in name.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => out.push(byte as char),
            b'.' if name.bytes().any(|other| other != b'.') => out.push('.'),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_cut_out_of_whatever_arrives() {
        let mut pending = b": keep-alive\n\nevent: job\ndata: {\"a\":1}\n\nevent: job\ndata: {".to_vec();
        assert_eq!(next_event(&mut pending).as_deref(), Some(b"{\"a\":1}".as_slice()));
        assert_eq!(next_event(&mut pending), None);
        pending.extend_from_slice(b"}\n\n");
        assert_eq!(next_event(&mut pending).as_deref(), Some(b"{}".as_slice()));
    }

    #[test]
    fn an_address_may_leave_out_its_scheme() {
        assert_eq!(Client::new("localhost:7373/", None).expect("a client").base(), "http://localhost:7373");
        assert!(Client::new("ftp://x", None).is_err());
        assert!(Client::new("", None).is_err());
    }

    #[test]
    fn an_answer_without_a_body_is_read_off_its_headers() {
        let headers = [(CODE_HEADER, STANDBY), (LEADER_HEADER, "http://north:7411")];
        let headers =
            headers.map(|(name, value)| (header::HeaderName::from_static(name), header::HeaderValue::from_static(value)));
        let detail = by_headers(StatusCode::SERVICE_UNAVAILABLE, &headers.into_iter().collect());
        assert_eq!((detail.code.as_str(), detail.leader.as_deref()), (STANDBY, Some("http://north:7411")));
        assert_eq!(by_headers(StatusCode::NOT_FOUND, &HeaderMap::new()).code, "unknown");
    }

    #[test]
    fn a_leader_is_asked_as_safely_as_the_one_that_named_it() {
        let pin = Pin::of_key(b"north");
        let named = |base: &str, leader: &str| Place::at(&Address::read(base)).expect("a place").leader(leader);
        let north = Address::new("https://north:7411", Some(pin));
        assert_eq!(named(&format!("https://south:7411#{pin}"), &north.to_string()), Some(north.clone()));
        assert_eq!(named("http://127.0.0.1:7411", &north.to_string()), Some(north.clone()), "nobody is between");
        let by_proxy = named("http://south:7411", &north.to_string());
        assert_eq!(by_proxy, Some(Address::new("https://north:7411", None)), "somebody may have put the pin there");
        assert_eq!(named(&format!("https://south:7411#{pin}"), "http://north:7411"), None, "the token would be read on its way");
    }

    #[test]
    fn a_request_is_sent_on_to_the_same_path_of_another() {
        let sent = |from: &str, to: &str| {
            let mut url: reqwest::Url = format!("{from}/api/v1/jobs?limit=5").parse().expect("an address");
            redirect(&mut url, from, to).then(|| url.to_string())
        };
        assert_eq!(sent("http://a:1", "https://b:2").as_deref(), Some("https://b:2/api/v1/jobs?limit=5"));
        assert_eq!(sent("https://a:1/lull", "https://b:2").as_deref(), Some("https://b:2/api/v1/jobs?limit=5"));
        assert_eq!(sent("https://a:1", "https://a:1"), None);
    }

    #[test]
    fn a_typed_name_stays_one_segment() {
        assert_eq!(segment("desk-17.lan"), "desk-17.lan");
        assert_eq!(segment("../a b"), "..%2Fa%20b");
        assert_eq!(segment(".."), "%2E%2E");
    }
}
