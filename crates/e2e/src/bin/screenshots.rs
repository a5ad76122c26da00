//! The pictures of the documents, made from the page itself: `make screenshots`.

use std::path::Path;
use std::time::Duration;

use e2e::browser::{Browser, Look, Page};
use e2e::demo::{Demo, click_on, expect_exact};

const LIMIT: Duration = Duration::from_secs(60);
/// A picture shows more when something has happened before it.
const HISTORY: &str = "document.querySelectorAll('#log li[data-over=true]').length >= 4";

fn main() {
    let folder = std::env::args().nth(1).unwrap_or_else(|| "docs/images".to_owned());
    let folder = Path::new(&folder);
    let demo = Demo::start(&["--source", "generated", "--sinks", "2"]);
    let mut browser = Browser::start();
    let window = browser.window(Look { size: (1280, 1180), ..Look::default() });
    let page = browser.tab(&window, &demo.page);
    expect_exact(&mut browser, &page, &demo, 2);
    at_rest(&mut browser, &page, 1);
    browser.click(&page, "#add-sink");
    expect_exact(&mut browser, &page, &demo, 3);
    at_rest(&mut browser, &page, 2);
    click_on(&mut browser, &page, "sink-1", "stop");
    expect_exact(&mut browser, &page, &demo, 2);
    at_rest(&mut browser, &page, 3);
    browser.click(&page, "#add-sink");
    expect_exact(&mut browser, &page, &demo, 3);
    browser.wait(&page, "a history", LIMIT, HISTORY);
    browser.wait(
        &page,
        "a minute of it",
        LIMIT * 2,
        "document.querySelectorAll('#rate-chart path')[0].getAttribute('d').split('L').length > 8",
    );
    browser.picture(&page, &folder.join("page.png"), None);
    looks(&mut browser, &demo, folder);
    killed(&mut browser, &page, &demo, folder);
    drop(browser);
    demo.end();
    println!("pictures are in {}", folder.display());
}

fn at_rest(browser: &mut Browser, page: &Page, rebalances: usize) {
    let settled = format!("document.querySelectorAll('#log li[data-over=true]').length >= {rebalances}");
    browser.wait(page, "the log has settled", LIMIT, &settled);
}

fn looks(browser: &mut Browser, demo: &Demo, folder: &Path) {
    let dark = Look { size: (1280, 1180), is_dark: true, ..Look::default() };
    let phone = Look { size: (360, 780), ..Look::default() };
    for (look, name) in [(dark, "page-dark.png"), (phone, "page-phone.png")] {
        let window = browser.window(look);
        let page = browser.tab(&window, &demo.page);
        let many = "document.querySelectorAll('#edits li').length >= 12 && document.querySelectorAll('#bubbles g').length > 15";
        let is_drawn = if look.size.0 < 600 { "document.querySelectorAll('.row').length === 6" } else { many };
        browser.wait(&page, name, LIMIT, is_drawn);
        browser.picture(&page, &folder.join(name), None);
        browser.close(&page);
    }
}

/// Tiles that move are seen when they have arrived.
const STILL: &str =
    "document.getAnimations().every((animation) => !animation.effect.target.classList.contains('tile'))";

/// A sink killed: silent, its partitions standing still, then lost.
fn killed(browser: &mut Browser, page: &Page, demo: &Demo, folder: &Path) {
    click_on(browser, page, "sink-2", "kill");
    browser.wait(
        page,
        "its partitions stand still",
        LIMIT,
        "document.querySelectorAll('.nobody .tile.in_flight').length === 2",
    );
    browser.wait(page, "tiles have arrived", LIMIT, STILL);
    browser.picture(page, &folder.join("killed.png"), Some("#ownership"));
    expect_exact(browser, page, demo, 2);
    let lost = "document.querySelector('.card[data-replica=\"sink-2\"]')?.dataset.state === 'lost'";
    browser.wait(page, "lost", LIMIT, lost);
    browser.wait(page, "tiles have arrived", LIMIT, STILL);
    browser.picture(page, &folder.join("lost.png"), Some("#ownership"));
}
