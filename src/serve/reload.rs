//! What a running server reads again on SIGHUP: the file of users, and of the configuration file
//! what can change while it runs. It must never stop a server that serves: what cannot be read
//! changes nothing, and is told.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use signal_hook::consts::SIGHUP;
use signal_hook::iterator::Signals;

use super::{kernel, notify};
use crate::base::rights::LiveRights;
use crate::config::{Config, Setting};
use crate::net::Admission;
use crate::orchestrator::PortRole;
use crate::report::{self, Event};
use crate::worker::{Logins, Shared};

/// What can change, and what it is compared with.
pub(super) struct Reload {
    /// As it runs now.
    config: Config,
    logins: Option<Arc<Logins>>,
    admission: Arc<Admission>,
    rights: [Arc<LiveRights>; 2],
    sample_rate: Arc<AtomicU32>,
    idle_timeout_s: Arc<AtomicU64>,
    /// The limit of connections for which there is memory.
    connections_at_start: usize,
}

impl Reload {
    pub fn new(config: &Config, shared: &Shared) -> Reload {
        Reload {
            config: config.clone(),
            logins: shared.logins.clone(),
            admission: Arc::clone(&shared.admission),
            rights: shared.rights.clone(),
            sample_rate: Arc::clone(&shared.sample_rate),
            idle_timeout_s: Arc::clone(&shared.idle_timeout_s),
            connections_at_start: config.connections_max,
        }
    }

    /// Reads again on each SIGHUP, as long as the process lives.
    ///
    /// # Errors
    /// The kernel's.
    pub fn on_hangup(mut self) -> std::io::Result<()> {
        let has_files = self.logins.is_some() || self.config.reread.is_some();
        // A service manager waits until a reload is over, whatever there is to read.
        if !has_files && !notify::is_wanted() {
            return Ok(());
        }
        let mut hangups = Signals::new([SIGHUP])?;
        let read = move || {
            for _ in hangups.forever() {
                notify::reloading();
                self.users();
                self.settings();
                notify::ready();
            }
        };
        std::thread::Builder::new().name("sunder-reload".into()).spawn(read).map(drop)
    }

    fn users(&self) {
        let Some(logins) = &self.logins else { return };
        let path = logins.users().path().display().to_string();
        match logins.reread() {
            Ok(()) => match logins.start_verifier() {
                Ok(()) => {
                    let text = format_args!("{path} was read again");
                    report::tell(Event::Reload.line(text).path(&path));
                }
                Err(error) => {
                    let text = format_args!(
                        "{path} was read again, but its hashes cannot be verified: {error}"
                    );
                    report::tell(Event::ReloadFailed.line(text).path(&path));
                }
            },
            Err(error) => {
                let whom = self.as_whom();
                let text =
                    format_args!("{path} is not used, {error}{whom}; the users stay as they were");
                report::tell(Event::ReloadFailed.line(text).path(&path));
            }
        }
    }

    /// Who reads the files, if that is not who started the server.
    fn as_whom(&self) -> String {
        let user = self.config.user.as_ref();
        user.map_or(String::new(), |user| format!(" (read as {user}, --user)"))
    }

    fn settings(&mut self) {
        let Some(reread) = self.config.reread.clone() else { return };
        let path = reread.path().display();
        let new = match reread.config() {
            Ok(new) => new,
            Err(line) => {
                let whom = self.as_whom();
                let text = format_args!(
                    "{line}; {path} is not used{whom}, all settings stay as they were"
                );
                return report::tell(Event::ReloadFailed.line(text).path(&path));
            }
        };
        let (mut changed, mut kept) = (Vec::new(), Vec::new());
        for setting in self.config.differences(&new) {
            let list = if self.apply(setting, &new) { &mut changed } else { &mut kept };
            list.push(setting.flag());
        }
        let list = |flags: &[&str], none: &str| match flags {
            [] => none.to_owned(),
            flags => flags.join(", "),
        };
        let changed = list(&changed, "nothing");
        let rest = match &kept[..] {
            [] => String::new(),
            kept => format!("; needs a restart: {}", list(kept, "")),
        };
        let text = format_args!("{path} was read again; changed: {changed}{rest}");
        report::tell(Event::Reload.line(text).path(&path));
    }

    /// Makes a setting what it is in `new`. False: it cannot change while the server runs.
    fn apply(&mut self, setting: Setting, new: &Config) -> bool {
        let config = &mut self.config;
        match setting {
            Setting::Allow => config.allow.replace(&new.allow),
            Setting::BatchAllow => match (&config.batch_allow, &new.batch_allow) {
                (Some(own), Some(new)) => own.replace(new),
                _ => return false,
            },
            Setting::Proxies => match (&config.proxies, &new.proxies) {
                (Some(own), Some(new)) => own.replace(new),
                _ => return false,
            },
            Setting::Rights | Setting::BatchRights => {
                config.rights = new.rights;
                config.batch_rights = new.batch_rights;
                for (port, live) in [PortRole::Main, PortRole::Batch].into_iter().zip(&self.rights)
                {
                    live.replace(config.rights(port));
                }
            }
            Setting::Verbosity => {
                config.verbosity = new.verbosity;
                report::set_verbosity(new.verbosity);
            }
            Setting::LogLevel => {
                config.log_level = new.log_level;
                report::set_level(new.log_level);
            }
            Setting::SampleRate => {
                config.sample_rate = new.sample_rate;
                self.sample_rate.store(new.sample_rate, Ordering::Relaxed);
            }
            Setting::IdleTimeout => {
                config.idle_timeout_s = new.idle_timeout_s;
                self.idle_timeout_s.store(new.idle_timeout_s, Ordering::Relaxed);
            }
            Setting::LoginAttempts => {
                let logins = self.logins.as_ref();
                if !logins.is_some_and(|logins| logins.limit_attempts(new.login_attempts)) {
                    return false;
                }
                config.login_attempts = new.login_attempts;
            }
            Setting::ConnectionsMax => return self.limit_connections(new.connections_max),
            _ => return false,
        }
        true
    }

    /// Changes the limit of open connections. Those above it stay open.
    fn limit_connections(&mut self, most: usize) -> bool {
        let most = match self.config.has_devices() {
            // What has been allocated at the start.
            true if most > self.connections_at_start => return false,
            true => most,
            false => match kernel::files_for(most) {
                Ok(most) => most,
                Err(error) => {
                    report::tell(Event::ReloadFailed.line(error));
                    return false;
                }
            },
        };
        self.config.connections_max = most;
        self.admission.limit(most);
        true
    }
}
