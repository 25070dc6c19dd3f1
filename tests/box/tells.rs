//! The units that tell the shop, in their sandbox.

use std::fs;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::machine::{self, Machine};
use crate::receiver::{Receiver, Reply, Shop};

pub(crate) const KEY: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// A receiver on the machine itself.
pub(crate) fn receiver(machine: &Machine, address: &'static str, shop: &Arc<Shop>) -> Receiver {
    let listener = machine.inside(move || TcpListener::bind(address).unwrap());
    Receiver::on(listener.join().unwrap(), Arc::clone(shop), |_| {
        Reply::Status(204)
    })
}

#[test]
fn the_shop_hears_within_two_seconds_also_after_a_reboot_and_so_does_a_phone() {
    let settings = format!("NOTIFY_URL=http://127.0.0.1:8000/\nNOTIFY_SECRET={KEY}");
    let mut machine = Machine::serving("notify", &settings);
    let (shop, phone) = (Arc::default(), Arc::default());
    let receivers = [
        receiver(&machine, "127.0.0.1:8000", &shop),
        receiver(&machine, "127.0.0.1:8001", &phone),
    ];
    let own =
        format!("NOTIFY_NAME=phone\nNOTIFY_URL=http://127.0.0.1:8001/\nNOTIFY_SECRET={KEY}\n");
    fs::write(machine.path("/etc/paidup/notify-phone.env"), own).unwrap();
    machine.does("systemctl enable --now paidup-notify");
    machine.does("systemctl enable --now paidup-notify@phone");
    machine.does("paidup send-test --order ord_1 --env-file /etc/paidup/paidup.env");
    let sent = Instant::now();
    machine.until("both are told", || {
        shop.row("ord_1") == "paid" && phone.row("ord_1") == "paid"
    });
    let took = shop.heard()[0].at.saturating_duration_since(sent);
    eprintln!("told {took:?} after send-test had ended");
    assert!(took < Duration::from_secs(2), "{took:?}");
    // It knows nothing of Stripe's, and the server nothing of the shop's.
    for (unit, foreign) in [("paidup-notify", machine::SECRET), ("paidup", KEY)] {
        let pid = machine.does(&format!("systemctl show --value -p MainPID {unit}.service"));
        let environment = machine.does(&format!("cat /proc/{}/environ", pid.trim()));
        assert!(
            environment.contains("DATABASE_PATH") && !environment.contains(foreign),
            "{unit}"
        );
    }
    drop(receivers);
    machine.does("paidup send-test --order ord_2 --env-file /etc/paidup/paidup.env");
    machine.until_journal_has("Shop cannot be told: paidup tries on");
    machine.reboot();
    let _again = receiver(&machine, "127.0.0.1:8000", &shop);
    machine.does("systemctl start paidup-notify.service");
    machine.until("what happened before the reboot is told", || {
        shop.row("ord_2") == "paid"
    });
    assert_eq!(shop.heard_of("ord_2").len(), 1);
    machine.does("systemctl disable --now paidup-notify@phone");
    machine.does("paidup notify forget phone --env-file /etc/paidup/paidup.env");
}
