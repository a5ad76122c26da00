//! PostgreSQL itself: a server of this test process, on this machine's loopback, killed and started again.
//!
//! `WIKI_TEST_POSTGRES=postgres://…` names another server, whose role may make databases, for stories that do not
//! kill it.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tempfile::TempDir;

use crate::guarded::Guarded;
use crate::{ports, wait_until};

/// A loaded machine makes and starts a server slowly.
const START_LIMIT: Duration = Duration::from_secs(60);
/// Who runs it where the story runs as root: PostgreSQL refuses to.
const UNPRIVILEGED: (&str, u32, u32) = ("nobody", 65534, 65534);

/// A server.
#[derive(Debug)]
pub struct Server {
    port: u16,
    running: Option<Guarded>,
    has_tls: bool,
    // Dropped after the server, which writes into it.
    folder: TempDir,
}

static SHARED: LazyLock<Mutex<Server>> = LazyLock::new(|| Mutex::new(Server::make()));
static DATABASES: AtomicU32 = AtomicU32::new(0);

/// A new database of the shared server, or of `WIKI_TEST_POSTGRES`: its URL.
///
/// # Panics
/// Without PostgreSQL, naming it.
#[must_use]
pub fn database() -> String {
    match std::env::var("WIKI_TEST_POSTGRES").ok().filter(|named| !named.is_empty()) {
        Some(named) => make_database(&named),
        None => make_database(&Server::shared().url()),
    }
}

fn make_database(server: &str) -> String {
    let name = format!("wiki_{}_{}", std::process::id(), DATABASES.fetch_add(1, Ordering::Relaxed));
    ask(server, &format!("CREATE DATABASE {name}"));
    let (address, options) =
        server.split_once('?').map_or((server, String::new()), |(address, options)| (address, format!("?{options}")));
    let (base, _) = address.rsplit_once('/').unwrap();
    format!("{base}/{name}{options}")
}

/// What a query gives, a line a row, its fields separated by `|`.
///
/// # Panics
/// With what the database said.
pub fn ask(url: &str, query: &str) -> String {
    try_ask(url, query).unwrap_or_else(|said| panic!("{query}: {said}"))
}

/// The same; an `Err` has what the database said.
///
/// # Errors
/// Where the query fails or nobody answers.
pub fn try_ask(url: &str, query: &str) -> Result<String, String> {
    let output = Command::new(program("psql"))
        .args([
            "--no-psqlrc",
            "--quiet",
            "--tuples-only",
            "--no-align",
            "--set",
            "ON_ERROR_STOP=1",
            "--command",
            query,
            url,
        ])
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

/// Edits in a database's table; 0 while it does not answer.
#[must_use]
pub fn stored(url: &str) -> usize {
    try_ask(url, "SELECT count(*) FROM edits").map_or(0, |count| count.parse().unwrap_or(0))
}

impl Server {
    /// The server of this test process, running.
    ///
    /// # Panics
    /// Where it cannot be started.
    pub fn shared() -> MutexGuard<'static, Self> {
        let mut server = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        // A story that failed may have left it dead.
        server.start();
        server
    }

    /// A server of one's own.
    ///
    /// # Panics
    /// Where it cannot be made.
    #[must_use]
    pub fn make() -> Self {
        let folder = tempfile::tempdir().unwrap();
        if is_root() {
            std::os::unix::fs::chown(folder.path(), Some(UNPRIVILEGED.1), Some(UNPRIVILEGED.2)).unwrap();
        }
        let output = as_server_user(&program("initdb"))
            .args(["--auth=trust", "--username=postgres", "--encoding=UTF8", "--no-locale", "--no-sync", "--pgdata"])
            .arg(folder.path().join("data"))
            .current_dir("/")
            .output()
            .unwrap();
        assert!(output.status.success(), "initdb: {}", said(&output));
        let mut server = Self { port: ports::free(), running: None, has_tls: false, folder };
        server.start();
        server
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    /// The URL of its first database, as the superuser.
    #[must_use]
    pub fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres", self.port)
    }

    /// A new database: its URL.
    #[must_use]
    pub fn database(&self) -> String {
        make_database(&self.url())
    }

    /// `kill -9` of the server.
    ///
    /// # Panics
    /// Where it had ended by itself.
    pub fn kill(&mut self) {
        if let Some(running) = self.running.take() {
            assert!(running.kill(), "PostgreSQL ended by itself:\n{}", self.log());
        }
    }

    /// Starts it again, with TLS under this certificate.
    ///
    /// # Panics
    /// Where it does not answer in time.
    pub fn use_tls(&mut self, key: &[u8], certificate: &[u8]) {
        self.kill();
        for (name, pem) in [("server.key", key), ("server.crt", certificate)] {
            let file = self.folder.path().join("data").join(name);
            std::fs::write(&file, pem).unwrap();
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
            if is_root() {
                std::os::unix::fs::chown(&file, Some(UNPRIVILEGED.1), Some(UNPRIVILEGED.2)).unwrap();
            }
        }
        self.has_tls = true;
        self.start();
    }

    /// Starts it, unless it runs.
    ///
    /// # Panics
    /// Where it does not answer in time.
    pub fn start(&mut self) {
        if self.running.is_some() {
            return;
        }
        let mut command = as_server_user(&program("postgres"));
        command.arg("-D").arg(self.folder.path().join("data")).args([
            "-p",
            &self.port.to_string(),
            "-c",
            "listen_addresses=127.0.0.1",
            "-c",
            &format!("unix_socket_directories={}", self.folder.path().display()),
            "-c",
            if self.has_tls { "ssl=on" } else { "ssl=off" },
        ]);
        self.running = Some(Guarded::start(&command, &self.folder.path().join("log"), "QUIT"));
        let url = self.url();
        wait_until("PostgreSQL answers", START_LIMIT, || try_ask(&url, "SELECT 1").is_ok());
    }

    /// Stops the server and its backends where they are, until this is dropped: connections stay, and nothing answers.
    ///
    /// # Panics
    /// Where it does not run.
    #[must_use]
    pub fn freeze(&self) -> Frozen {
        let pid = self.running.as_ref().expect("PostgreSQL runs").pid();
        let mut pids = vec![pid];
        // The postmaster first: it starts no more backends then.
        signal("-STOP", &pids);
        pids.extend(children(pid));
        signal("-STOP", &pids);
        Frozen(pids)
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

/// A server that is stopped.
#[derive(Debug)]
pub struct Frozen(Vec<u32>);

impl Drop for Frozen {
    fn drop(&mut self) {
        signal("-CONT", &self.0);
    }
}

fn signal(signal: &str, pids: &[u32]) {
    // A backend may have ended meanwhile.
    let _ = Command::new("kill").arg(signal).args(pids.iter().map(u32::to_string)).output();
}

/// The processes that this one started.
fn children(parent: u32) -> Vec<u32> {
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let is_child = |pid: &u32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // The name, in parentheses, may hold spaces; state and parent follow it.
        let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        after_name.split_whitespace().nth(1) == Some(parent.to_string().as_str())
    };
    pids.filter(is_child).collect()
}

fn as_server_user(program: &Path) -> Command {
    if !is_root() {
        return Command::new(program);
    }
    let (_, user, group) = UNPRIVILEGED;
    let mut command = Command::new("setpriv");
    command.args([format!("--reuid={user}"), format!("--regid={group}"), "--clear-groups".to_owned()]).arg(program);
    command
}

fn is_root() -> bool {
    let output = Command::new("id").arg("--user").output().unwrap();
    output.stdout.trim_ascii() == b"0"
}

/// One of PostgreSQL's programs: on the path, or where Debian keeps them, the newest.
fn program(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let entries = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten();
    let mut folders: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path().join("bin"))).collect();
    folders.sort();
    let mut places = std::env::split_paths(&path).chain(folders.into_iter().rev()).map(|folder| folder.join(name));
    places.find(|place| place.is_file()).unwrap_or_else(|| {
        panic!(
            "the stories on PostgreSQL need `{name}`, which is not here: install it (Debian: postgresql), or name a \
             server in WIKI_TEST_POSTGRES"
        )
    })
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}
