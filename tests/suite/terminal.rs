//! What a person sees on a terminal: colours, and lines that fit.

use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::{self, JoinHandle};

use paidup::store::Store;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use tempfile::TempDir;

use crate::harness::eventually;

const SECRET: &str = "whsec_terminal";
const LONG: &str = "a-long-order-id-of-a-shop-that-likes-them-1234567890";

/// A shop with two orders, of which one was paid twice, and one has a long name.
struct Shop(TempDir);

impl Shop {
    fn open() -> Shop {
        let shop = Shop(tempfile::tempdir().unwrap());
        drop(Store::open(&shop.0.path().join("paidup.db")).unwrap());
        let server = shop.command(&["serve"]).stderr(Stdio::piped()).spawn();
        let mut server = server.unwrap();
        let mut stderr = server.stderr.take().unwrap();
        let mut said = Vec::new();
        eventually("the server starts", || {
            let mut part = [0; 256];
            let count = stderr.read(&mut part).unwrap();
            said.extend(&part[..count]);
            String::from_utf8_lossy(&said).contains("serves on")
        });
        let said = String::from_utf8(said).unwrap();
        let (_, rest) = said.split_once(" serves on ").unwrap();
        let address = rest.split(',').next().unwrap();
        let url = format!("http://{address}/stripe/webhook");
        for words in [
            ["checkout.session.completed", "--order", LONG],
            ["payment_intent.payment_failed", "--order", "ord_2"],
        ] {
            let mut send = shop.command(&["send-test", "--url", &url]);
            assert!(send.args(words).status().unwrap().success());
        }
        server.kill().unwrap();
        server.wait().unwrap();
        shop
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_paidup"));
        command
            .args(words)
            .env_clear()
            .env("DATABASE_PATH", "paidup.db")
            .env("STRIPE_WEBHOOK_SECRET", SECRET)
            .env("LISTEN_ADDR", "127.0.0.1:0")
            .env("ADMIN_ADDR", "off")
            .current_dir(self.0.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command
    }
}

/// A terminal of so many columns, and all that appears on it.
struct Terminal {
    screen: Option<File>,
    shown: JoinHandle<String>,
}

impl Terminal {
    fn open(columns: u16) -> Terminal {
        let keyboard = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&keyboard).unwrap();
        unlockpt(&keyboard).unwrap();
        let path = ptsname(&keyboard, Vec::new()).unwrap();
        let size = Winsize {
            ws_row: 24,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(&keyboard, size).unwrap();
        let path = Path::new(path.to_str().unwrap());
        let screen = OpenOptions::new()
            .read(true)
            .write(true)
            .open(path)
            .unwrap();
        let shown = thread::spawn(move || read_all(File::from(keyboard)));
        Terminal {
            screen: Some(screen),
            shown,
        }
    }

    fn handle(&self) -> OwnedFd {
        self.screen.as_ref().unwrap().try_clone().unwrap().into()
    }

    /// Everything, once nobody has it open any more.
    fn shown(mut self) -> String {
        self.screen = None;
        self.shown.join().unwrap().replace('\r', "")
    }
}

/// The end is an error (EIO): no writer is left.
fn read_all(mut keyboard: File) -> String {
    let (mut text, mut part) = (Vec::new(), [0; 4096]);
    while let Ok(count @ 1..) = keyboard.read(&mut part) {
        text.extend(&part[..count]);
    }
    String::from_utf8(text).unwrap()
}

fn shown(shop: &Shop, words: &[&str], columns: u16, vars: &[(&str, &str)]) -> String {
    let terminal = Terminal::open(columns);
    let mut command = shop.command(words);
    command.envs(vars.iter().copied()).stdout(terminal.handle());
    command.status().unwrap();
    // Its copy of the terminal must go as well.
    drop(command);
    terminal.shown()
}

/// What a line takes on the screen.
fn columns(line: &str) -> usize {
    let mut count = 0;
    let mut rest = line;
    while let Some((before, code)) = rest.split_once("\u{1b}[") {
        count += before.chars().count();
        rest = code.split_once('m').unwrap().1;
    }
    count + rest.chars().count()
}

#[test]
fn statuses_and_findings_have_colours_on_a_terminal_and_nowhere_else() {
    let shop = Shop::open();
    let list = ["orders", "list"];
    let on_terminal = shown(&shop, &list, 140, &[("TERM", "xterm")]);
    assert!(
        on_terminal.contains("\u{1b}[32mpaid\u{1b}[0m"),
        "{on_terminal:?}"
    );
    let check = shown(&shop, &["check"], 140, &[("HTTP_CONNECTIONS", "none")]);
    let problem = "\u{1b}[1;31mPROBLEM\u{1b}[0m  ";
    assert!(check.contains(problem), "{check:?}");
    // Yellow cannot be read on white.
    let warned = shown(&shop, &["check"], 140, &[("LOGLEVEL", "info")]);
    assert!(
        warned.contains("\u{1b}[1;35mwarning\u{1b}[0m  "),
        "{warned:?}"
    );
    assert!(!warned.contains("[33m") && !on_terminal.contains("[33m"));
    let check = shown(&shop, &["check"], 140, &[]);
    assert!(check.contains("\u{1b}[32mok\u{1b}[0m       "), "{check:?}");
    for (words, vars) in [
        (&list[..], ("NO_COLOR", "1")),
        (&list[..], ("TERM", "dumb")),
        (&["orders", "list", "--color", "never"], ("TERM", "xterm")),
        (&["orders", "list", "--json"], ("TERM", "xterm")),
    ] {
        let plain = shown(&shop, words, 140, &[vars]);
        assert!(
            plain.contains("paid") && !plain.contains('\u{1b}'),
            "{plain:?}"
        );
    }
    let piped = |words: &[&str]| {
        let output = shop.command(words).stdout(Stdio::piped()).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    assert!(!piped(&list).contains('\u{1b}'));
    assert!(piped(&["--color", "always", "orders", "list"]).contains("\u{1b}[32m"));
}

#[test]
fn every_command_fits_40_80_and_140_columns() {
    let shop = Shop::open();
    let events = String::from_utf8(
        shop.command(&["events", "list", "--json"])
            .stdout(Stdio::piped())
            .output()
            .unwrap()
            .stdout,
    )
    .unwrap();
    let event = events.split('"').nth(3).unwrap();
    for words in [
        &["help"][..],
        &["help", "send-test"],
        &["orders", "list"],
        &["orders", "show", LONG],
        &["events", "list"],
        &["events", "show", event],
        &["check"],
        &["db", "info"],
        &["db", "check"],
    ] {
        for width in [40, 80, 140] {
            let shown = shown(&shop, words, width, &[]);
            for line in shown.lines() {
                // A word alone, or behind its label, or what is there to be pasted, may be longer.
                let text = line.trim();
                let words = text.split_whitespace().count();
                let is_whole = words <= 2 || text.contains("paidup ");
                assert!(
                    columns(line) <= usize::from(width) || is_whole,
                    "{words:?} at {width}: {line:?}"
                );
            }
            // A shortened id has both ends, and a wide screen or a pipe has all of it.
            if words == ["orders", "list"] {
                assert_eq!(shown.contains(LONG), width == 140, "{shown}");
                assert!(
                    shown.contains("67890") && shown.contains("a-lon"),
                    "{shown}"
                );
            }
        }
    }
    let piped = shop
        .command(&["orders", "list"])
        .stdout(Stdio::piped())
        .output();
    assert!(
        String::from_utf8(piped.unwrap().stdout)
            .unwrap()
            .contains(LONG)
    );
}

#[test]
fn serve_says_to_a_person_what_it_does_and_what_is_next() {
    let shop = Shop(tempfile::tempdir().unwrap());
    let said = |mut server: Child| {
        thread::sleep(std::time::Duration::from_millis(700));
        let _ = Command::new("kill")
            .args(["-TERM", &server.id().to_string()])
            .status();
        server.wait().unwrap();
    };
    let terminal = Terminal::open(80);
    said(
        shop.command(&["serve"])
            .stderr(terminal.handle())
            .spawn()
            .unwrap(),
    );
    let shown = terminal.shown();
    assert!(shown.contains("admin off"), "{shown}");
    assert!(
        shown.contains("Ctrl-C.") && shown.contains("`paidup send-test`"),
        "{shown}"
    );
    let mut unattended = shop
        .command(&["serve"])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stderr = unattended.stderr.take().unwrap();
    said(unattended);
    let mut text = String::new();
    stderr.read_to_string(&mut text).unwrap();
    assert!(
        text.contains("serves on") && !text.contains("Ctrl-C"),
        "{text}"
    );
}
