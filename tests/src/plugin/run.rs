//! One run of the plugin, from its start to what can be said about it afterwards.
//!
//! Output is collected by threads while the process runs, so that neither pipe can fill and stop it, and its largest
//! memory is read every few milliseconds, since nothing can be asked about a process that is gone.

use std::io::{Read, Write};
use std::process::{Child, Command, ExitStatus};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::process;

/// How long one run may take before it is killed and the case fails.
const RUN_WITHIN: Duration = Duration::from_mins(10);

/// A run that has not ended yet. Dropping it kills it.
#[derive(Debug)]
pub struct Running {
    said: String,
    child: Child,
    begun: Instant,
    stdout: Reader,
    stderr: Reader,
    peak_memory: u64,
}

/// Text that a thread collects from a pipe while the process runs.
#[derive(Debug)]
struct Reader {
    text: Arc<Mutex<Vec<u8>>>,
    thread: Option<JoinHandle<()>>,
}

impl Reader {
    fn start(pipe: Option<impl Read + Send + 'static>) -> Self {
        let text = Arc::<Mutex<Vec<u8>>>::default();
        let collected = Arc::clone(&text);
        let thread = pipe.map(|mut pipe| {
            std::thread::spawn(move || {
                let mut buffer = vec![0; 64 * 1024];
                while let Ok(count @ 1..) = pipe.read(&mut buffer) {
                    let read = buffer.get(..count).unwrap_or_default();
                    collected
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .extend_from_slice(read);
                }
            })
        });
        Self { text, thread }
    }

    fn so_far(&self) -> String {
        String::from_utf8_lossy(&self.text.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }

    fn finish(&mut self) -> String {
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        self.so_far()
    }
}

impl Running {
    pub(crate) fn start(command: Command, said: String) -> Result<Self> {
        let begun = Instant::now();
        let mut child = process::spawn(command)?;
        let (stdout, stderr) = (
            Reader::start(child.stdout.take()),
            Reader::start(child.stderr.take()),
        );
        Ok(Self {
            said,
            child,
            begun,
            stdout,
            stderr,
            peak_memory: 0,
        })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has printed on stderr so far.
    pub fn stderr_so_far(&self) -> String {
        self.stderr.so_far()
    }

    /// What it has printed on stdout so far.
    pub fn stdout_so_far(&self) -> String {
        self.stdout.so_far()
    }

    /// Types on its terminal, where it has one.
    pub fn types(&mut self, keys: &str) -> Result<()> {
        let terminal = self.child.stdin.as_mut().context("the run has no terminal")?;
        terminal.write_all(keys.as_bytes())?;
        Ok(terminal.flush()?)
    }

    /// Presses Ctrl-C.
    pub fn interrupt(&self) -> Result<()> {
        process::signal(self.pid(), "INT")
    }

    /// Kills it as a power cut would, with no chance to clean up.
    pub fn kill(&self) -> Result<()> {
        process::signal(self.pid(), "KILL")
    }

    /// How it ended, if it did.
    pub fn exited(&mut self) -> Result<Option<ExitStatus>> {
        self.look_at_memory();
        Ok(self.child.try_wait()?)
    }

    /// Waits until `reached` says so; the run's end before that is an error.
    pub fn wait_until(&mut self, what: &str, mut reached: impl FnMut(&Self) -> bool) -> Result<()> {
        while !reached(self) {
            if let Some(status) = self.exited()? {
                bail!(
                    "{} ended ({status}) before {what}:\n{}",
                    self.said,
                    self.stderr.finish()
                );
            }
            if self.begun.elapsed() > RUN_WITHIN {
                bail!("{}: still waiting for {what}", self.said);
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        // What was waited for may be there at the first look, and the next thing may be the end of it.
        self.look_at_memory();
        Ok(())
    }

    fn look_at_memory(&mut self) {
        self.peak_memory = self.peak_memory.max(process::peak_memory(self.pid()));
    }

    /// Waits for its end.
    pub fn wait(mut self) -> Result<Ran> {
        let status = loop {
            if let Some(status) = self.exited()? {
                break status;
            }
            if self.begun.elapsed() > RUN_WITHIN {
                let seconds = RUN_WITHIN.as_secs();
                bail!(
                    "{} is still running after {seconds} s; stderr so far:\n{}",
                    self.said,
                    self.stderr_so_far()
                );
            }
            std::thread::sleep(Duration::from_millis(2));
        };
        let took = self.begun.elapsed();
        let (stdout, stderr) = (self.stdout.finish(), self.stderr.finish());
        // As shells do: a process ended by a signal counts as 128 plus the signal.
        let code = status.code().unwrap_or_else(|| {
            128 + std::os::unix::process::ExitStatusExt::signal(&status).unwrap_or_default()
        });
        Ok(Ran {
            said: self.said.clone(),
            code,
            stdout,
            stderr,
            took,
            peak_memory: self.peak_memory,
        })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A run that has ended.
#[derive(Debug, Clone)]
pub struct Ran {
    said: String,
    /// The exit code; 128 plus the signal for a process that was killed.
    pub code: i32,
    /// What it printed.
    pub stdout: String,
    /// Progress, warnings and errors.
    pub stderr: String,
    /// From start to end.
    pub took: Duration,
    /// Its largest resident size (VmHWM) in bytes, as last seen a few milliseconds before the end.
    pub peak_memory: u64,
}

impl std::fmt::Display for Ran {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            said,
            code,
            stdout,
            stderr,
            ..
        } = self;
        write!(
            formatter,
            "{said}\nexit code {code}\n--- stdout\n{stdout}--- stderr\n{stderr}---"
        )
    }
}

impl Ran {
    /// It did what it was asked to.
    #[track_caller]
    pub fn ok(self) -> Self {
        self.exits(0)
    }

    /// It ended with this code.
    #[track_caller]
    pub fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, code, "wanted exit code {code}: {self}");
        self
    }

    /// Its stdout contains this text.
    #[track_caller]
    pub fn stdout_has(self, text: &str) -> Self {
        assert!(self.stdout.contains(text), "stdout lacks {text:?}: {self}");
        self
    }

    /// Its stderr contains this text.
    #[track_caller]
    pub fn stderr_has(self, text: &str) -> Self {
        assert!(self.stderr.contains(text), "stderr lacks {text:?}: {self}");
        self
    }

    /// Neither stdout nor stderr contains this text.
    #[track_caller]
    pub fn nowhere_has(self, text: &str) -> Self {
        assert!(
            !self.stdout.contains(text) && !self.stderr.contains(text),
            "the output has {text:?}: {self}"
        );
        self
    }
}
