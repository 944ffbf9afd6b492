//! A reading of a real HAProxy equals what the socket says in another format, `typed`, which has no quoting.

use std::collections::HashMap;

use lbstatd::haproxy::{Client, Limits, Reading};
use lbstats::Table;

use super::process::{Folder, Haproxy, free_port};

const GLOBAL: &str = r#"
  description "a \"q\", b\n\n# pxname,svname\nName: x"
  node n-1
"#;

/// Odd names, ids up to the largest, a `listen` section, servers with and without checks, a disabled one.
fn sections(folder: &Folder) -> String {
    let binds = ["1", "2", "3"].map(|name| format!("bind unix@{}", folder.path(name).display()));
    let [www, both, off] = binds;
    format!(
        "frontend www\n  id 2147483647\n  option socket-stats\n  {www}\n  default_backend b.a-c:k_1\n\
         listen both\n  {both}\n  server s:1 127.0.0.1:1 id 2147483647\n\
         frontend off\n  disabled\n  {off}\n\
         backend b.a-c:k_1\n  option httpchk\n  server a 127.0.0.1:1 check weight 7\n  server b 127.0.0.1:1 track a\n\
         \x20 server c 127.0.0.1:1 disabled maxconn 3\n  server d 127.0.0.1:1 backup\n\
         backend empty\n"
    )
}

#[tokio::test]
async fn a_reading_is_what_the_socket_says() {
    let folder = Folder::new();
    let haproxy = Haproxy::start(&folder.path("s"), "user", GLOBAL, &sections(&folder));
    let before = [typed(&haproxy.says("show info typed")), typed(&haproxy.says("show stat typed"))];
    let reading = read(&haproxy).await;
    let after = [typed(&haproxy.says("show info typed")), typed(&haproxy.says("show stat typed"))];
    assert_eq!(reading.pid, Some(haproxy.pid()));
    assert_eq!(reading.listens, [], "level user tells no addresses");
    assert_eq!((reading.process_number, reading.processes, reading.duplicates, reading.stopping), (1, 1, 0, false));
    compare(&reading.process, &[&before[0], &after[0]], &|_| "process".to_owned());
    for (kind, table) in [("F", &reading.frontends), ("B", &reading.backends), ("S", &reading.servers)] {
        compare(table, &[&before[1], &after[1]], &|index| {
            format!("{kind}.{}.{}", index[1], index.get(2).copied().unwrap_or_default())
        });
        let objects = after[1].keys().filter(|object| object.starts_with(kind)).count();
        assert_eq!(table.len(), objects, "{kind}");
    }
    assert_eq!([&reading.frontends, &reading.backends, &reading.servers].map(Table::len), [2, 3, 5]);
}

#[tokio::test]
async fn listeners_are_named_at_level_operator() {
    let folder = Folder::new();
    let ([v4, mapped, wild, quiet], unix) = ([0; 4].map(|_| free_port()), folder.path("f"));
    let binds = format!(
        "frontend www\n  option socket-stats\n  bind 127.0.0.1:{v4}\n  bind ::ffff:127.0.0.1:{mapped}\n  bind *:{wild}\n\
         \x20 bind unix@{}\nfrontend quiet\n  bind 127.0.0.1:{quiet}\n",
        unix.display()
    );
    let haproxy = Haproxy::start(&folder.path("s"), "operator", "", &binds);
    let listens = read(&haproxy).await.listens;
    let listens: Vec<String> = listens.iter().map(|listen| format!("{} {}", listen.proxy, listen.address)).collect();
    let expected = [format!("127.0.0.1:{v4}"), format!("[::ffff:127.0.0.1]:{mapped}"), format!("0.0.0.0:{wild}")]
        .map(|a| format!("www {a}"));
    assert_eq!(listens, expected);
}

async fn read(haproxy: &Haproxy) -> Reading {
    Client::new(&haproxy.socket, Limits::default()).read().await.unwrap()
}

/// Each cell must be what was said before or after.
fn compare(table: &Table, said: &[&Objects], object: &dyn Fn(&[u32]) -> String) {
    for row in 0..table.len() {
        let index: Vec<u32> = table.index(row).collect();
        let object = object(&index);
        for (place, column) in table.schema().columns.iter().enumerate() {
            let text = table.text(place, row).map(|text| String::from_utf8(text.to_vec()).unwrap());
            let found = text.or_else(|| table.number(place, row).map(|number| number.to_string()));
            let due = |said: &&Objects| {
                said[&object].get(column.source).filter(|value| !value.is_empty() && !value.starts_with('-')).cloned()
            };
            let due: Vec<Option<String>> = said.iter().map(due).collect();
            // HAProxy counts the readings themselves, in some cells of the process.
            let between = found.as_ref().and_then(|found| found.parse::<u64>().ok()).is_some_and(|found| {
                let bounds: Vec<u64> = due.iter().flatten().filter_map(|value| value.parse().ok()).collect();
                bounds.len() == 2 && (bounds[0]..=bounds[1]).contains(&found)
            });
            assert!(between || due.contains(&found), "{object} {}: {found:?}, not {due:?}", column.source);
        }
    }
}

/// Fields of each object, as `F.2.0` or `process`.
type Objects = HashMap<String, HashMap<String, String>>;

/// Reads lines as `S.3.1.4.scur.1:MGP:u32:7` or `0.Name.1:POS:str:HAProxy`; a value may go on over several lines.
fn typed(answer: &str) -> Objects {
    let mut objects = Objects::new();
    let mut last: Option<(String, String)> = None;
    for line in answer.trim_end_matches('\n').split('\n') {
        if let Some((object, name, value)) = field(line) {
            objects.entry(object.clone()).or_default().insert(name.clone(), value.to_owned());
            last = Some((object, name));
        } else {
            let (object, name) = last.clone().expect("the first line is a field");
            let value = objects.get_mut(&object).and_then(|fields| fields.get_mut(&name)).unwrap();
            *value = format!("{value}\n{line}");
        }
    }
    objects
}

fn field(line: &str) -> Option<(String, String, &str)> {
    let mut parts = line.splitn(4, ':');
    let (key, _tags, kind, value) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let key: Vec<&str> = key.split('.').collect();
    ["str", "s32", "s64", "u32", "u64", "flt"].contains(&kind).then_some(())?;
    match key[..] {
        [_, name, _] => Some(("process".to_owned(), name.to_owned(), value)),
        [kind, iid, sid, _, name, _] => Some((format!("{kind}.{iid}.{sid}"), name.to_owned(), value)),
        _ => None,
    }
}
