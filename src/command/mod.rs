//! What can be asked for on the command line: the table, and a file for each command.

mod api;
pub mod backup;
mod check;
pub mod db;
mod demo;
mod doctor;
mod environment;
mod events;
pub mod exit;
mod finding;
mod follow;
mod gen_secret;
mod gen_token;
pub mod help;
mod install;
mod notify;
mod orders;
pub mod reconcile;
pub mod restore;
mod rotate;
pub mod sample;
mod send_test;
mod serve;
pub mod show;
pub mod table;
mod version;
mod words;
