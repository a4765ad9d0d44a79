//! What a run does.

use super::names::Names;
use crate::load::login::Login;
use crate::load::stream::Target;
use crate::load::wire::Dialect;
use std::time::Duration;

/// Which operations a run is made of.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Mix {
    /// All that the protocols have, numbers, cas, flush_all and items that expire too, in a mixture
    /// that leaves much to be wrong about.
    Everything,
    /// Those of Rend's blast, evenly.
    Blast,
    /// The five stores, evenly.
    Stores,
}

/// What a run does.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Connections are spread over them.
    pub targets: Vec<Target>,
    /// The connections take turns.
    pub dialects: Vec<Dialect>,
    /// Who each connection logs in as, if anybody.
    pub login: Option<Login>,
    /// At once; each asks one operation at a time.
    pub connections: usize,
    /// Keys with values, and in [`Mix::Everything`] as many as a quarter of them with numbers.
    pub keys: usize,
    /// What the keys are called, if not as [`Names::numbered`] says.
    pub names: Option<Names>,
    /// Of all connections.
    pub operations: u64,
    /// Which operations.
    pub mix: Mix,
    /// Least and most keys of a multi-get; at least 2.
    pub multi_get: (usize, usize),
    /// Each key is read once more at the end.
    pub reads_back: bool,
    /// Decides what each connection asks.
    pub seed: u64,
    /// Least and most bytes of a record.
    pub value_bytes: (usize, usize),
    /// An operation without an answer for this long is given up.
    pub timeout: Duration,
    /// A longer answer is nonsense.
    pub answer_bytes: usize,
    /// After so long no operation begins that is not one of those that read back at the end, and a
    /// timeout later the run ends.
    pub duration: Duration,
    /// An item that was not deleted must be there, and no write may fail.
    pub is_loss_wrong: bool,
    /// Whether [`Mix::Everything`] has flush_all.
    pub has_flush: bool,
    /// The server may give a cas unique twice, as one does whose items live in a process that may
    /// restart alone. Then a cas proves nothing of what it replaced.
    pub may_cas_repeat: bool,
    /// A connection that fails is opened again. Otherwise the first failure ends the run.
    pub survives: bool,
    /// A server that cannot be reached for so long ends the run even so.
    pub patience: Duration,
}

impl Default for Plan {
    fn default() -> Plan {
        Plan {
            targets: vec![],
            dialects: vec![Dialect::Text, Dialect::Text, Dialect::Text, Dialect::Binary],
            login: None,
            connections: 64,
            keys: 16,
            names: None,
            operations: 1_000_000,
            mix: Mix::Everything,
            multi_get: (2, 5),
            reads_back: false,
            seed: 1,
            value_bytes: (10, 20_000),
            timeout: Duration::from_millis(2000),
            answer_bytes: 64 << 20,
            duration: Duration::from_secs(86_400),
            is_loss_wrong: false,
            has_flush: true,
            may_cas_repeat: false,
            survives: true,
            patience: Duration::from_secs(30),
        }
    }
}

impl Plan {
    /// Keys with numbers.
    pub fn number_keys(&self) -> usize {
        if self.mix == Mix::Everything { (self.keys / 4).max(1) } else { 0 }
    }

    /// What the keys are called.
    pub fn names(&self) -> Names {
        let keys = self.keys + self.number_keys();
        self.names.clone().unwrap_or_else(|| Names::numbered(keys))
    }
}
