//! Every path that is refused, with its line.
