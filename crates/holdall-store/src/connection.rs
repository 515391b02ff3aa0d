//! A connection to either database, and the transaction that closures work with.

use std::collections::HashMap;
use std::fs::{OpenOptions, Permissions};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;

use postgres::fallible_iterator::FallibleIterator;
use postgres::types::{IsNull, ToSql, Type, to_sql_checked};
use postgres::{Client, Config, NoTls, SimpleQueryMessage, Statement};
use rusqlite::StatementStatus;
use rusqlite::config::DbConfig;

use holdall_engine::time::Timestamp;

use crate::dialect;
use crate::epoch::COUNT;
use crate::error::StoreError;
use crate::signals::Signal;
use crate::testing::Fault;
use crate::value::{Row, Value};

/// How many statements a connection to PostgreSQL keeps prepared: several times what the product has, but for lists of
/// every length.
const MOST_PREPARED: usize = 1024;

/// A connection.
pub(crate) enum Connection {
    /// To a SQLite file.
    Sqlite(rusqlite::Connection),
    /// To a PostgreSQL server, with the statements that it has prepared.
    Postgres(Box<PostgresConnection>),
}

/// A client of PostgreSQL and its prepared statements, by text.
pub(crate) struct PostgresConnection {
    client: Client,
    prepared: HashMap<String, Statement>,
}

impl Connection {
    /// Opens a SQLite file, making it where there is none.
    pub(crate) fn sqlite(path: &Path, read_only: bool) -> Result<Connection, StoreError> {
        keep_private(path);
        let connection = rusqlite::Connection::open(path)?;
        connection.execute_batch(dialect::SQLITE_SETUP)?;
        // A plan that depends on the values of parameters is made anew each time: with partial indexes, that was half
        // of the time that statements took.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
        if read_only {
            connection.execute_batch("PRAGMA query_only=ON")?;
        }
        connection.set_prepared_statement_cache_capacity(256);
        Ok(Connection::Sqlite(connection))
    }

    /// Connects to a PostgreSQL server. What the address says of timeouts holds; what it does not say,
    /// [`with_timeouts`] does.
    pub(crate) fn postgres(url: &str) -> Result<Connection, StoreError> {
        let mut client = with_timeouts(url.parse()?).connect(NoTls)?;
        client.batch_execute(dialect::POSTGRES_SETUP)?;
        Ok(Connection::Postgres(Box::new(PostgresConnection { client, prepared: HashMap::new() })))
    }

    /// Whether the connection can still be used.
    pub(crate) fn is_open(&self) -> bool {
        match self {
            Connection::Sqlite(_) => true,
            Connection::Postgres(postgres) => !postgres.client.is_closed(),
        }
    }

    /// Runs statements without arguments.
    pub(crate) fn batch(&mut self, sql: &str) -> Result<(), StoreError> {
        match self {
            Connection::Sqlite(connection) => Ok(connection.execute_batch(sql)?),
            Connection::Postgres(postgres) => Ok(postgres.client.batch_execute(sql)?),
        }
    }

    /// Ends a transaction by keeping what it wrote.
    pub(crate) fn commit(&mut self) -> Result<(), StoreError> {
        let committed = self.batch("COMMIT");
        match (self, committed) {
            // The server may have carried it out before it went away.
            (Connection::Postgres(_), Err(StoreError::Unavailable(text))) => Err(StoreError::Unknown(text)),
            (_, committed) => committed,
        }
    }

    /// Ends a transaction by keeping what it wrote, and counts it, in one message to PostgreSQL; gives the count.
    pub(crate) fn commit_counted(&mut self) -> Result<i64, StoreError> {
        match self {
            Connection::Sqlite(_) => {
                let count = Tx::new(self).insert(COUNT, &[])?;
                self.batch("COMMIT")?;
                Ok(count)
            }
            Connection::Postgres(postgres) => {
                match postgres.client.simple_query(&format!("{COUNT}; COMMIT")).map_err(StoreError::from) {
                    Ok(answers) => counted(&answers),
                    // The server may have carried it out before it went away.
                    Err(StoreError::Unavailable(text)) => Err(StoreError::Unknown(text)),
                    Err(error) => Err(error),
                }
            }
        }
    }

    /// Begins a transaction that writes.
    pub(crate) fn begin_write(&mut self) -> Result<(), StoreError> {
        let sql = match self {
            Connection::Sqlite(_) => dialect::SQLITE_BEGIN,
            Connection::Postgres(_) => dialect::POSTGRES_BEGIN,
        };
        self.batch(sql)
    }

    /// Begins a transaction that reads one snapshot.
    pub(crate) fn begin_read(&mut self) -> Result<(), StoreError> {
        let sql = match self {
            Connection::Sqlite(_) => "BEGIN",
            Connection::Postgres(_) => dialect::POSTGRES_READ,
        };
        self.batch(sql)
    }

    /// The definition of a table in this database's words.
    pub(crate) fn ddl(&self, text: &str) -> String {
        match self {
            Connection::Sqlite(_) => dialect::sqlite_ddl(text),
            Connection::Postgres(_) => dialect::postgres_ddl(text),
        }
    }
}

/// Sees to it that only the owner of a SQLite file, and of those that SQLite keeps beside it, can read it: it holds
/// credentials, and the folder around it may be open to everyone. SQLite gives what it makes beside a file the file's mode.
///
/// A file that is there is never opened here: closing it would take away the locks that SQLite has on it in this process.
fn keep_private(path: &Path) {
    // Whatever does not work, SQLite says in its words when it opens the file.
    let _ = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    for beside in ["", "-wal", "-shm"] {
        let mut name = path.as_os_str().to_owned();
        name.push(beside);
        if std::fs::metadata(&name).is_ok_and(|known| known.is_file() && known.permissions().mode() & 0o077 != 0) {
            // A file of somebody else stays as it is.
            let _ = std::fs::set_permissions(&name, Permissions::from_mode(0o600));
        }
    }
}

/// The count in the answers to [`COUNT`].
fn counted(answers: &[SimpleQueryMessage]) -> Result<i64, StoreError> {
    let count = answers.iter().find_map(|answer| match answer {
        SimpleQueryMessage::Row(row) => row.get(0)?.parse().ok(),
        _ => None,
    });
    // It was committed, and is counted again from the database by another connection.
    count.ok_or_else(|| StoreError::Unknown("a commit gave no count".to_owned()))
}

/// How long a host of PostgreSQL may take to accept a connection.
const ACCEPTS_WITHIN: Duration = Duration::from_secs(10);

/// How long a connection to PostgreSQL may be silent before its host is asked whether it is there.
const ASKED_AFTER: Duration = Duration::from_secs(10);

/// How long a host of PostgreSQL may leave what it was sent without an acknowledgement. It is its kernel that acknowledges,
/// also while a statement runs for long.
const GONE_AFTER: Duration = Duration::from_secs(20);

/// Finds out in seconds that a host has gone without a word, where the kernel's own defaults take a quarter of an hour for
/// a statement under way and two hours for a connection that waits for an answer.
fn with_timeouts(mut config: Config) -> Config {
    let unset = Config::new();
    if config.get_connect_timeout().is_none() {
        config.connect_timeout(ACCEPTS_WITHIN);
    }
    if config.get_tcp_user_timeout().is_none() {
        config.tcp_user_timeout(GONE_AFTER);
    }
    if config.get_keepalives_idle() == unset.get_keepalives_idle() {
        config.keepalives_idle(ASKED_AFTER);
    }
    if config.get_keepalives_interval().is_none() {
        config.keepalives_interval(ASKED_AFTER);
    }
    config
}

/// A transaction under way. What it signals is sent when, and only when, it commits.
pub struct Tx<'c> {
    pub(crate) connection: &'c mut Connection,
    pub(crate) signals: Vec<Signal>,
    /// Whether anything was written that was not undone.
    pub(crate) has_written: bool,
    savepoints: u32,
    /// How many statements are carried out before the database fails, where a test wants that.
    fuse: Option<u32>,
    /// How many steps SQLite has taken: what work there was, without a clock.
    pub(crate) steps: u64,
}

impl<'c> Tx<'c> {
    pub(crate) fn new(connection: &'c mut Connection) -> Tx<'c> {
        Tx { connection, signals: Vec::new(), has_written: false, savepoints: 0, fuse: None, steps: 0 }
    }

    /// A transaction whose database fails after so many statements.
    pub(crate) fn with_fuse(connection: &'c mut Connection, fuse: Option<u32>) -> Tx<'c> {
        Tx { fuse, ..Tx::new(connection) }
    }

    fn burn(&mut self) -> Result<(), StoreError> {
        match &mut self.fuse {
            None => Ok(()),
            Some(0) => Err(Fault::error()),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
        }
    }

    /// Runs a statement that changes rows; gives how many.
    pub fn execute(&mut self, sql: &str, params: &[Value]) -> Result<u64, StoreError> {
        self.burn()?;
        let changed = match self.connection {
            Connection::Sqlite(connection) => {
                let mut statement = connection.prepare_cached(sql)?;
                let changed = statement.execute(rusqlite::params_from_iter(params))? as u64;
                self.steps += steps(&statement);
                changed
            }
            Connection::Postgres(postgres) => {
                let statement = postgres.prepare(sql)?;
                let params: Vec<&(dyn ToSql + Sync)> = params.iter().map(|value| value as _).collect();
                postgres.client.execute(&statement, &params)?
            }
        };
        self.has_written |= changed > 0;
        Ok(changed)
    }

    /// Runs a statement that gives rows.
    pub fn query(&mut self, sql: &str, params: &[Value]) -> Result<Vec<Row>, StoreError> {
        self.burn()?;
        let result: Vec<Row> = match self.connection {
            Connection::Sqlite(connection) => {
                let mut statement = connection.prepare_cached(sql)?;
                let columns = statement.column_count();
                let mut rows = statement.query(rusqlite::params_from_iter(params))?;
                let mut result = Vec::new();
                while let Some(row) = rows.next()? {
                    result.push(sqlite_row(row, columns)?);
                }
                drop(rows);
                self.steps += steps(&statement);
                result
            }
            Connection::Postgres(postgres) => {
                let statement = postgres.prepare(sql)?;
                let params: Vec<&(dyn ToSql + Sync)> = params.iter().map(|value| value as _).collect();
                let rows = postgres.client.query(&statement, &params)?;
                rows.iter().map(postgres_row).collect::<Result<_, _>>()?
            }
        };
        // `INSERT ... RETURNING` and the like.
        self.has_written |= !sql.starts_with("SELECT") && !result.is_empty();
        Ok(result)
    }

    /// Hands the rows of a statement without arguments over one by one: they need not fit into memory.
    pub(crate) fn each<E: From<StoreError>>(
        &mut self,
        sql: &str,
        mut take: impl FnMut(Row) -> Result<(), E>,
    ) -> Result<(), E> {
        match self.connection {
            Connection::Sqlite(connection) => {
                let mut statement = connection.prepare(sql).map_err(StoreError::from)?;
                let columns = statement.column_count();
                let mut rows = statement.query([]).map_err(StoreError::from)?;
                while let Some(row) = rows.next().map_err(StoreError::from)? {
                    take(sqlite_row(row, columns)?)?;
                }
            }
            Connection::Postgres(postgres) => {
                let none: [&Value; 0] = [];
                let mut rows = postgres.client.query_raw(sql, none).map_err(StoreError::from)?;
                while let Some(row) = rows.next().map_err(StoreError::from)? {
                    take(postgres_row(&row)?)?;
                }
            }
        }
        Ok(())
    }

    /// The names of the tables that the database has.
    pub fn tables(&mut self) -> Result<Vec<String>, StoreError> {
        let sql = match self.connection {
            Connection::Sqlite(_) => dialect::SQLITE_TABLES,
            Connection::Postgres(_) => dialect::POSTGRES_TABLES,
        };
        self.query(sql, &[])?.iter().map(|row| row.get(0)).collect()
    }

    /// The names of a table's columns, in order.
    pub fn columns(&mut self, table: &str) -> Result<Vec<String>, StoreError> {
        let sql = match self.connection {
            Connection::Sqlite(_) => dialect::SQLITE_COLUMNS,
            Connection::Postgres(_) => dialect::POSTGRES_COLUMNS,
        };
        self.query(sql, &[Value::from(table)])?.iter().map(|row| row.get(0)).collect()
    }

    /// The id that the next row of a table gets, whose ids the database gives.
    pub(crate) fn next_id(&mut self, table: &str) -> Result<i64, StoreError> {
        let row = match self.connection {
            Connection::Sqlite(_) => {
                self.query_one("SELECT seq + 1 FROM sqlite_sequence WHERE name = ?1", &[Value::from(table)])?
            }
            Connection::Postgres(_) => {
                let name: String = self
                    .query_one("SELECT pg_get_serial_sequence(?1, 'id')", &[Value::from(quoted(table))])?
                    .ok_or_else(|| StoreError::Inconsistent(format!("{table} gives no ids")))?
                    .get(0)?;
                self.query_one(
                    &format!("SELECT CASE WHEN is_called THEN last_value + 1 ELSE last_value END FROM {name}"),
                    &[],
                )?
            }
        };
        row.map_or(Ok(1), |row| row.get(0))
    }

    /// Says which id the next row of a table gets.
    pub(crate) fn set_next_id(&mut self, table: &str, next: i64) -> Result<(), StoreError> {
        match self.connection {
            Connection::Sqlite(_) => {
                self.execute("DELETE FROM sqlite_sequence WHERE name = ?1", &[Value::from(table)])?;
                let values = [Value::from(table), Value::from(next - 1)];
                self.execute("INSERT INTO sqlite_sequence (name, seq) VALUES (?1, ?2)", &values)?;
            }
            Connection::Postgres(_) => {
                let values = [Value::from(quoted(table)), Value::from(next)];
                let sql = "SELECT setval(CAST(pg_get_serial_sequence(?1, 'id') AS regclass), ?2, false)";
                self.query(sql, &values)?;
            }
        }
        Ok(())
    }

    /// The first row, if there is one.
    pub fn query_one(&mut self, sql: &str, params: &[Value]) -> Result<Option<Row>, StoreError> {
        Ok(self.query(sql, params)?.into_iter().next())
    }

    /// The id that an `INSERT ... RETURNING id` gives.
    pub fn insert(&mut self, sql: &str, params: &[Value]) -> Result<i64, StoreError> {
        self.query_one(sql, params)?.ok_or_else(|| StoreError::Inconsistent("an insert gave no id".to_owned()))?.get(0)
    }

    /// What the database's clock says.
    pub fn clock(&mut self) -> Result<Timestamp, StoreError> {
        let sql = match self.connection {
            Connection::Sqlite(_) => dialect::SQLITE_CLOCK,
            Connection::Postgres(_) => dialect::POSTGRES_CLOCK,
        };
        self.query_one(sql, &[])?
            .ok_or_else(|| StoreError::Inconsistent("the database has no clock".to_owned()))?
            .get(0)
    }

    /// Wakes somebody when this transaction commits.
    pub fn signal(&mut self, signal: Signal) {
        if !self.signals.contains(&signal) {
            self.signals.push(signal);
        }
    }

    /// Runs `work` and undoes everything that it wrote: this is how a preview looks at what an act would do.
    pub fn undone<T, E: From<StoreError>>(&mut self, work: impl FnOnce(&mut Tx<'_>) -> Result<T, E>) -> Result<T, E> {
        let name = self.savepoint()?;
        let (signals, has_written) = (self.signals.clone(), self.has_written);
        let result = work(self);
        (self.signals, self.has_written) = (signals, has_written);
        self.rollback_to(&name)?;
        result
    }

    pub(crate) fn savepoint(&mut self) -> Result<String, StoreError> {
        self.savepoints += 1;
        let name = format!("s{}", self.savepoints);
        self.connection.batch(&format!("SAVEPOINT {name}"))?;
        Ok(name)
    }

    pub(crate) fn release(&mut self, name: &str) -> Result<(), StoreError> {
        // What has failed cannot be kept, also where the failure was overlooked.
        self.burn()?;
        self.connection.batch(&format!("RELEASE SAVEPOINT {name}"))
    }

    pub(crate) fn rollback_to(&mut self, name: &str) -> Result<(), StoreError> {
        self.connection.batch(&format!("ROLLBACK TO SAVEPOINT {name}; RELEASE SAVEPOINT {name}"))
    }
}

impl PostgresConnection {
    fn prepare(&mut self, sql: &str) -> Result<Statement, StoreError> {
        if let Some(statement) = self.prepared.get(sql) {
            return Ok(statement.clone());
        }
        // A list of another length is another statement, which the server keeps too.
        if self.prepared.len() >= MOST_PREPARED {
            self.prepared.clear();
        }
        let statement = self.client.prepare(&dialect::postgres_sql(sql))?;
        self.prepared.insert(sql.to_owned(), statement.clone());
        Ok(statement)
    }
}

/// A name as it stands in a statement.
pub(crate) fn quoted(name: &str) -> String {
    format!("\"{name}\"")
}

/// How many steps a statement has taken since the last time.
fn steps(statement: &rusqlite::Statement<'_>) -> u64 {
    statement.reset_status(StatementStatus::VmStep).unsigned_abs().into()
}

fn sqlite_row(row: &rusqlite::Row<'_>, columns: usize) -> Result<Row, StoreError> {
    let mut values = Vec::with_capacity(columns);
    for index in 0..columns {
        values.push(sqlite_value(row.get_ref(index)?)?);
    }
    Ok(Row(values))
}

fn sqlite_value(value: rusqlite::types::ValueRef<'_>) -> Result<Value, StoreError> {
    use rusqlite::types::ValueRef;
    Ok(match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(n) => Value::Int(n),
        ValueRef::Real(x) => return Err(StoreError::Inconsistent(format!("unexpected fraction {x}"))),
        ValueRef::Text(bytes) => Value::Text(String::from_utf8_lossy(bytes).into_owned()),
        ValueRef::Blob(bytes) => Value::Blob(bytes.to_vec()),
    })
}

impl rusqlite::ToSql for Value {
    fn to_sql(&self) -> rusqlite::Result<rusqlite::types::ToSqlOutput<'_>> {
        use rusqlite::types::{ToSqlOutput, ValueRef};
        Ok(ToSqlOutput::Borrowed(match self {
            Value::Null => ValueRef::Null,
            Value::Int(n) => ValueRef::Integer(*n),
            Value::Text(text) => ValueRef::Text(text.as_bytes()),
            Value::Blob(bytes) => ValueRef::Blob(bytes),
        }))
    }
}

fn postgres_row(row: &postgres::Row) -> Result<Row, StoreError> {
    let mut values = Vec::with_capacity(row.len());
    for (index, column) in row.columns().iter().enumerate() {
        let value = match *column.type_() {
            Type::INT8 => row.try_get::<_, Option<i64>>(index)?.map(Value::Int),
            Type::INT4 => row.try_get::<_, Option<i32>>(index)?.map(|n| Value::Int(i64::from(n))),
            Type::BOOL => row.try_get::<_, Option<bool>>(index)?.map(Value::from),
            Type::TEXT | Type::VARCHAR | Type::NAME => row.try_get::<_, Option<String>>(index)?.map(Value::Text),
            Type::BYTEA => row.try_get::<_, Option<Vec<u8>>>(index)?.map(Value::Blob),
            ref other => return Err(StoreError::Inconsistent(format!("unexpected column type {other}"))),
        };
        values.push(value.unwrap_or(Value::Null));
    }
    Ok(Row(values))
}

impl ToSql for Value {
    fn to_sql(
        &self,
        ty: &Type,
        out: &mut postgres::types::private::BytesMut,
    ) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        match self {
            Value::Null => Ok(IsNull::Yes),
            Value::Int(n) if *ty == Type::INT4 => i32::try_from(*n)?.to_sql(ty, out),
            Value::Int(n) if *ty == Type::BOOL => (*n != 0).to_sql(ty, out),
            Value::Int(n) => n.to_sql(ty, out),
            // PostgreSQL's text cannot hold a NUL; it is shown instead of refused.
            Value::Text(text) if text.contains('\0') => text.replace('\0', "\u{2400}").to_sql(ty, out),
            Value::Text(text) => text.to_sql(ty, out),
            Value::Blob(bytes) => bytes.to_sql(ty, out),
        }
    }

    fn accepts(ty: &Type) -> bool {
        matches!(*ty, Type::INT8 | Type::INT4 | Type::BOOL | Type::TEXT | Type::VARCHAR | Type::BYTEA)
    }

    to_sql_checked!();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timeouts(url: &str) -> (Option<u64>, Option<u64>, u64, Option<u64>) {
        let config = with_timeouts(url.parse().unwrap());
        (
            config.get_connect_timeout().map(Duration::as_secs),
            config.get_tcp_user_timeout().map(Duration::as_secs),
            config.get_keepalives_idle().as_secs(),
            config.get_keepalives_interval().map(|every| every.as_secs()),
        )
    }

    #[test]
    fn only_its_owner_reads_a_database() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
        let path = dir.path().join("new.sqlite");
        let mode = |name: &str| std::fs::metadata(dir.path().join(name)).unwrap().permissions().mode() & 0o777;
        for _ in 0..2 {
            let store = crate::Store::open_sqlite(&path).unwrap();
            for name in ["new.sqlite", "new.sqlite-wal", "new.sqlite-shm"] {
                assert_eq!(mode(name), 0o600, "{name}");
            }
            drop(store);
            // One of an older version, the second time.
            std::fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        }
    }

    #[test]
    fn a_host_that_vanishes_is_found_out_in_seconds() {
        assert_eq!(timeouts("postgres://u@host/db"), (Some(10), Some(20), 10, Some(10)));
    }

    #[test]
    fn timeouts_of_the_address_hold() {
        let url = "postgres://u@host/db?connect_timeout=3&tcp_user_timeout=4&keepalives_idle=5&keepalives_interval=6";
        assert_eq!(timeouts(url), (Some(3), Some(4), 5, Some(6)));
    }
}
