//! Duties: passes that read state, decide, and apply what was decided. A duty is woken by a signal that carries no
//! input, and by its own clock as a fallback.

pub mod schedule;
pub mod track;
