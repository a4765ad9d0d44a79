//! A server and one client of it, by the text protocol.

use crate::support::{PATIENCE, Server, free_port};
use std::io::{BufRead, BufReader, Read, Result, Write};
use std::net::TcpStream;
use sunder::base::random::mix;

/// A server and a connection to it.
pub struct Client {
    pub server: Server,
    pub lines: BufReader<TcpStream>,
}

impl Client {
    /// Starts a server with these flags.
    pub fn start(flags: &[&str]) -> Client {
        let (port, batch) = (free_port().to_string(), free_port().to_string());
        let args = [&["-p", &port, "--bp", &batch][..], flags].concat();
        let server = Server::sunder(&args).expect("it starts");
        let port: u16 = port.parse().expect("a port");
        let stream = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
        stream.set_nodelay(true).expect("a socket");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        Client { server, lines: BufReader::new(stream) }
    }

    /// Sends bytes unchanged.
    pub fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.lines.get_mut().write_all(bytes)
    }

    /// A line of the answer, without its end.
    pub fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        if self.lines.read_line(&mut line)? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        line.truncate(line.trim_end().len());
        Ok(line)
    }

    /// The one-line answer to a command of one line.
    pub fn request(&mut self, command: &str) -> String {
        self.send(format!("{command}\r\n").as_bytes()).expect("it reads");
        self.line().expect("it answers")
    }

    /// The answer to a storage command.
    pub fn store(&mut self, verb: &str, key: &str, flags: u32, value: &[u8]) -> String {
        let head = format!("{verb} {key} {flags} 0 {}\r\n", value.len());
        self.send(&[head.as_bytes(), value, b"\r\n"].concat()).expect("it reads");
        self.line().expect("it answers")
    }

    /// The flags and value that a get of `key` finds.
    pub fn get(&mut self, key: &str) -> Option<(u32, Vec<u8>)> {
        self.send(format!("get {key}\r\n").as_bytes()).expect("it reads");
        self.hit().expect("it answers")
    }

    /// The answer to a get of one key.
    pub fn hit(&mut self) -> Result<Option<(u32, Vec<u8>)>> {
        let head = self.line()?;
        if head == "END" {
            return Ok(None);
        }
        let words: Vec<&str> = head.split(' ').collect();
        let ["VALUE", _, flags, len] = words[..] else { panic!("{head}") };
        let mut value = vec![0; len.parse::<usize>().expect("a length") + 2];
        self.lines.read_exact(&mut value)?;
        assert!(value.ends_with(b"\r\n"), "{head}");
        value.truncate(value.len() - 2);
        assert_eq!(self.line()?, "END");
        Ok(Some((flags.parse().expect("flags"), value)))
    }

    /// A number in `stats`.
    pub fn stat(&mut self, name: &str) -> Result<u64> {
        self.send(b"stats\r\n")?;
        let mut found = None;
        loop {
            let line = self.line()?;
            if line == "END" {
                return Ok(found.unwrap_or_else(|| panic!("no statistic {name}")));
            }
            if let Some(("STAT", rest)) = line.split_once(' ')
                && let Some((of, number)) = rest.split_once(' ')
                && of == name
            {
                found = Some(number.parse().expect("a number"));
            }
        }
    }
}

/// Unique bytes.
pub fn value(seed: u64, len: usize) -> Vec<u8> {
    let words = (0..).map(|i| mix(seed ^ mix(i)));
    words.flat_map(u64::to_le_bytes).take(len).collect()
}
