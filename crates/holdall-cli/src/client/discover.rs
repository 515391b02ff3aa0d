//! Finds the server: an option, the environment, or the nearest [`CLIENT_FILE`] upwards from the current folder.
//!
//! The file is JSON: `{"server": "http://127.0.0.1:8080", "token_file": "../data/token"}`; `token_file` is relative
//! to the folder that the file is in. `serve` and `demo` write it with [`write_client_file`].

use std::io::Write;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::client::Client;
use crate::error::{CliError, Kind};

/// Where a folder says which server the commands below it talk to.
pub const CLIENT_FILE: &str = ".holdall/client.json";

/// The largest client or token file that is read.
const FILE_LIMIT: u64 = 64 << 10;

/// What is in a [`CLIENT_FILE`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientFile {
    /// The server's address.
    pub server: String,
    /// The file with the token, relative to the folder of the client file.
    #[serde(default)]
    pub token_file: Option<PathBuf>,
}

/// What the process was told about the server.
#[derive(Debug, Clone, Default)]
pub struct Told {
    /// `--server` or `HOLDALL_SERVER`.
    pub server: Option<String>,
    /// `HOLDALL_TOKEN`.
    pub token: Option<String>,
    /// Where the search begins.
    pub folder: PathBuf,
}

/// Finds the server and the token.
///
/// A token from a file goes to that file's server only, never to one that was named by an option.
pub fn discover(told: &Told) -> Result<Client, CliError> {
    let found = match (&told.server, &told.token) {
        (Some(_), Some(_)) => None,
        _ => nearest(&told.folder)?,
    };
    let server = match (&told.server, &found) {
        (Some(server), _) => server.trim_end_matches('/').to_owned(),
        (None, Some((_, file))) => file.server.trim_end_matches('/').to_owned(),
        (None, None) => {
            return Err(CliError::new(Kind::Unreachable, "no server is known here").hint(format!(
                "say where it is: --server URL, or HOLDALL_SERVER; or work below a folder that has {CLIENT_FILE}\n\
                 to start one: holdall demo, or holdall serve --data-dir DIR"
            )));
        }
    };
    let token = match (&told.token, &found) {
        (Some(token), _) => Some(token.trim().to_owned()),
        (None, Some((path, file))) if file.server.trim_end_matches('/') == server => match &file.token_file {
            Some(token_file) => Some(read_token(&path.parent().unwrap_or(Path::new("")).join(token_file))?),
            None => None,
        },
        _ => None,
    };
    Client::new(&server, token)
}

/// The nearest client file, and where it is.
fn nearest(folder: &Path) -> Result<Option<(PathBuf, ClientFile)>, CliError> {
    for folder in folder.ancestors() {
        let path = folder.join(CLIENT_FILE);
        let Ok(meta) = std::fs::metadata(&path) else { continue };
        let me = nix::unistd::geteuid().as_raw();
        if meta.uid() != me && meta.uid() != 0 {
            return Err(CliError::new(
                Kind::Denied,
                format!("{} belongs to another user and is not used", path.display()),
            )
            .hint("say where the server is with --server URL and HOLDALL_TOKEN"));
        }
        let text = read_small(&path)?;
        let file = serde_json::from_str(&text).map_err(|error| {
            CliError::invalid(format!("{} cannot be read: {error}", path.display()))
                .hint(r#"it has to be like {"server": "http://127.0.0.1:8080", "token_file": "token"}"#)
        })?;
        return Ok(Some((path, file)));
    }
    Ok(None)
}

/// Reads a token that only its owner can read.
fn read_token(path: &Path) -> Result<String, CliError> {
    let meta = std::fs::metadata(path).map_err(|error| {
        CliError::new(Kind::Denied, format!("the token file {} cannot be read: {error}", path.display()))
            .hint("give a token with HOLDALL_TOKEN, or start the server again: it writes the file")
    })?;
    if meta.permissions().mode() & 0o077 != 0 {
        return Err(CliError::new(Kind::Denied, format!("the token file {} can be read by others", path.display()))
            .hint(format!("chmod 600 {}", path.display())));
    }
    Ok(read_small(path)?.trim().to_owned())
}

fn read_small(path: &Path) -> Result<String, CliError> {
    let wrong = |why: String| CliError::invalid(format!("{} cannot be read: {why}", path.display()));
    let meta = std::fs::metadata(path).map_err(|error| wrong(error.to_string()))?;
    if !meta.is_file() || meta.len() > FILE_LIMIT {
        return Err(wrong("it is no small file".to_owned()));
    }
    std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))
}

/// Tells the commands in a folder and below it which server to talk to.
///
/// Both paths may be relative to the current folder. The file is replaced in one step.
pub fn write_client_file(folder: &Path, server: &str, token_file: &Path) -> std::io::Result<()> {
    let path = folder.join(CLIENT_FILE);
    let home = folder.join(".holdall");
    std::fs::create_dir_all(&home)?;
    let token_file = std::path::absolute(token_file)?;
    let token_file = match token_file.strip_prefix(std::path::absolute(folder)?) {
        // The folder can be moved.
        Ok(inside) => Path::new("..").join(inside),
        Err(_) => token_file,
    };
    let file = ClientFile { server: server.to_owned(), token_file: Some(token_file) };
    let scratch = home.join(format!("client.json.{}", std::process::id()));
    let mut out = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&scratch)?;
    serde_json::to_writer_pretty(&mut out, &file)?;
    out.write_all(b"\n")?;
    std::fs::rename(&scratch, &path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(folder: &Path) -> Told {
        Told { folder: folder.to_owned(), ..Told::default() }
    }

    fn token_file(path: &Path, mode: u32) {
        std::fs::write(path, "secret\n").unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn the_nearest_file_upwards_counts() {
        let home = tempfile::tempdir().unwrap();
        let below = home.path().join("services/api");
        std::fs::create_dir_all(&below).unwrap();
        token_file(&home.path().join("token"), 0o600);
        write_client_file(home.path(), "http://127.0.0.1:1234", &home.path().join("token")).unwrap();
        let client = discover(&told(&below)).unwrap();
        assert_eq!(client.server(), "http://127.0.0.1:1234");
        assert_eq!(client.token.as_deref(), Some("secret"));

        let text = std::fs::read_to_string(home.path().join(CLIENT_FILE)).unwrap();
        let file: ClientFile = serde_json::from_str(&text).unwrap();
        assert_eq!(file.token_file.as_deref(), Some(Path::new("../token")), "the folder can be moved");
    }

    #[test]
    fn a_token_goes_to_its_own_server_only() {
        let home = tempfile::tempdir().unwrap();
        token_file(&home.path().join("token"), 0o600);
        write_client_file(home.path(), "http://127.0.0.1:1234", &home.path().join("token")).unwrap();
        let mut told = told(home.path());
        told.server = Some("http://127.0.0.1:9".into());
        assert_eq!(discover(&told).unwrap().token, None);
        told.server = Some("http://127.0.0.1:1234/".into());
        assert_eq!(discover(&told).unwrap().token.as_deref(), Some("secret"));
        told.token = Some("mine".into());
        assert_eq!(discover(&told).unwrap().token.as_deref(), Some("mine"));
    }

    #[test]
    fn a_token_that_others_can_read_is_not_used() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("token");
        token_file(&path, 0o640);
        write_client_file(home.path(), "http://127.0.0.1:1234", &path).unwrap();
        let error = discover(&told(home.path())).unwrap_err();
        assert_eq!(error.exit_code(), 5);
        let text = error.render().unwrap();
        assert!(text.contains("can be read by others") && text.contains("chmod 600"), "{text}");
    }

    #[test]
    fn broken_files_are_named() {
        let home = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(home.path().join(".holdall")).unwrap();
        let path = home.path().join(CLIENT_FILE);
        for text in ["", "[]", "{\"server\": 3}", "\u{0}"] {
            std::fs::write(&path, text).unwrap();
            let error = discover(&told(home.path())).unwrap_err();
            assert_eq!(error.exit_code(), 2);
            assert!(error.to_string().contains(CLIENT_FILE), "{error}");
        }
        std::fs::write(&path, " ".repeat(1 << 20)).unwrap();
        assert!(discover(&told(home.path())).unwrap_err().to_string().contains("small"));
        std::fs::write(&path, r#"{"server": "http://127.0.0.1:1", "token_file": "gone"}"#).unwrap();
        assert!(discover(&told(home.path())).unwrap_err().to_string().contains("gone"));
    }

    #[test]
    fn without_any_it_says_what_to_do() {
        let error = discover(&told(Path::new("/"))).unwrap_err();
        assert_eq!(error.exit_code(), 6);
        assert!(error.render().unwrap().contains("--server URL"));
    }
}
