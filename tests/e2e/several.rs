//! HAProxy before 2.5 can be several processes, each with counters and a stats socket of its own.

use lbstatd_tests::{Backend, Connection, Lbstatd, LbstatdConfig, Reply, SnmpValue, address, stats_command, wait_for};

use crate::reading::{ROOTS, Reading};
use crate::tap::Tap;
use crate::versions::{version, with_one_reading};
use crate::walk::{through, wait_for_rows};
use crate::zoo::DEFAULTS;

const REQUESTS: u64 = 40;

#[test]
fn two_processes_have_a_row_each_and_tables_indexed_by_their_number() {
    let Some(version) = version("2.2") else { return };
    let dir = tempfile::TempDir::with_prefix("lbstatd-several-").unwrap();
    let server = Backend::start(Reply::Http { body: 100 }).unwrap().address();
    let www = address();
    let sockets = [1, 2].map(|process| dir.path().join(format!("stats-{process}.sock")));
    let [first, second] = sockets.each_ref().map(|socket| socket.display());
    let config = format!(
        "global
    nbproc 2
    stats socket {first} mode 600 level user process 1
    stats socket {second} mode 600 level user process 2
{DEFAULTS}
listen www
    id 9
    bind {www} process 1
    bind {www} process 2
    server one {server} id 7
frontend second
    bind-process 2
    bind {}
    default_backend second
backend second
    bind-process 2
    server two {server}
",
        address()
    );
    let file = dir.path().join("haproxy.cfg");
    std::fs::write(&file, config).unwrap();
    // -W: in the foreground, and still several processes, which end with the one that we end.
    let mut haproxy = version.start(dir.path().join("log"), |command| command.arg("-W").arg("-f").arg(&file)).unwrap();
    haproxy
        .wait_ready(|| sockets.iter().try_for_each(|socket| stats_command(socket, "show info").map(|_| ())))
        .unwrap();
    for _ in 0..REQUESTS {
        Connection::open(www).unwrap().request("/").unwrap();
    }

    let taps = sockets.each_ref().map(|socket| Tap::start(socket.clone()));
    let paths = taps.each_ref().map(Tap::socket);
    let snmpd = with_one_reading(ROOTS[0], &paths);
    let rows = sockets.each_ref().map(|socket| {
        Reading::new(&stats_command(socket, "show info").unwrap(), &stats_command(socket, "show stat").unwrap()).rows()
    });
    let walk = wait_for_rows(&snmpd, ROOTS[0], rows[0] + rows[1]);
    let given = taps.each_ref().map(|tap| tap.readings().remove(0));
    let [mut both, more] = given;
    both.cells.extend(more.cells);
    assert_eq!(both.differences(ROOTS[0], &walk), Vec::<String>::new());
    for process in [1, 2] {
        let cell = |oid: &[u32]| &both.cells[oid].value;
        assert_eq!(*cell(&[1, 1, 1, process]), SnmpValue::Integer(process.into()));
        assert_eq!(*cell(&[4, 1, 1, process, 9, 7]), SnmpValue::Integer(process.into()));
    }
    assert_ne!(both.cells[&vec![1, 1, 6, 1]].value, both.cells[&vec![1, 1, 6, 2]].value, "one process twice");
    let sessions = [1, 2].map(|process| match both.cells[&vec![2, 1, 7, process, 9]].value {
        SnmpValue::Counter64(sessions) => sessions,
        ref other => panic!("{other:?}"),
    });
    assert_eq!(sessions.iter().sum::<u64>(), REQUESTS, "{sessions:?}");

    let config = LbstatdConfig { stats_sockets: sockets.to_vec(), ..LbstatdConfig::new(paths[0].clone()) };
    let lbstatd = Lbstatd::start(&config).unwrap();
    let snmpd = through(&lbstatd);
    wait_for("a walk that equals a reading of each process", || {
        let walk = snmpd.client().bulk_walk(ROOTS[1])?;
        // What a process says of itself moves with each question; in its tables, one clock does.
        let differences = both.differences(ROOTS[1], &walk);
        let tables: Vec<_> = differences
            .iter()
            .filter(|difference| !difference.starts_with("[1,") && !difference.contains("(lastchg)"))
            .collect();
        anyhow::ensure!(walk.len() == rows[0] + rows[1] && tables.is_empty(), "{} rows: {tables:?}", walk.len());
        Ok(())
    })
    .unwrap();
}
