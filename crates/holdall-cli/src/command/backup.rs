//! `holdall backup` and `holdall restore`.

use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use clap::Args;
use holdall_protocol::api::Time;
use holdall_server::serve::restore::{self, Site, SiteError};
use holdall_store::backup::{self, BackupError, Written};
use serde::Serialize;

use crate::context::Context;
use crate::error::{CliError, Kind};
use crate::names::database_url;
use crate::output::{OutputArgs, plain};

/// Writes a backup of everything that the server keeps into a file
///
/// The server goes on meanwhile: the backup is of one moment. It is text (JSON, one value a line), and both SQLite and
/// PostgreSQL are restored from it. It holds what systems and pipelines hold, credentials among it; only its owner can
/// read it.
#[derive(Debug, Args)]
pub struct BackupArgs {
    /// The file; one that is there is left alone
    file: PathBuf,
    /// Write over a file that is there
    #[arg(long)]
    force: bool,
    /// The data folder of a server on SQLite, instead of asking the server; it may run or not
    #[arg(long, value_name = "DIR", conflicts_with = "database")]
    data_dir: Option<PathBuf>,
    /// The PostgreSQL database of a server, instead of asking the server
    #[arg(long, value_name = "postgres://...")]
    database: Option<String>,
    #[command(flatten)]
    output: OutputArgs,
}

/// Restores a backup into a new data folder or an empty database
///
/// A new epoch begins: what happened after the backup is not known any more. All numbers skip ahead, nothing that was
/// under way goes on by itself, and every environment is held (`restored`) until a person has confirmed what is live
/// there: `holdall env confirm`.
#[derive(Debug, Args)]
pub struct RestoreArgs {
    /// The backup
    file: PathBuf,
    /// The data folder of the server to come, on SQLite; either this or `--database` is needed
    #[arg(long, value_name = "DIR", conflicts_with = "database")]
    data_dir: Option<PathBuf>,
    /// An empty PostgreSQL database
    #[arg(long, value_name = "postgres://...")]
    database: Option<String>,
    /// Only say what it would do
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    output: OutputArgs,
}

/// What a backup is, for `-o json`.
#[derive(Debug, Serialize)]
struct BackupView {
    file: String,
    bytes: u64,
    rows: u64,
    schema: i64,
    epoch: i64,
    taken_at: Time,
}

/// What a restore did, for `-o json`.
#[derive(Debug, Serialize)]
struct RestoreView {
    done: bool,
    site: String,
    backup: BackupView,
    epoch: i64,
    held: Vec<String>,
    in_doubt: Vec<String>,
    ended_builds: usize,
}

impl From<SiteError> for CliError {
    fn from(error: SiteError) -> CliError {
        let kind = match &error {
            SiteError::Folder(holdall_server::serve::ServeError::InUse { .. })
            | SiteError::Backup { source: BackupError::NotEmpty(_), .. } => Kind::Held,
            SiteError::File(BackupError::Read(_)) | SiteError::Folder(_) | SiteError::Backup { .. } => Kind::Failed,
            SiteError::Nothing(_) | SiteError::File(_) => Kind::Invalid,
        };
        CliError::new(kind, error.to_string())
    }
}

/// Writes a backup.
pub fn run(ctx: &Context, args: BackupArgs) -> Result<(), CliError> {
    refuse_overwriting(&args)?;
    let site = site(args.data_dir.as_ref(), args.database.as_deref())?;
    let mut draft = Draft::new(&args.file)?;
    match site {
        Some(site) => {
            restore::back_up(&site, &mut draft).map_err(|error| match error {
                SiteError::Backup { source: BackupError::Write(error), .. } => draft.fails(&error),
                other => other.into(),
            })?;
        }
        None => {
            let mut reader = ctx.client()?.download("backup")?;
            draft.take(&mut reader)?;
        }
    }
    draft.sync()?;
    let written = verified(&draft.path)?;
    let view = view(&args.file, draft.publish(&args)?, &written);
    args.output.print(&view, |style| {
        format!("{}: {} rows, {} bytes, of {}.\n", plain(&view.file), view.rows, view.bytes, style.ago(view.taken_at))
    })
}

fn refuse_overwriting(args: &BackupArgs) -> Result<(), CliError> {
    // A link that leads nowhere is there, too.
    if args.force || args.file.symlink_metadata().is_err() {
        return Ok(());
    }
    Err(is_there(&args.file))
}

fn is_there(file: &Path) -> CliError {
    CliError::new(Kind::Held, format!("{} is there already", file.display()))
        .hint("give another name, or write over it with --force")
}

fn site(data_dir: Option<&PathBuf>, database: Option<&str>) -> Result<Option<Site>, CliError> {
    database.map(database_url).transpose()?;
    let postgres = || database.map(|url| Site::Postgres(url.to_owned()));
    Ok(data_dir.cloned().map(Site::Folder).or_else(postgres))
}

fn verified(path: &Path) -> Result<Written, CliError> {
    let mut input = BufReader::new(open(path)?);
    backup::verify(&mut input)
        .map_err(|error| CliError::failed(format!("{}: {error}", path.display())).hint("take the backup again"))
}

fn open(path: &Path) -> Result<File, CliError> {
    File::open(path).map_err(|error| {
        let kind = if error.kind() == io::ErrorKind::NotFound { Kind::Invalid } else { Kind::Failed };
        CliError::new(kind, format!("{} cannot be read: {error}", path.display()))
    })
}

fn view(file: &Path, bytes: u64, written: &Written) -> BackupView {
    BackupView {
        file: file.display().to_string(),
        bytes,
        rows: written.rows,
        schema: written.header.schema,
        epoch: written.header.epoch,
        taken_at: Time(written.header.taken_at),
    }
}

fn unwritable(path: &Path, error: &io::Error) -> CliError {
    let failed = CliError::failed(format!("{} cannot be written: {error}", path.display()));
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            failed.hint("free some space, or write it where there is more")
        }
        _ => failed,
    }
}

/// A file on its way: it gets its name when it is whole, and goes when it does not become so.
struct Draft {
    path: PathBuf,
    out: BufWriter<File>,
}

impl Draft {
    fn new(target: &Path) -> Result<Draft, CliError> {
        let mut name = target.as_os_str().to_owned();
        name.push(format!(".part-{}", std::process::id()));
        let path = PathBuf::from(name);
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        let file = file.map_err(|error| unwritable(&path, &error))?;
        Ok(Draft { path, out: BufWriter::with_capacity(1 << 18, file) })
    }

    /// Writes what the server sends. Whether it was the server that ended or this disk makes another remedy.
    fn take(&mut self, server: &mut dyn Read) -> Result<(), CliError> {
        let mut piece = vec![0; 1 << 16];
        loop {
            let length = match server.read(&mut piece) {
                Ok(0) => return Ok(()),
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    let cut = CliError::new(Kind::Unreachable, format!("the backup was cut short: {error}"));
                    return Err(cut.hint("try it again"));
                }
            };
            self.out.write_all(&piece[..length]).map_err(|error| self.fails(&error))?;
        }
    }

    fn fails(&self, error: &io::Error) -> CliError {
        unwritable(&self.path, error)
    }

    /// Sees to it that all of it is on the disk.
    fn sync(&mut self) -> Result<(), CliError> {
        let synced = self.out.flush().and_then(|()| self.out.get_ref().sync_all());
        synced.map_err(|error| self.fails(&error))
    }

    /// Gives it its name; gives how many bytes it has. Without `--force` a file that got the name meanwhile is left alone,
    /// where the file system has hard links.
    fn publish(self, args: &BackupArgs) -> Result<u64, CliError> {
        let target = args.file.as_path();
        let fails = |error| unwritable(target, &error);
        let bytes = self.out.get_ref().metadata().map_err(fails)?.len();
        match args.force {
            true => std::fs::rename(&self.path, target).map_err(fails)?,
            // It gets a second name, and loses the first when this is dropped.
            false => match std::fs::hard_link(&self.path, target) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Err(is_there(target)),
                Err(_) => {
                    refuse_overwriting(args)?;
                    std::fs::rename(&self.path, target).map_err(fails)?;
                }
            },
        }
        let folder = target.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(fails)?;
        Ok(bytes)
    }
}

impl Write for Draft {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.out.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // It is gone where it was given another name instead of one more.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Restores a backup.
pub fn run_restore(args: RestoreArgs) -> Result<(), CliError> {
    let Some(site) = site(args.data_dir.as_ref(), args.database.as_deref())? else {
        return Err(CliError::invalid("where is it to be restored?")
            .hint("add --data-dir DIR, or --database postgres://... for PostgreSQL"));
    };
    let file = open(&args.file)?;
    let bytes = file.metadata()?.len();
    let name = args.file.file_name().unwrap_or(args.file.as_os_str()).to_string_lossy();
    let mut input = BufReader::with_capacity(1 << 18, file);
    let restored = restore::restore(&site, &name, &mut input, !args.dry_run).map_err(|error| match error {
        SiteError::File(source @ (BackupError::Damaged { .. } | BackupError::CutShort(_))) => {
            CliError::invalid(format!("{}: {source}", args.file.display())).hint("use another backup")
        }
        SiteError::File(source @ BackupError::Newer { .. }) => {
            CliError::invalid(format!("{}: {source}", args.file.display()))
        }
        error => error.into(),
    })?;
    let begun = restored.after;
    let view = RestoreView {
        done: !args.dry_run,
        site: site.to_string(),
        backup: view(&args.file, bytes, &restored.backup),
        epoch: begun.epoch,
        held: begun.held,
        in_doubt: begun.in_doubt,
        ended_builds: begun.builds,
    };
    args.output.print(&view, |style| restored_text(&view, &style.ago(view.backup.taken_at)))
}

fn restored_text(view: &RestoreView, ago: &str) -> String {
    let mut text = format!("{}: {} rows of {ago}, into {}.\n", plain(&view.backup.file), view.backup.rows, view.site);
    text.push_str(&format!("Epoch {} begins: numbers skip ahead.\n", view.epoch));
    if view.ended_builds > 0 {
        text.push_str(&format!("Ended, since nobody knows how they went on: {} builds.\n", view.ended_builds));
    }
    for name in &view.in_doubt {
        text.push_str(&format!("In doubt: {}.\n", plain(name)));
    }
    if !view.held.is_empty() {
        text.push_str("Held until a person confirms what is live there:\n");
    }
    for name in &view.held {
        let (system, environment) = name.split_once('/').unwrap_or(("", name));
        let (system, environment) = (plain(system), plain(environment));
        text.push_str(&format!("  holdall env confirm {environment} --system {system} --reason \"...\"\n"));
    }
    if !view.done {
        text.push_str("Nothing was changed: this was a dry run.\n");
    }
    text
}
