//! Reading what somebody else wrote, of which nobody knows how long it is or what is in it. It must
//! never wait, and never read without end.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::OFlags;

/// Most bytes that are read of a file: the kernel's list of interrupts on a host with hundreds of
/// cores has a few hundred thousand.
const BYTES_MAX: u64 = 4 << 20;

/// Opens a file to read it, without waiting for anybody: whoever opens a pipe would wait for its
/// other end.
///
/// # Errors
/// The kernel's; `InvalidInput` if it is a pipe.
pub fn open(path: &Path) -> io::Result<File> {
    let flags = OFlags::NONBLOCK.bits() as i32;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    if file.metadata()?.file_type().is_fifo() {
        let text = "not a regular file, and could not be read again";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    Ok(file)
}

/// The text of a file, up to [`BYTES_MAX`]; what is not UTF-8 is replaced. None: it cannot be read.
pub fn text(path: &Path) -> Option<String> {
    let mut bytes = Vec::new();
    open(path).ok()?.take(BYTES_MAX).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_pipe_is_refused_and_not_waited_for() {
        let path = std::env::temp_dir().join(format!("sunder-pipe-{}", std::process::id()));
        let (kind, mode) = (rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR);
        rustix::fs::mknodat(rustix::fs::CWD, &path, kind, mode, 0).expect("made");
        let error = open(&path).expect_err("refused");
        fs::remove_file(&path).expect("removed");
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        assert!(error.to_string().contains("not a regular file"), "{error}");
    }

    #[test]
    fn what_is_long_or_no_text_is_read_as_far_as_it_goes() {
        let path = std::env::temp_dir().join(format!("sunder-files-{}", std::process::id()));
        fs::write(&path, vec![0xff; BYTES_MAX as usize + 7]).expect("written");
        let text = super::text(&path).expect("it is there");
        assert_eq!(text.chars().count() as u64, BYTES_MAX);
        assert!(text.chars().all(|c| c == char::REPLACEMENT_CHARACTER));
        fs::remove_file(&path).expect("removed");
        assert_eq!(super::text(&path), None);
    }
}
