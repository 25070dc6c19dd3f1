//! Talks to the service manager: takes sockets from it, and sends signs of life to it.
//!
//! It passes descriptors with a name each
//! (<https://www.freedesktop.org/software/systemd/man/latest/sd_listen_fds.html>) and reads
//! datagrams (<https://www.freedesktop.org/software/systemd/man/latest/sd_notify.html>). A process
//! that was not started by systemd gets none of its variables, and then nothing here does anything.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::process;
use std::time::Duration;

use listenfd::ListenFd;
use socket2::Socket;

/// The name of the edge's socket: `FileDescriptorName=` of its unit.
pub(crate) const EDGE: &str = "edge";
/// How long to wait for a manager that does not take our message.
const TELL_PATIENCE: Duration = Duration::from_secs(1);
/// The name of the admin server's socket.
pub(crate) const ADMIN: &str = "admin";
/// The name of the socket of `paidup page`.
pub(crate) const PAGE: &str = "page";

/// Where a socket unit that is up listens, if systemd runs here and knows it.
pub(crate) fn listens_on(unit: &str) -> Option<String> {
    let mut ask = process::Command::new("systemctl");
    ask.args(["show", "--property=ActiveState,Listen", unit]);
    let answer = String::from_utf8(ask.output().ok()?.stdout).ok()?;
    let is_up = answer.lines().any(|line| line == "ActiveState=active");
    let listen = answer.lines().find_map(|line| line.strip_prefix("Listen="));
    let (address, _) = listen.filter(|_| is_up)?.split_once(" (Stream)")?;
    Some(address.to_owned())
}

/// What the service manager gave us.
#[derive(Debug, Default)]
pub struct Systemd {
    /// The socket that webhooks come in by.
    pub edge: Option<Socket>,
    /// The admin server's socket; never without the edge's.
    pub admin: Option<Socket>,
    /// The socket of `paidup page`.
    pub page: Option<Socket>,
    manager: Manager,
}

/// Where signs of life go, if anybody waits for them.
#[derive(Debug, Default)]
pub struct Manager {
    address: Option<SocketAddr>,
    patience: Option<Duration>,
}

/// What is wrong with the sockets that were passed. Only the units can be at fault, never the
/// environment file.
#[derive(Debug)]
pub enum PassedError {
    /// A socket that we have no use for, by its name.
    Unknown(String),
    /// Two sockets of one name.
    Twice(&'static str),
    /// Sockets were passed, but none for webhooks. One of our own would not do: outside our network
    /// namespace, nobody might reach it.
    NoEdge,
    /// A socket that does not listen: its name and what the system says.
    NotListening(String, io::Error),
}

impl fmt::Display for PassedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PassedError::Unknown(name) => {
                write!(f, "systemd passes a socket that is named `{name}`. ")?;
            }
            PassedError::Twice(name) => {
                write!(f, "systemd passes two sockets that are named `{name}`. ")?;
            }
            PassedError::NoEdge => {
                write!(f, "systemd passes sockets, but none is named `{EDGE}`. ")?;
            }
            PassedError::NotListening(name, error) => write!(
                f,
                "systemd passes `{name}`, which takes no connections ({error}): its unit needs \
                 ListenStream= and Accept=no. "
            )?,
        }
        write!(
            f,
            "FileDescriptorName= must be `{EDGE}` in paidup.socket and `{ADMIN}` in \
             paidup-admin.socket, and `{PAGE}` in paidup-page.socket: `systemctl cat 'paidup*.socket'` \
             shows the names, `sudo systemctl revert UNIT` undoes changes"
        )
    }
}

impl Systemd {
    /// Takes what was passed; `vars` is the process's environment. Call it once, and before there are
    /// other threads: it removes the variables that count sockets from the environment.
    ///
    /// # Errors
    /// [`PassedError`] when a socket is not one that we expect.
    pub fn take(vars: &BTreeMap<String, String>) -> Result<Systemd, PassedError> {
        let mut systemd = Systemd {
            manager: Manager::new(vars),
            ..Systemd::default()
        };
        let mut passed = ListenFd::from_env();
        let count = passed.len();
        let names = vars.get("LISTEN_FDNAMES").map_or("", String::as_str);
        let names = names.split(':').chain(std::iter::repeat(""));
        for (index, name) in (0..count).zip(names) {
            let (known, place) = match name {
                EDGE => (EDGE, &mut systemd.edge),
                ADMIN => (ADMIN, &mut systemd.admin),
                PAGE => (PAGE, &mut systemd.page),
                other => return Err(PassedError::Unknown(other.to_owned())),
            };
            let socket = listener(&mut passed, index)
                .map_err(|error| PassedError::NotListening(name.to_owned(), error))?;
            if place.replace(socket).is_some() {
                return Err(PassedError::Twice(known));
            }
        }
        if count > 0 && systemd.edge.is_none() && systemd.page.is_none() {
            return Err(PassedError::NoEdge);
        }
        Ok(systemd)
    }

    /// Where signs of life go.
    #[must_use]
    pub(crate) fn manager(&self) -> &Manager {
        &self.manager
    }

    /// The same, when the sockets have been taken.
    #[must_use]
    pub(crate) fn into_manager(self) -> Manager {
        self.manager
    }
}

impl Manager {
    fn new(vars: &BTreeMap<String, String>) -> Manager {
        let ours = vars
            .get("WATCHDOG_PID")
            .is_none_or(|pid| *pid == process::id().to_string());
        let micros = vars.get("WATCHDOG_USEC").filter(|_| ours);
        Manager {
            address: vars.get("NOTIFY_SOCKET").and_then(|path| address(path)),
            patience: micros
                .and_then(|text| text.parse().ok())
                .filter(|micros| *micros > 0)
                .map(Duration::from_micros),
        }
    }

    /// Whether there is one, which starts us again when we exit.
    #[must_use]
    pub(crate) fn is_there(&self) -> bool {
        self.address.is_some()
    }

    /// How long the manager waits for a sign of life; none when it does not.
    #[must_use]
    pub(crate) fn patience(&self) -> Option<Duration> {
        self.patience
    }

    /// Everything is open and running.
    pub(crate) fn ready(&self, status: &str) {
        self.tell(&format!("READY=1\nSTATUS={status}"));
    }

    /// A sign of life. `status` is what `systemctl status` shows.
    pub(crate) fn alive(&self, status: &str) {
        self.tell(&format!("WATCHDOG=1\nSTATUS={status}"));
    }

    /// We are about to exit.
    pub(crate) fn stopping(&self, status: &str) {
        self.tell(&format!("STOPPING=1\nSTATUS={status}"));
    }

    /// Errors are ignored: a manager that hears nothing from us acts on that. A manager that hangs must
    /// not hold us up.
    fn tell(&self, text: &str) {
        let Some(address) = &self.address else { return };
        let send = || {
            let socket = UnixDatagram::unbound()?;
            socket.set_write_timeout(Some(TELL_PATIENCE))?;
            socket.send_to_addr(text.as_bytes(), address)
        };
        let _: io::Result<usize> = send();
    }
}

/// The address in `NOTIFY_SOCKET`: a path, or a name behind an `@`.
fn address(text: &str) -> Option<SocketAddr> {
    match text.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name).ok(),
        None => SocketAddr::from_pathname(text).ok(),
    }
}

/// The listening socket at `index`, of either family.
fn listener(passed: &mut ListenFd, index: usize) -> io::Result<Socket> {
    let socket = if let Ok(unix) = passed.take_unix_listener(index) {
        unix.map(Socket::from)
    } else {
        passed.take_tcp_listener(index)?.map(Socket::from)
    };
    let socket = socket.ok_or(io::ErrorKind::NotFound)?;
    if socket.is_listener()? {
        Ok(socket)
    } else {
        Err(io::ErrorKind::InvalidInput.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manager(vars: &[(&str, &str)]) -> Manager {
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Manager::new(&vars.iter().map(own).collect())
    }

    #[test]
    fn without_its_variables_nobody_is_told() {
        let manager = manager(&[]);
        assert_eq!(manager.patience(), None);
        manager.ready("nobody hears this");
    }

    #[test]
    fn the_managers_patience_is_read_if_it_is_with_us() {
        let pid = process::id().to_string();
        let patience = |pid: &str, micros: &str| {
            manager(&[("WATCHDOG_PID", pid), ("WATCHDOG_USEC", micros)]).patience()
        };
        assert_eq!(patience(&pid, "30000000"), Some(Duration::from_secs(30)));
        assert_eq!(patience("1", "30000000"), None, "meant for another process");
        assert_eq!(patience(&pid, "0"), None);
        assert_eq!(patience(&pid, "soon"), None);
    }

    #[test]
    fn the_manager_is_told_by_path_and_by_abstract_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let name = format!("paidup-test-{}", process::id());
        let by_path = UnixDatagram::bind(&path).unwrap();
        let by_name =
            UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        for (socket, text) in [
            (by_path, path.to_str().unwrap().to_owned()),
            (by_name, format!("@{name}")),
        ] {
            let manager = manager(&[("NOTIFY_SOCKET", &text)]);
            let mut told = [0; 100];
            let mut hear = || {
                let length = socket.recv(&mut told).unwrap();
                String::from_utf8(told[..length].to_vec()).unwrap()
            };
            manager.ready("a");
            assert_eq!(hear(), "READY=1\nSTATUS=a");
            manager.alive("b");
            assert_eq!(hear(), "WATCHDOG=1\nSTATUS=b");
            manager.stopping("c");
            assert_eq!(hear(), "STOPPING=1\nSTATUS=c");
        }
    }
}
