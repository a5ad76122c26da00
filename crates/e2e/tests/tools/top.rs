//! `wiki top`: the page's figures in a terminal.

use std::fs::File;
use std::io::Write as _;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use e2e::demo::Demo;
use e2e::process::{Program, binary};
use e2e::wait_until;
use tempfile::TempDir;

const LIMIT: Duration = Duration::from_secs(40);

fn once(demo: &Demo, options: &[&str]) -> String {
    let program = Program::new("wiki").with(["top", "--once", "--console", &demo.page]).with(options.iter().copied());
    let (code, output, errors) = program.run(LIMIT);
    assert_eq!(code, 0, "{errors}");
    output
}

#[test]
fn once_prints_what_the_broker_describes_as_a_table_and_as_json() {
    let demo = Demo::start(&["--source", "generated"]);
    wait_until("the table names the broker's owners", LIMIT, || {
        let Some(owners) = demo.owners().filter(|owners| owners.values().all(|owned| owned.len() == 3)) else {
            return false;
        };
        let table = once(&demo, &[]);
        owners.iter().all(|(sink, owned)| {
            owned.iter().all(|partition| {
                table.lines().any(|line| line.starts_with(&format!("p{partition} ")) && line.contains(sink))
            })
        })
    });
    let flow = once(&demo, &["--tab", "flow", "--sort", "-1", "--filter", "sink"]);
    let sinks: Vec<&str> = flow.lines().skip(2).filter_map(|line| line.split_whitespace().nth(1)).collect();
    assert_eq!(sinks, ["sink-2", "sink-1"], "{flow}");
    let json: serde_json::Value = serde_json::from_str(&once(&demo, &["--format", "json"])).unwrap();
    assert_eq!(json["board"]["partitions"].as_array().unwrap().len(), 6);
    demo.end();
}

#[test]
fn on_a_terminal_it_goes_on_until_it_is_ended_and_elsewhere_it_says_what_to_do() {
    let demo = Demo::start(&["--source", "generated"]);
    let piped = Program::new("wiki").with(["top", "--console", &demo.page]).run(LIMIT);
    assert_eq!((piped.0, piped.2.lines().count()), (2, 1), "{}", piped.2);
    assert!(piped.2.contains("--once"), "{}", piped.2);
    let nobody = Program::new("wiki").with(["top", "--console", "http://127.0.0.1:1"]).run(LIMIT);
    assert_eq!((nobody.0, nobody.2.lines().count()), (69, 1), "{}", nobody.2);

    for (tab, word) in [("ownership", "committed"), ("flow", "back-pressure")] {
        let mut terminal =
            Terminal::open(&format!("{} top --console {} --tab {tab}", binary("wiki").display(), demo.page));
        wait_until(tab, LIMIT, || terminal.screen().contains(word) && terminal.screen().contains("sink-1"));
        let before = terminal.screen().len();
        wait_until("it goes on", LIMIT, || terminal.screen().len() > before);
        terminal.press(b"q");
        wait_until("it ends", LIMIT, || terminal.child.try_wait().unwrap().is_some_and(|status| status.success()));
    }
    demo.end();
}

/// A terminal that a program runs on.
struct Terminal {
    child: Child,
    keys: File,
    folder: TempDir,
}

impl Terminal {
    /// Runs a command; `script` gives it the terminal, a pipe is what somebody types.
    fn open(command: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let typed = folder.path().join("typed");
        assert!(Command::new("mkfifo").arg(&typed).status().unwrap().success());
        let child = Command::new("sh")
            .args(["-c", "exec script -qfec \"stty rows 24 cols 120; exec $1\" \"$2\" <\"$3\"", "sh", command])
            .args([folder.path().join("seen"), typed.clone()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let keys = File::options().write(true).open(&typed).unwrap();
        Self { child, keys, folder }
    }

    fn press(&mut self, key: &[u8]) {
        self.keys.write_all(key).unwrap();
    }

    /// Everything that was ever written to it.
    fn screen(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(self.folder.path().join("seen")).unwrap_or_default()).into_owned()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // One that ended already is what is wanted; `script` takes its program with it.
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let _ = self.child.wait();
    }
}
