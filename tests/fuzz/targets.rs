//! What each fuzz target does with its bytes: drives a reader of outside text and asserts what the
//! domain promises of it. `tests/corpus.rs` replays the committed corpora through these functions
//! with the stable toolchain; `fuzz_targets/` hands them to libFuzzer.

use std::ffi::OsString;
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use paidup::base::id::{OrderId, UnixSeconds};
use paidup::base::secret::Secret;
use paidup::command::table;
use paidup::config::env_file;
use paidup::http::head::{self, HEADERS_MAX, Head};
use paidup::http::peer::{Peer, client_address};
use paidup::truth::event::{Event, Meaning};
use paidup::truth::fact::Fact;
use paidup::truth::order::State;
use paidup::truth::payment::Payment;
use paidup::truth::reading::Reading;
use paidup::truth::signature::{SignatureError, SigningSecret, verify};

/// A target: its name, which is that of its corpus, and what it does with an input.
pub(crate) type Target = (&'static str, fn(&[u8]));

/// Every target.
pub(crate) const TARGETS: [Target; 6] = [
    ("request_head", request_head),
    ("signature", signature),
    ("event", event),
    ("env_file", env_file),
    ("forwarded_for", forwarded_for),
    ("command_line", command_line),
];

/// A head that the edge accepts has one meaning under the strict reading of RFC 9112, and that
/// meaning is the edge's.
pub(crate) fn request_head(bytes: &[u8]) {
    const BODY_MAX_BYTES: usize = 1 << 20;
    let Ok(Some(end)) = head::find_end(bytes, 0) else {
        return;
    };
    let mut headers = [("", ""); HEADERS_MAX];
    let Ok(head) = Head::parse(&bytes[..end], &mut headers) else {
        return;
    };
    let Ok(framing) = head.framing(BODY_MAX_BYTES) else {
        return;
    };
    let text = std::str::from_utf8(&bytes[..end]).expect("a head is ASCII");
    let text = text.strip_suffix("\r\n\r\n").expect("it ends blank");
    let mut lines = text.split("\r\n");
    let words: Vec<&str> = lines.next().unwrap().split(' ').collect();
    let &[method, target, version] = words.as_slice() else {
        panic!("three words, one blank between: {words:?}");
    };
    assert_eq!((method, target), (head.method, head.target));
    assert!(matches!(version, "HTTP/1.0" | "HTTP/1.1"), "{version}");
    assert!(!text.replace("\r\n", "").contains(['\r', '\n', '\0']));
    let read: Vec<(&str, &str)> = lines.map(header_line).collect();
    assert_eq!(read, head.headers);
    let sent = |name: &str| {
        let same = |(one, _): &&(&str, &str)| one.eq_ignore_ascii_case(name);
        read.iter().filter(same).collect::<Vec<_>>()
    };
    assert!(sent("transfer-encoding").is_empty(), "only one framing");
    assert!(sent("host").len() == 1 || (sent("host").is_empty() && version == "HTTP/1.0"));
    match sent("content-length").as_slice() {
        [] => assert_eq!(framing.length, 0),
        [(_, length)] => {
            assert!(length.bytes().all(|byte| byte.is_ascii_digit()));
            assert_eq!(length.parse(), Ok(framing.length));
        }
        more => panic!("{} lengths", more.len()),
    }
    assert!(framing.length <= BODY_MAX_BYTES);
}

/// RFC 9112, section 5: a name of token characters, a colon at once, a value without its blanks.
fn header_line(line: &str) -> (&str, &str) {
    let (name, value) = line.split_once(':').expect("a colon");
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    assert!(!name.is_empty() && name.bytes().all(is_token), "{name:?}");
    (name, value.trim_matches([' ', '\t']))
}

/// Input: a header, a line end, a body. Any header is judged as a plain reading judges it; what we
/// sign verifies, and with one bit flipped it does not.
pub(crate) fn signature(bytes: &[u8]) {
    const NOW: UnixSeconds = UnixSeconds(1_793_000_000);
    let (header, body) = match bytes.iter().position(|byte| *byte == b'\n') {
        Some(at) => (&bytes[..at], &bytes[at + 1..]),
        None => (bytes, &[][..]),
    };
    let secrets = ["whsec_old", "whsec_new"].map(|text| SigningSecret::new(&Secret::new(text)));
    if let Ok(header) = std::str::from_utf8(header) {
        let judged = verify(Some(header), body, &secrets, NOW, 300);
        match plain_reading(header, body, &secrets) {
            None => assert_eq!(judged.err(), Some(SignatureError::Malformed)),
            Some((_, false)) => assert_eq!(judged.err(), Some(SignatureError::NoMatch)),
            Some((at, true)) if NOW.0 - at > 300 => {
                let age_seconds = NOW.0 - at;
                assert_eq!(judged.err(), Some(SignatureError::TooOld { age_seconds }));
            }
            Some((_, true)) => assert_eq!(judged.expect("signed").bytes(), body),
        }
    }
    for secret in &secrets {
        let header = secret.sign(body, NOW);
        assert!(verify(Some(&header), body, &secrets, NOW, 300).is_ok());
        let mut other = body.to_vec();
        let bit = header.bytes().map(usize::from).sum::<usize>() % (8 * body.len()).max(1);
        match other.get_mut(bit / 8) {
            Some(byte) => *byte ^= 1 << (bit % 8),
            None => other.push(b' '),
        }
        let judged = verify(Some(&header), &other, &secrets, NOW, 300);
        assert_eq!(judged.err(), Some(SignatureError::NoMatch));
    }
}

/// The header's time and whether one of our signatures at that time is in it, by comparing text.
fn plain_reading(header: &str, body: &[u8], secrets: &[SigningSecret]) -> Option<(i64, bool)> {
    let items = || header.split(',').map(|item| item.trim_matches(BLANKS));
    let times: Vec<&str> = items().filter_map(|item| item.strip_prefix("t=")).collect();
    let &[time] = times.as_slice() else {
        return None;
    };
    let at: i64 = time.parse().ok()?;
    if at.to_string() != time || !(1..1_000_000_000_000).contains(&at) {
        return None;
    }
    let is_hex = |tag: &&str| tag.len() == 64 && tag.bytes().all(|byte| byte.is_ascii_hexdigit());
    let tags = items().filter_map(|item| item.strip_prefix("v1="));
    let tags: Vec<String> = tags
        .filter(is_hex)
        .map(str::to_ascii_lowercase)
        .take(32)
        .collect();
    let is_ours = |secret: &SigningSecret| {
        let ours = secret.sign(body, UnixSeconds(at));
        tags.iter().any(|tag| ours.ends_with(tag))
    };
    (!tags.is_empty()).then(|| (at, secrets.iter().any(is_ours)))
}

/// What `trim_ascii` takes for a blank.
const BLANKS: [char; 5] = [' ', '\t', '\n', '\r', '\x0c'];

/// Input: event documents, one a line. Their facts, joined in any order and any number of times,
/// tell the same payment and the same order, and that payment survives the database's JSON.
pub(crate) fn event(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let mut facts: Vec<Fact> = Vec::new();
    for line in text.lines().take(8) {
        if let Ok(event) = Event::from_json(line, &Reading::default()) {
            assert!(!event.kind.is_empty());
            match event.meaning {
                Meaning::Fact(fact) => facts.push(*fact),
                Meaning::Ignored(_) => {}
            }
        }
    }
    if facts.is_empty() {
        return;
    }
    let forwards = joined(facts.iter());
    let backwards = joined(facts.iter().rev());
    let twice = joined(facts.iter().chain(&facts));
    let (left, right) = facts.split_at(facts.len() / 2);
    let mut merged = joined(right.iter());
    merged.join(joined(left.iter()));
    assert_eq!(forwards, backwards);
    assert_eq!(forwards, twice);
    assert_eq!(forwards, merged);
    let stored = serde_json::to_string(&forwards).expect("a payment is JSON");
    let read: Payment = serde_json::from_str(&stored).expect("and is read again");
    assert_eq!(read, forwards);

    let name = forwards.own_name();
    let name = name.unwrap_or_else(|| OrderId::stored("ord_1".to_owned()));
    let state = State::of(&name, &[forwards]);
    assert_eq!(state, State::of(&name, &[read]));
    if state.status.is_paid() && state.amount >= 0 {
        assert!((0..=state.amount).contains(&state.refunded), "{state:?}");
    }
    assert!(state.news(Some(&state)).is_empty());
}

fn joined<'a>(facts: impl Iterator<Item = &'a Fact>) -> Payment {
    let mut payment = Payment::default();
    for fact in facts {
        payment.learn(fact.clone());
    }
    payment
}

/// Reading never panics; a value that was put in is read back, and nothing else has changed.
pub(crate) fn env_file(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let (vars, problems) = env_file::parse(text);
    for problem in &problems {
        assert!((1..=text.lines().count() + 1).contains(&problem.line));
    }
    for name in vars.keys().map(String::as_str).chain(["ABSENT_NAME"]) {
        let Some(changed) = env_file::with_value(text, name, "new-value_1") else {
            continue;
        };
        let mut wanted = vars.clone();
        wanted.insert(name.to_owned(), "new-value_1".to_owned());
        assert_eq!(env_file::parse(&changed).0, wanted);
        let again = env_file::with_value(&changed, name, "new-value_1");
        assert_eq!(again.as_deref(), Some(&*changed));
    }
}

/// Input: the networks of trusted proxies, separated by commas, a line end, `X-Forwarded-For`. A
/// stranger is itself whatever it sends; behind a proxy, what strangers put in front changes nothing.
pub(crate) fn forwarded_for(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let (proxies, forwarded_for) = text.split_once('\n').unwrap_or(("", text));
    let proxies: Vec<IpNet> = proxies
        .split(',')
        .filter_map(|net| net.parse().ok())
        .collect();
    let proxies: Vec<IpNet> = proxies.into_iter().take(8).collect();
    let is_trusted = |address: IpAddr| proxies.iter().any(|net| net.contains(&address));
    for peer in ["127.0.0.1:1", "203.0.113.7:1", "[::ffff:10.0.0.1]:1"] {
        let peer: SocketAddr = peer.parse().unwrap();
        let address = peer.ip().to_canonical();
        let client = client_address(Peer::tcp(peer), &proxies, Some(forwarded_for));
        assert_eq!(client, client.to_canonical());
        if !is_trusted(address) {
            assert_eq!(client, address);
        } else if !is_trusted(client) {
            let longer = format!("192.0.2.1, {forwarded_for}");
            let again = client_address(Peer::tcp(peer), &proxies, Some(&longer));
            assert_eq!(again, client);
        }
    }
}

/// Input: words, one a line. They make a command or an error that says where to read on, and what
/// it names has help.
pub(crate) fn command_line(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    match table::parse(text.split('\n').map(OsString::from)) {
        Ok(invocation) => {
            if invocation.command == "help" {
                let mut shown = Vec::new();
                invocation.run(&mut shown).expect("help");
                assert!(!shown.is_empty(), "{text:?}");
            }
        }
        Err(error) => {
            let shown = error.to_string();
            let (_, topic) = shown
                .rsplit_once("\nRead: paidup help")
                .expect("where to read");
            assert!(!table::help(topic.trim_start()).is_empty(), "{shown}");
            assert!(
                !shown.contains(|c: char| c.is_control() && c != '\n'),
                "{shown:?}"
            );
        }
    }
}
