//! A machine on which paidup is installed: each command uses the settings of the service, and says so.
//! Only root can give a process an `/etc` of its own.

use std::fs::{self, Permissions};
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use rustix::process::geteuid;
use tempfile::TempDir;

use crate::harness::{SECRET, Setup, eventually, paid};

/// An empty `/etc`, in which the file of the settings has this mode.
const ETC: &str = "mount -t tmpfs tmpfs /etc && mkdir /etc/paidup && cp \"$0\" /etc/paidup/paidup.env && \
                   chmod \"$1\" /etc/paidup/paidup.env && shift && exec \"$@\"";
const READS: &[&str] = &[
    "check",
    "orders list",
    "orders show ord_1",
    "events list",
    "db info",
    "db check",
    "notify status",
    "rotate verify",
];

#[test]
fn every_command_uses_the_settings_of_the_installed_service_and_says_so() {
    let Some(machine) = Machine::new() else {
        return;
    };
    for words in READS {
        let (code, stdout, stderr) = machine.run("600", &[], words);
        // Nobody serves here.
        assert!(
            code == 0 || *words == "rotate verify",
            "{words}: {stdout}{stderr}"
        );
        let is_rotate = words.starts_with("rotate");
        assert_eq!(
            stderr.lines().next() == Some("Settings: /etc/paidup/paidup.env"),
            !is_rotate,
            "{words}: {stderr}"
        );
        assert!(!stdout.contains("Settings"), "{stdout}");
        let better = "Better: RATE_LIMIT_WEBHOOK_COUNT=unverified";
        assert_eq!(stdout.contains(better), *words == "check", "{stdout}");
    }
    let (_, stdout, _) = machine.run("600", &[], "orders show ord_1 --json");
    assert!(stdout.contains("\"status\":\"paid\""), "{stdout}");

    // Who says where the database is, or is the service itself, means something else.
    for variable in [
        "DATABASE_PATH=/nowhere/paidup.db",
        "STATE_DIRECTORY=/var/lib/paidup",
    ] {
        let (code, stdout, stderr) = machine.run("600", &["env", variable], "orders list");
        assert_eq!((code, stdout.as_str()), (1, ""), "{stderr}");
        assert!(!stderr.contains("Settings"), "{stderr}");
    }
    let (code, _, stderr) = machine.run("600", &["env", "DATABASE_PATH= "], "orders list");
    assert_eq!((code, &*stderr), (0, "Settings: /etc/paidup/paidup.env\n"));
}

#[test]
fn who_may_not_read_the_settings_gets_the_command_to_paste() {
    let Some(machine) = Machine::new() else {
        return;
    };
    let nobody = [
        "setpriv",
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
    ];
    for words in READS {
        let (code, stdout, stderr) = machine.run("600", &nobody, words);
        assert_eq!((code, stdout.as_str()), (78, ""), "{words}: {stderr}");
        let (_, hint) = stderr.split_once("`sudo ").unwrap();
        let (hint, _) = hint.split_once('`').unwrap();
        assert!(
            hint.ends_with(&format!("paidup {words}")),
            "{words}: {stderr}"
        );
        // And it works, for whom sudo makes root.
        let pasted = format!("600 sh -c '{hint}'");
        let (code, ..) = machine.shell(&pasted);
        assert!(code == 0 || *words == "rotate verify", "{pasted}");
    }
    // A file that everybody may read needs no sudo.
    let (code, _, stderr) = machine.run("644", &nobody, "version");
    assert_eq!((code, stderr.as_str()), (0, ""));
}

#[test]
fn send_test_trusts_the_certificates_that_the_machine_trusts() {
    let Some(machine) = Machine::new() else {
        return;
    };
    let trusting =
        "mkdir -p /etc/ssl/certs && cp signer.crt /etc/ssl/certs/ca-certificates.crt && exec $0 $@";
    for (name, script, expected) in [
        (
            "IP:127.0.0.1",
            "exec $0 $@",
            "is not trusted by this machine",
        ),
        ("IP:127.0.0.1", trusting, " 200 "),
        (
            "DNS:elsewhere.example",
            trusting,
            "names and the dates of its certificate",
        ),
    ] {
        let server = machine.tls_server(name);
        let url = format!("https://127.0.0.1:{}/stripe/webhook", server.port);
        let program = machine.folder.path().join("paidup");
        let program = program.to_str().unwrap();
        let words = [
            "600",
            "sh",
            "-c",
            script,
            program,
            "send-test",
            "--url",
            &url,
        ];
        let (code, stdout, stderr) = machine.within(&words);
        assert_eq!(code == 0, expected == " 200 ", "{stdout}{stderr}");
        assert!(stdout.contains(expected), "{stdout}{stderr}");
    }
}

/// Answers each request with 200, over TLS.
struct TlsServer {
    process: Child,
    port: u16,
}

impl Drop for TlsServer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

struct Machine {
    _setup: Setup,
    /// With the program, where everybody can reach it.
    folder: TempDir,
}

impl Machine {
    /// `None` for who is not root.
    fn new() -> Option<Machine> {
        if !geteuid().is_root() {
            eprintln!("not shown here: only root can give a process an /etc of its own");
            return None;
        }
        let setup = Setup::new();
        setup.start().accepts(paid("1"), "applied");
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
        fs::copy(env!("CARGO_BIN_EXE_paidup"), folder.path().join("paidup")).unwrap();
        let text = format!(
            "DATABASE_PATH={}\nSTRIPE_WEBHOOK_SECRET={SECRET}\nLISTEN_ADDR=127.0.0.1:0\nADMIN_ADDR=off\n",
            setup.database().display()
        );
        fs::write(folder.path().join("paidup.env"), text).unwrap();
        Some(Machine {
            _setup: setup,
            folder,
        })
    }

    /// A server whose certificate has that name, and is signed with `signer.crt`.
    fn tls_server(&self, name: &str) -> TlsServer {
        let make = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=Signer -keyout signer.key -out signer.crt \
                    -addext basicConstraints=critical,CA:TRUE && \
                    openssl req -newkey rsa:2048 -nodes -subj /CN=host -keyout host.key -out host.csr && \
                    openssl x509 -req -in host.csr -CA signer.crt -CAkey signer.key -CAcreateserial -days 2 \
                    -extfile names -out host.crt";
        let folder = self.folder.path();
        fs::write(folder.join("names"), format!("subjectAltName={name}\n")).unwrap();
        let made = Command::new("sh")
            .args(["-c", make])
            .current_dir(folder)
            .output();
        assert!(made.unwrap().status.success());
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let process = Command::new("openssl")
            .args([
                "s_server", "-quiet", "-cert", "host.crt", "-key", "host.key", "-accept",
            ])
            .arg(format!("127.0.0.1:{port}"))
            .current_dir(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let mut process = process.unwrap();
        // It sends what it reads to whoever is connected by then.
        let mut answers = process.stdin.take().unwrap();
        thread::spawn(move || {
            let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";
            while answers.write_all(answer).is_ok() {
                thread::sleep(Duration::from_millis(200));
            }
        });
        eventually("openssl listens", || {
            TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        TlsServer { process, port }
    }

    fn run(&self, mode: &str, wrapper: &[&str], words: &str) -> (i32, String, String) {
        let program = self.folder.path().join("paidup");
        let line = format!("{mode} {} {} {words}", wrapper.join(" "), program.display());
        let line: Vec<&str> = line.split_whitespace().collect();
        self.within(&line)
    }

    /// With words that are quoted.
    fn shell(&self, line: &str) -> (i32, String, String) {
        let (mode, rest) = line.split_once(" sh -c ").unwrap();
        self.within(&[mode, "sh", "-c", rest.trim_matches('\'')])
    }

    fn within(&self, words: &[&str]) -> (i32, String, String) {
        let output = Command::new("unshare")
            .args(["--mount", "sh", "-c", ETC])
            .arg(self.folder.path().join("paidup.env"))
            .args(words)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        let code = output.status.code().unwrap();
        (code, text(output.stdout), text(output.stderr))
    }
}
