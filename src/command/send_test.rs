//! `paidup send-test`: makes events, signs them, posts them, and says what the answers mean.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write};
use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};

use crate::base::id::{OrderId, UnixSeconds};
use crate::base::near::nearest;
use crate::base::plain;
use crate::base::secret::Secret;
use crate::command::environment::{Environment, all_of};
use crate::command::exit::{Exit, Failure};
use crate::command::sample::{Details, Document, SamplePayment};
use crate::command::words::{CliOption, Command, ENV_FILE, UsageError, Words, does};
use crate::config::Address;
use crate::config::serve::Config;
use crate::config::stripe::WEBHOOK_PATH;
use crate::host::clock::Now;
use crate::http::loopback;
use crate::stripe::client::cause;
use crate::stripe::error::{Cause, Unreachable};
use crate::truth::kind::{KINDS, Kind};
use crate::truth::money;
use crate::truth::signature::SigningSecret;

pub(crate) const COMMAND: Command = Command {
    name: "send-test",
    arguments: "[TYPE...]",
    summary: "Send signed test events to a running server and say what came back",
    details: "Makes events as Stripe would, signs them with the (first) configured signing secret and posts\n\
              them: proof that the server runs, can be reached and has this secret. TYPE is one of the\n\
              types that paidup knows; checkout.session.completed unless given. The events of one order\n\
              belong to one payment, even over several runs with the same --order.\n\
              It creates a test order, which is an order like any other. Never name a customer's order: it\n\
              would count as paid again. All events are in test mode: in a live shop they change nothing.",
    options: &[
        CliOption {
            name: "order",
            value: "ID",
            help: "the order; a new one, test_..., unless given",
        },
        CliOption {
            name: "amount",
            value: "N",
            help: "in minor units; 2500 unless given",
        },
        CliOption {
            name: "currency",
            value: "CODE",
            help: "eur unless given",
        },
        CliOption {
            name: "url",
            value: "URL",
            help: "where to; LISTEN_ADDR/stripe/webhook unless given",
        },
        CliOption {
            name: "all",
            value: "",
            help: "an order's life: declined, paid, refunded in part, disputed, won, refund failed",
        },
        CliOption {
            name: "duplicate",
            value: "N",
            help: "send every event N times, as Stripe may",
        },
        CliOption {
            name: "shuffle",
            value: "",
            help: "send in random order, as Stripe may",
        },
        CliOption {
            name: "forged",
            value: "",
            help: "sign with another secret: must be refused",
        },
        CliOption {
            name: "stale",
            value: "",
            help: "sign with an old time: must be refused",
        },
        ENV_FILE,
    ],
    exits: &[Exit::Done, Exit::Failed, Exit::Usage, Exit::Configuration],
    examples: &[
        "paidup send-test",
        "paidup send-test checkout.session.completed charge.refunded --order test_1 --amount 1999",
        "paidup send-test --all --shuffle --duplicate 2",
        "paidup send-test --url https://shop.example.com/stripe/webhook",
    ],
    run: |words| {
        let options = Options::read(words)?;
        does(move |env_file, out| {
            let config = Environment::read(env_file)?.config();
            run(&options, &config.map_err(|errors| all_of(&errors))?, out)
        })
    },
};

/// What to send, and where to.
#[derive(Debug, PartialEq, Eq)]
struct Options {
    /// Event types, in this order; the usual one when there are none.
    types: Vec<&'static str>,
    /// The order; a new one if none is given.
    order: Option<OrderId>,
    /// In minor units.
    amount: i64,
    /// Three lower-case letters.
    currency: String,
    /// Where to; the configured listener if none is given.
    url: Option<String>,
    /// A whole life instead of `types`.
    all: bool,
    /// How often each event is sent.
    copies: u32,
    /// In a random order.
    shuffle: bool,
    /// Signed with another secret.
    forged: bool,
    /// Signed too long ago.
    stale: bool,
}

impl Options {
    fn read(words: &Words) -> Result<Options, UsageError> {
        let order = words.value("order").map(OrderId::parse).transpose();
        let order = order.map_err(|bad| words.error(format!("--order: {bad}")))?;
        let currency = words
            .value("currency")
            .unwrap_or("eur")
            .to_ascii_lowercase();
        if currency.len() != 3 || !currency.bytes().all(|byte| byte.is_ascii_lowercase()) {
            return Err(words.error("--currency is a code of three letters, such as eur"));
        }
        if words.has("all") && !words.arguments().is_empty() {
            return Err(words.error("--all sends its own types: leave out either"));
        }
        if words.has("forged") && words.has("stale") {
            return Err(words.error("--forged or --stale, not both"));
        }
        let types = words.arguments().iter().map(|word| event_type(word, words));
        Ok(Options {
            types: types.collect::<Result<_, _>>()?,
            order,
            amount: words.number("amount", &AMOUNT_RANGE, 2500)?,
            currency,
            url: words.value("url").map(str::to_owned),
            all: words.has("all"),
            copies: words.number("duplicate", &COPIES_RANGE, 1)?,
            shuffle: words.has("shuffle"),
            forged: words.has("forged"),
            stale: words.has("stale"),
        })
    }
}

fn event_type(word: &str, words: &Words) -> Result<&'static str, UsageError> {
    let known = Kind::find(word).map(|kind| kind.name);
    known.ok_or_else(|| {
        let near = nearest(word, KINDS.iter().map(|kind| kind.name.to_owned()));
        words.error(format!("there is no type {:?}{near}", plain::text(word)))
    })
}

/// Stripe takes amounts of up to eight digits: <https://docs.stripe.com/currencies>.
const AMOUNT_RANGE: RangeInclusive<i64> = 1..=99_999_999;
/// How often one event may be sent.
const COPIES_RANGE: RangeInclusive<u32> = 1..=100;
/// The type that is sent when none is given.
const USUAL_TYPE: &str = "checkout.session.completed";
/// What a delivery may take. Stripe does not publish its own limit; it is about this.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Ours has about 100 bytes. Another server's may be anything.
const ANSWER_MAX_BYTES: u64 = 64 * 1024;
/// How much of a stranger's answer is shown, in characters.
const SHOWN_MAX_CHARS: usize = 60;

/// Sends what `options` say, signed with the first secret of `config`, and tells what came back.
///
/// # Errors
/// [`Failure`] when nobody answers at the configured Unix socket, or the output cannot be written.
/// An answer that is not as expected is no error but [`Exit::Failed`].
fn run(options: &Options, config: &Config, out: &mut dyn Write) -> Result<Exit, Failure> {
    let sender = match &options.url {
        Some(url) => Target::to_url(url),
        None => Target::Here(config.listen.clone()),
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
    let deliveries = deliveries(options, &payment, Now::read().unix)?;
    let signer = signer(options, config)?;
    let mut report = Report::new(&order, sender.place(), options);
    let amount = money::written(options.amount, Some(&options.currency));
    let (order, place) = (plain::text(&order), &report.place);
    writeln!(out, "Test order {order}, {amount}, to {place}")?;

    let age = if options.stale {
        config.tolerance_seconds + 60
    } else {
        0
    };
    for document in &deliveries {
        // Signed now, not all at once: a long run must not grow too old.
        let signed_at = UnixSeconds(Now::read().unix.0 - age);
        let answer = sender.post(document, &signer.sign(document.text.as_bytes(), signed_at));
        if let (Target::Here(Address::Unix(path)), Err(error)) = (&sender, &answer) {
            return Err(no_answer_at(path, error));
        }
        write_row(document, &answer, out)?;
        report.judge(document, &answer);
    }
    report.write(out)
}

/// Posts signed documents to one place, as Stripe would: no redirect is followed.
pub(crate) enum Target {
    /// A server on this machine.
    Here(Address),
    /// Whatever has this URL, perhaps by way of a proxy and over TLS.
    Url(ureq::Agent, String),
}

/// What came back.
pub(crate) struct Verdict {
    /// The HTTP status.
    pub(crate) status: u16,
    /// The outcome, with the reason if it has one, or the error, in a few words.
    pub(crate) word: String,
    /// The answer's `x-request-id`, which its log lines have too.
    request_id: Option<String>,
    /// How long it took.
    took: Duration,
}

impl Target {
    /// Proxies of the environment are not used: what is tested is this server.
    fn to_url(url: &str) -> Target {
        let config = ureq::Agent::config_builder()
            .timeout_global(Some(TIMEOUT))
            .max_redirects(0)
            .max_redirects_will_error(false)
            .http_status_as_error(false)
            .proxy(None)
            .max_idle_connections(0)
            .tls_config(TlsConfig::builder().root_certs(machine_roots()).build())
            .user_agent(concat!(
                "paidup/",
                env!("CARGO_PKG_VERSION"),
                " (send-test)"
            ))
            .build();
        Target::Url(config.new_agent(), url.to_owned())
    }

    /// The place, in words.
    fn place(&self) -> String {
        match self {
            Target::Here(Address::Tcp(address)) => format!("http://{address}{WEBHOOK_PATH}"),
            Target::Here(address @ Address::Unix(_)) => plain::text(&address.to_string()),
            Target::Url(_, url) => plain::text(url),
        }
    }

    /// Posts one document with its `Stripe-Signature`.
    ///
    /// # Errors
    /// What the network said when there was no answer.
    pub(crate) fn post(&self, document: &Document, signature: &str) -> io::Result<Verdict> {
        let from = Now::read().instant;
        let answer = match self {
            Target::Here(address) => {
                loopback::post(address, WEBHOOK_PATH, (signature, &document.text), TIMEOUT)
            }
            Target::Url(agent, url) => post_to_url(agent, url, &document.text, signature),
        }?;
        Ok(Verdict {
            status: answer.status,
            word: word_of(&answer.body),
            request_id: answer.request_id.as_deref().map(plain::text),
            took: Now::read().instant.duration_since(from),
        })
    }
}

/// Where systems keep the certificates that they trust, one of their own making among them: Debian, Fedora,
/// Alpine.
const BUNDLES: [&str; 3] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
];

/// What this machine trusts; what the web trusts where that is not to be found.
fn machine_roots() -> RootCerts {
    let bundle = BUNDLES.iter().find_map(|path| fs::read(path).ok());
    let items = parse_pem(bundle.as_deref().unwrap_or_default());
    let certificates: Vec<_> = items
        .filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(certificate),
            Ok(_) | Err(_) => None,
        })
        .collect();
    match certificates.is_empty() {
        true => RootCerts::WebPki,
        false => RootCerts::from(certificates),
    }
}

/// What to do about a server that this machine does not trust.
const UNTRUSTED: &str = "its certificate is not trusted by this machine. For a test host with a certificate of its \
    own making: copy the one that signed it to /usr/local/share/ca-certificates/NAME.crt and run \
    `sudo update-ca-certificates`";

/// The same about one whose signer is known, or of which nothing was seen.
const BROKEN_TLS: &str = "TLS with it fails, and Stripe's would as well: look at the names and the dates of its \
    certificate, and whether TLS is spoken there at all";

fn post_to_url(
    agent: &ureq::Agent,
    url: &str,
    body: &str,
    signature: &str,
) -> io::Result<loopback::Answer> {
    let request = agent
        .post(url)
        .header("content-type", "application/json; charset=utf-8")
        .header("stripe-signature", signature)
        // What a proxy would say of us; without it we are taken for a proxy that names nobody.
        .header("x-forwarded-for", "127.0.0.1");
    let mut response = request.send(body).map_err(|error| {
        if matches!(error, ureq::Error::Timeout(_)) {
            io::ErrorKind::TimedOut.into()
        } else if cause(&error) == Cause::Unreachable(Unreachable::Tls) {
            let text = error.to_string();
            let is_unknown = text.contains("UnknownIssuer");
            let what = if is_unknown { UNTRUSTED } else { BROKEN_TLS };
            io::Error::other(format!("{what} ({text})"))
        } else {
            error.into_io()
        }
    })?;
    let header = response.headers().get("x-request-id");
    let request_id = header.and_then(|id| id.to_str().ok()).map(str::to_owned);
    let body = response.body_mut().with_config();
    let body = body.limit(ANSWER_MAX_BYTES).read_to_string();
    Ok(loopback::Answer {
        status: response.status().as_u16(),
        request_id,
        body: body.unwrap_or_default(),
    })
}

/// `200 applied`, `400 Invalid signature`, `no answer`, then how long it took.
pub(crate) fn outcome_and_time(answer: &io::Result<Verdict>) -> String {
    match answer {
        Ok(answer) => {
            let millis = answer.took.as_secs_f64() * 1000.0;
            let outcome = format!("{} {}", answer.status, answer.word);
            format!("{outcome:<21} {millis:>6.1} ms")
        }
        Err(_) => "no answer".to_owned(),
    }
}

/// What each event tells.
fn tells(options: &Options, payment: &SamplePayment) -> Vec<(&'static str, Details)> {
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

/// The documents in the order in which they are sent, each as often as asked.
fn deliveries(
    options: &Options,
    payment: &SamplePayment,
    now: UnixSeconds,
) -> Result<Vec<Document>, Failure> {
    let mut documents = Vec::new();
    for (kind, told) in tells(options, payment) {
        let document = payment.event(kind, told, now, random()?);
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
    answer: &io::Result<Verdict>,
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
    place: String,
    expected: u16,
    /// The events that were answered 200.
    accepted: BTreeSet<&'a str>,
    is_as_expected: bool,
    hints: Vec<String>,
}

impl<'a> Report<'a> {
    fn new(order: &'a str, place: String, options: &Options) -> Report<'a> {
        let is_refused = options.forged || options.stale;
        Report {
            order,
            place,
            expected: if is_refused { 400 } else { 200 },
            accepted: BTreeSet::new(),
            is_as_expected: true,
            hints: Vec::new(),
        }
    }

    fn judge(&mut self, document: &'a Document, answer: &io::Result<Verdict>) {
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => {
                self.is_as_expected = false;
                self.hint(no_answer(&self.place, error));
                return;
            }
        };
        self.hint(self.meaning(answer));
        let was_accepted = self.accepted.contains(&*document.id);
        self.is_as_expected &=
            answer.status == self.expected && (!was_accepted || answer.word == "duplicate");
        if answer.status == 200 {
            self.accepted.insert(&document.id);
        }
    }

    fn write(&self, out: &mut dyn Write) -> Result<Exit, Failure> {
        writeln!(out)?;
        for hint in &self.hints {
            writeln!(out, "{hint}")?;
        }
        Ok(if self.is_as_expected {
            Exit::Done
        } else {
            Exit::Failed
        })
    }

    fn hint(&mut self, hint: String) {
        if !self.hints.contains(&hint) {
            self.hints.push(hint);
        }
    }

    fn meaning(&self, answer: &Verdict) -> String {
        let log = "its requestId is in the log, with the errorCode: `journalctl --namespace=paidup -u paidup`";
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
                "applied: it told something new about the order. Its story: `paidup orders show {}`",
                plain::word(self.order)
            ),
            (200, "duplicate") => "duplicate: it was known already, and nothing changed.".to_owned(),
            (200, "parked") => {
                "parked: kept until an event says which order it is about, such as \
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
                "400: the server refused the signature. Either it runs with another \
                 STRIPE_WEBHOOK_SECRET than the one used here (restart it after a change, or give its file \
                 with --env-file), or a proxy changes the body, or the clocks differ; {log}"
            ),
            (301..=308, _) => {
                "A redirect. Stripe does not follow it: register the address that it leads to.".to_owned()
            }
            (404 | 405, _) => {
                format!("{}: nothing accepts webhooks there. The path is {WEBHOOK_PATH}.", answer.status)
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
                "{}: the proxy cannot reach paidup. Is it running, at the address that the proxy uses?",
                answer.status
            ),
            (503, _) => format!("503: not stored, Stripe would retry. Run `paidup check`; {log}"),
            (status, _) => format!("{status}: not as expected; {log}"),
        }
    }
}

/// What a missing answer means.
fn no_answer(place: &str, error: &io::Error) -> String {
    if error.kind() == io::ErrorKind::ConnectionRefused {
        return format!(
            "Nothing listens at {place}. Is `paidup serve` running, with this LISTEN_ADDR? \
             `systemctl status paidup` and `ss -ltn` tell."
        );
    }
    if error.kind() == io::ErrorKind::TimedOut {
        return format!(
            "No answer from {place} within {} s. A firewall that drops packets, or a server that hangs.",
            TIMEOUT.as_secs()
        );
    }
    format!(
        "No answer from {place}: {}.",
        plain::text(&error.to_string())
    )
}

/// The same at a Unix socket, which a proxy usually serves.
fn no_answer_at(path: &Path, error: &io::Error) -> Failure {
    Failure::Other(format!(
        "No answer at the Unix socket {} (LISTEN_ADDR): {error}. Is `paidup serve` running, and may this user \
         open the socket? Or send by way of the proxy: --url https://shop.example.com{WEBHOOK_PATH}",
        path.display()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::table::words_of;

    #[test]
    fn send_test_has_sensible_defaults_and_every_option() {
        let plain = Options::read(&words_of("send-test")).unwrap();
        assert_eq!(
            (plain.amount, plain.currency.as_str(), plain.copies),
            (2500, "eur", 1)
        );
        assert_eq!((plain.order, plain.url, plain.types), (None, None, vec![]));
        let line = "send-test charge.refunded refund.failed --order test_1 --amount 1999 \
                    --currency JPY --url http://[::1]:1/x --duplicate 3 --shuffle --stale";
        let expected = Options {
            types: vec!["charge.refunded", "refund.failed"],
            order: OrderId::parse("test_1").ok(),
            amount: 1999,
            currency: "jpy".to_owned(),
            url: Some("http://[::1]:1/x".to_owned()),
            all: false,
            copies: 3,
            shuffle: true,
            forged: false,
            stale: true,
        };
        assert_eq!(Options::read(&words_of(line)).unwrap(), expected);
    }
}
