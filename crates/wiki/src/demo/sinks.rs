//! The sinks, each a child process of this binary.

use std::fs::File;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use console::control::{Action, Answer};
use kafka::{KafkaConfig, Rebalancing};
use rustix::process::{Pid, Signal, kill_process};
use service::Failure;

use super::Options;

/// How long a sink may take to end by itself.
const END_LIMIT: Duration = Duration::from_secs(6);
/// A sink that ends sooner than this after its start cannot run at all.
const TOO_SOON: Duration = Duration::from_secs(2);

/// As many sinks as a screen can show.
const MOST: u16 = 12;

/// The sinks of a demo.
pub(crate) struct Sinks {
    count: u16,
    arguments: Vec<String>,
    rebalance: Rebalancing,
    logs: PathBuf,
    running: Vec<Sink>,
    /// Once all have ended these start, under another protocol.
    again: Option<Vec<String>>,
}

struct Sink {
    name: String,
    child: Child,
    started: Instant,
    /// Until when it may end by itself, where it is to end.
    ending: Option<Instant>,
}

impl Sinks {
    pub(crate) fn new(options: &Options, kafka: &KafkaConfig, table: &Path) -> Self {
        let arguments = [
            ("--kafka-bootstrap-servers", kafka.kafka_bootstrap_servers.clone()),
            ("--topic-prefix", kafka.topic_prefix.clone()),
            ("--writer", "sqlite".to_owned()),
            ("--sqlite-file", table.display().to_string()),
            ("--http", "127.0.0.1:0".to_owned()),
        ];
        Self {
            count: options.sinks,
            arguments: arguments.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value]).collect(),
            rebalance: options.rebalance,
            logs: options.data.clone(),
            running: Vec::new(),
            again: None,
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
            .args(["--rebalance", self.rebalance.as_str()])
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
        Ok(Sink { name, child, started: Instant::now(), ending: None })
    }

    /// Starts killed sinks again; one that cannot run ends the demo with its own words.
    pub(crate) fn watch(&mut self) -> Result<(), Failure> {
        for index in (0..self.running.len()).rev() {
            let Some(sink) = self.running.get_mut(index) else { continue };
            let Ok(Some(status)) = sink.child.try_wait() else {
                sink.end_at_last();
                continue;
            };
            if sink.ending.is_some() {
                self.running.remove(index);
                continue;
            }
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
        if self.running.is_empty() {
            for name in self.again.take().unwrap_or_default() {
                let sink = self.start(name)?;
                self.running.push(sink);
            }
        }
        Ok(())
    }

    /// Does what the page wishes.
    pub(crate) fn act(&mut self, action: Action) -> Answer {
        match action {
            Action::Add {} => self.add(),
            Action::Stop { sink } => {
                self.living(&sink)?.end();
                Ok(format!("{sink} ends in order"))
            }
            Action::Kill { sink } => {
                let killed = self.living(&sink)?;
                killed.child.kill().map_err(|error| format!("{sink} cannot be killed: {error}"))?;
                // Nobody starts it again: whoever killed it wants to see it gone.
                killed.ending = Some(Instant::now() + END_LIMIT);
                Ok(format!("{sink} is killed; the group misses it in a few seconds"))
            }
            Action::Slow { sink } => {
                let slowed = self.living(&sink)?;
                let pid = i32::try_from(slowed.child.id()).ok().and_then(Pid::from_raw);
                let pid = pid.ok_or_else(|| format!("{sink} has no process"))?;
                kill_process(pid, Signal::USR1).map_err(|error| format!("{sink} cannot be slowed: {error}"))?;
                Ok(format!("{sink} was told to change its speed"))
            }
            Action::Protocol { protocol } => self.switch(&protocol),
        }
    }

    fn add(&mut self) -> Answer {
        if self.again.is_some() {
            return Err("the group is starting anew; try again in a moment".to_owned());
        }
        let taken = |number: &u16| self.running.iter().any(|sink| sink.name == format!("sink-{number}"));
        let free = (1..=MOST).find(|number| !taken(number));
        let name = format!("sink-{}", free.ok_or_else(|| format!("{MOST} sinks are as many as can be shown"))?);
        let sink = self.start(name.clone()).map_err(|failure| failure.to_string())?;
        self.running.push(sink);
        Ok(format!("{name} starts"))
    }

    /// One protocol a group: all end in order, and start again under the other.
    fn switch(&mut self, protocol: &str) -> Answer {
        let wanted = Rebalancing::ALL.into_iter().find(|known| known.as_str() == protocol);
        let wanted =
            wanted.ok_or_else(|| format!("there is no protocol {protocol}: cooperative, eager or consumer"))?;
        if wanted == self.rebalance {
            return Ok(format!("{protocol} it is already"));
        }
        self.rebalance = wanted;
        let names: Vec<String> =
            self.running.iter().filter(|sink| sink.ending.is_none()).map(|sink| sink.name.clone()).collect();
        self.again.get_or_insert(names);
        self.running.iter_mut().filter(|sink| sink.ending.is_none()).for_each(Sink::end);
        Ok(format!("all sinks end, and start again under {protocol}"))
    }

    fn living(&mut self, name: &str) -> Result<&mut Sink, String> {
        let living = self.running.iter_mut().find(|sink| sink.name == name && sink.ending.is_none());
        living.ok_or_else(|| format!("there is no running {name}"))
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

impl Sink {
    /// Closes its standard input, which ends it in order.
    fn end(&mut self) {
        drop(self.child.stdin.take());
        self.ending = Some(Instant::now() + END_LIMIT);
    }

    /// Kills it where it had time enough.
    fn end_at_last(&mut self) {
        if self.ending.is_some_and(|until| Instant::now() > until) {
            tracing::warn!("{} does not end by itself: killed", self.name);
            // Gone meanwhile is what is wanted.
            let _ = self.child.kill();
        }
    }
}

impl Drop for Sinks {
    fn drop(&mut self) {
        self.stop_all();
    }
}
