//! What developers and CI run: `cargo xtask test`, `ci`, `bench`, `tidy`.

fn main() {}
