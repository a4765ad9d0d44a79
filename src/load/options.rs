//! The options of blast, setget, sizes, fill and setops, as plain data.

use super::history::plan::Mix;
use super::login::Login;
use super::stream::Target;
use super::wire::Dialect;
use std::time::Duration;

/// Answers longer than this are accepted only if `--answer-bytes` says so, or if the tool's own
/// values may be as long: a server that sends values that were never stored must not fill the
/// client's memory.
pub const ANSWER_BYTES: usize = 16 << 20;

/// Bounds of `--answer-bytes`.
pub const ANSWER_BYTES_BOUNDS: (u64, u64) = (1 << 10, 4 << 30);

/// Most keys of one get of blast.
pub const KEYS_PER_GET_MAX: usize = 25;

/// What a tool is to do.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where the server is.
    pub target: Target,
    /// How to speak; the connections take turns.
    pub dialects: Vec<Dialect>,
    /// Who each connection logs in as, if anybody.
    pub login: Option<Login>,
    /// How many operations.
    pub operations: u64,
    /// Connections.
    pub workers: usize,
    /// Letters of a key behind the prefix.
    pub key_letters: usize,
    /// What keys begin with.
    pub prefix: String,
    /// Different keys of blast and setops.
    pub keys: usize,
    /// Decides keys, values and order.
    pub seed: u64,
    /// Least and most bytes of a value.
    pub value_bytes: (usize, usize),
    /// Bytes between two of sizes' values.
    pub step_bytes: usize,
    /// An answer that takes longer ends the run.
    pub timeout: Duration,
    /// An answer that is longer ends the run.
    pub answer_bytes: usize,
    /// The run ends after so long, done or not.
    pub duration: Duration,
    /// A missing item that was not deleted counts as wrong.
    pub is_loss_wrong: bool,
    /// What blast is made of.
    pub mix: Mix,
    /// Blast goes on when connections fail.
    pub survives: bool,
    /// See [`super::history::plan::Plan::may_cas_repeat`].
    pub may_cas_repeat: bool,
    /// Whether [`Mix::Everything`] has flush_all.
    pub has_flush: bool,
    /// Blast and setget ask for what only meta commands have, too: see [`super::marks`].
    pub asks_for_marks: bool,
    /// Whether latencies are shown as histograms, too.
    pub draws_histograms: bool,
    /// What to tell the user before the start: flags that are not needed.
    pub notes: Vec<&'static str>,
}

impl Options {
    /// One set of nothing over ten connections, in text: what a tool does not change.
    pub fn new(target: Target) -> Options {
        Options {
            target,
            dialects: vec![Dialect::Text],
            login: None,
            operations: 1,
            workers: 10,
            key_letters: 4,
            prefix: String::new(),
            keys: 1000,
            seed: 1,
            value_bytes: (0, 0),
            step_bytes: 100,
            timeout: Duration::from_secs(10),
            answer_bytes: ANSWER_BYTES,
            duration: Duration::from_secs(3_600),
            is_loss_wrong: false,
            mix: Mix::Blast,
            survives: false,
            may_cas_repeat: false,
            has_flush: true,
            asks_for_marks: false,
            draws_histograms: false,
            notes: vec![],
        }
    }
}
