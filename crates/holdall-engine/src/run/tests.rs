//! Tests of plan walking: scripts (hand-written), the grid (one snapshot), and random plans against an oracle.

mod grid;
mod oracle;
mod random;
mod script;
mod shape;
mod small;
mod world;
