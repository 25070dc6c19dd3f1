"""Stripe's library for Python as a client of the stand-in. Writes what it learns as JSON."""

import json
import sys

import stripe

given = json.load(sys.stdin)
client = stripe.StripeClient(
    given["key"],
    base_addresses={"api": given["base"]},
    max_network_retries=given.get("retries", 0),
)
api = client.v1


def calls():
    session = api.checkout.sessions.create(
        {
            "mode": "payment",
            "line_items": [
                {
                    "quantity": 2,
                    "price_data": {
                        "currency": "eur",
                        "unit_amount": 1250,
                        "product_data": {"name": "Café & thé + 100 %"},
                    },
                },
                {"quantity": 1, "price": "price_1Tea"},
            ],
            "metadata": {"note": "à & b", "order_id": "ord_1"},
            "client_reference_id": "ord_1",
            "payment_intent_data": {"metadata": {"order_id": "ord_1"}},
            "success_url": "https://shop.example.com/thanks?session_id={CHECKOUT_SESSION_ID}",
            "cancel_url": "https://shop.example.com/cart",
            "expires_at": given["expires_at"],
        },
        {"idempotency_key": "k1"},
    )
    again = api.checkout.sessions.retrieve(session.id)
    filtered = api.events.list(
        {
            "limit": 100,
            "types": ["checkout.session.completed", "charge.succeeded"],
            "created": {"gte": given["created_from"]},
            "delivery_success": False,
        }
    )
    older = api.events.list({"limit": 100, "starting_after": given["event"]})
    refunds = api.refunds.list({"payment_intent": given["intent"], "limit": 100})
    intent = api.payment_intents.retrieve(given["intent"])
    charge = api.charges.retrieve(given["charge"])
    endpoints = api.webhook_endpoints.list({"limit": 100})
    made = api.webhook_endpoints.create(
        {
            "url": "https://shop.example.com/stripe/webhook",
            "enabled_events": ["checkout.session.completed", "charge.refunded"],
            "api_version": "2026-10-28.endive",
            "description": "à & b",
        },
        {"idempotency_key": "k2"},
    )
    changed = api.webhook_endpoints.update(
        made.id,
        {"enabled_events": ["*"], "disabled": False},
        {"idempotency_key": "k3"},
    )
    deleted = api.webhook_endpoints.delete(made.id)
    lists = [filtered, older, refunds, endpoints]
    return {
        "session": [session.id, session.status, session.amount_total, again.id],
        "lists": [[thing.id for thing in things.data] for things in lists],
        "payment": [intent.id, intent.status, charge.id, charge.amount_refunded],
        "endpoint": [endpoints.data[0].url, endpoints.data[0].status],
        "made": [
            made.secret[:6],
            made.api_version,
            made.enabled_events,
            getattr(changed, "secret", None),
            changed.enabled_events,
            changed.status,
            deleted.deleted,
        ],
    }


def objects():
    invoice, intent, charge = (given[name] for name in ("invoice", "intent", "charge"))
    lists = [
        api.invoice_payments.list({"invoice": invoice, "limit": 100}),
        api.disputes.list({"payment_intent": intent, "limit": 100}),
        api.disputes.list({"charge": charge, "limit": 100}),
        api.refunds.list({"charge": charge, "limit": 100}),
        api.charges.list({"payment_intent": intent, "limit": 100}),
        api.radar.early_fraud_warnings.list({"charge": charge, "limit": 100}),
        api.invoice_payments.list({"invoice": given["open_invoice"], "status": "open"}),
        api.refunds.list({"charge": given["held"]}),
    ]
    paid = api.invoices.retrieve(invoice)

    def money(id):
        one = api.charges.retrieve(id)
        return [one.status, one.captured, one.amount_captured, one.amount_refunded]

    looked = api.reviews.retrieve(given["review"])
    try:
        nobody = api.disputes.list({"charge": "ch_1nobody"}).data
    except stripe.StripeError as error:
        nobody = [error.code, error.param]
    return {
        "lists": [[thing.id for thing in things.data] for things in lists],
        "payment": lists[0].data[0].payment.payment_intent,
        "invoice": [
            paid.status,
            paid.amount_due,
            paid.amount_paid,
            paid.billing_reason,
            paid.parent.subscription_details.subscription,
        ],
        "charge": money(charge),
        "held": money(given["held"]),
        "review": [looked.open, looked.reason, looked.payment_intent],
        "nobody": nobody,
    }


def pages():
    older = api.events.list({"limit": 100})
    newer = api.events.list({"limit": 100, "ending_before": given["oldest"]})
    return {
        "older": [event.id for event in older.auto_paging_iter()],
        "newer": [event.id for event in newer.auto_paging_iter()],
    }


def failures():
    names = []
    for number in range(1, given["count"] + 1):
        try:
            api.events.list({"limit": number})
            names.append("none")
        except stripe.StripeError as error:
            names.append(type(error).__name__)
    return names


def key_reused():
    def make(order):
        return api.checkout.sessions.create(
            {
                "mode": "payment",
                "line_items": [{"quantity": 1, "price": "price_1Tea"}],
                "client_reference_id": order,
                "success_url": "https://shop.example.com/thanks",
            },
            {"idempotency_key": "k1"},
        )

    first, replayed = make("ord_1"), make("ord_1")
    try:
        refused = make("ord_2").id
    except stripe.StripeError as error:
        refused = type(error).__name__
    try:
        unknown = api.checkout.sessions.create(
            {"mode": "payment", "payment_method_types": ["card"]}
        ).id
    except stripe.StripeError as error:
        unknown = [type(error).__name__, error.code, error.param]
    return {"same": first.id == replayed.id, "refused": refused, "unknown": unknown}


print(json.dumps(globals()[given["task"]]()))
