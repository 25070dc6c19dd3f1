//! The units that `paidup install` puts in place, with what belongs to them.

/// Path, content and purpose of every file that is ours. One sandbox serves all units: as a drop-in
/// of `paidup.service` and of those whose names begin with `paidup-`.
pub(crate) const FILES: &[(&str, &str, &str)] = &[
    (
        "/usr/local/lib/systemd/system/paidup.socket",
        include_str!("../../systemd/paidup.socket"),
        "the port for webhooks, open while paidup restarts",
    ),
    (
        "/usr/local/lib/systemd/system/paidup-admin.socket",
        include_str!("../../systemd/paidup-admin.socket"),
        "the port for health and metrics",
    ),
    (
        "/usr/local/lib/systemd/system/paidup.service",
        include_str!("../../systemd/paidup.service"),
        "the server",
    ),
    (
        "/usr/local/lib/systemd/system/paidup-check.service",
        include_str!("../../systemd/paidup-check.service"),
        "the check before a reload",
    ),
    (
        "/usr/local/lib/systemd/system/paidup-page.socket",
        include_str!("../../systemd/paidup-page.socket"),
        "where one looks at the orders: http://localhost:4245 through ssh",
    ),
    (
        "/usr/local/lib/systemd/system/paidup-page.service",
        include_str!("../../systemd/paidup-page.service"),
        "shows them; runs only while somebody looks",
    ),
    (
        "/usr/local/lib/systemd/system/paidup-api.service",
        include_str!("../../systemd/paidup-api.service"),
        "orders over HTTP for the shop; off until you enable it",
    ),
    (
        "/usr/local/lib/systemd/system/paidup-notify.service",
        include_str!("../../systemd/paidup-notify.service"),
        "tells the shop of changed orders; off until you enable it",
    ),
    (
        "/usr/local/lib/systemd/system/paidup-notify@.service",
        include_str!("../../systemd/paidup-notify@.service"),
        "tells one more destination",
    ),
    (
        "/usr/local/lib/systemd/system/paidup-notify@.service.d/20-destination.conf",
        include_str!("../../systemd/destination.conf"),
        "what that destination has of its own",
    ),
    (
        "/usr/local/lib/systemd/system/paidup-reconcile.service",
        include_str!("../../systemd/paidup-reconcile.service"),
        "the comparison with Stripe",
    ),
    (
        "/usr/local/lib/systemd/system/paidup-reconcile.timer",
        include_str!("../../systemd/paidup-reconcile.timer"),
        "its time of day, if you want it",
    ),
    (
        "/usr/local/lib/systemd/system/paidup-backup.service",
        include_str!("../../systemd/paidup-backup.service"),
        "the backup",
    ),
    (
        "/usr/local/lib/systemd/system/paidup-backup.timer",
        include_str!("../../systemd/paidup-backup.timer"),
        "its time of day",
    ),
    (
        "/usr/local/lib/systemd/system/paidup.service.d/10-sandbox.conf",
        include_str!("../../systemd/sandbox.conf"),
        "what the server may not do",
    ),
    (
        "/usr/local/lib/systemd/system/paidup-.service.d/10-sandbox.conf",
        include_str!("../../systemd/sandbox.conf"),
        "what the others may not do",
    ),
    (
        "/usr/local/lib/systemd/system/paidup@.socket",
        include_str!("../../systemd/paidup@.socket"),
        "the port for webhooks of one more shop",
    ),
    (
        "/usr/local/lib/systemd/system/paidup-admin@.socket",
        include_str!("../../systemd/paidup-admin@.socket"),
        "its health and metrics",
    ),
    (
        "/usr/local/lib/systemd/system/paidup@.service",
        include_str!("../../systemd/paidup@.service"),
        "its server",
    ),
    (
        "/usr/local/lib/systemd/system/paidup-check@.service",
        include_str!("../../systemd/paidup-check@.service"),
        "its check before a reload",
    ),
    (
        "/usr/local/lib/systemd/system/paidup-backup@.service",
        include_str!("../../systemd/paidup-backup@.service"),
        "its backup",
    ),
    (
        "/usr/local/lib/systemd/system/paidup-backup@.timer",
        include_str!("../../systemd/paidup-backup@.timer"),
        "its time of day",
    ),
    (
        "/usr/local/lib/systemd/system/paidup-api@.service",
        include_str!("../../systemd/paidup-api@.service"),
        "its orders over HTTP",
    ),
    (
        "/usr/local/lib/systemd/system/paidup-reconcile@.service",
        include_str!("../../systemd/paidup-reconcile@.service"),
        "its comparison with Stripe",
    ),
    (
        "/usr/local/lib/systemd/system/paidup-reconcile@.timer",
        include_str!("../../systemd/paidup-reconcile@.timer"),
        "its time of day",
    ),
    (
        "/usr/local/lib/systemd/system/paidup-shop-notify@.service",
        include_str!("../../systemd/paidup-shop-notify@.service"),
        "tells it of changed orders",
    ),
    (
        "/usr/local/lib/systemd/system/paidup-page@.socket",
        include_str!("../../systemd/paidup-page@.socket"),
        "where one looks at its orders",
    ),
    (
        "/usr/local/lib/systemd/system/paidup-page@.service",
        include_str!("../../systemd/paidup-page@.service"),
        "shows them",
    ),
    (
        "/usr/local/lib/systemd/system/paidup@.service.d/20-shop.conf",
        include_str!("../../systemd/shop.conf"),
        "what that shop has of its own",
    ),
    (
        "/usr/local/lib/systemd/system/paidup-shop-notify@.service.d/20-shop.conf",
        include_str!("../../systemd/shop.conf"),
        "what that shop has of its own",
    ),
    (
        "/usr/local/lib/systemd/system/paidup-page@.service.d/20-shop.conf",
        include_str!("../../systemd/shop.conf"),
        "what that shop has of its own",
    ),
    (
        "/usr/local/lib/systemd/system/paidup-check@.service.d/20-shop.conf",
        include_str!("../../systemd/shop.conf"),
        "what that shop has of its own",
    ),
    (
        "/usr/local/lib/systemd/system/paidup-backup@.service.d/20-shop.conf",
        include_str!("../../systemd/shop.conf"),
        "what that shop has of its own",
    ),
    (
        "/usr/local/lib/systemd/system/paidup-api@.service.d/20-shop.conf",
        include_str!("../../systemd/shop.conf"),
        "what that shop has of its own",
    ),
    (
        "/usr/local/lib/systemd/system/paidup-reconcile@.service.d/20-shop.conf",
        include_str!("../../systemd/shop.conf"),
        "what that shop has of its own",
    ),
    (
        "/usr/local/lib/systemd/system/paidup@.service.d/10-sandbox.conf",
        include_str!("../../systemd/sandbox.conf"),
        "what its server may not do",
    ),
    (
        "/usr/local/lib/sysusers.d/paidup.conf",
        include_str!("../../systemd/sysusers.conf"),
        "its user",
    ),
    (
        "/usr/local/lib/tmpfiles.d/paidup.conf",
        include_str!("../../systemd/tmpfiles.conf"),
        "its folders",
    ),
    (
        "/usr/local/lib/systemd/journald@paidup.conf.d/paidup.conf",
        include_str!("../../systemd/journald.conf"),
        "its journal: 14 to 30 days, no rate limit",
    ),
    (
        "/usr/local/lib/systemd/system/systemd-journald@paidup.service.d/10-paidup.conf",
        include_str!("../../systemd/journald-restart.conf"),
        "its journal comes back when it dies",
    ),
];
