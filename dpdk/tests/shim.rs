//! Tests `shim.c` with a device that returns invalid mbufs: built here with a test in C, because
//! only C can create mbufs with wrong lengths.

use std::path::Path;
use std::process::{self, Command};

#[test]
fn invalid_mbufs_are_dropped_and_counted() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let program = std::env::temp_dir().join(format!("sunder-shim-{}", process::id()));
    let flags = Command::new("pkg-config").args(["--cflags", "libdpdk"]).output().unwrap();
    assert!(flags.status.success(), "libdpdk is installed");
    let flags = String::from_utf8(flags.stdout).unwrap();
    let built = Command::new("cc")
        .args(["-O1", "-g", "-Wall", "-Werror", "-fsanitize=address,undefined"])
        .args(flags.split_whitespace())
        .arg("-I")
        .arg(here)
        .arg(here.join("tests/shim_test.c"))
        .arg("-o")
        .arg(&program)
        .args(["-lrte_ethdev", "-lrte_mbuf", "-lrte_mempool", "-lrte_ring", "-lrte_eal"])
        .status()
        .unwrap();
    assert!(built.success());
    let output = Command::new(&program).env("ASAN_OPTIONS", "detect_leaks=0").output();
    std::fs::remove_file(&program).unwrap();
    let output = output.unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {text}", output.status);
}
