# What has changed, asked of `paidup api`, for who cannot be told. Run it every minute: it goes on where it was.
import json, os, sqlite3, urllib.parse, urllib.request

base = os.environ.get("PAIDUP_API", "http://127.0.0.1:4244")
db = sqlite3.connect("shop.db", isolation_level=None)
db.execute("CREATE TABLE IF NOT EXISTS orders (id TEXT PRIMARY KEY, body TEXT, became TEXT)")
db.execute("CREATE TABLE IF NOT EXISTS place (id INTEGER PRIMARY KEY CHECK (id = 1), cursor TEXT)")
has_more = True
while has_more:
    place = db.execute("SELECT cursor FROM place").fetchone()
    query = urllib.parse.urlencode({"limit": 100, **({"cursor": place[0]} if place else {})})
    request = urllib.request.Request(f"{base}/orders?{query}")
    request.add_header("Authorization", "Bearer " + os.environ["API_TOKEN"])
    with urllib.request.urlopen(request, timeout=30) as answer:
        found = json.load(answer)
    db.execute("BEGIN IMMEDIATE")
    if found["reset"]:  # an older backup was restored: everything follows again
        db.execute("DELETE FROM orders")
    for gone in found["gone"]:  # whatever you did for it is done for the order that it became
        db.execute("INSERT OR REPLACE INTO orders VALUES (?, NULL, ?)", (gone["orderId"], gone["replacedBy"]))
    for order in found["orders"]:
        db.execute("INSERT OR REPLACE INTO orders VALUES (?, ?, NULL)", (order["orderId"], json.dumps(order)))
    db.execute("INSERT OR REPLACE INTO place VALUES (1, ?)", (found["cursor"],))
    db.execute("COMMIT")
    has_more = found["hasMore"]
