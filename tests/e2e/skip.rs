//! Tests that this machine cannot run say so where nobody overlooks it.

use std::io::Write;

use lbstatd_tests::{Lbstatd, LbstatdConfig, wait_until};

use crate::exposition::Exposition;

/// A daemon with eBPF; none where the kernel refuses it, and then the test is reported as skipped.
pub(crate) fn with_ebpf(test: &str, config: LbstatdConfig) -> Option<Lbstatd> {
    let lbstatd = Lbstatd::start(&LbstatdConfig { ebpf: "auto", ..config }).unwrap();
    let page = || Exposition::of(&lbstatd);
    let tried =
        |page: &Exposition| page.get(UP) == Some(1.0) || reason(page).is_some_and(|r| !r.contains("not read yet"));
    let page = wait_until("the eBPF programs to be loaded or refused", page, tried).unwrap();
    if page.get(UP) == Some(1.0) {
        return Some(lbstatd);
    }
    skipped(test, reason(&page).expect("it was waited for"));
    None
}

/// The kernel as a source.
pub(crate) const UP: &str = r#"lbstatd_up{source="ebpf",target=""}"#;

/// Why the kernel is none.
pub(crate) fn reason(page: &Exposition) -> Option<&str> {
    page.family("lbstatd_source_error_info").map(|(labels, _)| labels).find(|labels| labels.contains("\"ebpf\""))
}

/// Past the test harness, which captures `eprintln`, and into the summary of `cargo xtask test`.
pub(crate) fn skipped(test: &str, reason: &str) {
    let line = format!("SKIPPED {test}: {reason}\n");
    let _ = write!(std::io::stderr(), "\n{line}");
    if let Some(path) = std::env::var_os("LBSTATD_SKIPPED_TESTS") {
        let mut file = std::fs::OpenOptions::new().append(true).create(true).open(path).unwrap();
        file.write_all(line.as_bytes()).unwrap();
    }
}
