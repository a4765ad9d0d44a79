//! The native protocol of systemd-journald: a datagram for each line, with its level as PRIORITY
//! and its fields as SUNDER_EVENT, SUNDER_TIER and so on.
//!
//! <https://systemd.io/JOURNAL_NATIVE_PROTOCOL/>. Its files for what exceeds a datagram are not
//! needed: a line is cut off long before.

use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use super::line::{Level, Value};
use crate::base::limits::LOG_VALUE_BYTES_MAX;

/// The way to a journal.
#[derive(Debug)]
pub(super) struct Journal {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Journal {
    /// # Errors
    /// Nobody receives at `path`.
    pub fn open(path: &Path) -> io::Result<Journal> {
        UnixDatagram::unbound()?.connect(path)?;
        // Not connected: a journal that is started again has another socket at the same path.
        Ok(Journal { socket: UnixDatagram::unbound()?, path: path.to_owned() })
    }

    /// Sends a line.
    ///
    /// # Errors
    /// It is lost.
    pub fn send(
        &self,
        level: Level,
        message: &str,
        fields: &[(&'static str, Value)],
    ) -> io::Result<()> {
        let datagram = datagram(level, message, fields);
        self.socket.send_to(&datagram, &self.path).map(drop)
    }
}

fn datagram(level: Level, message: &str, fields: &[(&'static str, Value)]) -> Vec<u8> {
    // Those of syslog(3).
    let priority = match level {
        Level::Error => "3",
        Level::Warn => "4",
        Level::Info => "6",
        Level::Debug => "7",
    };
    let mut out = Vec::new();
    put(&mut out, "MESSAGE", message);
    put(&mut out, "PRIORITY", priority);
    put(&mut out, "SYSLOG_IDENTIFIER", "sunder");
    for (name, value) in fields {
        let name = format!("SUNDER_{}", name.to_ascii_uppercase());
        match value {
            Value::Text(text) => put(&mut out, &name, text),
            Value::Number(number) => put(&mut out, &name, &number.to_string()),
        }
    }
    out
}

/// A field. A value with a line end in it has its length before it, so that it cannot be taken for
/// another field.
fn put(out: &mut Vec<u8>, name: &str, value: &str) {
    let value = &value[..value.floor_char_boundary(LOG_VALUE_BYTES_MAX)];
    out.extend_from_slice(name.as_bytes());
    if value.contains('\n') {
        out.push(b'\n');
        out.extend_from_slice(&(value.len() as u64).to_le_bytes());
    } else {
        out.push(b'=');
    }
    out.extend_from_slice(value.as_bytes());
    out.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_cannot_make_another_field() {
        let fields = [("path", Value::Text("a\nPRIORITY=0".into())), ("count", Value::Number(7))];
        let mut expected =
            b"MESSAGE=said\nPRIORITY=4\nSYSLOG_IDENTIFIER=sunder\nSUNDER_PATH\n".to_vec();
        expected.extend(12_u64.to_le_bytes());
        expected.extend(b"a\nPRIORITY=0\nSUNDER_COUNT=7\n");
        assert_eq!(datagram(Level::Warn, "said", &fields), expected);
    }

    #[test]
    fn a_line_fits_a_datagram() {
        let long = "ä".repeat(1 << 20);
        let sent = datagram(Level::Info, &long, &[]);
        assert!(sent.len() < LOG_VALUE_BYTES_MAX + 100, "{}", sent.len());
        assert!(std::str::from_utf8(&sent).is_ok(), "it is cut between characters");
    }
}
