//! The demo's state server: keeps one Terraform state and one lock an environment, in files, and speaks Terraform's
//! `http` backend. It stands outside Holdall, and therefore counts what Holdall promises: that applies do not overlap.
//!
//! | request | answer |
//! |---|---|
//! | `GET /state/ENV` | 200 with the state, 204 where there is none |
//! | `POST /state/ENV?ID=LOCK` | 200; 423 with the holder when another holds the lock; 409 without a lock held |
//! | `DELETE /state/ENV` | 200 |
//! | `LOCK /state/ENV`, lock info as body | 200; 423 with the holder's lock info |
//! | `UNLOCK /state/ENV`, lock info as body (none: whoever holds it) | 200; 409 with the holder when it is another |
//! | `GET /counters` | [`Counters`] |

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::PathBuf;

use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::folder::{Folder, write_whole};

/// The largest state that is accepted, in bytes.
pub const STATE_LIMIT: usize = 32 * 1024 * 1024;

/// What the state server has seen since the folder was made.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Counters {
    /// By environment.
    pub environments: BTreeMap<String, EnvironmentCounters>,
}

/// What the state server has seen in one environment. An apply lasts from `LOCK` to `UNLOCK`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct EnvironmentCounters {
    /// Locks that were taken.
    pub applies_begun: u64,
    /// Locks that their holder gave back.
    pub applies_ended: u64,
    /// Locks that somebody else took away.
    pub locks_forced: u64,
    /// Attempts to lock what was locked.
    pub locks_refused: u64,
    /// The most applies that wanted to run at the same time, refused ones included: 2 is an overlap.
    pub max_concurrent: u64,
    /// Who holds the lock now, as Terraform's lock info.
    pub lock: Option<Value>,
}

/// The states and locks. Each call is one request.
#[derive(Debug)]
pub struct States {
    folder: PathBuf,
    counters: Counters,
}

/// What a request is answered with.
#[derive(Debug, Clone, PartialEq)]
pub struct Reply {
    /// The status.
    pub status: StatusCode,
    /// The body.
    pub body: Vec<u8>,
}

impl Reply {
    /// An answer without a body.
    fn empty(status: StatusCode) -> Reply {
        Reply { status, body: Vec::new() }
    }

    /// An answer in words.
    pub fn text(status: StatusCode, text: impl Into<String>) -> Reply {
        Reply { status, body: text.into().into_bytes() }
    }

    /// An answer as JSON.
    pub fn json(status: StatusCode, value: &impl Serialize) -> Reply {
        match serde_json::to_vec(value) {
            Ok(body) => Reply { status, body },
            Err(error) => Reply::text(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
        }
    }
}

/// Whether this can be the name of an environment or a service, and so a part of a file's name.
pub fn is_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 100
        && !name.starts_with('.')
        && name.chars().all(|c| c.is_alphanumeric() || matches!(c, '-' | '_' | '.'))
}

impl States {
    /// Opens the states of a demo; what was locked is still locked.
    pub fn open(folder: &Folder) -> io::Result<States> {
        let folder = folder.world().join("terraform");
        fs::create_dir_all(&folder)?;
        let counters = match fs::read(folder.join("counters.json")) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(io::Error::other)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Counters::default(),
            Err(error) => return Err(error),
        };
        Ok(States { folder, counters })
    }

    /// What was seen so far.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Answers a request about an environment's state. `id` is the query's `ID`.
    pub fn answer(&mut self, method: &str, environment: &str, id: Option<&str>, body: &[u8]) -> Reply {
        if !is_name(environment) {
            return Reply::text(StatusCode::BAD_REQUEST, "not the name of an environment\n");
        }
        let answered = match method {
            "GET" => self.read(environment),
            "POST" | "PUT" => self.write(environment, id, body),
            "DELETE" => self.delete(environment),
            "LOCK" => self.lock(environment, body),
            "UNLOCK" => self.unlock(environment, body),
            _ => Ok(Reply::text(StatusCode::METHOD_NOT_ALLOWED, "GET, POST, DELETE, LOCK or UNLOCK\n")),
        };
        answered.unwrap_or_else(|error| Reply::text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")))
    }

    fn state_file(&self, environment: &str) -> PathBuf {
        self.folder.join(format!("{environment}.tfstate"))
    }

    fn holder(&self, environment: &str) -> Option<&Value> {
        self.counters.environments.get(environment)?.lock.as_ref()
    }

    fn read(&self, environment: &str) -> io::Result<Reply> {
        match fs::read(self.state_file(environment)) {
            Ok(body) => Ok(Reply { status: StatusCode::OK, body }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Reply::empty(StatusCode::NO_CONTENT)),
            Err(error) => Err(error),
        }
    }

    fn write(&self, environment: &str, id: Option<&str>, body: &[u8]) -> io::Result<Reply> {
        match self.holder(environment) {
            Some(holder) if lock_id(holder) == id => {}
            Some(holder) => return Ok(Reply::json(StatusCode::LOCKED, holder)),
            None => {
                return Ok(Reply::text(StatusCode::CONFLICT, "the state is not locked: lock it before you write it\n"));
            }
        }
        if let Err(error) = serde_json::from_slice::<serde_json::Map<String, Value>>(body) {
            return Ok(Reply::text(StatusCode::BAD_REQUEST, format!("not a state: {error}\n")));
        }
        write_whole(&self.state_file(environment), body)?;
        Ok(Reply::empty(StatusCode::OK))
    }

    fn delete(&self, environment: &str) -> io::Result<Reply> {
        match fs::remove_file(self.state_file(environment)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(Reply::empty(StatusCode::OK)),
        }
    }

    fn lock(&mut self, environment: &str, body: &[u8]) -> io::Result<Reply> {
        let info = match serde_json::from_slice::<Value>(body) {
            Ok(info) if lock_id(&info).is_some_and(|id| !id.is_empty()) => info,
            _ => return Ok(Reply::text(StatusCode::BAD_REQUEST, "not a lock info: it has no ID\n")),
        };
        let counters = self.counters.environments.entry(environment.to_owned()).or_default();
        if let Some(holder) = counters.lock.clone() {
            // A request that was sent twice because its answer was lost is no second apply.
            if lock_id(&holder) == lock_id(&info) {
                return Ok(Reply::empty(StatusCode::OK));
            }
            counters.locks_refused += 1;
            counters.max_concurrent = counters.max_concurrent.max(2);
            self.save()?;
            return Ok(Reply::json(StatusCode::LOCKED, &holder));
        }
        counters.lock = Some(info);
        counters.applies_begun += 1;
        counters.max_concurrent = counters.max_concurrent.max(1);
        self.save()?;
        Ok(Reply::empty(StatusCode::OK))
    }

    fn unlock(&mut self, environment: &str, body: &[u8]) -> io::Result<Reply> {
        let asked = match body {
            [] => None,
            body => match serde_json::from_slice::<Value>(body) {
                Ok(info) => lock_id(&info).map(str::to_owned),
                Err(error) => return Ok(Reply::text(StatusCode::BAD_REQUEST, format!("not a lock info: {error}\n"))),
            },
        };
        let counters = self.counters.environments.entry(environment.to_owned()).or_default();
        let Some(holder) = &counters.lock else { return Ok(Reply::empty(StatusCode::OK)) };
        match asked.as_deref() {
            // Without a word about who: `terraform force-unlock` of older versions.
            None | Some("") => counters.locks_forced += 1,
            Some(id) if Some(id) == lock_id(holder) => counters.applies_ended += 1,
            Some(_) => return Ok(Reply::json(StatusCode::CONFLICT, holder)),
        }
        counters.lock = None;
        self.save()?;
        Ok(Reply::empty(StatusCode::OK))
    }

    fn save(&self) -> io::Result<()> {
        let text = serde_json::to_vec_pretty(&self.counters)?;
        write_whole(&self.folder.join("counters.json"), &text)
    }
}

/// The `ID` of a lock info.
fn lock_id(info: &Value) -> Option<&str> {
    info.get("ID")?.as_str()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opened() -> (tempfile::TempDir, States) {
        let dir = tempfile::tempdir().unwrap();
        let states = States::open(&Folder::at(dir.path())).unwrap();
        (dir, states)
    }

    fn status(states: &mut States, method: &str, id: Option<&str>, body: &str) -> u16 {
        states.answer(method, "staging", id, body.as_bytes()).status.as_u16()
    }

    const ANN: &str = r#"{"ID":"ann","Operation":"OperationTypeApply","Who":"ann@host"}"#;
    const BEN: &str = r#"{"ID":"ben","Operation":"OperationTypeApply","Who":"ben@host"}"#;

    #[test]
    fn one_apply_after_the_other() {
        let (dir, mut states) = opened();
        assert_eq!(status(&mut states, "GET", None, ""), 204);
        assert_eq!(status(&mut states, "LOCK", None, ANN), 200);
        assert_eq!(status(&mut states, "POST", Some("ann"), r#"{"version":4}"#), 200);
        assert_eq!(status(&mut states, "UNLOCK", None, ANN), 200);
        assert_eq!(status(&mut states, "LOCK", None, BEN), 200);
        assert_eq!(states.answer("GET", "staging", None, b"").body, br#"{"version":4}"#);
        assert_eq!(status(&mut states, "UNLOCK", None, BEN), 200);
        let seen = states.counters().environments["staging"].clone();
        assert_eq!((seen.applies_begun, seen.applies_ended, seen.max_concurrent), (2, 2, 1));
        assert_eq!((seen.locks_refused, seen.lock), (0, None));
        assert_eq!(status(&mut states, "DELETE", None, ""), 200);
        assert_eq!(status(&mut states, "DELETE", None, ""), 200);
        assert_eq!(status(&mut states, "GET", None, ""), 204);
        drop(dir);
    }

    #[test]
    fn an_overlap_is_refused_and_counted_and_a_lock_outlives_the_server() {
        let (dir, mut states) = opened();
        assert_eq!(status(&mut states, "LOCK", None, ANN), 200);
        assert_eq!(status(&mut states, "LOCK", None, ANN), 200, "a repeated request");
        let mut states = States::open(&Folder::at(dir.path())).unwrap();
        let reply = states.answer("LOCK", "staging", None, BEN.as_bytes());
        assert_eq!(reply.status, StatusCode::LOCKED);
        assert_eq!(serde_json::from_slice::<Value>(&reply.body).unwrap()["Who"], "ann@host");
        assert_eq!(status(&mut states, "POST", Some("ben"), "{}"), 423);
        assert_eq!(status(&mut states, "POST", None, "{}"), 423);
        assert_eq!(status(&mut states, "UNLOCK", None, BEN), 409);
        assert_eq!(states.answer("LOCK", "preview", None, BEN.as_bytes()).status, StatusCode::OK);
        let seen = &states.counters().environments["staging"];
        assert_eq!((seen.applies_begun, seen.applies_ended), (1, 0));
        assert_eq!((seen.locks_refused, seen.max_concurrent), (1, 2));
        assert_eq!(status(&mut states, "UNLOCK", None, ""), 200);
        let seen = &states.counters().environments["staging"];
        assert_eq!((seen.locks_forced, seen.applies_ended, &seen.lock), (1, 0, &None));
    }

    #[test]
    fn bad_requests_change_nothing() {
        let (_dir, mut states) = opened();
        assert_eq!(status(&mut states, "POST", None, "{}"), 409, "not locked");
        for body in ["", "[]", "{", r#"{"ID":""}"#, r#"{"ID":7}"#, "\u{0}"] {
            assert_eq!(status(&mut states, "LOCK", None, body), 400, "{body:?}");
        }
        assert_eq!(status(&mut states, "LOCK", None, ANN), 200);
        for body in ["", "[]", "not json", "{}{}"] {
            assert_eq!(status(&mut states, "POST", Some("ann"), body), 400, "{body:?}");
        }
        assert_eq!(status(&mut states, "UNLOCK", None, "not json"), 400);
        assert_eq!(status(&mut states, "PATCH", None, ""), 405);
        for name in ["", "..", ".hidden", "a/b", "a b", &"x".repeat(101)] {
            assert_eq!(states.answer("GET", name, None, b"").status, StatusCode::BAD_REQUEST, "{name}");
        }
        assert_eq!(states.counters().environments["staging"].applies_begun, 1);
    }
}
