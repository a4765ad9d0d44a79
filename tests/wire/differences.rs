//! The accepted differences from memcached: the only answers that may differ, each with sunder's
//! answer and the reason. docs/DIFFERENCES.md has each under the same title; the test checks that,
//! and that each is still a difference.

use crate::table::{Case, SENTINEL_OPAQUE, frame};

/// A kind of case whose answer differs deliberately.
pub struct Rule {
    /// The title in docs/DIFFERENCES.md.
    pub title: &'static str,
    /// Whether a case is of this kind.
    pub applies: fn(&Case) -> bool,
    /// sunder's answer, normalised, given memcached's to the whole input.
    pub answer: fn(&Case, &[u8]) -> Vec<u8>,
}

/// All of them.
pub const RULES: &[Rule] = &[
    Rule {
        title: "A binary body of more than 1 GiB",
        applies: |case| starts(case, &["binary: 229cf41", "binary: CVE-2011-4971"]),
        answer: |case, _| refusal(case, 0x04, "Invalid arguments"),
    },
    Rule {
        title: "The body of an unknown binary opcode",
        applies: |case| {
            let name = case.name.strip_prefix("binary: ").unwrap_or("");
            unknown_opcode(name).is_some_and(|shape| shape != " with nothing")
                || matches!(name, "verbosity" | "CVE-2020-10931 extras of 250, opcode 0x1b")
        },
        answer: |case, _| unknown_opcodes_skipped(case),
    },
];

/// Statistics of sunder that memcached does not have; digits are removed from their names.
pub const OWN_STATISTICS: &[&str] = &[
    "address_conflicts",
    "auth_limited",
    "busy_us",
    "chunk_foreign",
    "chunk_metadata_bad",
    "chunk_missing",
    "device_link_up",
    "device_rx_errors",
    "device_rx_missed",
    "device_rx_no_buffer",
    "device_tx_errors",
    "echo_replies",
    "evicted_unread",
    "frames_bad_checksum",
    "frames_malformed",
    "frames_not_for_us",
    "frames_received",
    "frames_sent",
    "frames_steer_dropped",
    "frames_steered",
    "get_hits_l",
    "half_open_dropped",
    "half_open_timeouts",
    "idle_kicks",
    "link_failures",
    "link_garbage",
    "link_invalidations",
    "link_operations_l",
    "link_reconnects",
    "link_timeouts",
    "links_down_l",
    "inconsistency_detected",
    "lru_tail_age",
    "neighbor_moves",
    "neighbor_replies",
    "path_mtu_lowered",
    "rejected_by_allow",
    "rejected_proxy_headers",
    "remote_operations",
    "requests_queued",
    "resets_sent",
    "rx_bursts",
    "segments_retransmitted",
    "segments_unknown_flow",
    "ssd_bytes_set",
    "ssd_bytes_written",
    "ssd_queue_depth",
    "ssd_reads",
    "ssd_false_reads",
    "ssd_buffer_hits",
    "ssd_throttled",
    "ssd_not_written",
    "ssd_not_admitted",
    "ssd_read_errors",
    "ssd_write_errors",
    "ssd_corrupt",
    "ssd_degraded",
    "ssd_bad_summaries",
    "ssd_too_large",
    "ssd_items",
    "ssd_index_bytes",
    "ssd_size_bytes",
    "ssd_used_bytes",
    "ssd_segments",
    "ssd_segments_free",
    "ssd_fills_left",
    "ssd_reclaimed",
    "ssd_evicted",
    "ssd_moved",
    "ssd_tombstones",
    "ssd_checkpoints",
    "ssd_drops",
    "turns",
    "turns_idle",
    "tx_no_buffer",
    "tx_partial_bursts",
    "unread_connections",
    "sunder_compiler",
    "sunder_dpdk",
    "sunder_features",
    "sunder_version",
];

fn starts(case: &Case, starts: &[&str]) -> bool {
    starts.iter().any(|start| case.name.starts_with(start))
}

/// The part of a name `opcode 0x.. with ..` after an opcode that neither memcached nor Rend has.
fn unknown_opcode(name: &str) -> Option<&str> {
    let digits = name.strip_prefix("opcode 0x")?;
    let opcode = u8::from_str_radix(digits.get(..2)?, 16).ok()?;
    let is_known = matches!(opcode, 0..=0x1a | 0x1c..=0x1e | 0x20..=0x24 | 0x40 | 0x41);
    if is_known { None } else { digits.get(2..) }
}

/// The answers to sets, unknown opcodes and gets of nothing, and to the sentinel: each request has
/// its own, and none is taken for the body of another.
fn unknown_opcodes_skipped(case: &Case) -> Vec<u8> {
    let mut answers = vec![];
    let mut rest = &case.input[..];
    while let Some(header) = rest.get(..24) {
        answers.extend(match header[1] {
            0x00 => response(0x00, 0x01, 0x0102_0304, "Not found"),
            0x01 => frame(0x01).magic(0x81).opaque(0x0102_0304).cas(1).bytes(),
            unknown => response(unknown, 0x81, 0x0102_0304, "Unknown command"),
        });
        let body = u32::from_be_bytes([header[8], header[9], header[10], header[11]]);
        rest = &rest[24 + body as usize..];
    }
    answers.extend(response(0x0a, 0, SENTINEL_OPAQUE, ""));
    answers
}

/// The answer to a case's only request, an error after which the connection is closed.
fn refusal(case: &Case, status: u16, text: &str) -> Vec<u8> {
    response(case.input[1], status, 0x0102_0304, text)
}

fn response(opcode: u8, status: u16, opaque: u32, text: &str) -> Vec<u8> {
    frame(opcode).magic(0x81).vbucket(status).opaque(opaque).value(text).bytes()
}
