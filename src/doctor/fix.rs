//! `--fix`: takes the steps of what was found, each after it is said. Steps are writes to the
//! kernel's files that a reboot forgets. It must never touch a disk, a driver of a device or an
//! address.

use super::Finding;
use super::host::Host;
use crate::base::console::complain;

/// Takes all steps; one that fails is told, and the others are taken.
pub(super) fn apply(findings: &[Finding], host: &Host<'_>) {
    for step in findings.iter().flat_map(|finding| &finding.steps) {
        complain(format_args!("sunder doctor: {step}"));
        if let Err(error) = host.take(step) {
            let error = error.to_string().replace(char::is_control, " ");
            complain(format_args!("sunder doctor: {step}: {error}"));
        }
    }
}
