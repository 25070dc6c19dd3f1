//! Where the environment is read: the variables, and what the commands make of them.

use std::collections::BTreeMap;
use std::env;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustix::process::geteuid;

use crate::base::plain;
use crate::command::exit::{Failure, tell};
use crate::command::show;
use crate::config::api::ApiConfig;
use crate::config::notify::NotifyConfig;
use crate::config::page::PageConfig;
use crate::config::serve::{self, Config};
use crate::config::stripe::StripeConfig;
use crate::config::table::DATABASE_PATH;
use crate::config::{self, ConfigError, env_file};
use crate::host::identity;
use crate::host::zone::Zone;
use crate::store::{Store, StoreError};

/// Where systemd puts the credentials of a service.
const CREDENTIALS: &str = "CREDENTIALS_DIRECTORY";

/// The environment file of the installed service.
pub(crate) const USUAL_ENV_FILE: &str = "/etc/paidup/paidup.env";

/// The variables, and where they come from.
pub(crate) struct Environment {
    pub(crate) vars: BTreeMap<String, String>,
    /// The file of `--env-file`, or that of the installed service.
    pub(crate) file: Option<PathBuf>,
    /// What is odd in the file, with its place.
    pub(crate) problems: Vec<String>,
}

impl Environment {
    /// The environment, and over it the file, which is systemd's order of precedence. Where neither a file
    /// nor a database is named, it is the file of the installed service.
    #[expect(
        clippy::disallowed_methods,
        reason = "this is where the environment is read, once"
    )]
    pub(crate) fn read(file: Option<&Path>) -> Result<Environment, Failure> {
        // A value that is not UTF-8 becomes one that every check refuses.
        let lossy = |text: OsString| text.to_string_lossy().into_owned();
        let mut vars: BTreeMap<String, String> = env::vars_os()
            .map(|(name, value)| (lossy(name), lossy(value)))
            .collect();
        let mut problems = Vec::new();
        let is_usual = file.is_none() && uses_the_installed(&vars);
        let file = file.or(is_usual.then_some(Path::new(USUAL_ENV_FILE)));
        if let Some(path) = file {
            let name = path.display();
            let text = fs::read_to_string(path).map_err(|error| unreadable(path, &error))?;
            if is_usual {
                tell(&format!("Settings: {name}"));
            }
            let (from_file, odd) = env_file::parse(&text);
            problems.extend(odd.iter().map(|problem| format!("{name}: {problem}")));
            vars.extend(from_file);
        }
        Ok(Environment {
            vars,
            file: file.map(Path::to_owned),
            problems,
        })
    }

    /// What `serve` needs.
    pub(crate) fn config(&self) -> Result<Config, Vec<ConfigError>> {
        Config::parse(&self.vars, &|path| self.read_file(path))
    }

    /// What `api` needs.
    pub(crate) fn api(&self) -> Result<ApiConfig, Vec<ConfigError>> {
        ApiConfig::parse(&self.vars, &|path| self.read_file(path))
    }

    /// What `notify` needs.
    pub(crate) fn notify(&self) -> Result<NotifyConfig, Vec<ConfigError>> {
        NotifyConfig::parse(&self.vars, &|path| self.read_file(path))
    }

    /// What `page` needs.
    pub(crate) fn page(&self) -> Result<PageConfig, Vec<ConfigError>> {
        PageConfig::parse(&self.vars, &|path| fs::read_to_string(path))
    }

    /// What calls to Stripe need.
    pub(crate) fn stripe(&self) -> Result<StripeConfig, Failure> {
        self.stripe_config().map_err(|errors| all_of(&errors))
    }

    /// The same, with every mistake.
    pub(crate) fn stripe_config(&self) -> Result<StripeConfig, Vec<ConfigError>> {
        StripeConfig::parse(&self.vars, &|path| self.read_file(path))
    }

    /// The time zone in which people read. A wrong one is told, and UTC it is.
    pub(crate) fn zone(&self) -> Zone {
        config::zone(&self.vars).unwrap_or_else(|error| {
            tell(&error);
            Zone::default()
        })
    }

    /// A file that a variable names. A service that may not read it has a copy as a credential of the same
    /// name (`LoadCredential=`), and whoever may read it needs none: so one value serves all commands.
    fn read_file(&self, path: &Path) -> io::Result<String> {
        let folder = self.vars.get(CREDENTIALS).map(Path::new);
        let copy = folder.zip(path.file_name());
        let copy = copy.map(|(folder, name)| folder.join(name));
        match copy.filter(|copy| copy.exists()) {
            Some(copy) => fs::read_to_string(copy),
            None => fs::read_to_string(path),
        }
    }

    /// The database, for commands that only read it and need nothing else of the configuration.
    pub(crate) fn store_to_read(&self) -> Result<Store, Failure> {
        let path = self.database()?;
        Store::open_to_read(&path).map_err(at(&path))
    }

    /// The same for those that write.
    pub(crate) fn store(&self) -> Result<Store, Failure> {
        let path = self.database()?;
        Store::open_existing(&path).map_err(at(&path))
    }

    /// Where it is. From here on root acts as its folder's owner, so secrets must have been read.
    pub(crate) fn database(&self) -> Result<PathBuf, Failure> {
        let path = serve::database_path(&self.vars).map_err(|error| all_of(&[error]))?;
        show::read_in(self.zone());
        take_identity(&path)?;
        Ok(path)
    }
}

/// Whether the settings of the installed service are meant: nothing says where the database is, and this
/// is not the service itself, to which systemd has given them.
fn uses_the_installed(vars: &BTreeMap<String, String>) -> bool {
    let is_set = |name| {
        vars.get(name)
            .is_some_and(|value: &String| !value.trim().is_empty())
    };
    !is_set(DATABASE_PATH.variable.name)
        && !is_set("STATE_DIRECTORY")
        && Path::new(USUAL_ENV_FILE).exists()
}

/// What to do about a file of the service that cannot be read: mostly, to be root.
pub(crate) fn unreadable(path: &Path, error: &io::Error) -> Failure {
    let name = path.display();
    let is_refused = error.kind() == io::ErrorKind::PermissionDenied;
    Failure::Configuration(if is_refused && !geteuid().is_root() {
        let typed = typed(env::args_os());
        format!("{name} holds secrets, and you may not read it. Try sudo:\n  `sudo {typed}`")
    } else {
        format!(
            "{name} cannot be read: {error}. Name the service's environment file with --env-file."
        )
    })
}

/// The command as it was typed, for a shell.
fn typed(words: impl Iterator<Item = OsString>) -> String {
    let words: Vec<String> = words
        .map(|word| plain::word(&word.to_string_lossy()))
        .collect();
    words.join(" ")
}

pub(crate) fn take_identity(database: &Path) -> Result<(), Failure> {
    identity::take(database).map_err(|error| not_taken(database, &error))
}

pub(crate) fn not_taken(path: &Path, error: &io::Error) -> Failure {
    Failure::Other(format!(
        "{}: {error}. Root works there only as the owner of the folder, and cannot become that user: run this \
         as that user.",
        path.display()
    ))
}

/// Names the database in what is said of it.
pub(crate) fn at(database: &Path) -> impl Fn(StoreError) -> Failure {
    |error| Failure::Other(format!("{}.", error.at(database)))
}

/// Every mistake in the configuration, as one text.
pub(crate) fn all_of(errors: &[ConfigError]) -> Failure {
    let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
    Failure::Configuration(errors.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_typed_can_be_pasted() {
        let shown = |words: &[&str]| typed(words.iter().map(OsString::from));
        assert_eq!(
            shown(&["./paidup", "orders", "list", "--since=3d"]),
            "./paidup orders list --since=3d"
        );
        assert_eq!(
            shown(&["paidup", "orders", "show", "it's $HOME", "", "*"]),
            "paidup orders show 'it'\\''s $HOME' '' '*'"
        );
        assert!(!shown(&["paidup", "\u{1b}[2J"]).contains('\u{1b}'));
    }
}
