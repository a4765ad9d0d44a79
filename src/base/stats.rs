//! Counters that a worker increments and anyone may read.
//!
//! Each worker owns one [`WorkerStats`] and is its only writer, so an increment is a load and a
//! store; readers sum over the workers. Nothing here decides anything.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};

use super::latency::{Ending, Latencies};

macro_rules! counters {
    ($($(#[doc = $doc:literal])+ $name:ident => $wire:literal,)+) => {
        /// The counters. Names on the wire are memcached's where memcached has the counter.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(usize)]
        pub enum Counter { $($(#[doc = $doc])+ $name,)+ }

        impl Counter {
            /// All counters.
            pub const ALL: &'static [Counter] = &[$(Counter::$name,)+];

            /// What it counts.
            pub fn help(self) -> &'static str {
                match self { $(Counter::$name => sentence(concat!($($doc),+)),)+ }
            }

            /// The counter's name in `stats`.
            pub fn name(self) -> &'static str {
                match self { $(Counter::$name => $wire,)+ }
            }
        }
    };
}

/// The words of a doc comment.
fn sentence(doc: &'static str) -> &'static str {
    doc.trim().trim_end_matches('.')
}

counters! {
    /// Open connections.
    CurrConnections => "curr_connections",
    /// Connections ever opened.
    TotalConnections => "total_connections",
    /// Connections refused at the limit.
    RejectedConnections => "rejected_connections",
    /// Connections refused because of their address.
    RejectedByAllow => "rejected_by_allow",
    /// Connections of load balancers refused because they did not begin as they have to.
    RejectedProxyHeaders => "rejected_proxy_headers",
    /// Times accepting paused because the host had no descriptor or memory for one more.
    ListenDisabled => "listen_disabled_num",
    /// Keys requested by the get family.
    CmdGet => "cmd_get",
    /// Storage commands.
    CmdSet => "cmd_set",
    /// flush_all commands.
    CmdFlush => "cmd_flush",
    /// touch and gat commands.
    CmdTouch => "cmd_touch",
    /// me commands: as memcached, not the other meta commands.
    CmdMeta => "cmd_meta",
    /// Keys found.
    GetHits => "get_hits",
    /// Keys not found.
    GetMisses => "get_misses",
    /// Keys found in L2 and not in L1.
    GetHitsL2 => "get_hits_l2",
    /// Keys not found because the item had expired.
    GetExpired => "get_expired",
    /// Keys not found because of a flush_all.
    GetFlushed => "get_flushed",
    /// Deletes of a key without an item.
    DeleteMisses => "delete_misses",
    /// Deletes of an item.
    DeleteHits => "delete_hits",
    /// incr of a key without an item.
    IncrMisses => "incr_misses",
    /// incr of an item.
    IncrHits => "incr_hits",
    /// decr of a key without an item.
    DecrMisses => "decr_misses",
    /// decr of an item.
    DecrHits => "decr_hits",
    /// cas of a key without an item.
    CasMisses => "cas_misses",
    /// cas that stored.
    CasHits => "cas_hits",
    /// cas refused because the item had changed.
    CasBadval => "cas_badval",
    /// touch and gat of an item.
    TouchHits => "touch_hits",
    /// touch and gat of a key without an item.
    TouchMisses => "touch_misses",
    /// Values refused for their size.
    StoreTooLarge => "store_too_large",
    /// Values refused because there was no memory.
    StoreNoMemory => "store_no_memory",
    /// Attempts to log in.
    AuthCmds => "auth_cmds",
    /// Attempts to log in with a wrong name or password.
    AuthErrors => "auth_errors",
    /// Logins refused without a look at the password, because their address has failed too often.
    AuthLimited => "auth_limited",
    /// Bytes read from clients.
    BytesRead => "bytes_read",
    /// Bytes written to clients.
    BytesWritten => "bytes_written",
    /// Visits to a connection that ended with requests still waiting, for fairness.
    ConnYields => "conn_yields",
    /// Connections with a reply that waits for its client to read; a gauge.
    UnreadConnections => "unread_connections",
    /// Connections closed because they stalled in the middle of a request or reply.
    IdleKicks => "idle_kicks",
    /// Bytes of stored items, including headers.
    Bytes => "bytes",
    /// Items stored now.
    CurrItems => "curr_items",
    /// Items ever stored.
    TotalItems => "total_items",
    /// Items evicted.
    Evictions => "evictions",
    /// Items evicted without ever having been read.
    EvictedUnfetched => "evicted_unfetched",
    /// Items taken from clients that had stopped reading them, because their memory was needed.
    EvictedUnread => "evicted_unread",
    /// Items reclaimed after they expired, without ever having been read.
    ExpiredUnfetched => "expired_unfetched",
    /// Items reclaimed after they expired.
    Reclaimed => "reclaimed",
    /// Seconds since the least recently used item was used; a gauge, and the maximum over the
    /// workers.
    OldestItemAge => "lru_tail_age",
    /// Bytes of the tiers' indexes; a gauge.
    IndexBytes => "hash_bytes",
    /// Whether the device's link is up, 1 or 0; a gauge.
    DeviceLinkUp => "device_link_up",
    /// Frames that the device dropped because workers did not receive fast enough (DPDK's imissed).
    DeviceRxMissed => "device_rx_missed",
    /// Frames that the device received with errors (ierrors).
    DeviceRxErrors => "device_rx_errors",
    /// Times the device had no memory for a received frame (rx_nombuf).
    DeviceRxNoBuffer => "device_rx_no_buffer",
    /// Frames that the device failed to send (oerrors).
    DeviceTxErrors => "device_tx_errors",
    /// Frames received.
    FramesReceived => "frames_received",
    /// Polls of the device that returned frames: `frames_received` divided by them is the size of
    /// a burst.
    RxBursts => "rx_bursts",
    /// Frames sent.
    FramesSent => "frames_sent",
    /// Times the device did not take all frames of a burst.
    TxPartialBursts => "tx_partial_bursts",
    /// Frames dropped: no memory to send one.
    TxNoBuffer => "tx_no_buffer",
    /// Frames dropped: too short, or with wrong lengths.
    FramesMalformed => "frames_malformed",
    /// Frames dropped: a checksum is wrong.
    FramesBadChecksum => "frames_bad_checksum",
    /// Frames dropped: for another destination.
    FramesNotForUs => "frames_not_for_us",
    /// Frames passed to another worker.
    FramesSteered => "frames_steered",
    /// Frames dropped because their worker was too far behind.
    FramesSteerDropped => "frames_steer_dropped",
    /// Segments that belonged to no connection.
    SegmentsUnknownFlow => "segments_unknown_flow",
    /// TCP segments sent again, with SYNs and FINs and without probes.
    SegmentsRetransmitted => "segments_retransmitted",
    /// RSTs sent.
    ResetsSent => "resets_sent",
    /// Half-open connections dropped to make room for newer ones.
    HalfOpenDropped => "half_open_dropped",
    /// Half-open connections that never completed.
    HalfOpenTimeouts => "half_open_timeouts",
    /// ARP requests and neighbour solicitations answered.
    NeighborReplies => "neighbor_replies",
    /// ICMP echo requests answered.
    EchoReplies => "echo_replies",
    /// Times the frames of a connection were redirected to another MAC.
    NeighborMoves => "neighbor_moves",
    /// Reports of routers that lowered a connection's path MTU.
    PathMtuLowered => "path_mtu_lowered",
    /// Frames from another host that uses one of our addresses.
    AddressConflicts => "address_conflicts",
    /// Items that L1 had and L2 did not, found by a get-and-touch.
    InconsistencyDetected => "inconsistency_detected",
    /// Operations on keys that another worker owns.
    RemoteOperations => "remote_operations",
    /// Values found with a missing chunk.
    ChunkMissing => "chunk_missing",
    /// Values found with a chunk of another value.
    ChunkForeign => "chunk_foreign",
    /// Chunk metadata that was invalid.
    ChunkMetadataBad => "chunk_metadata_bad",
    /// Requests in the queue for an answer, of a tier, another worker or an earlier request of
    /// their connection; a gauge.
    RequestsQueued => "requests_queued",
    /// Operations sent, or about to be, to the server of L1 and not answered; a gauge.
    LinkOperationsL1 => "link_operations_l1",
    /// Operations sent, or about to be, to the server of L2 and not answered; a gauge.
    LinkOperationsL2 => "link_operations_l2",
    /// Operations that failed because a link was lost or its server did not answer in time.
    LinkFailures => "link_failures",
    /// Links to L1 that are not used until its server answers; a gauge.
    LinksDownL1 => "links_down_l1",
    /// Links to L2 that are not used until its server answers; a gauge.
    LinksDownL2 => "links_down_l2",
    /// Times a link's server did not answer in time.
    LinkTimeouts => "link_timeouts",
    /// Times a server sent an invalid answer, after which its link was closed.
    LinkGarbage => "link_garbage",
    /// Times a link was connected again.
    LinkReconnects => "link_reconnects",
    /// Keys to be deleted at an unreachable server, remembered until it is reachable.
    LinkInvalidations => "link_invalidations",
    /// Bytes of keys and values stored on SSD by clients.
    SsdBytesSet => "ssd_bytes_set",
    /// Bytes written to SSD.
    SsdBytesWritten => "ssd_bytes_written",
    /// Reads and writes that the SSD has not completed; a gauge.
    SsdQueueDepth => "ssd_queue_depth",
    /// Reads of SSD that clients waited for.
    SsdReads => "ssd_reads",
    /// Reads of SSD that returned the item of another key.
    SsdFalseReads => "ssd_false_reads",
    /// Hits on SSD that were still in write buffers.
    SsdBufferHits => "ssd_buffer_hits",
    /// Operations refused because the SSD is overloaded.
    SsdThrottled => "ssd_throttled",
    /// Items not written because the SSD is overloaded.
    SsdNotWritten => "ssd_not_written",
    /// Items not written because the policy does not admit them.
    SsdNotAdmitted => "ssd_not_admitted",
    /// Reads that failed on the SSD.
    SsdReadErrors => "ssd_read_errors",
    /// Writes, flushes and discards that failed on the SSD.
    SsdWriteErrors => "ssd_write_errors",
    /// Records found damaged when they were read.
    SsdCorrupt => "ssd_corrupt",
    /// Segments whose summary could not be read.
    SsdBadSummaries => "ssd_bad_summaries",
    /// Items on SSD that were requested and are larger than the maximum item size, which was
    /// lowered.
    SsdTooLarge => "ssd_too_large",
    /// Items in the index of SSD, except those too large to be read. Expired and flushed items
    /// count until they are requested or their segment is reclaimed; a gauge.
    SsdItems => "ssd_items",
    /// Bytes of the index of SSD; a gauge.
    SsdIndexBytes => "ssd_index_bytes",
    /// Logs of workers on an SSD that takes no writes; a gauge.
    SsdDegraded => "ssd_degraded",
    /// Bytes of all segments on SSD; a gauge.
    SsdSizeBytes => "ssd_size_bytes",
    /// Bytes of the segments on SSD that are not free; a gauge.
    SsdUsedBytes => "ssd_used_bytes",
    /// Segments on SSD; a gauge.
    SsdSegments => "ssd_segments",
    /// Free segments on SSD; a gauge.
    SsdSegmentsFree => "ssd_segments_free",
    /// Segments that can be filled before the log runs out of names for records; a gauge.
    SsdFillsLeft => "ssd_fills_left",
    /// Segments reclaimed.
    SsdReclaimed => "ssd_reclaimed",
    /// Items evicted from SSD.
    SsdEvicted => "ssd_evicted",
    /// Items moved to another segment because they were used.
    SsdMoved => "ssd_moved",
    /// Tombstones written.
    SsdTombstones => "ssd_tombstones",
    /// Times everything written became durable.
    SsdCheckpoints => "ssd_checkpoints",
    /// Times the whole SSD log was discarded, because its contents could not be trusted.
    SsdDrops => "ssd_drops",
    /// Events that were watched, and that no watcher had room for.
    LogWorkerDropped => "log_worker_dropped",
    /// Events that watchers were told.
    LogWorkerWritten => "log_worker_written",
    /// Lines that watchers lost because they read too slowly.
    LogWatcherSkipped => "log_watcher_skipped",
    /// Lines for watchers.
    LogWatcherSent => "log_watcher_sent",
    /// Watchers; a gauge.
    LogWatchers => "log_watchers",
    /// Turns of the worker's loop.
    Turns => "turns",
    /// Turns without work.
    TurnsIdle => "turns_idle",
    /// Time in turns with work, in microseconds.
    BusyUs => "busy_us",
}

/// Which can decrease, and which `stats reset` does not reset.
const GAUGES: &[Counter] = &[
    Counter::CurrConnections,
    Counter::UnreadConnections,
    Counter::Bytes,
    Counter::CurrItems,
    Counter::OldestItemAge,
    Counter::IndexBytes,
    Counter::DeviceLinkUp,
    Counter::RequestsQueued,
    Counter::LinkOperationsL1,
    Counter::LinkOperationsL2,
    Counter::SsdQueueDepth,
    Counter::LinksDownL1,
    Counter::LinksDownL2,
    Counter::SsdDegraded,
    Counter::SsdItems,
    Counter::SsdIndexBytes,
    Counter::SsdSizeBytes,
    Counter::SsdUsedBytes,
    Counter::SsdSegments,
    Counter::SsdSegmentsFree,
    Counter::SsdFillsLeft,
    Counter::LogWatchers,
];

impl Counter {
    /// Whether it can decrease.
    pub fn is_gauge(self) -> bool {
        GAUGES.contains(&self)
    }
}

/// Counters of one worker.
#[derive(Debug)]
pub struct WorkerStats {
    values: [AtomicU64; Counter::ALL.len()],
    latencies: Latencies,
    last_ending: AtomicU8,
}

impl Default for WorkerStats {
    fn default() -> WorkerStats {
        WorkerStats {
            values: std::array::from_fn(|_| AtomicU64::new(0)),
            latencies: Latencies::default(),
            last_ending: AtomicU8::new(NOTHING),
        }
    }
}

impl WorkerStats {
    /// Adds `n`. Only the owning worker may call this.
    #[inline]
    pub fn add(&self, counter: Counter, n: u64) {
        let value = &self.values[counter as usize];
        value.store(value.load(Relaxed).wrapping_add(n), Relaxed);
    }

    /// Subtracts `n`, from a counter that can decrease. Only the owning worker may call this.
    #[inline]
    pub fn sub(&self, counter: Counter, n: u64) {
        self.add(counter, n.wrapping_neg());
    }

    /// Sets a gauge. Only the owning worker may call this.
    #[inline]
    pub fn set(&self, counter: Counter, n: u64) {
        self.values[counter as usize].store(n, Relaxed);
    }

    /// The value now.
    pub fn get(&self, counter: Counter) -> u64 {
        self.values[counter as usize].load(Relaxed)
    }

    /// How long requests took.
    pub fn latencies(&self) -> &Latencies {
        &self.latencies
    }

    /// Notes how an operation ended whose counters do not tell. Only the owning worker may call
    /// this.
    #[inline]
    pub fn note_ending(&self, ending: Ending) {
        self.last_ending.store(ending as u8, Relaxed);
    }

    /// The last ending noted, which is forgotten. Only the owning worker may call this.
    pub fn take_ending(&self) -> Option<Ending> {
        let last = self.last_ending.load(Relaxed);
        self.last_ending.store(NOTHING, Relaxed);
        Ending::ALL.get(usize::from(last)).copied()
    }
}

/// What [`DeviceStats`] has.
const OF_DEVICES: [Counter; 5] = [
    Counter::DeviceLinkUp,
    Counter::DeviceRxMissed,
    Counter::DeviceRxErrors,
    Counter::DeviceRxNoBuffer,
    Counter::DeviceTxErrors,
];

impl Counter {
    /// Whether each device has its own.
    pub fn is_of_devices(self) -> bool {
        OF_DEVICES.contains(&self)
    }
}

/// Counters of one device. Only one thread writes them.
#[derive(Debug)]
pub struct DeviceStats {
    given: String,
    name: String,
    values: [AtomicU64; OF_DEVICES.len()],
}

impl DeviceStats {
    /// Of a device that was `given` with arguments, perhaps, and is called `name`.
    pub fn new(given: &str, name: String) -> DeviceStats {
        DeviceStats { given: given.to_owned(), name, values: Default::default() }
    }

    /// The device as it was given.
    pub fn given(&self) -> &str {
        &self.given
    }

    /// Its name, without arguments.
    pub fn name(&self) -> &str {
        &self.name
    }

    fn value(&self, counter: Counter) -> Option<&AtomicU64> {
        let place = OF_DEVICES.iter().position(|of| *of == counter)?;
        Some(&self.values[place])
    }

    /// Sets one of its counters.
    pub fn set(&self, counter: Counter, n: u64) {
        self.value(counter).expect("a counter of devices").store(n, Relaxed);
    }

    /// The value now; 0 of what no device has.
    pub fn get(&self, counter: Counter) -> u64 {
        self.value(counter).map_or(0, |value| value.load(Relaxed))
    }

    /// Sets those of all devices together: sums, and whether all links are up. Only the thread
    /// that writes those of the devices may call this, and no worker write these.
    pub fn sum(all: &[DeviceStats], stats: &WorkerStats) {
        for counter in OF_DEVICES {
            let values = all.iter().map(|device| device.get(counter));
            stats.set(
                counter,
                match counter {
                    Counter::DeviceLinkUp => values.min().unwrap_or(0),
                    _ => values.fold(0, u64::wrapping_add),
                },
            );
        }
    }
}

/// Of [`WorkerStats::take_ending`]: none was noted.
const NOTHING: u8 = u8::MAX;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_counted_singly_and_together() {
        let all = ["a,x=1", "b"].map(|given| DeviceStats::new(given, given[..1].to_owned()));
        let stats = WorkerStats::default();
        all[0].set(Counter::DeviceRxMissed, 3);
        all[1].set(Counter::DeviceRxMissed, 4);
        all[0].set(Counter::DeviceLinkUp, 1);
        DeviceStats::sum(&all, &stats);
        assert_eq!(stats.get(Counter::DeviceRxMissed), 7);
        assert_eq!(stats.get(Counter::DeviceLinkUp), 0, "one of two");
        all[1].set(Counter::DeviceLinkUp, 1);
        DeviceStats::sum(&all, &stats);
        assert_eq!(stats.get(Counter::DeviceLinkUp), 1);
        assert_eq!((all[0].given(), all[0].name()), ("a,x=1", "a"));
        assert_eq!(all[0].get(Counter::Turns), 0);
    }

    #[test]
    fn counter_names_are_unique() {
        let mut names: Vec<_> = Counter::ALL.iter().map(|c| c.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Counter::ALL.len());
    }
}
