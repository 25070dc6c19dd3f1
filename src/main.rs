//! The `paidup` command: reads the words and the environment once, runs one command, and says how it
//! ended.

use std::collections::BTreeMap;
use std::env;
use std::fmt::Display;
use std::fs::{self, File};
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use paidup::cli::{self, Command, Invocation};
use paidup::clock::Now;
use paidup::doctor::{self, Patient};
use paidup::domain::api_config::ApiConfig;
use paidup::domain::config::{self, Config, ConfigError};
use paidup::domain::env_file;
use paidup::domain::stripe_config::{ApiSettings, webhook_url};
use paidup::exit::{Exit, Failure};
use paidup::finding::{self, Finding};
use paidup::serve::{self, StartError, Stop};
use paidup::sqlite::Store;
use paidup::stripe_api::StripeApi;
use paidup::{api, backup, check, db, demo, install, logger, reconcile, rotate, send_test, show};

fn main() -> ExitCode {
    let exit = match cli::parse(env::args_os().skip(1)) {
        // Not locked: while the server runs, the log writes there as well.
        Ok(invocation) => match run(&invocation, &mut io::stdout()) {
            Ok(exit) => exit,
            Err(failure) => {
                let exit = failure.exit();
                if exit != Exit::Done {
                    tell(&failure);
                }
                exit
            }
        },
        Err(error) => {
            tell(&error);
            Exit::Usage
        }
    };
    ExitCode::from(exit.code())
}

/// Tells the operator. A closed stderr changes nothing else.
fn tell(text: &dyn Display) {
    let _ = writeln!(io::stderr(), "{text}");
}

fn run(invocation: &Invocation, out: &mut dyn Write) -> Result<Exit, Failure> {
    let environment = || Environment::read(invocation.env_file.as_deref());
    let store = || environment()?.store();
    let database = || environment()?.database();
    let now = || Now::read().unix;
    let exit = match &invocation.command {
        Command::Serve => serve(&environment()?)?,
        Command::Api => answer_shop(&environment()?)?,
        Command::GenToken => {
            let token = api::generate_token().map_err(|error| Failure::Other(error.to_string()))?;
            writeln!(out, "{token}")?;
            Exit::Done
        }
        Command::Check { json } => check(&environment()?, *json, out)?,
        Command::OrdersList {
            status,
            limit,
            json,
        } => show::orders_list(&store()?, *status, *limit, *json, out)?,
        Command::OrdersShow { id, json } => show::orders_show(&store()?, id, *json, out)?,
        Command::EventsList { order, limit, json } => {
            show::events_list(&store()?, order.as_deref(), *limit, *json, out)?
        }
        Command::EventsShow { id, json } => show::events_show(&store()?, id, *json, out)?,
        Command::SendTest(options) => send_test::run(
            options,
            &environment()?.config().map_err(|errors| all_of(&errors))?,
            out,
        )?,
        Command::Backup(target) => backup::backup(&database()?, target, now(), out)?,
        Command::Restore { file } => backup::restore(&database()?, file, now(), out)?,
        Command::DbCheck { json } => db::check(&database()?, now(), *json, out)?,
        Command::DbInfo { json } => db::info(&database()?, *json, out)?,
        Command::DbPrune { days } => db::prune(&database()?, *days, now(), out)?,
        Command::RotateAdd {
            secret_file,
            from,
            restart,
        } => {
            let files = rotated(invocation, secret_file);
            match from {
                Some(path) => rotate::add(&files, &mut input(path)?, *restart, out)?,
                None => rotate::add(&files, &mut *rotate::standard_input()?, *restart, out)?,
            }
        }
        Command::RotateVerify { secret_file } => {
            rotate::verify(&rotated(invocation, secret_file), out)?
        }
        Command::RotateFinish {
            secret_file,
            restart,
        } => rotate::finish(&rotated(invocation, secret_file), *restart, out)?,
        Command::Demo => demo::run(&env::temp_dir(), out)?,
        Command::Doctor { json } => examine(&environment()?, *json, out)?,
        Command::Reconcile(options) => fetch(options, &environment()?, out)?,
        Command::Install(options) => {
            install::install(options, out).map_err(|error| Failure::Other(error.to_string()))?;
            Exit::Done
        }
        Command::Uninstall { options, purge } => {
            install::uninstall(options, *purge, out)
                .map_err(|error| Failure::Other(error.to_string()))?;
            Exit::Done
        }
        Command::Version => {
            writeln!(out, "paidup {}", env!("CARGO_PKG_VERSION"))?;
            Exit::Done
        }
        Command::Help(name) => {
            out.write_all(cli::help(name).as_bytes())?;
            Exit::Done
        }
    };
    out.flush()?;
    Ok(exit)
}

fn serve(environment: &Environment) -> Result<Exit, Failure> {
    for problem in &environment.problems {
        tell(&format!("warning: {problem}"));
    }
    let config = environment.config().map_err(|errors| all_of(&errors))?;
    for warning in &config.warnings {
        tell(&format!("warning: {warning}"));
    }
    logger::start(config.log_level);
    let running = serve::start_under_manager(&config, &environment.vars)
        .map_err(|error| Failure::Other(error.to_string()))?;
    tell(&running.notice());
    let why = running.wait();
    running.stop(&why);
    match why {
        Stop::Asked => Ok(Exit::Done),
        Stop::Broken(error) => Err(Failure::Store(error)),
    }
}

fn answer_shop(environment: &Environment) -> Result<Exit, Failure> {
    let config = ApiConfig::parse(&environment.vars, &|path| fs::read_to_string(path))
        .map_err(|errors| all_of(&errors))?;
    logger::start(config.log_level);
    api::run(config, &environment.vars, &|line| tell(&line)).map_err(|error| match error {
        StartError::Configuration(error) => all_of(&[error]),
        error => Failure::Other(error.to_string()),
    })?;
    Ok(Exit::Done)
}

fn check(environment: &Environment, json: bool, out: &mut dyn Write) -> Result<Exit, Failure> {
    let findings = environment.findings(&environment.config());
    finding::write(&findings, json, out)?;
    Ok(finding::exit(&findings))
}

fn examine(environment: &Environment, json: bool, out: &mut dyn Write) -> Result<Exit, Failure> {
    let config = environment.config();
    let mut findings = environment.findings(&config);
    if let Ok(config) = &config {
        let url = webhook_url(&environment.vars).map_err(|error| all_of(&[error]))?;
        let settings = environment.stripe()?;
        let api = StripeApi::new(&settings).map_err(|error| all_of(&[error]))?;
        let store = Store::open_existing(&config.database).ok();
        findings.extend(doctor::examine(&Patient {
            api: &api,
            key_mode: settings.mode,
            config,
            url: url.as_deref(),
            store: store.as_ref(),
            now: Now::read().unix,
        }));
    }
    finding::write(&findings, json, out)?;
    Ok(finding::exit(&findings))
}

fn fetch(
    options: &reconcile::Options,
    environment: &Environment,
    out: &mut dyn Write,
) -> Result<Exit, Failure> {
    let settings = environment.stripe()?;
    let path = config::database_path(&environment.vars).map_err(|error| all_of(&[error]))?;
    let mut store = Store::open_existing(&path).map_err(Failure::Store)?;
    let settings = settings
        .for_database(store.mode()?)
        .map_err(|error| all_of(&[error]))?;
    let api = StripeApi::new(&settings).map_err(|error| all_of(&[error]))?;
    let mut progress: Box<dyn Write> = if io::stderr().is_terminal() {
        Box::new(io::stderr())
    } else {
        Box::new(io::sink())
    };
    let mut context = reconcile::Context {
        api: &api,
        store: &mut store,
        reading: &settings.reading,
        now: Now::read().unix,
        tries: reconcile::TRIES,
        progress: &mut progress,
    };
    reconcile::run(options, &mut context, out)
}

fn rotated(invocation: &Invocation, secret_file: &Option<PathBuf>) -> rotate::Files {
    let usual = || PathBuf::from(rotate::ENV_FILE);
    rotate::Files {
        env_file: invocation.env_file.clone().unwrap_or_else(usual),
        secret_file: secret_file.clone(),
    }
}

fn input(path: &Path) -> Result<File, Failure> {
    File::open(path).map_err(|error| Failure::Other(format!("{}: {error}.", path.display())))
}

/// Every mistake in the configuration, as one text.
fn all_of(errors: &[ConfigError]) -> Failure {
    let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
    Failure::Configuration(errors.join("\n"))
}

/// The variables, and where they come from.
struct Environment {
    vars: BTreeMap<String, String>,
    file: Option<PathBuf>,
    /// What is odd in the file, with its place.
    problems: Vec<String>,
}

impl Environment {
    /// What `check` finds.
    fn findings(&self, config: &Result<Config, Vec<ConfigError>>) -> Vec<Finding> {
        let odd = |problem: &String| Finding::problem("environment file", problem, "", "");
        let mut findings: Vec<Finding> = self.problems.iter().map(odd).collect();
        findings.extend(check::configuration(config));
        findings.extend(self.secret_files().filter_map(check::secret_file));
        if let Ok(path) = config::database_path(&self.vars) {
            let mode = config.as_ref().ok().and_then(|config| config.reading.mode);
            findings.extend(check::database(&path, mode));
        }
        findings
    }

    /// What calls to Stripe need.
    fn stripe(&self) -> Result<ApiSettings, Failure> {
        ApiSettings::parse(&self.vars, &|path| fs::read_to_string(path))
            .map_err(|errors| all_of(&errors))
    }

    /// The environment, and over it the file, which is systemd's order of precedence.
    #[expect(
        clippy::disallowed_methods,
        reason = "this is where the environment is read, once"
    )]
    fn read(file: Option<&Path>) -> Result<Environment, Failure> {
        // A value that is not UTF-8 becomes one that no check takes for good.
        let lossy = |text: std::ffi::OsString| text.to_string_lossy().into_owned();
        let mut vars: BTreeMap<String, String> = env::vars_os()
            .map(|(name, value)| (lossy(name), lossy(value)))
            .collect();
        let mut problems = Vec::new();
        if let Some(path) = file {
            let name = path.display();
            let text = fs::read_to_string(path).map_err(|error| {
                Failure::Configuration(format!(
                    "--env-file {name} cannot be read: {error}. It must be there, be UTF-8, and be readable by \
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

    fn config(&self) -> Result<Config, Vec<ConfigError>> {
        Config::parse(&self.vars, &|path| fs::read_to_string(path))
    }

    /// The database, for commands that need nothing else of the configuration.
    fn store(&self) -> Result<Store, Failure> {
        let path = self.database()?;
        Store::open_existing(&path)
            .map_err(|error| Failure::Other(format!("{}: {error}.", path.display())))
    }

    fn database(&self) -> Result<PathBuf, Failure> {
        config::database_path(&self.vars).map_err(|error| all_of(&[error]))
    }

    /// The files that hold secrets.
    fn secret_files(&self) -> impl Iterator<Item = &Path> {
        let secrets = self
            .vars
            .get("STRIPE_WEBHOOK_SECRET_FILE")
            .map(|path| path.trim());
        let secrets = secrets.filter(|path| !path.is_empty()).map(Path::new);
        self.file.as_deref().into_iter().chain(secrets)
    }
}
