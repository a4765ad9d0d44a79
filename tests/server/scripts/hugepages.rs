//! scripts/hugepages.sh: pages it adds and removes, persistent reservations, and its refusals.

use std::fs;

use super::{HUGE, Host};

const ALL_2M: &str = "kernel/mm/hugepages/hugepages-2048kB";
const NODE_2M: &str = "devices/system/node/node0/hugepages/hugepages-2048kB";
const ALL_1G: &str = "kernel/mm/hugepages/hugepages-1048576kB";

#[test]
fn reserving_adds_pages_and_releasing_removes_free_ones() {
    let host = Host::new();
    host.does(HUGE, "reserve 16");
    assert_eq!(host.reserved(ALL_2M), "26");
    host.does(HUGE, "reserve 2 --size 2M --node 0");
    assert_eq!(host.reserved(NODE_2M), "12");
    host.does(HUGE, "reserve 1 --size 1G");
    assert_eq!(host.reserved(ALL_1G), "1");
    // Of our 16 pages 4 are free.
    let run = host.does(HUGE, "release");
    assert!(run.out.contains("released 4 pages of 2M; 22 are left, 22 of them in use"));
    assert_eq!(host.reserved(ALL_2M), "22");
}

#[test]
fn reserving_again_changes_nothing() {
    let host = Host::new();
    host.does(HUGE, "reserve 16");
    let run = host.does(HUGE, "reserve 16");
    assert!(run.out.contains("16 pages of 2M were reserved already"), "{}", run.out);
    host.does(HUGE, "reserve 8");
    assert_eq!(host.reserved(ALL_2M), "26");
    let run = host.does(HUGE, "reserve 20");
    assert!(run.out.contains("reserved 4 pages of 2M; now 30"), "{}", run.out);
    // Someone has removed them since.
    host.pages(ALL_2M, 5, 5);
    host.does(HUGE, "reserve 8");
    assert_eq!(host.reserved(ALL_2M), "8");
    // Each node has its own.
    host.does(HUGE, "reserve 2 --node 0");
    assert_eq!(host.reserved(NODE_2M), "12");
}

#[test]
fn a_reservation_at_boot_is_known_after_it() {
    let host = Host::new();
    host.does(HUGE, "reserve 6 --persistent");
    fs::remove_dir_all(host.root.join("run")).unwrap();
    host.pages(ALL_2M, 16, 16);
    let run = host.does(HUGE, "reserve 6 --persistent");
    assert!(run.out.contains("6 pages of 2M were reserved already"), "{}", run.out);
    assert_eq!(host.reserved(ALL_2M), "16");
    host.does(HUGE, "release --persistent");
    assert_eq!(host.reserved(ALL_2M), "10");
}

#[test]
fn releasing_keeps_pages_of_others() {
    let host = Host::new();
    let run = host.does(HUGE, "release");
    assert!(run.out.contains("nothing to give back: 0 pages of 2M"), "{}", run.out);
    assert!(run.out.contains("--all gives those back"), "{}", run.out);
    assert_eq!(host.reserved(ALL_2M), "10");
    host.does(HUGE, "reserve 3");
    host.pages(ALL_2M, 13, 7);
    host.does(HUGE, "release");
    assert_eq!(host.reserved(ALL_2M), "10");
    let run = host.does(HUGE, "release");
    assert!(run.out.contains("nothing to give back"), "{}", run.out);
    host.pages(ALL_2M, 10, 4);
    host.does(HUGE, "release --all");
    assert_eq!(host.reserved(ALL_2M), "6");
}

#[test]
fn a_reservation_that_a_later_file_overrides_is_refused() {
    let ours = "etc/sysctl.d/90-sunder-hugepages-2M.conf";
    for later in ["etc/sysctl.d/99-x.conf", "usr/lib/sysctl.d/99-x.conf", "etc/sysctl.conf"] {
        let host = Host::new();
        host.write(later, "# vm.nr_hugepages = 1\n");
        host.does(HUGE, "reserve 1 --persistent");
        let host = Host::new();
        host.write(later, "vm/nr_hugepages=7\n");
        host.refuses(HUGE, "reserve 6 --persistent", &[later, ours, "vm.nr_hugepages"]);
        assert!(!host.root.join(ours).exists());
        assert_eq!(host.reserved(ALL_2M), "10", "nothing is done partially");
        host.does(HUGE, "reserve 6");
    }
    let host = Host::new();
    host.write("etc/sysctl.d/10-x.conf", "vm.nr_hugepages = 7\n");
    host.does(HUGE, "reserve 6 --persistent");
    let run = host.does(HUGE, "release --persistent");
    assert!(run.out.contains("still at boot: "), "{}", run.out);
    assert!(run.out.contains("10-x.conf: vm.nr_hugepages = 7"), "{}", run.out);
    assert!(host.does(HUGE, "show").out.contains("10-x.conf: vm.nr_hugepages = 7"));
    // Nor of another size.
    host.does(HUGE, "reserve 2 --size 1G --persistent");
    let run = host.does(HUGE, "release --persistent");
    assert!(run.out.contains("still at boot: ") && run.out.contains("1G.conf"), "{}", run.out);
}

#[test]
fn a_dry_run_prints_everything_and_does_nothing() {
    let host = Host::new();
    let run = host.does(HUGE, "reserve 16 --persistent --dry-run");
    assert!(run.error.contains("would write 26 to"), "{}", run.error);
    assert!(run.out.contains("vm.nr_hugepages = 26"), "{}", run.out);
    assert_eq!(host.reserved(ALL_2M), "10");
    assert!(!host.root.join("etc").exists());
    let run = host.does(HUGE, "release --all --dry-run");
    assert!(run.error.contains("would write 6 to"), "{}", run.error);
    assert_eq!(host.reserved(ALL_2M), "10");
}

#[test]
fn a_persistent_reservation_is_written_shown_and_removed() {
    let host = Host::new();
    let file = host.root.join("etc/sysctl.d/90-sunder-hugepages-2M.conf");
    host.does(HUGE, "reserve 6 --persistent");
    assert!(fs::read_to_string(&file).unwrap().ends_with("\nvm.nr_hugepages = 16\n"));
    assert!(host.does(HUGE, "show").out.contains("at boot: "));
    let run = host.does(HUGE, "release --persistent");
    assert!(run.out.contains("removed") && !file.exists(), "{}", run.out);
    let run = host.does(HUGE, "release --persistent");
    assert!(run.out.contains("does not exist"), "{}", run.out);

    let run = host.does(HUGE, "reserve 2 --size 1G --node 0 --persistent");
    assert!(run.out.contains("hugepagesz=1G hugepages=2"), "{}", run.out);
    let file = host.root.join("etc/tmpfiles.d/sunder-hugepages-1G-node0.conf");
    let line =
        "w /sys/devices/system/node/node0/hugepages/hugepages-1048576kB/nr_hugepages - - - - 2";
    assert!(fs::read_to_string(file).unwrap().contains(line));
}

#[test]
fn show_lists_sizes_and_nodes() {
    let host = Host::new();
    let run = host.does(HUGE, "show");
    let row = |words: &[&str]| {
        run.out.lines().any(|line| line.split_whitespace().eq(words.iter().copied()))
    };
    assert!(row(&["2M", "all", "10", "4", "6"]), "{}", run.out);
    assert!(row(&["2M", "0", "10", "4", "6"]), "{}", run.out);
    assert!(row(&["1G", "0", "0", "0", "0"]), "{}", run.out);
}

#[test]
fn hugepages_refuses_invalid_arguments() {
    let host = Host::new();
    host.refuses(HUGE, "", &["reserve N, show or release"]);
    host.refuses(HUGE, "reserve", &["a number of pages"]);
    host.refuses(HUGE, "reserve 0", &["a number of pages"]);
    host.refuses(HUGE, "reserve 1;2", &["a number of pages"]);
    host.refuses(HUGE, "reserve 08", &["a number of pages"]);
    host.refuses(HUGE, "reserve 1 --size 4K", &["--size 4K", "2M or 1G"]);
    host.refuses(HUGE, "reserve 1 --node 7", &["--node 7", "show"]);
    host.refuses(HUGE, "reserve 1 --node ../..", &["--node ../.."]);
    host.refuses(HUGE, "show release", &["one command"]);
    host.refuses(HUGE, "--what", &["--what", "--help"]);
    fs::remove_dir_all(host.sys(ALL_1G)).unwrap();
    host.refuses(HUGE, "reserve 1 --size 1G", &["no pages of 1G", "--size"]);
    fs::remove_dir_all(host.sys("kernel/mm/hugepages")).unwrap();
    host.refuses(HUGE, "show", &["--huge off"]);
}
