//! `sunder l2 check PATH`: says what a log on an SSD holds, and verifies every record of it. It
//! changes nothing.

use std::ffi::OsString;
use std::fmt::Display;
use std::path::Path;
use std::process::ExitCode;

use crate::clock::Clock;
use crate::console::{VERSION, complain, print};
use crate::limits::{ITEM_BYTES_MAX_DEFAULT, SSD_SEGMENT_BYTES};
use crate::load::Tool;
use crate::readiness::Readiness;
use crate::tier::ssd::disk::Pool;
use crate::tier::ssd::disk::open::{Part, open_to_look};
use crate::tier::ssd::disk::ring::RingDisk;
use crate::tier::ssd::{self, Geometry, Made, OpenError, SEGMENTS_MIN, look};

/// The tool.
pub static TOOL: Tool = Tool {
    name: "l2",
    summary: "l2 check PATH: what an SSD's log holds, every record of it verified",
    run: main,
};

const HELP: &str = "\
sunder l2: looks at the log that a server has on an SSD

Usage: sunder l2 check PATH

Prints what each worker's part holds, and verifies every record. It only reads; the server must not
run.
Exit status 0: all is whole, 1: something is damaged, 2: it could not be looked at.
";

/// Exit status of what is damaged.
const EXIT_DAMAGED: u8 = 1;

/// Exit status of words or a path that are wrong.
const EXIT_USAGE: u8 = 2;

fn main(words: Vec<OsString>) -> ExitCode {
    let words: Vec<&str> = words.iter().filter_map(|word| word.to_str()).collect();
    match words[..] {
        ["check", path] if !path.starts_with('-') => match check(Path::new(path)) {
            Ok((text, is_whole)) => {
                let damaged = ExitCode::from(EXIT_DAMAGED);
                print(&text, if is_whole { ExitCode::SUCCESS } else { damaged })
            }
            Err(error) => {
                // The path may have anything in it.
                let line = error.replace(char::is_control, " ");
                complain(format_args!("sunder l2 check: {line}"));
                ExitCode::from(EXIT_USAGE)
            }
        },
        ["-h" | "--help"] | ["check", "-h" | "--help"] => print(HELP, ExitCode::SUCCESS),
        ["-V" | "--version"] => print(VERSION, ExitCode::SUCCESS),
        _ => {
            complain(format_args!("sunder l2: expected: check PATH (see sunder l2 --help)"));
            ExitCode::from(EXIT_USAGE)
        }
    }
}

/// What every part of the log at `path` holds, in words, and whether all is whole.
fn check(path: &Path) -> Result<(String, bool), String> {
    let shown = path.display();
    let of_path = |error: &dyn Display| format!("{shown}: {error}");
    let none = || format!("{shown}: holds no log");
    let now = Clock::start().read();
    let whole = open_to_look(path).map_err(|error| error.to_string())?;
    let made = look(&mut disk(whole.part(0)).map_err(|error| of_path(&error))?);
    let made = made.map_err(|error| of_path(&error.fact()))?.ok_or_else(none)?;
    let geometry = made.geometry;
    if !is_of_a_server(&geometry) {
        return Err(of_path(&OpenError::Foreign.fact()));
    }
    let (has_bytes, workers) = (whole.whole_bytes(), geometry.workers as usize);
    let log_bytes = geometry.part_bytes * u64::from(geometry.workers);
    if has_bytes < log_bytes {
        return Err(of_path(&OpenError::CutOff { has_bytes, log_bytes }.fact()));
    }
    let divided = whole.divided(workers, geometry.part_bytes);
    let (mut text, mut is_whole) = (String::new(), true);
    for worker in 0..workers {
        let mut disk = disk(divided.part(worker)).map_err(|error| of_path(&error))?;
        let worker_geometry = Geometry { worker: worker as u32, ..geometry };
        let of_worker = Made { geometry: worker_geometry, ..made };
        let report = ssd::check(&mut disk, Some(&of_worker), now)
            .map_err(|error| of_path(&format!("part {worker}: {}", error.fact())))?;
        match report {
            Some(report) => {
                text += &format!("{report}\n");
                is_whole &= report.segments_damaged.is_empty() && !report.is_lost;
            }
            None => {
                text += &format!("part {worker} of {workers}\nholds no log\n");
                is_whole = false;
            }
        }
    }
    Ok((text, is_whole))
}

/// Whether a server would go on with such a log: none makes others, and so none is read by such
/// numbers.
fn is_of_a_server(geometry: &Geometry) -> bool {
    let segment_bytes = SSD_SEGMENT_BYTES as u64;
    u64::from(geometry.segment_bytes) == segment_bytes
        && geometry.worker == 0
        && geometry.part_bytes.is_multiple_of(segment_bytes)
        && geometry.segments() >= u64::from(SEGMENTS_MIN)
}

fn disk(part: Part) -> Result<RingDisk, String> {
    let pool = Pool::new(ITEM_BYTES_MAX_DEFAULT)
        .map_err(|error| format!("no memory for buffers: {error}"))?;
    RingDisk::new(part, pool, &Readiness::none()).map_err(|error| error.to_string())
}
