//! The page in its sandbox: started by a look, gone when nobody looks, back when it was brought down.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use crate::machine::{self, Machine};

const PAGE: &str = "/run/paidup/page.sock";

#[test]
fn a_look_starts_the_page_and_nothing_that_brings_it_down_harms_a_delivery() {
    let machine = Machine::serving("page", "RATE_LIMIT_WEBHOOK_MAX=1000000\nAPI_TOKEN=canary");
    machine.does("paidup send-test --order ord_1 --env-file /etc/paidup/paidup.env");
    let socket = fs::metadata(machine.path(PAGE)).unwrap();
    assert_eq!(
        (socket.permissions().mode() & 0o777, socket.uid()),
        (0o660, 0)
    );
    let group = machine.does("stat -c %G /run/paidup/page.sock");
    assert_eq!(group.trim(), "paidup");
    assert_eq!(pid(&machine), "0", "no memory at rest");
    let seen = look(&machine, "localhost").unwrap();
    assert!(
        seen.starts_with("HTTP/1.1 200 ") && seen.contains("ord_1"),
        "{seen}"
    );
    let refused = look(&machine, "evil.example").unwrap();
    assert!(refused.starts_with("HTTP/1.1 421 "), "{refused}");
    let environment = machine.does(&format!("cat /proc/{}/environ", pid(&machine)));
    assert!(environment.contains("DATABASE_PATH"));
    for secret in [machine::SECRET, "canary"] {
        assert!(!environment.contains(secret), "{environment}");
    }
    let network = machine.does(&format!(
        "nsenter --net --target {} ss -Hltn",
        pid(&machine)
    ));
    assert_eq!(network, "");

    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let raise = Raise(&over);
        let deliveries = scope.spawn(|| {
            let mut count = 0;
            while !over.load(SeqCst) || count == 0 {
                // Fails unless the answer is 200.
                let line = "paidup send-test --env-file /etc/paidup/paidup.env";
                machine.does(&format!("{line} --order ord_flow{count}"));
                count += 1;
            }
            count
        });
        for (name, count, request) in ATTACKS {
            let mut open = Vec::new();
            for _ in 0..*count {
                let Ok(mut stream) = UnixStream::connect(machine.path(PAGE)) else {
                    break;
                };
                stream
                    .set_write_timeout(Some(Duration::from_secs(1)))
                    .unwrap();
                let _ = stream.write_all(request.as_bytes());
                open.push(stream);
            }
            let made = Instant::now();
            machine.until(name, || {
                look(&machine, "localhost").is_some_and(|seen| seen.starts_with("HTTP/1.1 200 "))
            });
            eprintln!("{name}: {:?}", made.elapsed());
        }
        drop(raise);
        assert!(deliveries.join().unwrap() > 0);
    });

    let path = machine.path("/etc/systemd/system/paidup-page.service.d/test.conf");
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let soon = "[Service]\nExecStart=\nExecStart=paidup page --leave-after 1\n";
    fs::write(path, soon).unwrap();
    machine.does("systemctl daemon-reload");
    machine.does("systemctl restart paidup-page.service");
    machine.until("it leaves when nobody looks", || pid(&machine) == "0");
    let result = machine.does("systemctl show --value -p Result paidup-page.service");
    assert_eq!(result.trim(), "success");
    let again = look(&machine, "localhost").unwrap();
    assert!(
        again.starts_with("HTTP/1.1 200 "),
        "the next click starts it: {again}"
    );
}

/// Ends what goes on until then, also when a test fails.
struct Raise<'a>(&'a AtomicBool);

impl Drop for Raise<'_> {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
    }
}

/// What a client writes on so many connections.
const ATTACKS: &[(&str, usize, &str)] = &[
    (
        "back after a body of 100 TB is promised",
        1,
        "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000000000000\r\n\r\n",
    ),
    (
        "back after bodies that never come",
        60,
        "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5000\r\n\r\n",
    ),
    ("back after HTTP/2", 200, "GET / HTTP/2.0\r\n\r\n"),
    ("back after clients that say nothing", 300, ""),
];

fn pid(machine: &Machine) -> String {
    let line = "systemctl show --value -p MainPID paidup-page.service";
    machine.does(line).trim().to_owned()
}

fn look(machine: &Machine, host: &str) -> Option<String> {
    look_at(PAGE, machine, host)
}

/// What one sees at the page's socket.
pub(crate) fn look_at(socket: &str, machine: &Machine, host: &str) -> Option<String> {
    let mut stream = UnixStream::connect(machine.path(socket)).ok()?;
    stream
        .set_read_timeout(Some(Duration::from_secs(5)))
        .unwrap();
    let request = format!("GET /orders HTTP/1.1\r\nHost: {host}\r\n\r\n");
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = Vec::new();
    let mut buffer = [0; 16 * 1024];
    // It ends the connection when we do.
    while !answer.ends_with(b"</html>") {
        match stream.read(&mut buffer) {
            Ok(got @ 1..) => answer.extend_from_slice(&buffer[..got]),
            Ok(0) | Err(_) => return None,
        }
    }
    Some(String::from_utf8_lossy(&answer).into_owned())
}
