//! One client of a storm: it asks, opens its connection again if that is what the run wants, and
//! spells keys and opaques in turn in every way there is.

use super::plan::Storm;
use super::{Wrong, base64};
use crate::base::clock::Clock;
use crate::load::client::Trouble;
use crate::load::client::{Client, MetaAnswer};
use crate::load::history::choose::Random;
use crate::load::wire::Dialect;
use std::time::Duration;

/// Between two attempts to connect.
const NAP: Duration = Duration::from_millis(5);

/// After a request that failed: a server that fails at once must not use up the whole storm.
const FAILURE_NAP: Duration = Duration::from_millis(10);

/// See the module.
pub struct Caller<'a> {
    storm: &'a Storm,
    number: u64,
    client: Option<Client>,
    /// What it draws.
    pub random: Random,
    opaques: u64,
    /// Requests without an answer, or that the server could not carry out.
    pub failures: u64,
}

impl<'a> Caller<'a> {
    /// Number `number` of its storm; not connected yet.
    pub fn new(storm: &'a Storm, number: u64, seed: u64) -> Caller<'a> {
        let random = Random::new(seed ^ number);
        Caller { storm, number, client: None, random, opaques: 0, failures: 0 }
    }

    fn connect(&mut self) -> Result<Client, Wrong> {
        let Storm { targets, login, timeout, answer_bytes, .. } = self.storm;
        let target = &targets[self.number as usize % targets.len()];
        let clock = Clock::start();
        loop {
            let opened =
                Client::connect(target, Dialect::Meta, login.as_ref(), *timeout, *answer_bytes);
            match opened {
                Ok(client) => return Ok(client),
                Err(trouble) => {
                    let is_over = clock.read_ns() > self.storm.patience.as_nanos() as u64;
                    let is_final = !self.storm.survives || matches!(trouble, Trouble::Login(_));
                    if is_over || is_final {
                        return Err(trouble_of("", &trouble));
                    }
                }
            }
            std::thread::sleep(NAP);
        }
    }

    /// Sends a request on `key`. None: there was no answer, or the server could not do it, and the
    /// run survives that.
    pub fn ask(
        &mut self,
        key: &str,
        request: &str,
        is_quiet: bool,
    ) -> Result<Option<MetaAnswer>, Wrong> {
        let mut client = match self.client.take() {
            Some(client) => client,
            None => self.connect()?,
        };
        match client.ask(request.as_bytes(), is_quiet) {
            Ok(answer) => {
                self.client = Some(client);
                if !answer.is_failure() {
                    return Ok(Some(answer));
                }
                if !self.storm.survives {
                    return Err(wrong(key, answer.code));
                }
                self.failures += 1;
                std::thread::sleep(FAILURE_NAP);
                Ok(None)
            }
            Err(trouble @ (Trouble::Closed(_) | Trouble::Slow(_))) if self.storm.survives => {
                drop(trouble);
                self.failures += 1;
                Ok(None)
            }
            Err(trouble) => Err(trouble_of(key, &trouble)),
        }
    }

    /// How a key is written this time, and the flag that says so.
    pub fn spelt(&mut self, key: &str) -> (String, &'static str) {
        match self.random.below(3) {
            0 => (base64(key.as_bytes()), " b"),
            _ => (key.to_owned(), ""),
        }
    }

    /// The next opaque.
    pub fn opaque(&mut self) -> String {
        self.opaques += 1;
        format!("{}x{}", self.number, self.opaques)
    }
}

/// Of this key.
pub fn wrong(key: &str, what: impl Into<String>) -> Wrong {
    Wrong { key: key.to_owned(), what: what.into() }
}

fn trouble_of(key: &str, trouble: &Trouble) -> Wrong {
    wrong(key, trouble.to_string())
}
