//! `lbstatd user`: the users of SNMPv3.
//!
//! Passphrases come from the terminal, a file or standard input, never from the command line, which everybody on the host
//! can see. Only keys made of them are kept.

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use lbstats::Oid;
use rustix::fs::FlockOperation;
use snmp_export::usm::{Account, AuthProtocol, EngineId, Key, Keys, PrivProtocol, SecurityLevel, User};
use zeroize::Zeroizing;

use crate::config::Settings;
use crate::snmp_engine;
use crate::users::{InformUser, UsersFile};

/// What to do with them.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Add a user, or give one other keys; asks for its passphrases
    Add(Add),
    /// Show who there is, and the engine ID that receivers of traps must know
    List(Place),
    /// Remove a user
    Remove(Remove),
}

/// Where the users are.
#[derive(Debug, clap::Args)]
pub struct Place {
    /// Read settings from this file [default: /etc/lbstatd/lbstatd.toml if it is there]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Folder of the SNMP engine [default: /var/lib/lbstatd]
    #[arg(long, value_name = "PATH")]
    state_dir: Option<PathBuf>,
    /// File of the users [default: snmp-users.toml in the state directory]
    #[arg(long, value_name = "PATH")]
    snmp_users: Option<PathBuf>,
}

/// Flags of `user add`.
#[derive(Debug, clap::Args)]
pub struct Add {
    /// Name of the user: 1 to 32 octets
    name: String,
    /// SHA, SHA-224, SHA-256, SHA-384 or SHA-512
    #[arg(long, value_name = "PROTOCOL", default_value = "SHA-256")]
    auth: AuthProtocol,
    /// AES-128, AES-192 or AES-256; AES-192-C or AES-256-C for managers that make the keys as Cisco does
    #[arg(long = "priv", value_name = "PROTOCOL", default_value = "AES-128")]
    privacy: PrivProtocol,
    /// Lowest level it may ask at; it gets no keys for a higher one
    #[arg(long, value_name = "LEVEL", default_value = "authPriv")]
    level: SecurityLevel,
    /// Show it this subtree only, instead of what `snmp-view` shows; repeat it for several
    #[arg(long, value_name = "OID")]
    view: Vec<Oid>,
    /// A user as whom informs are sent, rather than one who asks: to the receiver of this engine ID, or to `any`; for `any`
    /// keys are kept that work at every receiver
    #[arg(long, value_name = "ENGINE-ID|any", value_parser = parse_receiver, conflicts_with = "view")]
    informs: Option<Receiver>,
    /// Read the passphrases from the lines of this file, the one for authentication first; `-` is standard input
    #[arg(long, value_name = "PATH")]
    passphrase_file: Option<PathBuf>,
    #[command(flatten)]
    place: Place,
}

/// Flags of `user remove`.
#[derive(Debug, clap::Args)]
pub struct Remove {
    /// Name of the user
    name: String,
    #[command(flatten)]
    place: Place,
}

/// Who is to receive informs.
#[derive(Clone, Debug)]
enum Receiver {
    Any,
    At(EngineId),
}

fn parse_receiver(text: &str) -> anyhow::Result<Receiver> {
    if text == "any" { Ok(Receiver::Any) } else { Ok(Receiver::At(text.parse()?)) }
}

/// Does it.
///
/// # Errors
/// In one line, without any passphrase or key.
pub fn run(command: &Command) -> anyhow::Result<()> {
    match command {
        Command::Add(add) => add.run(),
        Command::List(place) => list(&place.settings()?),
        Command::Remove(remove) => remove.run(),
    }
}

impl Place {
    fn settings(&self) -> anyhow::Result<Settings> {
        let flags =
            Settings { state_dir: self.state_dir.clone(), snmp_users: self.snmp_users.clone(), ..Settings::default() };
        Ok(flags.or(Settings::configured(self.config.as_deref())?))
    }
}

impl Add {
    fn run(&self) -> anyhow::Result<()> {
        let settings = self.place.settings()?;
        ensure!((1..=32).contains(&self.name.len()), "the name of an SNMPv3 user has 1 to 32 octets");
        let engine_id = snmp_engine::identity(&settings.state_dir())?;
        // Before anybody types a passphrase for nothing.
        open(&settings, &engine_id)?;
        let keys = self.keys()?;
        let (_lock, mut file) = open(&settings, &engine_id)?;
        self.add(&mut file, keys)?;
        let path = settings.snmp_users();
        file.write(&path)?;
        told(&format!("user {} is in {}", self.name, path.display()))
    }

    fn add(&self, file: &mut UsersFile, ku: Option<Keys>) -> anyhow::Result<()> {
        let name = self.name.clone();
        if let Some(receiver) = &self.informs {
            let (engine_id, keys) = match receiver {
                Receiver::Any => (None, ku),
                Receiver::At(engine_id) => (Some(engine_id.clone()), ku.map(|ku| ku.localize(engine_id))),
            };
            file.inform_users.retain(|user| user.name != name);
            file.inform_users.push(InformUser { name, engine_id, keys });
            return Ok(());
        }
        let keys = ku.map(|ku| ku.localize(&file.engine_id));
        let account = Account { name, keys, level: self.level, view: self.view.clone() };
        User::new(&account)?;
        file.users.retain(|user| user.name != account.name);
        file.users.push(account);
        Ok(())
    }

    /// The keys that the level takes, not localized.
    fn keys(&self) -> anyhow::Result<Option<Keys>> {
        let wanted: &[&str] = match self.level {
            SecurityLevel::NoAuthNoPriv => return Ok(None),
            SecurityLevel::AuthNoPriv => &["Authentication"],
            SecurityLevel::AuthPriv => &["Authentication", "Privacy"],
        };
        let passphrases = match &self.passphrase_file {
            Some(path) => read(path, wanted.len())?,
            None => wanted.iter().map(|what| ask(what)).collect::<anyhow::Result<_>>()?,
        };
        let ku = |passphrase: &Zeroizing<String>| Key::from_passphrase(self.auth, passphrase.as_bytes());
        let privacy = passphrases.get(1).map(ku).transpose()?.map(|ku| (self.privacy, ku));
        Ok(Some(Keys { auth: (self.auth, ku(&passphrases[0])?), privacy }))
    }
}

impl Remove {
    fn run(&self) -> anyhow::Result<()> {
        let settings = self.place.settings()?;
        let path = settings.snmp_users();
        let Some(UsersFile { engine_id, .. }) = UsersFile::read(&path)? else {
            bail!("there are no users: no {}", path.display());
        };
        let (_lock, mut file) = open(&settings, &engine_id)?;
        let before = file.users.len() + file.inform_users.len();
        file.users.retain(|user| user.name != self.name);
        file.inform_users.retain(|user| user.name != self.name);
        ensure!(file.users.len() + file.inform_users.len() < before, "no user {} in {}", self.name, path.display());
        file.write(&path)?;
        told(&format!("user {} is removed from {}", self.name, path.display()))
    }
}

/// The users of this engine, for whom holds the lock alone: until it is dropped, nobody else changes them.
fn open(settings: &Settings, engine_id: &EngineId) -> anyhow::Result<(File, UsersFile)> {
    let path = settings.snmp_users();
    let lock = snmp_engine::lock(&path.with_extension("lock"), FlockOperation::LockExclusive)?;
    let file = UsersFile::read(&path)?.unwrap_or_else(|| UsersFile::new(engine_id.clone()));
    file.ready(engine_id).with_context(|| path.display().to_string())?;
    Ok((lock, file))
}

fn told(what: &str) -> anyhow::Result<()> {
    let how =
        "a running daemon reads its users again at SIGHUP (`systemctl reload lbstatd`), the first one at a restart";
    Ok(writeln!(std::io::stdout(), "{what}\n{how}")?)
}

fn list(settings: &Settings) -> anyhow::Result<()> {
    let path = settings.snmp_users();
    let Some(file) = UsersFile::read(&path)? else { bail!("there are no users: no {}", path.display()) };
    let mut out = std::io::stdout().lock();
    writeln!(out, "engine ID 0x{}", file.engine_id)?;
    let protocols = |keys: &Option<Keys>| match keys {
        None => String::new(),
        Some(Keys { auth, privacy: None }) => format!(" {}", auth.0),
        Some(Keys { auth, privacy: Some(privacy) }) => format!(" {} {}", auth.0, privacy.0),
    };
    for Account { name, keys, level, view } in &file.users {
        let view: String = view.iter().map(|oid| format!(" {oid}")).collect();
        let view = if view.is_empty() { view } else { format!(" sees{view}") };
        writeln!(out, "{name}: {level}{}{view}", protocols(keys))?;
    }
    for InformUser { name, engine_id, keys } in &file.inform_users {
        let receiver = engine_id.as_ref().map_or("any receiver".to_owned(), |id| format!("engine 0x{id}"));
        writeln!(out, "{name}:{} for informs to {receiver}", protocols(keys))?;
    }
    Ok(())
}

/// Asks for a passphrase on the terminal, twice.
fn ask(what: &str) -> anyhow::Result<Zeroizing<String>> {
    let prompt = |text: String| {
        let typed = rpassword::prompt_password(text).context(
            "cannot ask for a passphrase: there is no terminal; give the passphrases with --passphrase-file PATH or -",
        )?;
        anyhow::Ok(Zeroizing::new(typed))
    };
    let typed = prompt(format!("{what} passphrase: "))?;
    check(&typed)?;
    ensure!(typed == prompt(format!("{what} passphrase, once more: "))?, "the passphrases differ; nothing is changed");
    Ok(typed)
}

/// The first lines of a file, or of standard input.
fn read(path: &Path, count: usize) -> anyhow::Result<Vec<Zeroizing<String>>> {
    let mut text = Zeroizing::new(String::new());
    let shown = if path == Path::new("-") { "standard input".into() } else { path.display().to_string() };
    let read = match path == Path::new("-") {
        true => std::io::stdin().read_to_string(&mut text),
        false => File::open(path).and_then(|mut file| file.read_to_string(&mut text)),
    };
    read.with_context(|| format!("cannot read passphrases from {shown}"))?;
    let lines: Vec<Zeroizing<String>> = text.lines().take(count).map(|line| Zeroizing::new(line.to_owned())).collect();
    ensure!(lines.len() == count, "{shown} has {} of {count} passphrases, each on a line of its own", lines.len());
    lines.iter().try_for_each(|passphrase| check(passphrase))?;
    Ok(lines)
}

fn check(passphrase: &str) -> anyhow::Result<()> {
    let length = passphrase.len();
    ensure!(length >= snmp_export::usm::SHORTEST_PASSPHRASE, snmp_export::usm::PassphraseTooShort);
    Ok(())
}
