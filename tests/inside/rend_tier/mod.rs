//! The tier of Rend-based servers, with another sunder and with a stand-in for Rend.

mod commands;
mod fake;
mod fixture;
mod model;
mod outages;
mod probing;
