//! A client of the text protocol that takes nothing but the answers it expects.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// A server that sends nothing for this long hangs. Reached only on a fault.
pub const SILENCE: Duration = Duration::from_secs(20);

/// A connection to a server.
pub struct Client(pub BufReader<TcpStream>);

impl Client {
    pub fn connect(address: SocketAddr) -> Client {
        let stream = TcpStream::connect(address).expect("it accepts");
        stream.set_read_timeout(Some(SILENCE)).expect("a time-out");
        stream.set_nodelay(true).expect("an option");
        Client(BufReader::new(stream))
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.0.get_mut().write_all(bytes).expect("the server reads");
    }

    /// A line of the answer, with its end.
    pub fn line(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).expect("the server answers");
        line
    }

    pub fn set(&mut self, key: &str, value: &[u8]) {
        self.send(
            &[format!("set {key} 0 0 {}\r\n", value.len()).as_bytes(), value, b"\r\n"].concat(),
        );
        assert_eq!(self.line(), "STORED\r\n", "{key}");
    }

    /// The value, or the line that was there instead.
    pub fn get(&mut self, key: &str) -> Result<Vec<u8>, String> {
        self.send(format!("get {key}\r\n").as_bytes());
        let value = self.value(key)?;
        assert_eq!(self.line(), "END\r\n");
        Ok(value)
    }

    /// Reads one VALUE block; or returns the line that was there instead.
    pub fn value(&mut self, key: &str) -> Result<Vec<u8>, String> {
        let line = self.line();
        let Some(bytes) = line.strip_prefix(&format!("VALUE {key} 0 ")) else { return Err(line) };
        let mut value = vec![0; bytes.trim_end().parse::<usize>().expect("a length") + 2];
        self.0.read_exact(&mut value).expect("the value");
        assert_eq!(value.split_off(value.len() - 2), b"\r\n");
        Ok(value)
    }

    /// Writes `bytes` again and again, `limit` bytes in all, or until the server takes no more: it
    /// closed, or it does not read.
    pub fn flood(&mut self, bytes: &[u8], limit: usize) {
        let stream = self.0.get_mut();
        stream.set_write_timeout(Some(Duration::from_secs(1))).expect("a time-out");
        let mut taken = 0;
        while taken < limit {
            match stream.write(bytes) {
                Ok(n) => taken += n,
                Err(error) if is_closed(error.kind()) => break,
                Err(error) if is_full(error.kind()) => break,
                Err(error) => panic!("write: {error}"),
            }
        }
    }

    pub fn is_closed_by_server(&mut self) -> bool {
        let mut rest = vec![];
        match self.0.read_to_end(&mut rest) {
            Ok(_) => true,
            Err(error) => is_closed(error.kind()),
        }
    }
}

fn is_closed(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::ConnectionReset | ErrorKind::BrokenPipe)
}

pub fn is_full(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::WouldBlock | ErrorKind::TimedOut)
}
