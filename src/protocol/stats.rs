//! What `stats` answers.
