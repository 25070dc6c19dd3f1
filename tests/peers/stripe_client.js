// Stripe's library for node as a client of the stand-in. Writes what it learns as JSON.
const Stripe = require('stripe');

const input = JSON.parse(require('fs').readFileSync(0, 'utf8'));
const { hostname, port } = new URL(input.base);
const stripe = new Stripe(input.key, {
  host: hostname, port, protocol: 'http', telemetry: false, maxNetworkRetries: input.retries ?? 0,
});

const tasks = {
  async calls() {
    const session = await stripe.checkout.sessions.create({
      mode: 'payment',
      line_items: [
        {
          quantity: 2,
          price_data: {
            currency: 'eur', unit_amount: 1250, product_data: { name: 'Café & thé + 100 %' },
          },
        },
        { quantity: 1, price: 'price_1Tea' },
      ],
      metadata: { note: 'à & b', order_id: 'ord_1' },
      client_reference_id: 'ord_1',
      payment_intent_data: { metadata: { order_id: 'ord_1' } },
      success_url: 'https://shop.example.com/thanks?session_id={CHECKOUT_SESSION_ID}',
      cancel_url: 'https://shop.example.com/cart',
      expires_at: input.expires_at,
    }, { idempotencyKey: 'k1' });
    const again = await stripe.checkout.sessions.retrieve(session.id);
    const filtered = await stripe.events.list({
      limit: 100,
      types: ['checkout.session.completed', 'charge.succeeded'],
      created: { gte: input.created_from },
      delivery_success: false,
    });
    const older = await stripe.events.list({ limit: 100, starting_after: input.event });
    const refunds = await stripe.refunds.list({ payment_intent: input.intent, limit: 100 });
    const intent = await stripe.paymentIntents.retrieve(input.intent);
    const charge = await stripe.charges.retrieve(input.charge);
    const endpoints = await stripe.webhookEndpoints.list({ limit: 100 });
    const made = await stripe.webhookEndpoints.create({
      url: 'https://shop.example.com/stripe/webhook',
      enabled_events: ['checkout.session.completed', 'charge.refunded'],
      api_version: '2026-10-28.endive',
      description: 'à & b',
    }, { idempotencyKey: 'k2' });
    const changed = await stripe.webhookEndpoints.update(made.id, {
      enabled_events: ['*'], disabled: false,
    }, { idempotencyKey: 'k3' });
    const deleted = await stripe.webhookEndpoints.del(made.id);
    return {
      session: [session.id, session.status, session.amount_total, again.id],
      lists: [filtered, older, refunds, endpoints].map(
        (list) => list.data.map((object) => object.id)),
      payment: [intent.id, intent.status, charge.id, charge.amount_refunded],
      endpoint: [endpoints.data[0].url, endpoints.data[0].status],
      made: [made.secret.slice(0, 6), made.api_version, made.enabled_events,
        changed.secret ?? null, changed.enabled_events, changed.status, deleted.deleted],
    };
  },

  async objects() {
    const { invoice, intent, charge, review, held } = input;
    const lists = [
      await stripe.invoicePayments.list({ invoice, limit: 100 }),
      await stripe.disputes.list({ payment_intent: intent, limit: 100 }),
      await stripe.disputes.list({ charge, limit: 100 }),
      await stripe.refunds.list({ charge, limit: 100 }),
      await stripe.charges.list({ payment_intent: intent, limit: 100 }),
      await stripe.radar.earlyFraudWarnings.list({ charge, limit: 100 }),
      await stripe.invoicePayments.list({ invoice: input.open_invoice, status: 'open' }),
      await stripe.refunds.list({ charge: held }),
    ];
    const paid = await stripe.invoices.retrieve(invoice);
    const [taken, part] = [charge, held].map((id) => stripe.charges.retrieve(id));
    const money = async (promise) => {
      const one = await promise;
      return [one.status, one.captured, one.amount_captured, one.amount_refunded];
    };
    const looked = await stripe.reviews.retrieve(review);
    const nobody = await stripe.disputes.list({ charge: 'ch_1nobody' })
      .catch((error) => [error.code, error.param]);
    return {
      lists: lists.map((list) => list.data.map((object) => object.id)),
      payment: lists[0].data[0].payment.payment_intent,
      invoice: [paid.status, paid.amount_due, paid.amount_paid, paid.billing_reason,
        paid.parent.subscription_details.subscription],
      charge: await money(taken),
      held: await money(part),
      review: [looked.open, looked.reason, looked.payment_intent],
      nobody,
    };
  },

  async pages() {
    const older = [];
    for await (const event of stripe.events.list({ limit: 100 })) older.push(event.id);
    const newer = [];
    for await (const event of stripe.events.list({ limit: 100, ending_before: input.oldest })) {
      newer.push(event.id);
    }
    return { older, newer };
  },

  async failures() {
    const names = [];
    for (let number = 1; number <= input.count; number += 1) {
      try {
        await stripe.events.list({ limit: number });
        names.push('none');
      } catch (error) {
        names.push(error.type);
      }
    }
    return names;
  },

  async key_reused() {
    const make = (order) => stripe.checkout.sessions.create({
      mode: 'payment',
      line_items: [{ quantity: 1, price: 'price_1Tea' }],
      client_reference_id: order,
      success_url: 'https://shop.example.com/thanks',
    }, { idempotencyKey: 'k1' });
    const [first, replayed] = [await make('ord_1'), await make('ord_1')];
    const refused = await make('ord_2').catch((error) => error.type);
    const unknown = await stripe.checkout.sessions.create({
      mode: 'payment', payment_method_types: ['card'],
    }).catch((error) => [error.type, error.code, error.param]);
    return { same: first.id === replayed.id, refused, unknown };
  },
};

tasks[input.task]().then((result) => console.log(JSON.stringify(result)));
