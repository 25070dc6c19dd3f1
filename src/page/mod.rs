//! `paidup page`: orders, money and health for people, read-only, in HTML without a script.
//!
//! Each file uses those below it only:
//!
//! - `process`: the process around it, by `tiny_http`
//! - `site`: which page an address is
//! - `overview`, `list`, `order`: what the pages of these names show
//! - `visit`: one look at one page
//! - `sums`: what was taken, by day and by month
//! - `views`: what the pages show, and their templates
//! - `door`: who may come in
//! - `plot`: bars as SVG
//! - `moment`: dates as people read them
//! - `texts`: every word, in English and in French

mod door;
mod list;
mod moment;
mod order;
mod overview;
mod plot;
pub(crate) mod process;
mod site;
mod sums;
pub(crate) mod texts;
mod views;
pub(crate) mod visit;
