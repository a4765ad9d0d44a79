//! What a measurement found, and its file: JSON in and out, histograms within it in HDR's own
//! encoding, so that nothing of the tail is lost and other tools can read it.
//!
//! A file is untrusted input. Reading one never panics, takes at most [`RESULT_BYTES_MAX`], and
//! what it returns holds together: every histogram decodes and counts what it says. Nothing here
//! measures or shows anything.

use std::fmt;
use std::fs;
use std::io::{self, Read};
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Deserializer, Serializer, V2DeflateSerializer};
use serde::{Deserialize, Serialize};

use crate::base::limits::RESULT_BYTES_MAX;

#[cfg(test)]
pub mod examples;
#[cfg(test)]
mod tests;

/// The first field of every result: what the file is, and which version of it.
pub const FORMAT: &str = "sunder-bench 1";

/// What [`FORMAT`] begins with in every version.
const FORMAT_NAME: &str = "sunder-bench ";

/// Points a percentile spectrum has each time that the distance to 100 % halves, as HDR's tools
/// take them.
pub const TICKS_PER_HALF_DISTANCE: u32 = 5;

/// One measurement: how it was made, on what, and what came out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunResult {
    /// What the file is, and which version of it: `sunder-bench 1`.
    pub format: String,
    /// The operator's name for it.
    pub label: String,
    /// When it began, in UTC: `2026-11-23T05:40:00Z`.
    pub started_utc: String,
    /// sunder's version.
    pub version: String,
    /// Where it ran.
    pub machine: Machine,
    /// The command line.
    pub command: String,
    /// What was requested.
    pub setup: Setup,
    /// One for a plain run, one for each rate of a sweep, in the order in which they ran.
    pub steps: Vec<Step>,
    /// Of a sweep: the last step that the server kept up with, as an index into `steps`.
    pub knee: Option<usize>,
    /// What the reader has to know to trust the figures; a line each.
    pub notes: Vec<String>,
    /// The version that the server told, and sunder's own if it is one; older results have none.
    #[serde(default)]
    pub server: Option<String>,
}

/// The machine that measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    /// The processor's name.
    pub cpu: String,
    /// Cores that the process could use.
    pub cores: u32,
    /// The kernel's release.
    pub kernel: String,
}

/// When the next request goes out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Loop {
    /// When the one before it is answered. A stall of the server stops the asking too, so only one
    /// request of each connection sees it.
    Closed,
    /// At its time on a schedule, from which its latency counts, answered before or not.
    Open,
}

impl fmt::Display for Loop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Loop::Closed => "closed",
            Loop::Open => "open",
        })
    }
}

/// What was requested.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Setup {
    /// `tcp`, `unix` or the device.
    pub transport: String,
    /// `text`, `binary` or `meta`.
    pub protocol: String,
    /// The server's address.
    pub target: String,
    /// When the next request goes out.
    #[serde(rename = "loop")]
    pub loop_: Loop,
    /// Concurrent connections.
    pub connections: u64,
    /// Requests in flight on each connection.
    pub depth: u64,
    /// Keys of one get.
    pub multi_get: u64,
    /// Share of the requests that are gets, from 0 to 1.
    #[serde(serialize_with = "finite")]
    pub get_share: f64,
    /// Different keys.
    pub keys: u64,
    /// How keys are drawn: `uniform`, `zipf 0.99`.
    pub skew: String,
    /// Length of keys: `30`, or a distribution.
    pub key_bytes: String,
    /// Length of values: `100`, or a distribution.
    pub value_bytes: String,
    /// Seconds after which what is stored expires; 0 is never.
    pub ttl_s: u64,
    /// Seconds of load before anything counts, before each step.
    #[serde(serialize_with = "finite")]
    pub warmup_s: f64,
    /// Seconds of each step, as requested.
    #[serde(serialize_with = "finite")]
    pub duration_s: f64,
}

/// What came out at one rate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// Requests a second that were to be sent; none in a closed loop.
    #[serde(serialize_with = "finite_or_none")]
    pub rate_target: Option<f64>,
    /// Seconds that it took.
    #[serde(serialize_with = "finite")]
    pub elapsed_s: f64,
    /// Requests answered.
    pub requests: u64,
    /// Keys that were there.
    pub hits: u64,
    /// Keys that were not.
    pub misses: u64,
    /// Requests answered with an error, or not at all.
    pub errors: u64,
    /// Values that were not what had been stored.
    pub mismatches: u64,
    /// Bytes of requests.
    pub bytes_sent: u64,
    /// Bytes of replies.
    pub bytes_received: u64,
    /// Requests answered a second.
    #[serde(serialize_with = "finite")]
    pub rate: f64,
    /// How long requests took.
    pub latency: Latency,
    /// The same over time, oldest first.
    pub intervals: Vec<Interval>,
    /// Connections that the server ended; older results tell of none.
    #[serde(default)]
    pub outages: Outages,
}

impl Step {
    /// Requests that were due in an open loop and never sent: the server, or the client, was
    /// behind. How long they had waited by then is among the latencies.
    pub fn unsent(&self) -> u64 {
        if self.rate_target.is_none() {
            return 0;
        }
        let answered_or_lost = self.requests.saturating_add(self.outages.requests_lost);
        self.latency.all.count.saturating_sub(answered_or_lost)
    }

    /// Whether nothing that was due was sent, so that no latency is one of a request.
    pub fn is_all_unsent(&self) -> bool {
        self.unsent() > 0 && self.unsent() == self.latency.all.count
    }
}

/// Connections that the server ended while it was measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Outages {
    /// How often one was opened again.
    pub reconnects: u64,
    /// Requests that were in flight on them; they are errors.
    pub requests_lost: u64,
    /// Seconds without their connection, of all connections.
    #[serde(serialize_with = "finite")]
    pub gap_s: f64,
    /// The longest of them.
    #[serde(serialize_with = "finite")]
    pub longest_gap_s: f64,
}

/// How long requests took, by what they were.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// All of them.
    pub all: Spectrum,
    /// Gets, hit or not.
    pub get: Spectrum,
    /// Sets.
    pub set: Spectrum,
}

/// What happened in one stretch of a step, as long as the time to the next one.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// Its end, in seconds from the step's start.
    #[serde(serialize_with = "finite")]
    pub t_s: f64,
    /// Requests answered.
    pub requests: u64,
    /// Half took no longer, in nanoseconds.
    pub p50_ns: u64,
    /// 99 % took no longer, in nanoseconds.
    pub p99_ns: u64,
    /// The longest, in nanoseconds.
    pub max_ns: u64,
}

/// A distribution of latencies.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Spectrum {
    /// How many.
    pub count: u64,
    /// The shortest, in nanoseconds.
    pub min_ns: u64,
    /// The longest, in nanoseconds.
    pub max_ns: u64,
    /// Their mean, in nanoseconds.
    #[serde(serialize_with = "finite")]
    pub mean_ns: f64,
    /// Their standard deviation, in nanoseconds.
    #[serde(serialize_with = "finite")]
    pub stddev_ns: f64,
    /// Share of all (0 to 1), the latency that this share did not exceed in nanoseconds, and how
    /// many those are; dense towards the tail, ending with everything. For readers that know no
    /// HDR.
    pub percentiles: Vec<(f64, u64, u64)>,
    /// The whole histogram: HDR's V2 encoding, deflated, in base64.
    pub hdr_base64: String,
}

impl Spectrum {
    /// The latency that a share of all, from 0 to 1, does not exceed, in nanoseconds: of 0.99 the
    /// 99th percentile. 0 if there is none.
    pub fn value_ns(&self, share: f64) -> u64 {
        self.histogram().map_or(0, |histogram| histogram.value_at_quantile(share))
    }

    /// What a histogram of nanoseconds holds.
    pub fn of(histogram: &Histogram<u64>) -> Spectrum {
        let mut bytes = Vec::new();
        V2DeflateSerializer::new()
            .serialize(histogram, &mut bytes)
            .expect("a vector takes every byte");
        Spectrum {
            count: histogram.len(),
            min_ns: histogram.min(),
            max_ns: histogram.max(),
            mean_ns: histogram.mean(),
            stddev_ns: histogram.stdev(),
            percentiles: percentiles(histogram),
            hdr_base64: BASE64.encode(bytes),
        }
    }

    /// The histogram again.
    ///
    /// # Errors
    ///
    /// In one line, when it does not decode or does not count [`Spectrum::count`].
    pub fn histogram(&self) -> Result<Histogram<u64>, String> {
        let bytes = BASE64.decode(&self.hdr_base64).map_err(|e| format!("base64: {e}"))?;
        let histogram: Histogram<u64> = Deserializer::new()
            .deserialize(&mut &bytes[..])
            .map_err(|e| format!("not a histogram: {e}"))?;
        if histogram.len() != self.count {
            return Err(format!("holds {} values instead of {}", histogram.len(), self.count));
        }
        Ok(histogram)
    }
}

/// The points of a spectrum, up to the one that has everything.
fn percentiles(histogram: &Histogram<u64>) -> Vec<(f64, u64, u64)> {
    let mut points = Vec::new();
    let mut count = 0;
    for step in histogram.iter_quantiles(TICKS_PER_HALF_DISTANCE) {
        count += step.count_since_last_iteration();
        let share = step.quantile_iterated_to();
        points.push((share, step.value_iterated_to(), count));
        if share >= 1.0 {
            break;
        }
    }
    points
}

/// Why a file is not a result that can be used. Shown as one line, without the file's name.
#[derive(Debug)]
pub enum Unreadable {
    /// The file cannot be read.
    Io(io::Error),
    /// It is longer than [`RESULT_BYTES_MAX`].
    Long,
    /// Nothing is in it.
    Empty,
    /// It ends in the middle.
    Truncated,
    /// It is not one of ours.
    Foreign,
    /// It is one of another version.
    Version(String),
    /// It is one of ours, and this is wrong with it.
    Damaged(String),
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unreadable::Io(error) => write!(f, "{error}"),
            Unreadable::Long => write!(f, "longer than {RESULT_BYTES_MAX} bytes: not a result"),
            Unreadable::Empty => write!(f, "is empty"),
            Unreadable::Truncated => write!(f, "ends in the middle: was it written to its end?"),
            Unreadable::Foreign => write!(f, "not a result of sunder bench"),
            Unreadable::Version(version) => {
                write!(f, "has the format \"{version}\", this sunder reads \"{FORMAT}\"")
            }
            Unreadable::Damaged(reason) => write!(f, "damaged: {reason}"),
        }
    }
}

impl std::error::Error for Unreadable {}

/// Only as much of a file as says what it is.
#[derive(Deserialize)]
struct Head {
    format: String,
}

impl RunResult {
    /// Whether no answer was wrong or an error, and no connection was lost.
    pub fn is_right(&self) -> bool {
        self.steps.iter().all(|step| {
            step.errors == 0 && step.mismatches == 0 && step.outages == Outages::default()
        })
    }

    /// As the text of a file.
    pub fn to_json(&self) -> String {
        let mut text = serde_json::to_string(self).expect("names are strings, numbers finite");
        text.push('\n');
        text
    }

    /// Reads the text of a file.
    ///
    /// # Errors
    ///
    /// Whatever makes it unusable.
    pub fn from_json(text: &str) -> Result<RunResult, Unreadable> {
        if text.trim().is_empty() {
            return Err(Unreadable::Empty);
        }
        let head: Head =
            serde_json::from_str(text).map_err(|error| match is_cut(text, &error) {
                true => Unreadable::Truncated,
                false => Unreadable::Foreign,
            })?;
        if head.format != FORMAT {
            let is_ours = head.format.starts_with(FORMAT_NAME) && head.format.len() < 40;
            return Err(match is_ours && !head.format.chars().any(char::is_control) {
                true => Unreadable::Version(head.format),
                false => Unreadable::Foreign,
            });
        }
        let result: RunResult =
            serde_json::from_str(text).map_err(|e| Unreadable::Damaged(e.to_string()))?;
        result.check().map_err(Unreadable::Damaged)?;
        Ok(result)
    }

    /// Reads a file.
    ///
    /// # Errors
    ///
    /// When it cannot be read, or whatever makes it unusable.
    pub fn load(path: &Path) -> Result<RunResult, Unreadable> {
        let mut bytes = Vec::new();
        fs::File::open(path)
            .and_then(|file| file.take(RESULT_BYTES_MAX + 1).read_to_end(&mut bytes))
            .map_err(Unreadable::Io)?;
        if bytes.len() as u64 > RESULT_BYTES_MAX {
            return Err(Unreadable::Long);
        }
        let text = std::str::from_utf8(&bytes).map_err(|_| Unreadable::Foreign)?;
        RunResult::from_json(text)
    }

    /// Writes a file.
    ///
    /// # Errors
    ///
    /// The operating system's.
    #[cfg(feature = "internals")]
    pub fn save(&self, path: &Path) -> io::Result<()> {
        fs::write(path, self.to_json())
    }

    /// What a reader relies on beyond the fields' types.
    fn check(&self) -> Result<(), String> {
        if self.steps.is_empty() {
            return Err("no step".into());
        }
        if let Some(knee) = self.knee
            && knee >= self.steps.len()
        {
            return Err(format!("the knee is step {knee} of {}", self.steps.len()));
        }
        for (number, step) in self.steps.iter().enumerate() {
            let kinds = [
                ("all", &step.latency.all),
                ("get", &step.latency.get),
                ("set", &step.latency.set),
            ];
            for (kind, spectrum) in kinds {
                let at = |reason| format!("step {number}, latency of {kind}: {reason}");
                spectrum.histogram().map_err(at)?;
                if !spectrum.percentiles.is_sorted_by(|a, b| a.0 <= b.0 && a.1 <= b.1) {
                    return Err(at("percentiles out of order".into()));
                }
            }
        }
        Ok(())
    }
}

/// Whether JSON is wrong only because it ends, which within a number is a mistake in
/// the last column.
fn is_cut(text: &str, error: &serde_json::Error) -> bool {
    let last = text.lines().last().unwrap_or_default();
    let is_at_end = error.line() == text.lines().count() && error.column() >= last.len();
    text.starts_with('{') && (error.is_eof() || error.is_syntax() && is_at_end)
}

/// JSON has no infinity; a rate over no time at all becomes 0.
fn finite<S: serde::Serializer>(number: &f64, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_f64(if number.is_finite() { *number } else { 0.0 })
}

/// The same, where a number may be missing.
fn finite_or_none<S: serde::Serializer>(number: &Option<f64>, to: S) -> Result<S::Ok, S::Error> {
    match number.filter(|number| number.is_finite()) {
        Some(number) => to.serialize_some(&number),
        None => to.serialize_none(),
    }
}
