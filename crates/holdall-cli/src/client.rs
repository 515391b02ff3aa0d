//! The client of the API: blocking requests, errors that name cause and remedy.
//!
//! Where the server is and with which token it is spoken to is [`discover`]'s; streams are [`events`]'s.

pub mod discover;
pub mod events;

use std::io::Read;
use std::time::Duration;

use holdall_protocol::api::{BASE, Diagnostic, ErrorBody, List, code};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{CliError, Kind};
use crate::output::plain;

/// How long a connection may take to come about.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long an answer may take: longer than the server ever holds one back on purpose.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(90);

/// The largest answer that is read into memory.
const ANSWER_LIMIT: u64 = 64 << 20;

/// Speaks to one server.
#[derive(Debug, Clone)]
pub struct Client {
    /// `http://HOST:PORT`, without a slash at the end.
    server: String,
    token: Option<String>,
    agent: ureq::Agent,
}

/// A request that did not work.
#[derive(Debug)]
pub enum ClientError {
    /// The server was not reached, or the connection broke.
    Transport(String),
    /// The server said no.
    Refused {
        /// The HTTP status.
        status: u16,
        /// What it said.
        body: Box<ErrorBody>,
    },
    /// What answers does not speak this API.
    Strange(String),
}

impl Client {
    /// A client of the server at an address, which acts as the token says.
    pub fn new(server: &str, token: Option<String>) -> Result<Client, CliError> {
        let server = server.trim_end_matches('/').to_owned();
        let rest = server.strip_prefix("http://").ok_or_else(|| {
            CliError::invalid(format!("'{server}' is not an address of a server"))
                .hint("write it like http://127.0.0.1:8080; there is no https yet, put a tunnel in between")
        })?;
        if rest.is_empty() || rest.starts_with(':') || server.parse::<ureq::http::Uri>().is_err() {
            return Err(CliError::invalid(format!("'{server}' is not an address of a server"))
                .hint("write it like http://127.0.0.1:8080"));
        }
        if token.as_ref().is_some_and(|token| token.chars().any(|c| !c.is_ascii_graphic())) {
            return Err(CliError::invalid("the token has characters that no token has").hint("look at HOLDALL_TOKEN"));
        }
        let mut config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .timeout_per_read(Some(ANSWER_TIMEOUT))
            .user_agent(concat!("holdall/", env!("CARGO_PKG_VERSION")));
        if is_loopback(rest) {
            config = config.proxy(None);
        }
        Ok(Client { server, token, agent: config.build().new_agent() })
    }

    /// The server's address.
    pub fn server(&self) -> &str {
        &self.server
    }

    /// Reads something. The path is relative to the API's base.
    pub fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        let response = self.with_token(self.agent.get(self.url(path))).call();
        self.answer(response)
    }

    /// Reads something that may not be there.
    pub fn find<T: DeserializeOwned>(&self, path: &str) -> Result<Option<T>, ClientError> {
        match self.get(path) {
            Ok(value) => Ok(Some(value)),
            Err(ClientError::Refused { status: 404, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Reads a list, page by page, until it ends or has `limit` items.
    pub fn list<T: DeserializeOwned>(&self, path: &str, limit: Option<usize>) -> Result<Vec<T>, ClientError> {
        let mut items = Vec::new();
        let mut after: Option<String> = None;
        loop {
            let mut query = Vec::new();
            if let Some(limit) = limit {
                let wanted = limit.saturating_sub(items.len()).min(holdall_protocol::api::MAX_LIMIT as usize);
                query.push(format!("limit={wanted}"));
            }
            query.extend(after.as_deref().map(|after| format!("after={}", escape(after))));
            let page: List<T> = self.get(&with_query(path, &query))?;
            let is_empty = page.items.is_empty();
            items.extend(page.items);
            if let Some(limit) = limit
                && items.len() >= limit
            {
                items.truncate(limit);
                return Ok(items);
            }
            // A server that gives a cursor and nothing with it would be asked for ever.
            match page.next {
                Some(next) if !is_empty && after.as_deref() != Some(&*next) => after = Some(next),
                _ => return Ok(items),
            }
        }
    }

    /// Does something.
    pub fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, ClientError> {
        let response = self.with_token(self.agent.post(self.url(path))).send_json(body);
        self.answer(response)
    }

    /// Removes something.
    pub fn delete<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        let response = self.with_token(self.agent.delete(self.url(path))).call();
        self.answer(response)
    }

    /// Has the server put something together, whose bytes are read as they come.
    pub fn download(&self, path: &str) -> Result<impl Read + Send + use<>, ClientError> {
        let request = self.with_token(self.agent.post(self.url(path)));
        let mut response = request.send_empty().map_err(|error| self.transport(error))?;
        if response.status() != 200 {
            return Err(self.refusal(&mut response));
        }
        Ok(response.into_body().into_reader())
    }

    /// Opens bytes that are read as they come.
    pub fn open(&self, path: &str, headers: &[(&str, &str)]) -> Result<impl Read + Send + use<>, ClientError> {
        let mut request = self.with_token(self.agent.get(self.url(path)));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut response = request.call().map_err(|error| self.transport(error))?;
        if response.status() != 200 {
            return Err(self.refusal(&mut response));
        }
        Ok(response.into_body().into_reader())
    }

    fn url(&self, path: &str) -> String {
        format!("{}{BASE}/{path}", self.server)
    }

    fn with_token<B>(&self, request: ureq::RequestBuilder<B>) -> ureq::RequestBuilder<B> {
        match &self.token {
            Some(token) => request.header("Authorization", format!("Bearer {token}")),
            None => request,
        }
    }

    fn answer<T: DeserializeOwned>(
        &self,
        response: Result<ureq::http::Response<ureq::Body>, ureq::Error>,
    ) -> Result<T, ClientError> {
        let mut response = response.map_err(|error| self.transport(error))?;
        if !response.status().is_success() {
            return Err(self.refusal(&mut response));
        }
        let text = response.body_mut().with_config().limit(ANSWER_LIMIT).read_to_string();
        let text = text.map_err(|error| self.transport(error))?;
        serde_json::from_str(&text)
            .map_err(|error| ClientError::Strange(format!("the answer of {} cannot be read: {error}", self.server)))
    }

    fn refusal(&self, response: &mut ureq::http::Response<ureq::Body>) -> ClientError {
        let status = response.status().as_u16();
        let text = response.body_mut().with_config().limit(ANSWER_LIMIT).lossy_utf8(true).read_to_string();
        match text.ok().and_then(|text| serde_json::from_str(&text).ok()) {
            Some(body) => ClientError::Refused { status, body: Box::new(body) },
            None => ClientError::Strange(format!("{} answers {status}, not as a Holdall server does", self.server)),
        }
    }

    fn transport(&self, error: ureq::Error) -> ClientError {
        let why = match error {
            ureq::Error::Io(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
                "nothing listens there".to_owned()
            }
            ureq::Error::Io(error) => error.to_string(),
            ureq::Error::HostNotFound => "there is no host of that name".to_owned(),
            ureq::Error::Timeout(_) => "no answer in time".to_owned(),
            other => other.to_string(),
        };
        ClientError::Transport(format!("no answer from {}: {why}", self.server))
    }
}

impl From<ClientError> for CliError {
    fn from(error: ClientError) -> CliError {
        match error {
            ClientError::Transport(message) => CliError::new(Kind::Unreachable, message).hint(
                "if it is not running, start it: holdall serve --data-dir DIR (or holdall demo)\n\
                 if it runs elsewhere: --server URL, or HOLDALL_SERVER",
            ),
            ClientError::Strange(message) => CliError::new(Kind::Unreachable, message)
                .hint("look whether the address is right, and whether the server has the same version"),
            ClientError::Refused { status, body } => refused(status, &body),
        }
    }
}

/// The error for an answer of the server: its message, and a remedy from its details.
fn refused(status: u16, body: &ErrorBody) -> CliError {
    let kind = match status {
        400 | 413 | 422 => Kind::Invalid,
        401 | 403 => Kind::Denied,
        404 => Kind::NotFound,
        409 | 423 => Kind::Held,
        _ => Kind::Failed,
    };
    let mut hints = Vec::new();
    for hold in &body.details.held {
        hints.push(format!("{}: {}", hold.code, plain(&hold.sentence)));
        hints.extend(hold.command.iter().map(|command| format!("  lift it: {}", plain(command))));
    }
    if let Some(lock) = &body.details.lock {
        hints.extend(crate::output::lock_lines(lock));
    }
    hints.extend(body.details.diagnostics.iter().map(diagnostic_line));
    if !body.details.did_you_mean.is_empty() {
        hints.push(format!("did you mean {}?", plain(&body.details.did_you_mean.join(", "))));
    }
    hints.extend(body.details.command.iter().map(|command| format!("try: {}", plain(command))));
    match &*body.code {
        code::UNAUTHENTICATED => {
            hints.push("give a token: HOLDALL_TOKEN, or work below a folder with .holdall/client.json".to_owned());
            hints.push("the server's first token is in the file `token` of its data folder".to_owned());
        }
        code::REASON_REQUIRED => hints.push("say why: --reason \"...\"".to_owned()),
        code::INTERNAL => hints.push(format!("the server's log has more: request {}", plain(&body.request_id))),
        _ => {}
    }
    CliError::new(kind, plain(&body.message)).hint(hints.join("\n"))
}

/// `LINE:COLUMN: error: message; help`.
pub fn diagnostic_line(diagnostic: &Diagnostic) -> String {
    let place = match (diagnostic.line, diagnostic.column) {
        (Some(line), Some(column)) => format!("{line}:{column}: "),
        (Some(line), None) => format!("{line}: "),
        _ => String::new(),
    };
    let help = diagnostic.help.as_ref().map(|help| format!("; {}", plain(help))).unwrap_or_default();
    format!("{place}{}: {}{help}", diagnostic.severity, plain(&diagnostic.message))
}

/// A name as one segment of a path, or as a value of a query.
pub fn escape(name: &str) -> String {
    let mut text = String::with_capacity(name.len());
    for byte in name.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => text.push(char::from(byte)),
            _ => text.push_str(&format!("%{byte:02X}")),
        }
    }
    // These two would be taken for steps in a path.
    match &*text {
        "." => "%2E".to_owned(),
        ".." => "%2E%2E".to_owned(),
        _ => text,
    }
}

/// A path with more of a query.
pub fn with_query(path: &str, query: &[String]) -> String {
    if query.is_empty() {
        return path.to_owned();
    }
    let joint = if path.contains('?') { '&' } else { '?' };
    format!("{path}{joint}{}", query.join("&"))
}

fn is_loopback(authority: &str) -> bool {
    let host = match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => authority.split([':', '/']).next().unwrap_or_default(),
    };
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_one_segment() {
        assert_eq!(escape("deploy-notify"), "deploy-notify");
        assert_eq!(escape("a/b c?d#é"), "a%2Fb%20c%3Fd%23%C3%A9");
        assert_eq!(escape(".."), "%2E%2E");
        assert_eq!(with_query("bags", &[]), "bags");
        assert_eq!(with_query("bags?x=1", &["limit=2".into(), "after=3".into()]), "bags?x=1&limit=2&after=3");
    }

    #[test]
    fn an_address_is_http_and_has_a_host() {
        for server in ["127.0.0.1:80", "https://x", "http://", "http://:80", "ftp://x", "http://a b"] {
            assert!(Client::new(server, None).is_err(), "{server}");
        }
        assert_eq!(Client::new("http://127.0.0.1:8080/", None).unwrap().server(), "http://127.0.0.1:8080");
        assert!(Client::new("http://x", Some("a\nb".into())).is_err());
    }

    #[test]
    fn loopback_is_known_by_its_names() {
        for authority in ["localhost", "localhost:1", "127.0.0.1:80", "[::1]:80", "127.1.2.3/x"] {
            assert!(is_loopback(authority), "{authority}");
        }
        for authority in ["example.org", "127.0.0.1.example.org", "[2001:db8::1]:80", "10.0.0.1"] {
            assert!(!is_loopback(authority), "{authority}");
        }
    }
}
