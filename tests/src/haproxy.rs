//! A HAProxy of one's own.

use std::fmt::Write as _;
use std::io::{Read, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

use anyhow::{Context, Result, bail};
use rustix::process::Signal;
use tempfile::TempDir;

use crate::process::Process;
use crate::unpacked::Program;
use crate::wait::{DEADLINE, wait_for};

/// A HAProxy in the foreground, with a stats socket.
#[derive(Debug)]
pub struct Haproxy {
    process: Process,
    program: Program,
    config: HaproxyConfig,
    dir: TempDir,
    starts: u32,
}

/// What goes into its configuration beside the stats socket.
#[derive(Clone, Debug, Default)]
pub struct HaproxyConfig {
    /// Level of the stats socket.
    pub level: Level,
    /// More lines for the global section.
    pub global: String,
    /// The sections after global; `option socket-stats`, and whatever else a proxy needs, is up to them.
    pub sections: String,
}

/// Access level of a stats socket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Level {
    /// Reads what is harmless; addresses are hidden.
    User,
    /// Reads everything.
    #[default]
    Operator,
    /// Changes things too.
    Admin,
}

const STATS: &str = "stats.sock";
/// The test bed's own.
const ADMIN: &str = "test-bed.sock";

impl Haproxy {
    /// Starts it and waits until its stats socket answers.
    ///
    /// # Errors
    /// When HAProxy refuses the configuration; with what it said.
    pub fn start(config: HaproxyConfig) -> Result<Self> {
        Self::start_with(Program::named("haproxy"), config)
    }

    /// The same with a HAProxy of another release.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_with(program: Program, config: HaproxyConfig) -> Result<Self> {
        let dir = TempDir::with_prefix("lbstatd-haproxy-")?;
        let process = spawn(dir.path(), &program, &config, 0, None)?;
        let mut haproxy = Self { process, program, config, dir, starts: 1 };
        haproxy.wait_ready()?;
        Ok(haproxy)
    }

    /// Path of its stats socket, of the level in its configuration.
    pub fn socket(&self) -> PathBuf {
        self.dir.path().join(STATS)
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Everything it has logged since it was started last.
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// What it answers to one command, without the empty line at the end; asked on a socket of its own, of level admin.
    ///
    /// # Errors
    /// When the socket does not answer to the end within 30 seconds.
    pub fn command(&self, command: &str) -> Result<String> {
        stats_command(&self.dir.path().join(ADMIN), command)
    }

    /// How many frontends, backends and servers it shows.
    ///
    /// # Errors
    /// When the stats socket does not answer.
    pub fn sizes(&self) -> Result<(usize, usize, usize)> {
        let stat = self.command("show stat")?;
        let mut lines = stat.lines();
        let header = lines.next().unwrap_or_default();
        let place = header.split(',').position(|name| name == "type").context("no column `type` in `show stat`")?;
        // No field before it can hold a comma.
        let types: Vec<&str> = lines.filter_map(|line| line.split(',').nth(place)).collect();
        let count = |number| types.iter().filter(|kind| **kind == number).count();
        Ok((count("0"), count("1"), count("2")))
    }

    /// Kills it; [`Self::restart`] brings it back.
    ///
    /// # Errors
    /// When it is gone already.
    pub fn kill(&mut self) -> Result<ExitStatus> {
        self.process.end_with(Signal::KILL)
    }

    /// Stops it softly, as `systemctl stop` does, and waits for its end; its listeners close at once, its connections
    /// when they are over.
    ///
    /// # Errors
    /// When it does not end.
    pub fn stop(&mut self) -> Result<ExitStatus> {
        self.process.end_with(Signal::USR1)
    }

    /// Starts it again with the same configuration and the same socket, after [`Self::kill`] or [`Self::stop`].
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn restart(&mut self) -> Result<()> {
        self.process = spawn(self.dir.path(), &self.program, &self.config, self.starts, None)?;
        self.starts += 1;
        self.wait_ready()
    }

    /// Starts a new process that takes over from the present one, which ends once its connections are over; `self`
    /// stands for the new one. The old one is returned.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn reload(&mut self) -> Result<Process> {
        let new = spawn(self.dir.path(), &self.program, &self.config, self.starts, Some(self.id()))?;
        let old = std::mem::replace(&mut self.process, new);
        self.starts += 1;
        let id = self.id();
        wait_for("the new HAProxy to own the stats socket", || {
            let info = self.command("show info")?;
            let expected = format!("Pid: {id}");
            if info.lines().any(|line| line == expected) { Ok(()) } else { bail!("another process answers: {info}") }
        })?;
        Ok(old)
    }

    /// As [`Self::reload`], with other sections in its configuration.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn reload_with(&mut self, sections: String) -> Result<Process> {
        self.config.sections = sections;
        self.reload()
    }

    /// Freezes it: the kernel still completes handshakes for it, and nothing answers. Thawed when the value is dropped.
    ///
    /// # Errors
    /// When it has ended.
    pub fn freeze(&self) -> Result<Frozen<'_>> {
        self.process.signal(Signal::STOP)?;
        Ok(Frozen { process: &self.process })
    }

    fn wait_ready(&mut self) -> Result<()> {
        let socket = self.dir.path().join(ADMIN);
        self.process.wait_ready(|| stats_command(&socket, "show info").map(|_| ()))
    }
}

/// A stopped process.
#[derive(Debug)]
pub struct Frozen<'a> {
    process: &'a Process,
}

impl Drop for Frozen<'_> {
    fn drop(&mut self) {
        let _ = self.process.signal(Signal::CONT);
    }
}

/// What a stats socket answers to one command, without the empty line at the end.
///
/// # Errors
/// When it does not answer to the end within 30 seconds.
pub fn stats_command(socket: &Path, command: &str) -> Result<String> {
    let exchange = || -> std::io::Result<String> {
        let mut stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(DEADLINE))?;
        writeln!(stream, "{command}")?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        String::from_utf8(answer).map_err(std::io::Error::other)
    };
    let answer = exchange().with_context(|| format!("`{command}` on {}", socket.display()))?;
    match answer.strip_suffix('\n') {
        Some(answer) => Ok(answer.to_owned()),
        None => bail!("`{command}` on {}: the answer is cut: {answer:?}", socket.display()),
    }
}

fn spawn(
    dir: &Path,
    program: &Program,
    config: &HaproxyConfig,
    number: u32,
    takes_over_from: Option<u32>,
) -> Result<Process> {
    let file = dir.join("haproxy.cfg");
    std::fs::write(&file, config.text(dir)).with_context(|| format!("cannot write {}", file.display()))?;
    program.start(dir.join(format!("haproxy-{number}.log")), |command| {
        // -db: in the foreground.
        command.arg("-db").arg("-f").arg(&file).current_dir(dir);
        match takes_over_from {
            Some(pid) => command.arg("-sf").arg(pid.to_string()),
            None => command,
        }
    })
}

impl HaproxyConfig {
    fn text(&self, dir: &Path) -> String {
        let level = match self.level {
            Level::User => "user",
            Level::Operator => "operator",
            Level::Admin => "admin",
        };
        let mut text = String::from("global\n");
        for (name, level) in [(STATS, level), (ADMIN, "admin")] {
            // Writing into a String cannot fail.
            let _ = writeln!(text, "    stats socket {} mode 600 level {level}", dir.join(name).display());
        }
        let _ = writeln!(text, "    stats timeout 1m\n    maxconn 2000\n    nbthread 2");
        text.push_str(&self.global);
        text.push('\n');
        text.push_str(&self.sections);
        text
    }
}
