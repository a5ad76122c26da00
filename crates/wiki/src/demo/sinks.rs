//! The sinks, each a child process of this binary.

use std::fs::File;
use std::net::SocketAddr;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use service::Failure;

use super::Options;

/// How long a sink may take to end by itself.
const END_LIMIT: Duration = Duration::from_secs(6);
/// A sink that ends sooner than this after its start cannot run at all.
const TOO_SOON: Duration = Duration::from_secs(2);

/// The sinks of a demo.
pub(crate) struct Sinks {
    count: u16,
    arguments: Vec<String>,
    logs: PathBuf,
    running: Vec<Sink>,
}

struct Sink {
    name: String,
    child: Child,
    started: Instant,
}

impl Sinks {
    pub(crate) fn new(options: &Options, broker: SocketAddr, table: &Path) -> Self {
        let arguments = [
            ("--kafka-bootstrap-servers", broker.to_string()),
            ("--writer", "sqlite".to_owned()),
            ("--sqlite-file", table.display().to_string()),
            ("--rebalance", options.rebalance.as_str().to_owned()),
            ("--http", "127.0.0.1:0".to_owned()),
        ];
        Self {
            count: options.sinks,
            arguments: arguments.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value]).collect(),
            logs: options.data.clone(),
            running: Vec::new(),
        }
    }

    pub(crate) fn start_all(&mut self) -> Result<(), Failure> {
        for number in 1..=self.count {
            let sink = self.start(format!("sink-{number}"))?;
            self.running.push(sink);
        }
        Ok(())
    }

    fn start(&self, name: String) -> Result<Sink, Failure> {
        let failed = |error: std::io::Error| Failure::Runtime(format!("{name} cannot be started: {error}"));
        let program = std::env::current_exe().map_err(failed)?;
        let log =
            File::options().create(true).append(true).open(self.logs.join(format!("{name}.log"))).map_err(failed)?;
        let child = Command::new(program)
            .args(["run", "sink", "--end-with-stdin", "--sink-name", &name])
            .args(&self.arguments)
            // The shell's settings are for other pipelines.
            .env_clear()
            .envs(std::env::vars_os().filter(|(key, _)| !key.to_string_lossy().starts_with("WIKI_")))
            // Ctrl-C in a terminal reaches its whole process group: the sinks have to outlive it, or what was served
            // last would not be stored.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .map_err(failed)?;
        Ok(Sink { name, child, started: Instant::now() })
    }

    /// Starts killed sinks again; one that cannot run ends the demo with its own words.
    pub(crate) fn watch(&mut self) -> Result<(), Failure> {
        for index in 0..self.running.len() {
            let Some(sink) = self.running.get_mut(index) else { continue };
            let Ok(Some(status)) = sink.child.try_wait() else { continue };
            let (name, lived) = (sink.name.clone(), sink.started.elapsed());
            if lived < TOO_SOON && status.code().is_some() {
                let log = std::fs::read_to_string(self.logs.join(format!("{name}.log"))).unwrap_or_default();
                let last = log.lines().last().unwrap_or("it left no word").to_owned();
                return Err(Failure::Runtime(format!("{name} ended at once: {last}")));
            }
            println!("{name} is gone ({status}); its partitions move, and it starts again");
            let again = self.start(name)?;
            if let Some(place) = self.running.get_mut(index) {
                *place = again;
            }
        }
        Ok(())
    }

    /// Closes each child's standard input, which ends it in order; one that does not end is killed.
    pub(crate) fn stop_all(&mut self) {
        for sink in &mut self.running {
            drop(sink.child.stdin.take());
        }
        let deadline = Instant::now() + END_LIMIT;
        for sink in &mut self.running {
            while Instant::now() < deadline && matches!(sink.child.try_wait(), Ok(None)) {
                std::thread::park_timeout(Duration::from_millis(20));
            }
            if matches!(sink.child.try_wait(), Ok(None)) {
                tracing::warn!("{} does not end by itself: killed", sink.name);
                // Gone meanwhile is what is wanted.
                let _ = sink.child.kill();
                let _ = sink.child.wait();
            }
        }
        self.running.clear();
    }
}

impl Drop for Sinks {
    fn drop(&mut self) {
        self.stop_all();
    }
}
