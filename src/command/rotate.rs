//! `paidup rotate`: adds a new signing secret beside the old one, proves that the running server accepts
//! both, and drops the old one, without refusing a single valid delivery.
//!
//! A secret comes in through a file or standard input, because every account on the machine can see
//! command lines, and shells keep them in their history. It is never shown: secrets are told apart by
//! their place in the file.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::process;
use std::time::Duration;

use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};

use crate::base::plain;
use crate::base::secret::Secret;
use crate::command::environment::{USUAL_ENV_FILE, unreadable};
use crate::command::exit::{Exit, Failure};
use crate::command::words::{CliOption, Command, does};
use crate::config::serve::Config;
use crate::config::stripe::WEBHOOK_PATH;
use crate::config::{Address, env_file};
use crate::host::clock::Now;
use crate::host::files;
use crate::host::identity;
use crate::http::loopback;
use crate::truth::signature::SigningSecret;

pub(crate) const ADD: Command = Command {
    name: "rotate add",
    arguments: "",
    summary: "Put a new signing secret beside the old one",
    details: "Reads the secret from standard input (on a terminal: paste it, then Enter; it is not shown) or\n\
              a file, never from the command line. The new file is checked as the service would read it\n\
              before it replaces the old one; every other byte, owner and mode stay. No secret is shown.",
    options: &[
        CliOption {
            name: "from",
            value: "FILE",
            help: "read the secret from there instead",
        },
        RESTART,
        UNIT_ENV_FILE,
        SECRET_FILE_OPTION,
    ],
    exits: &[Exit::Done, Exit::Failed, Exit::Usage, Exit::Configuration],
    examples: &[
        "paidup rotate add --restart",
        "paidup rotate add --from new-secret.txt --env-file paidup.env",
    ],
    run: |words| {
        let (from, secret_file) = (words.path("from"), words.path("secret-file"));
        let has_to_reload = words.has("restart");
        does(move |env_file, out| {
            let files = Files::named(env_file, secret_file);
            let mut input: Box<dyn Read> = match from {
                Some(path) => Box::new(open(&path)?),
                None => standard_input("New signing secret (not shown; Enter ends it): ")?,
            };
            add(&files, &mut input, has_to_reload, out)
        })
    },
};

pub(crate) const VERIFY: Command = Command {
    name: "rotate verify",
    arguments: "",
    summary: "Ask the running server whether it accepts each secret of the file",
    details: "Sends it one signed event for each, of a type that changes no order. Secrets are told apart by\n\
              their place in the file; the newest is the last.",
    options: &[UNIT_ENV_FILE, SECRET_FILE_OPTION],
    exits: &[Exit::Done, Exit::Failed, Exit::Usage, Exit::Configuration],
    examples: &["paidup rotate verify"],
    run: |words| {
        let secret_file = words.path("secret-file");
        does(move |env_file, out| verify(&Files::named(env_file, secret_file), out))
    },
};

pub(crate) const FINISH: Command = Command {
    name: "rotate finish",
    arguments: "",
    summary: "Drop all signing secrets but the newest",
    details: "Once the old one has expired in the Dashboard: Stripe signs with both until then, for up to 24 hours\n\
              after a roll. Refused while the running server does not accept the newest.",
    options: &[RESTART, UNIT_ENV_FILE, SECRET_FILE_OPTION],
    exits: &[Exit::Done, Exit::Failed, Exit::Usage, Exit::Configuration],
    examples: &["paidup rotate finish --restart"],
    run: |words| {
        let (secret_file, has_to_reload) = (words.path("secret-file"), words.has("restart"));
        does(move |env_file, out| finish(&Files::named(env_file, secret_file), has_to_reload, out))
    },
};

pub(super) const UNIT_ENV_FILE: CliOption = CliOption {
    name: "env-file",
    value: "FILE",
    help: "the service's EnvironmentFile; /etc/paidup/paidup.env unless given",
};
pub(super) const SECRET_FILE_OPTION: CliOption = CliOption {
    name: "secret-file",
    value: "FILE",
    help: "the file that the unit's LoadCredential= reads, when the secrets are a\ncredential",
};
const RESTART: CliOption = CliOption {
    name: "restart",
    value: "",
    help: "then reload the server (systemctl reload paidup; the port stays open), and\nask it as `rotate verify` does",
};

const SECRET: &str = "STRIPE_WEBHOOK_SECRET";
const SECRET_FILE: &str = "STRIPE_WEBHOOK_SECRET_FILE";
/// Stripe's have 38 characters.
const SECRET_BYTES: std::ops::RangeInclusive<usize> = 16..=256;
/// What is read where a secret is expected.
const INPUT_MAX_BYTES: u64 = 4096;
/// How long the server may take for each step of an answer.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The files of one service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Files {
    /// Its `EnvironmentFile`.
    pub(super) env_file: PathBuf,
    /// The file that the unit's `LoadCredential=` reads, when the secrets are a credential.
    secret_file: Option<PathBuf>,
}

impl Files {
    pub(super) fn named(env_file: Option<&Path>, secret_file: Option<PathBuf>) -> Files {
        Files {
            env_file: env_file.unwrap_or(Path::new(USUAL_ENV_FILE)).to_owned(),
            secret_file,
        }
    }

    /// The service that reads them; each other shop of a machine has its own (`docs/SECOND_SHOP.md`).
    fn unit(&self) -> String {
        let name = self.env_file.to_string_lossy();
        let shop = name.strip_prefix("/etc/paidup/shop-");
        match shop.and_then(|rest| rest.strip_suffix(".env")) {
            Some(shop) => format!("paidup@{}", plain::text(shop)),
            None => "paidup".to_owned(),
        }
    }

    /// What a command for these files needs to say, so that it can be pasted.
    pub(super) fn option(&self) -> String {
        match self.env_file == Path::new(USUAL_ENV_FILE) {
            true => String::new(),
            false => format!(
                " --env-file {}",
                plain::word(&self.env_file.to_string_lossy())
            ),
        }
    }
}

fn open(path: &Path) -> Result<File, Failure> {
    File::open(path).map_err(|error| Failure::Other(format!("{}: {error}.", path.display())))
}

/// `paidup rotate add`: puts the secret that `input` has beside those of the file.
///
/// # Errors
/// [`Failure`]; then the file is as it was, unless the reload failed, which it says.
fn add(
    files: &Files,
    input: &mut dyn Read,
    has_to_reload: bool,
    out: &mut dyn Write,
) -> Result<Exit, Failure> {
    let kept = Kept::to_fill(files)?;
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
            "Then, when the old secret has expired (Dashboard → Webhooks → your endpoint): `sudo paidup rotate \
             finish{}`",
            files.option()
        )
    })
}

/// Standard input. On a terminal it is one line, which is asked for and not shown.
///
/// # Errors
/// The operating system's.
pub(super) fn standard_input(question: &str) -> io::Result<Box<dyn Read>> {
    let terminal = io::stdin();
    if !terminal.is_terminal() {
        return Ok(Box::new(terminal));
    }
    // As getpass(3) does: without signals too, because nobody would switch the echo on again.
    let usual = tcgetattr(&terminal)?;
    let mut silent = usual.clone();
    silent.local_modes -= LocalModes::ECHO | LocalModes::ISIG;
    tcsetattr(&terminal, OptionalActions::Flush, &silent)?;
    let asked = io::stderr().write_all(question.as_bytes());
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
fn verify(files: &Files, out: &mut dyn Write) -> Result<Exit, Failure> {
    let kept = Kept::read(files)?;
    let secrets = &kept.config.webhook_secrets;
    let mut exit = Exit::Done;
    for (secret, number) in secrets.iter().zip(1..) {
        let answer = ask(&kept.config.listen, secret);
        writeln!(
            out,
            "secret {number} of {}: {}",
            secrets.len(),
            Verdict(&answer, files)
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
fn finish(files: &Files, has_to_reload: bool, out: &mut dyn Write) -> Result<Exit, Failure> {
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
                Verdict(&answer, files)
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

/// Makes the server read the file and asks it, or says how to.
fn reload_and_verify(
    files: &Files,
    has_to_reload: bool,
    out: &mut dyn Write,
    tell_next: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<Exit, Failure> {
    let mut exit = Exit::Done;
    if has_to_reload {
        reload(&files.unit())?;
        writeln!(
            out,
            "systemctl reload {}: the server has read the file.",
            files.unit()
        )?;
        exit = verify(files, out)?;
    } else {
        writeln!(
            out,
            "Next: `sudo systemctl reload {}`, then `sudo paidup rotate verify{}`",
            files.unit(),
            files.option()
        )?;
    }
    tell_next(out)?;
    Ok(exit)
}

fn reload(unit: &str) -> Result<(), Failure> {
    let status = process::Command::new("systemctl")
        .args(["reload", &format!("{unit}.service")])
        .status();
    let what = match status {
        Ok(status) if status.success() => return Ok(()),
        Ok(status) => status.to_string(),
        Err(error) => error.to_string(),
    };
    Err(Failure::Other(format!(
        "systemctl reload {unit} did not work ({what}). The file is changed and valid; a running server goes on with \
         the secrets that it has. Look at `journalctl --namespace=paidup -u {unit} -u paidup-check -n 50`."
    )))
}

/// The secrets where they are kept, and what the service makes of its files.
pub(super) struct Kept {
    pub(super) path: PathBuf,
    text: String,
    pub(super) config: Config,
    /// There is no secret yet; that of `config` is [`PLACEHOLDER`].
    is_blank: bool,
}

/// What stands for the secret while there is none.
const PLACEHOLDER: &str = "whsec_not_there_yet";

impl Kept {
    fn read(files: &Files) -> Result<Kept, Failure> {
        let (path, text) = kept_in(files)?;
        let config = config_of(files, &path, &text).map_err(|problems| to_repair(&problems))?;
        Ok(Kept::of(path, text, config))
    }

    /// The same where there may be no secret yet.
    pub(super) fn to_fill(files: &Files) -> Result<Kept, Failure> {
        let (path, text) = kept_in(files)?;
        let problems = match config_of(files, &path, &text) {
            Ok(config) => return Ok(Kept::of(path, text, config)),
            Err(problems) => problems,
        };
        let filled = with_secrets(files, &path, &text, &[PLACEHOLDER]);
        let config = filled.and_then(|text| config_of(files, &path, &text).ok());
        // Then the secret is not all that is wrong.
        let config = config.ok_or_else(|| to_repair(&problems))?;
        let kept = Kept::of(path, text, config);
        Ok(Kept {
            is_blank: true,
            ..kept
        })
    }

    fn of(path: PathBuf, text: String, config: Config) -> Kept {
        Kept {
            path,
            text,
            config,
            is_blank: false,
        }
    }

    pub(super) fn secrets(&self) -> Vec<&str> {
        let secrets = self.config.webhook_secrets.iter();
        secrets
            .map(Secret::expose)
            .filter(|_| !self.is_blank)
            .collect()
    }

    /// Puts the file with these secrets in place of the present one, after the service would take
    /// it.
    pub(super) fn write(&self, files: &Files, secrets: &[&str]) -> Result<(), Failure> {
        let name = self.path.display();
        let changed = with_secrets(files, &self.path, &self.text, secrets);
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
        self.replace(&changed)
    }

    /// Shows that the file can be changed, by putting the same text in its place.
    pub(super) fn rehearse(&self) -> Result<(), Failure> {
        self.replace(&self.text)
    }

    fn replace(&self, text: &str) -> Result<(), Failure> {
        let name = self.path.display();
        identity::within(&self.path, || files::replace(&self.path, text))
            .flatten()
            .map_err(|error| Failure::Other(format!("{name} was left as it is: {error}.")))
    }
}

/// Sets a variable of the environment file.
pub(super) fn set_variable(env_file: &Path, name: &str, value: &str) -> Result<(), Failure> {
    let file = env_file.display();
    let changed = env_file::with_variable(&read_file(env_file)?, name, value);
    let changed = changed.ok_or_else(|| {
        Failure::Other(format!(
            "{file} is written in a way that cannot be changed safely, so it was left as it is. Put {name}={value} on a \
             line of its own, and try again."
        ))
    })?;
    identity::within(env_file, || files::replace(env_file, &changed))
        .flatten()
        .map_err(|error| Failure::Other(format!("{file} was left as it is: {error}.")))
}

/// The file that has the secrets, or is to have them, and its text.
fn kept_in(files: &Files) -> Result<(PathBuf, String), Failure> {
    let env_text = read_file(&files.env_file)?;
    let (vars, _) = env_file::parse(&env_text);
    let named = vars.get(SECRET_FILE).map_or("", |path| path.trim());
    let secret_file = match &files.secret_file {
        Some(path) => path.clone(),
        None if named.is_empty() => return Ok((files.env_file.clone(), env_text)),
        None => real_file(named)?,
    };
    let text = read_file(&secret_file)?;
    Ok((secret_file, text))
}

/// The text of that file with these secrets; `None` when it cannot be changed safely.
fn with_secrets(files: &Files, path: &Path, text: &str, secrets: &[&str]) -> Option<String> {
    if path == files.env_file {
        return env_file::with_variable(text, SECRET, &secrets.join(","));
    }
    Some(secrets.iter().map(|secret| format!("{secret}\n")).collect())
}

fn to_repair(problems: &str) -> Failure {
    Failure::Configuration(format!(
        "The configuration has to be repaired first:\n{problems}"
    ))
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

/// The path of a credential inside the service is not a file that can be changed.
fn real_file(named: &str) -> Result<PathBuf, Failure> {
    if named.contains(['%', '$']) || named.starts_with("/run/credentials/") {
        return Err(Failure::Other(format!(
            "{SECRET_FILE} is a systemd credential, which is recreated at each start. Name the file that \
             the unit's LoadCredential= reads, such as --secret-file /etc/paidup/webhook_secret"
        )));
    }
    Ok(PathBuf::from(named))
}

fn read_file(path: &Path) -> Result<String, Failure> {
    let read = identity::within(path, || fs::read_to_string(path));
    read.flatten().map_err(|error| unreadable(path, &error))
}

/// A signing secret, and nothing that the file or systemd would read as something else.
fn read_secret(input: &mut dyn Read) -> Result<String, Failure> {
    let mut text = String::new();
    let read = input.take(INPUT_MAX_BYTES).read_to_string(&mut text);
    read.map_err(|error| Failure::Other(format!("The new secret cannot be read: {error}.")))?;
    let secret = text.trim();
    if is_secret(secret) {
        return Ok(secret.to_owned());
    }
    Err(Failure::Other(
        "That is no signing secret; nothing was changed. A secret is on a line of its own, starts with \
         whsec_ and has letters and digits: Dashboard → Webhooks → your endpoint → Signing secret. Give it \
         on standard input or with --from FILE."
            .to_owned(),
    ))
}

pub(super) fn is_secret(text: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_-+/=".contains(c);
    text.starts_with("whsec_") && text.chars().all(is_plain) && SECRET_BYTES.contains(&text.len())
}

/// The status that the server answers to an event signed with this secret. Its type is one that only we
/// use, so it goes into the ledger and changes no order.
pub(super) fn ask(address: &Address, secret: &Secret) -> io::Result<u16> {
    let number = getrandom::u64().map_err(io::Error::other)?;
    let now = Now::read().unix;
    let body = format!(
        "{{\"id\":\"evt_selftest_{number:016x}\",\"object\":\"event\",\"type\":\"paidup.selftest\",\
         \"created\":{},\"livemode\":false,\"data\":{{\"object\":{{}}}}}}",
        now.0
    );
    let signature = SigningSecret::new(secret).sign(body.as_bytes(), now);
    let answer = loopback::post(address, WEBHOOK_PATH, (&signature, &body), TIMEOUT)?;
    Ok(answer.status)
}

/// What an answer means for the secret.
pub(super) struct Verdict<'a>(pub(super) &'a io::Result<u16>, pub(super) &'a Files);

impl fmt::Display for Verdict<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Ok(200) => f.write_str("accepted"),
            Ok(400) => write!(
                f,
                "REFUSED (400): the running server does not have it. `sudo systemctl reload {}` makes it read \
                 the file",
                self.1.unit()
            ),
            Ok(429) => {
                f.write_str("not known (429): too many requests in this minute. Ask again in one")
            }
            Ok(status) => write!(
                f,
                "not known ({status}): the server cannot store events, or something else answers there. `paidup check`"
            ),
            Err(error) => write!(
                f,
                "not known: nobody answers at LISTEN_ADDR ({error}). `systemctl status paidup.socket paidup`"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hints_name_the_shop_that_the_file_is_of() {
        for (file, unit, option) in [
            ("/etc/paidup/paidup.env", "paidup", ""),
            (
                "/etc/paidup/shop-coffee.env",
                "paidup@coffee",
                " --env-file /etc/paidup/shop-coffee.env",
            ),
            ("paidup.env", "paidup", " --env-file paidup.env"),
        ] {
            let files = Files::named(Some(Path::new(file)), None);
            assert_eq!((&*files.unit(), &*files.option()), (unit, option));
        }
    }
}
