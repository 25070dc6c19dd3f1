//! The `paidup` command.
fn main() {}
