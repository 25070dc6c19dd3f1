//! No document shows a command that nobody runs; tests/box runs them.

#[path = "../box/documented.rs"]
mod documented;

#[test]
fn each_command_of_the_documents_is_run_by_a_test() {
    documented::compare();
}
