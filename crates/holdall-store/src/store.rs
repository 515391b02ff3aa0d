//! The store: one writer thread that commits in groups, and readers side by side.

use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, mpsc};

use tokio::sync::oneshot;

use crate::connection::{Connection, Tx};
use crate::error::StoreError;
use crate::schema;
use crate::signals::Signals;
use crate::testing::{Fault, Faults};

/// How many pieces of work one commit takes at most: a commit is one wait for the disk, shared by all of them.
const GROUP: usize = 64;

/// How many idle connections are kept for readers.
const IDLE_READERS: usize = 4;

/// A handle on the store; cheap to clone.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    place: Database,
    writer: mpsc::Sender<Work>,
    readers: Mutex<Vec<Connection>>,
    signals: Arc<Signals>,
    faults: Arc<Faults>,
    refusal: Arc<Refusal>,
}

/// Why the last work was refused that was not answered.
#[derive(Default)]
struct Refusal(Mutex<Option<StoreError>>);

impl Refusal {
    fn set(&self, error: StoreError) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
    }

    fn get(&self) -> StoreError {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        known.unwrap_or_else(|| StoreError::Unavailable("the store is closed".to_owned()))
    }
}

/// Where a database is.
#[derive(Debug, Clone)]
pub enum Database {
    /// A SQLite file.
    Sqlite(PathBuf),
    /// A PostgreSQL database: `postgres://...`.
    Postgres(String),
}

/// A piece of work for the writer: it runs in a savepoint of its own, says whether to keep what it wrote, and is
/// answered after the commit.
type Work = Box<dyn FnOnce(&mut Tx<'_>) -> (bool, Answer) + Send>;
type Answer = Box<dyn FnOnce(Result<(), StoreError>) + Send>;

impl Store {
    /// Opens a SQLite file, making it and bringing its schema up to date.
    pub fn open_sqlite(path: &Path) -> Result<Store, StoreError> {
        Store::open(Database::Sqlite(path.to_owned()))
    }

    /// Connects to a PostgreSQL database (`postgres://...`) and brings its schema up to date.
    pub fn open_postgres(url: &str) -> Result<Store, StoreError> {
        Store::open(Database::Postgres(url.to_owned()))
    }

    /// Opens a database, making a SQLite file where there is none, and brings its schema up to date.
    pub fn open(place: Database) -> Result<Store, StoreError> {
        let mut connection = place.connect(false)?;
        schema::migrate(&mut connection)?;
        let signals = Arc::new(Signals::new());
        let (writer, queue) = mpsc::channel();
        let writer_place = place.clone();
        let writer_signals = Arc::clone(&signals);
        let faults = Arc::new(Faults::default());
        let writer_faults = Arc::clone(&faults);
        let refusal = Arc::new(Refusal::default());
        let writer_refusal = Arc::clone(&refusal);
        std::thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || {
                write_loop(connection, &writer_place, &queue, &writer_signals, &writer_faults, &writer_refusal)
            })
            .map_err(|error| StoreError::Unavailable(format!("no thread for the writer: {error}")))?;
        let readers = Mutex::new(Vec::new());
        Ok(Store { inner: Arc::new(Inner { place, writer, readers, signals, faults, refusal }) })
    }

    /// Where it is.
    pub fn database(&self) -> &Database {
        &self.inner.place
    }

    /// Where wake-ups arrive.
    pub fn signals(&self) -> &Signals {
        &self.inner.signals
    }

    pub(crate) fn faults(&self) -> &Faults {
        &self.inner.faults
    }

    /// `sqlite` or `postgresql`, for people.
    pub fn backend(&self) -> &'static str {
        match self.inner.place {
            Database::Sqlite(_) => "sqlite",
            Database::Postgres(_) => "postgresql",
        }
    }

    /// Runs `work` in a transaction of its own turn: nothing else writes meanwhile. An error undoes all that it
    /// wrote. The answer comes when the commit is on the disk.
    pub async fn write<T, E, F>(&self, work: F) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
        F: FnOnce(&mut Tx<'_>) -> Result<T, E> + Send + 'static,
    {
        let receive = self.submit(work);
        match receive.await {
            Ok(result) => result,
            Err(_) => Err(E::from(self.inner.refusal.get())),
        }
    }

    /// [`Store::write`] for code that is not asynchronous. Must not be called from an asynchronous task.
    pub fn write_blocking<T, E, F>(&self, work: F) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
        F: FnOnce(&mut Tx<'_>) -> Result<T, E> + Send + 'static,
    {
        match self.submit(work).blocking_recv() {
            Ok(result) => result,
            Err(_) => Err(E::from(self.inner.refusal.get())),
        }
    }

    fn submit<T, E, F>(&self, work: F) -> oneshot::Receiver<Result<T, E>>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
        F: FnOnce(&mut Tx<'_>) -> Result<T, E> + Send + 'static,
    {
        let (send, receive) = oneshot::channel();
        let work: Work = Box::new(move |tx| {
            // A panic is a bug in this piece of work: it costs only its own answer, and trying again does not help.
            let result = std::panic::catch_unwind(AssertUnwindSafe(|| work(tx))).unwrap_or_else(|_| {
                tracing::error!("a piece of work panicked; what it wrote was undone");
                Err(E::from(StoreError::Statement("the work panicked".to_owned())))
            });
            let keep = result.is_ok();
            let answer: Answer = Box::new(move |committed| {
                // The asker may have gone away; the work is done all the same.
                let _ = send.send(match committed {
                    Err(error) if keep => Err(E::from(error)),
                    _ => result,
                });
            });
            (keep, answer)
        });
        // A failure drops the work and with it the sender: the receiver says why.
        let _ = self.inner.writer.send(work);
        receive
    }

    /// Runs `work` on a snapshot, beside other readers and the writer.
    pub async fn read<T, E, F>(&self, work: F) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
        F: FnOnce(&mut Tx<'_>) -> Result<T, E> + Send + 'static,
    {
        let store = self.clone();
        match tokio::task::spawn_blocking(move || store.read_blocking(work)).await {
            Ok(result) => result,
            Err(error) => Err(E::from(StoreError::Statement(format!("a reader failed: {error}")))),
        }
    }

    /// [`Store::read`] for code that is not asynchronous. Must not be called from an asynchronous task.
    pub fn read_blocking<T, E, F>(&self, work: F) -> Result<T, E>
    where
        E: From<StoreError>,
        F: FnOnce(&mut Tx<'_>) -> Result<T, E>,
    {
        let idle = self.inner.readers.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).pop();
        // One that has broken meanwhile is not this work's concern.
        let idle = idle.filter(Connection::is_open).and_then(|mut idle| idle.begin_read().is_ok().then_some(idle));
        let mut connection = match idle {
            Some(connection) => connection,
            None => {
                let mut connection = self.inner.place.connect(true)?;
                connection.begin_read()?;
                connection
            }
        };
        let result = work(&mut Tx::new(&mut connection));
        if connection.batch("ROLLBACK").is_ok() {
            let mut readers = self.inner.readers.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            if readers.len() < IDLE_READERS {
                readers.push(connection);
            }
        }
        result
    }
}

impl Drop for Inner {
    /// Closing a connection to PostgreSQL waits for it, which an asynchronous task must not.
    fn drop(&mut self) {
        let readers = std::mem::take(self.readers.get_mut().unwrap_or_else(|poisoned| poisoned.into_inner()));
        if !readers.is_empty() {
            // Without a thread they are closed here.
            let _ = std::thread::Builder::new().name("store-close".to_owned()).spawn(move || drop(readers));
        }
    }
}

impl Database {
    pub(crate) fn connect(&self, read_only: bool) -> Result<Connection, StoreError> {
        match self {
            Database::Sqlite(path) => Connection::sqlite(path, read_only),
            Database::Postgres(url) => Connection::postgres(url),
        }
    }
}

/// Takes work until the store is dropped.
fn write_loop(
    first: Connection,
    place: &Database,
    queue: &mpsc::Receiver<Work>,
    signals: &Signals,
    faults: &Faults,
    refusal: &Refusal,
) {
    let mut connection = Some(first);
    let mut refused = 0;
    while let Ok(work) = queue.recv() {
        let mut group = vec![work];
        while group.len() < GROUP {
            match queue.try_recv() {
                Ok(work) => group.push(work),
                Err(_) => break,
            }
        }
        match begin_write(connection.take(), place) {
            Ok(mut open) => {
                if refused > 0 {
                    tracing::warn!("the database answers again; {refused} writes were refused meanwhile");
                    refused = 0;
                }
                connection = write_group(&mut open, group, signals, faults.take(), refusal).ok().map(|()| open);
            }
            // The work is dropped unanswered; its askers find why.
            Err(error) => {
                if refused == 0 {
                    tracing::error!("writes are refused until the database can be reached: {error}");
                }
                refused += group.len();
                refusal.set(error);
            }
        }
    }
}

/// Begins a transaction that writes, on another connection where this one is broken.
fn begin_write(connection: Option<Connection>, place: &Database) -> Result<Connection, StoreError> {
    if let Some(mut open) = connection.filter(Connection::is_open)
        && open.begin_write().is_ok()
    {
        return Ok(open);
    }
    let mut open = place.connect(false)?;
    open.begin_write()?;
    Ok(open)
}

/// Runs a group of work in the transaction that has begun. An error says that the connection is not good any more.
fn write_group(
    connection: &mut Connection,
    group: Vec<Work>,
    signals: &Signals,
    fault: Option<Fault>,
    refusal: &Refusal,
) -> Result<(), StoreError> {
    let mut answers: Vec<Answer> = Vec::with_capacity(group.len());
    let mut kept = Vec::new();
    let mut broken = None;
    let fuse = match fault {
        Some(Fault::Statement(after)) => Some(after),
        Some(Fault::Commit | Fault::Answer) | None => None,
    };
    for work in group {
        let mut tx = Tx::with_fuse(connection, fuse);
        match run_one(&mut tx, work, refusal) {
            Ok((keep, answer)) => {
                if keep {
                    kept.append(&mut tx.signals);
                }
                answers.push(answer);
            }
            Err(error) => {
                broken = Some(error);
                break;
            }
        }
    }
    let committed = match broken {
        Some(error) => {
            let _ = connection.batch("ROLLBACK");
            Err(error)
        }
        None => commit(connection, fault),
    };
    if let Err(error) = &committed {
        tracing::error!(%error, "a transaction could not be committed");
        let _ = connection.batch("ROLLBACK");
    }
    // Before the answers: whoever has one finds that everybody concerned is awake. Who is woken in vain has looked.
    if matches!(committed, Ok(()) | Err(StoreError::Unknown(_))) {
        for signal in kept {
            signals.send(signal);
        }
    }
    for answer in answers {
        answer(committed.clone());
    }
    committed
}

fn commit(connection: &mut Connection, fault: Option<Fault>) -> Result<(), StoreError> {
    match fault {
        Some(Fault::Commit) => Err(Fault::error()),
        Some(Fault::Answer) => connection.batch("COMMIT").and(Err(Fault::error())),
        Some(Fault::Statement(_)) | None => connection.commit(),
    }
}

/// Runs one piece of work in a savepoint, which is undone where the work says so. An error leaves it unanswered.
fn run_one(tx: &mut Tx<'_>, work: Work, refusal: &Refusal) -> Result<(bool, Answer), StoreError> {
    // Said before the work, or its answer, is dropped.
    let said = |error: &StoreError| refusal.set(error.clone());
    let name = tx.savepoint().inspect_err(said)?;
    let (keep, answer) = work(tx);
    let ended = if keep { tx.release(&name) } else { tx.rollback_to(&name) };
    ended.inspect_err(said)?;
    Ok((keep, answer))
}
