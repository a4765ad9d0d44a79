//! The run: all connections in one loop, one operation at a time each, until the plan is done.
//!
//! One thread sees every begin and end, so their order is known without locks, and what looks
//! simultaneous to it is treated so. Never waits for one connection. One that fails is opened again
//! after a pause, and a server that cannot be reached for the plan's patience ends the run; or the
//! first failure does.

use super::check::{Checker, Rules};
use super::choose::{Chooser, Token};
use super::names::Names;
use super::operation::{Operation, Outcome, lasting};
use super::plan::Plan;
use super::record::Seen;
use super::report::Report;
use crate::base::clock::Clock;
use crate::load::client::{Client, Trouble};
use crate::load::login::{Login, LoginAnswer};
use crate::load::stream::{Stream, Target};
use crate::load::wire::{ClientRequest, Dialect, Reply, Verb};
use mio::{Events, Poll};
use std::io::{self, ErrorKind};
use std::time::Duration;

/// How often connections are asked whether they are overdue or may be opened again.
const TICK: Duration = Duration::from_millis(5);

/// Pause after a failed connection: the first, and the longest; it doubles between. The first is
/// that after a failed operation too.
const PAUSE_NS: (u64, u64) = (5_000_000, 200_000_000);

/// Bytes that one read takes at most.
const READ_BYTES: usize = 256 * 1024;

/// How a connection stands; moments are nanoseconds since the run's start.
enum Phase {
    /// Opened again at this moment.
    Closed(u64),
    Connecting,
    /// Since this moment.
    LoggingIn(u64),
    /// Nothing is asked.
    Idle,
    /// Nothing is sent until this moment, after a failure: a server that fails immediately would
    /// otherwise fail most of the run.
    Pausing(u64),
    Waiting(Box<Operation>, u64),
}

struct Connection {
    target: Target,
    dialect: Dialect,
    chooser: Chooser,
    stream: Option<Stream>,
    phase: Phase,
    pause_ns: u64,
    /// Since when it cannot be connected.
    failing_since: Option<u64>,
    output: Vec<u8>,
    written: usize,
    input: Vec<u8>,
}

impl Connection {
    /// It may be asked.
    fn is_ready(&mut self) {
        self.phase = Phase::Idle;
        self.failing_since = None;
        self.pause_ns = PAUSE_NS.0;
    }

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
    names: Names,
    clock: Clock,
    poll: Poll,
    connections: Vec<Connection>,
    checker: Checker,
    report: Report,
    /// Operations to begin: the plan's, or fewer once its time is over.
    operations: u64,
    /// Operations started.
    begun: u64,
    /// Keys read once more at the end.
    read_back: usize,
    /// Operations in flight.
    waiting: usize,
    /// Bytes that each key was last seen with.
    grown: Vec<usize>,
    scratch: Vec<u8>,
}

/// Makes sure that the server has meta commands, if the plan uses them.
fn check_meta(plan: &Plan, names: &Names) -> Result<(), Trouble> {
    if !plan.dialects.contains(&Dialect::Meta) {
        return Ok(());
    }
    let target = &plan.targets[0];
    let mut client = Client::connect(
        target,
        Dialect::Meta,
        plan.login.as_ref(),
        plan.timeout,
        plan.answer_bytes,
    )?;
    client.send(&ClientRequest::new(Verb::Get, names.name(0).as_bytes())).map(|_| ())
}

/// Empties the plan's keys: what an earlier run left there has versions of its own.
fn empty_keys(
    plan: &Plan,
    names: &Names,
    goes_on: &mut dyn FnMut() -> bool,
) -> Result<(), Trouble> {
    let (target, dialect) = (&plan.targets[0], plan.dialects[0]);
    let mut client =
        Client::connect(target, dialect, plan.login.as_ref(), plan.timeout, plan.answer_bytes)?;
    for key in (0..names.count()).take_while(|_| goes_on()) {
        let request = ClientRequest::new(Verb::Delete, names.name(key).as_bytes());
        match client.send(&request)?.reply {
            Reply::Deleted | Reply::NotFound => {}
            reply => {
                let text = format!("a delete was answered {reply}");
                return Err(Trouble::Garbage("the keys have to be empty", text));
            }
        }
    }
    Ok(())
}

/// Runs the plan to its end.
///
/// # Errors
/// The server cannot be reached.
#[cfg(feature = "internals")]
pub fn run(plan: &Plan) -> Result<Report, String> {
    run_watched(plan, &mut |_| true)
}

/// The same; every few milliseconds `watch` gets the number of operations that have ended, and says
/// whether to go on.
///
/// # Errors
/// The server cannot be reached.
pub fn run_watched(plan: &Plan, watch: &mut dyn FnMut(u64) -> bool) -> Result<Report, String> {
    let clock = Clock::start();
    let names = plan.names();
    let duration_ns = plan.duration.as_nanos() as u64;
    let mut goes_on = || clock.read_ns() <= duration_ns && watch(0);
    let mut begin = || {
        check_meta(plan, &names)?;
        empty_keys(plan, &names, &mut goes_on)
    };
    while let Err(error) = begin() {
        let is_final = !plan.survives || matches!(error, Trouble::NoMeta | Trouble::Login(_));
        if is_final || clock.read_ns() > plan.patience.as_nanos() as u64 {
            return Err(error.to_string());
        }
        std::thread::sleep(Duration::from_nanos(PAUSE_NS.1));
    }
    let rules = Rules {
        value_keys: plan.keys,
        number_keys: plan.number_keys(),
        connections: plan.connections,
        names: names.clone(),
        may_lose: !plan.is_loss_wrong,
    };
    let connections = (0..plan.connections).map(|i| {
        let dialect = plan.dialects[i % plan.dialects.len()];
        Connection {
            target: plan.targets[i % plan.targets.len()].clone(),
            dialect,
            chooser: Chooser::new(plan, i, dialect),
            stream: None,
            phase: Phase::Closed(0),
            pause_ns: PAUSE_NS.0,
            failing_since: None,
            output: vec![],
            written: 0,
            input: vec![],
        }
    });
    let start_ns = clock.read_ns();
    let mut run = Run {
        plan,
        names,
        clock,
        poll: Poll::new().map_err(|error| format!("poll: {error}"))?,
        connections: connections.collect(),
        grown: vec![0; rules.value_keys + rules.number_keys],
        checker: Checker::new(rules),
        report: Report::default(),
        operations: plan.operations,
        begun: 0,
        read_back: if plan.reads_back { 0 } else { usize::MAX },
        waiting: 0,
        scratch: vec![0; READ_BYTES],
    };
    run.go(watch)?;
    run.report.elapsed_s = (run.clock.read_ns() - start_ns) as f64 / 1e9;
    run.report.violations = run.checker.violations;
    run.report.violation_count = run.checker.violation_count;
    Ok(run.report)
}

impl Run<'_> {
    fn go(&mut self, watch: &mut dyn FnMut(u64) -> bool) -> Result<(), String> {
        let mut events = Events::with_capacity(1024);
        let mut next_tick_ns = 0;
        while self.has_next() || self.waiting > 0 {
            let now_ns = self.clock.read_ns();
            if now_ns >= next_tick_ns {
                next_tick_ns = now_ns + TICK.as_nanos() as u64;
                if !watch(self.report.operations) || self.is_over(now_ns) {
                    return Ok(());
                }
                self.tick(now_ns)?;
            }
            if self.report.trouble.is_some() {
                return Ok(());
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
                    self.close(number, &Outcome::Closed, Trouble::Closed(None));
                }
            }
        }
        Ok(())
    }

    /// Whether the run has to end now. When the plan's time is over, only what reads back is begun.
    fn is_over(&mut self, now_ns: u64) -> bool {
        let over = Duration::from_nanos(now_ns).saturating_sub(self.plan.duration);
        if over > Duration::ZERO && self.begun < self.operations {
            self.operations = self.begun;
            self.report.is_time_over = true;
        }
        over > self.plan.timeout
    }

    /// Whether an operation is left to begin.
    fn has_next(&self) -> bool {
        self.begun < self.operations || self.read_back < self.names.count()
    }

    /// Opens closed connections and gives up operations that are overdue.
    fn tick(&mut self, now_ns: u64) -> Result<(), String> {
        let timeout_ns = self.plan.timeout.as_nanos() as u64;
        let patience_ns = self.plan.patience.as_nanos() as u64;
        for number in 0..self.connections.len() {
            let connection = &self.connections[number];
            if let Some(since_ns) = connection.failing_since
                && now_ns - since_ns > patience_ns
            {
                let patience_s = self.plan.patience.as_secs_f64();
                return Err(format!("{}: no connection for {patience_s} s", connection.target));
            }
            match &connection.phase {
                Phase::Closed(at_ns) if *at_ns <= now_ns => self.open(number),
                Phase::Pausing(at_ns) if *at_ns <= now_ns => {
                    self.connections[number].phase = Phase::Idle;
                    self.drive(number);
                }
                Phase::Waiting(_, since_ns) | Phase::LoggingIn(since_ns)
                    if now_ns.saturating_sub(*since_ns) > timeout_ns =>
                {
                    self.close(number, &Outcome::TimedOut, Trouble::Slow(self.plan.timeout));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn open(&mut self, number: usize) {
        let connection = &mut self.connections[number];
        let registry = self.poll.registry();
        let opened = Stream::connect(&connection.target).and_then(|mut stream| {
            stream.register(registry, mio::Token(number))?;
            Ok(stream)
        });
        match opened {
            Ok(stream) => {
                connection.stream = Some(stream);
                connection.phase = Phase::Connecting;
                self.drive(number);
            }
            Err(error) => {
                let trouble = Trouble::Connect(connection.target.clone(), error);
                self.close(number, &Outcome::Closed, trouble);
            }
        }
    }

    /// Ends a connection and what it asked; it is opened again later, if the plan survives that.
    fn close(&mut self, number: usize, outcome: &Outcome<'_>, trouble: Trouble) {
        let connection = &mut self.connections[number];
        connection.stream = None;
        connection.chooser.token = None;
        connection.output.clear();
        connection.input.clear();
        connection.written = 0;
        let now_ns = self.clock.read_ns();
        let closed = Phase::Closed(now_ns + connection.pause_ns);
        match std::mem::replace(&mut connection.phase, closed) {
            Phase::Waiting(operation, since_ns) => {
                self.end(number, &operation, since_ns, outcome);
                self.report.reconnects += 1;
            }
            Phase::Idle | Phase::Pausing(_) => self.report.reconnects += 1,
            Phase::Connecting | Phase::LoggingIn(_) | Phase::Closed(_) => {
                connection.failing_since.get_or_insert(now_ns);
                connection.pause_ns = (connection.pause_ns * 2).min(PAUSE_NS.1);
            }
        }
        // An answer that is no longer awaited is not an error.
        if !self.plan.survives && (self.has_next() || self.waiting > 0 || outcome.is_error()) {
            self.report.trouble.get_or_insert_with(|| trouble.to_string());
        }
    }

    /// Does all that can be done on a connection without waiting.
    fn drive(&mut self, number: usize) {
        match self.try_drive(number) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => {
                let trouble = match &self.connections[number] {
                    Connection { phase: Phase::Connecting, target, .. } => {
                        Trouble::Connect(target.clone(), error)
                    }
                    _ if error.kind() == ErrorKind::UnexpectedEof => Trouble::Closed(None),
                    _ => Trouble::Closed(Some(error)),
                };
                self.close(number, &Outcome::Closed, trouble);
            }
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
                    match &self.plan.login {
                        None => connection.is_ready(),
                        Some(login) => {
                            connection.output = login.request(connection.dialect);
                            connection.phase = Phase::LoggingIn(self.clock.read_ns());
                        }
                    }
                }
                Phase::LoggingIn(_) => self.log_in(number)?,
                Phase::Idle => {
                    if !self.has_next() {
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

    /// Sends what is left of the login, and takes its answer if it is whole.
    fn log_in(&mut self, number: usize) -> io::Result<()> {
        let connection = &mut self.connections[number];
        connection.write()?;
        let Some(stream) = &mut connection.stream else { return Ok(()) };
        let bytes = stream.read(&mut self.scratch)?;
        if bytes == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        connection.input.extend(&self.scratch[..bytes]);
        match Login::answer(connection.dialect, &connection.input) {
            LoginAnswer::NeedMore => Ok(()),
            LoginAnswer::Admitted => {
                connection.input.clear();
                connection.is_ready();
                Ok(())
            }
            LoginAnswer::Refused(words) => Err(io::Error::other(Trouble::Login(words).to_string())),
        }
    }

    /// Begins the next operation; it is written by the caller.
    fn begin(&mut self, number: usize) {
        let connection = &mut self.connections[number];
        let operation = if self.begun < self.operations {
            self.begun += 1;
            connection.chooser.next(self.plan, &self.grown)
        } else {
            self.read_back += 1;
            Operation::on(lasting(Verb::Get), self.read_back - 1)
        };
        connection.output.clear();
        connection.written = 0;
        operation.encode(connection.dialect, &self.names, &mut connection.output);
        self.waiting += 1;
        self.checker.begin(number, &operation);
        connection.phase = Phase::Waiting(Box::new(operation), self.clock.read_ns());
    }

    /// Takes the answer from the input if it is whole.
    fn answer(&mut self, number: usize) {
        let connection = &mut self.connections[number];
        // What the answer borrows is taken out, for its end needs the rest of the run.
        let mut input = std::mem::take(&mut connection.input);
        let phase = std::mem::replace(&mut connection.phase, Phase::Idle);
        let Phase::Waiting(operation, since_ns) = phase else { unreachable!("it read an answer") };
        let trouble = match operation.parse(connection.dialect, &self.names, &input) {
            Ok(Some((outcome, bytes))) if bytes == input.len() => {
                self.finish(number, &operation, since_ns, &outcome);
                input.clear();
                self.connections[number].input = input;
                return;
            }
            Ok(None) if input.len() > self.plan.answer_bytes => {
                Trouble::Long(self.plan.answer_bytes)
            }
            Ok(None) => {
                connection.input = input;
                connection.phase = Phase::Waiting(operation, since_ns);
                return;
            }
            Ok(Some((_, bytes))) => Trouble::garbage("more than the answer", &input[bytes..]),
            Err(trouble) => trouble,
        };
        connection.phase = Phase::Waiting(operation, since_ns);
        self.close(number, &Outcome::Nonsense(trouble.to_string()), trouble);
    }

    /// Ends an operation that has its answer.
    fn finish(
        &mut self,
        number: usize,
        operation: &Operation,
        since_ns: u64,
        outcome: &Outcome<'_>,
    ) {
        let seen = self.end(number, operation, since_ns, outcome);
        if let Outcome::Failed(_) = outcome {
            let until_ns = self.clock.read_ns() + PAUSE_NS.0;
            self.connections[number].phase = Phase::Pausing(until_ns);
        }
        if matches!(outcome, Outcome::Stored)
            && let [key] = operation.keys[..]
        {
            let before = if operation.command.is_record_write() { self.grown[key] } else { 0 };
            self.grown[key] = before + operation.value.len();
        }
        let Outcome::Values(hits) = outcome else { return };
        for hit in hits {
            if let Some(grown) = self.grown.get_mut(hit.key) {
                *grown = hit.value.len();
            }
        }
        let is_gets = matches!(operation.command.verb, Verb::Gets | Verb::Gats);
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
        since_ns: u64,
        outcome: &Outcome<'_>,
    ) -> Option<Seen> {
        self.waiting -= 1;
        let duration_ns = self.clock.read_ns() - since_ns;
        self.report.add(operation, outcome, duration_ns);
        self.checker.end(number, operation, outcome)
    }
}
