//! The `paidup` command: reads the words and the environment once, runs one command, and says how it
//! ended.

use std::collections::BTreeMap;
use std::env;
use std::fmt::Display;
use std::fs::{self, File};
use std::io::{self, IsTerminal, Write};
use std::iter;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, mpsc};
use std::thread;

use paidup::api::process as api;
use paidup::command::doctor::{self, Patient};
use paidup::command::exit::{Exit, Failure};
use paidup::command::finding::{self, Finding};
use paidup::command::table::{self as cli, Command, Invocation};
use paidup::command::{backup, check, db, demo, install, reconcile, rotate, send_test, show};
use paidup::config::api::ApiConfig;
use paidup::config::serve::{self as config, Config};
use paidup::config::stripe::{StripeConfig, webhook_url};
use paidup::config::{ConfigError, env_file};
use paidup::host::clock::Now;
use paidup::host::systemd::Systemd;
use paidup::host::{identity, logger};
use paidup::serve::process::{self as serve, StartError, Stop};
use paidup::store::Store;
use paidup::stripe::client::StripeApi;
use signal_hook::consts::SIGXFSZ;

fn main() -> ExitCode {
    // A file that would grow beyond a limit is an error like a full disk, not the end of us.
    let _ = signal_hook::flag::register(SIGXFSZ, Arc::default());
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
    logger::flush(logger::END_PATIENCE);
    ExitCode::from(exit.code())
}

/// Tells the operator. A stderr that is closed, or that nobody reads, changes nothing else.
fn tell(text: &dyn Display) {
    let text = format!("{text}\n");
    let (told, is_told) = mpsc::channel();
    let write = move || {
        let _ = io::stderr().write_all(text.as_bytes());
        let _ = told.send(());
    };
    if thread::Builder::new().spawn(write).is_ok() {
        let _ = is_told.recv_timeout(logger::END_PATIENCE);
    }
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
        Command::Restore { file } => {
            // While we are root: it may lie where only root can read.
            let source = identity::within(file, || Store::open_query_only(file))
                .map_err(|error| not_taken(file, &error))?;
            backup::restore(&database()?, file, source, now(), out)?
        }
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
    let systemd = take_systemd(environment)?;
    for problem in &environment.problems {
        tell(&format!("warning: {problem}"));
    }
    let config = environment.config().map_err(|errors| all_of(&errors))?;
    for warning in &config.warnings {
        tell(&format!("warning: {warning}"));
    }
    take_identity(&config.database)?;
    logger::start(config.log_level).map_err(no_thread)?;
    let running = serve::start_under_manager(&config, systemd)
        .map_err(|error| Failure::Other(error.to_string()))?;
    tell(&running.notice());
    let why = running.wait();
    running.stop(&why);
    ended(why)
}

fn answer_shop(environment: &Environment) -> Result<Exit, Failure> {
    let systemd = take_systemd(environment)?;
    let config = ApiConfig::parse(&environment.vars, &|path| fs::read_to_string(path))
        .map_err(|errors| all_of(&errors))?;
    take_identity(&config.database)?;
    logger::start(config.log_level).map_err(no_thread)?;
    let why = api::run(config, systemd, &|line| tell(&line)).map_err(|error| match error {
        StartError::Configuration(error) => all_of(&[error]),
        StartError::Store(_)
        | StartError::Listen(..)
        | StartError::Served(_)
        | StartError::Lock(..)
        | StartError::Descriptors(..)
        | StartError::System(_) => Failure::Other(error.to_string()),
    })?;
    ended(why)
}

/// What the service manager gave us. First of all: there must not be another thread yet.
fn take_systemd(environment: &Environment) -> Result<Systemd, Failure> {
    Systemd::take(&environment.vars).map_err(|error| Failure::Other(error.to_string()))
}

fn no_thread(error: io::Error) -> Failure {
    Failure::Other(StartError::System(error).to_string())
}

fn ended(why: Stop) -> Result<Exit, Failure> {
    match why {
        Stop::Asked => Ok(Exit::Done),
        Stop::Broken(error) => Err(Failure::Store(error)),
        Stop::LogLost => Err(Failure::LogLost),
    }
}

fn check(environment: &Environment, json: bool, out: &mut dyn Write) -> Result<Exit, Failure> {
    let findings = environment.findings(&environment.config())?;
    finding::write(&findings, json, out)?;
    Ok(finding::exit(&findings))
}

fn examine(environment: &Environment, json: bool, out: &mut dyn Write) -> Result<Exit, Failure> {
    let config = environment.config();
    let settings = environment.stripe();
    let mut findings = environment.findings(&config)?;
    if let Ok(config) = &config {
        let url = webhook_url(&environment.vars).map_err(|error| all_of(&[error]))?;
        let settings = settings?;
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
    let path = environment.database()?;
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

fn take_identity(database: &Path) -> Result<(), Failure> {
    identity::take(database).map_err(|error| not_taken(database, &error))
}

fn not_taken(path: &Path, error: &io::Error) -> Failure {
    Failure::Other(format!(
        "{}: {error}. Root works there only as the owner of its folder, and cannot become that user: run this \
         as that user.",
        path.display()
    ))
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
    fn findings(&self, config: &Result<Config, Vec<ConfigError>>) -> Result<Vec<Finding>, Failure> {
        let odd = |problem: &String| Finding::problem("environment file", problem, "", "");
        let mut findings: Vec<Finding> = self.problems.iter().map(odd).collect();
        findings.extend(check::configuration(config));
        findings.extend(self.secret_files().filter_map(check::secret_file));
        if let Ok(path) = config::database_path(&self.vars) {
            take_identity(&path)?;
            let listening = config.iter().flat_map(|config| {
                let admin = config.admin.as_ref().map(|address| ("ADMIN_ADDR", address));
                iter::once(("LISTEN_ADDR", &config.listen)).chain(admin)
            });
            findings.extend(listening.filter_map(|(name, address)| check::socket(name, address)));
            let mode = config.as_ref().ok().and_then(|config| config.reading.mode);
            findings.extend(check::database(&path, mode));
        }
        findings.extend(config.as_ref().ok().and_then(check::proxy));
        Ok(findings)
    }

    /// What calls to Stripe need.
    fn stripe(&self) -> Result<StripeConfig, Failure> {
        StripeConfig::parse(&self.vars, &|path| fs::read_to_string(path))
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

    /// Where it is. From now on root is its folder's owner, so secrets must have been read.
    fn database(&self) -> Result<PathBuf, Failure> {
        let path = config::database_path(&self.vars).map_err(|error| all_of(&[error]))?;
        take_identity(&path)?;
        Ok(path)
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
