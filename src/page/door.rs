//! Who may come in: whoever asks for this machine or a host that we know, only reads, was not sent by
//! another site, and knows the password where there is one.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::base::secret::Secret;
use crate::host::clock::Now;
use crate::http::exchange::{Request, is_this_machine};
use crate::http::gate::{Gate, Shut};

/// The one user.
pub(super) const USER: &str = "paidup";
/// Longest address.
const TARGET_MAX_BYTES: usize = 2_048;

/// Why somebody may not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The host is not one of ours: a site whose name leads here wants to read us (DNS rebinding).
    Host,
    /// It is not GET.
    Method,
    /// The address is too long.
    Length,
    /// Another site asks, and not for a page to go to.
    OtherSite,
    /// The password is missing or wrong.
    Login,
    /// Too many wrong ones: seconds until the next may be tried.
    TooMany(u64),
}

/// What everybody must pass.
pub(super) struct Door {
    hosts: Vec<Box<str>>,
    gate: Option<Gate>,
}

impl Door {
    /// `hosts` are names beside those of this machine. Without a password, whoever can connect may look.
    ///
    /// # Errors
    /// The operating system has no random number for us.
    pub(super) fn new(hosts: Vec<Box<str>>, password: Option<&Secret>) -> std::io::Result<Door> {
        let gate = password.map(Gate::new).transpose()?;
        Ok(Door { hosts, gate })
    }

    pub(super) fn admit(&self, request: &Request<'_>, now: Now) -> Result<(), Refusal> {
        let host = request.host_name();
        if !is_this_machine(&host) && !self.hosts.iter().any(|known| **known == *host) {
            return Err(Refusal::Host);
        }
        if !request.is_get() {
            return Err(Refusal::Method);
        }
        if request.path.len() + request.query.map_or(0, str::len) > TARGET_MAX_BYTES {
            return Err(Refusal::Length);
        }
        if !is_wanted_here(request) {
            return Err(Refusal::OtherSite);
        }
        let Some(gate) = &self.gate else {
            return Ok(());
        };
        // A browser asks without it first. That is not a guess.
        let header = request.header("authorization").ok_or(Refusal::Login)?;
        match gate.check(password(&header).as_deref(), now) {
            Ok(()) => Ok(()),
            Err(Shut::Wrong) => Err(Refusal::Login),
            Err(Shut::TooMany(exceeded)) => Err(Refusal::TooMany(exceeded.retry_after_seconds)),
        }
    }
}

/// Whether a browser asks for itself, for us, or because somebody follows a link to us:
/// <https://www.w3.org/TR/fetch-metadata/>.
fn is_wanted_here(request: &Request<'_>) -> bool {
    let is = |name, word| request.header(name).as_deref() == Some(word);
    match request.header("sec-fetch-site").as_deref() {
        None | Some("none" | "same-origin") => true,
        Some(_) => is("sec-fetch-mode", "navigate") && is("sec-fetch-dest", "document"),
    }
}

/// The password that our user gives: <https://www.rfc-editor.org/rfc/rfc7617>.
fn password(header: &str) -> Option<String> {
    let (scheme, code) = header.split_once(' ')?;
    let text = String::from_utf8(STANDARD.decode(code.trim()).ok()?).ok()?;
    let (user, password) = text.split_once(':')?;
    (scheme.eq_ignore_ascii_case("basic") && user == USER).then(|| password.to_owned())
}
