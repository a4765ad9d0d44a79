//! Who may log in, for all workers.
//!
//! An address that has failed too often is not compared with anything: it gets the reply of a wrong
//! password, whatever it sends. A password that only its hash tells is verified by a thread of its
//! own, because that takes milliseconds: a worker hands the login over and gets the verdict in a
//! later turn. A login whose client is gone is not verified. Nothing here makes a worker wait.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use crossbeam_queue::ArrayQueue;

use crate::base::attempts::Attempts;
use crate::base::clock::{Clock, Now};
use crate::base::credentials::{Check, Credentials, CredentialsError};
use crate::base::limits::VERIFICATIONS_MAX;
use crate::base::password::Memory;
use crate::base::stats::{Counter, WorkerStats};
use crate::connection::Verdict;
use crate::connection::slots::Slots;
use crate::mailbox::Mailbox;
use crate::net::ConnectionId;
use crate::report::{Event, Topic};

/// Names, passwords, and who has failed.
#[derive(Debug)]
pub struct Logins {
    judge: Arc<Judge>,
    /// Whether the verifier runs.
    is_verifying: Mutex<bool>,
}

/// What judges a login, on a worker or beside it.
#[derive(Debug)]
struct Judge {
    users: Credentials,
    /// None: attempts are not limited.
    attempts: Option<Attempts>,
    clock: Clock,
    /// What the operator can do about logins that are limited, in words that end a line.
    remedy: &'static str,
    jobs: Jobs,
    /// By worker: the verdicts that it has not taken, with their slots.
    verdicts: Vec<ArrayQueue<(u32, Verdict)>>,
}

/// A login to verify.
struct Job {
    worker: usize,
    slot: u32,
    peer: Option<IpAddr>,
    user: Box<[u8]>,
    password: Box<[u8]>,
}

impl fmt::Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Job of slot {} of worker {}", self.slot, self.worker)
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        self.password.fill(0);
    }
}

/// Logins that wait for the verifier, in the order of their arrival.
#[derive(Debug, Default)]
struct Jobs {
    /// Locked for the length of a few comparisons, and never while a hash is computed.
    queue: Mutex<Queue>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<Job>,
    is_over: bool,
}

impl Jobs {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// False: there is no place for it.
    fn push(&self, job: Job) -> bool {
        let mut queue = self.lock();
        let has_place = queue.waiting.len() < VERIFICATIONS_MAX;
        if has_place {
            queue.waiting.push_back(job);
            self.changed.notify_one();
        }
        has_place
    }

    /// The next one, for which it waits. None: there will be none.
    fn pop(&self) -> Option<Job> {
        let is_idle = |queue: &mut Queue| queue.waiting.is_empty() && !queue.is_over;
        let queue = self.changed.wait_while(self.lock(), is_idle);
        let mut queue = queue.unwrap_or_else(PoisonError::into_inner);
        if queue.is_over { None } else { queue.waiting.pop_front() }
    }

    /// Drops a login that waits, unless it is among the first `spared`. False: its verdict comes.
    fn cancel(&self, worker: usize, slot: u32, spared: usize) -> bool {
        let mut queue = self.lock();
        let is_it = |job: &Job| (job.worker, job.slot) == (worker, slot);
        let place = queue.waiting.iter().position(is_it).filter(|place| *place >= spared);
        place.is_some_and(|place| queue.waiting.remove(place).is_some())
    }

    fn end(&self) {
        self.lock().is_over = true;
        self.changed.notify_one();
    }
}

impl Drop for Logins {
    fn drop(&mut self) {
        self.judge.jobs.end();
    }
}

impl Logins {
    /// The users, and how often each address may fail at once; 0: always. The verifier is not
    /// started yet.
    pub fn new(
        users: Credentials,
        at_once: u32,
        clock: Clock,
        workers: usize,
        remedy: &'static str,
    ) -> Logins {
        let attempts = (at_once > 0).then(|| Attempts::new(at_once));
        let verdicts = (0..workers).map(|_| ArrayQueue::new(VERIFICATIONS_MAX)).collect();
        let jobs = Jobs::default();
        let judge = Arc::new(Judge { users, attempts, clock, remedy, jobs, verdicts });
        Logins { judge, is_verifying: Mutex::default() }
    }

    /// The users.
    pub fn users(&self) -> &Credentials {
        &self.judge.users
    }

    /// Reads the file of users once more.
    ///
    /// # Errors
    /// Why it is not used; then the users stay as they were.
    pub fn reread(&self) -> Result<(), CredentialsError> {
        self.judge.users.reread()
    }

    /// Changes how often each address may fail at once. False: whether they are limited cannot
    /// change.
    pub fn limit_attempts(&self, at_once: u32) -> bool {
        match &self.judge.attempts {
            Some(attempts) if at_once > 0 => attempts.limit(at_once),
            None if at_once == 0 => {}
            _ => return false,
        }
        true
    }

    /// Starts the verifier if a user has a hash and it does not run yet. It ends with this value.
    ///
    /// # Errors
    /// If the host cannot create a thread.
    pub fn start_verifier(&self) -> io::Result<()> {
        if !self.judge.users.has_hashes() {
            return Ok(());
        }
        let mut is_verifying = self.is_verifying.lock().unwrap_or_else(PoisonError::into_inner);
        if *is_verifying {
            return Ok(());
        }
        let judge = Arc::clone(&self.judge);
        let verify = move || {
            let mut memory = Memory::default();
            while let Some(job) = judge.jobs.pop() {
                let verdict = judge.verify(&job, &mut memory);
                let verdicts = &judge.verdicts[job.worker];
                verdicts.push((job.slot, verdict)).expect("there is room for all of a worker");
            }
        };
        thread::Builder::new().name("sunder-verifier".into()).spawn(verify)?;
        *is_verifying = true;
        Ok(())
    }

    /// Judges an attempt of a client at `peer`; one without an address is not limited. If it is
    /// pending, `worker` finds the verdict for `slot` among its verdicts, where there must be room
    /// for it: `has_room`.
    fn judge(
        &self,
        peer: Option<IpAddr>,
        (user, password): (&[u8], &[u8]),
        (worker, slot, has_room): (usize, u32, bool),
        now: Now,
    ) -> Verdict {
        let judge = &*self.judge;
        if judge.is_limited(peer) {
            judge.report_limited(peer, now);
            return Verdict::Limited;
        }
        match judge.users.check(user, password) {
            Check::Admitted => Verdict::Admitted,
            Check::Refused => {
                judge.note_failure(peer);
                Verdict::Refused
            }
            Check::Hashed => {
                let (user, password) = (user.into(), password.into());
                let job = Job { worker, slot, peer, user, password };
                if has_room && judge.jobs.push(job) {
                    return Verdict::Pending;
                }
                judge.report_full(now);
                Verdict::Limited
            }
        }
    }
}

impl Judge {
    /// Judges a login whose password can only be hashed.
    fn verify(&self, job: &Job, memory: &mut Memory) -> Verdict {
        // It may have failed while this one waited.
        if self.is_limited(job.peer) {
            return Verdict::Limited;
        }
        if self.users.verify(&job.user, &job.password, memory) {
            return Verdict::Admitted;
        }
        self.note_failure(job.peer);
        Verdict::Refused
    }

    /// The time is that of the process: workers may differ in theirs.
    fn now_us(&self) -> u64 {
        self.clock.read().uptime_us
    }

    fn is_limited(&self, peer: Option<IpAddr>) -> bool {
        let limit = self.attempts.as_ref().zip(peer);
        limit.is_some_and(|(attempts, peer)| !attempts.may_try(peer, self.now_us()))
    }

    fn note_failure(&self, peer: Option<IpAddr>) {
        if let Some((attempts, peer)) = self.attempts.as_ref().zip(peer) {
            attempts.note_failure(peer, self.now_us());
        }
    }

    fn report_limited(&self, peer: Option<IpAddr>, now: Now) {
        static LIMITED: Topic = Topic::new();
        let Some(peer) = peer else { return };
        LIMITED.report(now, || {
            let remedy = self.remedy;
            let text =
                format_args!("a login from {peer} was refused: it has failed too often; {remedy}");
            Event::LoginRefused.line(text).reason("attempts").address(peer)
        });
    }

    fn report_full(&self, now: Now) {
        static FULL: Topic = Topic::new();
        FULL.report(now, || {
            let text =
                format_args!("a login was refused: {VERIFICATIONS_MAX} others are being verified");
            Event::LoginRefused.line(text).reason("busy")
        });
    }
}

/// A worker's side: its logins that are being verified.
pub(super) struct Door {
    logins: Option<Arc<Logins>>,
    stats: Arc<WorkerStats>,
    worker: usize,
    /// Slots that wait for a verdict.
    waiting: usize,
}

impl Door {
    /// The door of the worker with this mailbox. No logins: everybody may use the server.
    pub fn new(logins: Option<Arc<Logins>>, mailbox: &Mailbox, stats: &[Arc<WorkerStats>]) -> Door {
        let worker = mailbox.worker();
        Door { logins, stats: Arc::clone(&stats[worker]), worker, waiting: 0 }
    }

    /// Whether clients have to log in.
    pub fn needs_login(&self) -> bool {
        self.logins.is_some()
    }

    /// Whether there may be a verdict to take.
    #[inline(always)]
    pub fn is_waiting(&self) -> bool {
        self.waiting > 0
    }

    /// Judges and counts an attempt, whose verdict is the outcome of `slot` if it is pending.
    pub fn log_in(
        &mut self,
        peer: Option<IpAddr>,
        login: (&[u8], &[u8]),
        slot: u32,
        now: Now,
    ) -> Verdict {
        let Some(logins) = &self.logins else { return Verdict::Refused };
        let place = (self.worker, slot, self.waiting < VERIFICATIONS_MAX);
        let verdict = logins.judge(peer, login, place, now);
        self.stats.add(Counter::AuthCmds, 1);
        match verdict {
            Verdict::Pending => self.waiting += 1,
            verdict => count(verdict, &self.stats),
        }
        verdict
    }

    /// The client of the login in `slot` is gone, or sends no more and others wait before it: it is
    /// not verified. False: it is, and its verdict comes.
    #[cold]
    pub fn cancel(&mut self, slot: u32, is_gone: bool) -> bool {
        let Some(logins) = &self.logins else { return false };
        // Who sends no more may still read its reply, which it soon has if no other is before it.
        let spared = if is_gone { 0 } else { 1 };
        let is_cancelled = logins.judge.jobs.cancel(self.worker, slot, spared);
        self.waiting -= usize::from(is_cancelled);
        is_cancelled
    }

    /// Takes the verdicts that are there. Returns how many; their connections are to be visited.
    #[cold]
    pub fn take_verdicts<V>(
        &mut self,
        slots: &mut Slots<V>,
        visits: &mut Vec<ConnectionId>,
    ) -> usize {
        let Some(logins) = &self.logins else { return 0 };
        let mut taken = 0;
        while let Some((slot, verdict)) = logins.judge.verdicts[self.worker].pop() {
            taken += 1;
            count(verdict, &self.stats);
            visits.extend(slots.complete(slot, verdict.outcome()));
        }
        self.waiting -= taken;
        taken
    }
}

fn count(verdict: Verdict, stats: &WorkerStats) {
    stats.add(Counter::AuthErrors, u64::from(verdict != Verdict::Admitted));
    stats.add(Counter::AuthLimited, u64::from(verdict == Verdict::Limited));
}
