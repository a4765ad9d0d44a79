//! Tells the binary how it was built, for `--version --verbose` and `stats`: the commit, the compiler,
//! DPDK's version and the features. It must never fail for want of a repository: what is built from
//! an archive has the version alone, or what `SUNDER_COMMIT` says. No clock and no path is read, so
//! that the same sources make the same binary.
//!
//! A development build is not built anew for every commit, and so claims none.

use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=SUNDER_COMMIT");
    let told = std::env::var("SUNDER_COMMIT").ok().filter(|commit| !commit.is_empty());
    let is_release = std::env::var("PROFILE").is_ok_and(|profile| profile == "release");
    let origin = match (told, is_release) {
        (Some(commit), _) => format!(" ({commit})"),
        (None, false) => " (development build)".to_owned(),
        (None, true) => {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
            watched(folder).iter().for_each(|path| println!("cargo::rerun-if-changed={path}"));
            commit(folder).map_or(String::new(), |commit| format!(" ({commit})"))
        }
    };
    println!("cargo::rustc-env=SUNDER_ORIGIN={origin}");
    let compiler = compiler().unwrap_or_else(|| "unknown".to_owned());
    println!("cargo::rustc-env=SUNDER_COMPILER={compiler}");
    // What dpdk/build.rs found; there is none without the feature.
    let dpdk = std::env::var("DEP_DPDK_VERSION").unwrap_or_else(|_| "none".to_owned());
    println!("cargo::rustc-env=SUNDER_DPDK={dpdk}");
    println!("cargo::rustc-env=SUNDER_FEATURES={}", features());
}

/// What the compiler says of itself.
fn compiler() -> Option<String> {
    let output = Command::new(std::env::var_os("RUSTC")?).arg("--version").output().ok()?;
    String::from_utf8(output.stdout).ok().map(|text| text.trim().to_owned())
}

/// The features that are on, in order.
fn features() -> String {
    let names = std::env::vars().filter_map(|(name, _)| {
        let feature = name.strip_prefix("CARGO_FEATURE_")?.to_lowercase();
        (feature != "default").then_some(feature)
    });
    let mut names: Vec<_> = names.collect();
    names.sort();
    if names.is_empty() { "none".to_owned() } else { names.join(" ") }
}

/// The commit that is checked out in `folder`; None: it is the top of no repository.
pub fn commit(folder: &Path) -> Option<String> {
    // Not that of a repository around it, into which an archive was unpacked.
    folder.join(".git").exists().then(|| git(folder, &["rev-parse", "--short=12", "HEAD"]))?
}

/// The files that change when another commit is checked out. One that is not there is left out:
/// cargo would build anew each time.
pub fn watched(folder: &Path) -> Vec<String> {
    let reference = git(folder, &["symbolic-ref", "-q", "HEAD"]);
    // The log has a line for each change of what is checked out, also where a reference is packed.
    let fixed = ["HEAD", "logs/HEAD", "packed-refs"].map(|name| Some(name.to_owned()));
    let names = fixed.into_iter().chain([reference]);
    let path = |name: String| git(folder, &["rev-parse", "--git-path", &name]);
    let is_there = |path: &String| folder.join(path).is_file();
    names.flatten().filter_map(path).filter(is_there).collect()
}

fn git(folder: &Path, words: &[&str]) -> Option<String> {
    let output = Command::new("git").arg("-C").arg(folder).args(words).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (output.status.success() && !text.is_empty()).then_some(text)
}
