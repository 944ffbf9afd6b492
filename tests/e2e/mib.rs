//! The MIB modules, read by net-snmp's tools and by smilint.

use std::path::Path;

use lbstatd_tests::{Lbstatd, LbstatdConfig, Level, lbstatd_binary, run};
use tempfile::TempDir;

use crate::reading::{COLUMNS, ROOTS, Reading};
use crate::walk::{through, wait_for_rows};
use crate::zoo;

/// Our modules, and the standard ones they import, which Debian does not ship.
pub(crate) fn folders() -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../mibs").canonicalize().unwrap();
    format!("{0}:{0}/base", folder.display())
}

#[test]
fn a_walk_with_names_shows_them_without_a_warning() {
    let zoo = zoo::start(Level::User);
    let lbstatd =
        Lbstatd::start(&LbstatdConfig { interval: "1h", ..LbstatdConfig::new(zoo.haproxy.socket()) }).unwrap();
    let snmpd = through(&lbstatd);
    let rows = Reading::of(&zoo.haproxy).rows();
    wait_for_rows(&snmpd, ROOTS[0], rows);
    let folders = folders();
    let mibs = Some((folders.as_str(), "EXCELIANCE-MIB"));
    let walk = snmpd.client().tool_with_mibs("snmpwalk", mibs, &[], &["EXCELIANCE-MIB::lbStats"]).unwrap();
    assert_eq!((walk.status.code(), walk.stderr.as_str()), (Some(0), ""));
    let lines: Vec<&str> = walk.stdout.lines().collect();
    // A text that is not all ASCII is printed in hexadecimal, on several lines.
    assert_eq!(lines.iter().filter(|line| line.starts_with("EXCELIANCE-MIB::lb")).count(), rows, "{lines:#?}");
    assert_eq!(lines.iter().filter(|line| line.contains(" = ")).count(), rows, "{lines:#?}");
    for line in [
        "EXCELIANCE-MIB::lbProcessID.1 = INTEGER: 1",
        "EXCELIANCE-MIB::lbProcessProductName.1 = STRING: \"HAProxy\"",
        "EXCELIANCE-MIB::lbFrontendName.1.10 = STRING: \"www\"",
        "EXCELIANCE-MIB::lbServerBackup.1.9.10 = INTEGER: no(0)",
        "EXCELIANCE-MIB::lbServerActive.1.9.10 = INTEGER: yes(1)",
    ] {
        assert!(lines.contains(&line), "{line}\n{lines:#?}");
    }
    let table = snmpd.client().tool_with_mibs("snmptable", mibs, &["-Cb", "-CB"], &["EXCELIANCE-MIB::lbServerTable"]);
    let table = table.unwrap();
    assert_eq!((table.status.code(), table.stderr.as_str()), (Some(0), ""));
    // A title, an empty line, the names of the columns, and the rows.
    let shown = table.stdout.lines().filter(|line| !line.trim().is_empty()).count();
    assert_eq!(shown, 2 + Reading::of(&zoo.haproxy).servers, "{}", table.stdout);
}

#[test]
fn every_column_translates_to_its_identifier_and_back() {
    let translate = |arguments: &[&str]| {
        let folders = folders();
        let modules = ["-M", &folders, "-m", "EXCELIANCE-MIB"];
        // Away from the system's configuration and state; the tool would say that it creates the folder.
        let home = TempDir::with_prefix("lbstatd-snmp-").unwrap();
        std::fs::create_dir(home.path().join("cert_indexes")).unwrap();
        let output = run("snmptranslate", |command| {
            let command = command.env("SNMPCONFPATH", home.path()).env("SNMP_PERSISTENT_DIR", home.path());
            command.args(modules).args(arguments)
        })
        .unwrap();
        assert_eq!((output.status.code(), output.stderr.as_str()), (Some(0), ""), "{arguments:?}");
        output.stdout.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect::<Vec<_>>()
    };
    let names: Vec<String> = COLUMNS.iter().map(|column| format!("EXCELIANCE-MIB::{}", column.name)).collect();
    let oids: Vec<String> =
        COLUMNS.iter().map(|column| format!("{}.{}.1.{}", ROOTS[0], column.table_arc, column.column)).collect();
    let with = |first: &str, more: &[String]| {
        let arguments: Vec<&str> = std::iter::once(first).chain(more.iter().map(String::as_str)).collect();
        translate(&arguments)
    };
    assert_eq!(with("-On", &names), oids);
    assert_eq!(with("-OS", &oids), names);
}

#[test]
fn the_committed_modules_are_what_the_program_prints() {
    for (arguments, name) in [(&["mib"][..], "EXCELIANCE-MIB"), (&["mib", "LBSTATD-MIB"], "LBSTATD-MIB")] {
        let printed = run(lbstatd_binary().unwrap(), |command| command.args(arguments)).unwrap();
        assert_eq!((printed.status.code(), printed.stderr.as_str()), (Some(0), ""));
        let committed = Path::new(env!("CARGO_MANIFEST_DIR")).join("../mibs").join(name);
        let committed = std::fs::read_to_string(committed).unwrap();
        assert_eq!(printed.stdout, committed);
    }
}

#[test]
fn smilint_finds_nothing() {
    let folders = folders();
    for name in ["EXCELIANCE-MIB", "LBSTATD-MIB"] {
        let module = format!("{}/{name}", folders.split(':').next().unwrap());
        let output =
            run("smilint", |command| command.args(["-l", "3", "-s"]).arg(&module).env("SMIPATH", &folders)).unwrap();
        assert_eq!((output.status.code(), output.stdout + &output.stderr), (Some(0), String::new()));
    }
}
