//! `lbstatd top`: frontends and servers, with what the kernel knows of them, live.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use lbstats::{Snapshot, Table};
use ratatui::Frame;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use ratatui::layout::{Constraint, Layout};
use ratatui::style::{Color, Style, Stylize};
use ratatui::text::Line;
use ratatui::widgets::{Cell, Row, Table as Grid};

use crate::control::{self, Client};

/// How often keys are looked for, and with them a new snapshot.
const POLL: Duration = Duration::from_millis(100);

/// Flags of `top`.
#[derive(Debug, clap::Args)]
#[group(skip)]
pub struct Args {
    /// Ask the daemon on this socket [default: /run/lbstatd/control.sock]
    #[arg(long, value_name = "PATH")]
    control: Option<PathBuf>,
}

/// Two snapshots, for rates.
struct Pair {
    before: Arc<Snapshot>,
    now: Arc<Snapshot>,
}

/// Shows until `q`, Escape or Ctrl-C.
///
/// # Errors
/// When no daemon answers, it stops, or standard output is no terminal.
pub fn run(args: &Args) -> anyhow::Result<()> {
    if !std::io::IsTerminal::is_terminal(&std::io::stdout()) {
        anyhow::bail!("standard output is no terminal: use `lbstatd dump` in scripts");
    }
    let path = args.control.clone().unwrap_or_else(|| control::DEFAULT_PATH.into());
    let snapshots = follow(Client::connect(&path, true)?);
    let mut terminal = ratatui::init();
    let result = show(&mut terminal, &snapshots);
    ratatui::restore();
    result
}

fn follow(mut client: Client) -> Receiver<anyhow::Result<Snapshot>> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        loop {
            let next = client.next(None);
            let ended = next.is_err();
            if sender.send(next).is_err() || ended {
                return;
            }
        }
    });
    receiver
}

fn show(terminal: &mut ratatui::DefaultTerminal, snapshots: &Receiver<anyhow::Result<Snapshot>>) -> anyhow::Result<()> {
    let first = Arc::new(snapshots.recv()??);
    let mut pair = Pair { before: first.clone(), now: first };
    loop {
        while let Ok(next) = snapshots.try_recv() {
            let next = Arc::new(next?);
            pair = Pair { before: std::mem::replace(&mut pair.now, next.clone()), now: next };
        }
        terminal.draw(|frame| draw(frame, &pair))?;
        if event::poll(POLL)? && is_quit(&event::read()?) {
            return Ok(());
        }
    }
}

fn is_quit(event: &Event) -> bool {
    let Event::Key(key) = event else { return false };
    let interrupt = key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL);
    key.kind == KeyEventKind::Press && (interrupt || matches!(key.code, KeyCode::Char('q') | KeyCode::Esc))
}

fn draw(frame: &mut Frame<'_>, pair: &Pair) {
    let sources = pair.now.sources.len();
    let height = |rows: usize| u16::try_from(rows + 2).unwrap_or(u16::MAX);
    let now = &pair.now;
    let [head, frontends, listeners, destinations, servers] = Layout::vertical([
        Constraint::Length(height(sources)),
        Constraint::Max(height(now.frontends.len())),
        Constraint::Max(height(now.listeners.len())),
        Constraint::Max(height(now.kernel_servers.len())),
        Constraint::Min(0),
    ])
    .areas(frame.area());
    frame.render_widget(ratatui::widgets::Paragraph::new(head_lines(now)), head);
    let columns = ["FRONTEND", "STATUS", "SESSIONS", "LIMIT", "CONN/S", "IN B/S", "OUT B/S", "ERRORS"];
    frame.render_widget(grid(columns, (0..now.frontends.len()).map(|row| frontend(pair, row))), frontends);
    let columns = [
        "KERNEL",
        "ADDRESS",
        "ACCEPT/S",
        "OPEN",
        "IN B/S",
        "OUT B/S",
        "QUEUE",
        "PEAK 1M",
        "DROPS",
        "RETRANS/S",
        "HANDSHAKE",
    ];
    frame.render_widget(grid(columns, (0..now.listeners.len()).map(|row| listener(pair, row))), listeners);
    let columns =
        ["CONNECTS TO", "ADDRESS", "CONN/S", "OPEN", "IN B/S", "OUT B/S", "FAILED", "RETRANS/S", "CONNECT", "RTT"];
    frame.render_widget(grid(columns, (0..now.kernel_servers.len()).map(|row| destination(pair, row))), destinations);
    let columns = ["BACKEND", "SERVER", "STATUS", "SESSIONS", "QUEUE", "SESS/S", "ERRORS", "CHECK"];
    frame.render_widget(grid(columns, (0..now.servers.len()).map(|row| server(pair, row))), servers);
}

fn head_lines(snapshot: &Snapshot) -> Vec<Line<'_>> {
    let title = format!("lbstatd  generation {}  (q quits)", snapshot.generation);
    let sources = snapshot.sources.iter().map(|source| match &source.error {
        None => Line::from(format!("{} {} {} µs", source.kind.name(), source.target, source.duration)),
        Some(error) => Line::from(format!("{}: {error}", source.kind.name())).fg(Color::Red),
    });
    std::iter::once(Line::from(title).bold()).chain(sources).collect()
}

fn grid<const N: usize>(columns: [&'static str; N], rows: impl Iterator<Item = [String; N]>) -> Grid<'static> {
    let rows = rows.map(|cells| {
        let down = cells.iter().any(|cell| cell.starts_with("DOWN") || cell == "STOP");
        let style = if down { Style::new().fg(Color::Red) } else { Style::new() };
        Row::new(cells.map(Cell::from)).style(style)
    });
    let mut widths = [Constraint::Fill(1); N];
    widths[..2].fill(Constraint::Fill(2));
    Grid::new(rows, widths).header(Row::new(columns).style(Style::new().reversed()))
}

fn frontend(pair: &Pair, row: usize) -> [String; 8] {
    let (table, rate) = (&pair.now.frontends, |source| rate(pair, |s| &s.frontends, source, row));
    [
        text(table, "pxname", row),
        text(table, "status", row),
        number(table, "scur", row),
        number(table, "slim", row),
        rate("conn_tot"),
        rate("bin"),
        rate("bout"),
        number(table, "ereq", row),
    ]
}

/// HANDSHAKE is the 99th percentile of the last minute.
fn listener(pair: &Pair, row: usize) -> [String; 11] {
    let (table, rate) = (&pair.now.listeners, |source| rate(pair, |s| &s.listeners, source, row));
    [
        text(table, "proxy", row),
        text(table, "address", row),
        rate("accepted"),
        number(table, "open", row),
        rate("bytes_received"),
        rate("bytes_acked"),
        format!("{}/{}", number(table, "backlog", row), number(table, "backlog_limit", row)),
        number(table, "backlog_peak_1m", row),
        number(table, "drops", row),
        rate("retransmits"),
        time(table, "handshake_p99", row),
    ]
}

/// CONNECT and RTT are the 99th percentiles of the last minute.
fn destination(pair: &Pair, row: usize) -> [String; 10] {
    let (table, rate) = (&pair.now.kernel_servers, |source| rate(pair, |s| &s.kernel_servers, source, row));
    let names = [text(table, "proxy", row), text(table, "server", row)].join("/");
    [
        if names == "/" { String::new() } else { names },
        text(table, "address", row),
        rate("connects"),
        number(table, "open", row),
        rate("bytes_received"),
        rate("bytes_acked"),
        number(table, "failures", row),
        rate("retransmits"),
        time(table, "connect_p99", row),
        time(table, "rtt_p99", row),
    ]
}

fn server(pair: &Pair, row: usize) -> [String; 8] {
    let (table, rate) = (&pair.now.servers, |source| rate(pair, |s| &s.servers, source, row));
    [
        text(table, "pxname", row),
        text(table, "svname", row),
        text(table, "status", row),
        number(table, "scur", row),
        number(table, "qcur", row),
        rate("stot"),
        number(table, "econ", row),
        text(table, "check_status", row),
    ]
}

fn text(table: &Table, source: &str, row: usize) -> String {
    let text = table.schema().place(source).and_then(|place| table.text(place, row));
    // Control characters would move the terminal's cursor.
    String::from_utf8_lossy(text.unwrap_or_default()).replace(char::is_control, "?")
}

fn number(table: &Table, source: &str, row: usize) -> String {
    table.schema().place(source).and_then(|place| table.number(place, row)).map_or("-".into(), |n| n.to_string())
}

/// A number of microseconds.
fn time(table: &Table, source: &str, row: usize) -> String {
    match table.schema().place(source).and_then(|place| table.number(place, row)) {
        None => "-".into(),
        Some(time @ ..1_000) => format!("{time} µs"),
        Some(time @ ..1_000_000) => format!("{}.{} ms", time / 1_000, time / 100 % 10),
        Some(time) => format!("{}.{} s", time / 1_000_000, time / 100_000 % 10),
    }
}

/// Growth of a counter a second; `-` where the rows changed places, or the counter began again.
fn rate(pair: &Pair, table: impl Fn(&Snapshot) -> &Arc<Table>, source: &str, row: usize) -> String {
    let (before, now) = (table(&pair.before), table(&pair.now));
    let microseconds = pair.now.taken.saturating_sub(pair.before.taken);
    let growth = || {
        let place = now.schema().place(source)?;
        let same = before.len() == now.len()
            && now.index(row).eq(before.index(row))
            && now.schema().labels.iter().all(|(_, label)| text(before, label, row) == text(now, label, row));
        let grown = now.number(place, row)?.checked_sub(before.number(place, row).filter(|_| same)?)?;
        u128::from(grown).saturating_mul(1_000_000).checked_div(u128::from(microseconds))
    };
    growth().map_or("-".into(), |rate| rate.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use lbstats::schema::{FRONTEND, KERNEL_SERVER};
    use lbstats::{Field, TableBuilder};

    fn snapshot(taken: u64, total: u64) -> Arc<Snapshot> {
        let mut builder = TableBuilder::new(&FRONTEND);
        builder
            .push(|_, column| match column.source {
                "iid" => Field::Number(2),
                "pxname" => Field::Text(b"w\x1bw"),
                "conn_tot" => Field::Number(total),
                _ => Field::Absent,
            })
            .unwrap();
        Arc::new(Snapshot { taken, frontends: Arc::new(builder.finish().0), ..Snapshot::empty() })
    }

    #[test]
    fn times_have_a_unit() {
        let times = [7, 1_250, 2_345_678].map(|time| {
            let mut builder = TableBuilder::new(&KERNEL_SERVER);
            builder
                .push(|_, column| match column.source {
                    "rtt_p99" => Field::Number(time),
                    "address_octets" => Field::Text(&[10, 0, 0, 1]),
                    "namespace" | "address_type" | "port" => Field::Number(1),
                    _ => Field::Absent,
                })
                .unwrap();
            let table = builder.finish().0;
            [self::time(&table, "rtt_p99", 0), self::time(&table, "connect_p99", 0)]
        });
        assert_eq!(times, [["7 µs", "-"], ["1.2 ms", "-"], ["2.3 s", "-"]]);
    }

    #[test]
    fn rates_are_a_second_and_never_negative() {
        let pair = Pair { before: snapshot(0, 100), now: snapshot(500_000, 110) };
        assert_eq!(frontend(&pair, 0)[4], "20");
        let restarted = Pair { before: snapshot(0, 100), now: snapshot(500_000, 3) };
        assert_eq!(frontend(&restarted, 0)[4], "-");
        assert_eq!(frontend(&pair, 0)[0], "w?w");
    }
}
