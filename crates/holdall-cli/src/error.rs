//! How a command ends when it does not end well: a kind that fixes the exit code, a message, and a remedy.

use std::fmt;

/// What kind of end it was; each has one exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// What was asked for was tried and did not work.
    Failed,
    /// The command line, or a file that it names, is wrong.
    Invalid,
    /// Something holds it back: the release model, a lock, or a state that has to change first.
    Held,
    /// The server knows nothing of that name, or hides it.
    NotFound,
    /// No token, or one that may not do this.
    Denied,
    /// No server was found or it does not answer.
    Unreachable,
    /// A signal, or a no to a question, ended it.
    Interrupted,
    /// The command prescribes the code: the exit code of a command that was run, or a build's status.
    Exit(u8),
}

impl Kind {
    /// The exit code.
    pub fn exit_code(self) -> u8 {
        match self {
            Kind::Failed => 1,
            Kind::Invalid => 2,
            Kind::Held => 3,
            Kind::NotFound => 4,
            Kind::Denied => 5,
            Kind::Unreachable => 6,
            Kind::Interrupted => 130,
            Kind::Exit(code) => code,
        }
    }
}

/// What `holdall help exit-codes` prints.
pub const EXIT_CODES: &str = "\
Every command ends with one of these codes:

    0  it was done; for `why`: nothing holds it back
    1  it was tried and failed, or the server had an error
    2  the command line, or a file that it names, is wrong
    3  held back: `why` found something, `resolve` an input without a version, a lock is taken, or the act is refused
       until something else changes
    4  there is nothing of that name on the server
    5  no token, or a token that may not do this
    6  no server was found, or it does not answer
  130  interrupted, or a question was answered with no

Two commands have codes of their own:

  `build watch` (and `job trigger --watch`, `build rerun --watch`)
    0  the build succeeded
    1  it failed: a step said no
    2  it errored: a step could not be carried out
    3  it was aborted

  `lock run ENVIRONMENT -- COMMAND` ends with the code of COMMAND; with 128 + N when signal N ended it, 126 or 127
  when it could not be started, 3 when the lock was not to be had, and 75 when the lock was lost while it ran.
";

/// Why a command did not end well.
#[derive(Debug)]
pub struct CliError {
    kind: Kind,
    message: Option<String>,
    hint: Option<String>,
}

impl CliError {
    /// An error of a kind with a message: a fragment without a full stop.
    pub fn new(kind: Kind, message: impl Into<String>) -> CliError {
        CliError { kind, message: Some(message.into()), hint: None }
    }

    /// An end that says nothing more: what there was to say has been printed.
    pub fn silent(kind: Kind) -> CliError {
        CliError { kind, message: None, hint: None }
    }

    /// [`Kind::Failed`].
    pub fn failed(message: impl Into<String>) -> CliError {
        CliError::new(Kind::Failed, message)
    }

    /// [`Kind::Invalid`].
    pub fn invalid(message: impl Into<String>) -> CliError {
        CliError::new(Kind::Invalid, message)
    }

    /// Adds the remedy: what to do, or what to type.
    pub fn hint(mut self, hint: impl Into<String>) -> CliError {
        self.hint = Some(hint.into());
        self
    }

    /// Adds another line to the remedy.
    pub fn more_hint(self, more: &str) -> CliError {
        let hint = match &self.hint {
            Some(hint) if !hint.is_empty() => format!("{hint}\n{more}"),
            _ => more.to_owned(),
        };
        self.hint(hint)
    }

    /// The exit code.
    pub fn exit_code(&self) -> u8 {
        self.kind.exit_code()
    }

    /// What goes to standard error, lines ended; `None` when everything has been said.
    pub fn render(&self) -> Option<String> {
        let message = self.message.as_ref()?;
        let mut text = format!("holdall: {message}\n");
        for line in self.hint.iter().flat_map(|hint| hint.lines()) {
            text.push_str(&format!("  {line}\n"));
        }
        Some(text)
    }
}

impl fmt::Display for CliError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.message.as_deref().unwrap_or("ended"))
    }
}

impl std::error::Error for CliError {}

impl From<std::io::Error> for CliError {
    /// An error of this machine's files or streams. A reader that went away is no error worth a message.
    fn from(error: std::io::Error) -> CliError {
        match error.kind() {
            std::io::ErrorKind::BrokenPipe => CliError::silent(Kind::Failed),
            _ => CliError::failed(error.to_string()),
        }
    }
}
