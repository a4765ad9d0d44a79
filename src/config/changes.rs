//! Two configurations compared, setting by setting, and how one is read again.

use std::fmt::{self, Debug};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Config;

/// Each field, its name here and its flag. A field that is missing does not compile.
macro_rules! settings {
    ($($field:ident $name:ident $flag:literal,)*) => {
        /// A setting of a [`Config`].
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[allow(missing_docs, reason = "they are the fields of Config")]
        pub enum Setting {
            $($name,)*
        }

        impl Setting {
            /// Its flag, or the key of a file with two dashes before it.
            pub fn flag(self) -> &'static str {
                match self {
                    $(Setting::$name => $flag,)*
                }
            }
        }

        impl Config {
            /// The settings in which `other` is different.
            pub fn differences(&self, other: &Config) -> Vec<Setting> {
                let Config { $($field: _,)* notes: _, reread: _ } = self;
                let mut differences = Vec::new();
                $(if differs(&self.$field, &other.$field) {
                    differences.push(Setting::$name);
                })*
                differences
            }
        }
    };
}

settings! {
    devices Devices "--device",
    addresses Addresses "--address",
    gateways Gateways "--gateway",
    cores Cores "--cores",
    workers Workers "--workers",
    poll Poll "--poll",
    port Port "--port",
    binds Binds "--bind",
    socket_path SocketPath "--sock-path",
    attach Attach "--name",
    socket_mode SocketMode "-a",
    l1 L1 "--l1",
    l2 L2 "--l2",
    batch_port BatchPort "--bp",
    batch_socket_path BatchSocketPath "--bp-sock-path",
    allow Allow "--allow",
    batch_allow BatchAllow "--bp-allow",
    proxies Proxies "--proxy-protocol",
    rights Rights "--rights",
    batch_rights BatchRights "--bp-rights",
    binding Binding "--protocol",
    batch_binding BatchBinding "--bp-protocol",
    item_bytes_max ItemBytesMax "--max-item-size",
    connections_max ConnectionsMax "--max-connections",
    huge Huge "--huge",
    idle_timeout_s IdleTimeout "--idle-timeout",
    wait_s Wait "--wait",
    auth_file AuthFile "--auth-file",
    user User "--user",
    login_attempts LoginAttempts "--login-attempts",
    verbosity Verbosity "--verbose",
    log_format LogFormat "--log-format",
    log_level LogLevel "--log-level",
    log_to LogTo "--log-to",
    is_shutdown_enabled IsShutdownEnabled "--enable-shutdown",
    is_flush_enabled IsFlushEnabled "--disable-flush-all",
    is_dump_enabled IsDumpEnabled "--disable-dumping",
    is_watch_enabled IsWatchEnabled "--disable-watch",
    drain_s Drain "--drain",
    is_takeover IsTakeover "--takeover",
    admin Admin "--admin",
    sample_rate SampleRate "--sample",
    faults Faults "--faults",
}

/// Not all of them can be compared, but all can be shown.
fn differs<T: Debug>(one: &T, other: &T) -> bool {
    format!("{one:?}") != format!("{other:?}")
}

/// What reads a config, or says in a line what is wrong with it.
type Read = dyn Fn() -> Result<Config, String> + Send + Sync;

/// How a config that came from a file is read again, with the same command line.
#[derive(Clone)]
pub struct Reread {
    path: PathBuf,
    read: Arc<Read>,
}

impl Reread {
    /// `read` reads the file at `path`.
    pub fn new(
        path: PathBuf,
        read: impl Fn() -> Result<Config, String> + Send + Sync + 'static,
    ) -> Reread {
        Reread { path, read: Arc::new(read) }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The config that it makes now.
    ///
    /// # Errors
    /// What is wrong with it, in one line.
    pub fn config(&self) -> Result<Config, String> {
        (self.read)()
    }
}

impl Debug for Reread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Reread({})", self.path.display())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_differs_is_named() {
        let old = Config::default();
        assert_eq!(old.differences(&Config::default()), []);
        let new = Config { port: 7, cores: vec![3], ..Config::default() };
        assert_eq!(old.differences(&new), [Setting::Cores, Setting::Port]);
        assert_eq!(Setting::Port.flag(), "--port");
    }
}
