//! The screen of `sunder top`: where each number stands. It asks nothing and keeps nothing.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders, Cell, Paragraph, Row, Sparkline, Table, Wrap};

use super::attention::{HOT, Problem, problems};
use super::figures::{bytes, count, duration, percent, plain, span};
use crate::admin::{Feed, Pace, Second};

/// Most lines of problems; a screen of 24 lines has to hold the rest.
const PROBLEM_LINES: u16 = 6;

// Not a grey: in some colour schemes that is the background.
const QUIET: Style = Style::new().add_modifier(Modifier::DIM);
const ACCENT: Style = Style::new().fg(Color::Cyan);
const WARN: Style = Style::new().fg(Color::Yellow).add_modifier(Modifier::BOLD);
const BAD: Style = Style::new().fg(Color::Red).add_modifier(Modifier::BOLD);
const STRONG: Style = Style::new().add_modifier(Modifier::BOLD);

/// What is shown.
#[derive(Debug, Default)]
pub struct Shown {
    /// The server's address.
    pub address: String,
    /// The last answer; its seconds are in `rows`.
    pub feed: Feed,
    /// The last ten minutes.
    pub rows: Vec<Second>,
    /// Why there is no answer now, and for how many seconds.
    pub lost: Option<(String, u64)>,
}

impl Shown {
    fn problems(&self) -> Vec<Problem> {
        if let Some((reason, seconds)) = &self.lost {
            let reason = plain(reason);
            let text = format!("not reachable for {}, trying again: {reason}", span(*seconds));
            return vec![Problem { is_bad: true, text }];
        }
        problems(&self.feed, self.rows.last())
    }
}

/// Draws all of it, in whatever room there is.
pub fn draw(frame: &mut Frame<'_>, shown: &Shown) {
    let problems = shown.problems();
    let lines = problem_rows(&problems, frame.area().width);
    let told = Paragraph::new(problem_lines(problems)).wrap(Wrap { trim: true });
    let [head, tiers, problem, numbers, chart, middle, keys, foot] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(1),
        Constraint::Length(lines),
        Constraint::Length(3),
        Constraint::Length(4),
        Constraint::Length(5),
        Constraint::Min(2),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    let feed = &shown.feed;
    let text = format!(" {}  up {}  {}", shown.address, span(feed.uptime), plain(&feed.version));
    let title = Line::from(vec![Span::styled("sunder", STRONG), Span::raw(text)]);
    frame.render_widget(Paragraph::new(title), head);
    let text = format!("L1 {}  L2 {}", plain(&feed.l1), plain(&feed.l2));
    frame.render_widget(Paragraph::new(Line::styled(text, QUIET)), tiers);
    frame.render_widget(told, problem);
    frame.render_widget(Paragraph::new(number_lines(shown)), numbers);
    draw_chart(frame, shown, chart);
    let [latency, workers] =
        Layout::horizontal([Constraint::Length(44), Constraint::Min(0)]).areas(middle);
    draw_latency(frame, shown.rows.last(), latency);
    draw_workers(frame, shown.rows.last(), workers);
    draw_keys(frame, feed, keys);
    frame.render_widget(Paragraph::new(Line::styled("q quits", QUIET)), foot);
}

fn problem_lines(problems: Vec<Problem>) -> Vec<Line<'static>> {
    if problems.is_empty() {
        return vec![Line::styled("nothing needs attention", QUIET)];
    }
    let line =
        |problem: Problem| Line::styled(problem.text, if problem.is_bad { BAD } else { WARN });
    problems.into_iter().map(line).collect()
}

/// Rows that these problems take, about: words are not divided.
fn problem_rows(problems: &[Problem], width: u16) -> u16 {
    let rows = |problem: &Problem| {
        problem.text.chars().count().div_ceil(usize::from(width.saturating_sub(8).max(1)))
    };
    let rows: usize = problems.iter().map(rows).sum();
    rows.clamp(1, usize::from(PROBLEM_LINES)) as u16
}

fn number_lines(shown: &Shown) -> Vec<Line<'static>> {
    let Some(row) = shown.rows.last() else { return vec![Line::raw("no second has passed yet")] };
    let feed = &shown.feed;
    let rate = |value: u64| value as f64 / row.length.max(0.001);
    let all = row.l1_hits + row.l2_hits + row.misses;
    let part = |part: u64| match all {
        0 => "-".to_owned(),
        all => percent(part as f64 / all as f64),
    };
    let line = |pairs: Vec<(&'static str, String)>| {
        let spans = pairs.into_iter().flat_map(|(name, value)| {
            [Span::styled(format!("{name} "), QUIET), Span::styled(format!("{value:<13}"), STRONG)]
        });
        Line::from(spans.collect::<Vec<_>>())
    };
    let (used, most) = (feed.counter("bytes") + feed.counter("hash_bytes"), feed.memory_max);
    let ssd = (feed.counter("ssd_used_bytes"), feed.counter("ssd_size_bytes"));
    let full = |(used, most): (u64, u64)| match most {
        0 => "-".to_owned(),
        most => percent(used as f64 / most as f64),
    };
    vec![
        line(vec![
            ("gets/s ", count(rate(row.gets))),
            ("sets/s", count(rate(row.sets))),
            ("other/s", count(rate(row.other.count))),
            ("evict/s", count(rate(row.evictions))),
        ]),
        line(vec![
            ("hits   ", part(row.l1_hits + row.l2_hits)),
            ("in L1 ", part(row.l1_hits)),
            ("in L2  ", part(row.l2_hits)),
            ("memory ", full((used, most))),
        ]),
        line(vec![
            ("clients", format!("{}/{}", feed.counter("curr_connections"), feed.connections_max)),
            ("in/s  ", bytes(rate(row.bytes_in))),
            ("out/s  ", bytes(rate(row.bytes_out))),
            ("SSD    ", full(ssd)),
        ]),
    ]
}

fn draw_chart(frame: &mut Frame<'_>, shown: &Shown, area: Rect) {
    let width = usize::from(area.width);
    let skipped = shown.rows.len().saturating_sub(width);
    let gets = shown.rows.iter().skip(skipped).map(|row| row.gets);
    let gets: Vec<u64> = gets.collect();
    let most = gets.iter().max().copied().unwrap_or(0);
    let title = format!("gets a second, the last {} s, at most {}", gets.len(), count(most as f64));
    let chart = Sparkline::default().data(gets).style(ACCENT);
    let block = Block::new().borders(Borders::TOP).border_style(QUIET).title(title);
    frame.render_widget(chart.block(block), area);
}

fn draw_latency(frame: &mut Frame<'_>, row: Option<&Second>, area: Rect) {
    let time = |pace: Option<&Pace>, of: fn(&Pace) -> f64| {
        let timed = pace.filter(|pace| pace.count > 0);
        Cell::from(timed.map_or("-".to_owned(), |pace| duration(of(pace))))
    };
    let of = |name: &'static str, pace: Option<&Pace>| {
        Row::new([
            Cell::from(name),
            time(pace, |it| it.p50),
            time(pace, |it| it.p99),
            time(pace, |it| it.p999),
        ])
    };
    let rows = [
        of("get", row.map(|row| &row.get)),
        of("set", row.map(|row| &row.set)),
        of("other", row.map(|row| &row.other)),
    ];
    let widths = [6, 11, 11, 11].map(Constraint::Length);
    let table = Table::new(rows, widths)
        .header(Row::new(["", "p50", "p99", "p99.9"]).style(QUIET))
        .block(Block::new().borders(Borders::TOP).border_style(QUIET).title("latency"));
    frame.render_widget(table, area);
}

fn draw_workers(frame: &mut Frame<'_>, row: Option<&Second>, area: Rect) {
    let busy: &[f64] = row.map_or(&[], |row| &row.busy);
    let columns = usize::from(area.width / 12).max(1);
    let cell = |(worker, part): (usize, &f64)| {
        let style = if *part >= 0.95 { WARN } else { Style::new() };
        Span::styled(format!("{worker:>3} {:<8}", percent(*part)), style)
    };
    let cells: Vec<Span<'_>> = busy.iter().enumerate().map(cell).collect();
    let lines: Vec<Line<'_>> =
        cells.chunks(columns).map(|line| Line::from(line.to_vec())).collect();
    let block = Block::new().borders(Borders::TOP).border_style(QUIET).title("workers, busy");
    frame.render_widget(Paragraph::new(lines).block(block), area);
}

fn draw_keys(frame: &mut Frame<'_>, feed: &Feed, area: Rect) {
    let row = |key: &crate::admin::ShownKey| {
        let style = if key.share.max(key.now) >= HOT { WARN } else { Style::new() };
        let cells =
            [percent(key.now), percent(key.share), count(key.rate.round()), plain(&key.key)];
        Row::new(cells).style(style)
    };
    let widths =
        [Constraint::Length(9), Constraint::Length(9), Constraint::Length(10), Constraint::Min(10)];
    let table = Table::new(feed.hot.iter().map(row), widths)
        .header(Row::new(["last s", "10 s", "a second", "key"]).style(QUIET))
        .block(Block::new().borders(Borders::TOP).border_style(QUIET).title("top keys"));
    frame.render_widget(table, area);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::ShownKey;
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    fn shown() -> Shown {
        let pace = Pace { count: 10, p50: 12.5, p99: 2_500.0, p999: 3e6, heat: vec![] };
        let second = Second {
            seq: 1,
            length: 1.0,
            gets: 123_456,
            l1_hits: 90,
            l2_hits: 8,
            misses: 2,
            busy: vec![0.37, 0.99],
            get: pace,
            ..Second::default()
        };
        let mut feed = Feed {
            l1: "memory,size=1G".to_owned(),
            l2: "none".to_owned(),
            ready: true,
            connections_max: 1_024,
            hot: vec![ShownKey {
                key: "evil\x1b[2J".to_owned(),
                share: 0.01,
                error: 0.0,
                rate: 600.0,
                now: 0.052,
            }],
            ..Feed::default()
        };
        feed.counters.insert("curr_connections".to_owned(), 1_000.into());
        Shown { address: "[::1]:11299".to_owned(), feed, rows: vec![second; 700], lost: None }
    }

    fn drawn(shown: &Shown, width: u16, height: u16) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("a screen");
        terminal.draw(|frame| draw(frame, shown)).expect("it is drawn");
        terminal.backend().to_string()
    }

    #[test]
    fn a_screen_of_80_by_24_has_everything() {
        let text = drawn(&shown(), 80, 24);
        for part in [
            "sunder [::1]:11299",
            "L1 memory,size=1G  L2 none",
            "hot key: 5.2 % of all requests ask for evil?[2J",
            "connections: 1000 of at most 1024 are open",
            "worker 1 is busy 99.0 % of the time",
            "gets/s  123,456",
            "hits    98.0 %",
            "in L2   8.0 %",
            "clients 1000/1024",
            "at most 123,456",
            "get    12.5 µs     2.50 ms     3.00 s",
            "  0 37.0 %    1 99.0 %",
            "5.2 %     1.0 %     600        evil?[2J",
            "q quits",
        ] {
            assert!(text.contains(part), "{part}:\n{text}");
        }
        assert!(!text.contains('\x1b'));
    }

    #[test]
    fn a_lost_server_is_told_over_its_last_numbers() {
        let lost = Some(("127.0.0.1:1: nothing listens there".to_owned(), 65));
        let text = drawn(&Shown { lost, ..shown() }, 80, 24);
        assert!(
            text.contains("not reachable for 1 min 5 s, trying again: 127.0.0.1:1: nothing"),
            "{text}"
        );
        assert!(text.contains("123,456"), "{text}");
    }

    #[test]
    fn no_screen_is_too_small_and_no_feed_too_empty() {
        for (width, height) in [(1, 1), (20, 5), (79, 23), (300, 100)] {
            drawn(&shown(), width, height);
            drawn(&Shown::default(), width, height);
        }
    }
}
