//! The run: all connections in one loop, one operation at a time each, until the plan is done.
//!
//! One thread sees every begin and end, so their order is known without locks, and what looks
//! simultaneous to it is treated so. Never waits for one connection; one that fails is opened again
//! after a pause, and a server that cannot be reached for the plan's patience ends the run.

use super::check::{Checker, Rules};
use super::choose::{Chooser, Token};
use super::operation::{Command, Operation, Outcome, key_name};
use super::plan::Plan;
use super::report::Report;
use super::stream::{Stream, delete_keys};
use super::text::Answer;
use super::value::Seen;
use super::{binary, text};
use mio::{Events, Poll};
use std::io::{self, ErrorKind};
use std::time::{Duration, Instant};

/// How often connections are asked whether they are overdue or may be opened again.
const TICK: Duration = Duration::from_millis(5);

/// Pause after a failed connection: the first, and the longest; it doubles between. The first is
/// that after a failed operation too.
const PAUSE: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(200));

/// Bytes that one read takes at most.
const READ_BYTES: usize = 256 * 1024;

/// How a connection stands.
enum Phase {
    /// Opened again at this moment.
    Closed(Instant),
    Connecting,
    /// Nothing is asked.
    Idle,
    /// Nothing is asked until this moment, after a failure: a server that fails at once would
    /// otherwise fail most of the run.
    Pausing(Instant),
    Waiting(Box<Operation>, Instant),
}

struct Connection {
    address: String,
    is_binary: bool,
    chooser: Chooser,
    stream: Option<Stream>,
    phase: Phase,
    pause: Duration,
    /// Since when it cannot be connected.
    failing_since: Option<Instant>,
    output: Vec<u8>,
    written: usize,
    input: Vec<u8>,
}

impl Connection {
    /// Writes what is left of the request.
    fn write(&mut self) -> io::Result<()> {
        let Some(stream) = &mut self.stream else { return Ok(()) };
        while self.written < self.output.len() {
            match stream.write(&self.output[self.written..])? {
                0 => return Err(ErrorKind::WriteZero.into()),
                bytes => self.written += bytes,
            }
        }
        Ok(())
    }
}

/// All of a run.
struct Run<'a> {
    plan: &'a Plan,
    poll: Poll,
    connections: Vec<Connection>,
    checker: Checker,
    report: Report,
    /// Operations begun.
    begun: u64,
    /// Operations under way.
    waiting: usize,
    /// Bytes that each key was last seen with.
    grown: Vec<usize>,
    scratch: Vec<u8>,
}

/// Empties the plan's keys: what an earlier run left there has versions of its own.
fn empty_keys(plan: &Plan) -> Result<(), String> {
    let names: Vec<String> = (0..plan.keys + plan.number_keys()).map(key_name).collect();
    let start = Instant::now();
    while let Err(error) = delete_keys(&plan.addresses[0], &names, plan.timeout) {
        if start.elapsed() > plan.patience {
            return Err(format!("{}: {error}", plan.addresses[0]));
        }
        std::thread::sleep(PAUSE.1);
    }
    Ok(())
}

/// Runs the plan to its end.
///
/// # Errors
/// The server cannot be reached.
pub fn run(plan: &Plan) -> Result<Report, String> {
    empty_keys(plan)?;
    let start = Instant::now();
    let rules = Rules {
        value_keys: plan.keys,
        number_keys: plan.number_keys(),
        connections: plan.connections,
        may_lose: !plan.is_loss_wrong,
    };
    let binary = (plan.connections as f64 * plan.binary_share).round() as usize;
    let connections = (0..plan.connections).map(|i| {
        // Spread over the addresses, which go round and round.
        let is_binary = (i + 1) * binary / plan.connections > i * binary / plan.connections;
        Connection {
            address: plan.addresses[i % plan.addresses.len()].clone(),
            is_binary,
            chooser: Chooser::new(plan, i, is_binary),
            stream: None,
            phase: Phase::Closed(start),
            pause: PAUSE.0,
            failing_since: None,
            output: vec![],
            written: 0,
            input: vec![],
        }
    });
    let mut run = Run {
        plan,
        poll: Poll::new().map_err(|error| format!("poll: {error}"))?,
        connections: connections.collect(),
        grown: vec![0; rules.value_keys + rules.number_keys],
        checker: Checker::new(rules),
        report: Report::default(),
        begun: 0,
        waiting: 0,
        scratch: vec![0; READ_BYTES],
    };
    run.go()?;
    run.report.elapsed = start.elapsed();
    run.report.violations = run.checker.violations;
    run.report.violation_count = run.checker.violation_count;
    Ok(run.report)
}

impl Run<'_> {
    fn go(&mut self) -> Result<(), String> {
        let mut events = Events::with_capacity(1024);
        let mut next_tick = Instant::now();
        while self.begun < self.plan.operations || self.waiting > 0 {
            let now = Instant::now();
            if now >= next_tick {
                next_tick = now + TICK;
                self.tick(now)?;
            }
            match self.poll.poll(&mut events, Some(TICK)) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                result => result.map_err(|error| format!("poll: {error}"))?,
            }
            for event in &events {
                let number = event.token().0;
                self.drive(number);
                let is_closed = event.is_read_closed() || event.is_error();
                if is_closed && self.connections[number].stream.is_some() {
                    self.close(number, &Outcome::Closed);
                }
            }
        }
        Ok(())
    }

    /// Opens closed connections and gives up operations that are overdue.
    fn tick(&mut self, now: Instant) -> Result<(), String> {
        for number in 0..self.connections.len() {
            let connection = &self.connections[number];
            if let Some(since) = connection.failing_since
                && now.duration_since(since) > self.plan.patience
            {
                let patience_s = self.plan.patience.as_secs_f64();
                return Err(format!("{}: no connection for {patience_s} s", connection.address));
            }
            match &connection.phase {
                Phase::Closed(at) if *at <= now => self.open(number),
                Phase::Pausing(at) if *at <= now => {
                    self.connections[number].phase = Phase::Idle;
                    self.drive(number);
                }
                Phase::Waiting(_, since) if now.duration_since(*since) > self.plan.timeout => {
                    self.close(number, &Outcome::TimedOut);
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn open(&mut self, number: usize) {
        let connection = &mut self.connections[number];
        let registry = self.poll.registry();
        let opened = Stream::connect(&connection.address).and_then(|mut stream| {
            stream.register(registry, mio::Token(number))?;
            Ok(stream)
        });
        match opened {
            Ok(stream) => {
                connection.stream = Some(stream);
                connection.phase = Phase::Connecting;
                self.drive(number);
            }
            Err(_) => self.close(number, &Outcome::Closed),
        }
    }

    /// Ends a connection and what it asked; it is opened again later.
    fn close(&mut self, number: usize, outcome: &Outcome<'_>) {
        let connection = &mut self.connections[number];
        connection.stream = None;
        connection.chooser.token = None;
        connection.output.clear();
        connection.input.clear();
        connection.written = 0;
        let now = Instant::now();
        match std::mem::replace(&mut connection.phase, Phase::Closed(now + connection.pause)) {
            Phase::Waiting(operation, since) => {
                self.end(number, &operation, since, outcome);
                self.report.reconnects += 1;
            }
            Phase::Idle | Phase::Pausing(_) => self.report.reconnects += 1,
            Phase::Connecting | Phase::Closed(_) => {
                connection.failing_since.get_or_insert(now);
                connection.pause = (connection.pause * 2).min(PAUSE.1);
            }
        }
    }

    /// Does all that can be done on a connection without waiting.
    fn drive(&mut self, number: usize) {
        match self.try_drive(number) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_) => self.close(number, &Outcome::Closed),
        }
    }

    fn try_drive(&mut self, number: usize) -> io::Result<()> {
        loop {
            let connection = &mut self.connections[number];
            let Some(stream) = &mut connection.stream else { return Ok(()) };
            match connection.phase {
                Phase::Closed(_) | Phase::Pausing(_) => return Ok(()),
                Phase::Connecting => {
                    if !stream.is_connected()? {
                        return Ok(());
                    }
                    connection.phase = Phase::Idle;
                    connection.failing_since = None;
                    connection.pause = PAUSE.0;
                }
                Phase::Idle => {
                    if self.begun == self.plan.operations {
                        return Ok(());
                    }
                    self.begin(number);
                }
                Phase::Waiting(..) => {
                    if connection.written < connection.output.len() {
                        match connection.write() {
                            // The answer is an event of its own: the others come first.
                            Ok(()) => return Ok(()),
                            // An error may be answered before the whole value is taken.
                            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                            Err(error) => return Err(error),
                        }
                    }
                    let Some(stream) = &mut connection.stream else { return Ok(()) };
                    let bytes = stream.read(&mut self.scratch)?;
                    if bytes == 0 {
                        return Err(ErrorKind::UnexpectedEof.into());
                    }
                    connection.input.extend(&self.scratch[..bytes]);
                    self.answer(number);
                }
            }
        }
    }

    /// Begins the next operation; it is written by the caller.
    fn begin(&mut self, number: usize) {
        let connection = &mut self.connections[number];
        let operation = connection.chooser.next(self.plan, &self.grown);
        connection.output.clear();
        connection.written = 0;
        if connection.is_binary {
            binary::encode(&operation, &mut connection.output);
        } else {
            text::encode(&operation, &mut connection.output);
        }
        self.begun += 1;
        self.waiting += 1;
        self.checker.begin(number, &operation);
        connection.phase = Phase::Waiting(Box::new(operation), Instant::now());
    }

    /// Takes the answer from the input if it is whole.
    fn answer(&mut self, number: usize) {
        let connection = &mut self.connections[number];
        // What the answer borrows is taken out, for its end needs the rest of the run.
        let mut input = std::mem::take(&mut connection.input);
        let phase = std::mem::replace(&mut connection.phase, Phase::Idle);
        let Phase::Waiting(operation, since) = phase else { unreachable!("it read an answer") };
        let parse = if connection.is_binary { binary::parse } else { text::parse };
        let lost = match parse(&operation, &input) {
            Answer::Whole(outcome, bytes) if bytes == input.len() => {
                self.finish(number, &operation, since, &outcome);
                input.clear();
                self.connections[number].input = input;
                return;
            }
            Answer::Incomplete => {
                connection.input = input;
                connection.phase = Phase::Waiting(operation, since);
                return;
            }
            Answer::Lost(text) => text,
            Answer::Whole(_, bytes) => {
                let rest = &input[bytes..input.len().min(bytes + 64)];
                format!("more than the answer came: {}", rest.escape_ascii())
            }
        };
        connection.phase = Phase::Waiting(operation, since);
        self.close(number, &Outcome::Nonsense(lost));
    }

    /// Ends an operation that has its answer.
    fn finish(
        &mut self,
        number: usize,
        operation: &Operation,
        since: Instant,
        outcome: &Outcome<'_>,
    ) {
        let seen = self.end(number, operation, since, outcome);
        if let Outcome::Failed(_) = outcome {
            self.connections[number].phase = Phase::Pausing(Instant::now() + PAUSE.0);
        }
        let Outcome::Values(hits) = outcome else { return };
        for hit in hits {
            if let Some(grown) = self.grown.get_mut(hit.key) {
                *grown = hit.value.len();
            }
        }
        let is_gets = matches!(operation.command, Command::Gets | Command::Gats { .. });
        if is_gets
            && let ([hit], Some(seen)) = (&hits[..], seen)
            && hit.unique != 0
        {
            let token = Token { key: hit.key, unique: hit.unique, seen };
            self.connections[number].chooser.token = Some(token);
        }
    }

    fn end(
        &mut self,
        number: usize,
        operation: &Operation,
        since: Instant,
        outcome: &Outcome<'_>,
    ) -> Option<Seen> {
        self.waiting -= 1;
        self.report.add(operation, outcome, since.elapsed());
        self.checker.end(number, operation, outcome)
    }
}
