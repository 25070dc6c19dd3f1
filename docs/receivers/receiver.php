<?php // What `paidup notify` tells, received: verified, stored with the version guard. Needs php-sqlite3 alone.
$body = file_get_contents('php://input');
[$id, $at, $given] = [$_SERVER['HTTP_WEBHOOK_ID'] ?? '', $_SERVER['HTTP_WEBHOOK_TIMESTAMP'] ?? '', $_SERVER['HTTP_WEBHOOK_SIGNATURE'] ?? ''];
$key = base64_decode(substr(getenv('NOTIFY_SECRET'), strlen('whsec_')));
$expected = 'v1,' . base64_encode(hash_hmac('sha256', "$id.$at.$body", $key, true));
$matches = array_filter(explode(' ', $given), fn ($one) => hash_equals($expected, $one));
if (!$matches || !ctype_digit($at) || abs(time() - (int) $at) > 300) {
    http_response_code(400);
    exit;
}
$message = json_decode($body, true, 512, JSON_THROW_ON_ERROR);
if ($message['type'] === 'order.changed') { // other types are for another day: 204 as well
    $db = new PDO('sqlite:' . (getenv('SHOP_DB') ?: 'shop.db'), null, null, [PDO::ATTR_ERRMODE => PDO::ERRMODE_EXCEPTION]);
    $db->exec('PRAGMA busy_timeout = 5000');
    $db->exec('CREATE TABLE IF NOT EXISTS orders (id TEXT PRIMARY KEY, version INTEGER, body TEXT, became TEXT)');
    // A message may be late or told twice: only a greater version counts.
    $upsert = $db->prepare('INSERT INTO orders VALUES (?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET version = excluded.version,
        body = excluded.body, became = excluded.became WHERE version < excluded.version');
    ['version' => $version, 'alsoKnownAs' => $names, 'order' => $order] = $message['data'];
    $db->exec('BEGIN IMMEDIATE');
    // The order under its earlier names: whatever you did for those is done for this one.
    foreach ($names as $name) {
        $upsert->execute([$name, $version, null, $order['orderId']]);
    }
    $upsert->execute([$order['orderId'], $version, json_encode($order), null]);
    $db->exec('COMMIT');
}
http_response_code(204); // only now: it is stored
