//! Finds libdpdk, generates bindings over an allow-list and compiles the shim.
//!
//! Links shared: the drivers are plug-ins of Debian's libdpdk, and EAL loads them itself, but only
//! in a process that already has librte_eal.so. `lib.rs` refers to `rte_eal_init`, so that
//! `--as-needed` keeps that library whatever else is dropped.

use std::path::PathBuf;
use std::process::{Command, exit};
use std::{env, fs};

/// Oldest version that the code supports.
const VERSION_MIN: &str = "22.11";

/// The libraries with the functions on the allow-list; drivers load what they need themselves.
const LIBRARIES: [&str; 5] = ["rte_ethdev", "rte_mbuf", "rte_mempool", "rte_ring", "rte_eal"];

/// Every function of DPDK that is used.
const FUNCTIONS: [&str; 28] = [
    "rte_dev_probe",
    "rte_eal_get_runtime_dir",
    "rte_eal_init",
    "rte_eth_allmulticast_enable",
    "rte_eth_dev_adjust_nb_rx_tx_desc",
    "rte_eth_dev_close",
    "rte_eth_dev_configure",
    "rte_eth_dev_get_mtu",
    "rte_eth_dev_get_port_by_name",
    "rte_eth_dev_info_get",
    "rte_eth_dev_is_removed",
    "rte_eth_dev_rss_reta_query",
    "rte_eth_dev_rss_reta_update",
    "rte_eth_dev_socket_id",
    "rte_eth_dev_start",
    "rte_eth_dev_stop",
    "rte_eth_link_get_nowait",
    "rte_eth_macaddr_get",
    "rte_eth_promiscuous_enable",
    "rte_eth_rx_queue_setup",
    "rte_eth_stats_get",
    "rte_eth_tx_queue_setup",
    "rte_pktmbuf_pool_create",
    "rte_strerror",
    "rte_thread_register",
    "rte_thread_unregister",
    "rte_version",
    "shim_.*",
];

/// Constants that are plain numbers, and those of the shim.
const CONSTANTS: [&str; 4] =
    ["SHIM_.*", "RTE_ETH_LINK_UP", "RTE_ETH_RETA_GROUP_SIZE", "RTE_MBUF_DEFAULT_BUF_SIZE"];

/// Structures used only through pointers. bindgen cannot lay out many of DPDK's (packed and aligned
/// at the same time).
const OPAQUE: [&str; 3] = ["rte_mbuf", "rte_mempool", "rte_device"];

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=shim.c");
    println!("cargo::rerun-if-changed=shim.h");
    println!("cargo::rerun-if-env-changed=PKG_CONFIG_PATH");

    let library = pkg_config::Config::new()
        .atleast_version(VERSION_MIN)
        .cargo_metadata(false)
        .probe("libdpdk")
        .unwrap_or_else(|error| refuse(&error.to_string()));
    println!("cargo::metadata=version={}", library.version);
    let flags = cflags();

    let mut shim = cc::Build::new();
    shim.file("shim.c").warnings(true).extra_warnings(false);
    for flag in &flags {
        shim.flag(flag);
    }
    shim.compile("sunder_shim");

    for path in &library.link_paths {
        println!("cargo::rustc-link-search=native={}", path.display());
    }
    for name in LIBRARIES {
        println!("cargo::rustc-link-lib=dylib={name}");
    }
    generate(&flags);
}

/// Ends the build with one line that says what to install.
fn refuse(cause: &str) -> ! {
    let cause = cause.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or("");
    println!(
        "cargo::error=libdpdk {VERSION_MIN} or newer was not found: install it (Debian: apt-get \
         install libdpdk-dev pkg-config), or build without DPDK devices: cargo build \
         --no-default-features ({cause})"
    );
    exit(1)
}

/// The output of `pkg-config --cflags`: the headers also need `-include rte_config.h` and `-march`,
/// which the pkg-config crate does not return.
fn cflags() -> Vec<String> {
    let tool = env::var("PKG_CONFIG").unwrap_or_else(|_| "pkg-config".to_string());
    let output = Command::new(tool)
        .args(["--cflags", "libdpdk"])
        .output()
        .unwrap_or_else(|error| refuse(&error.to_string()));
    if !output.status.success() {
        refuse(&String::from_utf8_lossy(&output.stderr));
    }
    String::from_utf8_lossy(&output.stdout).split_whitespace().map(str::to_string).collect()
}

fn generate(flags: &[String]) {
    let mut builder = bindgen::Builder::default()
        .header("shim.h")
        .clang_args(flags)
        .allowlist_recursively(true)
        .prepend_enum_name(false)
        .derive_default(true)
        .layout_tests(true)
        .generate_comments(false);
    for name in FUNCTIONS {
        builder = builder.allowlist_function(name);
    }
    for name in CONSTANTS {
        builder = builder.allowlist_var(name);
    }
    builder = builder.allowlist_type("shim_.*").allowlist_type("rte_eth_rss_reta_entry64");
    for name in OPAQUE {
        builder = builder.opaque_type(name);
    }
    let bindings = builder.generate().unwrap_or_else(|error| {
        println!(
            "cargo::error=no bindings for libdpdk's headers: {error}; bindgen needs libclang \
             (Debian: apt-get install clang libclang-dev)"
        );
        exit(1)
    });
    let out = PathBuf::from(env::var("OUT_DIR").expect("cargo sets OUT_DIR")).join("bindings.rs");
    fs::write(out, bindings.to_string()).expect("cargo's OUT_DIR can be written");
}
