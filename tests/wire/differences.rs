//! The accepted differences from memcached: the only answers that may differ, each with what sunder
//! says instead and why. docs/DIFFERENCES.md has each under the same name; the test checks that.

/// One case whose answer differs on purpose.
pub struct Accepted {
    /// The case's name in the table.
    pub case: &'static str,
    /// What sunder answers, normalised, sentinel's answer included.
    pub answer: &'static [u8],
    /// The name of the difference in docs/DIFFERENCES.md.
    pub reason: &'static str,
}

/// All of them.
pub const ACCEPTED: &[Accepted] = &[];

/// Statistics that sunder gives and memcached does not, as their names are with digits taken out.
pub const OWN_STATISTICS: &[&str] = &[];
