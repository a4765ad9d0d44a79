//! Notes beside a log's disk that the log is not to be believed any more.
//!
//! A disk that takes no writes cannot be told so, and whoever reads it later finds it whole and
//! old. So it is noted elsewhere: in a file named after the log, on another file system that
//! outlives a restart of the host. A log that such a file names is given up at its next start,
//! whatever it holds. Nothing here may make a worker wait: files are written on a thread of their
//! own, which is there only while there is something to write.

use std::ffi::OsString;
use std::fmt::{self, Write as _};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use super::format::LogId;

/// Where it is noted that a log is not to be believed.
pub trait Witness: fmt::Debug + Send + Sync {
    /// Begins to note it, or tries again if that failed. Does not wait.
    fn distrust(&self, log: &LogId);

    /// Begins to take it back. Does not wait.
    fn trust(&self, log: &LogId);

    /// Whether it is noted now; None: still at it, with whichever was asked for last.
    fn is_noted(&self) -> Option<bool>;

    /// Where it is noted, or why nowhere, for the operator.
    fn place(&self) -> String;

    /// Whether it was noted of a log that is to be opened. Waits.
    fn is_distrusted(&self, log: &LogId) -> bool;

    /// There is no such log any more. Waits.
    fn forget(&self, log: &LogId);
}

/// No place for notes: for who only looks.
#[cfg(feature = "internals")]
#[derive(Debug)]
pub struct Nowhere;

#[cfg(feature = "internals")]
impl Witness for Nowhere {
    fn distrust(&self, _log: &LogId) {}

    fn trust(&self, _log: &LogId) {}

    fn is_noted(&self) -> Option<bool> {
        Some(false)
    }

    fn place(&self) -> String {
        "there is no place for a note".into()
    }

    fn is_distrusted(&self, _log: &LogId) -> bool {
        false
    }

    fn forget(&self, _log: &LogId) {}
}

/// Notes in files.
#[derive(Debug)]
pub struct Marks(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// Folders, the best first.
    places: Vec<PathBuf>,
    /// The disk of the log.
    log_path: PathBuf,
    state: Mutex<NoteState>,
}

#[derive(Debug, Default)]
struct NoteState {
    wanted: Option<Wish>,
    /// What was done last, and where, or why it could not be.
    done: Option<(Wish, Result<PathBuf, String>)>,
    is_busy: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Wish {
    log: LogId,
    is_noted: bool,
}

/// Where notes go unless told otherwise: what the service manager gives the service, else the
/// host's place for what services keep, else the one for what outlives a restart.
fn usual_places(given: Option<OsString>) -> Vec<PathBuf> {
    let given = given.filter(|folder| !folder.is_empty());
    // systemd names several with colons between.
    let given = given.and_then(|all| std::env::split_paths(&all).next());
    given.into_iter().chain(["/var/lib/sunder".into(), "/var/tmp".into()]).collect()
}

impl Marks {
    /// For a log on the disk at `log_path`. `folder`: there and nowhere else.
    pub fn new(log_path: &Path, folder: Option<&Path>) -> Marks {
        let places = match folder {
            Some(folder) => vec![folder.to_owned()],
            None => usual_places(std::env::var_os("STATE_DIRECTORY")),
        };
        let (log_path, state) = (log_path.to_owned(), Mutex::default());
        Marks(Arc::new(Inner { places, log_path, state }))
    }

    /// Why no note could be made as things are now; None: one could. Writes nothing.
    pub fn lack(&self) -> Option<String> {
        let mut reasons = Vec::new();
        for place in &self.0.places {
            match self.0.look_at(place) {
                Ok(()) => return None,
                Err(error) => reasons.push(format!("{}: {error}", place.display())),
            }
        }
        Some(reasons.join(", "))
    }

    fn ask(&self, wish: Wish) {
        let state = &mut *self.0.state();
        if let Some((done, result)) = &state.done
            && *done == wish
            && state.wanted == Some(wish)
            && result.is_err()
        {
            state.done = None;
        }
        state.wanted = Some(wish);
        if state.is_busy || state.done.as_ref().is_some_and(|(done, _)| *done == wish) {
            return;
        }
        let inner = Arc::clone(&self.0);
        match thread::Builder::new().name("sunder-mark".into()).spawn(move || inner.work()) {
            Ok(_) => state.is_busy = true,
            Err(error) => state.done = Some((wish, Err(format!("no thread: {error}")))),
        }
    }
}

impl Witness for Marks {
    fn distrust(&self, log: &LogId) {
        self.ask(Wish { log: *log, is_noted: true });
    }

    fn trust(&self, log: &LogId) {
        self.ask(Wish { log: *log, is_noted: false });
    }

    fn is_noted(&self) -> Option<bool> {
        let state = self.0.state();
        let Some(wanted) = state.wanted else { return Some(false) };
        let (done, result) = state.done.as_ref()?;
        (*done == wanted).then_some(wanted.is_noted && result.is_ok())
    }

    fn place(&self) -> String {
        match &self.0.state().done {
            Some((_, Ok(place))) => place.display().to_string(),
            Some((_, Err(reason))) => reason.clone(),
            None => "not answered yet".into(),
        }
    }

    fn is_distrusted(&self, log: &LogId) -> bool {
        self.0.places.iter().any(|place| is_there(&file_of(place, log)))
    }

    fn forget(&self, log: &LogId) {
        self.0.take_back(log);
    }
}

/// Whether a note is there. What cannot be looked at may be one.
fn is_there(path: &Path) -> bool {
    match fs::symlink_metadata(path) {
        Ok(_) => true,
        Err(error) => !matches!(
            error.kind(),
            io::ErrorKind::NotFound
                | io::ErrorKind::NotADirectory
                | io::ErrorKind::PermissionDenied
        ),
    }
}

fn file_of(place: &Path, log: &LogId) -> PathBuf {
    let mut name = String::from("sunder-distrusts-");
    for byte in log {
        // Writing to a string cannot fail.
        let _ = write!(name, "{byte:02x}");
    }
    place.join(name)
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, NoteState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does what is wanted until that is done.
    fn work(&self) {
        loop {
            let wish = {
                let state = &mut *self.state();
                let is_open = |wish: &Wish| state.done.as_ref().is_none_or(|it| it.0 != *wish);
                let Some(wish) = state.wanted.filter(is_open) else {
                    state.is_busy = false;
                    return;
                };
                wish
            };
            let result = if wish.is_noted {
                self.note(&wish.log)
            } else {
                self.take_back(&wish.log);
                Ok(PathBuf::new())
            };
            self.state().done = Some((wish, result));
        }
    }

    fn note(&self, log: &LogId) -> Result<PathBuf, String> {
        let mut reasons = Vec::new();
        for place in &self.places {
            match self.note_in(place, log) {
                Ok(()) => return Ok(place.clone()),
                Err(error) => reasons.push(format!("{}: {error}", place.display())),
            }
        }
        Err(reasons.join(", "))
    }

    /// Whether a note in `place` is one that lasts, and could be made.
    fn look_at(&self, place: &Path) -> io::Result<()> {
        let other = |why: &str| Err(io::Error::other(why.to_owned()));
        // The last folder of a place is made where it is missing.
        let existing = match place.parent() {
            _ if place.is_dir() => place,
            _ if is_there(place) => return other("is not a directory"),
            Some(above) if above.is_dir() => above,
            _ => return other("does not exist, nor does the folder above it"),
        };
        let of_existing = |why: &str| match existing == place {
            true => other(why),
            false => other(&format!("does not exist, and the folder above it {why}")),
        };
        let disk = fs::metadata(&self.log_path)?;
        if disk.is_file() && disk.dev() == fs::metadata(existing)?.dev() {
            return of_existing("is on the same file system as the log");
        }
        if is_in_memory(existing)? {
            return of_existing("is kept in memory, which a restart of the host ends");
        }
        Ok(rustix::fs::access(existing, rustix::fs::Access::WRITE_OK)?)
    }

    fn note_in(&self, place: &Path, log: &LogId) -> io::Result<()> {
        // Looked at before anything is made: to write there may never end.
        self.look_at(place)?;
        match fs::create_dir(place) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        let path = file_of(place, log);
        // Everybody may write to some of these folders: nothing that is there is written to.
        if is_there(&path) {
            fs::remove_file(&path)?;
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o644).open(&path)?;
        writeln!(
            file,
            "The disk at {} took no writes: what its log held is old, and is given up at the next \
             start. Then this file goes, too.",
            self.log_path.display()
        )?;
        file.sync_all()?;
        File::open(place)?.sync_all()
    }

    fn take_back(&self, log: &LogId) {
        for place in &self.places {
            // One that stays costs what the log holds, and no more.
            if fs::remove_file(file_of(place, log)).is_ok()
                && let Ok(folder) = File::open(place)
            {
                let _ = folder.sync_all();
            }
        }
    }
}

/// Whether the file system at `path` is gone with the kernel that runs now.
fn is_in_memory(path: &Path) -> io::Result<bool> {
    /// TMPFS_MAGIC and RAMFS_MAGIC of linux/magic.h.
    const KINDS: [u32; 2] = [0x0102_1994, 0x8584_58f6];
    Ok(KINDS.contains(&(rustix::fs::statfs(path)?.f_type as u32)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: LogId = *b"0123456789abcdef";

    fn folder(name: &str) -> PathBuf {
        let name = format!("sunder-marks-{}-{name}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        let _ = fs::remove_dir_all(&folder);
        folder
    }

    fn answer(marks: &Marks) -> bool {
        for _ in 0..20_000 {
            if let Some(is_noted) = marks.is_noted() {
                return is_noted;
            }
            thread::sleep(std::time::Duration::from_millis(1));
        }
        panic!("it never answers");
    }

    #[test]
    fn a_note_is_found_by_another_process_until_it_is_taken_back() {
        let place = folder("found");
        // A log on another file system: that of /proc.
        let log_path = Path::new("/proc/version");
        let marks = Marks::new(log_path, Some(&place));
        assert_eq!(marks.is_noted(), Some(false));
        if is_in_memory(&std::env::temp_dir()).expect("it is there") {
            marks.distrust(&LOG);
            assert!(!answer(&marks) && marks.place().contains("memory"), "{}", marks.place());
            return;
        }
        assert_eq!(marks.lack(), None);
        for _ in 0..3 {
            marks.distrust(&LOG);
            assert!(answer(&marks), "{}", marks.place());
            assert_eq!(marks.place(), place.display().to_string());
            let other = Marks::new(log_path, Some(&place));
            assert!(other.is_distrusted(&LOG) && !other.is_distrusted(&[7; 16]));
            marks.trust(&LOG);
            assert!(!answer(&marks));
            assert!(!other.is_distrusted(&LOG));
        }
        // Whatever was asked for last holds.
        for i in 0..101 {
            if i % 2 == 0 { marks.distrust(&LOG) } else { marks.trust(&LOG) }
        }
        assert!(answer(&marks));
        marks.forget(&LOG);
        assert!(!marks.is_distrusted(&LOG));
        fs::remove_dir(&place).expect("nothing is left in it");
    }

    #[test]
    fn a_place_that_goes_with_the_disk_or_with_the_host_is_none() {
        let place = folder("same");
        fs::create_dir(&place).expect("room");
        let log_path = place.join("log");
        fs::write(&log_path, "a log").expect("room");
        for folder in [place.join("notes"), place.clone(), "/dev/shm".into(), "/nowhere/x".into()] {
            let marks = Marks::new(&log_path, Some(&folder));
            assert!(marks.lack().is_some_and(|lack| lack.contains(&*folder.to_string_lossy())));
            marks.distrust(&LOG);
            assert!(!answer(&marks), "{folder:?}");
            assert!(marks.place().starts_with(&folder.display().to_string()), "{}", marks.place());
            assert!(!folder.join("notes").exists() && !marks.is_distrusted(&LOG));
            // Again, as it is asked for while that is so.
            marks.distrust(&LOG);
            assert!(!answer(&marks));
        }
        fs::remove_dir_all(&place).expect("ours");
    }

    #[test]
    fn a_place_that_does_not_exist_is_told_so() {
        let place = folder("missing");
        fs::create_dir(&place).expect("room");
        let log_path = place.join("log");
        fs::write(&log_path, "a log").expect("room");
        let lack = |folder: PathBuf| Marks::new(&log_path, Some(&folder)).lack().expect("a lack");
        let same = "is on the same file system as the log";
        assert!(lack(place.clone()).ends_with(&format!("missing: {same}")));
        let missing = lack(place.join("notes"));
        let expected = format!("notes: does not exist, and the folder above it {same}");
        assert!(missing.ends_with(&expected), "{missing}");
        let missing = lack(place.join("no/notes"));
        assert!(missing.ends_with("does not exist, nor does the folder above it"), "{missing}");
        assert!(lack(log_path.clone()).ends_with("log: is not a directory"));
        fs::remove_dir_all(&place).expect("ours");
    }

    #[test]
    fn the_usual_places_begin_with_the_service_managers() {
        let places = |given: Option<&str>| usual_places(given.map(Into::into));
        assert_eq!(places(Some("/var/lib/a:/var/lib/b"))[0], Path::new("/var/lib/a"));
        let usual = [Path::new("/var/lib/sunder"), Path::new("/var/tmp")];
        assert_eq!(places(None), usual);
        assert_eq!(places(Some("")), usual);
    }
}
