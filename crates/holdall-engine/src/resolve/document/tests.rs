//! Documents, their mistakes, and their results.
