//! Stripe, as small as it can be and still move money as Stripe does: what buyers, banks and the
//! Dashboard do are methods, each changes the objects and emits the events.
//!
//! Beside the objects it keeps a ledger for each payment: what is held, taken, given back and lost.
//! [`crate::truth`] reads what is right off that ledger alone, never off the objects.

use std::collections::BTreeSet;

use serde_json::Value;

pub const DAY: i64 = 24 * 60 * 60;
/// The first second of most worlds.
pub const BEGIN: i64 = 1_794_000_000;
/// The share that is all of it.
pub const WHOLE: i64 = 60;
pub const CURRENCY: &str = "eur";

/// What differs from one account or API version to another, and what Stripe does not promise.
#[derive(Clone, Copy, Debug)]
pub struct Habits {
    /// Events in the shape of 2020-08-27: no invoice payments, `invoice` on charge and intent.
    pub old: bool,
    /// Intents name their session or invoice in `payment_details.order_reference`.
    pub reference: bool,
    /// A refund counts in `amount_refunded` as soon as it is pending.
    pub pending_counts: bool,
    /// The Refund of a release is told by an event, not only in the list.
    pub release_told: bool,
    /// Failed charges say `captured` and a full `amount_captured`.
    pub failed_says_captured: bool,
    /// A charge that is captured in steps is told at each step, not only at the first.
    pub steps_told: bool,
    /// A session that expires cancels its intent.
    pub expiry_cancels: bool,
    /// Two events, with their own ids, for one fact in three.
    pub twins: bool,
    /// What was paid outside of Stripe is not in `amount_paid`.
    pub pays_outside: bool,
}

impl Habits {
    pub fn of(bits: u64) -> Habits {
        let bit = |n: u32| bits >> n & 1 == 1;
        let old = bits.is_multiple_of(5);
        Habits {
            old,
            reference: bit(8) && !old,
            // Without refund.created nothing else would tell of a pending refund.
            pending_counts: bit(9) || old,
            release_told: bit(10),
            failed_says_captured: bit(11),
            steps_told: bit(12),
            expiry_cancels: bit(13),
            twins: bit(14) && bit(15),
            pays_outside: bit(16),
        }
    }
}

/// How the money moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    Card,
    /// A card whose money is held until the shop captures it.
    Hold,
    /// A charge that is pending for days.
    Debit,
    /// Paid in a shop days later; no charge before that.
    Voucher,
}

/// Where a payment stands, as its makers would say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    // Of an unpaid order the best counts: best first.
    Authorized,
    Processing,
    Pending,
    Failed,
    Canceled,
    Expired,
    Paid,
}

impl Standing {
    pub fn word(self) -> &'static str {
        match self {
            Standing::Authorized => "authorized",
            Standing::Processing => "processing",
            Standing::Pending => "pending",
            Standing::Failed => "failed",
            Standing::Canceled => "canceled",
            Standing::Expired => "expired",
            Standing::Paid => "paid",
        }
    }
}

/// An order, as the shop thinks of it.
#[derive(Clone, Debug)]
pub struct Sale {
    /// Under which name it is to be found.
    pub name: String,
    /// What a buyer or a link wrote, and what is not a name.
    pub reference: Option<String>,
    pub asked: i64,
    /// The shop may make another page for it.
    pub can_repeat: bool,
    pub conflict: bool,
    /// paidup made its page.
    pub is_asked_for: bool,
    /// The order that paidup was asked for, and that this one says it is.
    pub stands_for: Option<usize>,
}

/// Money that really moved, in cents.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    pub held: i64,
    pub took: i64,
    /// On its way back or there.
    pub given: i64,
    /// Of that, on its way.
    pub pending: i64,
    /// A debit that had succeeded came back.
    pub came_back: bool,
}

#[derive(Clone, Debug)]
pub struct Payment {
    /// None when it is for no order: it saves a card, or it names nothing.
    pub sale: Option<usize>,
    pub amount: i64,
    pub method: Method,
    pub standing: Standing,
    /// What the intent's metadata will say.
    pub intent_order: Option<String>,
    pub ledger: Ledger,
    /// Something that carries or leads to the order's name was told.
    pub told: bool,
    /// Asking cannot tell what its events told.
    pub unaskable: bool,
    /// What may be said as well, where what Stripe says does not tell one from the other.
    pub vague: Vec<&'static str>,
    pub session: Option<Session>,
    pub invoice: Option<Invoice>,
    pub intent: Option<Intent>,
    pub charges: Vec<Charge>,
    pub refunds: Vec<Refund>,
    pub disputes: Vec<Dispute>,
    pub review: Option<Review>,
    pub warning: Option<String>,
    /// Before that second nothing more happens to it.
    pub quiet_until: i64,
    pub captures_begun: bool,
}

#[derive(Clone, Debug)]
pub struct Session {
    pub id: String,
    pub made: i64,
    pub mode: &'static str,
    pub status: &'static str,
    pub payment_status: &'static str,
    pub reference: Option<String>,
    pub order: Option<String>,
    pub link: bool,
    pub subscription: Option<String>,
}

#[derive(Clone, Debug)]
pub struct Invoice {
    pub id: String,
    pub made: i64,
    pub status: &'static str,
    pub reason: &'static str,
    pub subscription: Option<(String, Option<String>)>,
    pub order: Option<String>,
    pub payment: Option<String>,
}

#[derive(Clone, Debug)]
pub struct Intent {
    pub id: String,
    pub made: i64,
    pub status: &'static str,
    pub received: i64,
    pub order: Option<String>,
}

#[derive(Clone, Debug)]
pub struct Charge {
    pub id: String,
    pub made: i64,
    pub status: &'static str,
    pub amount: i64,
    pub captured: bool,
    pub amount_captured: i64,
    pub amount_refunded: i64,
}

#[derive(Clone, Debug)]
pub struct Refund {
    pub id: String,
    pub made: i64,
    pub charge: usize,
    pub amount: i64,
    pub status: &'static str,
    pub is_release: bool,
}

#[derive(Clone, Debug)]
pub struct Dispute {
    pub id: String,
    pub made: i64,
    pub charge: usize,
    pub amount: i64,
    pub status: &'static str,
}

#[derive(Clone, Debug)]
pub struct Review {
    pub id: String,
    pub made: i64,
    pub open: bool,
}

/// A subscription renews as long as the world lasts.
#[derive(Clone, Debug)]
pub struct Subscription {
    pub id: String,
    /// The same each month, and so no name.
    pub order: Option<String>,
    pub price: i64,
}

#[derive(Clone, Debug)]
pub struct Emitted {
    pub id: String,
    pub kind: String,
    pub created: i64,
    pub text: String,
}

pub struct World {
    pub now: i64,
    pub habits: Habits,
    pub sales: Vec<Sale>,
    pub payments: Vec<Payment>,
    pub subscriptions: Vec<Subscription>,
    pub events: Vec<Emitted>,
    /// What kinds of life there were.
    pub kinds: BTreeSet<&'static str>,
    tag: String,
    made: u32,
}

/// Which kind of sale begins.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// Named by the session's metadata; the intent's may be without or say something else.
    Named(Method),
    /// Named by the session's reference alone.
    Referred(Method),
    /// A customer as the reference, beside the metadata.
    Customer(Method),
    /// Named by nothing but its session.
    Nameless(Method),
    /// Made by paidup itself.
    AskedFor(Method),
    /// Made elsewhere, with the name of an order that paidup made.
    Stranger(Method),
    /// A Payment Link on which the buyer wrote the name of another order, or that carries its own.
    Link {
        own: bool,
    },
    Free,
    Setup,
    Subscription {
        trial: bool,
        method: Method,
    },
    /// An intent without a session.
    Intent {
        named: bool,
        method: Method,
    },
    /// An invoice sent by hand.
    Invoice {
        named: bool,
        method: Method,
    },
}

/// How much of what is held the shop captures.
#[derive(Clone, Copy, Debug)]
pub enum Part {
    All,
    Most,
    Tip,
    /// Most of it, and more later.
    Step,
}

impl World {
    pub fn new(tag: &str, habits: Habits, begin: i64) -> World {
        World {
            now: begin,
            habits,
            sales: Vec::new(),
            payments: Vec::new(),
            subscriptions: Vec::new(),
            events: Vec::new(),
            kinds: BTreeSet::new(),
            tag: tag.to_owned(),
            made: 0,
        }
    }

    /// The orders that paidup made, and their sessions.
    pub fn asked_for(&self) -> impl Iterator<Item = (&str, &str)> {
        self.payments.iter().filter_map(|payment| {
            let sale = &self.sales[payment.sale?];
            let session = payment.session.as_ref()?;
            sale.is_asked_for
                .then_some((sale.name.as_str(), session.id.as_str()))
        })
    }

    fn id(&mut self, start: &str) -> String {
        self.made += 1;
        format!("{start}{}{:03}", self.tag, self.made)
    }

    fn lived(&mut self, kind: &'static str) {
        self.kinds.insert(kind);
    }

    // ── A sale begins ───────────────────────────────────────────────────────────────────────────

    pub fn sell(&mut self, kind: Kind, amount: i64, odd: bool) {
        let number = self.sales.len();
        let name = format!("O-{}{number}", self.tag);
        let new = |amount, method| Payment::new(amount, method);
        match kind {
            Kind::Named(method) | Kind::Referred(method) | Kind::Customer(method) => {
                let mut payment = new(amount, method);
                let mut session = self.session("payment");
                let referred = matches!(kind, Kind::Referred(_));
                let customer = matches!(kind, Kind::Customer(_));
                session.order = (!referred).then(|| name.clone());
                session.reference = (referred || customer).then(|| {
                    if customer {
                        "user_42".to_owned()
                    } else {
                        name.clone()
                    }
                });
                let conflict = odd && !referred && number.is_multiple_of(3);
                if customer {
                    self.lived("a customer as the reference");
                }
                payment.session = Some(session);
                payment.sale = Some(self.order(name.clone(), None, amount, true));
                // The shop may have set the intent's metadata, or not.
                let of_intent = if conflict {
                    self.lived("two names for one payment");
                    Some(format!("{name}-other"))
                } else {
                    (odd && !referred).then(|| name.clone())
                };
                self.sales[number].conflict = conflict;
                if conflict {
                    self.sales[number].can_repeat = false;
                }
                self.begin(payment, of_intent);
            }
            Kind::Nameless(method) => {
                let mut payment = new(amount, method);
                let session = self.session("payment");
                payment.sale = Some(self.order(session.id.clone(), None, amount, false));
                payment.session = Some(session);
                self.lived("named by its session alone");
                self.begin(payment, None);
            }
            Kind::AskedFor(method) => {
                let mut payment = new(amount, method);
                let mut session = self.session("payment");
                session.order = Some(name.clone());
                session.reference = Some(name.clone());
                payment.session = Some(session);
                payment.sale = Some(self.order(name.clone(), None, amount, false));
                self.sales[number].is_asked_for = true;
                self.lived("made by paidup itself");
                self.begin(payment, Some(name));
            }
            Kind::Stranger(method) => {
                let asked = self.sales.iter().position(|sale| sale.is_asked_for);
                let Some(asked) = asked else {
                    return self.sell(Kind::AskedFor(method), amount, odd);
                };
                let name = self.sales[asked].name.clone();
                let mut payment = new(amount, method);
                let mut session = self.session("payment");
                let written = Some(name.clone());
                if odd {
                    session.order.clone_from(&written);
                } else {
                    session.reference.clone_from(&written);
                }
                payment.sale = Some(self.order(session.id.clone(), written.clone(), amount, false));
                payment.session = Some(session);
                self.sales[number].stands_for = Some(asked);
                self.lived("made elsewhere under the name of another order");
                self.begin(payment, written.filter(|_| odd));
            }
            Kind::Link { own } => {
                let mut payment = new(amount, Method::Card);
                let mut session = self.session("payment");
                session.link = true;
                // The name of an order that the shop really has, where there is one.
                let written = if own {
                    "SPRING".to_owned()
                } else {
                    let known = self.sales.first().map(|sale| sale.name.clone());
                    known.unwrap_or_else(|| format!("O-{}nobody", self.tag))
                };
                if own {
                    session.order = Some(written.clone());
                    self.lived("a Payment Link with metadata");
                } else {
                    session.reference = Some(written.clone());
                    self.lived("a Payment Link with a reference that a buyer wrote");
                }
                payment.sale =
                    Some(self.order(session.id.clone(), Some(written.clone()), amount, false));
                payment.session = Some(session);
                self.begin(payment, (own && odd).then_some(written));
            }
            Kind::Free => {
                let mut payment = new(0, Method::Card);
                let mut session = self.session("payment");
                session.order = Some(name.clone());
                payment.sale = Some(self.order(name, None, 0, false));
                payment.session = Some(session);
                self.payments.push(payment);
            }
            Kind::Setup => {
                let mut payment = new(0, Method::Card);
                let mut session = self.session("setup");
                session.reference = Some(name);
                payment.session = Some(session);
                self.payments.push(payment);
            }
            Kind::Subscription { trial, method } => {
                let price = amount;
                let amount = if trial { 0 } else { amount };
                let mut payment = new(amount, method);
                let mut session = self.session("subscription");
                if odd {
                    session.order = Some(name.clone());
                } else {
                    session.reference = Some(name.clone());
                }
                let id = self.id("sub_");
                session.subscription = Some(id.clone());
                payment.session = Some(session);
                payment.sale = Some(self.order(name.clone(), None, amount, false));
                let order = odd.then(|| name.clone());
                self.subscriptions.push(Subscription { id, order, price });
                self.payments.push(payment);
            }
            Kind::Intent { named, method } => {
                let mut payment = new(amount, method);
                if named {
                    payment.sale = Some(self.order(name.clone(), None, amount, false));
                    self.lived("an intent without a session");
                } else {
                    self.lived("an intent that names nothing");
                }
                self.begin(payment, named.then_some(name));
                self.ensure_intent(self.payments.len() - 1);
            }
            Kind::Invoice { named, method } => {
                let mut payment = new(amount, method);
                let order = named.then(|| name.clone());
                let invoice = self.invoice("manual", None, order);
                let name = if named { name } else { invoice.id.clone() };
                payment.sale = Some(self.order(name, None, amount, false));
                payment.invoice = Some(invoice);
                self.lived("an invoice by hand");
                self.payments.push(payment);
            }
        }
    }

    /// The shop makes another page for an order that it has a page for.
    pub fn sell_again(&mut self, sale: usize, method: Method) -> bool {
        let Some(known) = self.sales.get(sale) else {
            return false;
        };
        let of_sale = || self.payments.iter().filter(|p| p.sale == Some(sale));
        let settled =
            of_sale().any(|p| p.ledger.came_back || p.standing == Standing::Paid && p.amount == 0);
        if !known.can_repeat || settled || of_sale().count() > 3 {
            return false;
        }
        let (name, amount) = (known.name.clone(), known.asked);
        let first = of_sale().next().and_then(|p| p.session.clone());
        let mut payment = Payment::new(amount, method);
        let mut session = self.session("payment");
        session.order = first.as_ref().and_then(|first| first.order.clone());
        session.reference = first.and_then(|first| first.reference);
        let of_intent = session.order.as_ref().map(|_| name);
        payment.session = Some(session);
        payment.sale = Some(sale);
        self.begin(payment, of_intent);
        self.lived("a buyer who tries twice");
        true
    }

    fn order(
        &mut self,
        name: String,
        reference: Option<String>,
        asked: i64,
        can_repeat: bool,
    ) -> usize {
        self.sales.push(Sale {
            name,
            reference,
            asked,
            can_repeat,
            conflict: false,
            is_asked_for: false,
            stands_for: None,
        });
        self.sales.len() - 1
    }

    /// The payment is there, and its intent will carry `of_intent` as its metadata.
    fn begin(&mut self, mut payment: Payment, of_intent: Option<String>) {
        payment.intent_order = of_intent;
        self.payments.push(payment);
        if self.habits.old && self.payments.last().is_some_and(|p| p.session.is_some()) {
            let place = self.payments.len() - 1;
            self.ensure_intent(place);
        }
    }

    fn session(&mut self, mode: &'static str) -> Session {
        let id = format!("{}{:0>40}", self.id("cs_test_"), "");
        Session {
            id,
            made: self.now,
            mode,
            status: "open",
            payment_status: "unpaid",
            reference: None,
            order: None,
            link: false,
            subscription: None,
        }
    }

    fn invoice(
        &mut self,
        reason: &'static str,
        subscription: Option<(String, Option<String>)>,
        order: Option<String>,
    ) -> Invoice {
        Invoice {
            id: self.id("in_"),
            made: self.now,
            status: "open",
            reason,
            subscription,
            order,
            payment: None,
        }
    }
}

impl Payment {
    fn new(amount: i64, method: Method) -> Payment {
        Payment {
            sale: None,
            amount,
            method,
            standing: Standing::Pending,
            intent_order: None,
            ledger: Ledger::default(),
            told: false,
            unaskable: false,
            vague: Vec::new(),
            session: None,
            invoice: None,
            intent: None,
            charges: Vec::new(),
            refunds: Vec::new(),
            disputes: Vec::new(),
            review: None,
            warning: None,
            quiet_until: 0,
            captures_begun: false,
        }
    }

    pub fn is_link(&self) -> bool {
        self.session.as_ref().is_some_and(|session| session.link)
    }

    pub fn is_completed(&self) -> bool {
        let session = self.session.as_ref();
        session.is_some_and(|session| session.status == "complete")
    }

    /// The charge whose money the shop has.
    pub fn taken(&self) -> Option<usize> {
        let is_whole = self
            .intent
            .as_ref()
            .is_some_and(|intent| intent.status == "succeeded");
        let taken = |charge: &Charge| charge.status == "succeeded" && charge.captured;
        self.charges.iter().position(taken).filter(|_| is_whole)
    }

    /// The charge that succeeded, captured or not.
    pub fn good(&self) -> Option<usize> {
        self.charges
            .iter()
            .position(|charge| charge.status == "succeeded")
    }

    fn is_payable(&self) -> bool {
        let is = |status: Option<&'static str>, wanted: &[&str]| {
            status.is_none_or(|status| wanted.contains(&status))
        };
        is(
            self.session.as_ref().map(|session| session.status),
            &["open"],
        ) && is(
            self.invoice.as_ref().map(|invoice| invoice.status),
            &["open", "uncollectible"],
        ) && is(
            self.intent.as_ref().map(|intent| intent.status),
            &["requires_payment_method"],
        ) && self.vague.is_empty()
    }
}

// ── What happens to a payment. Each answers whether it could ────────────────────────────────────

impl World {
    /// Another second than that of whatever was told so far: where a later fact undoes an earlier
    /// one, nothing in the objects of one second says which was first.
    fn strictly_later(&mut self) {
        self.now += 1;
    }

    pub fn ensure_intent(&mut self, place: usize) {
        if self.payments[place].intent.is_some() || self.payments[place].amount == 0 {
            return;
        }
        let id = self.id("pi_");
        let now = self.now;
        let payment = &mut self.payments[place];
        payment.intent = Some(Intent {
            id,
            made: now,
            status: "requires_payment_method",
            received: 0,
            order: payment.intent_order.clone(),
        });
    }

    fn set_intent(&mut self, place: usize, status: &'static str, received: i64) {
        if let Some(intent) = &mut self.payments[place].intent {
            intent.status = status;
            intent.received = received;
        }
    }

    fn set_session(&mut self, place: usize, status: &'static str, payment: &'static str) {
        if let Some(session) = &mut self.payments[place].session {
            session.status = status;
            session.payment_status = payment;
        }
    }

    fn set_invoice(&mut self, place: usize, status: &'static str) {
        if let Some(invoice) = &mut self.payments[place].invoice {
            invoice.status = status;
        }
    }

    fn new_charge(&mut self, place: usize, status: &'static str, captured: bool) -> usize {
        let start = if self.payments[place].method == Method::Debit {
            "py_"
        } else {
            "ch_"
        };
        let id = self.id(start);
        let amount = self.payments[place].amount;
        let charge = Charge {
            id,
            made: self.now,
            status,
            amount,
            captured,
            amount_captured: if captured { amount } else { 0 },
            amount_refunded: 0,
        };
        self.payments[place].charges.push(charge);
        self.payments[place].charges.len() - 1
    }

    /// Its intent and charge name what it is not, unless its session is known.
    pub fn is_misnamed(&self, payment: &Payment) -> bool {
        payment
            .sale
            .map(|sale| &self.sales[sale])
            .is_some_and(|sale| sale.conflict || sale.stands_for.is_some())
            || payment.is_link() && payment.intent_order.is_some()
    }

    /// One attempt that the buyer's bank refuses.
    pub fn decline(&mut self, place: usize) -> bool {
        let payment = &self.payments[place];
        let is_misnamed = self.is_misnamed(payment);
        let of_session = payment.session.as_ref().map(|session| session.mode);
        if !payment.is_payable()
            || payment.standing != Standing::Pending
            || payment.amount == 0
            || !matches!(payment.method, Method::Card | Method::Hold)
            || of_session.is_some_and(|mode| mode != "payment")
            // Its names would make another order until its session tells.
            || is_misnamed
            || payment.charges.len() > 2
        {
            return false;
        }
        self.ensure_intent(place);
        let charge = self.new_charge(place, "failed", self.habits.failed_says_captured);
        self.tell_charge(place, charge, "charge.failed");
        self.tell_intent(place, "payment_intent.payment_failed");
        if self.payments[place].invoice.is_some() {
            self.pay_invoice_with_intent(place);
            self.tell_invoice(place, "invoice.payment_failed");
        }
        self.lived("a declined attempt");
        true
    }

    /// The buyer does what the page asks for.
    pub fn pay(&mut self, place: usize) -> bool {
        let payment = &self.payments[place];
        let (method, amount) = (payment.method, payment.amount);
        let mode = payment.session.as_ref().map(|session| session.mode);
        if !payment.is_payable()
            || !matches!(payment.standing, Standing::Pending | Standing::Failed)
        {
            return false;
        }
        if mode == Some("setup") {
            self.set_session(place, "complete", "no_payment_required");
            self.tell_session(place, "completed");
            self.payments[place].standing = Standing::Paid;
            self.lived("a session that saves a card");
            return true;
        }
        if mode == Some("subscription") {
            let of = payment
                .session
                .as_ref()
                .and_then(|session| session.subscription.clone());
            let known = self
                .subscriptions
                .iter()
                .find(|known| Some(&known.id) == of.as_ref());
            let known = known.map(|known| (known.id.clone(), known.order.clone()));
            let invoice = self.invoice("subscription_create", known, None);
            self.payments[place].invoice = Some(invoice);
            self.lived("a subscription's first invoice");
        }
        if amount == 0 {
            self.payments[place].standing = Standing::Paid;
            self.set_session(place, "complete", "no_payment_required");
            self.set_invoice(place, "paid");
            if mode == Some("subscription") {
                self.tell_invoice(place, "invoice.paid");
                self.lived("a trial");
            } else {
                self.lived("nothing to pay");
            }
            self.tell_session(place, "completed");
            return true;
        }
        self.ensure_intent(place);
        match method {
            Method::Card => {
                let charge = self.new_charge(place, "succeeded", true);
                self.set_session(place, "complete", "paid");
                self.money_comes(place, charge);
                self.tell_session(place, "completed");
                self.lived("paid at once");
            }
            Method::Hold => {
                let charge = self.new_charge(place, "succeeded", false);
                self.set_session(place, "complete", "unpaid");
                self.set_intent(place, "requires_capture", 0);
                let payment = &mut self.payments[place];
                payment.ledger.held = amount;
                payment.standing = Standing::Authorized;
                self.tell_charge(place, charge, "charge.succeeded");
                self.tell_intent(place, "payment_intent.amount_capturable_updated");
                self.tell_session(place, "completed");
                self.lived("held");
            }
            Method::Debit => {
                let charge = self.new_charge(place, "pending", true);
                self.set_session(place, "complete", "unpaid");
                self.set_intent(place, "processing", 0);
                self.payments[place].standing = Standing::Processing;
                self.pay_invoice_with_intent(place);
                self.tell_intent(place, "payment_intent.processing");
                self.tell_charge(place, charge, "charge.pending");
                self.tell_session(place, "completed");
                self.lived("a debit on its way");
            }
            Method::Voucher => {
                self.set_session(place, "complete", "unpaid");
                self.set_intent(place, "requires_action", 0);
                self.payments[place].standing = Standing::Processing;
                self.tell_intent(place, "payment_intent.requires_action");
                self.tell_session(place, "completed");
                self.lived("a voucher");
            }
        }
        true
    }

    /// The money of that charge is the shop's.
    fn money_comes(&mut self, place: usize, charge: usize) {
        let payment = &mut self.payments[place];
        let amount = payment.amount;
        payment.ledger.took = amount;
        payment.standing = Standing::Paid;
        self.set_intent(place, "succeeded", amount);
        self.tell_charge(place, charge, "charge.succeeded");
        self.tell_intent(place, "payment_intent.succeeded");
        if self.payments[place].invoice.is_some() {
            self.pay_invoice_with_intent(place);
            self.set_invoice(place, "paid");
            self.tell_invoice(place, "invoice.paid");
            self.tell_invoice(place, "invoice.payment_succeeded");
            self.tell_invoice_payment(place);
        }
    }

    fn pay_invoice_with_intent(&mut self, place: usize) {
        let id = self.id("inpay_");
        if let Some(invoice) = &mut self.payments[place].invoice {
            invoice.payment.get_or_insert(id);
        }
    }

    /// A debit or a voucher is paid.
    pub fn settle(&mut self, place: usize) -> bool {
        if self.payments[place].standing != Standing::Processing {
            return false;
        }
        self.strictly_later();
        let pending = |charge: &Charge| charge.status == "pending";
        let known = self.payments[place].charges.iter().position(pending);
        let charge = match known {
            Some(charge) => charge,
            None => self.new_charge(place, "succeeded", true),
        };
        self.payments[place].charges[charge].status = "succeeded";
        self.set_session(place, "complete", "paid");
        self.money_comes(place, charge);
        self.tell_session(place, "async_payment_succeeded");
        self.lived("a delayed payment arrives");
        true
    }

    /// A debit or a voucher is not paid.
    pub fn fail(&mut self, place: usize) -> bool {
        let payment = &self.payments[place];
        let is_first_invoice = payment.invoice.is_some() && payment.session.is_some();
        if payment.standing != Standing::Processing || is_first_invoice {
            return false;
        }
        let pending = |charge: &Charge| charge.status == "pending";
        let known = payment.charges.iter().position(pending);
        let (alone, by_invoice) = (payment.session.is_none(), payment.invoice.is_some());
        self.strictly_later();
        self.set_intent(place, "requires_payment_method", 0);
        let payment = &mut self.payments[place];
        let is_open = payment
            .invoice
            .as_ref()
            .is_some_and(|invoice| invoice.status == "open");
        payment.standing = if is_open {
            Standing::Pending
        } else {
            Standing::Failed
        };
        if alone && !by_invoice {
            // Asked, it looks like a card that was declined.
            payment.vague.push("pending");
        }
        if let Some(charge) = known {
            self.payments[place].charges[charge].status = "failed";
            self.tell_charge(place, charge, "charge.failed");
        }
        self.tell_intent(place, "payment_intent.payment_failed");
        self.tell_session(place, "async_payment_failed");
        if by_invoice {
            // Stripe takes a card the next time.
            self.payments[place].method = Method::Card;
            self.tell_invoice(place, "invoice.payment_failed");
        }
        self.lived("a delayed payment fails");
        true
    }

    /// A debit that had succeeded comes back after weeks.
    pub fn come_back(&mut self, place: usize) -> bool {
        let payment = &self.payments[place];
        let Some(sale) = payment.sale else {
            return false;
        };
        let others = || self.payments.iter().filter(|p| p.sale == Some(sale));
        let alone = others().filter(|other| {
            !matches!(
                other.standing,
                Standing::Failed | Standing::Canceled | Standing::Expired
            )
        });
        if payment.method != Method::Debit
            || payment.standing != Standing::Paid
            || payment.invoice.is_some()
            || !payment.refunds.is_empty()
            || !payment.disputes.is_empty()
            || payment.ledger.came_back
            || alone.count() > 1
        {
            return false;
        }
        let Some(charge) = payment.taken() else {
            return false;
        };
        self.strictly_later();
        self.sales[sale].can_repeat = false;
        self.set_intent(place, "requires_payment_method", 0);
        let payment = &mut self.payments[place];
        payment.charges[charge].status = "failed";
        payment.ledger.came_back = true;
        payment.unaskable = payment.session.is_none();
        self.tell_charge(place, charge, "charge.failed");
        self.tell_intent(place, "payment_intent.payment_failed");
        self.lived("a debit comes back late");
        true
    }

    /// The shop, or time, cancels what is neither paid nor held.
    pub fn cancel(&mut self, place: usize) -> bool {
        let payment = &self.payments[place];
        let voucher = payment.method == Method::Voucher && payment.standing == Standing::Processing;
        let alone = payment.session.is_none() && payment.invoice.is_none();
        let is_idle = payment.standing == Standing::Pending && alone && payment.vague.is_empty();
        if !voucher && !is_idle {
            return false;
        }
        self.set_intent(place, "canceled", 0);
        self.payments[place].standing = Standing::Canceled;
        self.tell_intent(place, "payment_intent.canceled");
        self.lived("a payment is canceled");
        true
    }

    /// Nobody has paid in time.
    pub fn expire(&mut self, place: usize) -> bool {
        let payment = &self.payments[place];
        let is_open = payment
            .session
            .as_ref()
            .is_some_and(|session| session.status == "open");
        if !is_open {
            return false;
        }
        // One that names another order would make it, as long as its session is not known.
        let is_misnamed = self.is_misnamed(payment);
        let is_tied = self.habits.old
            || self.habits.reference
            || payment.intent_order.is_some() && !is_misnamed;
        let cancels = self.habits.expiry_cancels && payment.intent.is_some() && !is_misnamed;
        self.set_session(place, "expired", "unpaid");
        self.payments[place].standing = Standing::Expired;
        if cancels {
            self.set_intent(place, "canceled", 0);
            if is_tied {
                self.payments[place].standing = Standing::Canceled;
                // The session, asked for, does not name its intent any more.
                self.payments[place].vague.push("expired");
            }
            self.tell_intent(place, "payment_intent.canceled");
        }
        let payment = &mut self.payments[place];
        if payment.intent_order.is_some() && !payment.charges.is_empty() {
            // Nothing may say that the attempt was one of this session.
            payment.vague.push("pending");
        }
        self.tell_session(place, "expired");
        self.lived("a session expires");
        true
    }

    /// What was lost is asked for, and no event tells it: an expired session names no intent, so one
    /// that carries the order's name and was asked for before stands alone and may still be paid.
    pub fn is_asked_for_at_the_end(&mut self) {
        for payment in &mut self.payments {
            let is_loose = payment.intent.is_some() && payment.intent_order.is_some();
            if is_loose && payment.standing == Standing::Expired {
                payment.vague.push("pending");
            }
        }
    }

    /// The shop captures what is held.
    pub fn capture(&mut self, place: usize, part: Part) -> bool {
        let payment = &self.payments[place];
        let Some(charge) = payment.good() else {
            return false;
        };
        let is_first = payment.standing == Standing::Authorized;
        let held = payment.ledger.held;
        if !is_first && (!payment.captures_begun || held == 0) {
            return false;
        }
        let take = match part {
            Part::All => held,
            Part::Most | Part::Step => held * 3 / 5,
            Part::Tip if is_first => held + held / 5,
            Part::Tip => held,
        };
        let is_last = !matches!(part, Part::Step);
        let payment = &mut self.payments[place];
        payment.standing = Standing::Paid;
        payment.captures_begun = !is_last;
        payment.ledger.took += take;
        payment.ledger.held = if is_last { 0 } else { held - take };
        payment.quiet_until = self.now + 1;
        let took = payment.ledger.took;
        let one = &mut payment.charges[charge];
        one.captured = true;
        one.amount_captured = took;
        one.amount = one.amount.max(took);
        let released = if is_last { one.amount - took } else { 0 };
        one.amount_refunded = released;
        let status = if is_last {
            "succeeded"
        } else {
            "requires_capture"
        };
        self.set_intent(place, status, took);
        if is_last {
            self.set_session(place, "complete", "paid");
        }
        if is_first || self.habits.steps_told {
            self.tell_charge(place, charge, "charge.captured");
        }
        let kind = if is_last {
            "succeeded"
        } else {
            "amount_capturable_updated"
        };
        self.tell_intent(place, &format!("payment_intent.{kind}"));
        if released > 0 {
            self.release_refund(place, charge, released);
        }
        self.lived(match part {
            Part::All if is_first => "captured in full",
            Part::Most if is_first => "captured in part, the rest released",
            Part::Tip if is_first => "captured with a tip",
            Part::Step => "captured in steps",
            Part::Most => "captured in steps, the rest released",
            Part::All | Part::Tip => "captured in steps to the end",
        });
        true
    }

    /// Stripe keeps a Refund of what was held and not taken.
    fn release_refund(&mut self, place: usize, charge: usize, amount: i64) {
        let id = self.id("re_");
        self.payments[place].refunds.push(Refund {
            id,
            made: self.now,
            charge,
            amount,
            status: "succeeded",
            is_release: true,
        });
        if self.habits.release_told && !self.habits.old {
            let refund = self.payments[place].refunds.len() - 1;
            self.tell_refund(place, refund, "refund.created");
            self.tell_charge(place, charge, "charge.refunded");
        }
    }

    /// The shop, or time, lets go what is held.
    pub fn release(&mut self, place: usize, by_time: bool) -> bool {
        let payment = &self.payments[place];
        let (true, Some(charge)) = (payment.standing == Standing::Authorized, payment.good())
        else {
            return false;
        };
        self.set_intent(place, "canceled", 0);
        let payment = &mut self.payments[place];
        payment.standing = Standing::Canceled;
        payment.ledger.held = 0;
        payment.charges[charge].amount_refunded = payment.amount;
        let amount = payment.amount;
        self.tell_intent(place, "payment_intent.canceled");
        let kind = if by_time {
            "charge.expired"
        } else {
            "charge.refunded"
        };
        self.tell_charge(place, charge, kind);
        self.release_refund(place, charge, amount);
        self.lived(if by_time {
            "a hold expires"
        } else {
            "a hold is released"
        });
        true
    }

    // ── After the money was taken ───────────────────────────────────────────────────────────────

    pub fn refund(&mut self, place: usize, share: i64, status: &'static str) -> bool {
        let payment = &self.payments[place];
        let left = payment.ledger.took - payment.ledger.given;
        let (Some(charge), true) = (payment.taken(), left > 0) else {
            return false;
        };
        if payment.ledger.came_back || payment.refunds.len() > 4 {
            return false;
        }
        self.now = self.now.max(payment.quiet_until);
        let amount = (left * share / WHOLE).max(1);
        let is_through = status == "succeeded";
        let id = self.id(if self.habits.old { "pyr_" } else { "re_" });
        let counted = is_through || self.habits.pending_counts;
        let made = self.now;
        let payment = &mut self.payments[place];
        payment.ledger.given += amount;
        payment.ledger.pending += if is_through { 0 } else { amount };
        payment.charges[charge].amount_refunded += if counted { amount } else { 0 };
        payment.refunds.push(Refund {
            id,
            made,
            charge,
            amount,
            status,
            is_release: false,
        });
        let refund = payment.refunds.len() - 1;
        if !self.habits.old {
            self.tell_refund(place, refund, "refund.created");
        }
        if counted {
            self.tell_charge(place, charge, "charge.refunded");
        }
        self.lived(match (is_through, share) {
            (true, WHOLE) => "refunded in full",
            (true, _) => "refunded in part",
            (false, _) => "a refund that is pending",
        });
        true
    }

    /// A refund becomes `succeeded`, `failed` or `canceled`.
    pub fn refund_goes_on(&mut self, place: usize, refund: usize, to: &'static str) -> bool {
        let Some(known) = self.payments[place].refunds.get(refund).cloned() else {
            return false;
        };
        let was_through = known.status == "succeeded";
        let is_open = ["pending", "requires_action"].contains(&known.status);
        let may = match to {
            "succeeded" | "canceled" => is_open,
            _ => is_open || was_through,
        };
        if !may || known.is_release {
            return false;
        }
        let fails = to != "succeeded";
        if fails && self.habits.old {
            // Without refund.created its place among the others is seen by the second alone.
            self.strictly_later();
            self.payments[place].quiet_until = self.now + 1;
        }
        let counted = was_through || self.habits.pending_counts;
        let payment = &mut self.payments[place];
        payment.refunds[refund].status = to;
        payment.ledger.pending -= if is_open { known.amount } else { 0 };
        payment.ledger.given -= if fails { known.amount } else { 0 };
        let total = &mut payment.charges[known.charge].amount_refunded;
        *total += match (fails, counted) {
            (true, true) => -known.amount,
            (true, false) | (false, true) => 0,
            (false, false) => known.amount,
        };
        if !self.habits.old {
            if fails && to == "failed" {
                self.tell_refund(place, refund, "refund.failed");
            }
            self.tell_refund(place, refund, "refund.updated");
        }
        self.tell_refund(place, refund, "charge.refund.updated");
        if !fails && !counted {
            self.tell_charge(place, known.charge, "charge.refunded");
        }
        self.lived(match (fails, was_through) {
            (true, true) => "a refund fails after it had succeeded",
            (true, false) => "a refund fails",
            (false, _) => "a pending refund arrives",
        });
        true
    }

    pub fn dispute(&mut self, place: usize, share: i64, inquiry: bool) -> bool {
        let payment = &self.payments[place];
        let Some(charge) = payment.taken() else {
            return false;
        };
        let amount = (payment.ledger.took * share / WHOLE).max(1);
        let known: i64 = payment.disputes.iter().map(|dispute| dispute.amount).sum();
        if payment.ledger.came_back || known + amount > payment.ledger.took {
            return false;
        }
        let id = self.id("du_");
        let status = if inquiry {
            "warning_needs_response"
        } else {
            "needs_response"
        };
        let made = self.now;
        let disputes = &mut self.payments[place].disputes;
        disputes.push(Dispute {
            id,
            made,
            charge,
            amount,
            status,
        });
        let dispute = disputes.len() - 1;
        self.tell_dispute(place, dispute, "created");
        if !inquiry {
            self.tell_dispute(place, dispute, "funds_withdrawn");
        }
        self.lived(match (inquiry, share) {
            (true, _) => "an inquiry",
            (false, WHOLE) => "a dispute of all",
            (false, _) => "a dispute of a part",
        });
        true
    }

    pub fn dispute_goes_on(&mut self, place: usize, dispute: usize, way: usize) -> bool {
        let Some(known) = self.payments[place].disputes.get(dispute).cloned() else {
            return false;
        };
        let ways: &[(&'static str, &'static str)] = match known.status {
            "warning_needs_response" => &[
                ("warning_under_review", "an inquiry under review"),
                ("warning_closed", "an inquiry closed"),
                ("needs_response", "an inquiry becomes a dispute"),
            ],
            "warning_under_review" => &[
                ("warning_closed", "an inquiry closed"),
                ("needs_response", "an inquiry becomes a dispute"),
            ],
            "needs_response" => &[
                ("under_review", "a dispute under review"),
                ("lost", "a dispute lost"),
                ("prevented", "a dispute prevented"),
                ("won", "a dispute won"),
            ],
            "under_review" => &[("lost", "a dispute lost"), ("won", "a dispute won")],
            "lost" if !self.habits.old => &[("appeal_needs_response", "an appeal")],
            "appeal_needs_response" => &[
                ("appeal_under_review", "an appeal under review"),
                ("lost", "an appeal lost"),
            ],
            "appeal_under_review" => &[("lost", "an appeal lost"), ("won", "an appeal won")],
            _ => return false,
        };
        let (status, life) = ways[way % ways.len()];
        if known.status == "lost" {
            self.strictly_later();
        }
        let was_inquiry = known.status.starts_with("warning");
        self.payments[place].disputes[dispute].status = status;
        let is_over = ["warning_closed", "prevented", "lost", "won"].contains(&status);
        self.tell_dispute(place, dispute, if is_over { "closed" } else { "updated" });
        match status {
            "won" | "prevented" => self.tell_dispute(place, dispute, "funds_reinstated"),
            "needs_response" if was_inquiry => self.tell_dispute(place, dispute, "funds_withdrawn"),
            _ => {}
        }
        self.lived(life);
        true
    }

    pub fn review(&mut self, place: usize) -> bool {
        let now = self.now;
        let payment = &self.payments[place];
        if payment.good().is_none() {
            return false;
        }
        match &payment.review {
            None => {
                let id = self.id("prv_");
                self.payments[place].review = Some(Review {
                    id,
                    made: now,
                    open: true,
                });
                self.tell_review(place, "review.opened");
                self.lived("a review");
            }
            Some(review) if review.open => {
                if let Some(review) = &mut self.payments[place].review {
                    review.open = false;
                }
                self.tell_review(place, "review.closed");
                self.lived("a review closed");
            }
            Some(_) => return false,
        }
        true
    }

    pub fn warn(&mut self, place: usize) -> bool {
        let payment = &self.payments[place];
        if payment.good().is_none() || payment.warning.is_some() {
            return false;
        }
        let id = self.id("issfr_");
        self.payments[place].warning = Some(id);
        self.tell_warning(place);
        self.lived("an early fraud warning");
        true
    }

    // ── Invoices ────────────────────────────────────────────────────────────────────────────────

    /// A subscription's next invoice: paid, refused, left open, or of nothing.
    pub fn renew(&mut self, subscription: usize, way: usize) -> bool {
        let Some(known) = self.subscriptions.get(subscription).cloned() else {
            return false;
        };
        let is_begun = self.payments.iter().any(|payment| {
            let session = payment.session.as_ref();
            payment.standing == Standing::Paid
                && session.is_some_and(|s| s.subscription.as_ref() == Some(&known.id))
        });
        if !is_begun || self.payments.len() > 8 {
            return false;
        }
        let is_free = way % 4 == 3;
        let amount = if is_free { 0 } else { known.price };
        let invoice = self.invoice("subscription_cycle", Some((known.id, known.order)), None);
        let mut payment = Payment::new(amount, Method::Card);
        if !is_free {
            payment.sale = Some(self.order(invoice.id.clone(), None, amount, false));
        }
        payment.invoice = Some(invoice);
        self.payments.push(payment);
        let place = self.payments.len() - 1;
        match way % 4 {
            0 => {
                self.pay(place);
                self.lived("a renewal");
            }
            1 => {
                self.decline(place);
                self.lived("a renewal that is refused");
            }
            2 => self.lived("a renewal that waits"),
            _ => {
                self.set_invoice(place, "paid");
                self.payments[place].standing = Standing::Paid;
                self.tell_invoice(place, "invoice.paid");
                self.lived("a renewal of nothing");
            }
        }
        true
    }

    /// The shop gives up, voids, or was paid in another way.
    pub fn end_invoice(&mut self, place: usize, way: usize) -> bool {
        let payment = &self.payments[place];
        let status = payment.invoice.as_ref().map(|invoice| invoice.status);
        let is_unpaid = matches!(payment.standing, Standing::Pending | Standing::Failed);
        let is_first = payment.session.is_some();
        if !is_unpaid || is_first || payment.sale.is_none() {
            return false;
        }
        let (status, kind, life, standing) = match (status, way % 3) {
            (Some("open"), 0) => (
                "uncollectible",
                "invoice.marked_uncollectible",
                "an invoice uncollectible",
                Standing::Failed,
            ),
            (Some("open" | "uncollectible"), 1) => (
                "void",
                "invoice.voided",
                "an invoice voided",
                Standing::Canceled,
            ),
            (Some("open" | "uncollectible"), 2) => (
                "paid",
                "invoice.paid",
                "an invoice paid out of band",
                Standing::Paid,
            ),
            _ => return false,
        };
        self.set_invoice(place, status);
        let payment = &mut self.payments[place];
        payment.standing = standing;
        if standing == Standing::Paid {
            payment.ledger.took = payment.amount;
        }
        if status != "uncollectible" && payment.intent.is_some() {
            self.set_intent(place, "canceled", 0);
            self.tell_intent(place, "payment_intent.canceled");
        }
        self.tell_invoice(place, kind);
        self.lived(life);
        true
    }

    // ── Events ──────────────────────────────────────────────────────────────────────────────────

    fn tell_session(&mut self, place: usize, what: &str) {
        if let Some(object) = self.session_object(&self.payments[place], self.habits.old) {
            self.payments[place].told = true;
            self.tell(&format!("checkout.session.{what}"), &object);
        }
    }

    fn tell_intent(&mut self, place: usize, kind: &str) {
        let is_misnamed = self.is_misnamed(&self.payments[place]);
        let payment = &mut self.payments[place];
        payment.told |= payment.intent_order.is_some() && !is_misnamed;
        if let Some(object) = self.intent_object(&self.payments[place], self.habits.old) {
            self.tell(kind, &object);
        }
    }

    fn tell_charge(&mut self, place: usize, charge: usize, kind: &str) {
        let object = self.charge_object(&self.payments[place], charge, self.habits.old);
        self.tell(kind, &object);
    }

    fn tell_refund(&mut self, place: usize, refund: usize, kind: &str) {
        let object = self.refund_object(&self.payments[place], refund);
        self.tell(kind, &object);
    }

    fn tell_dispute(&mut self, place: usize, dispute: usize, what: &str) {
        let object = self.dispute_object(&self.payments[place], dispute);
        self.tell(&format!("charge.dispute.{what}"), &object);
    }

    fn tell_invoice(&mut self, place: usize, kind: &str) {
        if let Some(object) = self.invoice_object(&self.payments[place], self.habits.old) {
            self.payments[place].told = true;
            self.tell(kind, &object);
        }
    }

    fn tell_invoice_payment(&mut self, place: usize) {
        if let (Some(object), false) = (
            self.invoice_payment_object(&self.payments[place]),
            self.habits.old,
        ) {
            self.tell("invoice_payment.paid", &object);
        }
    }

    fn tell_review(&mut self, place: usize, kind: &str) {
        if let Some(object) = self.review_object(&self.payments[place]) {
            self.tell(kind, &object);
        }
    }

    fn tell_warning(&mut self, place: usize) {
        if let Some(object) = self.warning_object(&self.payments[place]) {
            self.tell("radar.early_fraud_warning.created", &object);
        }
    }

    fn tell(&mut self, kind: &str, object: &Value) {
        let twice = self.habits.twins && self.events.len().is_multiple_of(3);
        let id = self.id("evt_");
        self.emit(id, kind, object);
        if twice {
            let id = self.id("evt_");
            self.emit(id, kind, object);
            self.lived("two events for one fact");
        }
    }

    fn emit(&mut self, id: String, kind: &str, object: &Value) {
        let text = self.event_text(&id, kind, object);
        self.events.push(Emitted {
            id,
            kind: kind.to_owned(),
            created: self.now,
            text,
        });
    }
}
