#!/usr/bin/env node
// The peer: what a shop writes with Express, Stripe's SDK and better-sqlite3. It keeps the promises of
// `serve` in ../webhook.rs: `cargo bench -- --against benches/express/server.js`.
import Database from 'better-sqlite3';
import express from 'express';
import Stripe from 'stripe';

const [, , , , database] = process.argv;
const db = new Database(database);
db.pragma('journal_mode = WAL');
db.pragma('synchronous = FULL');
db.exec(`CREATE TABLE event (id TEXT PRIMARY KEY, type TEXT, created INTEGER);
  CREATE TABLE orders (id TEXT PRIMARY KEY, session TEXT, status TEXT, amount INTEGER, currency TEXT);`);
const insert = db.prepare('INSERT INTO event VALUES (?, ?, ?) ON CONFLICT DO NOTHING');
const pay = db.prepare(`INSERT INTO orders VALUES (?, ?, 'paid', ?, ?)
  ON CONFLICT DO UPDATE SET status = 'paid', session = excluded.session`);
const apply = db.transaction(({ id, type, created, data: { object: session } }) => {
  if (insert.run(id, type, created).changes === 0) return 'duplicate';
  pay.run(session.client_reference_id, session.id, session.amount_total, session.currency);
  return 'applied';
});

const stripe = new Stripe('sk_test_unused');
const secret = 'whsec_bench0123456789abcdefghijklmnop';
const app = express();
app.post('/stripe/webhook', express.raw({ type: 'application/json' }), (request, response) => {
  const signature = request.headers['stripe-signature'];
  const event = stripe.webhooks.constructEvent(request.body, signature, secret, 3600);
  response.json({ received: true, outcome: apply.immediate(event) });
});
const server = app.listen(0, '127.0.0.1', () => console.error(`127.0.0.1:${server.address().port}`));
process.stdin.resume().on('end', () => {
  console.error('1');
  process.exit(0);
});
