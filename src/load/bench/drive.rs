//! One task of one thread, from its first request to its last answer, over any carrier.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use super::engine::{Engine, Task};
use super::schedule::SECOND_NS;

/// What carries a thread's connections.
pub trait Carrier {
    /// One pass: reads the clock, tells the engine, takes what came. May sleep until `until_ns` if
    /// nothing comes, or return at once.
    fn begin_turn(&mut self, engine: &mut Engine, until_ns: u64);

    /// Lets connection `number` take answers and begin requests.
    fn visit(&mut self, engine: &mut Engine, number: usize);

    /// Hands over what was written in this turn.
    fn end_turn(&mut self);

    /// Ends all connections.
    fn close(&mut self, engine: &mut Engine);
}

/// Connections visited in one turn without an answer having come: as many as a burst has frames, so
/// that answers are taken in between.
const VISITS_PER_TURN: usize = 32;

/// How long after a step's end requests that were due in it may still begin, in nanoseconds.
const GRACE_NS: u64 = SECOND_NS / 2;

/// How long keys are stored before the pace of that is judged, in nanoseconds.
const FILL_LOOK_NS: u64 = 5 * SECOND_NS;

/// Longest sleep, in nanoseconds: how late a stop or a silence is noticed.
const NAP_NS: u64 = SECOND_NS / 20;

/// Runs `task` to its end: until all that began is answered, one of `ends` is set and what is under
/// way is answered, or the engine has failed. `timeout_ns` of silence is a failure.
pub fn drive<C: Carrier>(
    carrier: &mut C,
    engine: &mut Engine,
    task: Task,
    ends: &[&AtomicBool],
    timeout_ns: u64,
) {
    engine.begin(task);
    let (begin_ns, is_paced) = match task {
        Task::LogIn | Task::Fill { .. } => (0, false),
        Task::Measure { rate, start_ns, .. } => (start_ns, rate.is_some()),
    };
    // Connections that were not told yet that they may begin.
    let mut untold = 0..if is_paced { 0 } else { engine.connections() };
    let filling = match task {
        Task::Fill { limit_ns } => Some((engine.now_ns(), limit_ns)),
        Task::LogIn | Task::Measure { .. } => None,
    };
    let mut ended_ns = None;
    let mut is_stopping = false;
    loop {
        let until_ns = (engine.now_ns() + NAP_NS).min(engine.next_arrival_ns());
        let is_idle = untold.is_empty() || engine.now_ns() < begin_ns;
        carrier.begin_turn(engine, if is_idle { until_ns } else { 0 });
        if engine.failure().is_some() {
            return;
        }
        if engine.now_ns() >= begin_ns {
            untold.by_ref().take(VISITS_PER_TURN).for_each(|n| carrier.visit(engine, n));
        }
        for _ in 0..VISITS_PER_TURN {
            let Some(number) = engine.deal() else { break };
            carrier.visit(engine, number);
        }
        carrier.end_turn();
        if !is_stopping && ends.iter().any(|end| end.load(Relaxed)) {
            is_stopping = true;
            engine.cut_short();
        }
        if let Some((since_ns, limit_ns)) = filling
            && is_too_slow(engine, since_ns, limit_ns)
        {
            return;
        }
        if !engine.may_send() || engine.is_past_end() {
            let ended_ns = *ended_ns.get_or_insert(engine.now_ns());
            let is_behind = engine.may_send() || engine.backlog() > 0;
            if engine.outstanding() == 0 && !is_behind {
                return;
            }
            if is_behind && engine.now_ns() > ended_ns + GRACE_NS {
                engine.give_up();
                (0..engine.connections()).for_each(|number| carrier.visit(engine, number));
            }
        }
        let is_waiting = engine.outstanding() > 0 || engine.loss().is_some();
        if is_waiting && engine.silence_ns() > timeout_ns {
            fail_silent(engine, timeout_ns);
            return;
        }
    }
}

/// Fails the engine, which has heard nothing for so long.
#[cold]
fn fail_silent(engine: &mut Engine, timeout_ns: u64) {
    let seconds = timeout_ns as f64 / SECOND_NS as f64;
    let silence = format!("no answer from the server for {seconds} s");
    engine.fail(match engine.loss() {
        Some(loss) => format!("{loss}; {silence}"),
        None => format!("{silence}, {} requests in flight", engine.outstanding()),
    });
}

/// Fails the engine if the keys cannot be stored within `limit_ns` of `since_ns` at the pace so
/// far.
fn is_too_slow(engine: &mut Engine, since_ns: u64, limit_ns: u64) -> bool {
    let elapsed_ns = engine.now_ns() - since_ns;
    let fill_ns = engine.fill_ns(elapsed_ns);
    let is_known = elapsed_ns > FILL_LOOK_NS;
    let is_too_slow = is_known && engine.may_send() && fill_ns > limit_ns || elapsed_ns > limit_ns;
    if is_too_slow {
        engine.fail(format!(
            "storing the keys would take {} s, more than the {} s that a run of this --duration \
             waits for it: fewer --keys, --no-fill, or a longer --duration",
            fill_ns.max(elapsed_ns) / SECOND_NS,
            limit_ns / SECOND_NS
        ));
    }
    is_too_slow
}
