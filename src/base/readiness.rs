//! How the sockets of a tier wake the worker that waits for them.
//!
//! A worker on kernel sockets sleeps in epoll; sockets watched here are in the same set. A worker
//! on a device polls or naps, so nothing needs to be watched. This module never reports which event
//! happened: the owner of a socket checks it every turn.

use std::io;

use mio::event::Source;
use mio::{Interest, Registry, Token};

/// The token of all watched sockets; the worker's own sockets have others.
pub const TOKEN: Token = Token(u32::MAX as usize - 1);

/// Where a worker sleeps, for sockets that have to wake it.
#[derive(Debug)]
pub struct Readiness {
    registry: Option<Registry>,
}

impl Readiness {
    /// For a worker that does not sleep in epoll.
    pub fn none() -> Readiness {
        Readiness { registry: None }
    }

    /// For a worker that sleeps in this epoll set.
    ///
    /// # Errors
    /// If there is no descriptor left.
    pub fn new(registry: &Registry) -> io::Result<Readiness> {
        Ok(Readiness { registry: Some(registry.try_clone()?) })
    }

    /// Whether the worker may sleep and has to be woken.
    pub fn wakes(&self) -> bool {
        self.registry.is_some()
    }

    /// Another handle on the same set.
    ///
    /// # Errors
    /// As [`Readiness::new`].
    pub fn try_clone(&self) -> io::Result<Readiness> {
        let registry = self.registry.as_ref().map(Registry::try_clone).transpose()?;
        Ok(Readiness { registry })
    }

    /// Wakes the worker from now on when `source` becomes readable or writable (edge-triggered:
    /// data that is already there does not wake it). Closing the source ends this.
    ///
    /// # Errors
    /// The kernel's.
    pub fn watch(&self, source: &mut impl Source) -> io::Result<()> {
        let Some(registry) = &self.registry else { return Ok(()) };
        registry.register(source, TOKEN, Interest::READABLE | Interest::WRITABLE)
    }
}
