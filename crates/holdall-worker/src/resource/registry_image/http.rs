//! Requests to one registry: tokens where it asks for them, patience where it asks for that, and bounds on everything
//! that it may send.

use std::cell::RefCell;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::Value;
use ureq::http::{Method, Request, Response, StatusCode, Uri, header};
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::{Agent, AsSendBody, Body, SendBody};

use super::super::{Log, ResourceError};
use super::source::Access;

/// How often a request is made that the registry wants to have later, or that a connection broke under.
const MAX_ATTEMPTS: u32 = 4;
/// Who is to come back later than this is told so at once.
const MAX_WAIT: Duration = Duration::from_secs(60);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// A registry that says nothing for so long is not there.
const SILENCE: Duration = Duration::from_secs(60);
/// What a token and an error may be long.
const MAX_SMALL_BODY: u64 = 1 << 20;
/// Where systems keep the certificates of the authorities that they trust.
const SYSTEM_CERTIFICATES: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

/// A client of one registry.
pub(super) struct Http {
    agent: Agent,
    /// `https://registry.example`: who gets the authorization.
    origin: String,
    /// For messages: the registry and repository.
    shown: String,
    login: Option<(String, String)>,
    authorization: RefCell<Option<String>>,
    log: Log,
}

/// One request.
#[derive(Clone)]
pub(super) struct Call<'a> {
    pub(super) method: Method,
    pub(super) url: String,
    pub(super) accept: Option<String>,
    pub(super) body: Content<'a>,
    /// What a token must allow: `repository:PATH:pull`.
    pub(super) scope: String,
}

/// What a request carries. It may have to be sent again.
#[derive(Clone)]
pub(super) enum Content<'a> {
    Nothing,
    Bytes { media_type: &'a str, bytes: &'a [u8] },
    Part { path: PathBuf, offset: u64, size: u64 },
}

/// Why there is no answer.
pub(super) enum Failure {
    /// Nobody there speaks HTTP.
    Unreachable(String),
    /// Anything else.
    Other(ResourceError),
}

impl From<ResourceError> for Failure {
    fn from(error: ResourceError) -> Failure {
        Failure::Other(error)
    }
}

impl Http {
    /// A client for the registry at `origin`. `shown` is what messages call the repository.
    ///
    /// # Errors
    /// When a certificate of the source cannot be read.
    pub(super) fn new(origin: String, shown: String, access: &Access, log: Log) -> Result<Http, ResourceError> {
        let encrypted = origin.starts_with("https:");
        let tls = if encrypted { tls(access)? } else { TlsConfig::builder().build() };
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .https_only(encrypted)
            .max_redirects(5)
            .max_response_header_size(64 << 10)
            .user_agent(concat!("holdall/", env!("CARGO_PKG_VERSION")))
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .timeout_per_read(Some(SILENCE))
            .timeout_per_write(Some(SILENCE))
            .timeout_recv_response(Some(SILENCE))
            .tls_config(tls)
            .build();
        Ok(Http {
            agent: config.new_agent(),
            origin,
            shown,
            login: access.login.clone(),
            authorization: RefCell::new(None),
            log,
        })
    }

    /// The registry's address.
    pub(super) fn origin(&self) -> &str {
        &self.origin
    }

    /// Makes a request and gives the answer, whatever its status, but for those that are dealt with here: 401 (asks for
    /// a token once), 429 and the like (comes back later).
    pub(super) fn send(&self, call: &Call) -> Result<Response<Body>, Failure> {
        let mut asked_for_token = false;
        let mut attempt = 0;
        loop {
            attempt += 1;
            let mut response = match self.once(call)? {
                Ok(response) => response,
                Err(error) if attempt < MAX_ATTEMPTS && is_broken_connection(&error) => {
                    self.wait(Duration::from_secs(1), &error.to_string());
                    continue;
                }
                Err(error) => return Err(Failure::Unreachable(error.to_string())),
            };
            let status = response.status();
            match status {
                StatusCode::UNAUTHORIZED if !asked_for_token && self.is_own(&call.url) => {
                    asked_for_token = true;
                    let challenges = response.headers().get_all(header::WWW_AUTHENTICATE);
                    let challenges: Vec<String> =
                        challenges.iter().filter_map(|value| value.to_str().ok()).map(str::to_owned).collect();
                    let authorization = self.authorize(&challenges, &call.scope)?;
                    self.authorization.replace(Some(authorization));
                    // It is another attempt at the same thing.
                    attempt -= 1;
                }
                StatusCode::TOO_MANY_REQUESTS
                | StatusCode::BAD_GATEWAY
                | StatusCode::SERVICE_UNAVAILABLE
                | StatusCode::GATEWAY_TIMEOUT => {
                    let wait = retry_after(&response).unwrap_or(Duration::from_secs(1 << attempt.min(4)));
                    let said = self.explain(&mut response);
                    if attempt >= MAX_ATTEMPTS || wait > MAX_WAIT {
                        return Err(ResourceError::failed(format!(
                            "{said}; it wants to be asked again in {} s",
                            wait.as_secs()
                        ))
                        .into());
                    }
                    self.wait(wait, &said);
                }
                _ => return Ok(response),
            }
        }
    }

    fn wait(&self, wait: Duration, why: &str) {
        self.log.line(format_args!("{why}: trying again in {} s", wait.as_secs()));
        std::thread::sleep(wait);
    }

    fn is_own(&self, url: &str) -> bool {
        url.strip_prefix(&self.origin).is_some_and(|rest| rest.starts_with('/'))
    }

    fn once(&self, call: &Call) -> Result<Result<Response<Body>, ureq::Error>, ResourceError> {
        let mut request = Request::builder().method(&call.method).uri(&call.url);
        if let Some(accept) = &call.accept {
            request = request.header(header::ACCEPT, accept);
        }
        // Nobody else gets it, wherever an upload is sent to.
        if let Some(authorization) = self.authorization.borrow().as_ref().filter(|_| self.is_own(&call.url)) {
            request = request.header(header::AUTHORIZATION, authorization);
        }
        match &call.body {
            Content::Nothing if call.method == Method::POST => {
                self.run(request.header(header::CONTENT_LENGTH, 0).body(SendBody::none()))
            }
            Content::Nothing => self.run(request.body(())),
            Content::Bytes { media_type, bytes } => {
                self.run(request.header(header::CONTENT_TYPE, *media_type).body(*bytes))
            }
            Content::Part { path, offset, size } => {
                let mut file = File::open(path).map_err(ResourceError::file("read", path))?;
                file.seek(SeekFrom::Start(*offset)).map_err(ResourceError::file("read", path))?;
                let request = request.header(header::CONTENT_LENGTH, *size);
                let request = request.header(header::CONTENT_TYPE, "application/octet-stream");
                self.run(request.body(SendBody::from_owned_reader(file.take(*size))))
            }
        }
    }

    fn run(
        &self,
        request: Result<Request<impl AsSendBody>, ureq::http::Error>,
    ) -> Result<Result<Response<Body>, ureq::Error>, ResourceError> {
        let request = request.map_err(|error| ResourceError::failed(format!("{}: {error}", self.shown)))?;
        Ok(self.agent.run(request))
    }

    /// What to send as authorization, given what the registry asks for.
    fn authorize(&self, challenges: &[String], scope: &str) -> Result<String, ResourceError> {
        let basic = self
            .login
            .as_ref()
            .map(|(username, password)| format!("Basic {}", BASE64_STANDARD.encode(format!("{username}:{password}"))));
        let refused = |why: &str| ResourceError::failed(format!("{}: {why}", self.shown));
        let needs_login = || refused("the registry wants credentials: set `username` and `password`");
        let challenges = challenges.iter().filter_map(|challenge| Challenge::parse(challenge)).collect::<Vec<_>>();
        let Some(bearer) = challenges.iter().find(|challenge| challenge.scheme.eq_ignore_ascii_case("bearer")) else {
            let known = challenges.iter().any(|challenge| challenge.scheme.eq_ignore_ascii_case("basic"));
            return match basic {
                Some(basic) if known => Ok(basic),
                None if known => Err(needs_login()),
                _ => Err(refused("the registry wants a kind of authentication that is not known here")),
            };
        };
        let realm = bearer.get("realm").ok_or_else(|| refused("the registry does not say where to get a token"))?;
        let mut url = realm.to_owned();
        let is_http =
            |url: &str| url.parse::<Uri>().is_ok_and(|uri| matches!(uri.scheme_str(), Some("http" | "https")));
        if !is_http(&url) {
            return Err(refused("the registry does not say where to get a token"));
        }
        if self.origin.starts_with("https:") && !url.starts_with("https:") {
            return Err(refused("the registry wants the credentials to be sent unencrypted"));
        }
        let scope = bearer.get("scope").unwrap_or(scope);
        for (name, value) in [("service", bearer.get("service").unwrap_or_default()), ("scope", scope)] {
            if !value.is_empty() {
                url.push(if url.contains('?') { '&' } else { '?' });
                url.push_str(&format!("{name}={}", percent_encoded(value)));
            }
        }
        let mut request = Request::builder().method(Method::GET).uri(&url);
        if let Some(basic) = &basic {
            request = request.header(header::AUTHORIZATION, basic);
        }
        let mut response =
            self.run(request.body(()))?.map_err(|error| refused(&format!("no token from {realm}: {error}")))?;
        if matches!(response.status(), StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            return Err(match basic {
                Some(_) => refused("the registry did not accept the credentials of the resource"),
                None => needs_login(),
            });
        }
        let status = response.status();
        let token =
            read(&mut response, MAX_SMALL_BODY).ok().and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok());
        let token = token.as_ref().and_then(|body| body["token"].as_str().or(body["access_token"].as_str()));
        match token.filter(|token| status.is_success() && is_header_text(token)) {
            Some(token) => Ok(format!("Bearer {token}")),
            None => Err(refused(&format!("no token from {realm} (status {status})"))),
        }
    }

    /// A sentence about an answer that is not the wanted one.
    pub(super) fn explain(&self, response: &mut Response<Body>) -> String {
        let status = response.status();
        let body = read(response, MAX_SMALL_BODY).unwrap_or_default();
        let body: Value = serde_json::from_slice(&body).unwrap_or_default();
        let errors = body["errors"].as_array().map(Vec::as_slice).unwrap_or_default().iter().take(3).map(|error| {
            let text = |key: &str| {
                error[key]
                    .as_str()
                    .unwrap_or_default()
                    .chars()
                    .filter(|c| !c.is_control())
                    .take(200)
                    .collect::<String>()
            };
            format!("{} {}", text("code"), text("message")).trim().to_owned()
        });
        let said = errors.filter(|text| !text.is_empty()).collect::<Vec<_>>().join("; ");
        let meaning = match status.as_u16() {
            401 | 403 if self.login.is_some() => "the registry did not accept the credentials of the resource",
            401 | 403 => "the registry wants credentials: set `username` and `password`",
            404 => "there is no such repository, or the credentials of the resource may not see it",
            429 => "the registry allows no more requests for now",
            _ => "the registry refused",
        };
        let detail = if said.is_empty() { String::new() } else { format!(": {said}") };
        format!("{}: {meaning} (status {}){detail}", self.shown, status.as_u16())
    }
}

/// Reads the whole body of an answer, and fails where it is longer than `most`.
pub(super) fn read(response: &mut Response<Body>, most: u64) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let reader = response.body_mut().with_config().limit(u64::MAX).reader();
    reader.take(most + 1).read_to_end(&mut bytes).map_err(|error| format!("the answer breaks off: {error}"))?;
    if bytes.len() as u64 > most {
        return Err(format!("the answer is longer than {most} bytes"));
    }
    Ok(bytes)
}

fn is_broken_connection(error: &ureq::Error) -> bool {
    use std::io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    matches!(error, ureq::Error::Io(error)
        if matches!(error.kind(), BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof))
}

/// `Retry-After`, in seconds or as a date.
fn retry_after(response: &Response<Body>) -> Option<Duration> {
    let text = response.headers().get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let date = jiff::fmt::rfc2822::parse(text).ok()?.timestamp();
    Some(Duration::try_from(date.duration_since(jiff::Timestamp::now())).unwrap_or(Duration::ZERO))
}

/// What a `WWW-Authenticate` header asks for.
struct Challenge {
    scheme: String,
    values: Vec<(String, String)>,
}

impl Challenge {
    /// Reads `Bearer realm="https://auth.example/token",service="registry"`.
    fn parse(text: &str) -> Option<Challenge> {
        let (scheme, mut rest) = text.trim().split_once(' ').unwrap_or((text.trim(), ""));
        let mut values = Vec::new();
        while let Some((name, tail)) = rest.split_once('=') {
            let name = name.trim_matches([' ', ',']).to_ascii_lowercase();
            let value;
            if let Some(quoted) = tail.trim_start().strip_prefix('"') {
                let mut text = String::new();
                let mut chars = quoted.char_indices();
                let mut end = quoted.len();
                while let Some((at, c)) = chars.next() {
                    match c {
                        '"' => {
                            end = at + 1;
                            break;
                        }
                        '\\' => text.extend(chars.next().map(|(_, c)| c)),
                        c => text.push(c),
                    }
                }
                (value, rest) = (text, &quoted[end..]);
            } else {
                let end = tail.find(',').unwrap_or(tail.len());
                (value, rest) = (tail[..end].trim().to_owned(), &tail[end..]);
            }
            values.push((name, value));
        }
        (!scheme.is_empty()).then(|| Challenge { scheme: scheme.to_owned(), values })
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.values.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// Whether text can stand in a header: a token is not to bring headers of its own.
fn is_header_text(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| (0x21..0x7f).contains(&b))
}

/// Text as the value of a query.
pub(super) fn percent_encoded(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.~".contains(&b);
    text.bytes().map(|b| if plain(b) { (b as char).to_string() } else { format!("%{b:02X}") }).collect()
}

/// The authorities that are trusted: the system's, else those that came with this program; and the source's.
fn tls(access: &Access) -> Result<TlsConfig, ResourceError> {
    if access.insecure {
        return Ok(TlsConfig::builder().disable_verification(true).build());
    }
    let mut certificates = Vec::new();
    let system = SYSTEM_CERTIFICATES.iter().map(Path::new).find_map(|path| std::fs::read(path).ok());
    let pem = system.unwrap_or_default();
    // One that cannot be read is the system's problem, and there are others.
    certificates.extend(parse_pem(&pem).flatten().filter_map(|item| match item {
        PemItem::Certificate(certificate) => Some(certificate),
        _ => None,
    }));
    for (number, text) in access.ca_certs.iter().enumerate() {
        let before = certificates.len();
        certificates.extend(parse_pem(text.as_bytes()).flatten().filter_map(|item| match item {
            PemItem::Certificate(certificate) => Some(certificate),
            _ => None,
        }));
        if certificates.len() == before {
            let message = format!("`ca_certs` in source: number {} holds no certificate in PEM", number + 1);
            return Err(ResourceError::Invalid(vec![message]));
        }
    }
    let roots = match certificates.is_empty() {
        true => RootCerts::WebPki,
        false => RootCerts::new_with_certs(&certificates),
    };
    Ok(TlsConfig::builder().root_certs(roots).build())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges() {
        let text = r#"Bearer realm="https://auth.example/token?a=b",service="registry \"x\"", scope="repository:a/b:pull,push",x=y"#;
        let challenge = Challenge::parse(text).expect("a challenge");
        assert_eq!(challenge.scheme, "Bearer");
        assert_eq!(challenge.get("realm"), Some("https://auth.example/token?a=b"));
        assert_eq!(challenge.get("service"), Some("registry \"x\""));
        assert_eq!(challenge.get("scope"), Some("repository:a/b:pull,push"));
        assert_eq!(challenge.get("x"), Some("y"));
        for text in ["", "=", "Bearer", "Bearer realm=\"", "Bearer realm=\"\\", "a=b=c,\"=", "Bearer ,,,=,="] {
            if let Some(challenge) = Challenge::parse(text) {
                assert!(challenge.get("realm").is_none_or(str::is_empty), "{text}");
            }
        }
    }

    #[test]
    fn a_token_brings_no_headers() {
        assert!(is_header_text("abc.DEF-_="));
        for text in ["", "a b", "a\r\nX: y", "é"] {
            assert!(!is_header_text(text), "{text}");
        }
    }
}
