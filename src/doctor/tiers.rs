//! The file of users, the journal, and the servers that tiers are in.

use super::{Finding, Subject};
use crate::config::LogTo;
use crate::serve::Level;

pub(super) fn look(subject: &Subject<'_>) -> Vec<Finding> {
    let config = subject.config;
    let mut findings = Vec::new();
    findings.extend(user(subject));
    findings.extend(users(subject));
    findings.extend(log(subject));
    let l1 = config.l1.address().map(|it| ("l1", Level::L1, it));
    let l2 = config.l2.address().map(|it| ("l2", Level::L2, it));
    for (check, level, address) in [l1, l2].into_iter().flatten() {
        findings.push(match subject.host.system.server(config, level) {
            Ok(None) => Finding::ok(check, format!("the server at {address} answers")),
            Ok(Some(lack)) => Finding::warning(check, lack),
            Err(error) => Finding::refused(check, &error),
        });
    }
    findings
}

fn log(subject: &Subject<'_>) -> Option<Finding> {
    const CHECK: &str = "log";
    let LogTo::Journal(path) = &subject.config.log_to else { return None };
    Some(match subject.host.system.log(subject.config) {
        Ok(()) => Finding::ok(CHECK, format!("a journal is at {}", path.display())),
        Err(error) => Finding::refused(CHECK, &error),
    })
}

fn user(subject: &Subject<'_>) -> Option<Finding> {
    const CHECK: &str = "user";
    let name = subject.config.user.as_ref()?.escape_debug();
    Some(match subject.host.system.user(subject.config) {
        Ok(()) => Finding::ok(CHECK, format!("this process can become {name}")),
        Err(error) => Finding::refused(CHECK, &error),
    })
}

fn users(subject: &Subject<'_>) -> Option<Finding> {
    const CHECK: &str = "users";
    let path = subject.config.auth_file.as_ref()?;
    if let Err(error) = subject.host.system.users(subject.config) {
        return Some(Finding::refused(CHECK, &error));
    }
    let mode = subject.host.system.path(path).map_or(0, |look| look.mode);
    let shown = path.display();
    Some(match mode & 0o077 {
        0 => Finding::ok(CHECK, format!("{shown} is understood, and its owner's alone")),
        _ => Finding::warning(CHECK, format!("{shown} can be opened by others (mode {mode:04o})"))
            .mend(format!("chmod 600 {shown}")),
    })
}
