//! What is outside Holdall in the demo, behind one small HTTP server on 127.0.0.1: the state server and the supervisor.
//!
//! | request | answer |
//! |---|---|
//! | everything below `/state/` and `GET /counters` | see `state` |
//! | `GET /environments` | environment to [`EnvironmentView`] |
//! | `PUT /environments/ENV`, [`Wanted`] as body | list of [`Change`]; 409 with the reason when a service does not run |

use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, RawQuery, State};
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use tokio::task::JoinHandle;

use super::folder::{Folder, write_whole};
use super::state::{Reply, STATE_LIMIT, States};
#[cfg(doc)]
use super::supervisor::{Change, EnvironmentView};
use super::supervisor::{Supervisor, SupervisorError, Wanted};

/// What can go wrong when the world is started.
#[derive(Debug, thiserror::Error)]
pub enum WorldError {
    /// The system says no.
    #[error("cannot start the demo's state server")]
    Io(#[from] io::Error),
    /// The services do not come back.
    #[error("cannot start the demo's services")]
    Supervisor(#[from] SupervisorError),
}

/// The running world. Ends, with every service, when it is stopped.
#[derive(Debug)]
pub struct World {
    shared: Arc<Shared>,
    address: SocketAddr,
    serving: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    states: Mutex<States>,
    supervisor: Supervisor,
}

impl World {
    /// Starts the state server, and the services that ran when the demo was last stopped, and writes where they are
    /// reached. Takes the port of the last time if it is free.
    pub async fn start(folder: &Folder) -> Result<World, WorldError> {
        let before = fs::read_to_string(folder.world_address()).ok();
        let before = before.and_then(|text| text.trim().rsplit(':').next().and_then(|port| port.parse::<u16>().ok()));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, before.unwrap_or(0)))
            .or_else(|_taken| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))?;
        listener.set_nonblocking(true)?;
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let address = listener.local_addr()?;
        let states = Mutex::new(States::open(folder)?);
        let supervisor = Supervisor::start(folder)?;
        let shared = Arc::new(Shared { states, supervisor });
        let router =
            Router::new().fallback(answer).layer(DefaultBodyLimit::max(STATE_LIMIT)).with_state(Arc::clone(&shared));
        let serving = tokio::spawn(async move {
            // Serving ends only with the process or with `stop`.
            let _served = axum::serve(listener, router).await;
        });
        write_whole(&folder.world_address(), format!("http://{address}\n").as_bytes())?;
        Ok(World { shared, address, serving })
    }

    /// Where it answers.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops every service, then the server.
    pub async fn stop(self) {
        let shared = Arc::clone(&self.shared);
        // A panic has been printed; the services end with the process anyway.
        let _stopped = tokio::task::spawn_blocking(move || shared.supervisor.stop()).await;
        self.serving.abort();
    }
}

async fn answer(
    State(shared): State<Arc<Shared>>,
    method: Method,
    uri: Uri,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    if !is_from_here(&headers) {
        return (StatusCode::FORBIDDEN, "only programs of this machine are answered\n").into_response();
    }
    let answered = tokio::task::spawn_blocking(move || shared.answer(&method, uri.path(), query.as_deref(), &body));
    match answered.await {
        Ok(reply) => (reply.status, reply.body).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

/// Whether the request was meant for this server and does not come from a web page.
fn is_from_here(headers: &HeaderMap) -> bool {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let name = host.rsplit_once(':').map_or(host, |(name, _port)| name);
    matches!(name, "127.0.0.1" | "localhost") && !headers.contains_key(header::ORIGIN)
}

impl Shared {
    fn answer(&self, method: &Method, path: &str, query: Option<&str>, body: &[u8]) -> Reply {
        let parts: Vec<&str> = path.split('/').skip(1).collect();
        match (method.as_str(), parts.as_slice()) {
            (method, ["state", environment]) => {
                let id = query.into_iter().flat_map(|query| query.split('&')).find_map(|pair| pair.strip_prefix("ID="));
                let mut states = self.states.lock().unwrap_or_else(PoisonError::into_inner);
                states.answer(method, environment, id, body)
            }
            ("GET", ["counters"]) => {
                let states = self.states.lock().unwrap_or_else(PoisonError::into_inner);
                Reply::json(StatusCode::OK, states.counters())
            }
            ("GET", ["environments"]) => Reply::json(StatusCode::OK, &self.supervisor.view()),
            ("PUT", ["environments", environment]) => self.deploy(environment, body),
            _ => Reply::text(StatusCode::NOT_FOUND, "there is nothing here\n"),
        }
    }

    fn deploy(&self, environment: &str, body: &[u8]) -> Reply {
        let wanted: Wanted = match serde_json::from_slice(body) {
            Ok(wanted) => wanted,
            Err(error) => return problem(StatusCode::BAD_REQUEST, &error.to_string()),
        };
        match self.supervisor.deploy(environment, &wanted) {
            Ok(changes) => Reply::json(StatusCode::OK, &changes),
            Err(error) => {
                let status = match &error {
                    SupervisorError::Refused(_) | SupervisorError::Git(_) => StatusCode::BAD_REQUEST,
                    SupervisorError::NotRunning(_) => StatusCode::CONFLICT,
                    SupervisorError::Stopping => StatusCode::SERVICE_UNAVAILABLE,
                    SupervisorError::Write { .. } => StatusCode::INTERNAL_SERVER_ERROR,
                };
                problem(status, &error.to_string())
            }
        }
    }
}

fn problem(status: StatusCode, text: &str) -> Reply {
    Reply::json(status, &json!({ "problem": text }))
}

/// An HTTP client for requests on this machine; statuses are no errors, and no proxy is asked.
pub fn agent(limit: Duration) -> ureq::Agent {
    ureq::Agent::config_builder()
        .http_status_as_error(false)
        .allow_non_standard_methods(true)
        .timeout_global(Some(limit))
        .proxy(None)
        .build()
        .into()
}

/// What a server answered: its status and its whole body as text.
pub fn request(agent: &ureq::Agent, method: &str, url: &str, body: &str) -> anyhow::Result<(u16, String)> {
    let request = ureq::http::Request::builder().method(method).uri(url).body(body.to_owned())?;
    let mut response = agent.run(request)?;
    let text = response.body_mut().with_config().limit(STATE_LIMIT as u64).lossy_utf8(true).read_to_string()?;
    Ok((response.status().as_u16(), text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn web_pages_are_refused() {
        let headers = |pairs: &[(header::HeaderName, &str)]| {
            pairs.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect::<HeaderMap>()
        };
        assert!(is_from_here(&headers(&[(header::HOST, "127.0.0.1:4000")])));
        assert!(is_from_here(&headers(&[(header::HOST, "localhost")])));
        assert!(!is_from_here(&headers(&[(header::HOST, "evil.example:4000")])));
        assert!(!is_from_here(&headers(&[])));
        assert!(!is_from_here(&headers(&[(header::HOST, "127.0.0.1:4000"), (header::ORIGIN, "http://evil.example")])));
    }
}
