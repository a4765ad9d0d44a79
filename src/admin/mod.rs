//! The admin thread: metrics, the live page and hot keys.
//!
//! It reads what the workers count and takes the samples they leave, on a thread and, where there
//! is one, a core of its own. No worker waits for it, or knows whether it runs. Over HTTP it only
//! answers questions: nothing that it serves changes anything.
//!
//! ```text
//! workers: counters, histograms, samples ──> state ──┬─ metrics: /metrics, rend: /metrics/rend
//!                                                    └─ feed: /feed ──> the page, sunder top
//! ```

mod feed;
mod history;
mod hot;
mod http;
mod metrics;
mod page;
mod rend;
mod state;
mod view;

pub use feed::{Feed, ShownKey};
pub use history::{Pace, Second};
pub use view::View;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::{Arc, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::runtime;
use tokio::sync::Notify;
use tokio::task::LocalSet;
use tokio::time::timeout;

use state::State;

/// How often samples are taken.
const GATHER: Duration = Duration::from_millis(100);

/// Opens the port for metrics and the page.
///
/// # Errors
/// The kernel's.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// The admin thread. It ends when this is dropped.
#[derive(Debug)]
pub struct Admin {
    end: Arc<Notify>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Admin {
    fn drop(&mut self) {
        self.end.notify_one();
        if let Some(thread) = self.thread.take() {
            // A panic was reported when it happened.
            let _ = thread.join();
        }
    }
}

/// Starts the admin thread, on any of `cores` if some are given.
///
/// # Errors
/// The kernel's: there is no thread.
pub fn start(view: View, listener: Option<TcpListener>, cores: Vec<usize>) -> io::Result<Admin> {
    let keys = &view.shared().keys_out;
    let keys = std::mem::take(&mut *keys.lock().unwrap_or_else(PoisonError::into_inner));
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    let end = Arc::new(Notify::new());
    let is_over = Arc::clone(&end);
    let run = move || {
        settle(&cores);
        let state = Rc::new(State::new(view, keys));
        let local = LocalSet::new();
        if let Some(listener) = listener {
            local.spawn_local(http::serve(listener, Rc::clone(&state)));
        }
        local.block_on(&runtime, gather(&state, &is_over));
    };
    let thread = thread::Builder::new().name("sunder-admin".to_owned()).spawn(run)?;
    Ok(Admin { end, thread: Some(thread) })
}

/// Has the thread run where no worker does, and after everything else.
fn settle(cores: &[usize]) {
    let mut set = rustix::thread::CpuSet::new();
    cores.iter().for_each(|&core| set.set(core));
    // Without either it runs nevertheless.
    if !cores.is_empty() {
        let _ = rustix::thread::sched_setaffinity(None, &set);
    }
    let _ = rustix::process::setpriority_process(Some(rustix::thread::gettid()), 10);
}

/// Takes samples until the end.
async fn gather(state: &State, is_over: &Notify) {
    let mut turns = 0_u32;
    loop {
        if timeout(GATHER, is_over.notified()).await.is_ok() {
            return;
        }
        turns += 1;
        if turns == 10 {
            turns = 0;
            state.tick();
        } else {
            state.gather();
        }
    }
}
