//! The environment variables: their table, and what each process takes from them.

pub mod api;
pub mod env_file;
pub mod serve;
pub mod stripe;
pub mod variable;
