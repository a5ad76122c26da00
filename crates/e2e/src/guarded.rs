//! Servers of others, which must not outlive the story: a shell between us and them ends them when we end.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

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

/// A running program; dropped, it ends.
#[derive(Debug)]
pub struct Guarded {
    shell: Child,
    pid: u32,
}

impl Guarded {
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

    /// `kill -9`, and waits until it is gone; false where it had ended by itself.
    #[must_use]
    pub fn kill(self) -> bool {
        Command::new("kill").args(["-9", &self.pid.to_string()]).status().is_ok_and(|status| status.success())
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        drop(self.shell.stdin.take());
        // It is on its way out already; nothing is left to be done if it is not.
        let _ = self.shell.wait();
    }
}
