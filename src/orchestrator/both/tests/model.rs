//! Random histories with faults, against what a client may have seen.
