//! The server: HTTP API, pages and duties.
