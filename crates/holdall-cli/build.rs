//! Links `holdall` at a fixed address.
//!
//! Every step has a `holdall` process of its own around it, and gets, puts and checks are `holdall` too. At a variable
//! address each of them begins with a hundred thousand relocations, which cost 1.5 ms and 1.4 MiB of memory that
//! is not shared. Libraries, stack and heap are still at random addresses.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let is = |what: &str, value: &str| std::env::var(what).is_ok_and(|found| found == value);
    // With other C libraries the linker is called in other ways.
    if is("CARGO_CFG_TARGET_OS", "linux") && is("CARGO_CFG_TARGET_ENV", "gnu") {
        println!("cargo:rustc-link-arg-bins=-no-pie");
    }
}
