//! The first connection of a link, opened before any client is served, and its errors.

use std::fmt;
use std::io;

use super::config::LinkConfig;
use super::protocol::{Codec, Refusal};
use super::stream::{Address, Opening, Stream};
use crate::base::limits::LINK_GREETING_BYTES_MAX;

/// Reads in which a greeting must be complete; each may last the whole time-out.
const GREETING_READS_MAX: usize = 8;

/// Why a link could not be opened; one line for the operator.
#[derive(Debug)]
pub struct OpenError {
    name: &'static str,
    address: Address,
    cause: Cause,
}

#[derive(Debug)]
enum Cause {
    Connect(io::Error),
    Greet(io::Error),
    Refused(Refusal),
}

impl OpenError {
    /// Whether trying again may succeed: a server may listen there later.
    pub fn is_absence(&self) -> bool {
        match &self.cause {
            // That does not change by itself.
            Cause::Connect(error) => error.kind() != io::ErrorKind::PermissionDenied,
            Cause::Greet(_) => true,
            Cause::Refused(_) => false,
        }
    }
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let OpenError { name, address, cause } = self;
        match cause {
            Cause::Connect(error) => match error.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                    write!(f, "{name} at {address}: no server listens there")
                }
                io::ErrorKind::PermissionDenied => {
                    write!(f, "{name} at {address}: no permission to connect")
                }
                _ => write!(f, "{name} at {address}: cannot connect: {error}"),
            },
            Cause::Greet(error) => match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                    write!(f, "{name} at {address}: it does not answer")
                }
                io::ErrorKind::UnexpectedEof => {
                    write!(f, "{name} at {address}: it closes the connection")
                }
                _ => write!(f, "{name} at {address}: lost while greeting: {error}"),
            },
            Cause::Refused(Refusal(why)) => write!(f, "{name} at {address}: {why}"),
        }
    }
}

impl std::error::Error for OpenError {}

/// Connects to the server and greets it.
pub(super) fn open<C: Codec>(config: &LinkConfig) -> Result<Stream, OpenError> {
    let LinkConfig { address, readiness, .. } = config;
    let name = address.server_name(C::NAME);
    let fail = |cause| OpenError { name, address: address.clone(), cause };
    let mut opening = Opening::connect(address).map_err(|error| fail(Cause::Connect(error)))?;
    greet::<C>(&mut opening).map_err(fail)?;
    let mut stream = opening.into_stream().map_err(|error| fail(Cause::Connect(error)))?;
    stream.watch(readiness).map_err(|error| fail(Cause::Connect(error)))?;
    Ok(stream)
}

fn greet<C: Codec>(opening: &mut Opening) -> Result<(), Cause> {
    let mut hello = Vec::new();
    C::hello(&mut hello);
    opening.send(&hello).map_err(Cause::Greet)?;
    let mut buffer = [0; LINK_GREETING_BYTES_MAX];
    let mut end = 0;
    for _ in 0..GREETING_READS_MAX {
        match opening.receive(&mut buffer[end..]) {
            Ok(0) => return Err(Cause::Greet(io::ErrorKind::UnexpectedEof.into())),
            Ok(n) => end += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Cause::Greet(error)),
        }
        if C::greeting(&buffer[..end]).map_err(Cause::Refused)?.is_some() {
            return Ok(());
        }
    }
    Err(Cause::Greet(io::ErrorKind::TimedOut.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_server_that_may_still_come_is_waited_for() {
        let absent = |kind: io::ErrorKind| {
            let address = Address::Unix("/run/socket".into());
            let cause = Cause::Connect(kind.into());
            OpenError { name: "memcached", address, cause }.is_absence()
        };
        assert!(absent(io::ErrorKind::ConnectionRefused) && absent(io::ErrorKind::NotFound));
        assert!(!absent(io::ErrorKind::PermissionDenied), "its mode has to change");
    }
}
