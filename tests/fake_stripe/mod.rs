//! A stand-in for Stripe on 127.0.0.1: the API calls that paidup makes, with state; buyers and the
//! Dashboard as methods; an event log; signed deliveries in any order and number; faults on demand.
//!
//! It is kept honest by `tests/peers`: Stripe's own libraries and command line are its clients there.
//! What it answers follows <https://docs.stripe.com/api>.
#![allow(dead_code, unreachable_pub, reason = "each test target uses its part")]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::needless_pass_by_value,
    reason = "a test that fails panics; JSON literals are passed by value"
)]

mod account;
mod calls;
mod objects;
mod wire;

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use paidup::base::id::UnixSeconds;
use paidup::base::secret::Secret;
use paidup::truth::signature::SigningSecret;
use serde_json::Value;

pub use account::Logged;
use account::{Account, Kept};
use wire::Answer;
pub use wire::Recorded;

/// The key that the account starts with.
pub const KEY: &str = "sk_test_51FakeCanaryFakeCanaryFakeCanaryFakeCanaryFakeCanary";

/// What goes wrong with a call.
#[derive(Clone, Debug)]
pub enum Fault {
    /// Done and answered after that time.
    Slow(Duration),
    /// Not done and never answered; the connection stays open.
    Hang,
    /// Done, and the connection breaks in the middle of the answer.
    Cut,
    /// Not done, and the connection breaks before an answer.
    Drop,
    /// Not done, and Stripe's error of that status.
    Status(u16),
    /// The same, with `Stripe-Should-Retry`.
    Advised(u16, bool),
    /// Fails inside with 500, which its idempotency key keeps.
    KeptFailure,
    /// Not done, and a page for people.
    Html(u16),
    /// Not done, and a redirect to that place.
    Redirect(String),
    /// Not done, and 200 with that text.
    Text(String),
}

struct Planned {
    /// None is any.
    call: Option<String>,
    left: u32,
    fault: Fault,
}

struct Shared {
    account: Mutex<Account>,
    requests: Mutex<Vec<Recorded>>,
    faults: Mutex<Vec<Planned>>,
    date_offset: AtomicI64,
    is_stopping: AtomicBool,
}

/// The stand-in; it stops when it is dropped.
pub struct FakeStripe {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
}

/// Where deliveries go, and the secret that signs them.
#[derive(Clone, Debug)]
pub struct Target {
    pub address: SocketAddr,
    pub path: String,
    pub secret: String,
}

impl FakeStripe {
    pub fn start() -> FakeStripe {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            account: Mutex::new(Account::new(KEY)),
            requests: Mutex::new(Vec::new()),
            faults: Mutex::new(Vec::new()),
            date_offset: AtomicI64::new(0),
            is_stopping: AtomicBool::new(false),
        });
        let served = Arc::clone(&shared);
        let accepting = thread::spawn(move || {
            for stream in listener.incoming() {
                if served.is_stopping.load(Ordering::SeqCst) {
                    break;
                }
                let served = Arc::clone(&served);
                let stream = stream.unwrap();
                // A client that leaves is its own business.
                thread::spawn(move || drop(serve(&served, stream)));
            }
        });
        FakeStripe {
            address,
            shared,
            accepting: Some(accepting),
        }
    }

    /// For `STRIPE_API_BASE`.
    pub fn base(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    // ── Faults ──────────────────────────────────────────────────────────────────────────────────

    /// The next `count` requests go wrong.
    pub fn fault(&self, count: u32, fault: Fault) {
        self.plan(None, count, fault);
    }

    /// The next `count` requests of one call go wrong, such as `GET /v1/events` or
    /// `GET /v1/charges/{id}`.
    pub fn fault_of(&self, call: &str, count: u32, fault: Fault) {
        self.plan(Some(call.to_owned()), count, fault);
    }

    fn plan(&self, call: Option<String>, left: u32, fault: Fault) {
        lock(&self.shared.faults).push(Planned { call, left, fault });
    }

    /// No more faults.
    pub fn heal(&self) {
        lock(&self.shared.faults).clear();
    }

    /// The key lacks this permission from now on, such as `rak_event_read`.
    pub fn take_permission(&self, name: &str) {
        self.account().lacking.insert(name.to_owned());
    }

    /// From now on only this key is in use.
    pub fn roll_key(&self, key: &str) {
        self.account().keys = [key.to_owned()].into();
    }

    /// Moves the clock that objects and events are dated by.
    pub fn move_time(&self, seconds: i64) {
        self.account().time_offset += seconds;
    }

    /// Moves the `Date` of answers.
    pub fn move_date(&self, seconds: i64) {
        self.shared.date_offset.fetch_add(seconds, Ordering::SeqCst);
    }

    // ── What was asked ──────────────────────────────────────────────────────────────────────────

    pub fn requests(&self) -> Vec<Recorded> {
        lock(&self.shared.requests).clone()
    }

    /// The requests since the last time.
    pub fn take_requests(&self) -> Vec<Recorded> {
        std::mem::take(&mut lock(&self.shared.requests))
    }

    // ── What there is ───────────────────────────────────────────────────────────────────────────

    pub fn add_price(&self, id: &str, amount: i64, currency: &str) {
        let price = (amount, currency.to_owned());
        self.account().prices.insert(id.to_owned(), price);
    }

    pub fn add_endpoint(&self, url: &str, enabled_events: &[&str]) -> String {
        let mut account = self.account();
        let id = account.new_id("we_1");
        let endpoint = objects::endpoint(&id, url, enabled_events, account.now());
        account.add(&id, endpoint);
        id
    }

    /// What an endpoint signs with, which Stripe told when a client made it.
    pub fn secret_of(&self, endpoint: &str) -> String {
        let endpoint = self.account().object(endpoint);
        endpoint["fake_secret"].as_str().unwrap().to_owned()
    }

    /// An object as it stands, whoever made it: no event tells of it.
    pub fn put(&self, object: Value) {
        let id = object["id"].as_str().unwrap().to_owned();
        self.account().add(&id, object);
    }

    /// An event that somebody else has written, and that is in the list from now on.
    pub fn put_event(&self, text: &str) {
        self.account().add_event(text);
    }

    /// Changes fields of an object behind everybody's back.
    pub fn change(&self, id: &str, fields: Value) {
        let mut account = self.account();
        let mut object = account.object(id);
        objects::set(&mut object, fields);
        account.objects.insert(id.to_owned(), object);
    }

    pub fn object(&self, id: &str) -> Value {
        account::public(&self.account().object(id))
    }

    /// Objects of a kind, such as `checkout.session`, newest first.
    pub fn objects(&self, kind: &str) -> Vec<Value> {
        self.account()
            .newest(kind)
            .iter()
            .map(account::public)
            .collect()
    }

    /// Every event, oldest first.
    pub fn events(&self) -> Vec<Logged> {
        self.account().events.clone()
    }

    /// Makes a session for an order, as the shop's call would, and returns its id.
    pub fn create_session(&self, order: &str, amount: i64) -> String {
        let field = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let form = vec![
            field("mode", "payment"),
            field("line_items[0][quantity]", "1"),
            field("line_items[0][price_data][currency]", "eur"),
            field(
                "line_items[0][price_data][unit_amount]",
                &amount.to_string(),
            ),
            field("line_items[0][price_data][product_data][name]", "Tea"),
            field("client_reference_id", order),
            field("metadata[order_id]", order),
            field("payment_intent_data[metadata][order_id]", order),
            field("success_url", "https://shop.example.com/thanks"),
        ];
        let request = Recorded {
            method: "POST".to_owned(),
            path: "/v1/checkout/sessions".to_owned(),
            headers: Vec::new(),
            form,
        };
        let answer = calls::answer(&mut self.account(), &request);
        let session: Value = serde_json::from_str(&answer.body).unwrap();
        session["id"].as_str().unwrap().to_owned()
    }

    // ── Buyers and the Dashboard ────────────────────────────────────────────────────────────────

    /// The buyer pays at once.
    pub fn pay(&self, session: &str) {
        self.account().pay(session);
    }

    /// The buyer orders the money to be sent; [`FakeStripe::settle`] or
    /// [`FakeStripe::fail_payment`] follows.
    pub fn pay_later(&self, session: &str) {
        self.account().pay_later(session);
    }

    pub fn settle(&self, session: &str) {
        self.account().settle(session);
    }

    pub fn fail_payment(&self, session: &str) {
        self.account().fail_payment(session);
    }

    /// The money of [`FakeStripe::pay_later`] had come, and the buyer's bank takes it back.
    pub fn come_back(&self, session: &str) {
        self.account().come_back(session);
    }

    /// The buyer pays, and the money is held; [`FakeStripe::capture`] or [`FakeStripe::release`]
    /// follows.
    pub fn hold(&self, session: &str) {
        self.account().hold(session);
    }

    /// Takes `amount` of what is held, or all of it; the rest is let go.
    pub fn capture(&self, session: &str, amount: Option<i64>) {
        self.account().capture(session, amount);
    }

    pub fn release(&self, session: &str) {
        self.account().release(session);
    }

    /// The session becomes a subscription's, and its first invoice is paid; returns that.
    pub fn subscribe(&self, session: &str) -> String {
        self.account().subscribe(session)
    }

    /// The next month of a session that was subscribed; returns the invoice.
    pub fn renew(&self, session: &str, is_paid: bool) -> String {
        self.account().renew(session, is_paid)
    }

    pub fn open_review(&self, session: &str) -> String {
        self.account().open_review(session)
    }

    pub fn close_review(&self, review: &str) {
        self.account().close_review(review);
    }

    pub fn warn_of_fraud(&self, session: &str) -> String {
        self.account().warn_of_fraud(session)
    }

    pub fn expire(&self, session: &str) {
        self.account().expire(session);
    }

    /// Gives back `amount`, or all that is left; returns the refund's id.
    pub fn refund(&self, session: &str, amount: Option<i64>) -> String {
        self.account().refund(session, amount, "succeeded")
    }

    /// The same with a refund that is pending; [`FakeStripe::complete_refund`] or
    /// [`FakeStripe::fail_refund`] follows.
    pub fn refund_pending(&self, session: &str, amount: Option<i64>) -> String {
        self.account().refund(session, amount, "pending")
    }

    pub fn complete_refund(&self, refund: &str) {
        self.account().complete_refund(refund);
    }

    pub fn fail_refund(&self, refund: &str) {
        self.account().fail_refund(refund);
    }

    /// Returns the dispute's id.
    pub fn open_dispute(&self, session: &str) -> String {
        self.account().open_dispute(session)
    }

    pub fn close_dispute(&self, dispute: &str, is_won: bool) {
        self.account().close_dispute(dispute, is_won);
    }

    /// A second event for the same fact, as Stripe says may happen; returns its id.
    pub fn repeat_event(&self, id: &str) -> String {
        let mut account = self.account();
        let event = account
            .events
            .iter()
            .find(|event| event.id == id)
            .unwrap()
            .clone();
        account.log(&event.kind, &event.value["data"]["object"], None)
    }

    // ── Deliveries ──────────────────────────────────────────────────────────────────────────────

    /// Delivers an event once and returns the status of the answer. With 2xx, the event counts as
    /// delivered.
    pub fn deliver(&self, id: &str, target: &Target) -> io::Result<u16> {
        let events = self.events();
        let event = events.iter().find(|event| event.id == id).unwrap();
        let status = deliver(&event.text, target)?;
        if (200..300).contains(&status) {
            let mut account = self.account();
            let event = account.events.iter_mut().find(|event| event.id == id);
            event.unwrap().is_pending = false;
        }
        Ok(status)
    }

    /// Delivers every event once, oldest first.
    pub fn deliver_all(&self, target: &Target) -> io::Result<Vec<u16>> {
        let events = self.events();
        events
            .iter()
            .map(|event| self.deliver(&event.id, target))
            .collect()
    }

    fn account(&self) -> MutexGuard<'_, Account> {
        lock(&self.shared.account)
    }
}

impl Drop for FakeStripe {
    fn drop(&mut self) {
        self.shared.is_stopping.store(true, Ordering::SeqCst);
        // Wakes the thread that accepts, if this thread can reach it: not from another network.
        let woken = TcpStream::connect(self.address);
        if let (Ok(_), Some(accepting)) = (woken, self.accepting.take()) {
            let _ = accepting.join();
        }
    }
}

/// Posts a signed event, as Stripe does, and returns the status of the answer.
pub fn deliver(text: &str, target: &Target) -> io::Result<u16> {
    let now = UnixSeconds(paidup::host::clock::unix_millis().div_euclid(1000));
    let secret = SigningSecret::new(&Secret::new(&target.secret));
    let signature = secret.sign(text.as_bytes(), now);
    let mut stream = TcpStream::connect(target.address)?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    write!(
        stream,
        "POST {} HTTP/1.1\r\nHost: {}\r\nUser-Agent: Stripe/1.0 (+https://stripe.com/docs/webhooks)\
         \r\nAccept: */*; q=0.5, application/xml\r\nCache-Control: no-cache\r\nContent-Type: \
         application/json; charset=utf-8\r\nAccept-Encoding: gzip\r\nConnection: close\r\n\
         Stripe-Signature: {signature}\r\nContent-Length: {}\r\n\r\n{text}",
        target.path,
        target.address,
        text.len()
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let status = answer
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    status.ok_or_else(|| io::Error::other("no HTTP answer"))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn serve(shared: &Shared, mut stream: TcpStream) -> io::Result<()> {
    let Some(request) = wire::read(&stream)? else {
        return Ok(());
    };
    lock(&shared.requests).push(request.clone());
    let fault = take_fault(shared, &request.call());
    if matches!(fault, Some(Fault::Hang)) {
        return hang(shared, &mut stream);
    }
    if matches!(fault, Some(Fault::Drop)) {
        return stream.shutdown(Shutdown::Both);
    }
    let answer = answer(shared, &request, fault.as_ref());
    let now = paidup::host::clock::unix_millis().div_euclid(1000);
    let date = wire::http_date(now + shared.date_offset.load(Ordering::SeqCst));
    let request_id = lock(&shared.account).new_id("req_");
    let mut answer = answer.with("Date", &date).with("Request-Id", &request_id);
    for name in ["Stripe-Version", "Idempotency-Key"] {
        if let Some(value) = request.header(&name.to_ascii_lowercase()) {
            answer = answer.with(name, value);
        }
    }
    let is_cut = matches!(fault, Some(Fault::Cut));
    answer.write(&mut stream, is_cut.then_some(answer.body.len() / 2))
}

fn take_fault(shared: &Shared, call: &str) -> Option<Fault> {
    let mut faults = lock(&shared.faults);
    let fits = |planned: &Planned| planned.call.as_deref().is_none_or(|known| known == call);
    let place = faults.iter().position(fits)?;
    let planned = faults.get_mut(place)?;
    planned.left -= 1;
    if planned.left == 0 {
        return Some(faults.remove(place).fault);
    }
    Some(planned.fault.clone())
}

/// Until the client leaves or the stand-in stops.
fn hang(shared: &Shared, stream: &mut TcpStream) -> io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_millis(20)))?;
    while !shared.is_stopping.load(Ordering::SeqCst) {
        match stream.read(&mut [0]) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Ok(0) | Err(_) => break,
            Ok(_) => {}
        }
    }
    Ok(())
}

fn answer(shared: &Shared, request: &Recorded, fault: Option<&Fault>) -> Answer {
    if let Some(refusal) = refusal(&lock(&shared.account), request) {
        return refusal;
    }
    match fault {
        Some(Fault::Status(status)) => return stripes_error(*status, request),
        Some(Fault::Advised(status, should_retry)) => {
            let advice = should_retry.to_string();
            return stripes_error(*status, request).with("Stripe-Should-Retry", &advice);
        }
        Some(Fault::Html(status)) => {
            let headers = vec![("Content-Type".to_owned(), "text/html".to_owned())];
            let body = "<html><body><h1>Bad gateway</h1></body></html>".to_owned();
            return Answer {
                status: *status,
                headers,
                body,
            };
        }
        Some(Fault::Redirect(place)) => {
            return Answer::json(302, "{}".to_owned()).with("Location", place);
        }
        Some(Fault::Text(text)) => return Answer::json(200, text.clone()),
        Some(Fault::Slow(_) | Fault::KeptFailure | Fault::Cut | Fault::Hang | Fault::Drop)
        | None => {}
    }
    match request.header("idempotency-key") {
        Some(key) if request.method == "POST" => once(shared, request, key, fault),
        Some(_) | None => work(shared, request, fault),
    }
}

/// Who asks, and whether they may. <https://docs.stripe.com/api/authentication>
fn refusal(account: &Account, request: &Recorded) -> Option<Answer> {
    let authorization = request.header("authorization").unwrap_or("");
    let Some(key) = authorization.strip_prefix("Bearer ") else {
        let message = "You did not provide an API key. You need to provide your API key in the \
                       Authorization header, using Bearer auth.";
        return Some(calls::error(401, "invalid_request_error", "", "", message));
    };
    if !account.keys.contains(key) {
        let message = format!("Invalid API Key provided: {key}");
        return Some(calls::error(401, "invalid_request_error", "", "", &message));
    }
    let permission = calls::permission(&request.call());
    let is_lacking = account.lacking.contains(permission);
    is_lacking.then(|| stripes_error(403, request))
}

/// Once per idempotency key. <https://docs.stripe.com/api/idempotent_requests>
fn once(shared: &Shared, request: &Recorded, key: &str, fault: Option<&Fault>) -> Answer {
    {
        let mut account = lock(&shared.account);
        if let Some(kept) = account.kept.get(key) {
            if kept.path != request.path || kept.form != sorted(&request.form) {
                let message = format!(
                    "Keys for idempotent requests can only be used with the same parameters they \
                     were first used with. Try using a key other than '{key}' if you meant to \
                     execute a different request."
                );
                return calls::error(400, "idempotency_error", "", "", &message);
            }
            return match &kept.answer {
                Some(answer) => answer.clone().with("Idempotent-Replayed", "true"),
                None => calls::error(
                    409,
                    "invalid_request_error",
                    "idempotency_key_in_use",
                    "",
                    "There is currently another in-progress request using this Stripe Idempotent \
                     Key (that probably means you submitted twice, and the other request is still \
                     going through).",
                ),
            };
        }
        let kept = Kept {
            path: request.path.clone(),
            form: sorted(&request.form),
            answer: None,
        };
        account.kept.insert(key.to_owned(), kept);
    }
    let answer = work(shared, request, fault);
    let mut account = lock(&shared.account);
    if answer.status == 400 {
        // Nothing began, so nothing is kept.
        account.kept.remove(key);
    } else if let Some(kept) = account.kept.get_mut(key) {
        kept.answer = Some(answer.clone());
    }
    answer
}

fn sorted(form: &[(String, String)]) -> Vec<(String, String)> {
    let mut sorted = form.to_vec();
    sorted.sort();
    sorted
}

fn work(shared: &Shared, request: &Recorded, fault: Option<&Fault>) -> Answer {
    match fault {
        Some(Fault::Slow(time)) => thread::sleep(*time),
        Some(Fault::KeptFailure) => {
            return stripes_error(500, request).with("Stripe-Should-Retry", "false");
        }
        Some(_) | None => {}
    }
    calls::answer(&mut lock(&shared.account), request)
}

/// The texts quote what Stripe's quote, so that tests see whether it gets further.
fn stripes_error(status: u16, request: &Recorded) -> Answer {
    let (kind, code, message) = match status {
        401 => (
            "invalid_request_error",
            "api_key_expired",
            format!("Expired API Key provided: {KEY}"),
        ),
        402 => (
            "card_error",
            "card_declined",
            "Your card was declined.".to_owned(),
        ),
        403 => (
            "invalid_request_error",
            "",
            format!(
                "The provided key '{KEY}' does not have the required permissions for this endpoint \
                 on account 'acct_1FakeCanary'. Having the '{}' permission would allow this request \
                 to continue.",
                calls::permission(&request.call())
            ),
        ),
        404 => (
            "invalid_request_error",
            "resource_missing",
            "No such object: 'FakeCanary'".to_owned(),
        ),
        409 => (
            "invalid_request_error",
            "lock_timeout",
            "This object cannot be accessed.".to_owned(),
        ),
        429 => (
            "invalid_request_error",
            "rate_limit",
            "Request rate limit exceeded.".to_owned(),
        ),
        500.. => (
            "api_error",
            "",
            "Sorry! There was an error. FakeCanary".to_owned(),
        ),
        _ => ("invalid_request_error", "", format!("Bad request of {KEY}")),
    };
    calls::error(status, kind, code, "", &message)
}
