//! How a tier's own sockets wake the worker that waits for them.
//!
//! A worker over kernel sockets sleeps in epoll; what is watched here is in that same set. A worker
//! on a device polls or naps, and nothing needs watching there. It must never say what happened on
//! a socket: its owner checks it itself, every turn.

use std::io;

use mio::event::Source;
use mio::{Interest, Registry, Token};

/// The token of everything watched; the worker's own sockets have others.
pub const TOKEN: Token = Token(u32::MAX as usize - 1);

/// Where a worker sleeps, for those whose sockets are to wake it.
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
    /// The kernel's, if there is no descriptor left.
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

    /// From here on the worker wakes when `source` becomes readable or writable (edge-triggered:
    /// what is there already does not wake it again). Closing the source ends it.
    ///
    /// # Errors
    /// The kernel's.
    pub fn watch(&self, source: &mut impl Source) -> io::Result<()> {
        let Some(registry) = &self.registry else { return Ok(()) };
        registry.register(source, TOKEN, Interest::READABLE | Interest::WRITABLE)
    }
}
