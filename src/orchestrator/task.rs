//! The task executor.
