//! The README's success page in a real browser: the buyer is back before the webhook is.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::{Command, Stdio};
use std::thread;

use crate::fake_stripe::{FakeStripe, Target};
use crate::harness::{SECRET, Setup, eventually};
use crate::tools;

const WAITING: &str = "We are asking whether your payment has arrived…";
const PAID: &str = "Paid. Thank you!";

#[test]
fn a_static_page_waits_until_the_webhook_has_come_and_then_says_paid() {
    let folder = tools::npm("playwright-core", "1.64.1");
    // The shop's own site, another origin than paidup's.
    let site = TcpListener::bind("127.0.0.1:0").unwrap();
    let origin = format!("http://{}", site.local_addr().unwrap());
    let service = Setup::new()
        .set("PUBLIC_CHECKOUT_STATUS", "on")
        .set("PUBLIC_CHECKOUT_ORIGINS", &origin)
        .start();
    serve(site, &page(service.edge));

    let stripe = FakeStripe::start();
    let session = stripe.create_session("ord_1", 2500);
    stripe.pay(&session);
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/peers/success_page.js");
    let mut browser = Command::new("node")
        .args([
            script,
            &format!("{origin}/thanks.html?session_id={session}"),
            PAID,
        ])
        .env("NODE_PATH", folder.join("node_modules"))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(browser.stdout.take().unwrap()).lines();
    assert_eq!(said.next().unwrap().unwrap(), WAITING);
    eventually("the page asks before the webhook comes", || {
        service.log().iter().any(|line| line["status"] == 404)
    });
    let delivered = stripe.deliver_all(&Target {
        address: service.edge,
        path: "/stripe/webhook".to_owned(),
        secret: SECRET.to_owned(),
    });
    assert!(delivered.unwrap().iter().all(|status| *status == 200));
    assert_eq!(said.next().unwrap().unwrap(), PAID);
    assert!(browser.wait().unwrap().success());
}

/// The page that the README shows, asking our service.
fn page(edge: SocketAddr) -> String {
    let readme = include_str!("../../README.md");
    let (_, page) = readme.split_once("```html\n").unwrap();
    let (page, _) = page.split_once("```").unwrap();
    assert!(page.contains("https://hooks.example.com/"));
    page.replace("https://hooks.example.com/", &format!("http://{edge}/"))
}

/// A site of one page. It goes on until the test has ended.
fn serve(site: TcpListener, page: &str) {
    let answer = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n{page}",
        page.len()
    );
    thread::spawn(move || {
        for stream in site.incoming() {
            let (mut stream, answer) = (stream.unwrap(), answer.clone());
            // A browser also opens connections that it then does not use.
            thread::spawn(move || {
                if stream.read(&mut [0; 4096]).is_ok_and(|read| read > 0) {
                    let _ = stream.write_all(answer.as_bytes());
                }
            });
        }
    });
}
