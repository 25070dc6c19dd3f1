//! Another shop on the same machine, as `docs/SECOND_SHOP.md` says, beside the first one that goes on.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use crate::fake_stripe::{FakeStripe, KEY};
use crate::load::deliver;
use crate::machine::Machine;
use crate::{shows, tells};

const DOCUMENT: &str = include_str!("../../docs/SECOND_SHOP.md");
const ENV_FILE: &str = "/etc/paidup/shop-coffee.env";

/// On a machine where the first shop serves.
pub(crate) fn opens_beside_the_first(machine: &Machine) {
    let stripe = machine.inside(FakeStripe::start).join().unwrap();
    let settings = block("```ini\n");
    let told = Arc::default();
    let _receiver = tells::receiver(machine, "127.0.0.1:8002", &told);
    let settings = format!(
        "{settings}STRIPE_API_BASE={}\nNOTIFY_URL=http://127.0.0.1:8002/\nNOTIFY_SECRET={}\n",
        stripe.base(),
        tells::KEY
    );
    fs::write(machine.path(ENV_FILE), settings).unwrap();
    fs::set_permissions(machine.path(ENV_FILE), PermissionsExt::from_mode(0o600)).unwrap();
    let pid = machine.property("MainPID");
    let blocks = DOCUMENT.split("```sh\n").skip(1);
    let lines = blocks.flat_map(|block| block.split("```").next().unwrap().lines());
    for line in lines {
        let line = line.trim().trim_start_matches("sudo ");
        let line = line.replace(
            "paidup connect",
            &format!("STRIPE_SECRET_KEY={KEY} paidup connect --yes"),
        );
        machine.shell(&line);
    }
    let of_coffee = |words: &str| machine.does(&format!("paidup {words} --env-file {ENV_FILE}"));
    let orders = of_coffee("orders list --json");
    assert_eq!(orders.matches("\"status\":\"paid\"").count(), 1, "{orders}");
    machine.does("systemctl reload paidup@coffee.service");
    machine.does("systemctl start paidup-backup@coffee.service");
    machine.shell("systemctl stop 'paidup*@coffee.*'");
    of_coffee("restore /var/lib/paidup-coffee/backup");
    machine.does(
        "systemctl start paidup@coffee.socket paidup-admin@coffee.socket paidup-page@coffee.socket",
    );
    machine.does("systemctl start paidup@coffee.service paidup-shop-notify@coffee.service");
    of_coffee("rotate verify");
    of_coffee("send-test --order test_of_coffee");
    let log = "journalctl --namespace=paidup -o cat -u paidup@coffee.service";
    machine.until("it is in the log", || {
        machine.does(log).contains("test_of_coffee")
    });
    machine.until("its own shop is told", || {
        told.row("test_of_coffee") == "paid"
    });
    let page = || shows::look_at("/run/paidup-coffee/page.sock", machine, "localhost").unwrap();
    assert!(page().contains("test_of_coffee"));
    // Each has its own.
    assert_eq!(machine.property("MainPID"), pid);
    assert_eq!(deliver(machine, "ord_of_the_first"), 200);
    let first = machine.does("paidup orders list --json");
    assert!(
        !first.contains("\"orderId\":\"test_of_coffee\"") && first.contains("ord_of_the_first"),
        "{first}"
    );
    assert!(!of_coffee("orders list --json").contains("ord_of_the_first"));
    assert!(!page().contains("ord_of_the_first"));
    assert_eq!(told.row("ord_of_the_first"), "");
}

fn block(start: &str) -> String {
    let (_, rest) = DOCUMENT.split_once(start).unwrap();
    let lines = rest.split("```").next().unwrap().lines();
    lines.map(|line| format!("{}\n", line.trim())).collect()
}
