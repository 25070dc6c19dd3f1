//! Reads one variable after the other and collects what is wrong. An operator at 3 a.m. should not
//! learn of the second mistake only after mending the first.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use super::error::{ConfigError, ConfigWarning};
use super::table::{self, Row, Variable};
use super::value::Address;
use crate::truth::reading::Reading;

/// Reads the file of that path.
pub(super) type ReadFile<'a> = &'a dyn Fn(&Path) -> io::Result<String>;

/// What follows the database's name in the names of the files that belong to it.
const DATABASE_SUFFIXES: [&str; 5] = ["", "-wal", "-shm", "-journal", ".lock"];

pub(super) struct Checker<'a> {
    pub(super) vars: &'a BTreeMap<String, String>,
    read_file: ReadFile<'a>,
    errors: Vec<ConfigError>,
    pub(super) warnings: Vec<ConfigWarning>,
}

/// The struct of these values, or `None` when one is missing. All are asked for before any is looked
/// at, so that no mistake hides another.
macro_rules! all {
    ($name:ident { $($field:ident: $value:expr),* $(,)? }) => {{
        $(let $field = $value;)*
        Some($name { $($field: $field?),* })
    }};
}
pub(super) use all;

/// What `take` takes from `vars`, or every mistake.
pub(super) fn check<T>(
    vars: &BTreeMap<String, String>,
    read_file: ReadFile<'_>,
    take: impl FnOnce(&mut Checker<'_>) -> Option<T>,
) -> Result<T, Vec<ConfigError>> {
    let mut checker = Checker {
        vars,
        read_file,
        errors: Vec::new(),
        warnings: Vec::new(),
    };
    match take(&mut checker) {
        Some(taken) if checker.errors.is_empty() => Ok(taken),
        Some(_) | None => Err(checker
            .errors
            .into_iter()
            .map(|error| with_typo(error, vars))
            .collect()),
    }
}

const NOT_SET: &str = "is not set or blank";

/// What is missing may be there under a name that is nearly right.
fn with_typo(mut error: ConfigError, vars: &BTreeMap<String, String>) -> ConfigError {
    let is_meant = |name: &&String| table::nearly(name).is_some_and(|it| it.name == error.variable);
    if error.problem == NOT_SET
        && let Some(typo) = vars.keys().find(is_meant)
    {
        error.problem = format!("{NOT_SET}, and {typo} is: a slip in its name");
        error.remedy = format!("Write {} in place of {typo}.", error.variable);
    }
    error
}

impl Checker<'_> {
    /// The value of a variable; `None` when it is wrong.
    pub(super) fn value<T>(&mut self, row: &Row<T>) -> Option<T> {
        row.read(self.vars)
            .map_err(|error| self.errors.push(error))
            .ok()
    }

    /// The value of `direct`, or of the file that `file` names, and which of the two it was.
    pub(super) fn secret<T>(
        &mut self,
        direct: &Row<T>,
        file: &Row<Option<PathBuf>>,
    ) -> Option<(&'static str, T)> {
        let (variable, text) = self.secret_text(&direct.variable, file)?;
        match (direct.parse)(&text) {
            Ok(value) => Some((variable, value)),
            Err(problem) => self.refuse(ConfigError {
                variable,
                ..direct.variable.error(problem)
            }),
        }
    }

    fn secret_text(
        &mut self,
        direct: &Variable,
        file: &Row<Option<PathBuf>>,
    ) -> Option<(&'static str, String)> {
        let path = self.value(file)?;
        let file = &file.variable;
        let error = match (direct.text(self.vars), path) {
            ("", None) => direct.error(NOT_SET),
            (text, None) => return Some((direct.name, text.to_owned())),
            ("", Some(path)) => match (self.read_file)(&path) {
                Ok(content) if content.trim().is_empty() => ConfigError {
                    variable: file.name,
                    ..direct.error("names a file that is blank")
                },
                Ok(content) => return Some((file.name, content.trim().to_owned())),
                Err(error) => file.error(format!("names a file that cannot be read: {error}")),
            },
            (_, Some(_)) => ConfigError {
                why: "A rotation would change one of them, perhaps the one that is not used.",
                remedy: "Remove one of the two from the environment file.".to_owned(),
                ..file.error(format!("is set, and so is {}", direct.name))
            },
        };
        self.refuse(error)
    }

    /// The SQLite file, which none of these addresses may name: the socket would replace it.
    pub(super) fn database(
        &mut self,
        addresses: &[(&Variable, Option<&Address>)],
    ) -> Option<PathBuf> {
        let database = self.value(&table::DATABASE_PATH)?;
        // A relative path starts where we were started; a socket's path is always absolute.
        let whole = std::path::absolute(&database).unwrap_or_else(|_| database.clone());
        let files =
            DATABASE_SUFFIXES.map(|suffix| PathBuf::from(format!("{}{suffix}", whole.display())));
        for (variable, address) in addresses {
            if let Some(Address::Unix(path)) = address
                && files.contains(path)
            {
                self.refuse::<()>(ConfigError {
                    why: "A socket and the orders cannot have one name.",
                    remedy: "Set a path of its own, such as unix:/run/paidup/webhook.sock."
                        .to_owned(),
                    ..variable.error("is the path of the database, or of a file that belongs to it")
                });
            }
        }
        Some(database)
    }

    /// The number of the group, which may be given by its name.
    pub(super) fn socket_group(&mut self) -> Option<Option<u32>> {
        let value = self.value(&table::SOCKET_GROUP)?;
        if value.is_empty() {
            return Some(None);
        }
        match value.parse().ok().or_else(|| self.group_number(&value)) {
            Some(number) => Some(Some(number)),
            None => self.refuse(
                table::SOCKET_GROUP
                    .variable
                    .error("is neither a group in /etc/group nor the number of one"),
            ),
        }
    }

    fn group_number(&self, name: &str) -> Option<u32> {
        let groups = (self.read_file)(Path::new("/etc/group")).ok()?;
        groups.lines().find_map(|line| {
            let mut fields = line.split(':');
            let number = (fields.next() == Some(name)).then(|| fields.nth(1))?;
            number?.parse().ok()
        })
    }

    /// How events are to be read, whoever reads them.
    pub(super) fn reading(&mut self) -> Option<Reading> {
        all!(Reading {
            mode: self.value(&table::STRIPE_MODE),
            names: self.value(&table::ORDER_ID_FROM),
            ours: self.value(&table::OUR_ORDERS),
        })
    }

    pub(super) fn refuse<T>(&mut self, error: ConfigError) -> Option<T> {
        self.errors.push(error);
        None
    }

    pub(super) fn warn(&mut self, variable: &str, problem: impl Into<String>, remedy: &str) {
        self.warnings.push(ConfigWarning {
            variable: variable.to_owned(),
            problem: problem.into(),
            remedy: remedy.to_owned(),
        });
    }
}
