//! The threads of a run: each opens its connections, and then does one task after another, all of
//! them the same at the same time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{Builder, Scope};
use std::time::Duration;

use super::drive::{Carrier, drive};
use super::engine::{Engine, Progress, Task};
use super::kernel::Sockets;
use super::plan::{Plan, ServerAddress};
use super::record::Record;
use super::schedule::{SECOND_NS, Share};
use crate::base::clock::Clock;

/// What a thread says when it has done something.
enum ThreadReport {
    /// It has its connections; the version that the server told on the way, if it was asked there.
    Open(Option<String>),
    /// It has done a task.
    Done(Box<Seen>),
    /// It cannot open its connections, or cannot go on.
    Failed(String),
}

/// What all threads share.
pub struct Common<'a> {
    /// What was requested.
    pub plan: &'a Plan,
    /// Where the plan's server is.
    pub address: ServerAddress,
    /// One clock for all.
    pub clock: Clock,
    /// The operator wants it to end.
    pub stop: &'a AtomicBool,
    /// Some thread has failed.
    pub failed: &'a AtomicBool,
}

/// The threads.
pub struct Crew {
    tasks: Vec<Sender<Task>>,
    reports: Receiver<ThreadReport>,
    progress: Vec<Arc<Progress>>,
    /// The version that the server told through a device.
    pub server: Option<String>,
}

/// What all threads saw in one task.
pub struct Seen {
    /// Everything.
    pub record: Record,
    /// The first error and the first mismatch of any, in words.
    pub firsts: [Option<String>; 2],
    /// What ended it before its end: no thread can go on.
    pub failure: Option<String>,
}

impl Crew {
    /// Starts the threads, and waits until all connections are open.
    ///
    /// # Errors
    /// One line that says why not.
    pub fn start<'scope>(
        common: &'scope Common<'scope>,
        scope: &'scope Scope<'scope, '_>,
    ) -> Result<Crew, String> {
        let plan = common.plan;
        let (to_main, reports) = channel();
        let mut crew = Crew { tasks: Vec::new(), reports, progress: Vec::new(), server: None };
        for thread in 0..plan.threads {
            let own = |n: usize| (n + 1) * plan.connections / plan.threads;
            let connections = own(thread) - if thread > 0 { own(thread - 1) } else { 0 };
            let share = Share { thread, threads: plan.threads, connections };
            let progress = Arc::new(Progress::default());
            let engine = Engine::new(plan, share, Arc::clone(&progress));
            let (tasks, own_tasks) = channel();
            crew.tasks.push(tasks);
            crew.progress.push(progress);
            let to_main = to_main.clone();
            Builder::new()
                .name(format!("bench-{thread}"))
                .spawn_scoped(scope, move || work(common, engine, &own_tasks, &to_main))
                .map_err(|error| format!("no thread: {error}"))?;
        }
        for _ in 0..plan.threads {
            match crew.reports.recv() {
                Ok(ThreadReport::Open(server)) => crew.server = crew.server.or(server),
                Ok(ThreadReport::Failed(reason)) => return Err(reason),
                Ok(ThreadReport::Done(_)) | Err(_) => unreachable!("a thread opens first"),
            }
        }
        Ok(crew)
    }

    /// Answers so far.
    pub fn answers(&self) -> u64 {
        self.progress.iter().map(|progress| progress.answers.load(Relaxed)).sum()
    }

    /// Has all threads do `task`; `watch` is called now and then with the answers so far. When one
    /// fails, the others end too, and what all saw until then is returned.
    pub fn run(&self, task: Task, mut watch: impl FnMut(u64)) -> Seen {
        for tasks in &self.tasks {
            // A thread that is gone has said why.
            let _ = tasks.send(task);
        }
        let mut all: Option<Seen> = None;
        let mut left = self.tasks.len();
        while left > 0 {
            match self.reports.recv_timeout(Duration::from_millis(200)) {
                Ok(ThreadReport::Done(seen)) => {
                    left -= 1;
                    match &mut all {
                        None => all = Some(*seen),
                        Some(all) => all.add(*seen),
                    }
                }
                Ok(ThreadReport::Open(_) | ThreadReport::Failed(_)) => {
                    unreachable!("opened before")
                }
                Err(RecvTimeoutError::Timeout) => watch(self.answers()),
                Err(RecvTimeoutError::Disconnected) => unreachable!("each thread reports"),
            }
        }
        all.expect("one thread at least")
    }
}

impl Seen {
    fn add(&mut self, other: Seen) {
        self.record.add(&other.record);
        for (own, other) in self.firsts.iter_mut().zip(other.firsts) {
            *own = own.take().or(other);
        }
        self.failure = self.failure.take().or(other.failure);
    }

    /// Whether it was completed.
    ///
    /// # Errors
    /// What ended it, in one line.
    pub fn result(&self) -> Result<(), String> {
        self.failure.clone().map_or(Ok(()), Err)
    }
}

/// A thread, from its first connection to its last.
fn work(
    common: &Common<'_>,
    mut engine: Engine,
    tasks: &Receiver<Task>,
    reports: &Sender<ThreadReport>,
) {
    let plan = common.plan;
    let result = match (&plan.device, &common.address) {
        #[cfg(feature = "dpdk")]
        (Some(device), &ServerAddress::Tcp(server)) => {
            let (clock, stop) = (common.clock, common.stop);
            super::device::Wired::open(plan, device, server, &mut engine, clock, stop).map(
                |mut wired| {
                    let _ = reports.send(ThreadReport::Open(wired.server.take()));
                    obey(common, &mut wired, &mut engine, tasks, reports);
                    wired.hold(device.hold_s, common.stop);
                },
            )
        }
        #[cfg(not(feature = "dpdk"))]
        (Some(_), _) => Err("--device: this sunder was built without DPDK".into()),
        (_, address) => open_sockets(common, address, &engine).map(|mut sockets| {
            let _ = reports.send(ThreadReport::Open(None));
            obey(common, &mut sockets, &mut engine, tasks, reports);
        }),
    };
    if let Err(reason) = result {
        // Main may have heard of another failure and gone.
        let _ = reports.send(ThreadReport::Failed(reason));
    }
}

fn open_sockets(
    common: &Common<'_>,
    address: &ServerAddress,
    engine: &Engine,
) -> Result<Sockets, String> {
    let timeout = common.plan.timeout;
    let connections = engine.connections();
    Sockets::open(address, connections, common.clock, timeout).map_err(|(opened, error)| {
        let target = common.plan.target();
        format!("cannot connect to {target}: {error}; {opened} of {connections} connected")
    })
}

/// Does task after task, as long as there are some.
fn obey<C: Carrier>(
    common: &Common<'_>,
    carrier: &mut C,
    engine: &mut Engine,
    tasks: &Receiver<Task>,
    reports: &Sender<ThreadReport>,
) {
    while let Ok(task) = tasks.recv() {
        let ends = [common.stop, common.failed];
        drive(carrier, engine, task, &ends, common.plan.timeout_ns());
        let failure = engine.failure().cloned();
        let is_over = failure.is_some();
        if is_over {
            common.failed.store(true, Relaxed);
            // What comes after a failure was not measured.
            engine.cut_short();
        }
        let firsts = engine.take_firsts();
        let seen = Seen { record: engine.take_record(), firsts, failure };
        let _ = reports.send(ThreadReport::Done(Box::new(seen)));
        if is_over {
            break;
        }
    }
    carrier.close(engine);
}

/// How long the stretches of a step are that are told apart: at most a hundred, none below 100 ms.
pub fn interval_ns(duration_ns: u64) -> u64 {
    (duration_ns / 100).max(SECOND_NS / 10)
}
