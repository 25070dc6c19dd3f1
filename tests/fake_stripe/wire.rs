//! HTTP as the stand-in needs it: one request a connection, and what forms and dates look like.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// Largest request read.
const BODY_MAX_BYTES: u64 = 1024 * 1024;
/// Longest head line read.
const LINE_MAX_BYTES: u64 = 64 * 1024;

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Recorded {
    pub method: String,
    /// Without the query.
    pub path: String,
    /// Names in lower case, in the order in which they came.
    pub headers: Vec<(String, String)>,
    /// What the query and the body hold, decoded, in the order in which it came.
    pub form: Vec<(String, String)>,
}

impl Recorded {
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }

    pub fn field(&self, name: &str) -> Option<&str> {
        let found = self.form.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }

    /// `POST /v1/checkout/sessions`, with `{id}` in place of an id.
    pub fn call(&self) -> String {
        let parts: Vec<&str> = self.path.split('/').collect();
        let is_id = |part: &str| part.contains('_') && part.chars().any(|c| c.is_ascii_digit());
        let parts: Vec<&str> = parts
            .into_iter()
            .map(|part| if is_id(part) { "{id}" } else { part })
            .collect();
        format!("{} {}", self.method, parts.join("/"))
    }
}

/// What is answered.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Answer {
    pub fn json(status: u16, body: String) -> Answer {
        Answer {
            status,
            headers: vec![("Content-Type".to_owned(), "application/json".to_owned())],
            body,
        }
    }

    pub fn with(mut self, name: &str, value: &str) -> Answer {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The first `bytes` bytes of it, or all.
    pub fn write(&self, stream: &mut TcpStream, bytes: Option<usize>) -> io::Result<()> {
        let mut text = format!("HTTP/1.1 {} Status\r\n", self.status);
        for (name, value) in &self.headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        text.push_str(&format!("Content-Length: {}\r\n", self.body.len()));
        text.push_str("Connection: close\r\n\r\n");
        let head_bytes = text.len();
        text.push_str(&self.body);
        let end = bytes.map_or(text.len(), |bytes| head_bytes + bytes);
        stream.write_all(&text.as_bytes()[..end.min(text.len())])?;
        stream.flush()
    }
}

/// Reads one request; `None` when the connection was opened for nothing.
pub fn read(stream: &TcpStream) -> io::Result<Option<Recorded>> {
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut reader = BufReader::new(stream);
    let first = line(&mut reader)?;
    let mut words = first.split(' ');
    let (Some(method), Some(target)) = (words.next(), words.next()) else {
        return Ok(None);
    };
    let mut headers = Vec::new();
    loop {
        let line = line(&mut reader)?;
        let Some((name, value)) = line.split_once(':') else {
            break;
        };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let length = headers.iter().find(|(name, _)| name == "content-length");
    let length: u64 = length.map_or(0, |(_, value)| value.parse().unwrap());
    assert!(length <= BODY_MAX_BYTES, "a body of {length} bytes");
    let mut body = String::new();
    reader.take(length).read_to_string(&mut body)?;
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let mut form = decoded(query);
    form.extend(decoded(&body));
    Ok(Some(Recorded {
        method: method.to_owned(),
        path: path.to_owned(),
        headers,
        form,
    }))
}

fn line(reader: &mut impl BufRead) -> io::Result<String> {
    let mut line = String::new();
    reader.take(LINE_MAX_BYTES).read_line(&mut line)?;
    Ok(line.trim_end().to_owned())
}

/// The pairs of `application/x-www-form-urlencoded`.
fn decoded(text: &str) -> Vec<(String, String)> {
    let pairs = text.split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(name, value)| (percent_decoded(name), percent_decoded(value)))
        .collect()
}

fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digits = [rest.next().unwrap(), rest.next().unwrap()];
                hex::decode(digits).unwrap()[0]
            }
            other => other,
        });
    }
    String::from_utf8(bytes).unwrap()
}

/// `Sun, 06 Nov 1994 08:49:37 GMT`.
pub fn http_date(unix_seconds: i64) -> String {
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    let days = unix_seconds.div_euclid(86_400);
    let weekday = DAYS[usize::try_from(days.rem_euclid(7)).unwrap()];
    let text = paidup::base::time::rfc3339(paidup::base::id::UnixSeconds(unix_seconds));
    let month = MONTHS[text[5..7].parse::<usize>().unwrap() - 1];
    format!(
        "{weekday}, {} {month} {} {} GMT",
        &text[8..10],
        &text[0..4],
        &text[11..19]
    )
}
