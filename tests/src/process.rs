//! Processes that end with the value that stands for them.

use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use crate::packages::find_program;
use crate::wait::wait_for;

/// A process of our own in a process group of its own. Dropped, the whole group is killed and the process reaped; if
/// the thread that started it dies first, the kernel kills it.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

/// What a program that ran to its end said.
#[derive(Clone, Debug)]
pub struct Output {
    /// How it ended.
    pub status: ExitStatus,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

impl Process {
    /// Starts a program of `PATH` or of the system's folders, or one given by its path; both its outputs go into `log`.
    ///
    /// # Errors
    /// When there is no such program, or no such folder for its log.
    pub fn start(
        program: impl AsRef<OsStr>,
        log: PathBuf,
        configure: impl FnOnce(&mut Command) -> &mut Command,
    ) -> Result<Self> {
        let program = program.as_ref();
        let name = Path::new(program).file_name().unwrap_or(program).to_string_lossy().into_owned();
        let output = File::create(&log).with_context(|| format!("cannot create {}", log.display()))?;
        let mut command = command_that_dies_with_us(program)?;
        configure(&mut command);
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output).process_group(0);
        let child = command.spawn().with_context(|| format!("cannot start {name}"))?;
        Ok(Self { name, child, log })
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Everything it has written so far.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Tries until it succeeds, as [`wait_for`] does, unless the process ends before.
    ///
    /// # Errors
    /// Then, and after 30 seconds; with the end of its log.
    pub fn wait_ready(&mut self, mut attempt: impl FnMut() -> Result<()>) -> Result<()> {
        let name = self.name.clone();
        let result = wait_for(&format!("{name} to be ready"), || {
            if let Some(status) = self.child.try_wait()? {
                return Ok(Some(status));
            }
            attempt().map(|()| None)
        });
        match result {
            Ok(None) => Ok(()),
            Ok(Some(status)) => bail!("{name} ended with {status}; its log: {}", self.log_tail()),
            Err(error) => Err(error.context(format!("{name}'s log: {}", self.log_tail()))),
        }
    }

    /// Whether it has not ended.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn is_running(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_none())
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// When it has ended.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        kill_process(self.pid(), signal).with_context(|| format!("cannot send {signal:?} to {}", self.name))
    }

    /// Sends it a signal and waits for its end.
    ///
    /// # Errors
    /// When it does not end within 30 seconds.
    pub fn end_with(&mut self, signal: Signal) -> Result<ExitStatus> {
        self.signal(signal)?;
        wait_for(&format!("{} to end after {signal:?}; its log: {}", self.name, self.log_tail()), || {
            self.child.try_wait()?.context("still running")
        })
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        let tail = &lines[lines.len().saturating_sub(20)..];
        if tail.is_empty() { "(empty)".to_owned() } else { format!("\n{}", tail.join("\n")) }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // The group lives on while a member does, even when its leader has been reaped.
        let _ = kill_process_group(self.pid(), Signal::KILL);
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- log of {} ---{}", self.name, self.log_tail());
        }
    }
}

/// Runs a program to its end.
///
/// # Errors
/// When it cannot be started; a failure of its own is not one.
pub fn run(program: impl AsRef<OsStr>, configure: impl FnOnce(&mut Command) -> &mut Command) -> Result<Output> {
    let mut command = command_that_dies_with_us(program.as_ref())?;
    let output = configure(&mut command)
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot start {}", program.as_ref().display()))?;
    Ok(Output {
        status: output.status,
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}

/// util-linux's setpriv asks the kernel for the signal and becomes the program; asking it ourselves between fork and
/// exec would take unsafe code.
fn command_that_dies_with_us(program: &OsStr) -> Result<Command> {
    let program = match program.to_str() {
        Some(name) if !name.contains('/') => find_program(name)
            .with_context(|| format!("there is no program {name} here; `cargo xtask test` installs it"))?,
        _ => PathBuf::from(program),
    };
    Ok(match find_program("setpriv") {
        Some(setpriv) => {
            let mut command = Command::new(setpriv);
            command.args(["--pdeathsig", "KILL", "--"]).arg(program);
            command
        }
        None => Command::new(program),
    })
}
