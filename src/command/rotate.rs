//! `paidup rotate`: a new signing secret beside the old one, a proof that the running server accepts
//! both, and the old one away; without one valid delivery refused in between.
//!
//! A secret comes in through a file or standard input, because command lines are seen by every
//! account of the machine and kept in the shell's history. It is never shown: secrets are told
//! apart by their place in the file.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io::{self, IsTerminal, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};

use crate::base::secret::Secret;
use crate::command::exit::{Exit, Failure};
use crate::command::send_test::WEBHOOK_PATH;
use crate::config::serve::Config;
use crate::config::{Address, env_file};
use crate::host::clock::Now;
use crate::host::files;
use crate::host::identity;
use crate::truth::signature::SigningSecret;

/// The environment file of the unit.
pub const ENV_FILE: &str = "/etc/paidup/paidup.env";

const SECRET: &str = "STRIPE_WEBHOOK_SECRET";
const SECRET_FILE: &str = "STRIPE_WEBHOOK_SECRET_FILE";
/// Stripe's have 38 characters.
const SECRET_BYTES: std::ops::RangeInclusive<usize> = 16..=256;
/// What is read where a secret is expected.
const INPUT_MAX_BYTES: u64 = 4096;
/// How long the server may take for each step of an answer.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Ours has about 300 bytes.
const ANSWER_MAX_BYTES: u64 = 16 * 1024;

/// The files of one service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    /// Its `EnvironmentFile`.
    pub env_file: PathBuf,
    /// The file that the unit's `LoadCredential=` reads, when the secrets are a credential.
    pub secret_file: Option<PathBuf>,
}

/// `paidup rotate add`: puts the secret that `input` has beside those of the file.
///
/// # Errors
/// [`Failure`]; then the file is as it was, unless the reload failed, which it says.
pub fn add(
    files: &Files,
    input: &mut dyn Read,
    has_to_reload: bool,
    out: &mut dyn Write,
) -> Result<Exit, Failure> {
    let kept = Kept::read(files)?;
    let new = read_secret(input)?;
    let mut secrets = kept.secrets();
    if let Some(index) = secrets.iter().position(|known| *known == new) {
        let (number, count, name) = (index + 1, secrets.len(), kept.path.display());
        writeln!(
            out,
            "{name} has this secret already, as number {number} of {count}."
        )?;
    } else {
        secrets.push(&new);
        kept.write(files, &secrets)?;
        let (count, name) = (secrets.len(), kept.path.display());
        writeln!(
            out,
            "{name} has the new secret now, as number {count} of {count}, and is valid."
        )?;
    }
    reload_and_verify(files, has_to_reload, out, |out| {
        writeln!(
            out,
            "Then, when the old secret has expired (Dashboard → Webhooks → your endpoint): paidup rotate \
             finish"
        )
    })
}

/// Standard input. On a terminal it is one line, which is asked for and not shown.
///
/// # Errors
/// The operating system's.
pub fn standard_input() -> io::Result<Box<dyn Read>> {
    let terminal = io::stdin();
    if !terminal.is_terminal() {
        return Ok(Box::new(terminal));
    }
    // As getpass(3) does: without signals too, because nobody would switch the echo on again.
    let usual = tcgetattr(&terminal)?;
    let mut silent = usual.clone();
    silent.local_modes -= LocalModes::ECHO | LocalModes::ISIG;
    tcsetattr(&terminal, OptionalActions::Flush, &silent)?;
    let asked = io::stderr().write_all(b"New signing secret (not shown; Enter ends it): ");
    let mut line = String::new();
    let read = asked.and_then(|()| terminal.read_line(&mut line));
    tcsetattr(&terminal, OptionalActions::Flush, &usual)?;
    io::stderr().write_all(b"\n")?;
    read?;
    Ok(Box::new(io::Cursor::new(line)))
}

/// `paidup rotate verify`: sends the running server one event for each secret of the file, signed
/// with it, and says which are accepted. The events are of a type that changes no order.
///
/// # Errors
/// [`Failure`] when the files cannot be used. A secret that is not accepted is no error but
/// [`Exit::Failed`].
pub fn verify(files: &Files, out: &mut dyn Write) -> Result<Exit, Failure> {
    let kept = Kept::read(files)?;
    let secrets = &kept.config.webhook_secrets;
    let mut exit = Exit::Done;
    for (secret, number) in secrets.iter().zip(1..) {
        let answer = ask(&kept.config.listen, secret);
        writeln!(
            out,
            "secret {number} of {}: {}",
            secrets.len(),
            Told(&answer)
        )?;
        if !matches!(answer, Ok(200)) {
            exit = Exit::Failed;
        }
    }
    Ok(exit)
}

/// `paidup rotate finish`: drops all secrets but the newest, which the server must know by now.
///
/// # Errors
/// [`Failure`]; then the file is as it was, unless the reload failed, which it says.
pub fn finish(files: &Files, has_to_reload: bool, out: &mut dyn Write) -> Result<Exit, Failure> {
    let kept = Kept::read(files)?;
    let name = kept.path.display();
    let secrets = kept.secrets();
    let [old @ .., newest] = secrets.as_slice() else {
        return Err(Failure::Other(format!("{name} has no secret.")));
    };
    if old.is_empty() {
        writeln!(out, "{name} has one secret. There is nothing to drop.")?;
    } else {
        let answer = ask(&kept.config.listen, &Secret::new(newest));
        if !matches!(answer, Ok(200)) {
            return Err(Failure::Other(format!(
                "The newest secret is {}\nThe old ones stay until it is accepted.",
                Told(&answer)
            )));
        }
        kept.write(files, &[newest])?;
        let (dropped, plural) = (old.len(), if old.len() == 1 { "" } else { "s" });
        writeln!(
            out,
            "{name} has the newest secret alone now: {dropped} older one{plural} dropped."
        )?;
    }
    reload_and_verify(files, has_to_reload, out, |_| Ok(()))
}

/// Makes the server read the file and asks it, or says how.
fn reload_and_verify(
    files: &Files,
    has_to_reload: bool,
    out: &mut dyn Write,
    tell_next: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<Exit, Failure> {
    let mut exit = Exit::Done;
    if has_to_reload {
        reload()?;
        writeln!(
            out,
            "systemctl reload paidup: the server has read the file."
        )?;
        exit = verify(files, out)?;
    } else {
        writeln!(
            out,
            "Next: systemctl reload paidup, then paidup rotate verify"
        )?;
    }
    tell_next(out)?;
    Ok(exit)
}

fn reload() -> Result<(), Failure> {
    let status = Command::new("systemctl")
        .args(["reload", "paidup.service"])
        .status();
    let what = match status {
        Ok(status) if status.success() => return Ok(()),
        Ok(status) => status.to_string(),
        Err(error) => error.to_string(),
    };
    Err(Failure::Other(format!(
        "systemctl reload paidup did not work ({what}). The file is changed and valid; a server that ran \
         goes on with the secrets that it knows. Look at `journalctl -u paidup -u paidup-check -n 50`."
    )))
}

/// The secrets where they are kept, and what the service makes of its files.
struct Kept {
    path: PathBuf,
    text: String,
    is_env_file: bool,
    config: Config,
}

impl Kept {
    fn read(files: &Files) -> Result<Kept, Failure> {
        let env_text = read_file(&files.env_file)?;
        let (vars, _) = env_file::parse(&env_text);
        let named = vars.get(SECRET_FILE).map_or("", |path| path.trim());
        let secret_file = match &files.secret_file {
            Some(path) => Some(path.clone()),
            None if named.is_empty() => None,
            None => Some(real_file(named)?),
        };
        let (path, text) = match secret_file {
            Some(path) => {
                let text = read_file(&path)?;
                (path, text)
            }
            None => (files.env_file.clone(), env_text),
        };
        let is_env_file = path == files.env_file;
        let config = config_of(files, &path, &text).map_err(|problems| {
            Failure::Configuration(format!(
                "The configuration has to be repaired first:\n{problems}"
            ))
        })?;
        Ok(Kept {
            path,
            text,
            is_env_file,
            config,
        })
    }

    fn secrets(&self) -> Vec<&str> {
        self.config
            .webhook_secrets
            .iter()
            .map(Secret::expose)
            .collect()
    }

    /// Puts the file with these secrets in place of the present one, after the service would take
    /// it.
    fn write(&self, files: &Files, secrets: &[&str]) -> Result<(), Failure> {
        let name = self.path.display();
        let changed = if self.is_env_file {
            env_file::with_value(&self.text, SECRET, &secrets.join(","))
        } else {
            Some(secrets.iter().map(|secret| format!("{secret}\n")).collect())
        };
        let by_hand = || {
            Failure::Other(format!(
                "{name} is written in a way that cannot be changed safely, so it was left as it is. Put \
                 {SECRET} on one line of its own, as {SECRET}=whsec_..., and try again."
            ))
        };
        let changed = changed.ok_or_else(by_hand)?;
        let config = config_of(files, &self.path, &changed).map_err(|problems| {
            Failure::Configuration(format!(
                "With the change the server would not start, so {name} was left as it is:\n{problems}"
            ))
        })?;
        let read: Vec<&str> = config.webhook_secrets.iter().map(Secret::expose).collect();
        if read != secrets {
            return Err(by_hand());
        }
        identity::within(&self.path, || files::replace(&self.path, &changed))
            .flatten()
            .map_err(|error| Failure::Other(format!("{name} was left as it is: {error}.")))
    }
}

/// What the service would make of its files if `path` had this text. Every mistake, in words, when
/// it would not start.
fn config_of(files: &Files, path: &Path, text: &str) -> Result<Config, String> {
    let in_words = |errors: Vec<_>| -> String {
        let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
        lines.join("\n")
    };
    let vars = if path == files.env_file {
        env_file::parse(text).0
    } else {
        let env_text = fs::read_to_string(&files.env_file).map_err(|error| error.to_string())?;
        let (mut vars, _): (BTreeMap<_, _>, _) = env_file::parse(&env_text);
        vars.insert(SECRET_FILE.to_owned(), path.display().to_string());
        vars
    };
    Config::parse(&vars, &|asked| match asked == path {
        true => Ok(text.to_owned()),
        false => fs::read_to_string(asked),
    })
    .map_err(in_words)
}

/// A credential's path in the service is no file that can be changed.
fn real_file(named: &str) -> Result<PathBuf, Failure> {
    if named.contains(['%', '$']) || named.starts_with("/run/credentials/") {
        return Err(Failure::Other(format!(
            "{SECRET_FILE} is a systemd credential, which is made anew at each start. Name the file that \
             the unit's LoadCredential= reads, such as --secret-file /etc/paidup/webhook_secret"
        )));
    }
    Ok(PathBuf::from(named))
}

fn read_file(path: &Path) -> Result<String, Failure> {
    let read = identity::within(path, || fs::read_to_string(path));
    read.flatten().map_err(|error| {
        Failure::Configuration(format!(
            "{} cannot be read: {error}. It must be there and be readable by who runs this; try sudo.",
            path.display()
        ))
    })
}

/// A signing secret, and nothing that the file or systemd would read as something else.
fn read_secret(input: &mut dyn Read) -> Result<String, Failure> {
    let mut text = String::new();
    let read = input.take(INPUT_MAX_BYTES).read_to_string(&mut text);
    read.map_err(|error| Failure::Other(format!("The new secret cannot be read: {error}.")))?;
    let secret = text.trim();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_-+/=".contains(c);
    if secret.starts_with("whsec_")
        && secret.chars().all(is_plain)
        && SECRET_BYTES.contains(&secret.len())
    {
        return Ok(secret.to_owned());
    }
    Err(Failure::Other(
        "That is no signing secret, and nothing was changed. One is on a line of its own, starts with \
         whsec_ and has letters and digits: Dashboard → Webhooks → your endpoint → Signing secret. Give it \
         on standard input or with --from FILE."
            .to_owned(),
    ))
}

/// The status that the server answers to an event signed with this secret. The event's type is
/// nobody's, so it is noted in the ledger and changes no order.
fn ask(address: &Address, secret: &Secret) -> io::Result<u16> {
    let number = getrandom::u64().map_err(io::Error::other)?;
    let now = Now::read().unix;
    let body = format!(
        "{{\"id\":\"evt_selftest_{number:016x}\",\"object\":\"event\",\"type\":\"paidup.selftest\",\
         \"created\":{},\"livemode\":false,\"data\":{{\"object\":{{}}}}}}",
        now.0
    );
    let signature = SigningSecret::new(secret).sign(body.as_bytes(), now);
    let request = format!(
        "POST {WEBHOOK_PATH} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         X-Forwarded-For: 127.0.0.1\r\nStripe-Signature: {signature}\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n{body}",
        body.len()
    );
    match address {
        Address::Tcp(address) => {
            let stream = TcpStream::connect_timeout(address, TIMEOUT)?;
            stream.set_read_timeout(Some(TIMEOUT))?;
            stream.set_write_timeout(Some(TIMEOUT))?;
            exchange(stream, &request)
        }
        Address::Unix(path) => {
            let stream = UnixStream::connect(path)?;
            stream.set_read_timeout(Some(TIMEOUT))?;
            stream.set_write_timeout(Some(TIMEOUT))?;
            exchange(stream, &request)
        }
    }
}

fn exchange(mut stream: impl Read + Write, request: &str) -> io::Result<u16> {
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    stream.take(ANSWER_MAX_BYTES).read_to_end(&mut answer)?;
    let text = String::from_utf8_lossy(&answer);
    let status = text
        .strip_prefix("HTTP/1.1 ")
        .and_then(|rest| rest.get(..3)?.parse().ok());
    status.ok_or_else(|| io::Error::other("what answers there does not speak HTTP/1.1"))
}

/// What an answer means for the secret.
struct Told<'a>(&'a io::Result<u16>);

impl fmt::Display for Told<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Ok(200) => f.write_str("accepted"),
            Ok(400) => f.write_str(
                "REFUSED (400): the running server does not have it. systemctl reload paidup makes it read \
                 the file",
            ),
            Ok(429) => f.write_str("not known (429): too many requests in this minute. Ask again in one"),
            Ok(status) => write!(
                f,
                "not known ({status}): the server cannot store events, or another one answers. paidup check"
            ),
            Err(error) => write!(
                f,
                "not known: nobody answers at LISTEN_ADDR ({error}). systemctl status paidup.socket paidup"
            ),
        }
    }
}
