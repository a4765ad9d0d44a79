//! A future that a test polls by hand, and only when its waker was called, as a worker does.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Flag>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// A future with the waker that it was given.
pub struct Task<'f, T> {
    future: Pin<Box<dyn Future<Output = T> + 'f>>,
    flag: Arc<Flag>,
    pub output: Option<T>,
}

impl<'f, T> Task<'f, T> {
    /// Polls it once, so that it has begun.
    pub fn new(future: impl Future<Output = T> + 'f) -> Task<'f, T> {
        let flag = Arc::new(Flag(AtomicBool::new(true)));
        let mut task = Task { future: Box::pin(future), flag, output: None };
        task.poll();
        task
    }

    /// Polls it if its waker was called and it has not ended.
    pub fn poll(&mut self) {
        if self.output.is_none() && self.flag.0.swap(false, Ordering::SeqCst) {
            let waker = Waker::from(Arc::clone(&self.flag));
            let polled = self.future.as_mut().poll(&mut Context::from_waker(&waker));
            if let Poll::Ready(output) = polled {
                self.output = Some(output);
            }
        }
    }
}
