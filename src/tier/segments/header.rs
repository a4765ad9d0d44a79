//! The start of the region: what tells a store from other bytes, and what a later start needs.
//!
//! ```text
//! | what never changes: magic 8 | version 4 | shift 4 | bytes 8 | worker 4 | workers 4 | seed 8 |
//! |                     key seed 8 | sum 8 |                                                   |
//! | state | the same again |
//! ```
//!
//! The state is written twice, one copy after the other, each with a sum: a stop in between leaves
//! one that is whole, and a flipped bit in one is made good by the other. The greater number is the
//! later one.

use rapidhash::v3::{RapidSecrets, rapidhash_v3_seeded};

use super::geometry::{Geometry, HEADER_BYTES_MIN, SegmentStoreConfig};
use super::opening::StartError;
use super::region::Region;

const MAGIC: u64 = u64::from_le_bytes(*b"sunderL1");
/// Raised with every change of what lies where, or of what is made of a size.
const VERSION: u32 = 3;
const MAGIC_AT: usize = 0;
const VERSION_AT: usize = 8;
const SHIFT_AT: usize = 12;
const BYTES_AT: usize = 16;
const WORKER_AT: usize = 24;
const WORKERS_AT: usize = 28;
const SEED_AT: usize = 32;
const KEY_SEED_AT: usize = 40;
const SUM_AT: usize = 48;
const STATE_AT: [usize; 2] = [64, 256];

/// Words of a state, its sum included.
const STATE_WORDS: usize = 16;

/// Whose use an L1 goes with: a log, and one run of the server with it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Companion {
    /// The log.
    pub log: [u8; 16],
    /// The run.
    pub run: u64,
}

/// What a stop that was not a kill leaves of the index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CleanMark {
    pub entries: usize,
    /// Over all of its bytes.
    pub index_sum: u64,
}

/// What changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// How often it was written.
    pub number: u64,
    /// Segments that the index does not have.
    pub segments: u32,
    /// Buckets of the index, as they were lately.
    pub buckets: usize,
    /// Sequence numbers below this may have been used.
    pub sequence_next: u64,
    /// What lies in segments with a lower sequence number is flushed.
    pub flushed_below: u64,
    /// When all is to be flushed, in seconds of Unix time.
    pub flush_at_s: Option<u32>,
    /// The time as it was lately, in seconds of Unix time.
    pub clock_s: u32,
    /// In which run of the machine the region is used; 0 is none.
    pub boot: u64,
    pub companion: Option<Companion>,
    pub clean: Option<CleanMark>,
}

impl State {
    /// That of a new store.
    pub fn first(geometry: &Geometry) -> State {
        State {
            segments: geometry.segments(),
            sequence_next: u64::from(geometry.worker) + 1,
            ..State::default()
        }
    }

    fn to_words(self) -> [u64; STATE_WORDS - 1] {
        let companion = self.companion.unwrap_or_default();
        let (low, high) = companion.log.split_at(8);
        let word = |bytes: &[u8]| bytes.first_chunk().map_or(0, |it| u64::from_le_bytes(*it));
        let clean = self.clean.unwrap_or(CleanMark { entries: 0, index_sum: 0 });
        let has = u64::from(self.companion.is_some())
            | u64::from(self.clean.is_some()) << 1
            | u64::from(self.flush_at_s.is_some()) << 2;
        [
            self.number,
            has,
            u64::from(self.segments),
            self.buckets as u64,
            self.sequence_next,
            self.flushed_below,
            u64::from(self.flush_at_s.unwrap_or(0)),
            u64::from(self.clock_s),
            self.boot,
            word(low),
            word(high),
            companion.run,
            clean.entries as u64,
            clean.index_sum,
            0,
        ]
    }

    fn of_words(words: [u64; STATE_WORDS - 1]) -> State {
        let [number, has, segments, buckets, sequence_next, flushed_below, ..] = words;
        let [.., flush_at_s, clock_s, boot, low, high, run, entries, index_sum, _] = words;
        let log = u128::from(low) | u128::from(high) << 64;
        let companion = Companion { log: log.to_le_bytes(), run };
        let clean = CleanMark { entries: entries as usize, index_sum };
        State {
            number,
            segments: segments as u32,
            buckets: buckets as usize,
            sequence_next,
            flushed_below,
            flush_at_s: (has & 4 != 0).then_some(flush_at_s as u32),
            clock_s: clock_s as u32,
            boot,
            companion: (has & 1 != 0).then_some(companion),
            clean: (has & 2 != 0).then_some(clean),
        }
    }
}

/// A sum over bytes of a store with this seed.
pub fn sum(seed: u64, bytes: &[u8]) -> u64 {
    rapidhash_v3_seeded(bytes, &RapidSecrets::seed(seed))
}

/// Begins a region. The magic number comes last: what has it has all the rest.
pub fn begin(region: &mut Region, geometry: Geometry, state: &State) {
    region.set_u32(VERSION_AT, VERSION);
    region.set_u32(SHIFT_AT, geometry.shift);
    region.set_u64(BYTES_AT, geometry.bytes as u64);
    region.set_u32(WORKER_AT, geometry.worker);
    region.set_u32(WORKERS_AT, geometry.workers);
    region.set_u64(SEED_AT, geometry.seed);
    region.set_u64(KEY_SEED_AT, geometry.key_seed);
    region.set_u64(SUM_AT, sum(MAGIC, region.slice(VERSION_AT, SUM_AT - VERSION_AT)));
    write(region, state);
    region.in_order();
    region.set_u64(MAGIC_AT, MAGIC);
}

/// What a region is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// Nothing was ever written there.
    Nothing,
    /// Not a store.
    Foreign,
    /// A store of another version, this one.
    Version(u32),
    /// A store whose header is damaged.
    Damaged,
    /// A store.
    Store(Geometry),
}

/// Bytes that say what a region is.
pub const LOOK_BYTES: usize = 64;

/// What a region says of itself.
pub fn geometry(region: &Region) -> Found {
    look(&region.array(MAGIC_AT))
}

/// What a region that starts so is.
pub fn look(start: &[u8; LOOK_BYTES]) -> Found {
    let array = |at: usize| start[at..].first_chunk().map_or(0, |it| u64::from_le_bytes(*it));
    let half = |at: usize| array(at) as u32;
    if array(MAGIC_AT) != MAGIC {
        let is_empty = start.iter().all(|&byte| byte == 0);
        return if is_empty { Found::Nothing } else { Found::Foreign };
    }
    let is_whole = array(SUM_AT) == sum(MAGIC, &start[VERSION_AT..SUM_AT]);
    match half(VERSION_AT) {
        VERSION if is_whole => Found::Store(Geometry {
            bytes: array(BYTES_AT) as usize,
            shift: half(SHIFT_AT),
            seed: array(SEED_AT),
            key_seed: array(KEY_SEED_AT),
            worker: half(WORKER_AT),
            workers: half(WORKERS_AT),
        }),
        VERSION => Found::Damaged,
        version => Found::Version(version),
    }
}

/// The geometry of a store, if it is what was asked for.
pub fn check(found: Found, config: &SegmentStoreConfig) -> Result<Geometry, StartError> {
    let geometry = match found {
        Found::Nothing | Found::Foreign => return Err(StartError::Foreign),
        Found::Version(found) => return Err(StartError::Version { found }),
        Found::Damaged => return Err(StartError::Damaged),
        Found::Store(geometry) => geometry,
    };
    let wanted = config.geometry(geometry.seed, geometry.key_seed);
    if geometry.workers != wanted.workers {
        return Err(StartError::Workers { found: geometry.workers, wanted: wanted.workers });
    }
    if geometry.worker != wanted.worker {
        return Err(StartError::Worker { found: geometry.worker, wanted: wanted.worker });
    }
    if geometry.bytes != wanted.bytes {
        let (found, wanted) = (geometry.bytes as u64, wanted.bytes as u64);
        return Err(StartError::Size { found, wanted });
    }
    if geometry == wanted { Ok(geometry) } else { Err(StartError::Damaged) }
}

/// Sees to it that nothing takes the region for a store until it is begun again.
pub fn end(region: &mut Region) {
    region.clear(MAGIC_AT, HEADER_BYTES_MIN);
    region.in_order();
}

/// A sum over bytes, keyed by the region's seed.
pub fn sum_in(region: &Region, bytes: &[u8]) -> u64 {
    sum(region.u64(SEED_AT), bytes)
}

/// The state, if one copy is whole.
pub fn state(region: &Region) -> Option<State> {
    STATE_AT.iter().filter_map(|&at| state_at(region, at)).max_by_key(|state| state.number)
}

fn state_at(region: &Region, at: usize) -> Option<State> {
    let bytes: [u8; STATE_WORDS * 8] = region.array(at);
    let (words, stored) = bytes.split_last_chunk::<8>()?;
    if sum(region.u64(SEED_AT), words) != u64::from_le_bytes(*stored) {
        return None;
    }
    let (words, _) = words.as_chunks::<8>();
    let words = words.first_chunk()?.map(u64::from_le_bytes);
    Some(State::of_words(words))
}

/// Writes a state that was read before, or a first one.
pub fn write(region: &mut Region, state: &State) {
    let number = state.number + 1;
    let words = State { number, ..*state }.to_words();
    let mut bytes = [0; STATE_WORDS * 8];
    let (places, _) = bytes.as_chunks_mut::<8>();
    places.iter_mut().zip(words).for_each(|(place, word)| *place = word.to_le_bytes());
    let last = bytes.len() - 8;
    let sum = sum(region.u64(SEED_AT), &bytes[..last]);
    bytes[last..].copy_from_slice(&sum.to_le_bytes());
    for at in STATE_AT {
        region.in_order();
        region.write(at, &bytes);
        region.in_order();
    }
}

/// Changes the state.
///
/// # Panics
/// If none was written.
pub fn change(region: &mut Region, change: impl FnOnce(&mut State)) {
    let mut state = state(region).expect("a store that is in use has a state");
    change(&mut state);
    write(region, &state);
}

/// Segments that the index does not have.
pub fn segments(region: &Region) -> u32 {
    state(region).map_or(0, |state| state.segments)
}

/// The index has taken a segment.
pub fn set_segments(region: &mut Region, segments: u32) {
    change(region, |state| state.segments = segments);
}

/// Sequence numbers below this may have been used.
pub fn set_sequence(region: &mut Region, next: u64) {
    change(region, |state| state.sequence_next = next);
}

/// What lies in segments with a lower sequence number is flushed.
pub fn flushed_below(region: &Region) -> u64 {
    state(region).map_or(0, |state| state.flushed_below)
}

/// Everything in segments with a lower sequence number is flushed now, and no flush is to come; or
/// one is to come.
pub fn set_flush(region: &mut Region, flushed_below: u64, flush_at_s: Option<u32>) {
    change(region, |state| {
        state.flushed_below = flushed_below;
        state.flush_at_s = flush_at_s;
    });
}
