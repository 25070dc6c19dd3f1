<?php // What has changed, asked of `paidup api`, for who cannot be told. Run it every minute: it goes on where it was.
$base = getenv('PAIDUP_API') ?: 'http://127.0.0.1:4244';
$header = 'Authorization: Bearer ' . getenv('API_TOKEN');
$db = new PDO('sqlite:shop.db', null, null, [PDO::ATTR_ERRMODE => PDO::ERRMODE_EXCEPTION]);
$db->exec('CREATE TABLE IF NOT EXISTS orders (id TEXT PRIMARY KEY, body TEXT, became TEXT)');
$db->exec('CREATE TABLE IF NOT EXISTS place (id INTEGER PRIMARY KEY CHECK (id = 1), cursor TEXT)');
$write = $db->prepare('INSERT OR REPLACE INTO orders VALUES (?, ?, ?)');
do {
    $cursor = $db->query('SELECT cursor FROM place')->fetchColumn();
    $query = http_build_query(['limit' => 100] + ($cursor === false ? [] : ['cursor' => $cursor]));
    $context = stream_context_create(['http' => ['header' => $header, 'timeout' => 30]]);
    $answer = file_get_contents("$base/orders?$query", false, $context);
    if ($answer === false) {
        exit(1);
    }
    $found = json_decode($answer, true, 512, JSON_THROW_ON_ERROR);
    $db->exec('BEGIN IMMEDIATE');
    if ($found['reset']) { // an older backup was restored: everything follows again
        $db->exec('DELETE FROM orders');
    }
    foreach ($found['gone'] as $gone) { // whatever you did for it is done for the order that it became
        $write->execute([$gone['orderId'], null, $gone['replacedBy']]);
    }
    foreach ($found['orders'] as $order) {
        $write->execute([$order['orderId'], json_encode($order), null]);
    }
    $db->prepare('INSERT OR REPLACE INTO place VALUES (1, ?)')->execute([$found['cursor']]);
    $db->exec('COMMIT');
} while ($found['hasMore']);
