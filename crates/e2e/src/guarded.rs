//! Servers of others, which must not outlive the story: a shell between us and them ends them when we end.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::wait_until;

/// Ends the program when its own standard input ends or a signal comes, whatever became of the story.
const GUARD: &str = r#"
log=$1; signal=$2; shift 2
"$@" >>"$log" 2>&1 &
program=$!
trap 'kill -s "$signal" $program 2>/dev/null; exit' TERM INT HUP
echo $program
read -r _
kill -s "$signal" $program 2>/dev/null
wait $program
"#;

/// How long a killed process may take to be gone.
const GONE_LIMIT: Duration = Duration::from_secs(20);

/// Sends a signal; false where there is no such process.
fn send(signal: &str, pid: &str) -> bool {
    let sent = Command::new("kill").args([signal, pid]).stderr(Stdio::null()).status();
    sent.is_ok_and(|status| status.success())
}

/// A running program; dropped, it ends.
#[derive(Debug)]
pub struct Guarded {
    shell: Child,
    pid: u32,
}

impl Guarded {
    /// Its process id.
    #[must_use]
    pub const fn pid(&self) -> u32 {
        self.pid
    }

    /// Starts a program. Its words are appended to `log`; `signal` is what ends it.
    ///
    /// # Panics
    /// Where the system gives no process.
    #[must_use]
    pub fn start(program: &Command, log: &Path, signal: &str) -> Self {
        let own_words = File::options().create(true).append(true).open(log).unwrap();
        let mut shell = Command::new("sh")
            .args(["-c", GUARD, "guard"])
            .arg(log)
            .arg(signal)
            .arg(program.get_program())
            .args(program.get_args())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(own_words)
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(shell.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Self { shell, pid: line.trim().parse().unwrap() }
    }

    /// `kill -9`, of its children too, and waits until all are gone; false where it had ended by itself.
    ///
    /// # Panics
    /// Where one of them does not go.
    #[must_use]
    pub fn kill(self) -> bool {
        let children = Command::new("pgrep").args(["-P", &self.pid.to_string()]).output().unwrap().stdout;
        let children = String::from_utf8_lossy(&children).into_owned();
        let was_running = send("-9", &self.pid.to_string());
        // A child may answer for a moment after its parent is gone.
        for child in children.split_whitespace() {
            send("-9", child);
            wait_until("a child of a killed program is gone", GONE_LIMIT, || !send("-0", child));
        }
        was_running
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        drop(self.shell.stdin.take());
        // It is on its way out already; nothing is left to be done if it is not.
        let _ = self.shell.wait();
    }
}
