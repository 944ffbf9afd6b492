//! Mistakes of the user: one line that names what failed, where, why and what to do, and the exit code of the contract.

use std::path::Path;

use lbstatd_tests::{Lbstatd, LbstatdConfig, Level, Output, lbstatd_binary, run};
use tempfile::TempDir;

use crate::nobody::{NONE, folder_with_lbstatd, is_out_of_reach, options, set_mode};
use crate::zoo;

fn lbstatd(arguments: &[&str]) -> Output {
    run(lbstatd_binary().unwrap(), |command| command.args(arguments)).unwrap()
}

/// One line on standard error that holds all of these, nothing on standard output, and this exit code.
fn assert_one_line(output: &Output, code: i32, holds: &[&str]) {
    assert_eq!(output.status.code(), Some(code), "{output:?}");
    assert_eq!(output.stdout, "", "{output:?}");
    assert!(output.stderr.starts_with("lbstatd: ") && output.stderr.lines().count() == 1, "{output:?}");
    for word in holds {
        assert!(output.stderr.contains(word), "no {word:?} in {output:?}");
    }
}

#[test]
fn a_mistake_in_the_configuration_is_2_and_named_with_its_line() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("lbstatd.toml");
    let name = file.to_str().unwrap();
    for (text, holds) in [
        ("\nprometeus = \"127.0.0.1:1\"\n", [":2:", "prometeus"]),
        ("interval = \"soon\"\n", [":1:", "soon"]),
        ("stats-socket = [\n", [":1:", ""]),
    ] {
        std::fs::write(&file, text).unwrap();
        assert_one_line(&lbstatd(&["run", "--config", name]), 2, &[name, holds[0], holds[1]]);
    }
    let missing = dir.path().join("none.toml");
    let missing = missing.to_str().unwrap();
    assert_one_line(&lbstatd(&["run", "--config", missing]), 2, &[missing, "No such file"]);
}

#[test]
fn wrong_usage_is_2() {
    for arguments in [
        &["run", "--interval", "never"][..],
        &["run", "--no-such-flag"],
        &["run", "--prometheus", "nowhere"],
        &["run", "--ebpf", "perhaps"],
        &["dump", "--format", "xml"],
        &["no-such-command"],
        &[],
    ] {
        let output = lbstatd(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {output:?}");
        assert!(output.stdout.is_empty() && !output.stderr.is_empty(), "{arguments:?}: {output:?}");
    }
    assert_eq!(lbstatd(&["--help"]).status.code(), Some(0));
    assert_eq!(lbstatd(&["--version"]).status.code(), Some(0));
}

#[test]
fn what_is_missing_at_run_time_is_1_and_named_with_its_remedy() {
    let dir = TempDir::new().unwrap();
    let socket = dir.path().join("none.sock");
    let socket = socket.to_str().unwrap();
    assert_one_line(&lbstatd(&["dump", "--stats-socket", socket]), 1, &[socket, "no such socket", "stats socket"]);
    assert_one_line(&lbstatd(&["dump", "--control", socket]), 1, &[socket, "No such file", "lbstatd run"]);

    let control = dir.path().join("no/folder/control.sock");
    let control = control.to_str().unwrap();
    assert_one_line(
        &lbstatd(&["run", "--ebpf", "off", "--control", control]),
        1,
        &[control, "No such file", "--control"],
    );

    let file = dir.path().join("a-file");
    std::fs::write(&file, "").unwrap();
    let file = file.to_str().unwrap();
    assert_one_line(&lbstatd(&["run", "--ebpf", "off", "--control", file]), 1, &[file, "--control"]);
    assert!(Path::new(file).exists(), "somebody's file is gone");
}

#[test]
fn an_address_in_use_and_a_second_daemon_are_refused() {
    let zoo = zoo::start(Level::Operator);
    let first = Lbstatd::start(&LbstatdConfig::new(zoo.haproxy.socket())).unwrap();
    let dir = TempDir::new().unwrap();
    let control = dir.path().join("control.sock");
    let control = control.to_str().unwrap();
    let address = first.prometheus().to_string();
    let output = lbstatd(&["run", "--ebpf", "off", "--control", control, "--prometheus", &address]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let last = output.stderr.lines().last().unwrap_or_default();
    assert!(last.contains(&address) && last.contains("in use") && last.contains("--prometheus"), "{output:?}");

    let control = first.control();
    let control = control.to_str().unwrap();
    assert_one_line(&lbstatd(&["run", "--ebpf", "off", "--control", control]), 1, &[control, "another lbstatd"]);
}

#[test]
fn a_refused_permission_names_the_path_and_the_remedy() {
    if is_out_of_reach("a_refused_permission_names_the_path_and_the_remedy") {
        return;
    }
    let zoo = zoo::start(Level::Operator);
    let socket = zoo.haproxy.socket();
    // Everybody may enter the folder; the socket itself is mode 0600 and root's.
    set_mode(socket.parent().unwrap(), 0o755);
    let socket = socket.to_str().unwrap();
    let output = as_nobody(&["dump", "--stats-socket", socket]);
    assert_one_line(&output, 1, &[socket, "ermission denied", "mode"]);

    let output = as_nobody(&["run", "--ebpf", "on", "--stats-socket", socket, "--control", "/tmp/lbstatd-nobody.sock"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let last = output.stderr.lines().last().unwrap_or_default();
    assert!(last.contains("CAP_BPF"), "{output:?}");
}

#[test]
fn check_finds_what_is_wrong_and_says_how_to_mend_it() {
    let zoo = zoo::start(Level::Operator);
    let socket = zoo.haproxy.socket();
    let dir = TempDir::new().unwrap();
    let control = dir.path().join("none.sock");
    let arguments = |socket: &str| {
        lbstatd(&["check", "--ebpf", "off", "--stats-socket", socket, "--control", control.to_str().unwrap()])
    };
    let good = arguments(socket.to_str().unwrap());
    assert_eq!(good.status.code(), Some(0), "{good:?}");
    assert!(good.stdout.contains("HAProxy 2.") || good.stdout.contains("HAProxy 3."), "{good:?}");
    let bad = arguments("/nonexistent/stats.sock");
    assert_eq!(bad.status.code(), Some(1), "{bad:?}");
    assert!(bad.stdout.contains("/nonexistent/stats.sock") && bad.stdout.contains("WRONG"), "{bad:?}");
}

/// As the user nobody, without groups and capabilities.
fn as_nobody(arguments: &[&str]) -> Output {
    let (_dir, binary) = folder_with_lbstatd();
    run("setpriv", |command| command.args(options(NONE)).arg(&binary).args(arguments)).unwrap()
}
