//! Says what a log on an SSD holds, and verifies every record of it. It changes nothing.

use std::fmt::Display;
use std::path::Path;
use std::process::ExitCode;

use super::Fault;
use crate::base::clock::Clock;
use crate::base::console::{complain, print};
use crate::base::limits::{EXIT_USAGE, ITEM_BYTES_MAX_DEFAULT, SSD_SEGMENT_BYTES};
use crate::base::readiness::Readiness;
use crate::tier::ssd::disk::Pool;
use crate::tier::ssd::disk::open::{Opened, Part, open_to_look};
use crate::tier::ssd::disk::ring::RingDisk;
use crate::tier::ssd::{self, Geometry, Made, OpenError, SEGMENTS_MIN, look};

/// Exit status of a log that is damaged.
const EXIT_DAMAGED: u8 = 1;

/// Prints what the log at `path` holds. Exit status 75: a server has it open; 2: it could not be
/// looked at for another reason.
pub fn check_log(path: &Path) -> ExitCode {
    let whole = match open_to_look(path) {
        Ok(whole) => whole,
        Err(error) => {
            let is_passing = error.is_in_use();
            let status = if is_passing { Fault::Passing.exit_status() } else { EXIT_USAGE };
            return refuse(&error.to_string(), status);
        }
    };
    match check(path, whole) {
        Ok((text, is_whole)) => {
            let damaged = ExitCode::from(EXIT_DAMAGED);
            print(&text, if is_whole { ExitCode::SUCCESS } else { damaged })
        }
        Err(error) => refuse(&error, EXIT_USAGE),
    }
}

fn refuse(error: &str, status: u8) -> ExitCode {
    // The path may have anything in it.
    let line = error.replace(char::is_control, " ");
    complain(format_args!("sunder l2 check: {line}"));
    ExitCode::from(status)
}

/// What every part of the log at `path` holds, in words, and whether all is whole.
fn check(path: &Path, whole: Opened) -> Result<(String, bool), String> {
    let shown = path.display();
    let of_path = |error: &dyn Display| format!("{shown}: {error}");
    let none = || format!("{shown}: holds no log");
    let now = Clock::start().read();
    let made = look(&mut disk(whole.part(0)).map_err(|error| of_path(&error))?);
    let made = made.map_err(|error| of_path(&error))?.ok_or_else(none)?;
    let geometry = made.geometry;
    if !is_of_a_server(&geometry) {
        return Err(of_path(&OpenError::Foreign));
    }
    let (has_bytes, workers) = (whole.whole_bytes(), geometry.workers as usize);
    let log_bytes = geometry.part_bytes * u64::from(geometry.workers);
    if has_bytes < log_bytes {
        return Err(of_path(&OpenError::CutOff { has_bytes, log_bytes }));
    }
    let divided = whole.divided(workers, geometry.part_bytes);
    let (mut text, mut is_whole) = (String::new(), true);
    for worker in 0..workers {
        let mut disk = disk(divided.part(worker)).map_err(|error| of_path(&error))?;
        let worker_geometry = Geometry { worker: worker as u32, ..geometry };
        let of_worker = Made { geometry: worker_geometry, ..made };
        let report = ssd::check(&mut disk, Some(&of_worker), now)
            .map_err(|error| of_path(&format!("part {worker}: {}", error)))?;
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
