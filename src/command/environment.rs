//! Where the environment is read: the variables, and what the commands make of them.

use std::collections::BTreeMap;
use std::env;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::command::exit::Failure;
use crate::config::api::ApiConfig;
use crate::config::notify::NotifyConfig;
use crate::config::serve::{self, Config};
use crate::config::stripe::StripeConfig;
use crate::config::{ConfigError, env_file};
use crate::host::identity;
use crate::store::{Store, StoreError};

/// Where systemd puts the credentials of a service.
const CREDENTIALS: &str = "CREDENTIALS_DIRECTORY";

/// The variables, and where they come from.
pub(crate) struct Environment {
    pub(crate) vars: BTreeMap<String, String>,
    /// The file of `--env-file`.
    pub(crate) file: Option<PathBuf>,
    /// What is odd in the file, with its place.
    pub(crate) problems: Vec<String>,
}

impl Environment {
    /// The environment, and over it the file, which is systemd's order of precedence.
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
        if let Some(path) = file {
            let name = path.display();
            let text = fs::read_to_string(path).map_err(|error| {
                Failure::Configuration(format!(
                    "--env-file {name} cannot be read: {error}. It must exist, be UTF-8, and be readable by \
                     the user that runs this command; try sudo"
                ))
            })?;
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

    /// What calls to Stripe need.
    pub(crate) fn stripe(&self) -> Result<StripeConfig, Failure> {
        self.stripe_config().map_err(|errors| all_of(&errors))
    }

    /// The same, with every mistake.
    pub(crate) fn stripe_config(&self) -> Result<StripeConfig, Vec<ConfigError>> {
        StripeConfig::parse(&self.vars, &|path| self.read_file(path))
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
        take_identity(&path)?;
        Ok(path)
    }
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
