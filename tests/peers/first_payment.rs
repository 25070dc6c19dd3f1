//! The README's "Take a payment in ten minutes" as a newcomer would, and its success page in a real
//! browser. Stripe is the stand-in.

use std::io::{BufRead, BufReader, Lines, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread;

use serde_json::Value;

use crate::fake_stripe::{FakeStripe, KEY, Target};
use crate::harness::{SECRET, Setup, eventually, paid};
use crate::tools;

const WAITING: &str = "We are asking whether your payment has arrived…";
const PAID: &str = "Paid. Thank you!";

#[test]
fn the_readmes_first_payment_is_made_paid_shown_and_refunded() {
    let stripe = FakeStripe::start();
    let site = TcpListener::bind("127.0.0.1:0").unwrap();
    let origin = format!("http://{}", site.local_addr().unwrap());
    let setup = Setup::new()
        .set("STRIPE_API_BASE", &stripe.base())
        .set("API_ADDR", "127.0.0.1:0")
        .set("PUBLIC_CHECKOUT_STATUS", "on")
        .set("PUBLIC_CHECKOUT_ORIGINS", &origin);
    let [prepare, start, order, look] = blocks();
    shell(&setup, &prepare.replace("https://example.com", &origin));
    let words = |line: usize| -> Vec<&str> {
        let words = start.lines().nth(line).unwrap().strip_prefix("paidup ");
        words.unwrap().split(' ').collect()
    };
    let env_file = setup.folder().join("paidup.env");
    let serve = setup.start_with(&[words(0)[0], words(0)[1], env_file.to_str().unwrap()]);
    let api = setup.start_with(&[words(1)[0], words(1)[1], env_file.to_str().unwrap()]);
    let target = Target {
        address: serve.edge,
        path: "/stripe/webhook".to_owned(),
        secret: SECRET.to_owned(),
    };
    let deliver = || {
        let statuses = stripe.deliver_all(&target).unwrap();
        assert!(statuses.iter().all(|status| *status == 200));
    };

    let made = shell(
        &setup,
        &order.replace("127.0.0.1:4244", &api.edge.to_string()),
    );
    let made: Value = serde_json::from_str(&made).unwrap();
    let session = made["stripeSessionId"].as_str().unwrap();
    assert_eq!(made["checkoutUrl"], stripe.object(session)["url"]);

    // The buyer pays, and is back before the webhook comes.
    stripe.pay(session);
    let page = stripe.object(session)["success_url"]
        .as_str()
        .unwrap()
        .to_owned();
    serve_page(site, &page_for(serve.edge));
    let mut browser = Browser::open(&page.replace("{CHECKOUT_SESSION_ID}", session));
    assert_eq!(browser.says(), WAITING);
    deliver();
    assert_eq!(browser.says(), PAID);
    assert!(shell(&setup, &look).starts_with("Order ord_1001 is paid\n"));
    stripe.refund(session, None);
    deliver();
    let story = shell(&setup, &look);
    assert!(story.starts_with("Order ord_1001 is refunded\n"), "{story}");
    assert!(
        story.contains("new → pending") && story.contains("pending → paid"),
        "{story}"
    );
}

#[test]
fn a_page_that_is_early_asks_until_the_webhook_has_come() {
    // The shop's own site, another origin than paidup's.
    let site = TcpListener::bind("127.0.0.1:0").unwrap();
    let origin = format!("http://{}", site.local_addr().unwrap());
    let service = Setup::new()
        .set("PUBLIC_CHECKOUT_STATUS", "on")
        .set("PUBLIC_CHECKOUT_ORIGINS", &origin)
        .start();
    serve_page(site, &page_for(service.edge));
    let mut browser = Browser::open(&format!("{origin}/thanks.html?session_id=cs_test_1"));
    assert_eq!(browser.says(), WAITING);
    eventually("the page asks before the webhook comes", || {
        service.log().iter().any(|line| line["status"] == 404)
    });
    service.accepts(paid("1"), "applied");
    assert_eq!(browser.says(), PAID);
}

/// The four blocks of commands in the README's "Take a payment in ten minutes".
fn blocks() -> [String; 4] {
    let readme = include_str!("../../README.md");
    let (_, rest) = readme
        .split_once("## Take a payment in ten minutes\n")
        .unwrap();
    let (section, _) = rest.split_once("\n## ").unwrap();
    let blocks = section.split("```sh\n").skip(1);
    let blocks = blocks.map(|block| block.split_once("```").unwrap().0.to_owned());
    blocks.collect::<Vec<_>>().try_into().unwrap()
}

/// Types these lines into a shell, as a newcomer with keys of their own would. What is Stripe's, and
/// building what is built, is left out.
fn shell(setup: &Setup, lines: &str) -> String {
    let lines = lines
        .replace("cargo install --path .\n", "")
        .replace("whsec_…", SECRET)
        .replace("sk_test_…", KEY);
    let program = Path::new(env!("CARGO_BIN_EXE_paidup")).parent().unwrap();
    let path = std::env::var("PATH").unwrap();
    let mut shell = setup.command(&[]);
    let mut sh = Command::new("sh");
    sh.args(["-euc", &lines])
        .envs(
            shell
                .stdin(Stdio::null())
                .get_envs()
                .filter_map(|(name, value)| Some((name, value?))),
        )
        .env_remove("STRIPE_WEBHOOK_SECRET")
        .env("PATH", format!("{}:{path}", program.display()))
        .current_dir(setup.folder());
    let output = tools::run(sh, "");
    assert!(output.status.success(), "{lines}\n{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// A buyer's browser with one page.
struct Browser {
    process: Child,
    said: Lines<BufReader<ChildStdout>>,
}

impl Browser {
    fn open(page: &str) -> Browser {
        let folder = tools::npm("playwright-core", "1.64.1");
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/peers/browser.js");
        let mut process = Command::new("node")
            .args([script, page, PAID])
            .env("NODE_PATH", folder.join("node_modules"))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let said = BufReader::new(process.stdout.take().unwrap()).lines();
        Browser { process, said }
    }

    /// The next thing that the page says.
    fn says(&mut self) -> String {
        self.said.next().unwrap().unwrap()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The page that the README shows, asking our service.
fn page_for(edge: SocketAddr) -> String {
    let readme = include_str!("../../README.md");
    let (_, page) = readme.split_once("```html\n").unwrap();
    let (page, _) = page.split_once("```").unwrap();
    assert!(page.contains("https://hooks.example.com/"));
    page.replace("https://hooks.example.com/", &format!("http://{edge}/"))
}

/// A site of one page. It goes on until the test has ended.
fn serve_page(site: TcpListener, page: &str) {
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
