//! `sunder stat`.

use clap::Args;

use super::top::address;
use super::value::Number;
use crate::top::StatRequest;

/// Print what a server does, a line each second
///
/// It reads the server's admin address and changes nothing. Rates are a second's; hits are parts of
/// the keys requested; times are those of gets, and of several seconds the worst; bytes are from
/// and to clients. On a terminal the columns are named every 20 lines.
#[derive(Args, Debug)]
#[command(after_help = "\
Exit status: 0 all lines are printed or nobody reads them, 1 there is no such server, or not any
more.")]
pub(super) struct Stat {
    /// The server's --admin address
    #[arg(value_name = "HOST:PORT", value_parser = address)]
    address: String,
    /// Seconds of a line
    #[arg(long, value_name = "S", default_value = "1")]
    interval: Number<1, 600>,
    /// End after N lines
    #[arg(long, value_name = "N")]
    count: Option<Number<1, { u32::MAX as u64 }>>,
    /// Print an object of JSON a line
    #[arg(long)]
    json: bool,
}

impl Stat {
    pub fn request(self) -> StatRequest {
        StatRequest {
            address: self.address,
            interval: self.interval.0 as usize,
            count: self.count.map(|count| count.0),
            is_json: self.json,
        }
    }
}
