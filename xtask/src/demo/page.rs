//! What the demo shows.

use std::collections::BTreeMap;
use std::io::{Write, stdout};

use anyhow::Result;
use lbstats::schema::LISTENER;
use lbstats::{Snapshot, SourceKind};
use ratatui::crossterm::cursor::{Hide, MoveTo, Show};
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal::{Clear, ClearType, EnterAlternateScreen, LeaveAlternateScreen, size};

use super::Places;

/// The columns of the kernel's listeners that say most; the others are in Prometheus and `dump`.
const SHOWN: [&str; 11] = [
    "proxy",
    "address",
    "accepted",
    "open",
    "bytes_received",
    "bytes_acked",
    "backlog_limit",
    "backlog_peak_1m",
    "drops",
    "retransmits",
    "handshake_p99",
];

/// A walk of lbStats with names, as snmpbulkwalk printed it.
pub(super) struct Page {
    walk: String,
    /// Value by object and index.
    cells: BTreeMap<String, BTreeMap<Vec<u32>, String>>,
    /// Objects in the order of the walk.
    objects: Vec<String>,
}

impl Page {
    pub(super) fn new(walk: String) -> Self {
        let mut page = Self { walk, cells: BTreeMap::new(), objects: Vec::new() };
        for line in page.walk.lines() {
            let Some((name, value)) = line.split_once(" = ") else { continue };
            let Some((object, index)) = name.split_once('.') else { continue };
            let value = value.split_once(": ").map_or(value, |(_type, value)| value).trim_matches('"');
            let index = index.split('.').filter_map(|arc| arc.parse().ok()).collect();
            if !page.cells.contains_key(object) {
                page.objects.push(object.to_owned());
            }
            page.cells.entry(object.to_owned()).or_default().insert(index, value.to_owned());
        }
        page
    }

    /// The walk as it is.
    pub(super) fn walk(&self) -> &str {
        &self.walk
    }

    /// Rows of the walk.
    pub(super) fn rows(&self) -> usize {
        self.cells.values().map(BTreeMap::len).sum()
    }

    /// Whether every frontend has had sessions.
    pub(super) fn has_sessions(&self) -> bool {
        self.cells.get("lbFrontendSessionTotal").is_some_and(|totals| totals.values().all(|total| total != "0"))
    }

    /// Whether the server that nobody answers for has been found out.
    pub(super) fn has_failure(&self) -> bool {
        self.cells.get("lbServerStatus").is_some_and(|servers| servers.values().any(|status| status == "DOWN"))
    }

    /// What runs here, and how to look at it by hand.
    pub(super) fn head(&self, snapshot: &Snapshot, places: Places) -> Vec<String> {
        let process = |object: &str| {
            let value = self.cells.get(object).and_then(|cells| cells.values().next());
            value.map_or("", String::as_str)
        };
        let (product, version) = (process("lbProcessProductName"), process("lbProcessVersion"));
        let (pid, uptime) = (process("lbProcessSystemPID"), process("lbProcessUptime"));
        let Places { prometheus, agent, control } = places;
        vec![
            format!(
                "lbstatd beside {product} {version} (process {pid}, up {uptime}), snapshot {}",
                snapshot.generation
            ),
            format!("  browser   http://{prometheus}/metrics"),
            format!("  snmpwalk  snmpwalk -v2c -c public -M mibs:mibs/base -m EXCELIANCE-MIB {agent} lbStats"),
            format!("  terminal  target/debug/lbstatd top --control {}", control.display()),
        ]
    }

    /// What the kernel counts for each frontend.
    pub(super) fn kernel(&self, snapshot: &Snapshot) -> Vec<String> {
        let listeners = &snapshot.listeners;
        let columns: Vec<usize> = SHOWN.iter().filter_map(|source| LISTENER.place(source)).collect();
        let mut rows =
            vec![columns.iter().map(|column| LISTENER.columns[*column].source.to_owned()).collect::<Vec<_>>()];
        rows.extend((0..listeners.len()).map(|row| {
            (columns.iter().copied())
                .map(|column| match listeners.text(column, row) {
                    Some(text) => String::from_utf8_lossy(text).into_owned(),
                    None => listeners.number(column, row).map_or(String::new(), |number| number.to_string()),
                })
                .collect()
        }));
        let mut lines = vec![String::new(), "The kernel's counters, from eBPF".to_owned()];
        if listeners.is_empty() {
            let kernel = snapshot.sources.iter().find(|source| source.kind == SourceKind::Ebpf);
            let reason = kernel.and_then(|kernel| kernel.error.clone());
            lines.push(format!(
                "  none: {}",
                reason.unwrap_or_else(|| "no listener of HAProxy is known yet".to_owned())
            ));
        } else {
            lines.extend(align(&rows));
        }
        lines
    }

    /// How lbstatd itself fares.
    pub(super) fn state(&self, snapshot: &Snapshot) -> Vec<String> {
        let mut lines = vec![String::new(), "lbstatd's sources and hooks".to_owned()];
        for source in &snapshot.sources {
            let name = format!("  {} {}", source.kind.name(), source.target);
            let (name, tries) = (name.trim_end(), source.collections);
            lines.push(match &source.error {
                None => format!("{name}: up, read {tries} times, the last one took {} µs", source.duration),
                Some(error) => format!("{name}: down: {error}"),
            });
        }
        for hook in &snapshot.hooks {
            lines.push(format!("  hook {}: {} {}", hook.name, hook.state, hook.reason).trim_end().to_owned());
        }
        lines
    }

    /// The walk as tables, without the columns that are 0 or empty in every row.
    pub(super) fn tables(&self) -> Vec<String> {
        ["lbFrontend", "lbBackend", "lbServer", "lbProcess"].iter().flat_map(|prefix| self.table(prefix)).collect()
    }

    fn table(&self, prefix: &str) -> Vec<String> {
        let objects: Vec<(&str, &BTreeMap<Vec<u32>, String>)> = (self.objects.iter())
            .filter_map(|object| Some((object.strip_prefix(prefix)?, self.cells.get(object)?)))
            .filter(|(_, cells)| cells.values().any(|value| !value.is_empty() && value != "0"))
            // These are the index.
            .filter(|(name, _)| !name.ends_with("ID") || *name == "SystemPID")
            .collect();
        let Some((_, first)) = objects.first() else { return Vec::new() };
        let dotted = |index: &[u32]| index.iter().map(u32::to_string).collect::<Vec<_>>().join(".");
        let mut rows = Vec::new();
        if prefix == "lbProcess" {
            // One row of many columns reads better as lines.
            let pairs = objects
                .iter()
                .flat_map(|(name, cells)| cells.values().map(move |value| vec![format!("  {name}"), value.clone()]));
            return std::iter::once(prefix.to_owned()).chain(align(&pairs.collect::<Vec<_>>())).collect();
        }
        rows.push(std::iter::once(prefix).chain(objects.iter().map(|(name, _)| *name)).map(str::to_owned).collect());
        for index in first.keys() {
            let cells = objects.iter().map(|(_, cells)| cells.get(index).cloned().unwrap_or_default());
            rows.push(std::iter::once(format!("  {}", dotted(index))).chain(cells).collect::<Vec<_>>());
        }
        align(&rows)
    }
}

/// Columns of equal width, two spaces apart; numbers to the right.
fn align(rows: &[Vec<String>]) -> Vec<String> {
    let columns = rows.first().map_or(0, Vec::len);
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let is_number = |column: usize| rows.iter().skip(1).all(|row| row[column].parse::<u64>().is_ok());
    let numbers: Vec<bool> = (0..columns).map(is_number).collect();
    rows.iter()
        .map(|row| {
            let cells = row.iter().zip(&widths).zip(&numbers).map(|((cell, &width), number)| {
                if *number { format!("{cell:>width$}") } else { format!("{cell:<width$}") }
            });
            cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
        })
        .collect()
}

/// The terminal's other screen, given back when dropped.
pub(super) struct Screen;

impl Screen {
    pub(super) fn enter() -> Result<Self> {
        execute!(stdout(), EnterAlternateScreen, Hide)?;
        Ok(Self)
    }

    /// Shows as many lines as fit; a longer line is cut, but for the command to copy.
    pub(super) fn show(&self, lines: &[String]) -> Result<()> {
        let (width, height) = size()?;
        let (width, height) = (usize::from(width), usize::from(height));
        let mut room = height;
        let mut text = String::new();
        for line in lines {
            let whole = line.starts_with("  snmpwalk");
            let shown: String = line.chars().take(if whole { usize::MAX } else { width }).collect();
            let needed = shown.chars().count().div_ceil(width.max(1)).max(1);
            if needed > room {
                break;
            }
            room -= needed;
            if !text.is_empty() {
                text.push_str("\r\n");
            }
            text.push_str(&shown);
        }
        let mut out = stdout().lock();
        execute!(out, MoveTo(0, 0), Clear(ClearType::All))?;
        out.write_all(text.as_bytes())?;
        Ok(out.flush()?)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = execute!(stdout(), Show, LeaveAlternateScreen);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WALK: &str = "\
lbProcessID.1 = INTEGER: 1
lbProcessVersion.1 = STRING: \"2.6.12\"
lbFrontendProcessID.1.10 = INTEGER: 1
lbFrontendProcessID.1.9 = INTEGER: 1
lbFrontendName.1.9 = STRING: \"api\"
lbFrontendName.1.10 = STRING: \"www\"
lbFrontendSessionTotal.1.9 = Counter64: 7
lbFrontendSessionTotal.1.10 = Counter64: 12
lbFrontendBytesIN.1.9 = Counter64: 0
lbFrontendBytesIN.1.10 = Counter64: 0
";

    #[test]
    fn a_walk_becomes_tables() {
        let page = Page::new(WALK.to_owned());
        assert_eq!(page.rows(), 10);
        assert!(page.has_sessions());
        let tables = page.tables();
        let expected =
            ["lbFrontend  Name  SessionTotal", "  1.9       api              7", "  1.10      www             12"];
        assert_eq!(tables[..3], expected);
        assert_eq!(tables[3..], ["lbProcess", "  Version  2.6.12"]);
    }
}
