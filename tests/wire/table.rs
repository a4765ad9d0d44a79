//! The cases of the wire table, and functions to write them.
//!
//! A case consists only of bytes. It never contains the expected answer: memcached gives that.

/// The protocol of a case: it decides the sentinel, and how answers are parsed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    Text,
    Binary,
}

/// How answers are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compare {
    /// Byte for byte, once versions and cas numbers are normalised.
    Exact,
    /// The names of statistics: each one of sunder must be one of memcached's, or listed.
    StatNames,
}

/// One script: the bytes to send.
#[derive(Clone, Debug)]
pub struct Case {
    pub name: String,
    pub protocol: Protocol,
    /// Sent and answered before the input, on the same connection, never cut.
    pub setup: Vec<u8>,
    /// The bytes that are split at every position.
    pub input: Vec<u8>,
    /// Whether the sentinel follows the input. Without it the client's FIN does.
    pub with_sentinel: bool,
    pub compare: Compare,
}

/// A token in the input that is replaced by the last cas in the setup's answer: digits in text.
pub const CAS_TEXT: &[u8] = b"{cas}";

/// The same for a binary header: eight bytes in network order.
pub const CAS_BINARY: u64 = 0xca5c_a5ca_5ca5_ca50;

/// A request with an unmistakable answer, which marks the end of a case's answers.
pub const SENTINEL_TEXT: &[u8] = b"version\r\n";

/// The sentinel's opaque in binary; the sentinel is a noop.
pub const SENTINEL_OPAQUE: u32 = 0x5e27_19e1;

/// Longest input, in bytes, that is split at each byte boundary.
const EVERY_BOUNDARY_BYTES_MAX: usize = 400;

/// Inputs longer than this take milliseconds per run, so fewer cuts are made.
const LARGE_INPUT_BYTES: usize = 64 * 1024;

impl Case {
    /// Where the input is split: after how many bytes the second write begins.
    ///
    /// Up to 400 bytes: everywhere. Longer: near both ends, near the first line ends, near the
    /// sizes of buffers here and in memcached, and at even steps in between.
    pub fn cuts(&self) -> Vec<usize> {
        let len = self.input.len();
        if len <= EVERY_BOUNDARY_BYTES_MAX {
            return (1..=len).collect();
        }
        let is_large = len > LARGE_INPUT_BYTES;
        let (edge, steps) = if is_large { (4, 8) } else { (40, 24) };
        let mut around = vec![];
        for (at, pair) in self.input.windows(2).enumerate() {
            if pair == b"\r\n" && around.len() < 6 {
                around.push(at + 1);
            }
        }
        around.extend([1448, 1460, 2048, 4080, 4096, 16 * 1024, 64 * 1024, 512 * 1024]);
        let mut cuts: Vec<usize> = (1..=edge).chain(len - edge..=len).collect();
        cuts.extend(around.iter().flat_map(|&at| at - 1..=at + 2));
        cuts.extend((1..steps).map(|step| len * step / steps));
        cuts.retain(|&cut| cut > 0 && cut <= len);
        cuts.sort_unstable();
        cuts.dedup();
        cuts
    }

    /// The bytes of the sentinel.
    pub fn sentinel(&self) -> Vec<u8> {
        match self.protocol {
            Protocol::Text => SENTINEL_TEXT.to_vec(),
            Protocol::Binary => frame(0x0a).opaque(SENTINEL_OPAQUE).bytes(),
        }
    }
}

/// All cases.
#[derive(Default)]
pub struct Table {
    pub cases: Vec<Case>,
}

impl Table {
    fn push(&mut self, name: &str, protocol: Protocol, setup: &[u8], input: &[u8]) -> &mut Case {
        let prefix = if protocol == Protocol::Text { "text" } else { "binary" };
        let name = format!("{prefix}: {name}");
        assert!(self.cases.iter().all(|case| case.name != name), "two cases named {name}");
        assert!(!input.is_empty(), "{name} has no input");
        self.cases.push(Case {
            name,
            protocol,
            setup: setup.to_vec(),
            input: input.to_vec(),
            with_sentinel: true,
            compare: Compare::Exact,
        });
        self.cases.last_mut().expect("just pushed")
    }

    /// A text case.
    pub fn text(&mut self, name: &str, input: impl AsRef<[u8]>) {
        self.push(name, Protocol::Text, b"", input.as_ref());
    }

    /// Text cases, many.
    pub fn texts(&mut self, rows: &[(&str, &[u8])]) {
        for (name, input) in rows {
            self.text(name, input);
        }
    }

    /// A text case with a setup, whose last cas replaces `{cas}` in the input.
    pub fn text_after(&mut self, name: &str, setup: &[u8], input: &[u8]) {
        self.push(name, Protocol::Text, setup, input);
    }

    /// A text case that ends with the client's FIN.
    pub fn text_fin(&mut self, name: &str, input: impl AsRef<[u8]>) {
        self.push(name, Protocol::Text, b"", input.as_ref()).with_sentinel = false;
    }

    /// A text case about statistics.
    pub fn text_stats(&mut self, name: &str, setup: &[u8], input: &[u8]) {
        self.push(name, Protocol::Text, setup, input).compare = Compare::StatNames;
    }

    /// A binary case.
    pub fn binary(&mut self, name: &str, frames: &[Frame]) {
        self.push(name, Protocol::Binary, b"", &joined(frames));
    }

    /// A binary case with a setup, whose last cas replaces [`CAS_BINARY`] in the input.
    pub fn binary_after(&mut self, name: &str, setup: &[Frame], frames: &[Frame]) {
        self.push(name, Protocol::Binary, &joined(setup), &joined(frames));
    }

    /// A binary case that ends with the client's FIN.
    pub fn binary_fin(&mut self, name: &str, frames: &[Frame]) {
        self.push(name, Protocol::Binary, b"", &joined(frames)).with_sentinel = false;
    }

    /// A binary case of bytes that are not frames.
    pub fn binary_raw(&mut self, name: &str, input: impl AsRef<[u8]>) {
        self.push(name, Protocol::Binary, b"", input.as_ref());
    }

    /// A binary case about statistics.
    pub fn binary_stats(&mut self, name: &str, frames: &[Frame]) {
        self.push(name, Protocol::Binary, b"", &joined(frames)).compare = Compare::StatNames;
    }
}

fn joined(frames: &[Frame]) -> Vec<u8> {
    frames.iter().flat_map(Frame::bytes).collect()
}

/// A binary request; its lengths are correct unless a case changes them.
#[derive(Clone, Debug)]
pub struct Frame {
    magic: u8,
    opcode: u8,
    key: Vec<u8>,
    extras: Vec<u8>,
    value: Vec<u8>,
    key_bytes: Option<u16>,
    extras_bytes: Option<u8>,
    body_bytes: Option<u32>,
    data_type: u8,
    vbucket: u16,
    opaque: u32,
    cas: u64,
}

/// A request with `opcode` and nothing else.
pub fn frame(opcode: u8) -> Frame {
    Frame {
        magic: 0x80,
        opcode,
        key: vec![],
        extras: vec![],
        value: vec![],
        key_bytes: None,
        extras_bytes: None,
        body_bytes: None,
        data_type: 0,
        vbucket: 0,
        opaque: 0x0102_0304,
        cas: 0,
    }
}

/// A request with `opcode` and a key: get, delete and similar.
pub fn keyed(opcode: u8, key: impl AsRef<[u8]>) -> Frame {
    frame(opcode).key(key)
}

/// set, add, replace and their quiet forms.
pub fn store(opcode: u8, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Frame {
    store_with(opcode, key, 0, 0, value)
}

/// The same with client flags and expiry.
pub fn store_with(
    opcode: u8,
    key: impl AsRef<[u8]>,
    flags: u32,
    expiry: u32,
    value: impl AsRef<[u8]>,
) -> Frame {
    let extras = [flags.to_be_bytes(), expiry.to_be_bytes()].concat();
    frame(opcode).extras(extras).key(key).value(value)
}

/// append, prepend: no extras.
pub fn extend(opcode: u8, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Frame {
    frame(opcode).key(key).value(value)
}

/// incr, decr.
pub fn arith(opcode: u8, key: impl AsRef<[u8]>, delta: u64, initial: u64, expiry: u32) -> Frame {
    let mut extras = [delta.to_be_bytes(), initial.to_be_bytes()].concat();
    extras.extend(expiry.to_be_bytes());
    frame(opcode).extras(extras).key(key)
}

/// touch, gat: an expiry and a key. Also flush, which has no key.
pub fn timed(opcode: u8, key: impl AsRef<[u8]>, expiry: u32) -> Frame {
    frame(opcode).extras(expiry.to_be_bytes()).key(key)
}

impl Frame {
    pub fn key(mut self, key: impl AsRef<[u8]>) -> Self {
        self.key = key.as_ref().to_vec();
        self
    }

    pub fn extras(mut self, extras: impl AsRef<[u8]>) -> Self {
        self.extras = extras.as_ref().to_vec();
        self
    }

    pub fn value(mut self, value: impl AsRef<[u8]>) -> Self {
        self.value = value.as_ref().to_vec();
        self
    }

    pub fn opaque(mut self, opaque: u32) -> Self {
        self.opaque = opaque;
        self
    }

    pub fn cas(mut self, cas: u64) -> Self {
        self.cas = cas;
        self
    }

    pub fn magic(mut self, magic: u8) -> Self {
        self.magic = magic;
        self
    }

    pub fn data_type(mut self, data_type: u8) -> Self {
        self.data_type = data_type;
        self
    }

    pub fn vbucket(mut self, vbucket: u16) -> Self {
        self.vbucket = vbucket;
        self
    }

    /// Claims this length of the key, whatever its real one.
    pub fn claim_key(mut self, bytes: u16) -> Self {
        self.key_bytes = Some(bytes);
        self
    }

    /// Claims this length of extras.
    pub fn claim_extras(mut self, bytes: u8) -> Self {
        self.extras_bytes = Some(bytes);
        self
    }

    /// Claims this length of the whole body.
    pub fn claim_body(mut self, bytes: u32) -> Self {
        self.body_bytes = Some(bytes);
        self
    }

    /// The frame on the wire (protocol_binary.xml, section 2.1).
    pub fn bytes(&self) -> Vec<u8> {
        let body = self.extras.len() + self.key.len() + self.value.len();
        let key_bytes = self.key_bytes.unwrap_or(self.key.len() as u16);
        let mut out = vec![self.magic, self.opcode];
        out.extend(key_bytes.to_be_bytes());
        out.push(self.extras_bytes.unwrap_or(self.extras.len() as u8));
        out.push(self.data_type);
        out.extend(self.vbucket.to_be_bytes());
        out.extend(self.body_bytes.unwrap_or(body as u32).to_be_bytes());
        out.extend(self.opaque.to_be_bytes());
        out.extend(self.cas.to_be_bytes());
        out.extend(&self.extras);
        out.extend(&self.key);
        out.extend(&self.value);
        out
    }
}
