//! Migrations are compiled into the programs, and cargo does not know that: without this, a new one is left out until
//! something else changes.

fn main() {
    println!("cargo:rerun-if-changed=migrations");
}
