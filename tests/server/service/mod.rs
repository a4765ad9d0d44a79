//! sunder as a service: what it tells a service manager, and the user that it serves as.

mod install;
mod notify;
mod user;
