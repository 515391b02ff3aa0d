//! The three requests, and how they fail.

use std::time::{Duration, Instant};

use holdall_protocol::worker::{Hello, Orders, POLL_SECONDS, Poll, Report, ReportAnswer, Welcome};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::REQUEST_TIMEOUT;

/// The largest answer that is read.
const MAX_ANSWER: u64 = 64 * 1024 * 1024;

/// Speaks to one server.
#[derive(Debug, Clone)]
pub struct Client {
    agent: ureq::Agent,
    base: String,
    authorization: String,
}

/// A request did not do what it should.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The session is old.
    #[error("the session is old: {0}")]
    Conflict(String),
    /// The token is not accepted.
    #[error("the token is refused: {0}")]
    Refused(String),
    /// Anything else; trying again may help.
    #[error("{0}")]
    Away(String),
}

impl Client {
    /// A client of the server at `base`; connects when it is used.
    pub fn new(base: &str, token: &str) -> Client {
        let agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_connect(Some(Duration::from_secs(10)))
            .user_agent(concat!("holdall-worker/", env!("CARGO_PKG_VERSION")))
            .build()
            .new_agent();
        Client { agent, base: base.trim_end_matches('/').to_owned(), authorization: format!("Bearer {token}") }
    }

    /// Starts the session, or starts it again.
    pub fn hello(&self, hello: &Hello) -> Result<Welcome, Failure> {
        self.post("hello", hello, REQUEST_TIMEOUT)
    }

    /// Waits for orders.
    pub fn poll(&self, poll: &Poll) -> Result<Orders, Failure> {
        self.post("poll", poll, Duration::from_secs(POLL_SECONDS) + REQUEST_TIMEOUT)
    }

    /// Reports facts.
    pub fn report(&self, report: &Report) -> Result<ReportAnswer, Failure> {
        self.post("report", report, REQUEST_TIMEOUT)
    }

    fn post<T: DeserializeOwned>(&self, what: &str, body: &impl Serialize, timeout: Duration) -> Result<T, Failure> {
        let away = |e: ureq::Error| Failure::Away(e.to_string());
        let mut response = self
            .agent
            .post(format!("{}/api/holdall/v1/worker/{what}", self.base))
            .config()
            .timeout_global(Some(timeout))
            .build()
            .header("authorization", &self.authorization)
            .send_json(body)
            .map_err(away)?;
        let status = response.status().as_u16();
        if status == 200 {
            return response.body_mut().with_config().limit(MAX_ANSWER).read_json().map_err(away);
        }
        let text = response.body_mut().with_config().limit(64 * 1024).read_to_string().unwrap_or_default();
        let detail = error_message(status, &text);
        Err(match status {
            409 => Failure::Conflict(detail),
            401 | 403 => Failure::Refused(detail),
            _ => Failure::Away(detail),
        })
    }
}

/// What the server said went wrong: its message, or the start of what it sent instead.
fn error_message(status: u16, body: &str) -> String {
    let message = serde_json::from_str::<serde_json::Value>(body)
        .ok()
        .and_then(|error| error.get("message").and_then(|message| message.as_str().map(str::to_owned)));
    let message = message.unwrap_or_else(|| body.chars().take(200).collect());
    format!("status {status}: {}", message.trim())
}

/// How long to wait before the next try: short at first, so that a server that is restarted is found again within
/// half a second; every five seconds once it has been away for a minute.
#[derive(Debug)]
pub struct Backoff {
    since: Instant,
    tries: u32,
}

impl Default for Backoff {
    fn default() -> Backoff {
        Backoff { since: Instant::now(), tries: 0 }
    }
}

impl Backoff {
    /// How long to wait now.
    pub fn next(&mut self) -> Duration {
        self.tries += 1;
        if self.since.elapsed() > Duration::from_secs(60) {
            return Duration::from_secs(5);
        }
        Duration::from_millis(25 << self.tries.min(5)).min(Duration::from_millis(500))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_said_in_the_servers_words_where_it_has_some() {
        assert_eq!(
            error_message(403, r#"{"code":"forbidden","message":"no such token"}"#),
            "status 403: no such token"
        );
        assert_eq!(error_message(502, "<html>bad gateway"), "status 502: <html>bad gateway");
        assert_eq!(error_message(500, ""), "status 500: ");
    }

    #[test]
    fn the_first_tries_come_quickly() {
        let mut backoff = Backoff::default();
        let waits: Vec<_> = (0..6).map(|_| backoff.next().as_millis()).collect();
        assert_eq!(waits, [50, 100, 200, 400, 500, 500]);
    }
}
