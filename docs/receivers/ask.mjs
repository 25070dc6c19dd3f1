// What has changed, asked of `paidup api`, for who cannot be told. Run it every minute: it goes on where it was.
// npm install node-sqlite3-wasm (or your own database's driver)
import sqlite from "node-sqlite3-wasm";

const base = process.env.PAIDUP_API ?? "http://127.0.0.1:4244";
const headers = { Authorization: `Bearer ${process.env.API_TOKEN}` };
const db = new sqlite.Database("shop.db");
db.exec("CREATE TABLE IF NOT EXISTS orders (id TEXT PRIMARY KEY, body TEXT, became TEXT)");
db.exec("CREATE TABLE IF NOT EXISTS place (id INTEGER PRIMARY KEY CHECK (id = 1), cursor TEXT)");
for (let hasMore = true; hasMore; ) {
  const place = db.get("SELECT cursor FROM place");
  const query = new URLSearchParams({ limit: 100, ...(place && { cursor: place.cursor }) });
  const answer = await fetch(`${base}/orders?${query}`, { headers, signal: AbortSignal.timeout(30_000) });
  if (!answer.ok) throw new Error(`paidup api answered ${answer.status}`);
  const found = await answer.json();
  db.exec("BEGIN IMMEDIATE");
  if (found.reset) db.exec("DELETE FROM orders"); // an older backup was restored: everything follows again
  for (const gone of found.gone) // whatever you did for it is done for the order that it became
    db.run("INSERT OR REPLACE INTO orders VALUES (?, NULL, ?)", [gone.orderId, gone.replacedBy]);
  for (const order of found.orders)
    db.run("INSERT OR REPLACE INTO orders VALUES (?, ?, NULL)", [order.orderId, JSON.stringify(order)]);
  db.run("INSERT OR REPLACE INTO place VALUES (1, ?)", [found.cursor]);
  db.exec("COMMIT");
  hasMore = found.hasMore;
}
db.close();
