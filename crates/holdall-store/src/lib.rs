//! One store over SQLite and PostgreSQL.
