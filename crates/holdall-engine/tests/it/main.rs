//! Input resolution seen from outside: rules in a small fixture language, an independent oracle over every small
//! world and many random larger ones, and whether what an explanation names is what stands in the way.
//!
//! `HOLDALL_WORLDS=full` walks every world and 100,000 random ones; without it a sample that takes seconds. Run the
//! full walk with optimizations: `HOLDALL_WORLDS=full cargo test --release -p holdall-engine --test it`.

mod agreement;
mod alone;
mod effort;
mod explanations;
mod fixture;
mod oracle;
mod random;
mod rules;
mod small;
mod world;
