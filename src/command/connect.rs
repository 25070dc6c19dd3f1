//! `paidup connect`: makes the webhook endpoint at Stripe, and stores the signing secret that Stripe tells
//! once; or adds to an endpoint the events that it lacks.
//!
//! `--roll` replaces the endpoint without refusing a delivery: a second one delivers the same events while
//! the server learns its secret, and the first is deleted when the server accepts that. Duplicates are
//! harmless. The secret is never shown. Where it cannot be stored, the endpoint is deleted again: nobody
//! could ever verify what it delivers.

use std::collections::BTreeSet;
use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::process;
use std::thread;
use std::time::Duration;

use crate::base::id::{IdempotencyKey, StripeId};
use crate::base::secret::Secret;
use crate::command::environment::{Environment, USUAL_ENV_FILE, all_of, not_taken};
use crate::command::exit::{Exit, Failure};
use crate::command::rotate::{self, Files, Kept, Verdict};
use crate::command::subscription;
use crate::command::words::{CliOption, Command, DRY_RUN, does};
use crate::config::serve;
use crate::config::stripe::webhook_url;
use crate::config::table::{PUBLIC_URL, STRIPE_MODE, STRIPE_SECRET_KEY, STRIPE_SECRET_KEY_FILE};
use crate::host::clock::Now;
use crate::host::identity;
use crate::store::Store;
use crate::stripe::client::{NewEndpoint, StripeApi};
use crate::stripe::error::{Cause, StripeError};
use crate::stripe::fetched::Fetched;
use crate::truth::kind::wanted;
use crate::truth::reading::Mode;

pub(crate) const COMMAND: Command = Command {
    name: "connect",
    arguments: "",
    summary: "Make the webhook endpoint at Stripe, and store its signing secret",
    details: "The URL is PUBLIC_URL with /stripe/webhook; the version is STRIPE_API_VERSION. An endpoint that is\n\
              there gets the events that it lacks, and loses none. What will be done is shown first. The key\n\
              needs Webhook Endpoints: Write, this once; on a terminal it is asked for where STRIPE_SECRET_KEY\n\
              is not set, and not stored. No secret is shown.",
    options: &[
        ROLL,
        YES,
        DRY_RUN,
        rotate::UNIT_ENV_FILE,
        rotate::SECRET_FILE_OPTION,
    ],
    exits: &[Exit::Done, Exit::Failed, Exit::Usage, Exit::Configuration],
    examples: &[
        "sudo paidup connect",
        "paidup connect --dry-run",
        "sudo paidup connect --roll",
    ],
    run: |words| {
        let secret_file = words.path("secret-file");
        let asked = Asked {
            roll: words.has("roll"),
            yes: words.has("yes"),
            dry_run: words.has("dry-run"),
        };
        does(move |env_file, out| run(&asked, &Files::named(env_file, secret_file), out))
    },
};

const ROLL: CliOption = CliOption {
    name: "roll",
    value: "",
    help: "replace the endpoint by one with a new secret, without losing a delivery",
};
const YES: CliOption = CliOption {
    name: "yes",
    value: "",
    help: "do not ask",
};

/// Endpoints of an account in one mode, unless Stripe grants more: <https://docs.stripe.com/webhooks>.
const ENDPOINTS_MAX: usize = 16;
/// How often a server that is to learn a secret is asked.
const PAUSE: Duration = Duration::from_secs(1);
/// How long systemd has to bring it up.
const RELOAD_PATIENCE: Duration = Duration::from_secs(30);
/// How long a person has to restart it.
const RESTART_PATIENCE: Duration = Duration::from_secs(600);

struct Asked {
    roll: bool,
    yes: bool,
    dry_run: bool,
}

fn run(asked: &Asked, files: &Files, out: &mut dyn Write) -> Result<Exit, Failure> {
    let mut environment = Environment::read(Some(&files.env_file))?;
    let key = Key::find(&mut environment)?;
    let connection = Connection::open(&environment, files)?;
    let work = connection.work(asked.roll)?;
    connection.show(&work, out)?;
    if asked.dry_run {
        writeln!(out, "Nothing was done.")?;
        return Ok(Exit::Done);
    }
    if !matches!(work, Work::Nothing) {
        confirm(asked)?;
    }
    let exit = match &work {
        Work::Nothing => Exit::Done,
        Work::Mend(mends) => connection.mend(mends, out)?,
        Work::Make(events) => connection.make(events, out)?,
    };
    if !matches!(work, Work::Nothing) {
        writeln!(out, "{}", key.can_be_narrowed())?;
    }
    Ok(exit)
}

fn confirm(asked: &Asked) -> Result<(), Failure> {
    let nothing = |why: &str| Failure::Other(format!("Nothing was done{why}."));
    if asked.yes {
        return Ok(());
    }
    if !io::stdin().is_terminal() {
        return Err(nothing(": without a terminal to ask on, it takes --yes"));
    }
    io::stderr().write_all(b"Do it? [y/N] ")?;
    let mut line = String::new();
    io::stdin().read_line(&mut line)?;
    match line.trim() {
        "y" | "Y" | "yes" => Ok(()),
        _ => Err(nothing("")),
    }
}

/// How the key came, for what is said of it at the end.
#[derive(Clone, Copy)]
enum Key {
    Typed,
    Restricted,
    Secret,
}

impl Key {
    /// Asks for it where it is in no variable, if there is somebody to ask.
    fn find(environment: &mut Environment) -> Result<Key, Failure> {
        let names = [
            STRIPE_SECRET_KEY.variable.name,
            STRIPE_SECRET_KEY_FILE.variable.name,
        ];
        let is_set = |name: &&str| {
            let value = environment.vars.get(*name);
            value.is_some_and(|value| !value.trim().is_empty())
        };
        if !names.iter().any(is_set) && io::stdin().is_terminal() {
            let question =
                "Stripe key with Webhook Endpoints: Write (not shown, not stored; Enter ends it): ";
            let typed = io::read_to_string(rotate::standard_input(question)?)?;
            environment.vars.insert(names[0].to_owned(), typed);
            return Ok(Key::Typed);
        }
        let key = environment.vars.get(names[0]);
        let is_secret = key.is_some_and(|key| key.trim().starts_with("sk_"));
        Ok(if is_secret {
            Key::Secret
        } else {
            Key::Restricted
        })
    }

    fn can_be_narrowed(self) -> &'static str {
        match self {
            Key::Typed => {
                "The key was not stored, and can be deleted: Dashboard → Developers → API keys."
            }
            Key::Restricted => {
                "The key can be narrowed now to Webhook Endpoints: Read and Events: Read: Dashboard → Developers → API \
                 keys → the key → Edit."
            }
            Key::Secret => {
                "From now on a restricted key is enough, with Webhook Endpoints: Read and Events: Read: Dashboard → \
                 Developers → API keys → Create restricted key."
            }
        }
    }
}

/// What is to be done at Stripe.
enum Work {
    Nothing,
    /// Endpoints, and the whole list of events that each is to have.
    Mend(Vec<(StripeId, Vec<String>)>),
    /// A new endpoint with these events; those that are there go, once it works.
    Make(Vec<String>),
}

/// The account, the endpoints with our URL, and the files of the service.
struct Connection<'a> {
    api: StripeApi,
    key_mode: Mode,
    version: Box<str>,
    url: String,
    files: &'a Files,
    kept: Kept,
    ours: Vec<Fetched>,
    /// How many endpoints the account has.
    count: usize,
    /// Others that come near our URL.
    near: Vec<String>,
    arrivals: BTreeSet<Box<str>>,
    has_mode: bool,
}

impl Connection<'_> {
    /// Reads what there is, here and at Stripe, and refuses what does not go together.
    fn open<'a>(environment: &Environment, files: &'a Files) -> Result<Connection<'a>, Failure> {
        let settings = environment.stripe()?;
        let url = webhook_url(&environment.vars).map_err(|error| all_of(&[error]))?;
        let url = url.ok_or_else(|| no_url(&files.env_file))?;
        let kept = Kept::to_fill(files)?;
        let database = serve::database_path(&environment.vars).map_err(|error| all_of(&[error]))?;
        let (mode, arrivals) = look(&database)?;
        let has_mode = settings.reading.mode.is_some();
        let settings = settings
            .for_database(mode)
            .map_err(|error| all_of(&[error]))?;
        let api = StripeApi::new(&settings).map_err(|error| all_of(&[error]))?;
        let all = api.webhook_endpoints().map_err(Failure::Stripe)?;
        let count = all.len();
        // Those of connected accounts deliver other events.
        let is_ours =
            |one: &Fetched| one.text("url") == Some(&url) && one.id_in("application").is_none();
        let (ours, others): (Vec<Fetched>, Vec<Fetched>) = all.into_iter().partition(is_ours);
        let near = others.iter().filter_map(|one| one.text("url"));
        let near = near.filter(|other| other.trim_end_matches('/') == url);
        Ok(Connection {
            near: near.map(str::to_owned).collect(),
            api,
            key_mode: settings.mode,
            version: settings.version,
            url,
            files,
            kept,
            ours,
            count,
            arrivals,
            has_mode,
        })
    }

    fn work(&self, is_roll: bool) -> Result<Work, Failure> {
        if self.ours.is_empty() || is_roll {
            return Ok(Work::Make(self.events_of_a_new_one()));
        }
        if self.kept.secrets().is_empty() {
            return Err(self.nobody_has_its_secret());
        }
        let mut mends = Vec::new();
        for endpoint in &self.ours {
            let enabled = endpoint.texts("enabled_events").unwrap_or_default();
            let missing = subscription::missing(&enabled, |types| {
                subscription::has_seen(&self.arrivals, &self.api, types)
            });
            let is_enabled = endpoint.text("status") == Some("enabled");
            // One of several may be disabled on purpose.
            if missing.is_empty() && (is_enabled || self.ours.len() > 1) {
                continue;
            }
            let all = enabled.iter().copied();
            let all = all.chain(missing.iter().map(|kind| kind.name));
            mends.push((endpoint.id.clone(), all.map(str::to_owned).collect()));
        }
        Ok(match mends.is_empty() {
            true => Work::Nothing,
            false => Work::Mend(mends),
        })
    }

    /// All that paidup can use, and all that those before it have: somebody may need it.
    fn events_of_a_new_one(&self) -> Vec<String> {
        let before = self
            .ours
            .iter()
            .filter_map(|one| one.texts("enabled_events"));
        let before: Vec<&str> = before.flatten().collect();
        if before.contains(&"*") {
            return vec!["*".to_owned()];
        }
        let mut events = wanted();
        for event in before {
            if !events.contains(&event) {
                events.push(event);
            }
        }
        events.into_iter().map(str::to_owned).collect()
    }

    fn nobody_has_its_secret(&self) -> Failure {
        let (url, ids, option) = (&self.url, listed(&self.ours), self.files.option());
        let name = self.kept.path.display();
        Failure::Other(format!(
            "Stripe has an endpoint for {url} already ({ids}), and {name} has no signing secret. Stripe's API tells \
             a secret only when the endpoint is made. Either `sudo paidup connect --roll{option}`, which makes another one and \
             then deletes this one; or copy the secret from Dashboard → Webhooks → {ids} → Signing secret, and \
             `sudo paidup rotate add{option}`."
        ))
    }

    // ── What is shown ──

    fn show(&self, work: &Work, out: &mut dyn Write) -> io::Result<()> {
        let (url, mode) = (&self.url, self.key_mode.as_str());
        for near in &self.near {
            writeln!(
                out,
                "Note: an endpoint for {near} is there as well. It delivers here, too, signed with another secret: \
                 Dashboard → Webhooks."
            )?;
        }
        for endpoint in &self.ours {
            self.show_version(endpoint, out)?;
        }
        match work {
            Work::Nothing => {
                let ids = listed(&self.ours);
                writeln!(
                    out,
                    "{url} ({ids}, {mode} mode) has every event that is needed."
                )?;
                writeln!(
                    out,
                    "Only a delivery proves that its secret is the one in {}: `sudo paidup doctor{}` says when the last came.",
                    self.kept.path.display(),
                    self.files.option()
                )
            }
            Work::Mend(mends) => {
                for (id, events) in mends {
                    let id = id.as_str();
                    writeln!(
                        out,
                        "enable  {id} for {url}, {mode} mode, with the events that it has and"
                    )?;
                    self.show_new(id, events, out)?;
                }
                Ok(())
            }
            Work::Make(events) => self.show_making(events, out),
        }
    }

    fn show_new(&self, id: &str, events: &[String], out: &mut dyn Write) -> io::Result<()> {
        let before = self.ours.iter().find(|one| one.id.as_str() == id);
        let before = before.and_then(|one| one.texts("enabled_events"));
        let before = before.unwrap_or_default();
        for event in events.iter().filter(|event| !before.contains(&&***event)) {
            writeln!(out, "          {event}")?;
        }
        Ok(())
    }

    fn show_version(&self, endpoint: &Fetched, out: &mut dyn Write) -> io::Result<()> {
        let (id, ours, option) = (endpoint.id.as_str(), &self.version, self.files.option());
        match endpoint.text("api_version") {
            Some(version) if version == &**ours => Ok(()),
            Some(version) => writeln!(
                out,
                "Note: {id} has API version {version}, STRIPE_API_VERSION is {ours}. It cannot be changed; `sudo paidup \
                 connect --roll{option}` makes an endpoint of {ours}."
            ),
            None => writeln!(
                out,
                "Note: {id} has the account's API version, whatever that is; `sudo paidup connect --roll{option}` makes an \
                 endpoint of {ours}."
            ),
        }
    }

    fn show_making(&self, events: &[String], out: &mut dyn Write) -> io::Result<()> {
        let (url, mode, version) = (&self.url, self.key_mode.as_str(), &self.version);
        writeln!(
            out,
            "make    an endpoint for {url}, {mode} mode, API version {version}, with"
        )?;
        for event in events {
            writeln!(out, "          {event}")?;
        }
        let name = self.kept.path.display();
        let beside = match self.kept.secrets().len() {
            0 => String::new(),
            count => format!(", beside {count} that it has"),
        };
        writeln!(out, "write   its signing secret into {name}{beside}")?;
        if !self.has_mode {
            let file = self.files.env_file.display();
            writeln!(out, "write   STRIPE_MODE={mode} into {file}")?;
        }
        if self.is_of_systemd() {
            writeln!(out, "run     systemctl reload-or-restart paidup")?;
        }
        if !self.ours.is_empty() {
            let ids = listed(&self.ours);
            writeln!(out, "delete  {ids}, once the server accepts the new secret")?;
        }
        Ok(())
    }

    // ── What is done ──

    fn mend(
        &self,
        mends: &[(StripeId, Vec<String>)],
        out: &mut dyn Write,
    ) -> Result<Exit, Failure> {
        for (id, events) in mends {
            let events: Vec<&str> = events.iter().map(String::as_str).collect();
            let mended = self.api.update_endpoint(id, &events, &new_key()?);
            mended.map_err(Failure::Stripe)?;
            writeln!(out, "{} has {} events now.", id.as_str(), events.len())?;
        }
        writeln!(
            out,
            "Next: `sudo paidup reconcile --since 30d{}` fetches what it has not delivered until now.",
            self.files.option()
        )?;
        Ok(Exit::Done)
    }

    fn make(&self, events: &[String], out: &mut dyn Write) -> Result<Exit, Failure> {
        if !self.has_mode {
            let mode = self.key_mode.as_str();
            rotate::set_variable(&self.files.env_file, STRIPE_MODE.variable.name, mode)?;
        }
        // As it is now; and what cannot be written must fail before there is an endpoint.
        let kept = Kept::to_fill(self.files)?;
        kept.rehearse()?;
        let events: Vec<&str> = events.iter().map(String::as_str).collect();
        let made = self.api.create_endpoint(
            &NewEndpoint {
                url: &self.url,
                enabled_events: &events,
                description: "made by paidup connect",
            },
            &new_key()?,
        );
        let made = made.map_err(|error| self.not_made(&error))?;
        let id = made.id.as_str();
        writeln!(out, "Stripe has made {id}.")?;
        let secret = self.store(&kept, &made)?;
        let name = kept.path.display();
        writeln!(out, "{name} has its signing secret now, and is valid.")?;
        let is_accepted = self.is_accepted(&kept, &secret, out)?;
        if self.ours.is_empty() {
            return finish(is_accepted, &self.files.option(), out);
        }
        if !is_accepted {
            return Err(self.both_stay());
        }
        self.delete_those_before(out)
    }

    /// Puts the secret beside the others. Where that fails, the endpoint goes again.
    fn store(&self, kept: &Kept, made: &Fetched) -> Result<Secret, Failure> {
        let secret = made
            .text("secret")
            .filter(|secret| rotate::is_secret(secret));
        let stored = match secret {
            Some(secret) => {
                let mut secrets = kept.secrets();
                secrets.push(secret);
                kept.write(self.files, &secrets)
            }
            None => Err(Failure::Other("Stripe told no signing secret.".to_owned())),
        };
        let id = made.id.as_str();
        match (stored, secret) {
            (Ok(()), Some(secret)) => Ok(Secret::new(secret)),
            (Ok(()), None) => Err(Failure::Other("Stripe told no signing secret.".to_owned())),
            (Err(failure), _) => Err(Failure::Other(match self.api.delete_endpoint(&made.id) {
                Ok(()) => format!(
                    "{failure}\nThe new endpoint {id} was deleted again: nothing has changed at Stripe."
                ),
                Err(error) => format!(
                    "{failure}\nThe new endpoint {id} is at Stripe, and nobody has its secret: Dashboard → Webhooks → {id} \
                     → Delete. It could not be deleted from here: {error}"
                ),
            })),
        }
    }

    fn not_made(&self, error: &StripeError) -> Failure {
        let more = match &error.cause {
            Cause::Refused if self.count >= ENDPOINTS_MAX => format!(
                "\nThe account has {} endpoints in {} mode, and Stripe allows {ENDPOINTS_MAX}: delete one that nobody needs \
                 in Dashboard → Webhooks, and try again.",
                self.count,
                self.key_mode.as_str()
            ),
            Cause::Stripe | Cause::Unreachable(_) | Cause::NotJson | Cause::Unusable(_) => {
                format!(
                    "\nIt may have been made all the same: `sudo paidup connect{}` says so.",
                    self.files.option()
                )
            }
            Cause::Key
            | Cause::Permission(_)
            | Cause::NotFound
            | Cause::Conflict
            | Cause::KeyReused
            | Cause::Refused
            | Cause::RateLimited
            | Cause::Redirected
            | Cause::TooLarge => String::new(),
        };
        Failure::Other(format!("{error}{more}"))
    }

    /// Whether these are the files of the installed service.
    fn is_of_systemd(&self) -> bool {
        self.files.env_file == Path::new(USUAL_ENV_FILE)
            && Path::new("/run/systemd/system").exists()
    }

    /// Has the server read the file, and asks it until it accepts the secret.
    fn is_accepted(
        &self,
        kept: &Kept,
        secret: &Secret,
        out: &mut dyn Write,
    ) -> Result<bool, Failure> {
        let patience = if self.is_of_systemd() {
            match reload() {
                Err(failure) if self.ours.is_empty() => return Err(failure),
                Err(failure) => {
                    writeln!(out, "{failure}")?;
                    return Ok(false);
                }
                Ok(()) => writeln!(
                    out,
                    "systemctl reload-or-restart paidup: the server has read the file."
                )?,
            }
            RELOAD_PATIENCE
        } else if self.ours.is_empty() {
            return Ok(false);
        } else {
            writeln!(
                out,
                "Restart the server now, so that it reads the file: this waits until it accepts the new secret."
            )?;
            RESTART_PATIENCE
        };
        let until = Now::read().instant + patience;
        loop {
            let answer = rotate::ask(&kept.config.listen, secret);
            if matches!(answer, Ok(200)) {
                writeln!(out, "The running server accepts the new secret.")?;
                return Ok(true);
            }
            if Now::read().instant > until {
                writeln!(out, "The new secret is {}", Verdict(&answer, self.files))?;
                return Ok(false);
            }
            thread::sleep(PAUSE);
        }
    }

    fn both_stay(&self) -> Failure {
        let (ids, option) = (listed(&self.ours), self.files.option());
        Failure::Other(format!(
            "So {ids} was not deleted: each event comes twice now, which is harmless. When the server accepts the new \
             secret, which `sudo paidup rotate verify{option}` says, delete {ids} in Dashboard → Webhooks."
        ))
    }

    fn delete_those_before(&self, out: &mut dyn Write) -> Result<Exit, Failure> {
        for endpoint in &self.ours {
            let id = endpoint.id.as_str();
            let deleted = self.api.delete_endpoint(&endpoint.id);
            deleted.map_err(|error| {
                Failure::Other(format!(
                    "{error}\nThe new endpoint works. {id} is still there, and each event comes twice, which is harmless: \
                     Dashboard → Webhooks → {id} → Delete."
                ))
            })?;
            writeln!(out, "Stripe has deleted {id}.")?;
        }
        let option = self.files.option();
        writeln!(
            out,
            "Next: `sudo paidup reconcile --since 3d{option}` fetches what it had still to repeat, then `sudo paidup rotate \
             finish{option}` drops its secret."
        )?;
        Ok(Exit::Done)
    }
}

fn finish(is_accepted: bool, option: &str, out: &mut dyn Write) -> Result<Exit, Failure> {
    if is_accepted {
        writeln!(
            out,
            "Next: `sudo paidup send-test{option}` sends a signed order, and `sudo paidup doctor{option}` says what is \
             still amiss."
        )?;
    } else {
        writeln!(
            out,
            "Next: restart the server, then `paidup rotate verify{option}` asks it whether it accepts the secret."
        )?;
    }
    Ok(Exit::Done)
}

fn no_url(file: &Path) -> Failure {
    let error = PUBLIC_URL.variable.error("is not set");
    let file = file.display();
    Failure::Configuration(format!(
        "{} {}. The endpoint's URL begins with it.\n  Put PUBLIC_URL=https://HOST into {file}: the name under which the \
         internet reaches this server.",
        error.variable, error.problem
    ))
}

/// The mode of the database and the types that have come, as its owner sees them.
fn look(database: &Path) -> Result<(Option<Mode>, BTreeSet<Box<str>>), Failure> {
    let look = || {
        let store = Store::open_existing(database).ok();
        let mode = store.as_ref().and_then(|store| store.mode().ok().flatten());
        (
            mode,
            store.as_ref().map(subscription::seen).unwrap_or_default(),
        )
    };
    identity::within(database, look).map_err(|error| not_taken(database, &error))
}

/// Another one for each call; the attempts of one call share it.
fn new_key() -> Result<IdempotencyKey, Failure> {
    let number = getrandom::u64().map_err(|error| Failure::Output(io::Error::other(error)))?;
    IdempotencyKey::parse(&format!("paidup-connect-{number:016x}"))
        .map_err(|_| Failure::Other("An idempotency key has only plain characters.".to_owned()))
}

fn listed(endpoints: &[Fetched]) -> String {
    let ids: Vec<&str> = endpoints.iter().map(|one| one.id.as_str()).collect();
    ids.join(", ")
}

/// Starts the service, or has it read its files again.
fn reload() -> Result<(), Failure> {
    let words = ["reload-or-restart", "paidup.service"];
    let status = process::Command::new("systemctl").args(words).status();
    let what = match status {
        Ok(status) if status.success() => return Ok(()),
        Ok(status) => status.to_string(),
        Err(error) => error.to_string(),
    };
    Err(Failure::Other(format!(
        "systemctl reload-or-restart paidup did not work ({what}). The file is changed and valid. Look at \
         `journalctl --namespace=paidup -u paidup -u paidup-check -n 50`."
    )))
}
