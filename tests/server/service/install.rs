//! `scripts/install.sh --service` into a folder that stands for a host, checked by systemd's own
//! tools.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::{SUNDER, free_port, project};

/// What systemd-analyze may find at most, in tenths: 10 is harmless, 100 is everything open.
const EXPOSURE: &str = "30";

struct Root(PathBuf);

impl Root {
    fn new() -> Root {
        Root(std::env::temp_dir().join(format!("sunder-root-{}", free_port())))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn install(&self, more: &[&str]) -> String {
        let root = self.0.to_str().expect("plain");
        let mut command = Command::new(project().join("scripts/install.sh"));
        run(command.args(["--root", root]).args(more))
    }

    /// All files in it.
    fn files(&self) -> Vec<PathBuf> {
        files(&self.0)
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    let paths = entries.map(|entry| entry.expect("readable").path());
    paths.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// Runs it; returns what it says.
fn run(command: &mut Command) -> String {
    let output = command.output().expect("it is installed");
    let said = String::from_utf8([output.stdout, output.stderr].concat()).expect("text");
    assert!(output.status.success(), "{command:?}: {said}");
    said
}

#[test]
fn a_service_is_installed_verified_and_removed_again() {
    let root = Root::new();
    let service = ["--service", "--binary", SUNDER];
    let said = root.install(&service);
    assert!(said.contains("start it with: systemctl enable --now sunder"), "{said}");
    let settings = root.path("etc/sunder/sunder.toml");
    run(Command::new(SUNDER).args(["config", "check"]).arg(&settings));
    fs::write(&settings, "port = 11300\n").expect("ours");
    root.install(&service);
    assert_eq!(fs::read_to_string(&settings).expect("there"), "port = 11300\n", "it is kept");

    let lib = root.path("usr/local/lib");
    let unit = fs::read_to_string(lib.join("systemd/system/sunder.service")).expect("a unit");
    for line in [
        "Type=notify",
        "ExecStart=/usr/local/bin/sunder serve --config /etc/sunder/sunder.toml",
        "ExecReload=/bin/kill -HUP $MAINPID",
        "RestartPreventExitStatus=2",
        "User=sunder",
        "LimitMEMLOCK=infinity",
    ] {
        assert!(unit.lines().any(|it| it == line), "no {line}: {unit}");
    }
    // The binary that it starts is not on this host.
    let copy = root.path("sunder.service");
    fs::write(&copy, unit.replace("/usr/local/bin/sunder", SUNDER)).expect("written");
    let said = run(Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&copy));
    assert_eq!(said, "");
    let exposure = format!("--threshold={EXPOSURE}");
    let judge = ["security", "--offline=true", "--no-pager", &exposure];
    run(Command::new("systemd-analyze").args(judge).arg(&copy));
    let on_root = format!("--root={}", root.0.display());
    run(Command::new("systemd-sysusers").args([&on_root, "sunder.conf"]));
    let users = fs::read_to_string(root.path("etc/passwd")).expect("a user");
    assert!(users.lines().any(|line| line.starts_with("sunder:")), "{users}");
    run(Command::new("systemd-tmpfiles").args([&on_root, "--create", "sunder.conf"]));
    assert!(root.path("run/sunder").is_dir());

    let said = root.install(&["--uninstall"]);
    assert!(said.contains("sunder.toml was changed and stays"), "{said}");
    assert!(settings.exists() && files(&root.path("usr")).is_empty(), "{:?}", root.files());
}

#[test]
fn an_untouched_configuration_goes_with_the_service() {
    let root = Root::new();
    root.install(&["--prefix", "/usr", "--service", "--binary", SUNDER]);
    assert!(root.path("usr/lib/systemd/system/sunder.service").exists());
    root.install(&["--prefix", "/usr", "--uninstall"]);
    assert_eq!(root.files(), [] as [PathBuf; 0]);
    for words in
        [&["--service", "--prefix", "/opt/sunder"][..], &["--enable"], &["--service", "--enable"]]
    {
        let mut command = Command::new(project().join("scripts/install.sh"));
        let output = command.args(["--root", "/nowhere"]).args(words).output().expect("it runs");
        assert_eq!(output.status.code(), Some(2), "{words:?}");
    }
}
