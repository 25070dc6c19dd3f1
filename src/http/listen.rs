//! Opens the sockets that connections come in by.

use std::fs::Permissions;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown};
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use socket2::{Domain, SockAddr, Socket, Type};

use crate::config::Address;
use crate::http::server::StartError;

/// Connections that may wait in the kernel for a free thread.
const BACKLOG: i32 = 1024;

/// Listens on the address that `variable` has set. A Unix socket is open to `group` as well.
pub(crate) fn on(
    variable: &'static str,
    address: &Address,
    group: Option<u32>,
) -> Result<Socket, StartError> {
    let listener = match address {
        Address::Tcp(address) => tcp(*address),
        Address::Unix(path) => unix(path, group),
    };
    listener.map_err(|error| StartError::Listen(variable, address.clone(), error))
}

/// Listens on a TCP address; port 0 is any free one.
///
/// # Errors
/// What the operating system says: in use, no permission, no such address.
pub fn tcp(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket)
}

/// Listens on a Unix socket, and replaces one that a dead process has left. Only our own user may
/// connect, and members of `group`.
///
/// # Errors
/// What the operating system says; [`ErrorKind::AddrInUse`] when a living process listens there.
pub fn unix(path: &Path, group: Option<u32>) -> io::Result<Socket> {
    let address = SockAddr::unix(path)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // The file gets this mode as it is made: there is no moment at which more may connect.
    rustix::fs::fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
    if let Err(error) = socket.bind(&address) {
        if error.kind() != ErrorKind::AddrInUse {
            return Err(error);
        }
        refuse_what_is_not_dead(path, &address)?;
        std::fs::remove_file(path)?;
        socket.bind(&address)?;
    }
    if let Some(group) = group {
        give_to_group(path, group)?;
    }
    socket.listen(BACKLOG)?;
    Ok(socket)
}

/// Only a socket at which nobody listens may be removed. Connecting alone cannot tell: a regular file
/// refuses connections as well.
fn refuse_what_is_not_dead(path: &Path, address: &SockAddr) -> io::Result<()> {
    if !std::fs::symlink_metadata(path)?.file_type().is_socket() {
        let what = "the file there is not a socket, and is left alone";
        return Err(io::Error::new(ErrorKind::AlreadyExists, what));
    }
    match Socket::new(Domain::UNIX, Type::STREAM, None)?.connect(address) {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => Ok(()),
        Ok(()) | Err(_) => Err(Errno::ADDRINUSE.into()),
    }
}

/// By a handle, because the name could lead elsewhere by now.
fn give_to_group(path: &Path, group: u32) -> io::Result<()> {
    let failed = |error: io::Error| {
        let what = format!(
            "its group cannot be that of SOCKET_GROUP: {error}; the user that paidup runs as must be in it"
        );
        io::Error::new(error.kind(), what)
    };
    let handle = rustix::fs::open(
        path,
        OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    let name = format!("/proc/self/fd/{}", handle.as_raw_fd());
    let is = std::fs::metadata(&name)?;
    if !is.file_type().is_socket() {
        return Err(Errno::ADDRINUSE.into());
    }
    // The sandbox of the units forbids any chown, also one that changes nothing.
    if is.gid() != group {
        chown(&name, None, Some(group)).map_err(failed)?;
    }
    std::fs::set_permissions(&name, Permissions::from_mode(0o660))
}

/// Whether `listener` is at `address`.
pub(crate) fn is_at(listener: &Socket, address: &Address) -> bool {
    listener.local_addr().is_ok_and(|local| match address {
        Address::Tcp(address) => local.as_socket() == Some(*address),
        Address::Unix(path) => local.as_pathname() == Some(path),
    })
}

/// The TCP address that the system gave it; none for a Unix socket.
pub(crate) fn local_address(listener: &Socket) -> Option<SocketAddr> {
    listener.local_addr().ok()?.as_socket()
}
