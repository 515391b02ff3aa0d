//! The store: one writer thread that commits in groups, and readers side by side.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use tokio::sync::{oneshot, watch};

use crate::connection::{Connection, Tx};
use crate::epoch::{self, Loss};
use crate::error::StoreError;
use crate::queue::{Asked, Queue};
use crate::schema;
use crate::signals::Signals;
use crate::testing::Faults;
use crate::writer::{Refusal, Shared, Writer};

/// How many idle connections are kept for readers.
const IDLE_READERS: usize = 4;

/// A handle on the store; cheap to clone.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    place: Database,
    readers: Mutex<Vec<Connection>>,
    shared: Arc<Shared>,
}

/// Where a database is.
#[derive(Debug, Clone)]
pub enum Database {
    /// A SQLite file.
    Sqlite(PathBuf),
    /// A PostgreSQL database: `postgres://...`.
    Postgres(String),
}

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
        let known = {
            connection.begin_read()?;
            let known = epoch::progress(&mut Tx::new(&mut connection))?;
            connection.batch("ROLLBACK")?;
            known
        };
        let shared = Arc::new(Shared {
            queue: Queue::default(),
            signals: Signals::new(),
            faults: Faults::default(),
            steps: AtomicU64::new(0),
            refusal: Refusal::default(),
            on_loss: OnceLock::new(),
            commits: watch::Sender::new(known.commits),
        });
        let writer = Writer::new(place.clone(), Arc::clone(&shared), connection, known);
        std::thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || writer.run())
            .map_err(|error| StoreError::Unavailable(format!("no thread for the writer: {error}")))?;
        Ok(Store { inner: Arc::new(Inner { place, readers: Mutex::new(Vec::new()), shared }) })
    }

    /// Where it is.
    pub fn database(&self) -> &Database {
        &self.inner.place
    }

    /// Where wake-ups arrive.
    pub fn signals(&self) -> &Signals {
        &self.inner.shared.signals
    }

    /// How many commits that wrote something the database has, as far as is known: it may have one more
    /// ([`epoch::Progress`]).
    pub fn commits(&self) -> watch::Receiver<i64> {
        self.inner.shared.commits.subscribe()
    }

    /// What is to be done when another connection leads to a database that has fewer commits than were kept: it is done
    /// in a transaction of its own, before anything else is written. The first one counts; without one, such a database
    /// is not written.
    pub fn on_loss(&self, act: impl Fn(&mut Tx<'_>, Loss) -> Result<(), StoreError> + Send + Sync + 'static) {
        let _ = self.inner.shared.on_loss.set(Box::new(act));
    }

    pub(crate) fn steps(&self) -> u64 {
        self.inner.shared.steps.load(Ordering::Relaxed)
    }

    pub(crate) fn faults(&self) -> &Faults {
        &self.inner.shared.faults
    }

    /// `sqlite` or `postgresql`, for people.
    pub fn backend(&self) -> &'static str {
        match self.inner.place {
            Database::Sqlite(_) => "sqlite",
            Database::Postgres(_) => "postgresql",
        }
    }

    /// Runs `work` in a transaction of its own turn: nothing else writes meanwhile. An error undoes all that it
    /// wrote. The answer comes when the commit is on the disk. Where so much waits already that there is no room, it is
    /// refused at once; who stops waiting before the work has begun takes it back.
    pub async fn write<T, E, F>(&self, work: F) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
        F: FnOnce(&mut Tx<'_>) -> Result<T, E> + Send + 'static,
    {
        match self.submit(work)?.await {
            Ok(result) => result,
            Err(_) => Err(E::from(self.inner.shared.refusal.get())),
        }
    }

    /// [`Store::write`] for code that is not asynchronous. Must not be called from an asynchronous task.
    pub fn write_blocking<T, E, F>(&self, work: F) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
        F: FnOnce(&mut Tx<'_>) -> Result<T, E> + Send + 'static,
    {
        match self.submit(work)?.blocking_recv() {
            Ok(result) => result,
            Err(_) => Err(E::from(self.inner.shared.refusal.get())),
        }
    }

    fn submit<T, E, F>(&self, work: F) -> Result<oneshot::Receiver<Result<T, E>>, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
        F: FnOnce(&mut Tx<'_>) -> Result<T, E> + Send + 'static,
    {
        let (asked, answer) = Asked::new(work);
        self.inner.shared.queue.push(Box::new(asked)).map_err(E::from)?;
        Ok(answer)
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
        let mut tx = Tx::with_fuse(&mut connection, self.inner.shared.faults.take_read());
        let result = work(&mut tx);
        self.inner.shared.steps.fetch_add(tx.steps, Ordering::Relaxed);
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
        self.shared.queue.close();
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
