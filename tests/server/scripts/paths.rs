//! Every script in a checkout, and with a TMPDIR, whose path consists of several words and would be
//! a command if a shell evaluated it: a script that ends early removes its own files and nothing
//! else.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{self, Command, Stdio};

/// If evaluated, this path names two folders beside the checkout and creates a file.
const CHECKOUT: &str = "check out; touch made-by-eval; $(touch made-by-eval)";

/// A measure_ssd that fills the file named by its caller.
const STORES: &str = r#"
[ "$1" = fill ] && echo '{"bytes_written": 4096}' && head -c 4096 /dev/zero >"$2"
"#;

/// A fio that cuts its file's name at the characters that are special to fio.
const FIO: &str = r#"
for word; do case $word in --filename=*) name=${word#--filename=} ;; esac; done
case $name in *[\;:#]*) echo "reads another file than '$name'" >&2; exit 1 ;; esac
[ -f "$name" ] && echo "reads its own file" >&2
exit 1
"#;

/// A copy of the scripts that builds nothing and starts nothing.
struct Trap {
    root: PathBuf,
}

impl Trap {
    fn new(name: &str) -> Trap {
        let root = std::env::temp_dir().join(format!("sunder-trap-{}-{name}", process::id()));
        let trap = Trap { root };
        let project = Path::new(env!("CARGO_MANIFEST_DIR"));
        for folder in ["scripts", "tests"] {
            let to = trap.checkout().join(folder);
            fs::create_dir_all(&to).unwrap();
            for entry in fs::read_dir(project.join(folder)).unwrap() {
                let from = entry.unwrap().path();
                if from.extension().is_some_and(|it| it == "sh" || it == "py") {
                    fs::copy(&from, to.join(from.file_name().unwrap())).unwrap();
                }
            }
        }
        trap.stub(&trap.checkout().join("scripts/setup.sh"), "exit 0");
        trap.stub(&trap.checkout().join("target/release/sunder"), "exit 1");
        trap.stub(&trap.checkout().join("target/debug/measure_ssd"), STORES);
        trap.stub(&trap.checkout().join("bin/cargo"), "[ \"$3\" = --release ]");
        trap.stub(&trap.checkout().join("bin/fio"), FIO);
        // What "rm -rf" of an unquoted path would remove: each of its words.
        for canary in ["check", "out", "outside", "target"] {
            fs::create_dir_all(trap.root.join(canary)).unwrap();
            fs::write(trap.root.join(canary).join("kept"), "kept").unwrap();
        }
        fs::create_dir_all(trap.temporary()).unwrap();
        trap
    }

    fn checkout(&self) -> PathBuf {
        self.root.join(CHECKOUT)
    }

    fn temporary(&self) -> PathBuf {
        self.root.join("tmp dir; touch made-by-eval")
    }

    fn stub(&self, path: &Path, body: &str) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, format!("#!/bin/sh\n{body}\n")).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// Runs a command of bash in a folder with files named like the path's words, and returns its
    /// output.
    fn bash(&self, arguments: &[&str]) -> String {
        let path = std::env::var("PATH").unwrap();
        let bin = self.checkout().join("bin");
        let output = Command::new("bash")
            .args(arguments)
            .current_dir(&self.root)
            .env("PATH", format!("{}:{path}", bin.display()))
            .env("TMPDIR", self.temporary())
            .env("sunder_binary", self.checkout().join("target/release/sunder"))
            .env("examples", self.checkout().join("target/debug"))
            .stdin(Stdio::null())
            .output()
            .unwrap();
        format!(
            "{}{}{}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        )
    }

    /// Everything still exists, nothing temporary is left, and no word of a path was executed.
    fn assert_unharmed(&self, after: &str) {
        for canary in ["check", "out", "outside", "target"] {
            let kept = self.root.join(canary).join("kept");
            assert!(kept.exists(), "{canary} is gone: {after}");
        }
        assert!(self.checkout().join("scripts/lib.sh").exists(), "{after}");
        for folder in [&self.root, &self.checkout()] {
            assert!(!folder.join("made-by-eval").exists(), "a path was executed: {after}");
        }
        let left: Vec<_> = fs::read_dir(self.temporary()).unwrap().flatten().collect();
        assert!(left.is_empty(), "left behind: {left:?}: {after}");
    }
}

impl Drop for Trap {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.root);
    }
}

#[test]
fn exit_handlers_get_the_words_they_were_registered_with() {
    let trap = Trap::new("words");
    let program = r#"
        . "$1/scripts/lib.sh"
        mkdir "$TMPDIR/a  b" "$TMPDIR/'; touch made-by-eval; '" "$TMPDIR/*"
        for path in "$TMPDIR"/*; do on_exit rm -r -- "$path"; done
        on_exit put 'two  words' "$TMPDIR/../outside/put"
        on_exit rm -r "$TMPDIR/not there"
        on_exit printf '[%s]' '' '$HOME' '`id`' "it's" $'new\nline'
        on_exit printf 'last registered, first run '
        exit 3
    "#;
    let said = trap.bash(&["-c", program, "words", trap.checkout().to_str().unwrap()]);
    trap.assert_unharmed(&said);
    assert!(said.contains("exit status: 3"), "{said}");
    assert!(said.contains("first run [][$HOME][`id`][it's][new\nline]"), "{said}");
    let put = fs::read_to_string(trap.root.join("outside/put"));
    assert_eq!(put.unwrap(), "two  words\n");
}

/// With nothing to measure and no server, each creates its folders, registers its exit handler, and
/// fails; those with namespaces need root.
#[test]
fn scripts_that_fail_in_a_path_of_several_words_remove_only_their_files() {
    assert!(rustix::process::geteuid().is_root(), "network namespaces: run it as root");
    let before = namespaces();
    let trap = Trap::new("fail");
    let words = "one;two three:four,five";
    let dir = trap.root.join(words);
    let dir_flags = ["--parts", "reads", "--gigabytes", "0.001", "--dir", dir.to_str().unwrap()];
    let scripts: [(&str, &[&str], &str); 8] = [
        ("scripts/compare-ssd.sh", &dir_flags, "reads its own file"),
        ("scripts/compare.sh", &["--rows", "plain"], "does not serve"),
        ("scripts/build-optimized.sh", &[], "does not serve"),
        ("scripts/instructions.sh", &[], "the benches do not build"),
        ("scripts/quickstart.sh", &[], "does not serve"),
        ("tests/many.sh", &[], "does not serve"),
        ("tests/faults.sh", &["1"], "does not serve"),
        ("tests/compare_tcp.sh", &["1"], "does not serve"),
    ];
    for (script, arguments, words) in scripts {
        let path = trap.checkout().join(script);
        let said = trap.bash(&[&[path.to_str().unwrap()], arguments].concat());
        assert!(said.starts_with("exit status: 1"), "{script}: {said}");
        assert!(said.contains(words), "{script} did not get that far: {said}");
        trap.assert_unharmed(&format!("{script}: {said}"));
    }
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 0, "compare-ssd.sh left its folder");
    let is_left = |name: &String| {
        let pid = name.split('-').nth(2).unwrap_or_default();
        !before.contains(name) && !Path::new("/proc").join(pid).exists()
    };
    assert_eq!(namespaces().into_iter().find(is_left), None);
}

fn namespaces() -> Vec<String> {
    let output = Command::new("ip").args(["netns", "list"]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let names = text.lines().filter_map(|line| line.split(' ').next());
    names.filter(|name| name.starts_with("sunder-")).map(str::to_owned).collect()
}

/// Passing a line of shell as one word to the exit handler, and evaluating any other text, could
/// execute a path.
#[test]
fn no_script_evaluates_text() {
    let project = Path::new(env!("CARGO_MANIFEST_DIR"));
    for folder in ["scripts", "tests", ".ci"] {
        for entry in fs::read_dir(project.join(folder)).unwrap() {
            let path = entry.unwrap().path();
            let Ok(text) = fs::read_to_string(&path) else { continue };
            if !text.starts_with("#!/usr/bin/env bash") && !path.ends_with("lib.sh") {
                continue;
            }
            for line in text.lines().map(str::trim) {
                let is_ours = line == "eval \"${exit_commands[i]}\" || true";
                assert!(is_ours || !line.starts_with("eval "), "{}: {line}", path.display());
                let is_text = line.starts_with("on_exit \"") || line.starts_with("on_exit '");
                assert!(!is_text, "{}: {line}", path.display());
            }
        }
    }
}
