//! A replica that lags, for tests: how a PostgreSQL database was, which later takes its place.

use postgres::{Client, NoTls};

use crate::StoreError;

/// A copy of a database on the server that `HOLDALL_TEST_POSTGRES` names.
pub struct Replica {
    admin: Client,
    name: String,
    copy: String,
}

impl Replica {
    /// A copy of how the database of an address is now. All its connections end.
    pub fn of(url: &str) -> Result<Replica, StoreError> {
        let server =
            std::env::var("HOLDALL_TEST_POSTGRES").map_err(|error| StoreError::Unavailable(error.to_string()))?;
        let config: postgres::Config = url.parse()?;
        let name = config.get_dbname().unwrap_or_default().to_owned();
        let copy = format!("{name}_replica");
        let mut replica = Replica { admin: Client::connect(&server, NoTls)?, name, copy };
        replica.close()?;
        let (name, copy) = (&replica.name, &replica.copy);
        replica.admin.batch_execute(&format!("CREATE DATABASE {copy} TEMPLATE {name}"))?;
        replica.admin.batch_execute(&format!("ALTER DATABASE {name} ALLOW_CONNECTIONS true"))?;
        Ok(replica)
    }

    /// Puts it in the place of the database, which is gone with all that it has and the replica has not.
    pub fn promote(mut self) -> Result<(), StoreError> {
        self.close()?;
        let (name, copy) = (&self.name, &self.copy);
        self.admin.batch_execute(&format!("DROP DATABASE {name}"))?;
        Ok(self.admin.batch_execute(&format!("ALTER DATABASE {copy} RENAME TO {name}"))?)
    }

    /// Ends all connections of the database, and lets it have no new ones.
    fn close(&mut self) -> Result<(), StoreError> {
        self.admin.batch_execute(&format!("ALTER DATABASE {} ALLOW_CONNECTIONS false", self.name))?;
        let sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1";
        Ok(self.admin.query(sql, &[&self.name]).map(drop)?)
    }
}
