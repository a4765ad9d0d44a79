//! The races of operations on two tiers, each by name, at many timings.
