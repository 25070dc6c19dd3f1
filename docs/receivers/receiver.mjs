// What `paidup notify` tells, received: verified, stored with the version guard.
// npm install standardwebhooks node-sqlite3-wasm (or your own database's driver)
import { createServer } from "node:http";
import standardwebhooks from "standardwebhooks";
import sqlite from "node-sqlite3-wasm";

const webhook = new standardwebhooks.Webhook(process.env.NOTIFY_SECRET);
const db = new sqlite.Database("shop.db");
db.exec("CREATE TABLE IF NOT EXISTS orders (id TEXT PRIMARY KEY, version INTEGER, body TEXT, became TEXT)");
// A message may be late or told twice: only a greater version counts.
const upsert = `INSERT INTO orders VALUES (?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET version = excluded.version,
  body = excluded.body, became = excluded.became WHERE version < excluded.version`;

createServer(async (request, response) => {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  let message;
  try {
    message = webhook.verify(Buffer.concat(chunks).toString("utf8"), request.headers);
  } catch {
    return response.writeHead(400).end();
  }
  if (message.type === "order.changed") { // other types are for another day: 204 as well
    const { version, alsoKnownAs, order } = message.data;
    db.exec("BEGIN IMMEDIATE");
    // The order under its earlier names: whatever you did for those is done for this one.
    for (const name of alsoKnownAs) db.run(upsert, [name, version, null, order.orderId]);
    db.run(upsert, [order.orderId, version, JSON.stringify(order), null]);
    db.exec("COMMIT");
  }
  response.writeHead(204).end(); // only now: it is stored
}).listen(process.env.PORT ?? 8000, "127.0.0.1");
