//! The tier of Rend-based servers, against another sunder and against a stand-in for Rend.

mod commands;
mod fake;
mod fixture;
mod model;
mod outages;
mod probing;
