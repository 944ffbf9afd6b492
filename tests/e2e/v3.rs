//! SNMPv3 of the daemon's own agent: users made by `lbstatd user`, asked as by net-snmp's tools, pysnmp and async-snmp.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::ensure;
use async_snmp::{Auth, Client, Oid, UsmConfig};
use lbstatd_tests::{Lbstatd, LbstatdConfig, Level, Output, Snmp, address, lbstatd_binary, run, wait_for};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::managers::walk_with_pysnmp;
use crate::reading::{ROOTS, arcs};
use crate::zoo::{self, Zoo};

const AUTH: &str = "an authentication phrase";
const PRIV: &str = "a privacy phrase";
const SYS_NAME: &str = ".1.3.6.1.2.1.1.5.0";
const ENGINE: &str = ".1.3.6.1.6.3.10.2.1";
const USM_STATS: &str = ".1.3.6.1.6.3.15.1.1";

/// Every authentication protocol, every privacy protocol, and where keys have to be extended, with which hashes.
const PROTOCOLS: [(&str, &str); 9] = [
    ("SHA", "AES-128"),
    ("SHA-224", "AES-128"),
    ("SHA-256", "AES-128"),
    ("SHA-384", "AES-192"),
    ("SHA-512", "AES-256"),
    ("SHA", "AES-192"),
    ("SHA", "AES-256"),
    ("SHA-224", "AES-256-C"),
    ("SHA", "AES-192-C"),
];

/// A state directory with users.
struct State {
    dir: TempDir,
}

impl State {
    fn new() -> Self {
        let dir = TempDir::with_prefix("lbstatd-state-").unwrap();
        std::fs::write(dir.path().join("passphrases"), format!("{AUTH}\n{PRIV}\n")).unwrap();
        Self { dir }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    fn users(&self) -> PathBuf {
        self.path().join("snmp-users.toml")
    }

    fn user(&self, arguments: &[&str]) -> Output {
        let state = self.path();
        run(lbstatd_binary().unwrap(), |command| command.arg("user").args(arguments).arg("--state-dir").arg(state))
            .unwrap()
    }

    fn add(&self, name: &str, flags: &[&str]) {
        let passphrases = self.dir.path().join("passphrases");
        let arguments = [&["add", name, "--passphrase-file", passphrases.to_str().unwrap()], flags].concat();
        let output = self.user(&arguments);
        assert!(output.status.success(), "{output:?}");
    }

    /// A daemon with this state that reads this HAProxy once and lets the community `public` in as well.
    fn run(&self, zoo: &Zoo, address: SocketAddr) -> Lbstatd {
        let (listen, state) = (address.to_string(), self.path().display().to_string());
        let flags = ["--snmp-listen", &listen, "--community", "public", "--state-dir", &state].map(str::to_owned);
        let config =
            LbstatdConfig { interval: "1h", flags: flags.to_vec(), ..LbstatdConfig::new(zoo.haproxy.socket()) };
        Lbstatd::start(&config).unwrap()
    }
}

/// Options of net-snmp's tools for this user.
fn user<'a>(name: &'a str, level: &'a str, (auth, privacy): (&'a str, &'a str)) -> Vec<&'a str> {
    vec!["-v3", "-u", name, "-l", level, "-a", auth, "-A", AUTH, "-x", privacy, "-X", PRIV, "-On"]
}

fn succeeded(output: Output) -> String {
    assert_eq!((output.status.code(), output.stderr.as_str()), (Some(0), ""), "{}", output.stdout);
    output.stdout
}

fn number(snmp: &Snmp, oid: &str) -> u64 {
    let answer = succeeded(snmp.tool("snmpget", &["-Oqv"], &[oid]).unwrap());
    answer.trim().parse().unwrap_or_else(|_| panic!("{oid}: {answer}"))
}

#[test]
fn every_protocol_is_spoken_with_net_snmp_and_async_snmp() {
    let (zoo, state, at) = (zoo::start(Level::User), State::new(), address());
    let names: Vec<String> = PROTOCOLS.iter().map(|(auth, privacy)| format!("{auth}.{privacy}")).collect();
    for (name, (auth, privacy)) in names.iter().zip(PROTOCOLS) {
        state.add(name, &["--auth", auth, "--priv", privacy]);
    }
    let _lbstatd = state.run(&zoo, at);
    let snmp = Snmp::new(at).unwrap();
    let expected = succeeded(snmp.tool("snmpbulkwalk", &["-On"], &[ROOTS[0]]).unwrap());
    // Hexadecimal takes several lines.
    let cells = expected.lines().filter(|line| line.starts_with('.')).count();
    for (name, protocols) in names.iter().zip(PROTOCOLS) {
        let options = user(name, "authPriv", protocols);
        let walked = succeeded(snmp.tool("snmpbulkwalk", &[&options[..], &["-Cr50"]].concat(), &[ROOTS[0]]).unwrap());
        assert_eq!(walked, expected, "{name}");
        assert_eq!(with_async_snmp(at, name, protocols), cells, "{name}");
    }
    // One cell at a time, too.
    let options = user(&names[0], "authPriv", PROTOCOLS[0]);
    assert_eq!(succeeded(snmp.tool("snmpwalk", &options, &[ROOTS[0]]).unwrap()), expected);
    // The engine and what it counts.
    let scalars = snmp.bulk_walk(".1.3.6.1.6.3").unwrap();
    assert!(scalars.len() == 15 && scalars.is_sorted_by(|one, next| one.oid < next.oid), "{scalars:?}");
    let bad = number(&snmp, &format!("{USM_STATS}.5.0")) + number(&snmp, &format!("{USM_STATS}.6.0"));
    assert_eq!(bad, 0, "wrong digests and decryption errors");
}

/// How many cells a client walks that shares no code with what answers it.
fn with_async_snmp(at: SocketAddr, name: &str, (auth, privacy): (&str, &str)) -> usize {
    let privacy = match privacy {
        "AES-128" => async_snmp::PrivProtocol::Aes128,
        "AES-192" => async_snmp::PrivProtocol::Aes192Blumenthal,
        "AES-192-C" => async_snmp::PrivProtocol::Aes192Reeder,
        "AES-256" => async_snmp::PrivProtocol::Aes256Blumenthal,
        _ => async_snmp::PrivProtocol::Aes256Reeder,
    };
    let user = UsmConfig::new(name.to_owned()).auth_priv(auth.parse().unwrap(), AUTH, privacy, PRIV).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let client = Client::builder((at.ip().to_string(), at.port()), Auth::from(user)).connect().await.unwrap();
        client.bulk_walk(Oid::from_slice(&arcs(ROOTS[0])), 50).unwrap().collect().await.unwrap().len()
    })
}

#[test]
fn each_user_sees_its_view_from_its_level_on() {
    let (zoo, state, at) = (zoo::start(Level::User), State::new(), address());
    state.add("open", &["--level", "noAuthNoPriv"]);
    state.add("signs", &["--level", "authNoPriv"]);
    state.add("encrypts", &["--view", "1.3.6.1.2.1.1"]);
    let lbstatd = state.run(&zoo, at);
    let snmp = Snmp::new(at).unwrap();
    let protocols = ("SHA-256", "AES-128");
    let get = |name, level, oid| snmp.tool("snmpget", &user(name, level, protocols), &[oid]).unwrap();
    for (name, level, complaint) in [
        ("open", "noAuthNoPriv", ""),
        ("signs", "authNoPriv", ""),
        ("encrypts", "authPriv", ""),
        ("signs", "noAuthNoPriv", "authorizationError"),
        ("encrypts", "noAuthNoPriv", "authorizationError"),
        ("encrypts", "authNoPriv", "authorizationError"),
        ("open", "authNoPriv", "Unsupported security level"),
        ("signs", "authPriv", "Unsupported security level"),
        ("nobody", "authPriv", "Unknown user name"),
    ] {
        let output = get(name, level, SYS_NAME);
        assert_eq!(output.status.success(), complaint.is_empty(), "{name} {level}: {output:?}");
        assert!(output.stderr.contains(complaint), "{name} {level}: {output:?}");
    }
    let walk = snmp.tool("snmpbulkwalk", &user("encrypts", "authPriv", protocols), &[".1"]).unwrap();
    let walk = succeeded(walk);
    let inside = |line: &&str| line.starts_with(".1.3.6.1.2.1.1.");
    assert!(walk.lines().count() > 10 && walk.lines().all(|line| inside(&line)), "{walk}");
    let list = state.user(&["list"]);
    assert!(list.stdout.contains("encrypts: authPriv SHA-256 AES-128 sees .1.3.6.1.2.1.1\n"), "{list:?}");

    let (passphrase, wrong) = (format!("{AUTH}s"), format!("{PRIV}s"));
    for (options, complaint) in [
        (&["-A", &passphrase], "Authentication failure"),
        (&["-X", &wrong], "Decryption error"),
        (&["-n", "elsewhere"], "Bad context"),
    ] {
        let options = [&user("encrypts", "authPriv", protocols)[..], &options[..]].concat();
        let output = snmp.tool("snmpget", &options, &[SYS_NAME]).unwrap();
        assert!(output.stderr.contains(complaint), "{options:?}: {output:?}");
    }
    let counts: Vec<u64> = (1..=6).map(|arc| number(&snmp, &format!("{USM_STATS}.{arc}.0"))).collect();
    // Each tool begins with a question for the engine.
    let discoveries = counts[3];
    assert_eq!(counts, [2, 0, 1, discoveries, 1, 1]);
    assert!(discoveries >= 12, "{discoveries}");
    assert!(!lbstatd.log().contains("phrase"), "{}", lbstatd.log());
}

#[test]
fn pysnmp_walks_authenticated() {
    let (zoo, state, at) = (zoo::start(Level::User), State::new(), address());
    // Its privacy takes a package of its own.
    state.add("monitor", &["--level", "authNoPriv"]);
    let _lbstatd = state.run(&zoo, at);
    let walk = Snmp::new(at).unwrap().bulk_walk(ROOTS[0]).unwrap();
    walk_with_pysnmp(at, &["monitor", AUTH], &walk);
}

#[test]
fn a_restart_is_another_boot_of_the_same_engine() {
    let (zoo, state, at) = (zoo::start(Level::User), State::new(), address());
    state.add("monitor", &[]);
    let mut lbstatd = state.run(&zoo, at);
    let snmp = Snmp::new(at).unwrap();
    let engine = || {
        let id = succeeded(snmp.tool("snmpget", &["-Oqvx"], &[&format!("{ENGINE}.1.0")]).unwrap());
        (id, number(&snmp, &format!("{ENGINE}.2.0")))
    };
    let (id, boots) = engine();
    assert_eq!(boots, 1);
    let user = UsmConfig::new("monitor")
        .auth_priv("SHA-256".parse().unwrap(), AUTH, "AES-128".parse().unwrap(), PRIV)
        .unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let get = |client: &Client| runtime.block_on(client.get(&Oid::from_slice(&arcs(SYS_NAME)))).unwrap();
    let client =
        runtime.block_on(Client::builder((at.ip().to_string(), at.port()), Auth::from(user)).connect()).unwrap();
    let before = get(&client);
    for expected in [2, 3] {
        lbstatd.end_with(Signal::KILL).unwrap();
        lbstatd.start_again().unwrap();
        assert_eq!(engine(), (id.clone(), expected));
        // It goes on with the time it knew, which is not that of this boot, and learns the new one.
        assert_eq!(get(&client).varbinds[0].value, before.varbinds[0].value);
        assert_eq!(number(&snmp, &format!("{USM_STATS}.2.0")), 1, "not in the time window");
    }
}

#[test]
fn what_is_wrong_with_its_files_stops_version_3_alone() {
    type Spoil = fn(&State);
    let zoo = zoo::start(Level::User);
    let spoil: [(Spoil, &str); 4] = [
        (
            |state| std::fs::set_permissions(state.users(), std::fs::Permissions::from_mode(0o644)).unwrap(),
            "chmod 0600",
        ),
        (|state| std::fs::remove_file(state.path().join("snmp-engine.toml")).unwrap(), "add the users again"),
        (
            |state| {
                // Root may write everywhere, but not over a folder.
                std::fs::create_dir_all(state.path().join("snmp-engine.toml.new/x")).unwrap();
            },
            "cannot write",
        ),
        (|state| std::fs::write(state.users(), "engine-id = 5\n").unwrap(), "snmp-users.toml:1: invalid type"),
    ];
    for (spoil, complaint) in spoil {
        let (state, at) = (State::new(), address());
        state.add("monitor", &[]);
        spoil(&state);
        let lbstatd = state.run(&zoo, at);
        let snmp = Snmp::new(at).unwrap();
        assert_eq!(snmp.get(&[SYS_NAME]).unwrap().len(), 1, "version 2c");
        let options = [&user("monitor", "authPriv", ("SHA-256", "AES-128"))[..], &["-t", "0.3"]].concat();
        let output = snmp.tool("snmpget", &options, &[SYS_NAME]).unwrap();
        assert!(output.stderr.contains("Timeout"), "{output:?}");
        let log = lbstatd.log();
        assert!(log.contains("no SNMPv3: ") && log.contains(complaint), "{complaint}: {log}");
        let page = lbstatd.metrics().unwrap();
        let face = page.lines().find(|line| line.starts_with("lbstatd_face_up{") && line.contains("snmpv3"));
        assert!(face.is_some_and(|face| face.ends_with(" 0")), "{face:?}");
    }
}

#[test]
fn passphrases_are_typed_and_users_come_and_go_while_it_runs() {
    let (zoo, state, at) = (zoo::start(Level::User), State::new(), address());
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("e2e/type.py");
    let typed = |lines: &[&str], name: &str| {
        let output = run("python3", |command| {
            let command = command.arg(&script).args(lines).arg("--").arg(lbstatd_binary().unwrap());
            command.args(["user", "add", name, "--state-dir"]).arg(state.path())
        });
        output.unwrap()
    };
    for (lines, complaint) in [
        (&["short"][..], "at least 8 characters"),
        (&[AUTH, PRIV], "the passphrases differ"),
        (&[AUTH, AUTH, "short"], "at least 8 characters"),
    ] {
        let output = typed(lines, "monitor");
        assert!(output.status.code() == Some(1) && output.stdout.contains(complaint), "{output:?}");
        assert!(!state.users().exists());
    }
    let output = typed(&[AUTH, AUTH, PRIV, PRIV], "monitor");
    assert!(output.status.success() && !output.stdout.contains("phrase "), "{output:?}");
    let kept = std::fs::read_to_string(state.users()).unwrap();
    assert!(!kept.contains("phrase"), "{kept}");
    let without = state.user(&["add", "other"]);
    assert!(without.status.code() == Some(1) && without.stderr.contains("--passphrase-file"), "{without:?}");

    let lbstatd = state.run(&zoo, at);
    let snmp = Snmp::new(at).unwrap();
    let get = |name| snmp.tool("snmpget", &user(name, "authPriv", ("SHA-256", "AES-128")), &[SYS_NAME]);
    succeeded(get("monitor").unwrap());
    assert!(get("second").unwrap().stderr.contains("Unknown user name"));
    let reload = || kill_process(Pid::from_raw(i32::try_from(lbstatd.id()).unwrap()).unwrap(), Signal::HUP).unwrap();
    state.add("second", &[]);
    reload();
    wait_for("the second user", || {
        let output = get("second")?;
        ensure!(output.status.success(), "{output:?}");
        Ok(())
    })
    .unwrap();
    assert!(state.user(&["remove", "monitor"]).status.success());
    reload();
    wait_for("the first user to be forgotten", || {
        let output = get("monitor")?;
        ensure!(output.stderr.contains("Unknown user name"), "{output:?}");
        Ok(())
    })
    .unwrap();
    let unknown = state.user(&["remove", "monitor"]);
    assert!(unknown.status.code() == Some(1) && unknown.stderr.contains("no user monitor"), "{unknown:?}");
    // A broken file changes nothing.
    std::fs::write(state.users(), "nonsense").unwrap();
    reload();
    wait_for("the complaint", || {
        ensure!(lbstatd.log().contains("users stay as they were"), "{}", lbstatd.log());
        Ok(())
    })
    .unwrap();
    succeeded(get("second").unwrap());
}
