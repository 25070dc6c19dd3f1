//! What can be asked for on the command line: the table, and a file for each command.

pub mod backup;
pub mod check;
pub mod db;
pub mod demo;
pub mod doctor;
pub mod exit;
pub mod finding;
pub mod install;
pub mod reconcile;
pub mod rotate;
pub mod sample;
pub mod send_test;
pub mod show;
pub mod table;
