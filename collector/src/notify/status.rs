//! What HAProxy's rows say about servers, backends and frontends: good, bad, or neither.
//!
//! | row | bad | good | neither |
//! |---|---|---|---|
//! | server | DOWN | UP, NOLB, DRAIN, no check | MAINT; up without a first check |
//! | backend | DOWN | UP | UP while none of its servers has been checked yet |
//! | frontend | sessions at the limit | sessions at or below the lower threshold | between them; stopped, paused, no limit |
//!
//! HAProxy takes a server for up until its first check is over, so after a reload a dead server is up for a moment. That
//! is neither good nor bad here.

use std::collections::HashMap;

use lbstats::schema::{BACKEND, FRONTEND, SERVER};
use lbstats::{Snapshot, Table};

use super::damp::Seen;
use super::event::Class;

/// A row that can be told of.
#[derive(Clone, Copy, Debug)]
pub struct Row<'a> {
    /// What it is.
    pub class: Class,
    /// Number of HAProxy's process.
    pub process: u32,
    /// Name of the frontend or backend.
    pub proxy: &'a [u8],
    /// Name of the server; empty for the others.
    pub server: &'a [u8],
    /// What it shows.
    pub seen: Seen,
    table: &'a Table,
    row: usize,
}

/// Calls `each` for every server, backend and frontend of the snapshot, in this order: a backend that is down because
/// of its servers comes after them. Rows of a process for which `fresh` is false are [`Seen::Unknown`]. A frontend is
/// open again at `open_below` percent of its limit.
pub fn rows<'a>(snapshot: &'a Snapshot, open_below: u32, fresh: impl Fn(u32) -> bool, mut each: impl FnMut(Row<'a>)) {
    let untold = |row: Row<'a>| if fresh(row.process) { row } else { Row { seen: Seen::Unknown, ..row } };
    // Whether a server of each backend has been checked.
    let mut checked = HashMap::new();
    for row in servers(&snapshot.servers) {
        *checked.entry((row.process, row.proxy)).or_insert(false) |= row.seen != Seen::Neither;
        each(untold(row));
    }
    for row in backends(&snapshot.backends) {
        let early = row.seen == Seen::Good && checked.get(&(row.process, row.proxy)) == Some(&false);
        each(untold(if early { Row { seen: Seen::Neither, ..row } } else { row }));
    }
    for row in frontends(&snapshot.frontends, open_below) {
        each(untold(row));
    }
}

fn servers(table: &Table) -> impl Iterator<Item = Row<'_>> {
    let (status, check) = (SERVER.place("status"), SERVER.place("check_status"));
    named(table, Class::Server, "pxname", Some("svname")).map(move |mut row| {
        let first_check = row.text(check).strip_prefix(b"* ").unwrap_or(row.text(check)) == b"INI";
        row.seen = match first_word(row.text(status)) {
            b"DOWN" => Seen::Bad,
            _ if first_check => Seen::Neither,
            b"UP" | b"NOLB" | b"DRAIN" | b"no" => Seen::Good,
            _ => Seen::Neither,
        };
        row
    })
}

fn backends(table: &Table) -> impl Iterator<Item = Row<'_>> {
    let status = BACKEND.place("status");
    named(table, Class::Backend, "pxname", None).map(move |mut row| {
        row.seen = match first_word(row.text(status)) {
            b"DOWN" => Seen::Bad,
            b"UP" => Seen::Good,
            _ => Seen::Neither,
        };
        row
    })
}

fn frontends(table: &Table, open_below: u32) -> impl Iterator<Item = Row<'_>> {
    let status = FRONTEND.place("status");
    named(table, Class::Frontend, "pxname", None).map(move |mut row| {
        row.seen = match (first_word(row.text(status)), row.sessions()) {
            // Before HAProxy 2.0 only.
            (b"FULL", _) => Seen::Bad,
            (b"OPEN", Some((sessions, limit))) if sessions >= limit => Seen::Bad,
            (b"OPEN", Some((sessions, limit))) if percent(sessions, limit) <= u64::from(open_below) => Seen::Good,
            _ => Seen::Neither,
        };
        row
    })
}

/// `part` of `whole` in percent, rounded up; 0 of nothing is 0.
pub fn percent(part: u64, whole: u64) -> u64 {
    let percent = (u128::from(part) * 100).div_ceil(u128::from(whole.max(1)));
    u64::try_from(percent).unwrap_or(u64::MAX)
}

/// The rows of a table of lbStats, by name.
fn named<'a>(table: &'a Table, class: Class, proxy: &str, server: Option<&str>) -> impl Iterator<Item = Row<'a>> {
    let schema = table.schema();
    let (proxy, server) = (schema.place(proxy), server.and_then(|server| schema.place(server)));
    (0..table.len()).map(move |row| {
        let text = |place: Option<usize>| place.and_then(|place| table.text(place, row)).unwrap_or_default();
        let process = table.index(row).next().unwrap_or(1);
        Row { class, process, proxy: text(proxy), server: text(server), seen: Seen::Neither, table, row }
    })
}

fn first_word(text: &[u8]) -> &[u8] {
    text.split(|octet| *octet == b' ').next().unwrap_or_default()
}

impl Row<'_> {
    /// What names it in notifications.
    pub fn name(&self) -> String {
        let proxy = String::from_utf8_lossy(self.proxy);
        if self.server.is_empty() { proxy.into_owned() } else { format!("{proxy}/{}", self.text_of(self.server)) }
    }

    /// What happened to it, in words.
    pub fn message(&self, bad: bool) -> String {
        let name = self.name();
        match (self.class, bad) {
            (Class::Server, true) => match self.check() {
                Some(check) => format!("Server {name} is DOWN ({check})"),
                None => format!("Server {name} is DOWN"),
            },
            (Class::Server, false) => format!("Server {name} is {}", self.status()),
            (Class::Backend, true) => format!("Backend {name} is DOWN: no server available"),
            (Class::Backend, false) => match self.servers() {
                Some((active, backup)) => format!("Backend {name} is UP: {active} active, {backup} backup servers"),
                None => format!("Backend {name} is UP"),
            },
            (_, true) => format!("Frontend {name} is full: {}", self.sessions_in_words()),
            (_, false) => format!("Frontend {name} is open: {}", self.sessions_in_words()),
        }
    }

    /// Sessions now, and the limit, if there is one.
    fn sessions(&self) -> Option<(u64, u64)> {
        let number = |source| self.table.number(self.table.schema().place(source)?, self.row);
        Some((number("scur")?, number("slim").filter(|limit| *limit > 0)?))
    }

    fn sessions_in_words(&self) -> String {
        self.sessions().map_or_else(String::new, |(sessions, limit)| format!("{sessions} of {limit} sessions"))
    }

    /// Servers of a backend that are up: active ones and backups.
    fn servers(&self) -> Option<(u64, u64)> {
        let number = |source| self.table.number(self.table.schema().place(source)?, self.row);
        Some((number("act")?, number("bck")?))
    }

    fn status(&self) -> String {
        self.text_of(self.text(self.table.schema().place("status")))
    }

    /// How the last health check ended.
    fn check(&self) -> Option<String> {
        let check = self.text(self.table.schema().place("check_status"));
        let check = check.strip_prefix(b"* ").unwrap_or(check);
        (!check.is_empty()).then(|| self.text_of(check))
    }

    fn text(&self, place: Option<usize>) -> &[u8] {
        place.and_then(|place| self.table.text(place, self.row)).unwrap_or_default()
    }

    fn text_of(&self, octets: &[u8]) -> String {
        String::from_utf8_lossy(octets).into_owned()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::Arc;

    use lbstats::{Field, TableBuilder, TableSchema};

    use super::*;

    /// A row: proxy, server, and other fields with their texts.
    pub(in crate::notify) type Fields<'a> = (&'a str, &'a str, &'a [(&'a str, &'a str)]);

    /// A table of one process; the id of a row is its place.
    pub(in crate::notify) fn table(schema: &'static TableSchema, rows: &[Fields<'_>]) -> Arc<Table> {
        let mut builder = TableBuilder::new(schema);
        for (place, (proxy, server, fields)) in rows.iter().enumerate() {
            let row = builder.push(|_, column| match column.source {
                "pid" => Field::Number(1),
                "iid" | "sid" => Field::Number(place as u64 + 2),
                "pxname" => Field::Text(proxy.as_bytes()),
                "svname" => Field::Text(server.as_bytes()),
                source => match fields.iter().find(|(name, _)| *name == source) {
                    Some((_, text)) => column.parse(text.as_bytes()).unwrap(),
                    None => Field::Absent,
                },
            });
            row.unwrap();
        }
        Arc::new(builder.finish().0)
    }

    fn seen(snapshot: &Snapshot) -> Vec<(String, Seen)> {
        let mut seen = Vec::new();
        rows(snapshot, 90, |_| true, |row| seen.push((row.name(), row.seen)));
        seen
    }

    #[test]
    fn servers_are_judged_by_status_and_first_check() {
        for (status, check, expected) in [
            ("UP", "L4OK", Seen::Good),
            ("UP 1/3", "L4TOUT", Seen::Good),
            ("UP", "INI", Seen::Neither),
            ("UP", "* INI", Seen::Neither),
            ("DOWN", "L4CON", Seen::Bad),
            ("DOWN 1/2", "* L7OK", Seen::Bad),
            ("DOWN (agent)", "", Seen::Bad),
            ("DOWN", "INI", Seen::Bad),
            ("NOLB", "L7OKC", Seen::Good),
            ("DRAIN", "L7OK", Seen::Good),
            ("MAINT", "", Seen::Neither),
            ("MAINT (via a/b)", "L4OK", Seen::Neither),
            ("no check", "", Seen::Good),
            ("", "", Seen::Neither),
        ] {
            let servers = table(&SERVER, &[("app", "one", &[("status", status), ("check_status", check)])]);
            let snapshot = Snapshot { servers, ..Snapshot::empty() };
            assert_eq!(seen(&snapshot), [("app/one".to_owned(), expected)], "{status} {check}");
        }
    }

    #[test]
    fn a_backend_is_up_once_one_of_its_servers_was_checked() {
        let up: &[(&str, &str)] = &[("status", "UP")];
        let unchecked: &[(&str, &str)] = &[("status", "UP"), ("check_status", "INI")];
        let backends = table(&BACKEND, &[("early", "", up), ("app", "", up), ("empty", "", up)]);
        let servers = table(
            &SERVER,
            &[("early", "a", unchecked), ("early", "b", unchecked), ("app", "a", unchecked), ("app", "b", up)],
        );
        let snapshot = Snapshot { servers, backends, ..Snapshot::empty() };
        let seen = seen(&snapshot);
        let of = |name: &str| seen.iter().find(|(seen, _)| seen == name).unwrap().1;
        assert_eq!([of("early"), of("app"), of("empty")], [Seen::Neither, Seen::Good, Seen::Good]);
    }

    #[test]
    fn a_frontend_is_full_at_its_limit_and_open_well_below() {
        for (status, sessions, limit, expected) in [
            ("OPEN", "0", "100", Seen::Good),
            ("OPEN", "90", "100", Seen::Good),
            ("OPEN", "91", "100", Seen::Neither),
            ("OPEN", "99", "100", Seen::Neither),
            ("OPEN", "100", "100", Seen::Bad),
            ("OPEN", "101", "100", Seen::Bad),
            ("OPEN", "1", "1", Seen::Bad),
            ("OPEN", "0", "1", Seen::Good),
            ("OPEN", "5", "", Seen::Neither),
            ("OPEN", "5", "0", Seen::Neither),
            ("FULL", "5", "", Seen::Bad),
            ("STOP", "0", "100", Seen::Neither),
            ("PAUSED", "100", "100", Seen::Neither),
        ] {
            let fields: &[(&str, &str)] = &[("status", status), ("scur", sessions), ("slim", limit)];
            let snapshot = Snapshot { frontends: table(&FRONTEND, &[("www", "", fields)]), ..Snapshot::empty() };
            assert_eq!(seen(&snapshot), [("www".to_owned(), expected)], "{status} {sessions} of {limit}");
        }
    }

    #[test]
    fn messages_say_what_and_why() {
        let down: &[(&str, &str)] = &[("status", "DOWN"), ("check_status", "* L4CON")];
        let snapshot = Snapshot {
            servers: table(&SERVER, &[("app", "one", down)]),
            backends: table(&BACKEND, &[("app", "", &[("status", "UP"), ("act", "3"), ("bck", "1")])]),
            frontends: table(&FRONTEND, &[("www", "", &[("status", "OPEN"), ("scur", "20"), ("slim", "20")])]),
            ..Snapshot::empty()
        };
        let mut messages = Vec::new();
        rows(&snapshot, 90, |_| true, |row| messages.push(row.message(row.seen == Seen::Bad)));
        assert_eq!(
            messages,
            [
                "Server app/one is DOWN (L4CON)",
                "Backend app is UP: 3 active, 1 backup servers",
                "Frontend www is full: 20 of 20 sessions"
            ]
        );
    }

    #[test]
    fn percentages_are_exact_at_the_edges() {
        assert_eq!([percent(0, 0), percent(79, 100), percent(1, 1), percent(1, 1000)], [0, 79, 100, 1]);
        assert_eq!(percent(u64::MAX, 1), u64::MAX);
    }
}
