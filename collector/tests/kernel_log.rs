//! The kernel programs' log reaches `tracing`. A program of its own, because the level is the whole process's.

#![expect(clippy::unwrap_used, reason = "a test may end at any unexpected error")]

use std::{
    io::{Write, stderr},
    net::TcpListener,
    sync::{Arc, Mutex},
    time::Duration,
};

use lbstatd::kernel::Kernel;

#[test]
fn the_programs_log_reaches_tracing() {
    let lines = Lines::default();
    let writer = lines.clone();
    tracing_subscriber::fmt()
        .with_env_filter("lbstatd::kernel=debug")
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .init();
    let mut kernel = match Kernel::load() {
        Ok(kernel) => kernel,
        Err(refused) => {
            // Past the test harness, which hides what passing tests print.
            stderr().write_all(format!("\nSKIPPED kernel log test: {refused}\n\n").as_bytes()).unwrap();
            return;
        }
    };
    let log = kernel.take_log().expect("debug is on");
    assert!(kernel.take_log().is_none());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let expected = format!("port {} starts to listen", listener.local_addr().unwrap().port());

    let seen = async {
        while !lines.text().contains(&expected) {
            tokio::task::yield_now().await;
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime
        .block_on(async {
            tokio::time::timeout(Duration::from_secs(20), async {
                tokio::select! {
                    ended = log.forward() => ended.unwrap(),
                    () = seen => {}
                }
            })
            .await
        })
        .expect("the line is forwarded");
    assert!(lines.text().contains("DEBUG"), "{}", lines.text());
}

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Lines {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }
}

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
