//! Commands on a log, crashes and faults.
