//! `paidup install` and `paidup uninstall`: one binary makes a fresh VPS a server, and takes it back.
//!
//! What is ours lies under `/usr/local` and is replaced by each install. What is the operator's lies
//! under `/etc`, and is never touched again once it is there: settings in `/etc/paidup/paidup.env`, of
//! which only a missing `PUBLIC_URL` is added, and changes to units by `systemctl edit`. First comes a plan of all steps; `--dry-run` shows the same
//! plan and does none of it.

use std::env;
use std::fmt;
use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, BufRead, Write};
use std::iter;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::fs::Mode;

use crate::command::environment::USUAL_ENV_FILE;
use crate::command::exit::{Exit, Failure};
use crate::command::proxy::{self, PROXY_FILES};
use crate::command::shared::{self, Shared};
use crate::command::units::FILES;
use crate::command::words::{self, CliOption, DRY_RUN, UsageError, Words, does};
use crate::config::env_file;
use crate::host::files;

pub(crate) const INSTALL: words::Command = words::Command {
    name: "install",
    arguments: "",
    summary: "Make this machine a server: binary, systemd units, user, settings, nightly backup",
    details: "Shows each step, and what it is for. What is already right is left alone, and settings are never\n\
              overwritten: to upgrade, run the same command with the new binary. Needs root and systemd 249\n\
              or newer.",
    options: &[HOST, DRY_RUN, ROOT],
    exits: &[Exit::Done, Exit::Failed, Exit::Usage],
    examples: &[
        "paidup install --dry-run",
        "sudo ./paidup install --host hooks.example.com",
    ],
    run: |words| {
        let options = Options::read(words)?;
        does(move |_, out| done(install(&options, out)))
    },
};

pub(crate) const UNINSTALL: words::Command = words::Command {
    name: "uninstall",
    arguments: "",
    summary: "Stop paidup and remove what `install` put in place",
    details: "Settings, orders, backups and logs stay, unless --purge is given.",
    options: &[
        CliOption {
            name: "purge",
            value: "",
            help: "remove settings, orders, backups, logs and the user as well, for good;\nasks first, and offers a last backup",
        },
        CliOption {
            name: "yes",
            value: "",
            help: "do not ask",
        },
        DRY_RUN,
        ROOT,
    ],
    exits: &[Exit::Done, Exit::Failed, Exit::Usage],
    examples: &[
        "sudo paidup uninstall",
        "paidup uninstall --purge --dry-run",
    ],
    run: |words| {
        let (options, purge) = (Options::read(words)?, words.has("purge"));
        let has_to_ask = purge && !options.dry_run && !words.has("yes");
        does(move |_, out| {
            if has_to_ask {
                last_word(&options.root, &mut io::stdin().lock(), out)?;
            }
            done(uninstall(&options, purge, out))
        })
    },
};

const HOST: CliOption = CliOption {
    name: "host",
    value: "HOST",
    help: "the name under which the internet reaches this server, such as\nhooks.example.com: PUBLIC_URL, and files for nginx and Caddy",
};
const ROOT: CliOption = CliOption {
    name: "root",
    value: "DIR",
    help: "use DIR in place of /, for building an image; commands are shown, not run",
};

fn done(steps: Result<(), StepFailed>) -> Result<Exit, Failure> {
    match steps {
        Ok(()) => Ok(Exit::Done),
        Err(failed) => Err(Failure::Other(failed.to_string())),
    }
}

/// What to install or remove, and where.
#[derive(Debug, PartialEq, Eq)]
struct Options {
    /// What the internet calls this machine.
    host: Option<String>,
    /// The folder that stands for `/`. Commands are shown and run only when it is `/`.
    root: PathBuf,
    /// Shows each step and takes none.
    dry_run: bool,
    /// Documents, manual page, completions.
    shared: Vec<Shared>,
}

impl Options {
    fn read(words: &Words) -> Result<Options, UsageError> {
        let host = words.value("host").map(|text| {
            let no_host = || words.error("--host is a name such as hooks.example.com");
            proxy::host(text).ok_or_else(no_host)
        });
        Ok(Options {
            host: host.transpose()?,
            root: words.path("root").unwrap_or_else(|| "/".into()),
            dry_run: words.has("dry-run"),
            shared: shared::files(words.table),
        })
    }
}

/// A step that failed; those before it are done, and running everything again does no harm.
#[derive(Debug)]
struct StepFailed {
    step: String,
    error: io::Error,
}

impl fmt::Display for StepFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}. ", self.step, self.error)?;
        let kind = self.error.kind();
        f.write_str(if kind == io::ErrorKind::AlreadyExists {
            "Files in /usr/local override the package's, so upgrades would have no effect. Keep the package, or \
             remove it first: apt-get remove paidup, which keeps settings and orders"
        } else if kind == io::ErrorKind::PermissionDenied {
            "Only root may do that: run it with sudo"
        } else if kind == io::ErrorKind::NotFound {
            "paidup's units need systemd 249 or newer"
        } else {
            "Fix that and run the same command again: what is done stays as it is"
        })
    }
}

impl std::error::Error for StepFailed {}

/// Puts binary, units, user, folders and the environment file in place, telling each step.
///
/// # Errors
/// [`StepFailed`] at the first step that fails.
fn install(options: &Options, out: &mut dyn Write) -> Result<(), StepFailed> {
    // Whatever the shell's umask is: with 000 everybody could write to the folders, with 077 nobody could
    // read them. The commands that are run inherit it.
    rustix::process::umask(Mode::WGRP | Mode::WOTH);
    let is_packaged = within(&options.root, PACKAGED).exists();
    if let (true, Some(host)) = (is_packaged, &options.host) {
        take(options, &host_steps(host), out)?;
        return tell_next(options, out);
    }
    if is_packaged {
        return Err(StepFailed {
            step: "install".to_owned(),
            error: io::Error::new(
                io::ErrorKind::AlreadyExists,
                "paidup is here already, as a Debian package",
            ),
        });
    }
    let program = env::current_exe()
        .and_then(fs::read)
        .map_err(|error| StepFailed {
            step: "read this program".to_owned(),
            error,
        })?;
    let mut steps = vec![Step::Write(PROGRAM, 0o755, program, "the program")];
    for (path, text, why) in FILES {
        // The units name the runbook where the package has it.
        let text = text.replace("file:/usr/share/", "file:/usr/local/share/");
        steps.push(Step::Write(path, 0o644, text.into_bytes(), why));
    }
    for (path, text, why) in &options.shared {
        steps.push(Step::Write(path, 0o644, text.clone().into_bytes(), why));
    }
    steps.push(Step::WriteOnce(
        USUAL_ENV_FILE,
        0o600,
        env_file(),
        "your settings",
    ));
    steps.extend([
        Step::Run("systemd-sysusers paidup.conf", "makes the user"),
        Step::Run("systemd-tmpfiles --create paidup.conf", "makes its folders"),
        Step::Run("systemctl daemon-reload", "systemd reads the units"),
        Step::Run(ENABLE, "they start when the machine does"),
        Step::Run(ENABLE_BACKUP, "a backup each night"),
        Step::Run(
            ENABLE_PAGE,
            "a page to look at, for root and the group paidup",
        ),
        Step::Try,
    ]);
    steps.extend(options.host.iter().flat_map(|host| host_steps(host)));
    take(options, &steps, out)?;
    tell_next(options, out)
}

/// What is different on a machine with this name.
fn host_steps(host: &str) -> Vec<Step> {
    let url = Step::Set("PUBLIC_URL", format!("https://{host}"));
    let files = PROXY_FILES.iter().map(|proxy| {
        let text = proxy.text(host).into_bytes();
        Step::Write(proxy.path, 0o644, text, proxy.what)
    });
    iter::once(url).chain(files).collect()
}

fn tell_next(options: &Options, out: &mut dyn Write) -> Result<(), StepFailed> {
    let Some(host) = &options.host else {
        return tell(out, format_args!("{NEXT}"));
    };
    for proxy in &PROXY_FILES {
        tell(out, format_args!("{}", proxy.shown(host)))?;
    }
    tell(out, format_args!("{NEXT_WITH_HOST}"))
}

/// Stops paidup and removes what [`install`] has put in place. Settings, orders, backups and logs
/// go only with `purge`.
///
/// # Errors
/// [`StepFailed`] at the first step that fails.
fn uninstall(options: &Options, purge: bool, out: &mut dyn Write) -> Result<(), StepFailed> {
    let mut steps = Vec::new();
    let is_installed = |(path, ..): &&(&str, &str, &str)| within(&options.root, path).exists();
    if FILES.iter().all(|file| is_installed(&file)) {
        steps.push(Step::Run(DISABLE, "all of it stops"));
        steps.push(Step::Run(
            "systemctl stop paidup-notify@*",
            "so do other destinations",
        ));
        steps.push(Step::Run(
            "systemctl disable paidup-notify@.service",
            "and are not started again",
        ));
        steps.push(Step::Run(STOP_SHOPS, "so do other shops"));
        steps.push(Step::Run(DISABLE_SHOPS, "and are not started again"));
    }
    steps.extend(FILES.iter().map(|(path, _, why)| Step::Remove(path, why)));
    let shared = options.shared.iter().map(|(path, _, why)| (*path, *why));
    let alone = shared.filter(|(path, _)| {
        !shared::FOLDERS
            .iter()
            .any(|(folder, _)| path.starts_with(folder))
    });
    let folders = shared::FOLDERS.into_iter().chain(alone);
    steps.extend(folders.map(|(path, why)| Step::Remove(path, why)));
    steps.push(Step::Remove(PROGRAM, "the program"));
    steps.push(Step::Run(
        "systemctl daemon-reload",
        "systemd forgets the units",
    ));
    if purge {
        steps.extend([
            Step::Remove("/etc/paidup", "settings and secrets"),
            Step::Remove("/var/lib/paidup", "orders and backups"),
            Step::Remove(
                "/var/lib/systemd/timers/stamp-paidup-backup.timer",
                "when the last backup was",
            ),
            Step::Remove(
                "/var/lib/systemd/timers/stamp-paidup-reconcile.timer",
                "when the last comparison was",
            ),
            Step::Run("systemctl stop systemd-journald@paidup.socket systemd-journald-varlink@paidup.socket systemd-journald@paidup.service", "its journal closes"),
            Step::RemoveJournal,
            Step::Run("userdel paidup", "the user"),
        ]);
    }
    take(options, &steps, out)?;
    if purge {
        return Ok(());
    }
    tell(
        out,
        format_args!(
            "\nKept: /etc/paidup (settings), /var/lib/paidup (orders, backups), the journal and the \
             user.\n`paidup uninstall --purge` removes them as well.\n"
        ),
    )
}

const PROGRAM: &str = "/usr/local/bin/paidup";

/// The Debian package has the same files under `/usr/lib`.
const PACKAGED: &str = "/usr/lib/systemd/system/paidup.service";

const ENABLE: &str = "systemctl enable paidup.socket paidup-admin.socket paidup.service";
const ENABLE_PAGE: &str = "systemctl enable --now paidup-page.socket";
const ENABLE_BACKUP: &str = "systemctl enable --now paidup-backup.timer";
const DISABLE: &str = "systemctl disable --now paidup.socket paidup-admin.socket paidup.service \
                       paidup-page.socket paidup-page.service paidup-api.service paidup-notify.service \
                       paidup-reconcile.timer paidup-backup.timer";

const STOP_SHOPS: &str = "systemctl stop paidup@*.socket paidup-admin@*.socket paidup@*.service \
                          paidup-page@*.socket paidup-page@*.service paidup-api@*.service \
                          paidup-shop-notify@*.service paidup-reconcile@*.timer paidup-backup@*.timer";
const DISABLE_SHOPS: &str = "systemctl disable paidup@.socket paidup-admin@.socket paidup@.service \
                             paidup-page@.socket paidup-api@.service paidup-shop-notify@.service \
                             paidup-reconcile@.timer paidup-backup@.timer";

const NEXT: &str = "
Next:
  sudoedit /etc/paidup/paidup.env    # STRIPE_WEBHOOK_SECRET, from Dashboard → Webhooks → your endpoint
  sudo paidup check && sudo systemctl reload-or-restart paidup
  sudo paidup send-test
";

const NEXT_WITH_HOST: &str = "
Next: one of these proxies, by its last line above; its file, with comments, is in /etc/paidup/proxy. Then:
  sudo paidup connect      # makes the endpoint at Stripe, stores its secret, starts the server
  sudo paidup send-test
";

/// The first environment file: the example, with the lines uncommented that must be set here.
fn env_file() -> Vec<u8> {
    include_str!("../../.env.example")
        .replace(
            "\n#DATABASE_PATH=paidup.db\n",
            "\nDATABASE_PATH=/var/lib/paidup/paidup.db\n",
        )
        .replace("\n#STRIPE_WEBHOOK_SECRET=\n", "\nSTRIPE_WEBHOOK_SECRET=\n")
        .into_bytes()
}

/// One step and what it is for.
enum Step {
    /// A file of ours: path, mode, content.
    Write(&'static str, u32, Vec<u8>, &'static str),
    /// A file of the operator's: only when there is none.
    WriteOnce(&'static str, u32, Vec<u8>, &'static str),
    /// A variable of the operator's settings: only when it is not set.
    Set(&'static str, String),
    /// A file, or a folder with all that is in it.
    Remove(&'static str, &'static str),
    /// The folder of our journal, whose name begins with the machine's id.
    RemoveJournal,
    /// A command; no word of it holds a blank.
    Run(&'static str, &'static str),
    /// Whether this machine lets a unit be shut in.
    Try,
}

fn take(options: &Options, steps: &[Step], out: &mut dyn Write) -> Result<(), StepFailed> {
    for step in steps {
        step.take(options, out)?;
    }
    Ok(())
}

impl Step {
    /// Tells the step, then takes it.
    fn take(&self, options: &Options, out: &mut dyn Write) -> Result<(), StepFailed> {
        let (verb, object, why) = self.words(&options.root);
        tell(out, format_args!("{verb:<7} {object:<66} {why}\n"))?;
        if options.dry_run || matches!(verb, "same" | "keep" | "absent") {
            return Ok(());
        }
        self.act(&options.root).map_err(|error| StepFailed {
            step: format!("{verb} {object}"),
            error,
        })
    }

    /// What this step comes to here: verb, object, purpose.
    fn words(&self, root: &Path) -> (&'static str, &str, &'static str) {
        match self {
            Step::Write(path, mode, content, why) => {
                let verb = match is_same(&within(root, path), *mode, content) {
                    true => "same",
                    false => "write",
                };
                (verb, path, why)
            }
            Step::WriteOnce(path, _, _, why) if !within(root, path).exists() => {
                ("write", path, why)
            }
            Step::WriteOnce(path, ..) => ("keep", path, "your settings, as they are"),
            Step::Set(name, value) => match public_setting(root, name) {
                Some(present) if present == *value => ("same", name, "this host"),
                Some(_) => (
                    "keep",
                    name,
                    "another host than this; change it if that is wrong",
                ),
                None => ("set", name, "this host, in your settings"),
            },
            Step::Remove(path, why) if within(root, path).exists() => ("remove", path, why),
            Step::Remove(path, why) => ("absent", path, why),
            Step::RemoveJournal => ("remove", "/var/log/journal/*.paidup", "its logs"),
            Step::Run(command, why) if root == Path::new("/") => ("run", command, why),
            Step::Run(command, why) => ("to run", command, why),
            Step::Try if root == Path::new("/") => ("run", TRY, "tries the sandbox"),
            Step::Try => ("to run", TRY, "tries the sandbox"),
        }
    }

    fn act(&self, root: &Path) -> io::Result<()> {
        match self {
            Step::Write(path, mode, content, _) | Step::WriteOnce(path, mode, content, _) => {
                write_file(&within(root, path), *mode, content)
            }
            Step::Set(name, value) => set(&within(root, USUAL_ENV_FILE), name, value),
            Step::Remove(path, _) => remove(&within(root, path)),
            Step::RemoveJournal => remove_journal(&within(root, "/var/log/journal")),
            Step::Run(command, _) if root == Path::new("/") => run(command),
            Step::Try if root == Path::new("/") => try_sandbox(),
            Step::Run(..) | Step::Try => Ok(()),
        }
    }
}

/// The value of a variable in the settings, if it has one.
fn public_setting(root: &Path, name: &str) -> Option<String> {
    let text = fs::read_to_string(within(root, USUAL_ENV_FILE)).ok()?;
    let (mut vars, _) = env_file::parse(&text);
    vars.remove(name).filter(|value| !value.trim().is_empty())
}

fn set(settings: &Path, name: &str, value: &str) -> io::Result<()> {
    let text = fs::read_to_string(settings)?;
    let changed = env_file::with_variable(&text, name, value);
    let by_hand = || io::Error::other(format!("add the line {name}={value} yourself"));
    files::replace(settings, &changed.ok_or_else(by_hand)?)
}

fn tell(out: &mut dyn Write, line: fmt::Arguments<'_>) -> Result<(), StepFailed> {
    out.write_fmt(line).map_err(|error| StepFailed {
        step: "write to standard output".to_owned(),
        error,
    })
}

fn within(root: &Path, path: &str) -> PathBuf {
    root.join(path.trim_start_matches('/'))
}

fn is_same(path: &Path, mode: u32, content: &[u8]) -> bool {
    fs::metadata(path).is_ok_and(|found| found.permissions().mode() & 0o7777 == mode)
        && fs::read(path).is_ok_and(|found| found == content)
}

/// Writes beside the file and renames, so that no running program or reader ever sees half of it.
fn write_file(path: &Path, mode: u32, content: &[u8]) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let _ = fs::remove_file(&beside);
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&beside)?;
    file.set_permissions(Permissions::from_mode(mode))?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&beside, path)
}

fn remove(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return fs::remove_dir_all(path);
    }
    fs::remove_file(path)?;
    // Folders that were created for our files alone.
    let is_ours = |folder: &&Path| {
        folder.extension() == Some("d".as_ref())
            || folder.components().any(|part| part.as_os_str() == "paidup")
    };
    for folder in path.ancestors().skip(1).take_while(is_ours) {
        let _ = fs::remove_dir(folder);
    }
    Ok(())
}

const TRY: &str = "systemctl start paidup-check.service";

/// What the check itself finds does not count: the settings may lack their secret still.
fn try_sandbox() -> io::Result<()> {
    let ask = |line: &str| Command::new("systemctl").args(line.split(' ')).output();
    ask("start paidup-check.service")?;
    let shown = ask("show --value -p ExecMainStatus paidup-check.service")?;
    match shown.stdout.trim_ascii() {
        b"226" => Err(io::Error::other(NO_NESTING)),
        _ => Ok(()),
    }
}

const NO_NESTING: &str = "this machine does not let systemd shut a service in (226/NAMESPACE): mostly it is a \
    container that may not nest. Allow that (`nesting=1` in Proxmox and LXD), or do without these walls:\n  \
    `for unit in paidup.service paidup-.service paidup@.service; do install -D -m 644 /usr/local/share/paidup/relaxed.conf \
    /etc/systemd/system/$unit.d/20-relaxed.conf; done; systemctl daemon-reload`\n";

/// Asks before everything is removed.
fn last_word(root: &Path, input: &mut dyn BufRead, out: &mut dyn Write) -> Result<(), Failure> {
    writeln!(
        out,
        "This removes settings, secrets, orders, backups and logs for good.\nType `purge` to do that, or `backup` to \
         copy the orders to {LAST_BACKUP} first. Anything else keeps everything."
    )?;
    out.flush()?;
    let mut word = String::new();
    input.read_line(&mut word)?;
    match word.trim() {
        "purge" => Ok(()),
        "backup" => last_backup(root).map_err(|error| {
            Failure::Other(format!(
                "There is no last backup: {error}. Nothing was removed."
            ))
        }),
        _ => Err(Failure::Other(
            "Nothing was removed. Without a question: `paidup uninstall --purge --yes`".to_owned(),
        )),
    }
}

/// Outside of all that is removed.
const LAST_BACKUP: &str = "/root/paidup-last.db";

/// The owner of the database makes it where he may, and root brings it away.
fn last_backup(root: &Path) -> io::Result<()> {
    let made = within(root, "/var/lib/paidup/backup/paidup-last.db");
    let settings = within(root, USUAL_ENV_FILE);
    let status = Command::new(env::current_exe()?)
        .args(["backup".as_ref(), made.as_os_str(), "--force".as_ref()])
        .args(["--env-file".as_ref(), settings.as_os_str()])
        .stdout(Stdio::null())
        .status()?;
    if !status.success() {
        return Err(io::Error::other("it failed for the reason above"));
    }
    write_file(&within(root, LAST_BACKUP), 0o600, &fs::read(made)?)
}

fn remove_journal(journals: &Path) -> io::Result<()> {
    let Ok(entries) = fs::read_dir(journals) else {
        return Ok(());
    };
    for entry in entries {
        let path = entry?.path();
        if path.extension() == Some("paidup".as_ref()) {
            fs::remove_dir_all(path)?;
        }
    }
    Ok(())
}

fn run(command: &str) -> io::Result<()> {
    let mut words = command.split_ascii_whitespace();
    let status = Command::new(words.next().unwrap_or_default())
        .args(words)
        .status()?;
    if status.success() {
        Ok(())
    } else {
        Err(io::Error::other(status.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::table::words_of;

    fn options(root: &Path) -> Options {
        Options {
            host: None,
            root: root.to_owned(),
            dry_run: false,
            shared: Options::read(&words_of("install")).unwrap().shared,
        }
    }

    fn told(act: impl FnOnce(&mut Vec<u8>) -> Result<(), StepFailed>) -> String {
        let mut out = Vec::new();
        act(&mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    fn files_in(folder: &Path) -> Vec<PathBuf> {
        let mut found = Vec::new();
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                found.extend(files_in(&path));
            } else {
                found.push(path);
            }
        }
        found
    }

    #[test]
    fn its_options_are_the_folder_and_whether_it_acts() {
        let usual = Options::read(&words_of("install"));
        assert_eq!(usual, Ok(options(Path::new("/"))));
        let line = "uninstall --purge --dry-run --root /mnt";
        let dry = Options {
            dry_run: true,
            ..options(Path::new("/mnt"))
        };
        assert_eq!(Options::read(&words_of(line)), Ok(dry));
        assert!(Options::read(&words_of("install --host localhost")).is_err());
    }

    #[test]
    fn a_dry_run_shows_every_step_and_takes_none() {
        let root = tempfile::tempdir().unwrap();
        let options = Options {
            dry_run: true,
            ..options(root.path())
        };
        let shown = told(|out| install(&options, out));
        for (path, ..) in FILES {
            assert!(shown.contains(path), "{path} not in\n{shown}");
        }
        assert!(shown.contains("write   /etc/paidup/paidup.env"), "{shown}");
        assert_eq!(files_in(root.path()), Vec::<PathBuf>::new());
    }

    #[test]
    fn a_second_install_changes_nothing() {
        let root = tempfile::tempdir().unwrap();
        told(|out| install(&options(root.path()), out));
        let again = told(|out| install(&options(root.path()), out));
        assert!(!again.contains("write "), "{again}");
        let count = FILES.len() + options(root.path()).shared.len() + 2;
        assert_eq!(files_in(root.path()).len(), count);
    }

    #[test]
    fn settings_are_private_and_never_overwritten() {
        let root = tempfile::tempdir().unwrap();
        told(|out| install(&options(root.path()), out));
        let settings = within(root.path(), USUAL_ENV_FILE);
        let mode = fs::metadata(&settings).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o600);
        fs::write(&settings, "STRIPE_WEBHOOK_SECRET=whsec_mine\n").unwrap();
        let again = told(|out| install(&options(root.path()), out));
        assert!(again.contains("keep    /etc/paidup/paidup.env"), "{again}");
        let kept = fs::read_to_string(&settings).unwrap();
        assert_eq!(kept, "STRIPE_WEBHOOK_SECRET=whsec_mine\n");
    }

    #[test]
    fn a_host_is_set_once_and_its_proxy_files_are_shown_and_written() {
        for is_packaged in [false, true] {
            let root = tempfile::tempdir().unwrap();
            let named = |host: &str| Options {
                host: Some(host.to_owned()),
                ..options(root.path())
            };
            let settings = within(root.path(), USUAL_ENV_FILE);
            if is_packaged {
                write_file(&within(root.path(), PACKAGED), 0o644, b"").unwrap();
                write_file(&settings, 0o600, &env_file()).unwrap();
            }
            let shown = told(|out| install(&named("pay.coffee.example"), out));
            let text = fs::read_to_string(&settings).unwrap();
            assert!(
                text.contains("\nPUBLIC_URL=https://pay.coffee.example\n"),
                "{text}"
            );
            for proxy in &PROXY_FILES {
                let written = fs::read_to_string(within(root.path(), proxy.path)).unwrap();
                assert_eq!(written, proxy.text("pay.coffee.example"));
                assert!(
                    shown.contains(&proxy.shown("pay.coffee.example")),
                    "{shown}"
                );
            }
            assert_eq!(within(root.path(), PROGRAM).exists(), !is_packaged);
            let again = told(|out| install(&named("other.example"), out));
            assert!(again.contains("keep    PUBLIC_URL"), "{again}");
            assert_eq!(fs::read_to_string(&settings).unwrap(), text);
        }
    }

    #[test]
    fn the_first_settings_lack_only_the_secret() {
        let text = String::from_utf8(env_file()).unwrap();
        let set: Vec<&str> = text
            .lines()
            .filter(|line| !line.starts_with('#') && !line.is_empty())
            .collect();
        let expected = [
            "DATABASE_PATH=/var/lib/paidup/paidup.db",
            "STRIPE_WEBHOOK_SECRET=",
        ];
        assert_eq!(set, expected);
    }

    #[test]
    fn uninstalling_leaves_settings_and_orders_and_purging_nothing() {
        let root = tempfile::tempdir().unwrap();
        told(|out| install(&options(root.path()), out));
        let orders = within(root.path(), "/var/lib/paidup/paidup.db");
        fs::create_dir_all(orders.parent().unwrap()).unwrap();
        fs::write(&orders, "").unwrap();
        told(|out| uninstall(&options(root.path()), false, out));
        let mut left = files_in(root.path());
        left.sort();
        assert_eq!(left, [within(root.path(), USUAL_ENV_FILE), orders]);
        told(|out| uninstall(&options(root.path()), true, out));
        assert_eq!(files_in(root.path()), Vec::<PathBuf>::new());
    }

    #[test]
    fn a_purge_asks_for_a_word() {
        let root = tempfile::tempdir().unwrap();
        let answer = |mut typed: &[u8]| {
            let mut out = Vec::new();
            let answer = last_word(root.path(), &mut typed, &mut out);
            assert!(String::from_utf8(out).unwrap().contains("for good"));
            answer.map_err(|error| error.to_string())
        };
        assert_eq!(answer(b"purge\n"), Ok(()));
        for typed in [&b""[..], b"\n", b"yes\n", b"PURGE\n"] {
            assert!(answer(typed).unwrap_err().contains("Nothing was removed"));
        }
    }

    #[test]
    fn nothing_is_installed_beside_the_debian_package() {
        let root = tempfile::tempdir().unwrap();
        let packaged = within(root.path(), PACKAGED);
        write_file(&packaged, 0o644, b"").unwrap();
        let refused = install(&options(root.path()), &mut Vec::new()).unwrap_err();
        assert!(refused.to_string().contains("Debian package"), "{refused}");
        assert_eq!(files_in(root.path()), [packaged]);
    }

    #[test]
    fn the_units_of_one_more_shop_are_those_of_the_first_with_another_name() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd");
        let lines = |name: &str| -> Vec<String> {
            let text = fs::read_to_string(folder.join(name)).unwrap();
            let text = text
                .replace("@%i.", ".")
                .replace(" for %i:", ":")
                .replace("-%i", "")
                .replace("/run/paidup/webhook.sock", "127.0.0.1:4242")
                .replace("/run/paidup/admin.sock", "127.0.0.1:4243");
            let lines = text.lines().filter(|line| !line.starts_with('#'));
            lines.map(str::to_owned).collect()
        };
        let mut count = 0;
        for file in files_in(&folder) {
            let name = file.file_name().unwrap().to_str().unwrap();
            // One more destination is no shop.
            if name.contains("@.") && name != "paidup-notify@.service" {
                let of_the_first = name.replace("@.", ".").replace("-shop-", "-");
                assert_eq!(lines(name), lines(&of_the_first), "{name}");
                count += 1;
            }
        }
        assert_eq!(count, 12);
    }

    #[test]
    fn every_unit_that_runs_paidup_is_installed() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd");
        let installed: Vec<&str> = FILES.iter().map(|(_, text, _)| *text).collect();
        for file in files_in(&folder) {
            let kind = file.extension().and_then(|kind| kind.to_str());
            if matches!(kind, Some("service" | "socket" | "timer")) {
                let text = fs::read_to_string(&file).unwrap();
                assert!(installed.contains(&text.as_str()), "{}", file.display());
            }
        }
    }
}
