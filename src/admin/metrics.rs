//! The metrics of a server in Prometheus' text format (version 0.0.4).
//!
//! Every counter of `stats` is here under its name there, with `sunder_` before it and `_total`
//! behind it if it only grows; what `stats` does not have are the latencies. Nothing is reset, not
//! even by `stats reset`.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet, prometheus_text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};

use super::feed::ShownKey;
use super::history::{count_of, tier_times, times};
use super::hot::HotKey;
use super::state::State;
use super::view::View;
use crate::base::console::version;
use crate::base::latency::{Ending, Level, Times, Verb};
use crate::base::stats::{Counter, DeviceStats};
use crate::base::usage::cpu_us;

/// Hot keys that are metrics: each is a series of its own.
const KEYS: usize = 10;

/// Counters of each worker; all others are sums.
const BY_WORKER: &[(Counter, &str)] = &[
    (Counter::CmdGet, "worker_cmd_get"),
    (Counter::CmdSet, "worker_cmd_set"),
    (Counter::CurrConnections, "worker_curr_connections"),
    (Counter::FramesReceived, "worker_frames_received"),
    (Counter::FramesSent, "worker_frames_sent"),
    (Counter::RxBursts, "worker_rx_bursts"),
    (Counter::RequestsQueued, "worker_requests_queued"),
    (Counter::RemoteOperations, "worker_remote_operations"),
    (Counter::Turns, "worker_turns"),
    (Counter::TurnsIdle, "worker_turns_idle"),
];

/// Limits of the histograms' buckets: each is twice the one before, from 512 ns to 8.6 s.
const LIMITS: std::ops::RangeInclusive<u32> = 9..=33;

/// The labels of one series.
type Labels = Vec<(&'static str, String)>;

struct Encoder<'e>(DescriptorEncoder<'e>);

impl Encoder<'_> {
    fn family(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<&Unit>,
        kind: MetricType,
        write: impl FnOnce(MetricEncoder<'_>) -> fmt::Result,
    ) -> fmt::Result {
        write(self.0.encode_descriptor(name, help, unit, kind)?)
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        self.family(name, help, None, MetricType::Counter, |mut metric| {
            metric.encode_counter::<NoLabelSet, _, u64>(&value, None)
        })
    }

    fn gauge(&mut self, name: &str, help: &str, unit: Option<&Unit>, value: f64) -> fmt::Result {
        self.family(name, help, unit, MetricType::Gauge, |mut metric| metric.encode_gauge(&value))
    }

    /// One series for each of `values`.
    fn labelled<V: Copy>(
        &mut self,
        (name, help, unit, kind): (&str, &str, Option<&Unit>, MetricType),
        values: impl IntoIterator<Item = (Labels, V)>,
        write: impl Fn(MetricEncoder<'_>, V) -> fmt::Result,
    ) -> fmt::Result {
        self.family(name, help, unit, kind, |mut metric| {
            for (labels, value) in values {
                write(metric.encode_family(&labels)?, value)?;
            }
            Ok(())
        })
    }
}

fn write_counter(mut metric: MetricEncoder<'_>, value: u64) -> fmt::Result {
    metric.encode_counter::<NoLabelSet, _, u64>(&value, None)
}

fn write_seconds(mut metric: MetricEncoder<'_>, value: f64) -> fmt::Result {
    metric.encode_counter::<NoLabelSet, _, u64>(&value, None)
}

fn write_gauge(mut metric: MetricEncoder<'_>, value: f64) -> fmt::Result {
    metric.encode_gauge(&value)
}

fn write_times(mut metric: MetricEncoder<'_>, times: &Times) -> fmt::Result {
    let mut below = 0;
    let mut buckets: Vec<(f64, u64)> = LIMITS
        .map(|power| {
            let to = times.count_to((1 << power) - 1);
            let within = to - below;
            below = to;
            ((1_u64 << power) as f64 / 1e9, within)
        })
        .collect();
    let count = times.count();
    buckets.push((f64::MAX, count - below));
    metric.encode_histogram::<NoLabelSet>(times.sum_ns as f64 / 1e9, count, &buckets, None)
}

/// One scrape.
#[derive(Debug)]
struct Scrape {
    view: View,
    hot: Vec<HotKey>,
}

impl Collector for Scrape {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut encoder = Encoder(encoder);
        self.about(&mut encoder)?;
        self.counters(&mut encoder)?;
        self.workers(&mut encoder)?;
        self.latencies(&mut encoder)?;
        self.hot_keys(&mut encoder)
    }
}

impl Scrape {
    fn about(&self, encoder: &mut Encoder<'_>) -> fmt::Result {
        let shared = self.view.shared();
        let labels = vec![("version", version().to_owned())];
        encoder.labelled(
            ("build_info", "The version of sunder; always 1", None, MetricType::Gauge),
            [(labels, 1.0)],
            write_gauge,
        )?;
        let is_ready = f64::from(u8::from(shared.is_ready.load(Relaxed)));
        encoder.gauge("ready", "Whether all workers serve, 1 or 0", None, is_ready)?;
        let up = shared.clock.read_ns() as f64 / 1e9;
        encoder.gauge("uptime", "Time since the start", Some(&Unit::Seconds), up)?;
        let (user_us, system_us) = cpu_us();
        encoder.labelled(
            ("process_cpu", "CPU time of the process", Some(&Unit::Seconds), MetricType::Counter),
            [("user", user_us), ("system", system_us)]
                .map(|(mode, us)| (vec![("mode", mode.to_owned())], us as f64 / 1e6)),
            write_seconds,
        )?;
        let resident = resident_bytes() as f64;
        let help = "Memory of the process that is in RAM";
        encoder.gauge("process_resident_memory", help, Some(&Unit::Bytes), resident)?;
        let most = shared.admission.max() as f64;
        encoder.gauge("max_connections", "Most connections at once", None, most)?;
        let memory = shared.memory_bytes.load(Relaxed) as f64;
        encoder.gauge("memory_limit", "Size of L1 in memory", Some(&Unit::Bytes), memory)
    }

    fn counters(&self, encoder: &mut Encoder<'_>) -> fmt::Result {
        let totals = self.view.totals();
        for &counter in Counter::ALL {
            let (name, help) = (counter.name(), counter.help());
            match counter {
                Counter::BusyUs => (),
                Counter::OldestItemAge => {
                    let oldest = self.view.oldest_s() as f64;
                    encoder.gauge(name, help, Some(&Unit::Seconds), oldest)?;
                }
                _ if counter.is_of_devices() => self.devices(encoder, counter)?,
                _ if counter.is_gauge() => {
                    encoder.gauge(name, help, None, totals.get(counter) as f64)?;
                }
                _ => encoder.counter(name, help, totals.get(counter))?,
            }
        }
        Ok(())
    }

    /// A counter of the devices, each by itself; none on kernel sockets.
    fn devices(&self, encoder: &mut Encoder<'_>, counter: Counter) -> fmt::Result {
        let (name, help) = (counter.name(), counter.help());
        let label = |device: &DeviceStats| vec![("device", device.name().to_owned())];
        let values = self.view.shared().devices.iter();
        let values = values.map(|device| (label(device), device.get(counter)));
        if counter.is_gauge() {
            let values = values.map(|(labels, value)| (labels, value as f64));
            return encoder.labelled((name, help, None, MetricType::Gauge), values, write_gauge);
        }
        encoder.labelled((name, help, None, MetricType::Counter), values, write_counter)
    }

    fn workers(&self, encoder: &mut Encoder<'_>) -> fmt::Result {
        let stats = &self.view.shared().stats;
        let label = |worker: usize| vec![("worker", worker.to_string())];
        encoder.gauge("workers", "Number of workers", None, stats.len() as f64)?;
        let values = stats.iter().enumerate();
        let values = values.map(|(n, worker)| (label(n), worker.get(Counter::BusyUs) as f64 / 1e6));
        let help = "Time of each worker in turns with work";
        encoder.labelled(
            ("worker_busy", help, Some(&Unit::Seconds), MetricType::Counter),
            values,
            write_seconds,
        )?;
        for &(counter, name) in BY_WORKER {
            let values = stats.iter().enumerate();
            let values = values.map(|(n, worker)| (label(n), worker.get(counter)));
            let help = format!("Of each worker: {}", lower(counter.help()));
            if counter.is_gauge() {
                let values = values.map(|(labels, value)| (labels, value as f64));
                encoder.labelled((name, &help, None, MetricType::Gauge), values, write_gauge)?;
            } else {
                encoder.labelled(
                    (name, &help, None, MetricType::Counter),
                    values,
                    write_counter,
                )?;
            }
        }
        Ok(())
    }

    fn latencies(&self, encoder: &mut Encoder<'_>) -> fmt::Result {
        let all = times(&self.view);
        let labels = |verb: Verb, ending: Ending, level: Level| {
            vec![
                ("command", verb.name().to_owned()),
                ("outcome", ending.name().to_owned()),
                ("tier", level.name().to_owned()),
            ]
        };
        let values =
            all.iter().map(|(kind, times)| (labels(kind.verb, kind.ending, kind.level), times));
        let help = "Time from a parsed request to its outcome, by command, outcome and the last \
                    tier that was asked; of those answered at once a sample, counted as all";
        encoder.labelled(
            ("request_duration", help, Some(&Unit::Seconds), MetricType::Histogram),
            values,
            write_times,
        )?;
        let tiers: Vec<_> = Level::ALL
            .iter()
            .map(|&level| (level, tier_times(&self.view, level)))
            .filter(|(_, times)| times.count() > 0)
            .collect();
        let values =
            tiers.iter().map(|(level, times)| (vec![("tier", level.name().to_owned())], times));
        let help = "Time that a tier outside of this process, or an SSD, took for one answer";
        encoder.labelled(
            ("tier_duration", help, Some(&Unit::Seconds), MetricType::Histogram),
            values,
            write_times,
        )?;
        let totals = self.view.totals();
        let in_l2 = totals.get(Counter::GetHitsL2);
        let in_l1 = totals.get(Counter::GetHits).saturating_sub(in_l2);
        let errors = count_of(&all, |verb, ending, _| verb == Verb::Get && ending == Ending::Error);
        let values = [("l1", in_l1), ("l2", in_l2)]
            .map(|(tier, hits)| (vec![("tier", tier.to_owned())], hits));
        let help = "Keys found, by the tier they were found in";
        encoder.labelled(("tier_hits", help, None, MetricType::Counter), values, write_counter)?;
        encoder.counter("get_errors", "Gets that a tier failed, about", errors)
    }

    fn hot_keys(&self, encoder: &mut Encoder<'_>) -> fmt::Result {
        let values = self.hot.iter().take(KEYS).map(|hot| {
            let ShownKey { key, share, .. } = ShownKey::new(hot);
            (vec![("key", key)], share)
        });
        let help = "Part of all requests that asks for this key, over some ten seconds, estimated \
                    from a sample";
        let about = ("hot_key", help, Some(&Unit::Ratios), MetricType::Gauge);
        encoder.labelled(about, values, write_gauge)
    }
}

/// The text with a small letter at its start.
fn lower(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or(String::new(), |first| first.to_lowercase().chain(chars).collect())
}

/// Bytes of this process in RAM; 0 where the host does not say.
fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: u64 = statm.split(' ').nth(1).and_then(|word| word.parse().ok()).unwrap_or(0);
    pages * rustix::param::page_size() as u64
}

/// The answer to a scrape.
pub fn text(state: &State) -> String {
    let mut registry = Registry::with_prefix("sunder");
    let hot = state.hot_keys(KEYS);
    registry.register_collector(Box::new(Arc::new(Scrape { view: state.view().clone(), hot })));
    let mut text = String::with_capacity(64 * 1024);
    prometheus_text::encode(&mut text, &registry).expect("a string takes all");
    text
}
