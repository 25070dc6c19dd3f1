//! A Unix socket of ours takes the place of a dead one and of nothing else, and who may connect is a
//! setting.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Child, Command};

use rustix::process::geteuid;

use crate::harness::{PATIENCE, Setup, eventually, paid};

/// Variable, command, and words that it needs besides.
const SERVERS: [(&str, &str); 3] = [
    ("LISTEN_ADDR", "serve"),
    ("ADMIN_ADDR", "serve"),
    ("API_ADDR", "api"),
];

#[test]
fn a_socket_that_names_a_file_never_removes_it() {
    let setup = Setup::new();
    let mut service = setup.start();
    service.accepts(paid("1"), "applied");
    service.kill();
    let folder = setup.folder();
    fs::write(folder.join("notes"), "a file").unwrap();
    fs::create_dir(folder.join("sub")).unwrap();
    symlink("notes", folder.join("link")).unwrap();
    symlink(folder, folder.join("alias")).unwrap();
    let all = [
        "paidup.db",
        "paidup.db-wal",
        "paidup.db-shm",
        "paidup.db-journal",
        "paidup.db.lock",
        "./paidup.db",
        "alias/paidup.db",
        "alias/paidup.db.lock",
        "notes",
        "sub",
        "link",
    ];
    for (variable, command) in SERVERS {
        for name in all {
            let address = format!("unix:{}/{name}", folder.display());
            let setup = setup
                .again()
                .set(variable, &address)
                .set("API_TOKEN", "0123456789abcdef0123456789abcdef")
                .set("STRIPE_SECRET_KEY", "sk_test_1");
            let (code, said) = setup.run(&[command]);
            let what = format!("{variable} {name}: {said}");
            assert!(code == 1 || code == 78, "{what}");
            assert!(said.contains(variable), "{what}");
            assert_eq!(
                fs::read_to_string(folder.join("notes")).unwrap(),
                "a file",
                "{what}"
            );
            assert!(
                folder.join("sub").is_dir() && folder.join("link").is_symlink(),
                "{what}"
            );
            let order = setup.store().order("ord_1").unwrap();
            assert!(order.is_some(), "{what}");
            if command == "serve" {
                let (code, said) = setup.run(&["check"]);
                assert_eq!(code, 3, "{what} {said}");
                assert!(said.contains(variable), "{said}");
            }
        }
    }
}

#[test]
fn a_dead_socket_is_replaced_and_a_living_one_is_not() {
    let setup = Setup::new();
    let path = setup.folder().join("edge.sock");
    let setup = setup.set("LISTEN_ADDR", &format!("unix:{}", path.display()));
    let living = UnixListener::bind(&path).unwrap();
    let (code, said) = setup.run(&["serve"]);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("Address already in use"), "{said}");
    assert!(UnixStream::connect(&path).is_ok(), "it lives on");
    drop(living);
    assert!(fs::symlink_metadata(&path).unwrap().file_type().is_socket());
    let (code, said) = setup.run(&["check"]);
    assert_eq!(code, 0, "{said}");
    let _running = Running::start(&setup, &path);
    assert!(is_served(&path));
}

#[test]
fn who_may_connect_is_the_user_alone_or_a_group_as_well_whatever_the_umask() {
    let open = ["sh", "-c", "umask 000; exec \"$@\"", "sh"];
    let shut = ["sh", "-c", "umask 077; exec \"$@\"", "sh"];
    for wrapper in [open, shut] {
        let setup = Setup::new().under(&wrapper);
        let path = setup.folder().join("edge.sock");
        let setup = setup.set("LISTEN_ADDR", &format!("unix:{}", path.display()));
        let running = Running::start(&setup, &path);
        assert_eq!(mode(&path), 0o600);
        drop(running);
        if !geteuid().is_root() {
            eprintln!("a group: not shown here, only root can be in every group");
            continue;
        }
        let setup = setup.set("SOCKET_GROUP", "4711");
        let _running = Running::start(&setup, &path);
        assert_eq!(mode(&path), 0o660);
        assert_eq!(fs::metadata(&path).unwrap().gid(), 4711);
        // The way there is open to everybody.
        fs::set_permissions(setup.folder(), fs::Permissions::from_mode(0o755)).unwrap();
        for (group, may) in [("4711", true), ("4712", false)] {
            let mut client = Command::new("setpriv");
            client.args([
                "--reuid=65534",
                "--regid",
                group,
                "--clear-groups",
                "curl",
                "-sS",
            ]);
            client
                .arg("--unix-socket")
                .arg(&path)
                .arg("http://localhost/healthz");
            let output = client.output().unwrap();
            let said = [output.stdout, output.stderr].concat();
            let said = String::from_utf8_lossy(&said);
            assert_eq!(output.status.success(), may, "{group}: {said}");
        }
    }
}

#[test]
fn a_group_that_is_not_there_is_told_with_all_other_mistakes() {
    let setup = Setup::new()
        .set("SOCKET_GROUP", "no-such-group")
        .set("LOG_LEVEL", "loud");
    for command in ["serve", "check"] {
        let (code, said) = setup.run(&[command]);
        assert!(code == 78 || code == 3, "{said}");
        assert!(
            said.contains("SOCKET_GROUP is neither a group") && said.contains("LOG_LEVEL"),
            "{said}"
        );
        assert!(!said.contains("no-such-group"), "{said}");
    }
}

/// A server on a Unix socket; it is killed when it goes out of scope.
struct Running(Child);

impl Running {
    fn start(setup: &Setup, path: &Path) -> Running {
        let mut command = setup.command(&["serve"]);
        let null = std::process::Stdio::null;
        let running = Running(command.stdout(null()).stderr(null()).spawn().unwrap());
        eventually("it serves", || is_served(path));
        running
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn is_served(path: &Path) -> bool {
    let Ok(mut stream) = UnixStream::connect(path) else {
        return false;
    };
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let asked = stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n");
    let mut answer = String::new();
    asked.is_ok() && stream.read_to_string(&mut answer).is_ok() && answer.contains(" 200 ")
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}
