//! Processes started, killed with `kill -9`, asked to end.

use std::fs::File;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use crate::schedule::{self, Permit};
use crate::wait_until;

/// How long the threads of a process may take to stop.
const STOP_LIMIT: Duration = Duration::from_secs(10);

/// The folder of the workspace's binaries.
///
/// # Panics
/// Where they were not built: `make test` builds them first.
#[must_use]
pub fn binary(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let folder = test.ancestors().find(|folder| folder.join(name).is_file());
    let folder = folder.unwrap_or_else(|| panic!("{name} is not built: run `make build` before the stories"));
    folder.join(name)
}

/// A process; killed when dropped.
#[derive(Debug)]
pub struct Process {
    /// What it is called in messages.
    pub name: String,
    child: Child,
    out: PathBuf,
    error: PathBuf,
    // Dropped last: until then it runs.
    _permit: Permit,
}

/// A command line of one of our binaries, with a clean environment.
#[derive(Clone, Debug)]
pub struct Program {
    binary: String,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    leads_group: bool,
    most_descriptors: Option<u32>,
}

impl Program {
    /// The binary of this name.
    #[must_use]
    pub fn new(binary: &str) -> Self {
        Self {
            binary: binary.to_owned(),
            arguments: Vec::new(),
            environment: Vec::new(),
            leads_group: false,
            most_descriptors: None,
        }
    }

    /// Adds arguments.
    #[must_use]
    pub fn with<S: Into<String>>(mut self, arguments: impl IntoIterator<Item = S>) -> Self {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// Sets a variable.
    #[must_use]
    pub fn set(mut self, key: &str, value: &str) -> Self {
        self.environment.push((key.to_owned(), value.to_owned()));
        self
    }

    /// Gives it a process group of its own, as a shell does.
    #[must_use]
    pub fn leading_a_group(self) -> Self {
        Self { leads_group: true, ..self }
    }

    /// Lets it have so many descriptors, and no more.
    #[must_use]
    pub fn with_descriptors(self, most: u32) -> Self {
        Self { most_descriptors: Some(most), ..self }
    }

    fn command(&self) -> Command {
        let binary = binary(&self.binary);
        let mut command = match self.most_descriptors {
            None => Command::new(binary),
            Some(most) => {
                let mut shell = Command::new("sh");
                shell.args(["-c", &format!("ulimit -n {most} && exec \"$0\" \"$@\"")]).arg(binary);
                shell
            }
        };
        command
            .args(&self.arguments)
            .env_clear()
            .envs(std::env::vars().filter(|(key, _)| !key.starts_with("WIKI_") && key != "RUST_LOG"))
            .env("NO_COLOR", "1")
            .envs(self.environment.iter().map(|(key, value)| (key, value)))
            .stdin(Stdio::null());
        if self.leads_group {
            command.process_group(0);
        }
        command
    }

    /// Starts it; what it says goes into files of `folder`.
    ///
    /// # Panics
    /// Where it cannot be started.
    #[must_use]
    pub fn start(&self, name: &str, folder: &Path) -> Process {
        let (out, error) = (folder.join(format!("{name}.out")), folder.join(format!("{name}.err")));
        let append = |path: &Path| File::options().create(true).append(true).open(path).unwrap();
        let permit = schedule::shared();
        let child = self.command().stdout(append(&out)).stderr(append(&error)).spawn().unwrap();
        Process { name: name.to_owned(), child, out, error, _permit: permit }
    }

    /// Runs it to its end: exit code, standard output, standard error.
    ///
    /// # Panics
    /// Where it cannot be started, or does not end within `limit`.
    #[must_use]
    pub fn run(&self, limit: Duration) -> (i32, String, String) {
        let folder = tempfile::tempdir().unwrap();
        let mut process = self.start("run", folder.path());
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = process.ended() {
                return (status.code().unwrap_or(-1), process.output(), process.errors());
            }
            assert!(Instant::now() < deadline, "{self:?} runs longer than {limit:?}:\n{}", process.errors());
            std::thread::park_timeout(Duration::from_millis(10));
        }
    }
}

impl Process {
    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Its status, if it ended.
    ///
    /// # Panics
    /// Where the system does not say.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// `kill -9`, and waits until it is gone.
    pub fn kill(&mut self) {
        // One that is gone already is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Sends a signal by name, such as `TERM` or `INT`.
    ///
    /// # Panics
    /// Where there is no `kill`.
    pub fn signal(&self, signal: &str) {
        let sent = Command::new("kill").args([format!("-{signal}"), self.id().to_string()]).status().unwrap();
        assert!(sent.success(), "{} cannot be signalled", self.name);
    }

    /// SIGSTOP, and waits until none of its threads runs: it does nothing more before it is sent CONT.
    ///
    /// # Panics
    /// Where they do not stop.
    pub fn stop(&self) {
        self.signal("STOP");
        let is_stopped = |task: &Path| {
            let status = std::fs::read_to_string(task.join("status")).unwrap_or_default();
            status.lines().any(|line| line.starts_with("State:\tT"))
        };
        wait_until("a stopped process stands still", STOP_LIMIT, || {
            let tasks = std::fs::read_dir(format!("/proc/{}/task", self.id())).unwrap();
            tasks.map(|task| task.unwrap().path()).all(|task| is_stopped(&task))
        });
    }

    /// Sends a signal to the whole process group, as Ctrl-C in a terminal does.
    ///
    /// # Panics
    /// Where there is no `kill`, or the process leads no group.
    pub fn signal_group(&self, signal: &str) {
        let group = format!("-{}", self.id());
        let sent = Command::new("kill").args([&format!("-{signal}"), "--", &group]).status().unwrap();
        assert!(sent.success(), "the group of {} cannot be signalled", self.name);
    }

    /// Sends SIGTERM and waits: exit code and how long it took.
    ///
    /// # Panics
    /// Where it does not end within `limit`.
    pub fn terminate(&mut self, limit: Duration) -> (Option<i32>, Duration) {
        let started = Instant::now();
        self.signal("TERM");
        loop {
            if let Some(status) = self.ended() {
                return (status.code(), started.elapsed());
            }
            assert!(started.elapsed() < limit, "{} does not end within {limit:?}", self.name);
            std::thread::park_timeout(Duration::from_millis(10));
        }
    }

    /// What it wrote on standard output so far.
    #[must_use]
    pub fn output(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.out).unwrap_or_default()).into_owned()
    }

    /// What it wrote on standard error so far.
    #[must_use]
    pub fn errors(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.error).unwrap_or_default()).into_owned()
    }

    /// Resident memory in bytes.
    ///
    /// # Panics
    /// Where the process is gone.
    #[must_use]
    pub fn resident_bytes(&self) -> u64 {
        self.memory("VmRSS:").unwrap()
    }

    /// The most resident memory that it had so far, in bytes; none once it has ended.
    #[must_use]
    pub fn peak_bytes(&self) -> Option<u64> {
        self.memory("VmHWM:")
    }

    fn memory(&self, name: &str) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id())).ok()?;
        let line = status.lines().find(|line| line.starts_with(name))?;
        Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? * 1024)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}
