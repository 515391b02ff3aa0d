//! Whether the sender knows the secret. How long an answer takes says nothing about the secret.

use axum::http::HeaderMap;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::WebhookError;

const SIGNATURE: &str = "X-Hub-Signature-256";
const TOKEN: &str = "X-Gitlab-Token";
const AUTHORIZATION: &str = "Authorization";

/// `X-Hub-Signature-256: sha256=HEX`, the HMAC of the body as it was sent.
pub(super) fn signature(headers: &HeaderMap, body: &[u8], secret: &str) -> Result<(), WebhookError> {
    let given = text(headers, SIGNATURE)?;
    let given = given.strip_prefix("sha256=").and_then(from_hex).ok_or(WebhookError::WrongProof(SIGNATURE))?;
    mac(secret, body).verify_slice(&given).map_err(|_| WebhookError::WrongProof(SIGNATURE))
}

/// `X-Gitlab-Token: SECRET`.
pub(super) fn token(headers: &HeaderMap, secret: &str) -> Result<(), WebhookError> {
    let given = text(headers, TOKEN)?;
    if is_same(given.as_bytes(), secret) { Ok(()) } else { Err(WebhookError::WrongProof(TOKEN)) }
}

/// `Authorization: SECRET`, `Bearer SECRET`, or `Basic` with the secret as password: registries send what they are
/// told to, EventBridge a user and password.
pub(super) fn authorization(headers: &HeaderMap, secret: &str) -> Result<(), WebhookError> {
    let given = text(headers, AUTHORIZATION)?;
    let (scheme, rest) = given.split_once(' ').unwrap_or(("", given));
    let password = match scheme.to_ascii_lowercase().as_str() {
        "bearer" => rest.trim().as_bytes().to_vec(),
        "basic" => {
            let decoded = BASE64_STANDARD.decode(rest.trim()).unwrap_or_default();
            let colon = decoded.iter().position(|byte| *byte == b':');
            colon.map(|at| decoded[at + 1..].to_vec()).unwrap_or_default()
        }
        _ => Vec::new(),
    };
    // Both are always compared: which one fits takes the same time.
    let fits = is_same(given.as_bytes(), secret) | is_same(&password, secret);
    if fits { Ok(()) } else { Err(WebhookError::WrongProof(AUTHORIZATION)) }
}

fn text<'a>(headers: &'a HeaderMap, name: &'static str) -> Result<&'a str, WebhookError> {
    let value = headers.get(name).ok_or(WebhookError::MissingProof(name))?;
    value.to_str().map_err(|_| WebhookError::WrongProof(name))
}

fn mac(secret: &str, message: &[u8]) -> Hmac<Sha256> {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("a key of any length is a key");
    mac.update(message);
    mac
}

/// Compares by hashes under the secret, so that neither its text nor its length shows.
fn is_same(given: &[u8], secret: &str) -> bool {
    let expected = mac(secret, secret.as_bytes()).finalize().into_bytes();
    mac(secret, given).verify_slice(&expected).is_ok()
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    (0..64).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok()).collect()
}
