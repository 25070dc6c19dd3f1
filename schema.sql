-- The whole database: schema 1. Facts are stored (event, object, payment). The
-- status is computed from them and kept beside them only to be read and counted (orders, change,
-- tally).
--
-- Personal data has no place here: no name, no email, no body of an event. An order id is the
-- shop's own text and is kept as it is.
--
-- Times are Unix seconds. A column that ends in `_at` has this host's clock, `created` has Stripe's.
-- Amounts are whole numbers of the currency's smallest unit and, but in `takings`, never negative.
--
-- Keys and indexes are chosen so that a delivery costs the same with five million events as with
-- none. Our own keys are numbers that grow (payment, event, orders, change): new rows go to the end of
-- their trees, where the pages are in memory already. Stripe's ids begin with a time, which has the
-- same effect. Only a session's id is random from its start: among five million, each new one would
-- have to read, log and write a page that nobody else needs. So sessions are filed by month, and those
-- of one month are on few pages (src/store/object.rs). The names of the orders are the shop's: if they
-- are random, each order touches a page of its own in their index. Partial indexes hold only what is
-- asked for. Nothing is indexed that no delivery, command or metric looks up, as each index is one more
-- page for a delivery to write.

-- One Stripe payment: a session, its intent, its charges, refunds and disputes. Which objects belong
-- together follows from the ids in them, so two payments may turn out to be one.
CREATE TABLE payment (
    id         INTEGER PRIMARY KEY,              -- that of its order, or negative: src/store/payments.rs
    order_id   INTEGER,                          -- of orders; NULL while no event has named it: parked
    weight     INTEGER,                          -- how much it counts in its order: the lowest most
    since      INTEGER,                          -- Stripe's time of its first event
    lead       TEXT,                             -- its first objects: breaks a tie
    other_shop INTEGER NOT NULL,                 -- 1: it belongs to another shop on the account
    facts      TEXT NOT NULL                     -- JSON: src/truth/payment.rs
);
-- The payments that have not the number of their order: hardly any has. The first one of an order is the
-- one that counts most of them.
CREATE INDEX payment_by_order ON payment (order_id, weight, since, lead) WHERE order_id <> id;
-- Counted at each scrape.
CREATE INDEX payment_parked ON payment (id) WHERE order_id IS NULL AND other_shop = 0;

-- Finds the payment of any Stripe object. The key is the table (WITHOUT ROWID): no second tree.
CREATE TABLE object (
    id      BLOB PRIMARY KEY,                    -- pi_…, ch_…, re_…, du_…; of a session: src/store/object.rs
    payment INTEGER NOT NULL REFERENCES payment (id)
) WITHOUT ROWID;

-- The ledger: every event that Stripe has sent or listed, once. `seq` is the order of arrival.
CREATE TABLE event (
    seq         INTEGER PRIMARY KEY,
    id          TEXT NOT NULL UNIQUE,            -- evt_…
    type        TEXT NOT NULL,
    created     INTEGER,                         -- NULL for thin events
    received_at INTEGER NOT NULL,
    object      TEXT,                            -- what it is about; NULL when it was ignored
    outcome     TEXT NOT NULL,                   -- applied, duplicate, parked, ignored
    reason      TEXT,                            -- why it was ignored: type, account, thin, mode, no_sale, other_shop
    request_id  TEXT,                            -- finds its log lines; NULL if we fetched it
    sha256      BLOB NOT NULL                    -- of the body
);

-- The orders. Every column but `id`, `updated_at` and `changed` follows from the payments. `created`
-- comes from the payments or, before there are any, from the shop's request.
CREATE TABLE orders (
    id         INTEGER PRIMARY KEY,
    name       TEXT NOT NULL UNIQUE,             -- the shop's order id, or the session's id
    status     TEXT NOT NULL,                    -- src/truth/order.rs
    dispute    TEXT NOT NULL,                    -- none, open, won, lost
    amount     INTEGER NOT NULL,                 -- taken or, before that, asked for
    refunded   INTEGER NOT NULL,
    pending    INTEGER NOT NULL,                 -- the part of `refunded` that is still pending
    disputed   INTEGER NOT NULL,                 -- held by open and lost disputes
    lost       INTEGER NOT NULL,                 -- held by lost disputes and not refunded
    currency   TEXT,                             -- of all amounts
    flags      TEXT NOT NULL,                    -- words separated by commas
    reference  TEXT,                             -- the order that it names, where that does not decide
    totals     TEXT,                             -- JSON: the sums of several payments (src/truth/order.rs)
    counted    INTEGER,                          -- the quarter of `takings` that counts it, once it took money
    session    TEXT,
    intent     TEXT,
    created    INTEGER NOT NULL,                 -- of its first event
    updated_at INTEGER NOT NULL,
    changed    INTEGER NOT NULL                  -- greater than that of every earlier change, and
                                                 -- than the clock's seconds times 2^20
);
-- Of each status, newest first. All orders, newest first, are a few of each status.
CREATE INDEX orders_by_status ON orders (status, created);
-- Those that need somebody: hardly any.
CREATE INDEX orders_flagged ON orders (created) WHERE (flags <> '' OR dispute = 'open');
CREATE INDEX orders_by_reference ON orders (reference) WHERE reference IS NOT NULL;
-- For those who poll: what has changed since I last asked?
CREATE UNIQUE INDEX orders_by_change ON orders (changed);

-- And what is gone? The old name of an order that took its real one, and an order whose payments
-- turned out to be for another. Whoever keeps a copy of the orders removes it (src/store/feed.rs).
CREATE TABLE gone (
    changed INTEGER PRIMARY KEY,                 -- from the same numbers as orders.changed
    name    TEXT NOT NULL,
    became  TEXT                                 -- the name of the order that it became
);
-- What was an order called before?
CREATE INDEX gone_by_became ON gone (became) WHERE became IS NOT NULL;

-- When a server began to write this file. `after` is the last number that the file had given then. A
-- number between the two is of a history that restoring an older backup has undone.
CREATE TABLE history (
    began    INTEGER PRIMARY KEY,                -- from the same numbers as orders.changed
    after    INTEGER NOT NULL,
    restored INTEGER NOT NULL                    -- 1: by `paidup restore`, so there are such numbers
);

-- The greatest number given so far.
CREATE VIEW last_number AS SELECT max((SELECT coalesce(max(changed), 0) FROM orders),
    (SELECT coalesce(max(changed), 0) FROM gone), (SELECT coalesce(max(began), 0) FROM history)) AS number;
-- No order disappears unrecorded, whoever removes it.
CREATE TRIGGER gone_rename AFTER UPDATE OF name ON orders WHEN OLD.name <> NEW.name BEGIN
    INSERT INTO gone SELECT number + 1, OLD.name, NEW.name FROM last_number;
END;
CREATE TRIGGER gone_delete AFTER DELETE ON orders BEGIN
    INSERT INTO gone SELECT number + 1, OLD.name, NULL FROM last_number;
END;

-- The story of each order: at most one change for each event, in the order of arrival. An order that
-- takes its real name keeps its story.
CREATE TABLE change (
    order_id    INTEGER NOT NULL REFERENCES orders (id),
    seq         INTEGER NOT NULL,                -- of the event; stays when that is pruned
    at          INTEGER NOT NULL,
    from_status TEXT,                            -- NULL when the order was first heard of
    to_status   TEXT NOT NULL,
    dispute     TEXT NOT NULL,                   -- after the change, as are the next three
    amount      INTEGER NOT NULL,
    refunded    INTEGER NOT NULL,
    flags       TEXT NOT NULL,
    event_id    TEXT NOT NULL,
    event_type  TEXT NOT NULL,
    request_id  TEXT,
    PRIMARY KEY (order_id, seq)
) WITHOUT ROWID;

-- What the shop has asked for through `paidup api`. Written before Stripe is called, so that one
-- request makes one session wherever it is cut off (src/store/checkout.rs).
CREATE TABLE checkout (
    key        TEXT PRIMARY KEY,                 -- the shop's Idempotency-Key, or the order's name
    order_name TEXT NOT NULL,
    sha256     BLOB,                             -- of the request; NULL once Stripe has refused it
    attempt    INTEGER NOT NULL,                 -- part of Stripe's idempotency key
    made_at    INTEGER NOT NULL,                 -- when this attempt began
    expires_at INTEGER NOT NULL,                 -- when the page expires
    session    TEXT,                             -- NULL until Stripe has answered
    url        TEXT                              -- of the page
) WITHOUT ROWID;
CREATE INDEX checkout_by_order ON checkout (order_name);
CREATE INDEX checkout_by_session ON checkout (session) WHERE session IS NOT NULL;

-- Whom `paidup notify` tells of changed orders (src/store/told.rs).
CREATE TABLE destination (
    name          TEXT PRIMARY KEY,
    cursor        INTEGER NOT NULL,              -- an orders.changed: told so far, or in `told`
    failing_since INTEGER,                       -- NULL while it can be told; this and the rest
    tries         INTEGER NOT NULL,
    tried         INTEGER,
    next_try      INTEGER,
    not_before    INTEGER,                       -- what it has asked for itself
    why           TEXT
) WITHOUT ROWID;

-- What each of them has heard of an order.
CREATE TABLE told (
    order_id    INTEGER NOT NULL REFERENCES orders (id) ON DELETE CASCADE,
    destination TEXT NOT NULL,
    version     INTEGER,                         -- the `changed` that it acknowledged last
    at          INTEGER,                         -- when it did
    tries       INTEGER NOT NULL,                -- how often it was told in vain of what came later
    tried       INTEGER,
    next_try    INTEGER,                         -- when it is told again; NULL: it need not be
    why         TEXT,
    PRIMARY KEY (order_id, destination)
) WITHOUT ROWID;
CREATE INDEX told_again ON told (destination, next_try) WHERE next_try IS NOT NULL;

-- Orders by status, counted as they change: counting all rows would make each scrape of the metrics
-- slower as the shop grows. Not by a trigger: a statement that fires one copies each page first.
CREATE TABLE tally (
    status TEXT PRIMARY KEY,
    orders INTEGER NOT NULL
) WITHOUT ROWID;

-- What was taken, given back and lost, by the quarter of an hour of Stripe's time: each time zone's days
-- begin with one. Changed with the orders, by what they have changed (src/truth/takings.rs).
CREATE TABLE takings (
    quarter  INTEGER NOT NULL,                   -- its first second
    currency TEXT NOT NULL,
    orders   INTEGER NOT NULL,                   -- whose orders.counted it is
    taken    INTEGER NOT NULL,
    refunded INTEGER NOT NULL,                   -- less than nothing where more refunds came back
    lost     INTEGER NOT NULL,
    PRIMARY KEY (quarter, currency)
) WITHOUT ROWID;

-- Whether everything here is live or test data. Settled by STRIPE_MODE or by the first event.
CREATE TABLE mode (
    id   INTEGER PRIMARY KEY CHECK (id = 1),
    word TEXT NOT NULL
);

-- What the readiness probe writes, to prove that the disk takes writes: about as much as a delivery, since
-- on a full disk a single page may still find room behind the log's last one.
CREATE TABLE probe (
    id   INTEGER PRIMARY KEY CHECK (id = 1),
    at   INTEGER NOT NULL,
    room BLOB NOT NULL
);
INSERT INTO probe VALUES (1, 0, zeroblob(16384));

-- When each of the operator's chores last succeeded.
CREATE TABLE chore (
    name TEXT PRIMARY KEY,                       -- backup, check, prune
    at   INTEGER NOT NULL
) WITHOUT ROWID;

-- What `paidup doctor` has found last, for the page that shows it.
CREATE TABLE examination (
    id       INTEGER PRIMARY KEY CHECK (id = 1),
    at       INTEGER NOT NULL,
    findings TEXT NOT NULL                       -- as `paidup doctor --json` has them, in an array
);
