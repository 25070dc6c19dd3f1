//! Asks a server of ours on this machine, over TCP or a Unix socket: one connection, one request, one
//! answer. What may lie behind a proxy or TLS is asked by `send-test --url`.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use socket2::Socket;

use crate::config::Address;

/// Ours have at most some hundred KiB: the metrics.
const ANSWER_MAX_BYTES: u64 = 1024 * 1024;
/// As many as any answer of ours has, and some.
const HEADERS_MAX: usize = 32;

/// What came back.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// The `x-request-id`.
    pub(crate) request_id: Option<String>,
    pub(crate) body: String,
}

/// `GET path`. Each step may take as long as `patience`.
///
/// # Errors
/// The operating system's, or that the answer is not HTTP.
pub(crate) fn get(address: &Address, path: &str, patience: Duration) -> io::Result<Answer> {
    exchange(address, &request("GET", path, ""), patience)
}

/// `POST path` with a signed JSON body, on behalf of this machine: without an `X-Forwarded-For` we
/// would be taken for a proxy that names nobody.
///
/// # Errors
/// The operating system's, or that the answer is not HTTP.
pub(crate) fn post(
    address: &Address,
    path: &str,
    (signature, body): (&str, &str),
    patience: Duration,
) -> io::Result<Answer> {
    let head = format!(
        "Content-Type: application/json; charset=utf-8\r\nX-Forwarded-For: 127.0.0.1\r\n\
         Stripe-Signature: {signature}\r\nContent-Length: {}\r\n",
        body.len()
    );
    let request = request("POST", path, &head) + body;
    exchange(address, &request, patience)
}

fn request(method: &str, path: &str, head: &str) -> String {
    format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n{head}Connection: close\r\n\r\n")
}

fn exchange(address: &Address, request: &str, patience: Duration) -> io::Result<Answer> {
    let mut stream: Socket = match address {
        Address::Tcp(address) => TcpStream::connect_timeout(address, patience)?.into(),
        Address::Unix(path) => UnixStream::connect(path)?.into(),
    };
    stream.set_read_timeout(Some(patience))?;
    stream.set_write_timeout(Some(patience))?;
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    let read = stream.take(ANSWER_MAX_BYTES).read_to_end(&mut answer);
    read.map_err(|error| {
        // So the kernel says it of a socket with a timeout.
        if error.kind() == io::ErrorKind::WouldBlock {
            io::ErrorKind::TimedOut.into()
        } else {
            error
        }
    })?;
    parse(&answer).ok_or_else(|| io::Error::other("what answers there does not speak HTTP/1.1"))
}

fn parse(bytes: &[u8]) -> Option<Answer> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut response = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(head) = response.parse(bytes).ok()? else {
        return None;
    };
    let status = response.code?;
    let mut headers = response.headers.iter();
    let id = headers.find(|header| header.name.eq_ignore_ascii_case("x-request-id"));
    let request_id = id.and_then(|id| String::from_utf8(id.value.to_vec()).ok());
    Some(Answer {
        status,
        request_id,
        body: String::from_utf8_lossy(bytes.get(head..)?).into_owned(),
    })
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::os::unix::net::UnixListener;
    use std::thread;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(5);

    /// Reads what is sent up to `end`, answers with `answer`, and returns what was sent.
    fn serve(mut stream: impl Read + Write, end: &str, answer: &str) -> String {
        let (mut read, mut part) = (Vec::new(), [0; 512]);
        while !read.ends_with(end.as_bytes()) {
            let count = stream.read(&mut part).unwrap();
            read.extend_from_slice(&part[..count]);
        }
        stream.write_all(answer.as_bytes()).unwrap();
        String::from_utf8(read).unwrap()
    }

    const ANSWER: &str = "HTTP/1.1 200 OK\r\nX-Request-Id: r1\r\nContent-Length: 2\r\n\r\nup";

    #[test]
    fn tcp_and_unix_sockets_are_asked_alike() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.sock");
        let unix = UnixListener::bind(&path).unwrap();
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let addresses = [Address::Tcp(tcp.local_addr().unwrap()), Address::Unix(path)];
        let asked = thread::spawn(move || {
            let tcp = serve(tcp.accept().unwrap().0, "\r\n\r\n", ANSWER);
            [tcp, serve(unix.accept().unwrap().0, "\r\n\r\n", ANSWER)]
        });
        for address in &addresses {
            let answer = get(address, "/healthz", PATIENCE).unwrap();
            let (status, body) = (answer.status, answer.body.as_str());
            assert_eq!((status, body), (200, "up"));
            assert_eq!(answer.request_id.as_deref(), Some("r1"));
        }
        let expected = "GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        assert_eq!(asked.join().unwrap(), [expected, expected]);
    }

    #[test]
    fn what_does_not_speak_http_is_an_error_and_says_so() {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = Address::Tcp(tcp.local_addr().unwrap());
        let asked = thread::spawn(move || serve(tcp.accept().unwrap().0, "{}", "SSH-2.0-x\r\n"));
        let error = post(&address, "/x", ("t=1,v1=0", "{}"), PATIENCE).unwrap_err();
        assert!(error.to_string().contains("HTTP"), "{error}");
        let asked = asked.join().unwrap();
        assert!(asked.contains("\r\nContent-Length: 2\r\n"), "{asked}");
    }
}
