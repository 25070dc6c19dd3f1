# What `paidup notify` tells, received: verified, stored with the version guard. pip install standardwebhooks
import http.server, json, os, sqlite3
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

webhook = Webhook(os.environ["NOTIFY_SECRET"])
db = sqlite3.connect("shop.db", isolation_level=None)
db.execute("CREATE TABLE IF NOT EXISTS orders (id TEXT PRIMARY KEY, version INTEGER, body TEXT, became TEXT)")
# A message may be late or told twice: only a greater version counts.
UPSERT = """INSERT INTO orders VALUES (?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET version = excluded.version,
    body = excluded.body, became = excluded.became WHERE version < excluded.version"""

class Receiver(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"] or 0))
        try:
            message = webhook.verify(body, dict((k.lower(), v) for k, v in self.headers.items()))
        except WebhookVerificationError:
            return self.answer(400)
        if message["type"] == "order.changed":  # other types are for another day: 204 as well
            data = message["data"]
            order = data["order"]
            db.execute("BEGIN IMMEDIATE")
            # The order under its earlier names: whatever you did for those is done for this one.
            for name in data["alsoKnownAs"]:
                db.execute(UPSERT, (name, data["version"], None, order["orderId"]))
            db.execute(UPSERT, (order["orderId"], data["version"], json.dumps(order), None))
            db.execute("COMMIT")
        self.answer(204)  # only now: it is stored

    def answer(self, status):
        self.send_response(status)
        self.end_headers()

http.server.HTTPServer(("127.0.0.1", int(os.environ.get("PORT", 8000))), Receiver).serve_forever()
