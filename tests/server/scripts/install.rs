//! The script that installs the binary, its man pages and its completions.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn run(arguments: &[&str]) -> (i32, String) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/install.sh");
    let output = Command::new(script).args(arguments).output().expect("it runs");
    let said = [output.stdout, output.stderr].concat();
    (output.status.code().expect("it ends"), String::from_utf8(said).expect("text"))
}

/// All files below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    let paths = entries.map(|entry| entry.expect("readable").path());
    paths.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

#[test]
fn installed_files_work_and_are_removed_again() {
    let prefix = std::env::temp_dir().join(format!("sunder prefix {}", std::process::id()));
    let other = prefix.join("share/man/man1/sunder-other.1");
    fs::create_dir_all(other.parent().expect("a folder")).expect("made");
    fs::write(&other, "not ours").expect("written");
    let text = prefix.to_str().expect("text");
    for _ in 0..2 {
        let install = ["--prefix", text, "--binary", env!("CARGO_BIN_EXE_sunder")];
        let (status, said) = run(&install);
        assert_eq!(status, 0, "{said}");
    }
    let version = Command::new(prefix.join("bin/sunder")).arg("--version").output().expect("runs");
    assert!(version.stdout.starts_with(b"sunder "));
    for (file, word) in [
        ("share/man/man1/sunder.1", "sunder"),
        ("share/man/man1/sunder-serve.1", "cores"),
        ("share/man/man1/sunder-bench-report.1", "hgrm"),
        ("share/bash-completion/completions/sunder", "--max-item-size"),
        ("share/zsh/site-functions/_sunder", "--max-item-size"),
        ("share/fish/vendor_completions.d/sunder.fish", "max-item-size"),
    ] {
        let made = fs::read_to_string(prefix.join(file)).expect(file);
        assert!(made.contains(word), "{file}: no {word}");
    }
    let list = prefix.join("share/sunder/installed");
    let installed = fs::read_to_string(&list).expect("a list");
    for stray in ["../other", "share/man/man1/sunder/../../../../other.1", "", "/etc/other"] {
        fs::write(&list, format!("{installed}{stray}\n")).expect("written");
        let (status, said) = run(&["--prefix", text, "--uninstall"]);
        assert!(status == 1 && said.contains("none of sunder's files"), "{stray}: {said}");
        assert!(prefix.join("bin/sunder").exists(), "such a list removes nothing");
    }
    fs::write(&list, installed).expect("written");
    let (status, said) = run(&["--prefix", text, "--uninstall"]);
    assert_eq!(status, 0, "{said}");
    assert_eq!(files(&prefix), [other]);
    assert_eq!(run(&["--prefix", text, "--uninstall"]).0, 1, "nothing is left to remove");
    fs::remove_dir_all(&prefix).expect("ours");
}

#[test]
fn an_install_that_was_interrupted_can_be_undone() {
    let prefix = std::env::temp_dir().join(format!("sunder interrupted {}", std::process::id()));
    let text = prefix.to_str().expect("text");
    fs::create_dir_all(prefix.join("share")).expect("made");
    let in_the_way = prefix.join("share/fish");
    fs::write(&in_the_way, "a file where a folder has to be").expect("written");
    let (status, said) = run(&["--prefix", text, "--binary", env!("CARGO_BIN_EXE_sunder")]);
    assert_ne!(status, 0, "{said}");
    fs::remove_file(&in_the_way).expect("ours");
    let (status, said) = run(&["--prefix", text, "--uninstall"]);
    assert_eq!(status, 0, "{said}");
    assert_eq!(files(&prefix), [] as [PathBuf; 0]);
    fs::remove_dir_all(&prefix).expect("ours");
}

#[test]
fn wrong_words_are_one_line_and_status_2() {
    for arguments in [&["--prefix"][..], &["--prefix", "here"], &["--colour"], &["stray"]] {
        let (status, said) = run(arguments);
        assert_eq!((status, said.lines().count()), (2, 1), "{arguments:?}: {said}");
    }
    let (status, said) = run(&["--prefix", "/nowhere", "--binary", "/no/such/binary"]);
    assert!(status == 1 && said.contains("/no/such/binary"), "{said}");
    let (status, said) = run(&["--help"]);
    assert!(status == 0 && said.starts_with("usage: scripts/install.sh"), "{said}");
}
