//! A real browser: Chromium without a window, driven by Playwright's core.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// Debian calls it so, others otherwise; `WIKI_TEST_BROWSER` names another.
const NAMES: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];

/// A browser; it ends when dropped.
#[derive(Debug)]
pub struct Browser {
    node: Child,
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    made: usize,
}

/// A page of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page(String);

/// A window's size, and what its user's system asks for.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    /// Width and height in pixels.
    pub size: (u32, u32),
    /// A dark theme.
    pub is_dark: bool,
    /// Less motion.
    pub is_still: bool,
    /// The system's own few colours.
    pub has_forced_colors: bool,
}

impl Default for Look {
    fn default() -> Self {
        Self { size: (1280, 900), is_dark: false, is_still: false, has_forced_colors: false }
    }
}

impl Look {
    fn to_json(self) -> Value {
        json!({
            "viewport": { "width": self.size.0, "height": self.size.1 },
            "colorScheme": if self.is_dark { "dark" } else { "light" },
            "reducedMotion": if self.is_still { "reduce" } else { "no-preference" },
            "forcedColors": if self.has_forced_colors { "active" } else { "none" },
        })
    }
}

fn chromium() -> PathBuf {
    if let Some(named) = std::env::var_os("WIKI_TEST_BROWSER") {
        return named.into();
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).flat_map(|folder| NAMES.map(|name| folder.join(name)));
    let found = found.into_iter().find(|program| program.is_file());
    found.expect("no Chromium: `deploy/setup.sh tests` installs it, WIKI_TEST_BROWSER names another")
}

/// The folder of playwright-core and axe-core, where `deploy/setup.sh tests` puts them.
fn modules() -> PathBuf {
    let home = || Path::new(&std::env::var_os("HOME").unwrap_or_default()).join(".cache");
    let cache = std::env::var_os("XDG_CACHE_HOME").map_or_else(home, PathBuf::from);
    let modules = cache.join("wikipedia-events/browser");
    assert!(modules.join("node_modules/playwright-core").is_dir(), "no playwright-core: run `deploy/setup.sh tests`");
    modules
}

impl Browser {
    /// Starts it.
    ///
    /// # Panics
    /// Where Node or Chromium is missing; so below, where it does not do as told.
    #[must_use]
    pub fn start() -> Self {
        let driver = Path::new(env!("CARGO_MANIFEST_DIR")).join("browser/driver.mjs");
        let mut node = Command::new("node")
            .args([driver, chromium(), modules()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("no Node.js: `deploy/setup.sh tests` installs it");
        let answers = BufReader::new(node.stdout.take().unwrap());
        Self { orders: node.stdin.take(), node, answers, made: 0 }
    }

    fn try_order(&mut self, order: &Value) -> Result<Value, String> {
        writeln!(self.orders.as_mut().unwrap(), "{order}").unwrap();
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        let mut answer: Value =
            serde_json::from_str(&line).unwrap_or_else(|_| panic!("the browser is gone after {order}"));
        match answer.get("failed") {
            Some(why) => Err(format!("{order}: {why}")),
            None => Ok(answer["ok"].take()),
        }
    }

    fn order(&mut self, order: &Value) -> Value {
        self.try_order(order).unwrap_or_else(|why| panic!("{why}"))
    }

    /// A window of its own, with storage and connections of its own.
    pub fn window(&mut self, look: Look) -> String {
        self.made += 1;
        let context = format!("window-{}", self.made);
        self.order(&json!({ "order": "context", "context": context, "look": look.to_json() }));
        context
    }

    /// A tab of a window, at an address.
    pub fn tab(&mut self, window: &str, url: &str) -> Page {
        self.made += 1;
        let page = format!("page-{}", self.made);
        self.order(&json!({ "order": "open", "context": window, "page": page, "url": url }));
        Page(page)
    }

    /// What a script's expression gives.
    pub fn evaluate(&mut self, page: &Page, script: &str) -> Value {
        self.order(&json!({ "order": "evaluate", "page": page.0, "script": script }))
    }

    /// The same, of a page that may be loading.
    pub fn try_evaluate(&mut self, page: &Page, script: &str) -> Option<Value> {
        self.try_order(&json!({ "order": "evaluate", "page": page.0, "script": script })).ok()
    }

    /// Waits until a script's expression is true.
    ///
    /// # Panics
    /// With `what` and all that the page says, where it does not become true in time.
    pub fn wait(&mut self, page: &Page, what: &str, limit: Duration, script: &str) {
        let deadline = Instant::now() + limit;
        while self.evaluate(page, script) != Value::Bool(true) {
            if Instant::now() > deadline {
                let said = self.evaluate(page, "document.body.innerText");
                panic!("not within {limit:?}: {what}; the page says:\n{}", said.as_str().unwrap_or_default());
            }
            std::thread::park_timeout(Duration::from_millis(25));
        }
    }

    /// Clicks what a selector finds first.
    pub fn click(&mut self, page: &Page, selector: &str) {
        self.order(&json!({ "order": "click", "page": page.0, "selector": selector }));
    }

    /// Presses a key, by its name.
    pub fn press(&mut self, page: &Page, key: &str) {
        self.order(&json!({ "order": "press", "page": page.0, "key": key }));
    }

    /// Brings a tab to the front.
    pub fn front(&mut self, page: &Page) {
        self.order(&json!({ "order": "front", "page": page.0 }));
    }

    /// What axe finds wrong.
    pub fn axe(&mut self, page: &Page) -> Vec<String> {
        let found = self.order(&json!({ "order": "axe", "page": page.0 }));
        serde_json::from_value(found).unwrap()
    }

    /// A picture of the window, or of what a selector finds.
    pub fn picture(&mut self, page: &Page, path: &Path, selector: Option<&str>) {
        self.order(&json!({ "order": "picture", "page": page.0, "path": path, "selector": selector }));
    }

    /// Closes a tab.
    pub fn close(&mut self, page: &Page) {
        self.order(&json!({ "order": "close", "page": page.0 }));
    }

    /// Errors of scripts and of the console since the last time.
    pub fn trouble(&mut self) -> Vec<String> {
        let found = self.order(&json!({ "order": "trouble" }));
        serde_json::from_value(found).unwrap()
    }

    /// Every origin that any page asked anything of.
    pub fn origins(&mut self) -> Vec<String> {
        let found = self.order(&json!({ "order": "origins" }));
        serde_json::from_value(found).unwrap()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The driver ends with its orders, and takes the browser with it.
        drop(self.orders.take());
        let _ = self.node.wait();
    }
}
