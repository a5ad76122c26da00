//! The console's page in a real browser, on a demo that runs.

use std::time::{Duration, Instant};

use e2e::browser::{Browser, Look, Page};
use e2e::demo::{Demo, click_on, expect_exact};
use e2e::{schedule, wait_until};
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(40);
const FIRST_EDIT: Duration = Duration::from_secs(3);

#[test]
fn scaling_by_the_page_shows_exactly_what_the_broker_describes() {
    let demo = Demo::start(&["--source", "generated", "--sinks", "1"]);
    let started = Instant::now();
    let mut browser = Browser::start();
    let window = browser.window(Look::default());
    let page = browser.tab(&window, &demo.page);
    browser.wait(&page, "the first edit", LIMIT, "document.querySelectorAll('#edits li').length > 0");
    println!("an edit on the page {:.1} s after the banner, browser's start included", started.elapsed().as_secs_f64());
    let head = "/^127.0.0.1:\\d+ connected for 00:.*; brokers 1 of 1; group /.test(document.getElementById('sources').textContent)";
    browser.wait(&page, "the head names stream, brokers and group", LIMIT, head);
    expect_exact(&mut browser, &page, &demo, 1);
    for (sinks, clicks) in [(3, 2), (7, 4)] {
        for _ in 0..clicks {
            browser.click(&page, "#add-sink");
        }
        expect_exact(&mut browser, &page, &demo, sinks);
    }
    let standby = "document.querySelectorAll('.card[data-state=standby]').length === 1";
    browser.wait(&page, "the seventh stands by", LIMIT, standby);
    for sink in ["sink-2", "sink-3", "sink-5", "sink-6", "sink-7"] {
        click_on(&mut browser, &page, sink, "stop");
    }
    expect_exact(&mut browser, &page, &demo, 2);
    let log = browser.evaluate(&page, "document.getElementById('log').textContent");
    assert!(log.as_str().unwrap().contains("left"), "{log}");
    assert_eq!(browser.trouble(), Vec::<String>::new());
    drop(browser);
    demo.end();
}

#[test]
fn a_killed_sink_is_shown_as_lost_with_its_partitions_pause_and_their_new_owners() {
    let demo = Demo::start(&["--source", "generated", "--sinks", "3"]);
    let mut browser = Browser::start();
    let window = browser.window(Look::default());
    let page = browser.tab(&window, &demo.page);
    expect_exact(&mut browser, &page, &demo, 3);
    click_on(&mut browser, &page, "sink-2", "kill");
    let silent = "document.querySelector('.card[data-replica=\"sink-2\"]')?.dataset.state === 'silent'";
    browser.wait(&page, "silent first", LIMIT, silent);
    let standing = "[...document.querySelectorAll('.nobody .tile.in_flight small')].filter((text) => text.textContent.includes('stands still')).length === 2";
    browser.wait(&page, "its partitions stand still, and the page counts", LIMIT, standing);
    let lost = "document.querySelector('.card[data-replica=\"sink-2\"]')?.dataset.state === 'lost'";
    browser.wait(&page, "then lost", LIMIT, lost);
    expect_exact(&mut browser, &page, &demo, 2);
    let logged =
        "document.querySelector('#log li[data-over=true] .lost')?.textContent.includes('sink-2 LOST') ?? false";
    browser.wait(&page, "the log says so", LIMIT, logged);
    let entry = browser.evaluate(&page, "document.querySelector('#log li:has(.lost)').textContent");
    println!("{entry}");
    assert_eq!(browser.trouble(), Vec::<String>::new());
    drop(browser);
    demo.end();
}

#[test]
fn eight_tabs_are_live_at_once_and_one_takes_over_from_the_tab_that_leads() {
    let demo = Demo::start(&["--source", "generated"]);
    let mut browser = Browser::start();
    let window = browser.window(Look::default());
    let mut tabs: Vec<Page> = (0..8).map(|_| browser.tab(&window, &demo.page)).collect();
    let stored = |browser: &mut Browser, page: &Page| {
        let text = browser.evaluate(page, "document.getElementById('edits-text').textContent");
        let digits: String =
            text.as_str().unwrap().chars().take_while(|c| !c.is_alphabetic()).filter(char::is_ascii_digit).collect();
        digits.parse::<u64>().unwrap_or(0)
    };
    let all_go_on = |browser: &mut Browser, tabs: &[Page]| {
        for (number, page) in tabs.iter().enumerate() {
            let before = stored(browser, page);
            wait_until(&format!("tab {number} goes on from {before}"), LIMIT, || stored(browser, page) > before + 20);
        }
    };
    all_go_on(&mut browser, &tabs);
    // The first tab leads: it holds the one connection of this browser.
    let first = tabs.remove(0);
    browser.close(&first);
    all_go_on(&mut browser, &tabs);
    assert_eq!(browser.trouble(), Vec::<String>::new());
    drop(browser);
    demo.end();
}

#[test]
fn the_page_is_accessible_in_every_look_and_by_the_keyboard_alone() {
    let demo = Demo::start(&["--source", "generated"]);
    let mut browser = Browser::start();
    let looks = [
        Look::default(),
        Look { is_dark: true, ..Look::default() },
        Look { is_still: true, is_dark: true, size: (360, 800), ..Look::default() },
        Look { size: (360, 800), ..Look::default() },
        Look { has_forced_colors: true, ..Look::default() },
        // A window of 1280 pixels at 400 %.
        Look { size: (320, 256), ..Look::default() },
    ];
    for look in looks {
        let window = browser.window(look);
        for view in ["board", "partitions", "table"] {
            let page = browser.tab(&window, &format!("{}?view={view}", demo.page));
            browser.wait(&page, "edits are shown", LIMIT, "document.querySelectorAll('#edits li').length > 3");
            browser.wait(
                &page,
                "partitions are shown",
                LIMIT,
                "document.querySelectorAll('[data-partition]').length >= 6",
            );
            let found = browser.axe(&page);
            assert_eq!(found, Vec::<String>::new(), "{look:?}, {view}");
            let over = browser.evaluate(&page, "document.documentElement.scrollWidth - innerWidth");
            assert!(over.as_i64().unwrap() <= 0, "{look:?}, {view}: {over} pixels too wide");
            let bubbles = browser.evaluate(&page, "document.querySelectorAll('#bubbles g').length");
            assert!(!look.is_still || bubbles == json!(0), "nothing moves where that is asked for");
            let nodes = browser.evaluate(&page, "document.querySelectorAll('#edits *, #bubbles *').length");
            assert!(nodes.as_u64().unwrap() <= 200, "{nodes} elements for edits");
            browser.close(&page);
        }
    }
    by_keyboard(&mut browser, &demo);
    assert_eq!(browser.trouble(), Vec::<String>::new());
    drop(browser);
    demo.end();
}

/// Every control can be reached with Tab; single keys act where nothing has the focus.
fn by_keyboard(browser: &mut Browser, demo: &Demo) {
    let window = browser.window(Look::default());
    let page = browser.tab(&window, &demo.page);
    browser.wait(&page, "partitions are shown", LIMIT, "document.querySelectorAll('.tile').length === 6");
    for (key, expected) in [("t", "table tbody tr"), ("p", ".row"), ("b", ".tile")] {
        browser.press(&page, key);
        browser.wait(&page, key, LIMIT, &format!("document.querySelectorAll('#board {expected}').length === 6"));
    }
    browser.press(&page, "Space");
    browser.wait(&page, "paused", LIMIT, "document.getElementById('pause').getAttribute('aria-pressed') === 'true'");
    browser.press(&page, "?");
    browser.wait(&page, "help is open", LIMIT, "document.getElementById('help').open");
    browser.press(&page, "Escape");
    browser.wait(&page, "help is closed", LIMIT, "!document.getElementById('help').open");
    let free = "document.activeElement === document.body";
    browser.wait(&page, "the focus is free again", LIMIT, free);
    browser.press(&page, "/");
    browser.wait(&page, "the filter has the focus", LIMIT, "document.activeElement.id === 'filter-title'");
    // The theme that is chosen wins over the system's.
    let ground = "getComputedStyle(document.body).backgroundColor";
    let choose = "((select) => { select.value = 'dark'; select.dispatchEvent(new Event('change')); })(document.getElementById('theme'))";
    browser.evaluate(&page, choose);
    assert_eq!(browser.evaluate(&page, ground), json!("rgb(16, 22, 28)"));
    // From the top: the first stop behind the skip link is the pause.
    let mut reached = Vec::new();
    browser.evaluate(&page, "document.activeElement.blur()");
    browser.evaluate(&page, "document.querySelector('.skip').focus()");
    for _ in 0..60 {
        browser.press(&page, "Tab");
        let id =
            browser.evaluate(&page, "document.activeElement.id || document.activeElement.textContent.slice(0, 20)");
        reached.push(id.as_str().unwrap_or_default().to_owned());
    }
    assert_eq!(reached.first().map(String::as_str), Some("pause"), "{reached:?}");
    for control in
        ["sound", "theme", "tour-start", "help-open", "add-sink", "filter-wiki", "filter-title", "stop", "kill"]
    {
        assert!(reached.iter().any(|id| id == control), "{control} is not reached: {reached:?}");
    }
    let tile = "document.querySelector('.tile').focus()";
    browser.evaluate(&page, tile);
    browser.press(&page, "Enter");
    browser.wait(&page, "records are shown", LIMIT, "document.querySelectorAll('#drawer summary').length > 0");
}

/// A stream of edits with titles that try to be more than text.
fn hostile_recording(folder: &std::path::Path) -> std::path::PathBuf {
    let titles = [
        "<img src=x onerror=\"document.title='owned'\">",
        "</script><script>document.title='owned'</script>",
        "\u{202e}txet desrever\u{202c}",
        "مقالة عن القدس 12",
        "ערך על ירושלים",
        "javascript:document.title='owned'",
    ];
    let lines = titles.iter().enumerate().map(|(number, title)| {
        let event = json!({
            "$schema": "/mediawiki/recentchange/1.0.0",
            "meta": { "id": format!("event-{number}"), "domain": if number == 5 { "evil\" onclick=\"x" } else { "ar.wikipedia.org" },
                "dt": "2026-01-02T03:04:05Z", "stream": "mediawiki.recentchange", "topic": "eqiad.mediawiki.recentchange",
                "partition": 0, "offset": 1000 + number },
            "id": number, "type": "edit", "namespace": 0, "title": title, "comment": title, "timestamp": 1_767_323_045 + number,
            "user": title, "bot": false, "wiki": "arwiki", "length": { "old": 10, "new": 30 }, "revision": { "old": 1, "new": 2 },
        });
        format!("{event}\n")
    });
    let path = folder.join("hostile.jsonl");
    std::fs::write(&path, lines.collect::<String>()).unwrap();
    path
}

#[test]
fn titles_are_text_whatever_they_hold_and_nothing_is_asked_of_other_servers() {
    let folder = tempfile::tempdir().unwrap();
    let recording = hostile_recording(folder.path());
    let demo = Demo::start(&["--source", &recording.display().to_string()]);
    let mut browser = Browser::start();
    let window = browser.window(Look::default());
    let page = browser.tab(&window, &demo.page);
    browser.wait(&page, "all six are shown", LIMIT, "document.querySelectorAll('#edits li').length === 6");
    let inside =
        browser.evaluate(&page, "document.querySelectorAll('#edits img, #edits script, #bubbles script').length");
    assert_eq!(inside, json!(0));
    let title = browser.evaluate(&page, "document.title");
    assert!(title.as_str().unwrap().starts_with("Wiki stream"), "{title}");
    let texts = browser
        .evaluate(&page, "[...document.querySelectorAll('#edits bdi')].map((text) => text.textContent).join('|')");
    assert!(texts.as_str().unwrap().contains("<img src=x onerror="), "{texts}");
    let arabic = "[...document.querySelectorAll('#edits bdi')].some((text) => text.dir === 'auto' && text.lang === 'ar' && getComputedStyle(text).direction === 'rtl')";
    browser.wait(&page, "Arabic runs from right to left", LIMIT, arabic);
    let links = browser.evaluate(
        &page,
        "[...document.querySelectorAll('#edits a')].map((link) => [link.protocol, link.rel].join(' '))",
    );
    for link in links.as_array().unwrap() {
        assert_eq!(link, &json!("https: noopener noreferrer"));
    }
    let origin = demo.page.trim_end_matches('/').to_owned();
    assert_eq!(browser.origins(), [origin]);
    let policy =
        "fetch('/').then((answer) => answer.headers.get('content-security-policy').includes(\"default-src 'self'\"))";
    assert_eq!(browser.evaluate(&page, policy), Value::Bool(true));
    assert_eq!(browser.trouble(), Vec::<String>::new());
    drop(browser);
    demo.end();
}

#[test]
fn the_first_edit_is_on_the_page_within_three_seconds_of_the_demos_start() {
    let _alone = schedule::alone();
    let mut browser = Browser::start();
    let window = browser.window(Look::default());
    // The browser is open before the demo starts, as somebody's is.
    let blank = browser.tab(&window, "about:blank");
    let started = Instant::now();
    let demo = Demo::start(&["--source", "generated"]);
    let page = browser.tab(&window, &demo.page);
    browser.wait(&page, "the first edit", LIMIT, "document.querySelectorAll('#edits li').length > 0");
    let took = started.elapsed();
    println!("first edit on the page after {:.1} s", took.as_secs_f64());
    assert!(took <= FIRST_EDIT, "{took:?}");
    browser.close(&blank);
    drop(browser);
    demo.end();
}

#[test]
fn a_page_that_stays_open_over_a_restart_shows_the_new_run() {
    let demo = Demo::start(&["--source", "generated"]);
    let address = demo.page.trim_start_matches("http://").trim_end_matches('/').to_owned();
    let mut browser = Browser::start();
    let window = browser.window(Look::default());
    let pages = [browser.tab(&window, &demo.page), browser.tab(&window, &demo.page)];
    let count = "document.querySelectorAll('#edits li').length";
    for page in &pages {
        browser.wait(page, "edits are shown", LIMIT, &format!("{count} > 5"));
        browser.evaluate(page, "window.isOfTheFirstRun = true");
    }
    demo.end();
    // Offsets and numbers begin anew: nothing of the first run may hide what comes.
    let demo = Demo::start_at(&address, &["--source", "generated", "--seed", "2"]);
    for page in &pages {
        browser.front(page);
        let again = format!("window.isOfTheFirstRun === undefined && {count} > 5");
        wait_until("the new run is shown", LIMIT, || {
            // A page that loads itself anew cannot be asked for a moment.
            browser.try_evaluate(page, &again) == Some(Value::Bool(true))
        });
    }
    drop(browser);
    demo.end();
}

#[test]
fn the_tour_waits_for_each_step_and_ends() {
    let demo = Demo::start(&["--source", "generated", "--sinks", "2"]);
    let mut browser = Browser::start();
    let window = browser.window(Look::default());
    let page = browser.tab(&window, &demo.page);
    expect_exact(&mut browser, &page, &demo, 2);
    browser.click(&page, "#tour-start");
    let at = |step: &str| format!("document.getElementById('tour').textContent.startsWith('{step}')");
    // The first step may be over at once: the figures come once a second, twenty edits with them.
    browser.wait(&page, "the tour begins", LIMIT, "!document.getElementById('tour').hidden");
    browser.wait(&page, "edits were watched", LIMIT, &at("2 of 5"));
    browser.click(&page, "#add-sink");
    browser.wait(&page, "a sink was added", LIMIT, &at("3 of 5"));
    click_on(&mut browser, &page, "sink-1", "stop");
    browser.wait(&page, "one was stopped", LIMIT, &at("4 of 5"));
    click_on(&mut browser, &page, "sink-2", "kill");
    browser.wait(&page, "one was killed", LIMIT, &at("5 of 5"));
    for _ in 0..6 {
        browser.click(&page, "#add-sink");
    }
    browser.wait(&page, "more sinks than partitions", LIMIT, &at("Done"));
    assert_eq!(browser.trouble(), Vec::<String>::new());
    drop(browser);
    demo.end();
}
