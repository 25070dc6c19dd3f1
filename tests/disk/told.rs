//! No order is told a state that is not on disk: what a server has written and not synced yet is not
//! told, and what a killed one has left is synced first.

use std::time::Duration;

use crate::disk::{Call, Disk, Effect, Fault, Step};
use crate::harness::receiver::{Receiver, Reply};
use crate::harness::{Setup, eventually, paid};

/// Its place in `ENDINGS`.
const LOG: usize = 1;

#[test]
fn what_is_not_on_disk_is_not_told() {
    let receiver = Receiver::start(|_| Reply::Status(200));
    let setup = Setup::new()
        .set("ADMIN_ADDR", "off")
        .set("NOTIFY_URL", &receiver.url())
        .set("NOTIFY_SECRET", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
    let (disk, setup) = Disk::under(setup, true);
    let on_another_disk = setup.again().set("LD_PRELOAD", "");
    let mut server = setup.start();
    let mut notify = on_another_disk.start_with(&["notify"]);
    server.accepts(paid("a"), "applied");
    eventually("it is told", || receiver.shop.row("ord_a") == "paid");

    // Written whole, with the mark of a commit, and killed before the sync.
    disk.arm(
        Fault {
            call: Call::Sync,
            effect: Effect::Kill,
            lasts: false,
        },
        1,
    );
    assert!(server.try_to_deliver(paid("b")).is_none());
    server.wait();
    std::thread::sleep(Duration::from_secs(3));
    assert!(
        receiver.shop.heard_of("ord_b").is_empty(),
        "not on disk, and told"
    );

    // Whoever opens the file next finds it in the log.
    notify.kill();
    disk.heal();
    let syncs = || {
        let steps = disk.recorded();
        steps
            .iter()
            .filter(|step| matches!(step, Step::Sync(LOG)))
            .count()
    };
    let before = syncs();
    let _notify = setup.start_with(&["notify"]);
    eventually("it is told", || receiver.shop.row("ord_b") == "paid");
    assert!(syncs() > before, "told, and not synced");
}
