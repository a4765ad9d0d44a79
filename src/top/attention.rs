//! What an operator may have to act on now. The live page says the same, in `page.js`.

use super::figures::{percent, plain};
use crate::admin::{Feed, Second, ShownKey};

/// Part of all requests from which a key is told.
pub const HOT: f64 = 0.03;

/// Requests a second from which on such a key is worth a word.
const HOT_RATE: f64 = 20.0;

/// A sentence, and whether something is broken.
#[derive(Debug, PartialEq)]
pub struct Problem {
    /// Not only unusual.
    pub is_bad: bool,
    /// What it is.
    pub text: String,
}

/// The worst first; `last` is the last second.
pub fn problems(feed: &Feed, last: Option<&Second>) -> Vec<Problem> {
    let bad = |text: &String| Problem { is_bad: true, text: plain(text) };
    let mut all: Vec<Problem> = feed.degraded.iter().map(bad).collect();
    let mut tell = |text: String| all.push(Problem { is_bad: false, text });
    if !feed.ready {
        tell("starting: not all workers serve yet".to_owned());
    }
    let is_hot = |key: &&ShownKey| key.share.max(key.now) >= HOT && key.rate >= HOT_RATE;
    for key in feed.hot.iter().take(3).filter(is_hot) {
        let part = percent(key.share.max(key.now));
        let key = plain(&key.key);
        tell(format!("hot key: {part} of all requests ask for {key}"));
    }
    let (open, most) = (feed.counter("curr_connections"), feed.connections_max);
    let unread = feed.counter("unread_connections");
    if unread >= 4.max(open / 50) {
        tell(format!("slow clients: {unread} of {open} connections do not read their replies"));
    }
    if open * 10 >= most * 9 {
        tell(format!("connections: {open} of at most {most} are open"));
    }
    let busy = last.into_iter().flat_map(|row| row.busy.iter().enumerate());
    for (worker, part) in busy.filter(|(_, part)| **part >= 0.95) {
        tell(format!("worker {worker} is busy {} of the time", percent(*part)));
    }
    all
}
