//! Reads the head of a request: strictly, because whatever is read in two ways can be smuggled past
//! a proxy. What is not exactly one HTTP/1.0 or 1.1 request with one plain length is refused.

use crate::base::log_line::ErrorCode;
use crate::http::exchange::Reply;

/// Most headers of one request.
pub const HEADERS_MAX: usize = 64;
/// Longest target: path and query.
const TARGET_MAX_BYTES: usize = 2 * 1024;

/// Where the head ends, if it does, in `bytes`, of which those from `from` on are new.
///
/// A byte that no head may have is refused as it comes: a bare CR or LF, a blank line at the start,
/// NUL and other control characters, 8-bit characters. What is left is ASCII.
///
/// # Errors
/// The answer to such a head.
pub fn find_end(bytes: &[u8], from: usize) -> Result<Option<usize>, Reply> {
    for end in from..bytes.len() {
        match bytes.get(..=end).unwrap_or_default() {
            [b'\r'] => return Err(malformed("Blank line before the request")),
            [.., b'\r', b'\n', b'\r', b'\n'] => return Ok(Some(end + 1)),
            [.., b'\r', b'\n'] => {}
            [.., b'\r', _] | [.., b'\n'] => return Err(malformed("Bad line end")),
            [.., b'\r' | b'\t' | b' '..=b'~'] => {}
            _ => return Err(malformed("Bad character in the head")),
        }
    }
    Ok(None)
}

/// The parsed head of a request.
pub struct Head<'a> {
    /// As it was sent.
    pub method: &'a str,
    /// Path and query, not decoded.
    pub target: &'a str,
    /// Names as they were sent, values without the blanks around them.
    pub headers: &'a [(&'a str, &'a str)],
    /// 0 or 1, as in HTTP/1.0 and HTTP/1.1.
    minor_version: u8,
}

/// How the body comes.
pub struct Framing {
    /// How long it is.
    pub length: usize,
    /// Whether the client waits for `100 Continue` before it sends it.
    pub(super) continue_expected: bool,
}

impl<'a> Head<'a> {
    /// Parses a head whose bytes [`find_end`] has let through.
    ///
    /// # Errors
    /// The answer to a head that is malformed or too large.
    pub fn parse(
        bytes: &'a [u8],
        headers: &'a mut [(&'a str, &'a str); HEADERS_MAX],
    ) -> Result<Head<'a>, Reply> {
        let mut parsed = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut request = httparse::Request::new(&mut parsed);
        match request.parse(bytes) {
            Ok(_) => {}
            Err(httparse::Error::TooManyHeaders) => return Err(too_large()),
            Err(httparse::Error::Version) => return Err(bad_version(bytes)),
            Err(_) => return Err(malformed("Bad request line or header")),
        }
        let (Some(method), Some(target), Some(minor_version)) =
            (request.method, request.path, request.version)
        else {
            return Err(malformed("Bad request line"));
        };
        if !method
            .bytes()
            .all(|byte| byte.is_ascii_uppercase() || byte == b'-')
        {
            return Err(malformed("Bad method"));
        }
        if !target.starts_with('/') || target.contains('#') || target.len() > TARGET_MAX_BYTES {
            return Err(malformed("Bad target"));
        }
        let count = request.headers.len();
        for (slot, header) in headers.iter_mut().zip(&*request.headers) {
            let Ok(value) = std::str::from_utf8(header.value) else {
                return Err(malformed("Bad header value"));
            };
            *slot = (header.name, value);
        }
        Ok(Head {
            method,
            target,
            minor_version,
            headers: headers.get(..count).unwrap_or_default(),
        })
    }

    /// Decides how the body comes.
    ///
    /// # Errors
    /// The answer to a head that can be understood in two ways, or to too large a body.
    pub fn framing(&self, body_max_bytes: usize) -> Result<Framing, Reply> {
        let hosts = self.values("host").count();
        if hosts > 1 || (hosts == 0 && self.minor_version == 1) {
            return Err(malformed("Host is due exactly once"));
        }
        let mut lengths = self.values("content-length");
        let coded = self.values("transfer-encoding").next().is_some();
        let length = match (lengths.next(), lengths.next(), coded) {
            (Some(length), None, false) => parse_length(length, body_max_bytes)?,
            (Some(_), _, _) => return Err(malformed("More than one length")),
            (None, _, true) => return Err(length_required()),
            (None, _, false) if matches!(self.method, "POST" | "PUT" | "PATCH") => {
                return Err(length_required());
            }
            (None, _, false) => 0,
        };
        Ok(Framing {
            length,
            continue_expected: self.continue_expected()?,
        })
    }

    /// Whether the client may send another request on its connection: a delivery of HTTP/1.1, and no word
    /// of closing.
    pub(super) fn may_stay(&self) -> bool {
        let stays = |value: &str| value.is_empty() || value.eq_ignore_ascii_case("keep-alive");
        self.method == "POST" && self.minor_version == 1 && self.values("connection").all(stays)
    }

    /// Whether the client waits for `100 Continue` before it sends its body. HTTP/1.0 has no such answer.
    fn continue_expected(&self) -> Result<bool, Reply> {
        let mut expected = false;
        for value in self.values("expect") {
            if !value.eq_ignore_ascii_case("100-continue") {
                let text = "Expectation failed";
                return Err(Reply::error(417, ErrorCode::ExpectationFailed, text));
            }
            expected = self.minor_version == 1;
        }
        Ok(expected)
    }

    fn values(&self, name: &str) -> impl Iterator<Item = &'a str> {
        self.headers
            .iter()
            .filter(move |(one, _)| one.eq_ignore_ascii_case(name))
            .map(|(_, value)| *value)
    }
}

/// Digits only: no sign, no list, no space.
fn parse_length(text: &str, body_max_bytes: usize) -> Result<usize, Reply> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(malformed("Bad length"));
    }
    // Digits that are too many for a number are a length over every limit.
    match text.parse() {
        Ok(length) if length <= body_max_bytes => Ok(length),
        _ => Err(Reply::error(413, ErrorCode::BodyTooLarge, "Body too large")),
    }
}

/// 505 for another version of HTTP in the right place, 400 for anything else.
fn bad_version(head: &[u8]) -> Reply {
    let line = head.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let mut words = line.split(|byte| *byte == b' ').skip(2);
    match (words.next(), words.next()) {
        (Some([b'H', b'T', b'T', b'P', b'/', b'0'..=b'9', b'.', b'0'..=b'9']), None) => {
            let text = "HTTP version not supported";
            Reply::error(505, ErrorCode::VersionNotSupported, text)
        }
        _ => malformed("Bad request line"),
    }
}

pub(super) fn malformed(text: &'static str) -> Reply {
    Reply::error(400, ErrorCode::RequestMalformed, text)
}

fn length_required() -> Reply {
    Reply::error(411, ErrorCode::LengthRequired, "Length required")
}

pub(super) fn too_large() -> Reply {
    Reply::error(431, ErrorCode::HeadTooLarge, "Request head too large")
}
