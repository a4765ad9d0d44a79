//! `sunder top`.

use clap::Args;

use crate::config::{Parsed, ValueError};

/// Show what a server does, on the terminal
///
/// It reads the server's admin address once a second and changes nothing: what needs attention,
/// requests, hits by tier, times, workers and top keys. q, Escape and ctrl-C quit. A server that
/// goes away is asked again until it is back.
#[derive(Args, Debug)]
#[command(after_help = "Exit status: 0 it was ended, 1 there is no such server or no terminal.")]
pub(super) struct Top {
    /// The server's --admin address
    #[arg(value_name = "HOST:PORT", value_parser = address)]
    pub address: String,
}

/// HOST:PORT; an IPv6 address is in brackets.
pub(super) fn address(text: &str) -> Parsed<String> {
    let is_address = text.rsplit_once(':').is_some_and(|(host, port)| {
        let is_name = !host.contains(':') || (host.starts_with('[') && host.ends_with(']'));
        let is_plain = !host.contains(|c: char| c.is_whitespace() || c.is_control() || c == '/');
        !host.is_empty() && is_name && is_plain && port.parse::<u16>().is_ok_and(|port| port > 0)
    });
    let expected = "HOST:PORT, such as 127.0.0.1:11299".to_owned();
    is_address.then(|| text.to_owned()).ok_or_else(|| ValueError::new(text, expected))
}
