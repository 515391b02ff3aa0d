//! `holdall demo-service`: one deployed service of the demo, a small HTTP server that does what its role says and
//! breaks where its `service.conf` says.
//!
//! It runs in the folder with its files, prints `listening PORT`, and ends when its standard input does.

use std::fs;
use std::io::Write;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::state::Reply;

/// Arguments of `demo-service`.
#[derive(Debug, clap::Args)]
pub struct ServiceArgs {
    /// Where it runs.
    #[arg(long)]
    environment: String,
    /// What it is.
    #[arg(long)]
    service: String,
    /// Its version.
    #[arg(long)]
    commit: String,
    /// Where it is to listen; another port is taken when this one is not free.
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// The environment's database.
    #[arg(long)]
    database: PathBuf,
}

/// `service.conf`: lines `key=value`; empty lines and lines that begin with `#` mean nothing.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Conf {
    /// Which of the roles of notify it plays; anything else only says who it is.
    pub role: String,
    /// What `/` says.
    pub message: String,
    /// The environment in which everything but `/health` and `/version` fails.
    pub broken_in: String,
    /// The environment in which the first request that does something fails.
    pub flaky_in: String,
    /// The environment in which it ends before it listens.
    pub crash_in: String,
}

impl Conf {
    /// Reads the text of a `service.conf`. The error names the line and what would be right.
    pub fn parse(text: &str) -> Result<Conf, String> {
        let mut conf = Conf::default();
        for (at, line) in text.lines().enumerate().map(|(at, line)| (at + 1, line.trim())) {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let Some((key, value)) = line.split_once('=') else {
                return Err(format!("service.conf line {at}: this is not key=value"));
            };
            let value = value.trim().to_owned();
            match key.trim() {
                "role" => conf.role = value,
                "message" => conf.message = value,
                "broken_in" => conf.broken_in = value,
                "flaky_in" => conf.flaky_in = value,
                "crash_in" => conf.crash_in = value,
                other => {
                    return Err(format!(
                        "service.conf line {at}: {other:?} is not known; there are role, message, broken_in, flaky_in \
                         and crash_in"
                    ));
                }
            }
        }
        Ok(conf)
    }
}

/// A running service.
struct Service {
    args: ServiceArgs,
    conf: Conf,
    release: PathBuf,
    has_failed_once: AtomicBool,
}

/// Serves until standard input ends.
pub fn run(args: ServiceArgs) -> anyhow::Result<()> {
    let release = std::env::current_dir()?;
    let text = fs::read_to_string("service.conf").context("cannot read service.conf")?;
    let conf = Conf::parse(&text).map_err(anyhow::Error::msg)?;
    if !conf.crash_in.is_empty() && conf.crash_in == args.environment {
        anyhow::bail!("{} ends at once in {}: crash_in of service.conf says so", args.service, args.environment);
    }
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, args.port))
        .or_else(|_taken| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))
        .context("cannot listen on 127.0.0.1")?;
    listener.set_nonblocking(true)?;
    let port = listener.local_addr()?.port();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (ended, end) = tokio::sync::oneshot::channel::<()>();
    std::thread::spawn(move || {
        // Nothing is ever sent: the supervisor is there as long as this is open.
        let _end = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        drop(ended);
    });
    let service = Arc::new(Service { args, conf, release, has_failed_once: AtomicBool::new(false) });
    let router = Router::new().fallback(answer).with_state(service);
    runtime.block_on(async move {
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let serving = axum::serve(listener, router).into_future();
        writeln!(std::io::stdout(), "listening {port}")?;
        std::io::stdout().flush()?;
        tokio::select! {
            served = serving => served?,
            _ended = end => {}
        }
        anyhow::Ok(())
    })
}

async fn answer(State(service): State<Arc<Service>>, method: Method, uri: Uri, body: Bytes) -> Response {
    let answered = tokio::task::spawn_blocking(move || service.answer(method.as_str(), uri.path(), &body)).await;
    match answered {
        Ok(reply) => (reply.status, reply.body).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

impl Service {
    fn is_in(&self, environment: &str) -> bool {
        environment == self.args.environment
    }

    fn about(&self) -> Value {
        json!({
            "service": self.args.service,
            "environment": self.args.environment,
            "commit": self.args.commit,
            "message": self.conf.message,
            "status": "ok",
        })
    }

    fn answer(&self, method: &str, path: &str, body: &[u8]) -> Reply {
        if method == "GET" && matches!(path, "/health" | "/version") {
            return Reply::json(StatusCode::OK, &self.about());
        }
        if self.is_in(&self.conf.broken_in) {
            return problem(StatusCode::INTERNAL_SERVER_ERROR, "broken: broken_in of service.conf says so");
        }
        if self.is_in(&self.conf.flaky_in) && !self.has_failed_once.swap(true, Ordering::Relaxed) {
            return problem(StatusCode::SERVICE_UNAVAILABLE, "failed this once: flaky_in of service.conf says so");
        }
        let role = self.conf.role.as_str();
        match (role, method, path.split('/').skip(1).collect::<Vec<_>>().as_slice()) {
            (_, "GET", [""]) => Reply::json(StatusCode::OK, &self.about()),
            ("api", "POST", ["notifications"]) => self.accept(body),
            ("api", "GET", ["notifications", id]) => self.notification(id),
            ("admin", "GET", ["notifications"]) => self.count(),
            ("template-preview", "POST", ["render"]) => self.render(body),
            ("antivirus", "POST", ["scan"]) => scan(body),
            ("document-download", "GET", ["documents", name]) => self.file("documents", name),
            _ => problem(StatusCode::NOT_FOUND, "there is nothing here"),
        }
    }

    /// The environment's database. It is made by `db-setup`, never here.
    fn database(&self) -> rusqlite::Result<rusqlite::Connection> {
        let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_WRITE;
        let connection = rusqlite::Connection::open_with_flags(&self.args.database, flags)?;
        connection.busy_timeout(Duration::from_secs(5))?;
        Ok(connection)
    }

    fn accept(&self, body: &[u8]) -> Reply {
        let Ok(wanted) = serde_json::from_slice::<Value>(body) else {
            return problem(StatusCode::BAD_REQUEST, "the body is not JSON");
        };
        let (Some(to), Some(text)) = (wanted["to"].as_str(), wanted["text"].as_str()) else {
            return problem(StatusCode::BAD_REQUEST, "\"to\" and \"text\" are wanted, both as text");
        };
        let inserted = self.database().and_then(|database| {
            database.execute("INSERT INTO notification (recipient, text) VALUES (?1, ?2)", (to, text))?;
            Ok(database.last_insert_rowid())
        });
        match inserted {
            Ok(id) => Reply::json(StatusCode::CREATED, &json!({ "id": id })),
            Err(error) => unavailable(&error),
        }
    }

    fn notification(&self, id: &str) -> Reply {
        let Ok(id) = id.parse::<i64>() else { return problem(StatusCode::NOT_FOUND, "there is no such notification") };
        let found = self.database().and_then(|database| {
            database.query_row("SELECT recipient, text, state FROM notification WHERE id = ?1", [id], |row| {
                let (to, text, state): (String, String, String) = row.try_into()?;
                Ok(json!({ "id": id, "to": to, "text": text, "state": state }))
            })
        });
        match found {
            Ok(found) => Reply::json(StatusCode::OK, &found),
            Err(rusqlite::Error::QueryReturnedNoRows) => {
                problem(StatusCode::NOT_FOUND, "there is no such notification")
            }
            Err(error) => unavailable(&error),
        }
    }

    fn count(&self) -> Reply {
        let counted = self.database().and_then(|database| {
            database.query_row("SELECT count(*) FROM notification", [], |row| row.get::<_, i64>(0))
        });
        match counted {
            Ok(count) => Reply::json(StatusCode::OK, &json!({ "count": count })),
            Err(error) => unavailable(&error),
        }
    }

    fn render(&self, body: &[u8]) -> Reply {
        let Ok(wanted) = serde_json::from_slice::<Value>(body) else {
            return problem(StatusCode::BAD_REQUEST, "the body is not JSON");
        };
        let (Some(template), Some(name)) = (wanted["template"].as_str(), wanted["name"].as_str()) else {
            return problem(StatusCode::BAD_REQUEST, "\"template\" and \"name\" are wanted, both as text");
        };
        let Some(text) = read_named(&self.release.join("templates"), &format!("{template}.txt")) else {
            return problem(StatusCode::NOT_FOUND, "there is no such template");
        };
        Reply::json(StatusCode::OK, &json!({ "text": text.trim_end().replace("((name))", name) }))
    }

    fn file(&self, folder: &str, name: &str) -> Reply {
        match read_named(&self.release.join(folder), name) {
            Some(text) => Reply::text(StatusCode::OK, text),
            None => problem(StatusCode::NOT_FOUND, "there is no such document"),
        }
    }
}

/// A file of that name in the folder, and nowhere else.
fn read_named(folder: &Path, name: &str) -> Option<String> {
    super::state::is_name(name).then(|| fs::read_to_string(folder.join(name)).ok()).flatten()
}

fn scan(body: &[u8]) -> Reply {
    let signature = b"EICAR-STANDARD-ANTIVIRUS-TEST-FILE";
    let is_infected = body.windows(signature.len()).any(|window| window == signature);
    Reply::json(StatusCode::OK, &json!({ "result": if is_infected { "infected" } else { "clean" } }))
}

fn problem(status: StatusCode, text: &str) -> Reply {
    Reply::json(status, &json!({ "problem": text }))
}

fn unavailable(error: &rusqlite::Error) -> Reply {
    problem(StatusCode::SERVICE_UNAVAILABLE, &format!("the database says: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(role: &str, conf: Conf, folder: &Path) -> Service {
        let args = ServiceArgs {
            environment: "staging".to_owned(),
            service: role.to_owned(),
            commit: "c".repeat(40),
            port: 0,
            database: folder.join("staging.sqlite"),
        };
        let conf = Conf { role: role.to_owned(), ..conf };
        Service { args, conf, release: folder.to_owned(), has_failed_once: AtomicBool::new(false) }
    }

    fn body(reply: &Reply) -> Value {
        serde_json::from_slice(&reply.body).unwrap()
    }

    #[test]
    fn reads_its_conf_and_names_the_line_of_a_mistake() {
        let conf = Conf::parse(include_str!("files/service.conf")).unwrap();
        assert_eq!(conf.role, "@NAME@");
        assert_eq!(conf.broken_in, "");
        let conf = Conf::parse("role = api\r\n\n# no\nmessage=a=b\nbroken_in=production").unwrap();
        assert_eq!((conf.role.as_str(), conf.message.as_str(), conf.broken_in.as_str()), ("api", "a=b", "production"));
        assert!(Conf::parse("role=api\nbrokn_in=staging").unwrap_err().contains("line 2: \"brokn_in\""));
        assert!(Conf::parse("role").unwrap_err().contains("line 1"));
        assert_eq!(Conf::parse(""), Ok(Conf::default()));
    }

    #[test]
    fn breaks_where_it_is_told_to() {
        let dir = tempfile::tempdir().unwrap();
        let here = "staging".to_owned();
        let broken = service("antivirus", Conf { broken_in: here.clone(), ..Conf::default() }, dir.path());
        assert_eq!(broken.answer("GET", "/health", b"").status, StatusCode::OK);
        assert_eq!(broken.answer("POST", "/scan", b"x").status, StatusCode::INTERNAL_SERVER_ERROR);
        let flaky = service("antivirus", Conf { flaky_in: here, ..Conf::default() }, dir.path());
        assert_eq!(flaky.answer("POST", "/scan", b"x").status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(flaky.answer("POST", "/scan", b"x").status, StatusCode::OK);
        let elsewhere = Conf { broken_in: "production".to_owned(), flaky_in: String::new(), ..Conf::default() };
        assert_eq!(service("antivirus", elsewhere, dir.path()).answer("GET", "/", b"").status, StatusCode::OK);
    }

    #[test]
    fn plays_its_role() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("templates")).unwrap();
        fs::write(dir.path().join("templates/hi.txt"), "Hi ((name))\n").unwrap();
        fs::write(dir.path().join("secret.txt"), "secret").unwrap();
        let preview = service("template-preview", Conf::default(), dir.path());
        let reply = preview.answer("POST", "/render", br#"{"template":"hi","name":"Ada"}"#);
        assert_eq!(body(&reply)["text"], "Hi Ada");
        for (wanted, status) in [
            (r#"{"template":"../secret","name":"x"}"#, 404),
            (r#"{"template":"none","name":"x"}"#, 404),
            (r#"{"template":7}"#, 400),
            ("no", 400),
        ] {
            assert_eq!(preview.answer("POST", "/render", wanted.as_bytes()).status.as_u16(), status, "{wanted}");
        }
        let antivirus = service("antivirus", Conf::default(), dir.path());
        assert_eq!(body(&antivirus.answer("POST", "/scan", b"fine"))["result"], "clean");
        assert_eq!(
            body(&antivirus.answer("POST", "/scan", b"xEICAR-STANDARD-ANTIVIRUS-TEST-FILEx"))["result"],
            "infected"
        );
        assert_eq!(antivirus.answer("GET", "/notifications", b"").status, StatusCode::NOT_FOUND);
    }

    #[test]
    fn uses_the_database_that_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let api = service("api", Conf::default(), dir.path());
        let wanted = br#"{"to":"ada","text":"hello"}"#;
        let reply = api.answer("POST", "/notifications", wanted);
        assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE, "before db-setup");
        assert!(!dir.path().join("staging.sqlite").exists());
        let database = rusqlite::Connection::open(dir.path().join("staging.sqlite")).unwrap();
        database.execute_batch(include_str!("files/api/migrations/001_notifications.sql")).unwrap();
        database.execute_batch(include_str!("files/api/migrations/002_state.sql")).unwrap();
        let id = body(&api.answer("POST", "/notifications", wanted))["id"].as_i64().unwrap();
        let found = body(&api.answer("GET", &format!("/notifications/{id}"), b""));
        assert_eq!((&found["to"], &found["state"]), (&json!("ada"), &json!("accepted")));
        for path in ["/notifications/77", "/notifications/x", "/notifications/9999999999999999999999"] {
            assert_eq!(api.answer("GET", path, b"").status, StatusCode::NOT_FOUND);
        }
        let admin = service("admin", Conf::default(), dir.path());
        assert_eq!(body(&admin.answer("GET", "/notifications", b""))["count"], 1);
    }
}
