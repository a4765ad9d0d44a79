//! A stand-in for a Rend-based server, with the oddities of real ones: it closes the connection on
//! unknown commands, its errors have no text and wrong opcodes, items have no cas, every exptime is
//! relative, and some commands act on expired items. The test controls its clock, and whether it
//! answers.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;

use super::fixture::Folder;

/// The initial value of its clock.
pub const START_UNIX_S: u32 = 1_800_000_000;

/// Which of the stores behind Rend's protocol it imitates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// rend-lmdb: add, replace, append, touch and delete see expired items; a touch with exptime 0
    /// lets the item expire now; a get-and-touch of an expired item is a hit.
    Lmdb,
    /// Rend's own memory: an add of a key that has an item deletes it; a delete always succeeds.
    Memory,
    /// No GETE, but all else: like a memcached.
    WithoutGete,
    /// GETE whose expiry is the remaining time.
    Remaining,
}

#[derive(Clone, Debug)]
struct Entry {
    expiry_unix_s: u32,
    flags: u32,
    value: Vec<u8>,
}

struct State {
    kind: Kind,
    items: HashMap<Vec<u8>, Entry>,
    /// The value of its clock.
    unix_s: u32,
    is_frozen: bool,
    /// Opcodes on which it closed the connection.
    unknown: Vec<u8>,
    connections: Vec<UnixStream>,
    is_stopping: bool,
    /// How often it was killed.
    kills: u32,
    /// A further opcode on which it closes the connection.
    hated: Option<u8>,
    /// The bytes that replace the next answers.
    instead: Option<Vec<u8>>,
}

struct Shared {
    state: Mutex<State>,
    thawed: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no thread of it panics while holding this")
    }
}

/// The server; it ends when dropped.
pub struct FakeRend {
    path: PathBuf,
    /// Removed after the server has ended.
    _folder: Folder,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

impl FakeRend {
    /// Starts one on a Unix socket.
    pub fn start(kind: Kind) -> FakeRend {
        let folder = Folder::new();
        let state = State {
            kind,
            items: HashMap::new(),
            unix_s: START_UNIX_S,
            is_frozen: false,
            unknown: Vec::new(),
            connections: Vec::new(),
            is_stopping: false,
            kills: 0,
            hated: None,
            instead: None,
        };
        let shared = Arc::new(Shared { state: Mutex::new(state), thawed: Condvar::new() });
        let mut fake = FakeRend { path: folder.socket(), _folder: folder, shared, acceptor: None };
        fake.listen();
        fake
    }

    fn listen(&mut self) {
        let listener = UnixListener::bind(&self.path).expect("a free path");
        let shared = Arc::clone(&self.shared);
        self.acceptor = Some(std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(stream) = stream else { return };
                let mut state = shared.lock();
                if state.is_stopping {
                    return;
                }
                state.connections.push(stream.try_clone().expect("a descriptor"));
                let kills = state.kills;
                let shared = Arc::clone(&shared);
                std::thread::spawn(move || {
                    // The client or the test ends it.
                    let _ = serve(&shared, &stream, kills);
                    let _ = stream.shutdown(std::net::Shutdown::Both);
                });
            }
        }));
    }

    /// Closes every connection and the listener, like a killed process.
    pub fn kill(&mut self) {
        let mut state = self.shared.lock();
        state.is_stopping = true;
        state.kills += 1;
        for stream in state.connections.drain(..) {
            let _ = stream.shutdown(std::net::Shutdown::Both);
        }
        drop(state);
        self.freeze(false);
        // Wakes the acceptor, which then stops.
        let _ = UnixStream::connect(&self.path);
        if let Some(acceptor) = self.acceptor.take() {
            acceptor.join().expect("the acceptor does not panic");
        }
        let _ = std::fs::remove_file(&self.path);
    }

    /// Listens again after [`FakeRend::kill`], with its items: they are on disk.
    pub fn restart(&mut self) {
        self.shared.lock().is_stopping = false;
        self.listen();
    }

    /// Stops answering, or continues, with the requests received meanwhile.
    pub fn freeze(&self, is_frozen: bool) {
        self.shared.lock().is_frozen = is_frozen;
        self.shared.thawed.notify_all();
    }

    /// The path of its socket.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Sets its clock, which is otherwise stopped.
    pub fn set_unix_s(&self, unix_s: u32) {
        self.shared.lock().unix_s = unix_s;
    }

    /// Answers everything from now on with these bytes, or normally.
    pub fn answer_instead(&self, bytes: Option<&[u8]>) {
        self.shared.lock().instead = bytes.map(<[u8]>::to_vec);
    }

    /// Closes the connection on this opcode from now on, or only on unknown ones.
    pub fn hang_up_on(&self, opcode: Option<u8>) {
        self.shared.lock().hated = opcode;
    }

    /// Opcodes on which it closed the connection.
    pub fn unknown(&self) -> Vec<u8> {
        self.shared.lock().unknown.clone()
    }

    /// Forgets all items.
    pub fn clear(&self) {
        self.shared.lock().items.clear();
    }

    /// Keys that it stores, expired or not.
    pub fn keys(&self) -> Vec<Vec<u8>> {
        self.shared.lock().items.keys().cloned().collect()
    }
}

impl Drop for FakeRend {
    fn drop(&mut self) {
        if self.acceptor.is_some() {
            self.kill();
        }
    }
}

/// The status of an answer, and its content.
enum Answer {
    Done,
    /// Extras and value.
    Found(Vec<u8>, Vec<u8>),
    Error(u16),
}

const MISS: u16 = 0x01;
const EXISTS: u16 = 0x02;
const UNKNOWN: u16 = 0x81;

/// Serves one connection, a request at a time, until the client closes, the server closes, or it
/// was killed more than `kills` times.
fn serve(shared: &Shared, mut stream: &UnixStream, kills: u32) -> io::Result<()> {
    loop {
        let mut header = [0; 24];
        stream.read_exact(&mut header)?;
        let opcode = header[1];
        let key_bytes = usize::from(u16::from_be_bytes([header[2], header[3]]));
        let extras_bytes = usize::from(header[4]);
        let body = u32::from_be_bytes([header[8], header[9], header[10], header[11]]) as usize;
        let mut rest = vec![0; body];
        stream.read_exact(&mut rest)?;
        let mut state = shared.lock();
        while state.is_frozen {
            state = shared.thawed.wait(state).expect("as lock");
        }
        if state.kills != kills {
            return Ok(());
        }
        let (extras, rest) = rest.split_at(extras_bytes);
        let (key, value) = rest.split_at(key_bytes);
        if state.hated == Some(opcode) {
            return Ok(());
        }
        let Some(answer) = state.execute(opcode, extras, key, value) else {
            state.unknown.push(opcode);
            return Ok(());
        };
        let reply = match &state.instead {
            Some(bytes) => bytes.clone(),
            None => encode(opcode, &header[12..16], answer),
        };
        drop(state);
        stream.write_all(&reply)?;
    }
}

/// A reply with cas 0; an error without text, and for a get without its opaque.
fn encode(opcode: u8, opaque: &[u8], answer: Answer) -> Vec<u8> {
    let (status, extras, value) = match answer {
        Answer::Done => (0, vec![], vec![]),
        Answer::Found(extras, value) => (0, extras, value),
        Answer::Error(status) => (status, vec![], vec![]),
    };
    let is_get = matches!(opcode, 0x00 | 0x40);
    let opaque = if status != 0 && is_get { &[0; 4] } else { opaque };
    // The number in its own enumeration, not in the protocol, as one version of Rend does.
    let opcode = if opcode == 0x40 && status == 0 { 0x03 } else { opcode };
    let mut reply = vec![0x81, opcode, 0, 0, extras.len() as u8, 0];
    reply.extend(status.to_be_bytes());
    reply.extend(((extras.len() + value.len()) as u32).to_be_bytes());
    reply.extend(opaque);
    reply.extend([0; 8]);
    reply.extend(extras);
    reply.extend(value);
    reply
}

fn number(bytes: &[u8]) -> u32 {
    u32::from_be_bytes(bytes.try_into().expect("four bytes"))
}

impl State {
    /// Rend's rule: a second longer than memcached's.
    fn is_expired(&self, entry: &Entry) -> bool {
        entry.expiry_unix_s != 0 && entry.expiry_unix_s < self.unix_s
    }

    /// The item that a get sees.
    fn alive(&self, key: &[u8]) -> Option<Entry> {
        self.items.get(key).filter(|entry| !self.is_expired(entry)).cloned()
    }

    /// The item that a change sees.
    fn changeable(&mut self, key: &[u8]) -> Option<Entry> {
        match self.kind {
            Kind::Lmdb => self.items.get(key).cloned(),
            _ => {
                let alive = self.alive(key);
                if alive.is_none() {
                    self.items.remove(key);
                }
                alive
            }
        }
    }

    fn distance(&self, exptime: u32) -> u32 {
        if exptime == 0 { 0 } else { self.unix_s.wrapping_add(exptime) }
    }

    fn distance_of_touch(&self, exptime: u32) -> u32 {
        match self.kind {
            Kind::Lmdb => self.unix_s.wrapping_add(exptime),
            _ => self.distance(exptime),
        }
    }

    /// None: unknown, so it closes the connection.
    fn execute(&mut self, opcode: u8, extras: &[u8], key: &[u8], value: &[u8]) -> Option<Answer> {
        Some(match opcode {
            0x00 => self.get(key, false),
            0x40 if self.kind == Kind::WithoutGete => Answer::Error(UNKNOWN),
            0x40 => self.get(key, true),
            0x01..=0x03 => self.store(opcode, extras, key, value),
            0x0e | 0x0f => self.extend(opcode, key, value),
            0x04 => self.delete(key),
            0x1c | 0x1d => self.touch(opcode, key, number(extras)),
            0x0a => Answer::Done,
            0x0b => Answer::Found(vec![], b"Rend 0.1".to_vec()),
            _ => return None,
        })
    }

    fn get(&mut self, key: &[u8], with_expiry: bool) -> Answer {
        let Some(entry) = self.alive(key) else { return Answer::Error(MISS) };
        let mut extras = entry.flags.to_be_bytes().to_vec();
        if with_expiry {
            let expiry = match self.kind {
                Kind::Remaining => entry.expiry_unix_s.saturating_sub(self.unix_s),
                _ => entry.expiry_unix_s,
            };
            extras.extend(expiry.to_be_bytes());
        }
        Answer::Found(extras, entry.value)
    }

    fn store(&mut self, opcode: u8, extras: &[u8], key: &[u8], value: &[u8]) -> Answer {
        let expiry_unix_s = match self.kind {
            Kind::Remaining => number(&extras[4..8]),
            _ => self.distance(number(&extras[4..8])),
        };
        let entry = Entry { expiry_unix_s, flags: number(&extras[..4]), value: value.to_vec() };
        if opcode == 0x02 && self.items.contains_key(key) {
            if self.kind == Kind::Memory {
                self.items.remove(key);
            }
            return Answer::Error(EXISTS);
        }
        if opcode == 0x03 && self.changeable(key).is_none() {
            return Answer::Error(MISS);
        }
        self.items.insert(key.to_vec(), entry);
        Answer::Done
    }

    fn extend(&mut self, opcode: u8, key: &[u8], value: &[u8]) -> Answer {
        let Some(mut entry) = self.changeable(key) else { return Answer::Error(MISS) };
        entry.value = match opcode {
            0x0e => [&entry.value, value].concat(),
            _ => [value, &entry.value].concat(),
        };
        self.items.insert(key.to_vec(), entry);
        Answer::Done
    }

    fn delete(&mut self, key: &[u8]) -> Answer {
        match self.items.remove(key) {
            None if self.kind != Kind::Memory => Answer::Error(MISS),
            _ => Answer::Done,
        }
    }

    fn touch(&mut self, opcode: u8, key: &[u8], exptime: u32) -> Answer {
        let Some(mut entry) = self.changeable(key) else { return Answer::Error(MISS) };
        let found = Answer::Found(entry.flags.to_be_bytes().to_vec(), entry.value.clone());
        if opcode == 0x1d && self.is_expired(&entry) {
            self.items.remove(key);
            return found;
        }
        entry.expiry_unix_s = self.distance_of_touch(exptime);
        self.items.insert(key.to_vec(), entry);
        if opcode == 0x1d { found } else { Answer::Done }
    }
}
