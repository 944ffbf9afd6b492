//! One generation through every face of SNMP: pass_persist, AgentX, the own agent and `dump` show the same cells.

use lbstatd_tests::{Lbstatd, LbstatdConfig, Level, Snmp, Snmpd, Varbind, address};
use tempfile::TempDir;

use crate::reading::{ROOTS, Reading};
use crate::walk::{dump_of, through, wait_for_rows};
use crate::zoo;

#[test]
fn one_generation_is_the_same_through_every_face() {
    let zoo = zoo::start(Level::Operator);
    zoo.traffic();
    let dir = TempDir::with_prefix("lbstatd-faces-").unwrap();
    let master = dir.path().join("master").display().to_string();
    let as_master = Snmpd::start_master(&master).unwrap();
    let own = address();
    let flags = ["--agentx", &master, "--snmp-listen", &own.to_string(), "--community", "public"];
    let lbstatd = Lbstatd::start(&LbstatdConfig {
        // One generation for everything that follows.
        interval: "1h",
        flags: flags.map(str::to_owned).to_vec(),
        ..LbstatdConfig::new(zoo.haproxy.socket())
    })
    .unwrap();
    let by_pipe = through(&lbstatd);
    let own = Snmp::new(own).unwrap();
    let generation = lbstatd.metric("lbstatd_snapshot_generation").unwrap();

    let rows = Reading::of(&zoo.haproxy).rows();
    for root in ROOTS {
        let walk: Vec<Varbind> = own.bulk_walk(root).unwrap();
        assert_eq!(walk.len(), rows, "the own agent, {root}");
        assert!(wait_for_rows(&by_pipe, root, rows) == walk, "pass_persist and the own agent differ below {root}");
        assert!(wait_for_rows(&as_master, root, rows) == walk, "AgentX and the own agent differ below {root}");
    }
    let printed = own.tool("snmpwalk", &["-On"], &[".1.3.6.1.4.1"]).unwrap().stdout;
    let ends = |line: &&str| line.contains("No more variables") || *line == "End of MIB";
    let printed: Vec<&str> = printed.lines().filter(|line| !ends(line)).collect();
    assert!(printed == dump_of(&lbstatd), "the own agent and dump differ");
    assert_eq!(lbstatd.metric("lbstatd_snapshot_generation").unwrap(), generation, "another generation came");
}
