//! Which program has a port.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::net::{IpAddr, SocketAddr};

/// Programs of ours, and the one that listens for us.
const OURS: [&str; 2] = ["paidup", "systemd"];

/// The program that listens there and is neither of ours nor systemd, as `nginx (process 12)`. None when nobody does, or
/// when that may not be seen from here.
pub(crate) fn other_holder(address: SocketAddr) -> Option<String> {
    let sockets: Vec<String> = ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .flat_map(|table| listening(table, address))
        .map(|inode| format!("socket:[{inode}]"))
        .collect();
    if sockets.is_empty() {
        return None;
    }
    let mut holders = Vec::new();
    for process in fs::read_dir("/proc").ok()?.flatten() {
        let open = fs::read_dir(process.path().join("fd"));
        let mut open = open.into_iter().flatten().flatten();
        let has_it = open.any(|file| {
            let to = fs::read_link(file.path()).unwrap_or_default();
            sockets
                .iter()
                .any(|socket| to.as_os_str() == socket.as_str())
        });
        if has_it {
            let name = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            let name: String = name.chars().filter(char::is_ascii_graphic).collect();
            holders.push((name, process.file_name().to_string_lossy().into_owned()));
        }
    }
    let is_ours = holders
        .iter()
        .any(|(name, _)| OURS.contains(&name.as_str()));
    let (name, pid) = holders.into_iter().next().filter(|_| !is_ours)?;
    Some(format!("{name} (process {pid})"))
}

/// The inodes of sockets that listen at the address or at every address, as
/// <https://www.kernel.org/doc/Documentation/networking/proc_net_tcp.txt> has them: those that listen come
/// first. A busy machine has ten thousands of others, which are not read.
fn listening(table: &str, address: SocketAddr) -> Vec<String> {
    const LISTENS: &str = "0A";
    let ip = match address.ip() {
        IpAddr::V4(ip) => in_table(&ip.octets()),
        IpAddr::V6(ip) => in_table(&ip.octets()),
    };
    let lines = File::open(table).map(|file| BufReader::new(file).lines());
    let lines = lines.into_iter().flatten().map_while(Result::ok).skip(1);
    let listening = lines.map_while(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [_, local, _, LISTENS, _, _, _, _, _, inode, ..] = words.as_slice() else {
            return None;
        };
        let (local, port) = local.split_once(':')?;
        let is_there = port == format!("{:04X}", address.port())
            && (local == ip || local.bytes().all(|byte| byte == b'0'));
        Some(is_there.then(|| (*inode).to_owned()))
    });
    listening.flatten().collect()
}

/// Words of 32 bits, each in the byte order of this machine.
fn in_table(octets: &[u8]) -> String {
    let words = octets.chunks_exact(4);
    let hex = words.map(|word| match <[u8; 4]>::try_from(word) {
        Ok(word) => format!("{:08X}", u32::from_ne_bytes(word)),
        Err(_) => String::new(),
    });
    hex.collect()
}
