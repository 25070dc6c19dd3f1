//! What every server shares: the request, the reply, the request id, and one log line per request.
//!
//! The edge reads a request and gives it to `Http::serve`, or refuses it with `Http::refuse`.
//! Either way the answer is sent first, with `x-request-id`; then the request is counted and logged,
//! so neither can stop or delay an answer.

use std::borrow::Cow;
use std::fmt::Write;
use std::io;
use std::net::IpAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use ipnet::IpNet;

use crate::base::id::RequestId;
use crate::base::log_line::{ErrorCode, LogFields, Message};
use crate::host::clock::Now;
use crate::host::logger;
use crate::host::turns::Turns;
use crate::http::metrics::RequestCounters;
use crate::http::peer::{Peer, client_address, names_nobody};
use crate::http::status::reason;

/// One whole request.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// As it was sent: methods are case-sensitive.
    pub method: &'a str,
    /// The target without its query, not decoded.
    pub path: &'a str,
    /// What followed the `?`, not decoded.
    pub query: Option<&'a str>,
    /// The raw bytes, all of them.
    pub body: &'a [u8],
    /// The other end of the connection.
    pub peer: Peer,
    /// Whom the rate limit counts: see [`client_address`].
    pub client: IpAddr,
    /// Whether `client` is a proxy that should have named its client: see `names_nobody`.
    pub client_is_unnamed: bool,
    /// The connection may have another request after a good answer to this one.
    pub(super) may_stay: bool,
    headers: &'a [(&'a str, &'a str)],
}

impl<'a> Request<'a> {
    /// The value of a header, its lines joined with `, ` when it was sent more than once. The name
    /// may be in any case.
    #[must_use]
    pub(crate) fn header(&self, name: &str) -> Option<Cow<'a, str>> {
        header(self.headers, name)
    }

    /// Whether `Host` is a name of this machine. A web page whose own name resolves to 127.0.0.1 sends
    /// that name (DNS rebinding).
    #[must_use]
    pub(crate) fn is_for_this_machine(&self) -> bool {
        if self.peer == Peer::Unix {
            return true;
        }
        is_this_machine(&self.host_name())
    }

    /// The name in `Host`, without its port; empty when there is none.
    #[must_use]
    pub(crate) fn host_name(&self) -> String {
        let host = self.header("host").unwrap_or_default();
        let name = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((address, _port)) => address,
            None => host.split_once(':').map_or(&*host, |(name, _port)| name),
        };
        name.to_ascii_lowercase()
    }

    /// Whether it is GET, or HEAD, which is GET without the body.
    #[must_use]
    pub(crate) fn is_get(&self) -> bool {
        self.method == "GET" || self.method == "HEAD"
    }
}

/// Whether a host's name, in lower case, is one of this machine to itself.
#[must_use]
pub(crate) fn is_this_machine(name: &str) -> bool {
    let is_loopback = |address: IpAddr| address.is_loopback();
    name == "localhost" || name.parse().is_ok_and(is_loopback)
}

/// What to answer, and what to log about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The HTTP status.
    pub status: u16,
    /// What its log line says.
    pub message: Message,
    /// Why it was refused or failed.
    pub error_code: Option<ErrorCode>,
    /// The methods that this address takes, with 405.
    pub allow: Option<&'static str>,
    /// When to try again, in seconds.
    pub retry_after: Option<u64>,
    /// The origin whose pages may read this answer: one that the configuration lists.
    pub allow_origin: Option<Box<str>>,
    /// What the client reads.
    pub body: Body,
}

/// The body of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// Rendered JSON.
    Json(Cow<'static, str>),
    /// `{"error":"…","errorCode":"…","requestId":"…"}` with this text.
    Error(Cow<'static, str>),
    /// Prometheus' text format.
    Metrics(String),
    /// A page for people, or what belongs to one.
    Page(Box<Page>),
}

/// A page for people, or what belongs to one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// Its media type.
    pub kind: &'static str,
    /// Whole lines of the head, of which nothing is from outside.
    pub head: Cow<'static, str>,
    /// All of it.
    pub text: Cow<'static, str>,
}

impl Reply {
    /// A good answer of rendered JSON.
    #[must_use]
    pub fn json(status: u16, message: Message, json: impl Into<Cow<'static, str>>) -> Reply {
        Reply {
            status,
            message,
            error_code: None,
            allow: None,
            retry_after: None,
            allow_origin: None,
            body: Body::Json(json.into()),
        }
    }

    /// A refusal, `{"error":text,"errorCode":…,"requestId":…}`.
    #[must_use]
    pub(crate) fn error(status: u16, code: ErrorCode, text: impl Into<Cow<'static, str>>) -> Reply {
        Reply {
            error_code: Some(code),
            body: Body::Error(text.into()),
            ..Reply::json(status, Message::RequestRefused, "")
        }
    }

    /// The process is alive.
    #[must_use]
    pub fn healthy() -> Reply {
        Reply::json(200, Message::HealthServed, r#"{"status":"ok"}"#)
    }

    /// The metrics, in Prometheus' text format.
    pub(crate) fn metrics(text: String) -> Reply {
        Reply {
            body: Body::Metrics(text),
            ..Reply::healthy()
        }
    }

    /// `Host` is not a name of this machine.
    #[must_use]
    pub(crate) fn not_this_machine() -> Reply {
        Reply::error(421, ErrorCode::HostNotLocal, "Host is not this machine")
    }

    /// We have no such address.
    #[must_use]
    pub fn not_found() -> Reply {
        Reply::error(404, ErrorCode::NotFound, "Not found")
    }

    /// The address exists, for the methods in `allow` only (as in `GET, HEAD`).
    #[must_use]
    pub(crate) fn method_not_allowed(allow: &'static str) -> Reply {
        Reply {
            allow: Some(allow),
            ..Reply::error(405, ErrorCode::MethodNotAllowed, "Method not allowed")
        }
    }
}

/// The path of the health check.
pub(crate) const HEALTH: &str = "/healthz";
/// The path of the metrics.
pub(crate) const METRICS: &str = "/metrics";

/// What a server serves.
pub trait App: Send + Sync {
    /// The label by which requests for `path` are counted: one of a fixed list, or
    /// [`OTHER`](crate::http::metrics::OTHER).
    fn route(&self, path: &str) -> &'static str;

    /// What the log says of a request that is refused without further words, by the edge or by the app.
    fn refused(&self, _request: &Request<'_>) -> Message {
        Message::RequestRefused
    }

    /// Answers one request. `fields` are those of its log line, with the request id in place. A panic
    /// in here becomes a 500 and nothing worse.
    fn answer(&self, request: &Request<'_>, now: Now, fields: &mut LogFields) -> Reply;
}

/// An app, and what its answers need around them.
pub struct Http {
    app: Arc<dyn App>,
    counters: Arc<RequestCounters>,
    trusted_proxies: Vec<IpNet>,
    process: u64,
    requests: AtomicU64,
    turns: Turns,
}

impl Http {
    /// Puts `app` behind request ids, counters and log lines.
    ///
    /// # Errors
    /// The operating system has no random number for us.
    pub fn new(
        app: Arc<dyn App>,
        counters: Arc<RequestCounters>,
        trusted_proxies: Vec<IpNet>,
    ) -> io::Result<Http> {
        Ok(Http {
            app,
            counters,
            trusted_proxies,
            process: getrandom::u64()?,
            requests: AtomicU64::new(0),
            turns: Turns::default(),
        })
    }

    /// A request of `peer` without its body, which a server adds when it has read it.
    #[must_use]
    pub(crate) fn request<'a>(
        &self,
        method: &'a str,
        target: &'a str,
        headers: &'a [(&'a str, &'a str)],
        peer: Peer,
    ) -> Request<'a> {
        let (path, query) = match target.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (target, None),
        };
        let forwarded_for = header(headers, "x-forwarded-for");
        let (proxies, forwarded_for) = (&self.trusted_proxies, forwarded_for.as_deref());
        Request {
            method,
            path,
            query,
            body: &[],
            peer,
            client: client_address(peer, proxies, forwarded_for),
            client_is_unnamed: names_nobody(peer, proxies, forwarded_for),
            may_stay: false,
            headers,
        }
    }

    /// The requests that the app is working on.
    #[must_use]
    pub(crate) fn turns(&self) -> &Turns {
        &self.turns
    }

    /// Has the app answer, sends the answer with `send`, counts it and logs it. True: the answer says that
    /// the connection stays.
    pub(crate) fn serve(&self, request: &Request<'_>, send: impl FnOnce(&[u8])) -> bool {
        let answer = |now, fields: &mut LogFields| {
            let _turn = self.turns.begin();
            catch_unwind(AssertUnwindSafe(|| self.app.answer(request, now, fields)))
                .unwrap_or_else(|_| failed())
        };
        self.exchange(request, answer, send)
    }

    /// Sends the edge's own refusal of a request, or of what was meant to be one.
    pub(crate) fn refuse(&self, request: &Request<'_>, refusal: Reply, send: impl FnOnce(&[u8])) {
        self.exchange(request, |_, _| refusal, send);
    }

    fn exchange(
        &self,
        request: &Request<'_>,
        answer: impl FnOnce(Now, &mut LogFields) -> Reply,
        send: impl FnOnce(&[u8]),
    ) -> bool {
        let now = Now::read();
        let id = self.request_id(request);
        let mut fields = LogFields {
            request_id: Some(id.clone()),
            ..LogFields::default()
        };
        let reply = answer(now, &mut fields);
        let stays = request.may_stay && reply.status == 200;
        send(render(&reply, &id, request.method == "HEAD", stays).as_bytes());

        let took = Now::read().instant.duration_since(now.instant);
        let route = (!request.path.is_empty()).then(|| self.app.route(request.path));
        self.counters
            .count(route, request.method, reply.status, took);
        fields.request_id = Some(id);
        fields.status = Some(reply.status);
        fields.error_code = reply.error_code;
        let is_plain = reply.message == Message::RequestRefused;
        let message = if is_plain {
            self.app.refused(request)
        } else {
            reply.message
        };
        logger::write(message, &fields);
        stays
    }

    /// The id that a trusted proxy chose, if it is valid; otherwise our own next one.
    fn request_id(&self, request: &Request<'_>) -> RequestId {
        if request.peer.is_trusted(&self.trusted_proxies)
            && let Some(id) = request.header("x-request-id")
            && let Ok(id) = RequestId::parse(&id)
        {
            return id;
        }
        RequestId::numbered(self.process, self.requests.fetch_add(1, Relaxed))
    }
}

/// The answer to a request whose handler panicked.
fn failed() -> Reply {
    let text = "Internal error";
    Reply {
        message: Message::RequestFailed,
        ..Reply::error(500, ErrorCode::InternalError, text)
    }
}

fn header<'a>(headers: &[(&'a str, &'a str)], name: &str) -> Option<Cow<'a, str>> {
    let mut values = headers
        .iter()
        .filter(|(one, _)| one.eq_ignore_ascii_case(name))
        .map(|(_, value)| *value);
    let mut joined = Cow::Borrowed(values.next()?);
    for value in values {
        let joined = joined.to_mut();
        joined.push_str(", ");
        joined.push_str(value);
    }
    Some(joined)
}

/// The whole answer, head and body. Only a checked id in its head comes from outside.
fn render(reply: &Reply, id: &RequestId, without_body: bool, stays: bool) -> String {
    let id = id.as_str();
    let (content_type, body) = content(reply, id);
    let mut answer = String::with_capacity(HEAD_BYTES + body.len());
    let (status, reason, length) = (reply.status, reason(reply.status), body.len());
    let closing = if stays { "" } else { "Connection: close\r\n" };
    // Writing to a String cannot fail.
    let _ = write!(
        answer,
        "HTTP/1.1 {status} {reason}\r\n\
         Content-Type: {content_type}\r\n\
         Content-Length: {length}\r\n\
         {closing}x-request-id: {id}\r\n"
    );
    match &reply.body {
        Body::Page(page) => answer.push_str(&page.head),
        Body::Json(_) | Body::Error(_) | Body::Metrics(_) => {
            answer.push_str("Cache-Control: no-store\r\n");
            if reply.status == 401 {
                answer.push_str("WWW-Authenticate: Bearer\r\n");
            }
        }
    }
    if let Some(allow) = reply.allow {
        let _ = write!(answer, "Allow: {allow}\r\n");
    }
    if let Some(seconds) = reply.retry_after {
        let _ = write!(answer, "Retry-After: {seconds}\r\n");
    }
    if let Some(origin) = &reply.allow_origin {
        let _ = write!(
            answer,
            "Access-Control-Allow-Origin: {origin}\r\nVary: Origin\r\n"
        );
    }
    answer.push_str("\r\n");
    if !without_body {
        answer.push_str(&body);
    }
    answer
}

/// The body of an answer, and its type.
fn content<'r>(reply: &'r Reply, id: &str) -> (&'static str, Cow<'r, str>) {
    match &reply.body {
        Body::Json(json) => ("application/json", Cow::Borrowed(json.as_ref())),
        Body::Error(text) => {
            let text = serde_json::Value::from(text.as_ref());
            let code = reply.error_code.map(|code| code.to_string());
            let code = code.map_or(serde_json::Value::Null, serde_json::Value::from);
            let json = format!("{{\"error\":{text},\"errorCode\":{code},\"requestId\":\"{id}\"}}");
            ("application/json", Cow::Owned(json))
        }
        Body::Metrics(text) => ("text/plain; version=0.0.4", Cow::Borrowed(text.as_str())),
        Body::Page(page) => (page.kind, Cow::Borrowed(page.text.as_ref())),
    }
}

/// Room for the head of an answer, in bytes.
const HEAD_BYTES: usize = 384;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::metrics::OTHER;

    struct Echo;

    impl App for Echo {
        fn route(&self, _: &str) -> &'static str {
            OTHER
        }

        fn answer(&self, request: &Request<'_>, _: Now, fields: &mut LogFields) -> Reply {
            assert!(fields.request_id.is_some());
            assert!(request.path != "/panic", "canary@example.com");
            Reply::json(200, Message::RequestServed, "{}")
        }
    }

    fn http() -> Http {
        let proxies = vec!["127.0.0.0/8".parse().unwrap()];
        Http::new(
            Arc::new(Echo),
            Arc::new(RequestCounters::new(&[], &[])),
            proxies,
        )
        .unwrap()
    }

    fn peer(address: &str) -> Peer {
        Peer::Address(address.parse().unwrap())
    }

    fn served(http: &Http, request: &Request<'_>) -> String {
        let mut answer = Vec::new();
        http.serve(request, |bytes| answer.extend_from_slice(bytes));
        String::from_utf8(answer).unwrap()
    }

    #[test]
    fn an_incoming_request_id_is_kept_only_from_a_trusted_proxy_and_only_if_plain() {
        let http = http();
        let kept = |from: &str, id: &str| {
            let headers = [("X-Request-Id", id)];
            let request = http.request("GET", "/", &headers, peer(from));
            served(&http, &request).contains(&format!("x-request-id: {id}\r\n"))
        };
        assert!(kept("127.0.0.1", "proxy-0001"));
        assert!(!kept("203.0.113.7", "proxy-0001"));
        assert!(!kept("127.0.0.1", "short"));
        assert!(!kept("127.0.0.1", "with space"));
    }

    #[test]
    fn request_ids_differ() {
        let (one, two) = (http(), http());
        let request = one.request("GET", "/", &[], Peer::Unix);
        let ids = [&one, &one, &two].map(|http| http.request_id(&request));
        assert!(ids[0] != ids[1] && ids[0] != ids[2]);
    }

    #[test]
    fn a_header_sent_twice_is_one_joined_value() {
        let headers = [("A", "1"), ("b", "2"), ("a", "3")];
        let http = http();
        let request = http.request("GET", "/", &headers, Peer::Unix);
        assert_eq!(request.header("a").as_deref(), Some("1, 3"));
        assert_eq!(request.header("B").as_deref(), Some("2"));
        assert_eq!(request.header("c"), None);
    }

    #[test]
    fn the_query_is_not_part_of_the_path() {
        let http = http();
        let request = http.request("GET", "/a?b?c", &[], Peer::Unix);
        assert_eq!((request.path, request.query), ("/a", Some("b?c")));
    }

    #[test]
    fn a_request_without_a_path_is_counted_as_unread() {
        let http = http();
        served(&http, &http.request("GET", "/", &[], Peer::Unix));
        http.refuse(
            &http.request("", "", &[], Peer::Unix),
            Reply::not_found(),
            |_| {},
        );
        let text = http.counters.render();
        for labels in [
            r#"route="other",method="GET",status="200""#,
            r#"route="unread",method="other",status="404""#,
        ] {
            let line = format!("\npaidup_http_requests_total{{{labels}}} 1\n");
            assert!(text.contains(&line), "{text}");
        }
    }

    #[test]
    fn a_head_answer_has_the_length_and_not_the_body() {
        let http = http();
        let request = http.request("HEAD", "/", &[], Peer::Unix);
        let answer = served(&http, &request);
        assert!(answer.contains("Content-Length: 2\r\n") && answer.ends_with("\r\n\r\n"));
    }

    #[test]
    fn a_panic_is_a_500_that_says_nothing() {
        let http = http();
        let request = http.request("POST", "/panic", &[], Peer::Unix);
        let answer = served(&http, &request);
        assert!(answer.starts_with("HTTP/1.1 500 "), "{answer}");
        assert!(!answer.contains("canary"));
    }

    #[test]
    fn an_error_is_json_with_the_request_id() {
        let id = RequestId::parse("proxy-0001").unwrap();
        let reply = Reply::error(404, ErrorCode::NotFound, "say \"no\"");
        let answer = render(&reply, &id, false, false);
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        assert_eq!(
            body,
            r#"{"error":"say \"no\"","errorCode":"not_found","requestId":"proxy-0001"}"#
        );
        assert!(answer.contains(&format!("Content-Length: {}\r\n", body.len())));
    }
}
