//! Runs one thread a connection, shows how far they are, and says at the end what was found.
//!
//! The first finding ends the run: what came after it would prove no more.

use super::client::{Client, Trouble};
use super::latency::{Ending, Latencies};
use super::limit::too_large;
use super::login;
use super::marks::Wrong;
use super::marks::alone::{Fault, Round, round};
use super::options::Options;
use super::progress::{EXIT_INTERRUPTED, Progress};
use super::wire::{ClientRequest, Dialect, Item, Reply};
use crate::base::clock::Clock;
use crate::base::console::{complain, print};
use bytes::Bytes;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// How often the progress is looked at.
const LOOK: Duration = Duration::from_millis(20);

/// Stack of a connection's thread, in bytes.
const STACK_BYTES: usize = 256 * 1024;

/// What ended a run early: its line.
#[derive(Debug)]
pub enum Finding {
    /// An answer that cannot be right.
    Wrong {
        /// Whose.
        key: String,
        /// What is wrong.
        what: String,
    },
    /// The server cannot be worked with.
    Trouble(String),
    /// The connection ended.
    Closed(Trouble),
}

impl From<Trouble> for Finding {
    fn from(trouble: Trouble) -> Finding {
        match trouble {
            Trouble::Closed(_) => Finding::Closed(trouble),
            trouble => Finding::Trouble(trouble.to_string()),
        }
    }
}

/// How a run ended that found nothing.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum End {
    /// All was done.
    Done,
    /// By the operator.
    Interrupted,
    /// Its time was over.
    Over(Duration),
}

/// One connection with what it measured.
#[derive(Debug)]
pub struct Worker<'a> {
    /// Its number, below the number of workers.
    pub number: usize,
    /// Of the run.
    pub options: &'a Options,
    /// What it measured.
    pub latencies: Latencies,
    shared: &'a Shared,
    clock: Clock,
    client: Client,
}

#[derive(Debug)]
struct Shared {
    done: AtomicU64,
    stop: Arc<AtomicBool>,
    first: Mutex<Option<Finding>>,
    all: Mutex<Latencies>,
}

/// A reply to a request, with a value of its own.
#[derive(Debug)]
pub struct Owned {
    /// What a retrieval found: flags and value.
    pub item: Option<(u32, Bytes)>,
    /// The status of the reply; [`Status::End`] for a retrieval.
    pub status: Status,
}

/// The status that a reply reports.
#[derive(Debug, Eq, PartialEq)]
pub enum Status {
    /// The end of a retrieval.
    End,
    /// The request succeeded.
    Done,
    /// The condition was not met: no item, or one that must not exist.
    Not,
    /// The value is too long for the server.
    TooLarge,
    /// An error or an unexpected reply, with its text.
    Other(String),
}

/// The connection of worker `number`.
fn connect(options: &Options, number: usize) -> Result<Client, Trouble> {
    let dialect = options.dialects[number % options.dialects.len()];
    let login = options.login.as_ref();
    Client::connect(&options.target, dialect, login, options.timeout, options.answer_bytes)
}

impl Worker<'_> {
    /// Whether the run goes on.
    pub fn goes_on(&self) -> bool {
        !self.shared.stop.load(Relaxed)
    }

    /// One more operation is done.
    pub fn count(&self) {
        self.shared.done.fetch_add(1, Relaxed);
    }

    /// Sends a request and measures its latency. `name`: what it is counted as.
    ///
    /// # Errors
    /// No answer, or an item of another key.
    pub fn send(
        &mut self,
        name: &'static str,
        request: &ClientRequest<'_>,
    ) -> Result<Owned, Finding> {
        let start_ns = self.clock.read_ns();
        let answered = self.client.send(request)?;
        let duration_ns = self.clock.read_ns() - start_ns;
        let item = match answered.item {
            Some(Item { key, .. }) if !key.is_empty() && key != request.key => {
                let what = format!("the server answers with the item of {}", key.escape_ascii());
                let key = request.key.escape_ascii().to_string();
                return Err(Finding::Wrong { key, what });
            }
            Some(item) => Some((item.flags, answered.value)),
            None => None,
        };
        let (status, ending) = match answered.reply {
            Reply::End if item.is_some() => (Status::End, Some(Ending::Hit)),
            Reply::End => (Status::End, Some(Ending::Miss)),
            Reply::Stored | Reply::Deleted | Reply::Touched => (Status::Done, Some(Ending::Done)),
            Reply::NotFound => (Status::Not, Some(Ending::Miss)),
            Reply::NotStored | Reply::Exists => (Status::Not, Some(Ending::Refused)),
            Reply::TooLarge => (Status::TooLarge, None),
            Reply::Failed(text) | Reply::Refused(text) => {
                (Status::Other(text.escape_ascii().to_string()), None)
            }
            reply => (Status::Other(reply.to_string()), None),
        };
        if let Some(ending) = ending {
            self.latencies.add(name, ending, duration_ns);
        }
        Ok(Owned { item, status })
    }

    /// Whether it asks for what only meta commands have.
    pub fn asks_for_marks(&self) -> bool {
        let dialects = &self.options.dialects;
        self.options.asks_for_marks && dialects[self.number % dialects.len()] == Dialect::Meta
    }

    /// A round of meta commands on a key that nobody else uses.
    ///
    /// # Errors
    /// No answer, or a wrong one.
    pub fn mark(&mut self, key: &[u8], number: u64) -> Result<(), Finding> {
        let start_ns = self.clock.read_ns();
        let name = String::from_utf8_lossy(key);
        let ending = match round(&mut self.client, &name, number) {
            Ok(Round::Whole) => Ending::Done,
            Ok(Round::Lost) if !self.options.is_loss_wrong => Ending::Miss,
            Ok(Round::Lost) => {
                let what = "lost in a round of meta commands".to_owned();
                return Err(Finding::Wrong { key: name.into_owned(), what });
            }
            Err(Fault::Wrong(Wrong { key, what })) => return Err(Finding::Wrong { key, what }),
            Err(Fault::Trouble(trouble)) => return Err(trouble.into()),
        };
        self.latencies.add("marks", ending, self.clock.read_ns() - start_ns);
        Ok(())
    }

    /// What ends a run of which `request` was answered so: the server cannot be worked with.
    pub fn failed(&self, request: &ClientRequest<'_>, status: &Status) -> Finding {
        let (verb, key) = (request.verb.name(), request.key.escape_ascii());
        let what = match status {
            Status::TooLarge => too_large(&self.options.target, request.value.len()),
            Status::Other(text) => format!("{verb} was answered '{text}'"),
            Status::Not => format!("{verb} was answered that it was not done"),
            Status::End | Status::Done => format!("{verb} was answered as another request"),
        };
        Finding::Trouble(format!("key {key}: {what}"))
    }

    /// Opens the connection again.
    ///
    /// # Errors
    /// The server does not answer.
    pub fn reconnect(&mut self) -> Result<(), Trouble> {
        self.client = connect(self.options, self.number)?;
        Ok(())
    }
}

/// Runs `work` on each connection, until all have done theirs or one has found something; prints
/// figures, if there are any, and what `sum_up` adds, and says how it ended.
pub fn run(
    tool: &'static str,
    options: &Options,
    total: u64,
    work: impl Fn(&mut Worker<'_>) -> Result<(), Finding> + Sync,
    sum_up: impl FnOnce() -> String,
) -> ExitCode {
    for note in &options.notes {
        complain(format_args!("sunder {tool}: {note}"));
    }
    let mut progress = Progress::start(tool, total);
    let shared = Shared {
        done: AtomicU64::new(0),
        stop: progress.stop(),
        first: Mutex::new(None),
        all: Mutex::new(Latencies::default()),
    };
    let end = std::thread::scope(|scope| {
        let mut threads = vec![];
        for number in 0..options.workers {
            let (shared, work) = (&shared, &work);
            let thread = std::thread::Builder::new()
                .stack_size(STACK_BYTES)
                .spawn_scoped(scope, move || one(options, shared, number, work));
            match thread {
                Ok(thread) => threads.push(thread),
                Err(error) => shared.end(Finding::Trouble(format!("no thread: {error}"))),
            }
        }
        let mut end = End::Done;
        while threads.iter().any(|thread| !thread.is_finished()) {
            std::thread::sleep(LOOK);
            let goes_on = progress.tell(shared.done.load(Relaxed));
            if end != End::Done || shared.has_finding() {
                continue;
            }
            if !goes_on {
                end = End::Interrupted;
            } else if progress.elapsed() > options.duration {
                end = End::Over(options.duration);
                shared.stop.store(true, Relaxed);
            }
        }
        end
    });
    let elapsed_s = progress.end();
    let latencies = shared.all.into_inner().expect("no thread panicked");
    let done = shared.done.into_inner();
    let rate = latencies.count() as f64 / elapsed_s.max(1e-9);
    let requests = latencies.count();
    let finding = shared.first.into_inner().expect("no thread panicked");
    if requests == 0 && finding.is_some() {
        // A table of nothing would hide the line that matters.
        return conclude(tool, finding, done, end, ExitCode::FAILURE);
    }
    let sum = sum_up();
    let pictures =
        if options.draws_histograms { latencies.pictures() + "\n" } else { String::new() };
    let mut text = format!(
        "{latencies}{pictures}{requests} requests in {elapsed_s:.2} s, {rate:.0} a second{sum}\n"
    );
    if finding.is_none() {
        text += &format!("{done} operations, every answer was right\n");
    }
    let told = print(&text, ExitCode::SUCCESS);
    conclude(tool, finding, done, end, told)
}

/// Says how a run ended; `told` is the exit status of one that found nothing.
pub fn conclude(
    tool: &str,
    finding: Option<Finding>,
    done: u64,
    end: End,
    told: ExitCode,
) -> ExitCode {
    let (text, status) = match (finding, end) {
        (Some(Finding::Wrong { key, what }), _) => {
            (format!("key {key}: {what}"), ExitCode::FAILURE)
        }
        (Some(Finding::Trouble(text)), _) => (text, ExitCode::FAILURE),
        (Some(Finding::Closed(trouble)), _) => (trouble.to_string(), ExitCode::FAILURE),
        (None, End::Interrupted) => ("interrupted".into(), ExitCode::from(EXIT_INTERRUPTED)),
        (None, End::Over(duration)) => {
            let seconds = duration.as_secs_f64();
            (format!("the time was over (--duration {seconds}) before all was done"), told)
        }
        (None, End::Done) => return told,
    };
    let remedy = login::remedy(&text);
    complain(format_args!("sunder {tool}: {text} (after {done} operations){remedy}"));
    status
}

impl Shared {
    fn has_finding(&self) -> bool {
        self.first.lock().expect("no thread panicked").is_some()
    }

    /// Keeps the first finding, and stops all.
    fn end(&self, finding: Finding) {
        self.first.lock().expect("no thread panicked").get_or_insert(finding);
        self.stop.store(true, Relaxed);
    }
}

/// One connection's thread.
fn one(
    options: &Options,
    shared: &Shared,
    number: usize,
    work: &impl Fn(&mut Worker<'_>) -> Result<(), Finding>,
) {
    let client = match connect(options, number) {
        Ok(client) => client,
        Err(trouble) => return shared.end(trouble.into()),
    };
    let latencies = Latencies::default();
    let clock = Clock::start();
    let mut worker = Worker { number, options, latencies, shared, clock, client };
    let result = work(&mut worker);
    shared.all.lock().expect("no thread panicked").merge(&worker.latencies);
    if let Err(finding) = result {
        shared.end(finding);
    }
}
