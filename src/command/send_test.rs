//! `paidup send-test`: makes events, signs them, posts them, and says what came back and what it
//! means.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use serde_json::Value;

use crate::base::id::{OrderId, UnixSeconds};
use crate::base::plain;
use crate::base::secret::Secret;
use crate::command::exit::{Exit, Failure};
use crate::command::sample::{Document, SamplePayment, Told};
use crate::config::Address;
use crate::config::serve::Config;
use crate::host::clock::Now;
use crate::truth::money;
use crate::truth::signature::SigningSecret;

/// What to send, and where to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Event types, in this order; the usual one when there are none.
    pub types: Vec<&'static str>,
    /// The order; a new one if none is given.
    pub order: Option<OrderId>,
    /// In minor units.
    pub amount: i64,
    /// Three lower-case letters.
    pub currency: String,
    /// Where to; the configured listener if none is given.
    pub url: Option<String>,
    /// A whole life instead of `types`.
    pub all: bool,
    /// How often each event is sent.
    pub copies: u32,
    /// In a random order.
    pub shuffle: bool,
    /// Signed with another secret.
    pub forged: bool,
    /// Signed too long ago.
    pub stale: bool,
}

/// Where Stripe is told to send.
pub const WEBHOOK_PATH: &str = "/stripe/webhook";
/// The type that is sent when none is given.
const USUAL_TYPE: &str = "checkout.session.completed";
/// What a delivery may take. Stripe does not publish its own limit; it is of this order.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Ours has about 100 bytes. Another server's may be anything.
const ANSWER_MAX_BYTES: u64 = 64 * 1024;
/// How much of a stranger's answer is shown, in characters.
const SHOWN_MAX_CHARS: usize = 60;

/// Sends what `options` say, signed with the first secret of `config`, and tells what came back.
///
/// # Errors
/// [`Failure`] when there is no address to send to, or the output cannot be written. An answer that
/// is not as expected is no error but [`Exit::Failed`].
pub fn run(options: &Options, config: &Config, out: &mut dyn Write) -> Result<Exit, Failure> {
    let url = match &options.url {
        Some(url) => url.clone(),
        None => url_of(&config.listen)?,
    };
    let order = match &options.order {
        Some(order) => order.as_str().to_owned(),
        None => format!("test_{:08x}", random()? >> 32),
    };
    let payment = SamplePayment::new(
        &order,
        options.amount,
        &options.currency,
        &config.api_version,
    );
    let tells = tells(options, &payment);
    let deliveries = deliveries(&tells, options, &payment, Now::read().unix)?;
    let signer = signer(options, config)?;
    let amount = money::written(options.amount, Some(&options.currency));
    writeln!(
        out,
        "Test order {}, {amount}, to {}",
        plain::text(&order),
        plain::text(&url)
    )?;

    let sender = Sender::new(&url);
    let expected = if options.forged || options.stale {
        400
    } else {
        200
    };
    let mut accepted = BTreeSet::new();
    let mut report = Report {
        order: &order,
        url: &url,
        expected,
        hints: Vec::new(),
    };
    let mut is_as_expected = true;
    for document in &deliveries {
        // Signed now, not all at once: a long run must not grow too old.
        let signed_at = if options.stale {
            UnixSeconds(Now::read().unix.0 - config.tolerance_seconds - 60)
        } else {
            Now::read().unix
        };
        let answer = sender.post(document, &signer.sign(document.text.as_bytes(), signed_at));
        write_row(document, &answer, out)?;
        let was_sent_before = accepted.contains(&document.id);
        is_as_expected &= report.judge(&answer, was_sent_before);
        if let Ok(answer) = &answer
            && answer.status == 200
        {
            accepted.insert(document.id.clone());
        }
    }
    writeln!(out)?;
    for hint in &report.hints {
        writeln!(out, "{hint}")?;
    }
    Ok(if is_as_expected {
        Exit::Done
    } else {
        Exit::Failed
    })
}

/// Posts signed documents to one address, as Stripe would: no redirect is followed.
pub struct Sender {
    agent: ureq::Agent,
    url: String,
}

/// What came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The outcome, with the reason if it has one, or the error, in a few words.
    pub word: String,
    /// The answer's `x-request-id`, which its log lines have too.
    pub request_id: Option<String>,
    /// How long it took.
    pub took: Duration,
}

impl Sender {
    /// Sends to `url`. Proxies of the environment are not used: what is tested is this server.
    #[must_use]
    pub fn new(url: &str) -> Sender {
        let config = ureq::Agent::config_builder()
            .timeout_global(Some(TIMEOUT))
            .max_redirects(0)
            .max_redirects_will_error(false)
            .http_status_as_error(false)
            .proxy(None)
            .max_idle_connections(0)
            .user_agent(concat!(
                "paidup/",
                env!("CARGO_PKG_VERSION"),
                " (send-test)"
            ))
            .build();
        Sender {
            agent: config.new_agent(),
            url: url.to_owned(),
        }
    }

    /// Posts one document with its `Stripe-Signature`.
    ///
    /// # Errors
    /// What the network said when there was no answer.
    pub fn post(&self, document: &Document, signature: &str) -> Result<Answer, ureq::Error> {
        let from = Now::read().instant;
        let request = self
            .agent
            .post(&self.url)
            .header("content-type", "application/json; charset=utf-8")
            .header("stripe-signature", signature)
            // What a proxy would say of us; without it we are taken for a proxy that names nobody.
            .header("x-forwarded-for", "127.0.0.1");
        let mut response = request.send(&document.text)?;
        let status = response.status().as_u16();
        let header = response.headers().get("x-request-id");
        let request_id = header.and_then(|id| id.to_str().ok()).map(plain::text);
        let body = response
            .body_mut()
            .with_config()
            .limit(ANSWER_MAX_BYTES)
            .read_to_string();
        let took = Now::read().instant.duration_since(from);
        Ok(Answer {
            status,
            word: word_of(&body.unwrap_or_default()),
            request_id,
            took,
        })
    }
}

/// `200 applied`, `400 Invalid signature`, `no answer`, then how long it took.
#[must_use]
pub fn outcome_and_time(answer: &Result<Answer, ureq::Error>) -> String {
    match answer {
        Ok(answer) => {
            let millis = answer.took.as_secs_f64() * 1000.0;
            let outcome = format!("{} {}", answer.status, answer.word);
            format!("{outcome:<21} {millis:>6.1} ms")
        }
        Err(_) => "no answer".to_owned(),
    }
}

/// What each event is to tell.
fn tells(options: &Options, payment: &SamplePayment) -> Vec<(&'static str, Told)> {
    if options.all {
        return payment.life();
    }
    let usual = [USUAL_TYPE];
    let types = if options.types.is_empty() {
        &usual[..]
    } else {
        &options.types
    };
    types
        .iter()
        .map(|kind| (*kind, payment.usual(kind)))
        .collect()
}

/// The documents in the order in which they are sent, each as often as it is to be.
fn deliveries(
    tells: &[(&'static str, Told)],
    options: &Options,
    payment: &SamplePayment,
    now: UnixSeconds,
) -> Result<Vec<Document>, Failure> {
    let mut documents = Vec::new();
    for (kind, told) in tells {
        let document = payment.event(kind, *told, now, random()?);
        documents.extend((0..options.copies).map(|_| document.clone()));
    }
    if options.shuffle {
        // Sorting by random keys: each order is as likely as any other.
        let mut keyed = Vec::new();
        for document in documents {
            keyed.push((random()?, document));
        }
        keyed.sort_by_key(|(key, _)| *key);
        documents = keyed.into_iter().map(|(_, document)| document).collect();
    }
    Ok(documents)
}

/// What signs: the first configured secret, since any of them must be accepted.
fn signer(options: &Options, config: &Config) -> Result<SigningSecret, Failure> {
    let foreign = Secret::new(&format!("whsec_{:016x}{:016x}", random()?, random()?));
    let secret = if options.forged {
        None
    } else {
        config.webhook_secrets.first()
    };
    Ok(SigningSecret::new(secret.unwrap_or(&foreign)))
}

fn random() -> Result<u64, Failure> {
    getrandom::u64()
        .map_err(|error| Failure::Other(format!("The system gives no random numbers: {error}.")))
}

/// Where a server that listens on `address` is reached from this machine.
fn url_of(address: &Address) -> Result<String, Failure> {
    match address {
        Address::Tcp(address) => {
            let ip = match address.ip() {
                IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
                IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
                ip @ (IpAddr::V4(_) | IpAddr::V6(_)) => ip,
            };
            Ok(format!(
                "http://{}{WEBHOOK_PATH}",
                SocketAddr::new(ip, address.port())
            ))
        }
        Address::Unix(path) => Err(Failure::Other(format!(
            "LISTEN_ADDR is the Unix socket {}, which a proxy serves. Say where the proxy is reached: \
             --url https://shop.example.com{WEBHOOK_PATH}",
            path.display()
        ))),
    }
}

/// Our own answers in their words, a stranger's by its beginning.
fn word_of(body: &str) -> String {
    let value: Value = serde_json::from_str(body).unwrap_or_default();
    let text = |name: &str| value.get(name).and_then(Value::as_str);
    let word = match (text("outcome"), text("reason"), text("error")) {
        (Some(outcome), Some(reason), _) => format!("{outcome} ({reason})"),
        (Some(outcome), None, _) => outcome.to_owned(),
        (None, _, Some(error)) => error.to_owned(),
        (None, _, None) => body.lines().next().unwrap_or_default().to_owned(),
    };
    plain::text(&word).chars().take(SHOWN_MAX_CHARS).collect()
}

fn write_row(
    document: &Document,
    answer: &Result<Answer, ureq::Error>,
    out: &mut dyn Write,
) -> io::Result<()> {
    let request = answer
        .as_ref()
        .ok()
        .and_then(|answer| answer.request_id.as_deref());
    let request = request.map_or_else(String::new, |id| format!("  request {id}"));
    writeln!(
        out,
        "  {:<40} {}  {}{request}",
        document.kind,
        outcome_and_time(answer),
        document.id
    )
}

/// Judges answers and gathers what they mean, each meaning once.
struct Report<'a> {
    order: &'a str,
    url: &'a str,
    expected: u16,
    hints: Vec<String>,
}

impl Report<'_> {
    /// Whether the answer is as expected.
    fn judge(&mut self, answer: &Result<Answer, ureq::Error>, was_sent_before: bool) -> bool {
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => {
                self.hint(no_answer(self.url, error));
                return false;
            }
        };
        self.hint(self.meaning(answer));
        let is_repeat = answer.word == "duplicate";
        answer.status == self.expected && (!was_sent_before || is_repeat)
    }

    fn hint(&mut self, hint: String) {
        if !self.hints.contains(&hint) {
            self.hints.push(hint);
        }
    }

    fn meaning(&self, answer: &Answer) -> String {
        let log = "its requestId is in the log, with the errorCode: journalctl -u paidup";
        match (answer.status, answer.word.as_str()) {
            (200, _) if self.expected == 400 => {
                "200: the server ACCEPTED an event that it must refuse. Whatever listens there does not \
                 verify signatures: forged payments would count."
                    .to_owned()
            }
            (400, _) if self.expected == 400 => {
                "400: refused, as it must be.".to_owned()
            }
            (200, "applied") => format!(
                "applied: it told something new of the order. Read its story: paidup orders show {}",
                plain::text(self.order)
            ),
            (200, "duplicate") => "duplicate: it was known already, and nothing changed.".to_owned(),
            (200, "parked") => {
                "parked: kept until an event tells which order it is about, such as \
                 checkout.session.completed of the same order."
                    .to_owned()
            }
            (200, "ignored (mode)") => {
                "ignored (mode): the shop is live and this is a test event, so no order was made or changed. \
                 The way there and the secret are right: the signature was verified first."
                    .to_owned()
            }
            (200, _) => "200: accepted.".to_owned(),
            (400, _) => format!(
                "400: the server did not believe the signature. Either it runs with another \
                 STRIPE_WEBHOOK_SECRET than the one used here (restart it after a change, or give its file \
                 with --env-file), or a proxy changes the body, or the clocks differ; {log}"
            ),
            (301..=308, _) => {
                "A redirect. Stripe does not follow it: register the address that it leads to.".to_owned()
            }
            (404 | 405, _) => {
                format!("{}: nothing takes webhooks there. The path is {WEBHOOK_PATH}.", answer.status)
            }
            (413, _) => "413: the body is too large for the proxy (client_max_body_size) or for \
                         BODY_MAX_BYTES."
                .to_owned(),
            (429, _) => {
                "429: more requests than RATE_LIMIT_WEBHOOK_MAX a minute. Wait a minute, or add this \
                 machine to RATE_LIMIT_WEBHOOK_EXEMPT; behind a proxy, look at TRUSTED_PROXIES."
                    .to_owned()
            }
            (502 | 504, _) => format!(
                "{}: the proxy does not reach paidup. Is it running, on the address that the proxy has?",
                answer.status
            ),
            (503, _) => format!("503: not stored, Stripe would retry. Run `paidup check`; {log}"),
            (status, _) => format!("{status}: not as expected; {log}"),
        }
    }
}

/// What a missing answer means.
fn no_answer(url: &str, error: &ureq::Error) -> String {
    let url = plain::text(url);
    let said = plain::text(&error.to_string());
    if let ureq::Error::Io(error) = error
        && error.kind() == io::ErrorKind::ConnectionRefused
    {
        return format!(
            "Nothing listens at {url}. Is `paidup serve` running, with this LISTEN_ADDR? \
             `systemctl status paidup` and `ss -ltn` tell."
        );
    }
    if let ureq::Error::Timeout(_) = error {
        return format!(
            "No answer from {url} within {} s. A firewall that drops packets, or a server that hangs.",
            TIMEOUT.as_secs()
        );
    }
    format!("No answer from {url}: {said}.")
}
