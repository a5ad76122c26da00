//! The screen that goes on.

use std::time::Duration;

use console::live::Snapshot;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use ratatui::layout::{Constraint, Layout};
use ratatui::style::{Modifier, Style};
use ratatui::text::Line;
use ratatui::widgets::{Paragraph, Row, Table as Rows, TableState, Tabs, Wrap};
use ratatui::{DefaultTerminal, Frame};
use service::Failure;
use tokio::sync::mpsc;

use super::tables::{self, Choice, Tab, Table};
use super::{ask, read};

/// Between two questions.
const EVERY: Duration = Duration::from_secs(1);
/// How long a key is waited for before the thread looks whether anybody still listens.
const KEY_WAIT: Duration = Duration::from_millis(200);
const KEYS: &str = "1-4 or Tab: tables   s/S: sort   /: filter   arrows: scroll   q: end";

/// What is on the screen.
struct Screen {
    choice: Choice,
    snapshot: Snapshot,
    trouble: Option<String>,
    is_filtering: bool,
    rows: TableState,
}

/// Shows the console's snapshot until somebody ends it.
pub(super) async fn run(url: &str, choice: Choice, first: String) -> Result<(), Failure> {
    let snapshot = read(&first)?;
    let rows = TableState::default().with_selected(0);
    let mut screen = Screen { choice, snapshot, trouble: None, is_filtering: false, rows };
    let mut terminal =
        ratatui::try_init().map_err(|error| Failure::Runtime(format!("the terminal cannot be used: {error}")))?;
    let ended = follow(&mut terminal, &mut screen, url).await;
    ratatui::restore();
    ended.map_err(|error| Failure::Runtime(format!("the terminal cannot be used: {error}")))
}

async fn follow(terminal: &mut DefaultTerminal, screen: &mut Screen, url: &str) -> std::io::Result<()> {
    let mut keys = keys();
    let mut questions = tokio::time::interval(EVERY);
    loop {
        terminal.draw(|frame| screen.draw(frame))?;
        tokio::select! {
            _ = questions.tick() => match ask(url).await.and_then(|text| read(&text)) {
                Ok(snapshot) => (screen.snapshot, screen.trouble) = (snapshot, None),
                Err(failure) => screen.trouble = Some(failure.to_string()),
            },
            key = keys.recv() => match key {
                Some(Event::Key(key)) if key.kind == KeyEventKind::Press && screen.is_ended_by(key) => return Ok(()),
                Some(_) => {}
                None => return Ok(()),
            },
        }
    }
}

/// Keys, read by a thread of their own: reading them blocks.
fn keys() -> mpsc::UnboundedReceiver<Event> {
    let (sender, receiver) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        while !sender.is_closed() {
            if !event::poll(KEY_WAIT).unwrap_or(false) {
                continue;
            }
            let Ok(event) = event::read() else { return };
            if sender.send(event).is_err() {
                return;
            }
        }
    });
    receiver
}

impl Screen {
    fn is_ended_by(&mut self, key: KeyEvent) -> bool {
        if key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL) {
            return true;
        }
        if self.is_filtering {
            self.type_filter(key.code);
            return false;
        }
        match key.code {
            KeyCode::Char('q') | KeyCode::Esc => return true,
            KeyCode::Char(digit @ '1'..='4') => {
                let place = digit.to_digit(10).and_then(|digit| usize::try_from(digit).ok()).unwrap_or(1);
                self.show(Tab::ALL[(place - 1) % Tab::ALL.len()]);
            }
            KeyCode::Tab | KeyCode::Right => self.turn(1),
            KeyCode::BackTab | KeyCode::Left => self.turn(Tab::ALL.len() - 1),
            KeyCode::Char('s') => self.choice.sort = self.choice.sort.abs() % 8 + 1,
            KeyCode::Char('S') => self.choice.sort = -self.choice.sort,
            KeyCode::Char('/') => self.is_filtering = true,
            KeyCode::Down => self.rows.select_next(),
            KeyCode::Up => self.rows.select_previous(),
            KeyCode::PageDown => self.rows.scroll_down_by(10),
            KeyCode::PageUp => self.rows.scroll_up_by(10),
            _ => {}
        }
        false
    }

    fn type_filter(&mut self, code: KeyCode) {
        match code {
            KeyCode::Enter | KeyCode::Esc => self.is_filtering = false,
            KeyCode::Backspace => drop(self.choice.filter.pop()),
            KeyCode::Char(letter) => self.choice.filter.push(letter),
            _ => {}
        }
    }

    fn turn(&mut self, by: usize) {
        let at = Tab::ALL.iter().position(|tab| *tab == self.choice.tab).unwrap_or(0);
        self.show(Tab::ALL[(at + by) % Tab::ALL.len()]);
    }

    fn show(&mut self, tab: Tab) {
        (self.choice.tab, self.choice.sort) = (tab, 1);
        self.rows.select_first();
    }

    fn draw(&mut self, frame: &mut Frame<'_>) {
        let table = tables::table(&self.snapshot, &self.choice);
        let [tabs, title, body, foot] =
            Layout::vertical([Constraint::Length(1), Constraint::Length(2), Constraint::Min(1), Constraint::Length(1)])
                .areas(frame.area());
        let at = Tab::ALL.iter().position(|tab| *tab == self.choice.tab);
        frame.render_widget(Tabs::new(Tab::ALL.map(Tab::name)).select(at), tabs);
        let said = self.trouble.as_ref().map_or_else(|| table.title.clone(), |trouble| format!("OLD: {trouble}"));
        frame.render_widget(Paragraph::new(said).wrap(Wrap { trim: true }), title);
        frame.render_stateful_widget(rows(&table), body, &mut self.rows);
        let filter = if self.is_filtering || !self.choice.filter.is_empty() {
            format!("   filter: {}", self.choice.filter)
        } else {
            String::new()
        };
        frame.render_widget(Line::from(format!("{KEYS}   sorted by column {}{filter}", self.choice.sort)), foot);
    }
}

fn rows(table: &Table) -> Rows<'static> {
    let widths =
        tables::widths(table).into_iter().map(|width| Constraint::Length(u16::try_from(width).unwrap_or(u16::MAX)));
    let head = Row::new(table.head.clone()).style(Style::new().add_modifier(Modifier::BOLD));
    Rows::new(table.rows.iter().cloned().map(Row::new), widths)
        .header(head)
        .column_spacing(2)
        .row_highlight_style(Style::new().add_modifier(Modifier::REVERSED))
}
