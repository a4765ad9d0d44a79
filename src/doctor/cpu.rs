//! Cores and clocks: whether workers have cores of their own, and how fast these run.

use super::host::{Step, list_of};
use super::{Finding, Subject};
use crate::config::{L1, L2, Poll, counted};

/// Words of /proc/cpuinfo for what the compiler was allowed to use.
const BUILT: &[(&str, bool)] = &[
    ("pni", cfg!(target_feature = "sse3")),
    ("ssse3", cfg!(target_feature = "ssse3")),
    ("sse4_1", cfg!(target_feature = "sse4.1")),
    ("sse4_2", cfg!(target_feature = "sse4.2")),
    ("popcnt", cfg!(target_feature = "popcnt")),
    ("avx", cfg!(target_feature = "avx")),
    ("avx2", cfg!(target_feature = "avx2")),
    ("fma", cfg!(target_feature = "fma")),
    ("bmi1", cfg!(target_feature = "bmi1")),
    ("bmi2", cfg!(target_feature = "bmi2")),
    ("abm", cfg!(target_feature = "lzcnt")),
    ("movbe", cfg!(target_feature = "movbe")),
    ("avx512f", cfg!(target_feature = "avx512f")),
];

pub(super) fn look(subject: &Subject<'_>) -> Vec<Finding> {
    let mut findings = vec![instructions(subject), cores(subject)];
    if subject.config.poll() == Poll::Busy {
        findings.push(isolation(subject));
        findings.extend(interrupts(subject));
    }
    findings.extend([governor(subject), clock(subject), time(subject)]);
    findings
}

fn instructions(subject: &Subject<'_>) -> Finding {
    const CHECK: &str = "cpu";
    let flags = subject.host.text("proc/cpuinfo").and_then(|text| {
        let line = text.lines().find(|line| line.starts_with("flags"))?;
        Some(line.split_once(':')?.1.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    });
    if !cfg!(target_arch = "x86_64") {
        return Finding::ok(CHECK, "no instructions beyond those of every such CPU are needed");
    }
    let Some(flags) = flags else {
        return Finding::unknown(CHECK, "/proc/cpuinfo lists no flags");
    };
    let has = |flag: &str| flags.iter().any(|it| it == flag);
    let built: Vec<_> = BUILT.iter().filter(|(_, is_used)| *is_used).map(|it| it.0).collect();
    let missing: Vec<_> = built.iter().copied().filter(|flag| !has(flag)).collect();
    if !missing.is_empty() {
        let missing = missing.join(" ");
        return Finding::new(
            CHECK,
            super::Verdict::Error,
            format!("this binary was built for a CPU with {missing}, which this one has not"),
        )
        .mend("scripts/build-optimized.sh");
    }
    let config = subject.config;
    let checks_sums = matches!(config.l1, L1::Ssd(_) | L1::Memory { file: Some(_), .. })
        || matches!(config.l2, L2::Ssd(_));
    let mut slower = Vec::new();
    if checks_sums && !has("sse4_2") {
        slower.push("no SSE4.2: checksums are computed without the CPU's instruction");
    }
    if !has("avx2") {
        slower.push("no AVX2: ends of lines are searched in smaller steps");
    }
    match slower.is_empty() {
        true => Finding::ok(CHECK, "has the instructions that are used"),
        false => Finding::warning(CHECK, slower.join("; ")),
    }
}

fn cores(subject: &Subject<'_>) -> Finding {
    const CHECK: &str = "cores";
    let (workers, allowed) = (subject.workers(), subject.allowed.len());
    let has = counted(allowed as u64, "core");
    let said = format!("{} on {has}", counted(workers as u64, "worker"));
    if workers <= allowed {
        return Finding::ok(CHECK, said);
    }
    let cost = match subject.config.poll() {
        Poll::Busy => ": workers that poll take turns of milliseconds on a core",
        Poll::Adaptive => ": more than one shares a core",
    };
    Finding::warning(CHECK, said + cost).mend(format!("--workers {allowed}"))
}

fn isolation(subject: &Subject<'_>) -> Finding {
    const CHECK: &str = "isolation";
    let host = subject.host;
    let cores = subject.cores();
    let of = |path| host.cores(path);
    let (isolated, tickless) =
        (of("sys/devices/system/cpu/isolated"), of("sys/devices/system/cpu/nohz_full"));
    let Some(isolated) = isolated else {
        return Finding::unknown(CHECK, "/sys/devices/system/cpu/isolated cannot be read");
    };
    let list = list_of(&cores);
    let has = |set: &[usize]| cores.iter().all(|core| set.contains(core));
    let words = format!("isolcpus={list} nohz_full={list} rcu_nocbs={list}");
    let line = "on the kernel's command line (/etc/default/grub, update-grub, reboot)";
    let is_of_cpuset = host
        .text("proc/self/cgroup")
        .and_then(|text| Some(text.lines().next()?.rsplit(':').next()?.to_owned()))
        .and_then(|group| host.text(&format!("sys/fs/cgroup{group}/cpuset.cpus.partition")))
        .is_some_and(|text| text.starts_with("isolated"));
    match (has(&isolated) || is_of_cpuset, tickless.is_some_and(|set| has(&set))) {
        (true, true) => Finding::ok(CHECK, format!("cores {list} are isolated, without a tick")),
        (true, false) => Finding::warning(
            CHECK,
            format!("cores {list} are isolated, and the kernel's tick interrupts them"),
        )
        .mend(format!("nohz_full={list} rcu_nocbs={list} {line}")),
        _ => Finding::warning(
            CHECK,
            format!("cores {list} are not isolated: other processes delay the workers on them"),
        )
        .mend(format!("{words} {line}")),
    }
}

/// Devices that have interrupted a worker's core, in the kernel's count of them.
fn interrupts(subject: &Subject<'_>) -> Option<Finding> {
    const CHECK: &str = "interrupts";
    let Some(text) = subject.host.text("proc/interrupts") else {
        return Some(Finding::unknown(CHECK, "/proc/interrupts cannot be read"));
    };
    let mut lines = text.lines();
    let heads: Vec<Option<usize>> = lines
        .next()?
        .split_whitespace()
        .map(|head| head.strip_prefix("CPU").and_then(|number| number.parse().ok()))
        .collect();
    let cores = subject.cores();
    let mut found = Vec::new();
    for line in lines {
        let mut words = line.split_whitespace();
        let Some(number) = words.next().and_then(|word| word.trim_end_matches(':').parse().ok())
        else {
            continue;
        };
        let number: u32 = number;
        let counts: Vec<u64> =
            words.by_ref().take(heads.len()).filter_map(|word| word.parse().ok()).collect();
        let mut on_ours = heads
            .iter()
            .zip(&counts)
            .filter(|(core, count)| **count > 0 && core.is_some_and(|core| cores.contains(&core)));
        let name = line.split_whitespace().next_back().unwrap_or_default();
        if on_ours.next().is_some() {
            found.push((number, name.to_owned()));
        }
    }
    let list = list_of(&cores);
    if found.is_empty() {
        return Some(Finding::ok(CHECK, format!("no device has interrupted cores {list}")));
    }
    let names: Vec<_> = found.iter().take(4).map(|(_, name)| name.as_str()).collect();
    let more = if found.len() > names.len() { " and others" } else { "" };
    let finding = Finding::warning(
        CHECK,
        format!("devices have interrupted cores {list} since boot: {}{more}", names.join(", ")),
    );
    let others: Vec<_> = subject.allowed.iter().copied().filter(|it| !cores.contains(it)).collect();
    if others.is_empty() {
        return Some(finding.mend("--cores with a core fewer leaves one to them"));
    }
    let (number, list) = (found[0].0, list_of(&others));
    Some(finding.mend(format!("echo {list} >/proc/irq/{number}/smp_affinity_list, and so on")))
}

fn governor(subject: &Subject<'_>) -> Finding {
    const CHECK: &str = "frequency";
    let path = |core: usize| format!("sys/devices/system/cpu/cpu{core}/cpufreq/scaling_governor");
    let cores = subject.cores();
    let read = |core: &usize| Some((*core, subject.host.text(&path(*core))?));
    let governors: Vec<_> = cores.iter().filter_map(read).collect();
    if governors.is_empty() {
        return Finding::unknown(
            CHECK,
            "the kernel shows no governor, as in most virtual machines",
        );
    }
    let slow: Vec<_> = governors.iter().filter(|(_, governor)| governor != "performance").collect();
    let Some((_, governor)) = slow.first() else {
        return Finding::ok(CHECK, "governor performance");
    };
    let list = list_of(&slow.iter().map(|(core, _)| *core).collect::<Vec<_>>());
    let steps = slow.iter().map(|(core, _)| Step::Write(path(*core), "performance".into()));
    let governor: String = governor.chars().take(40).collect();
    Finding::warning(
        CHECK,
        format!("governor {governor} of cores {list}: after a pause they run slowly for a while"),
    )
    .steps(steps.collect())
}

fn clock(subject: &Subject<'_>) -> Finding {
    const CHECK: &str = "clock";
    let folder = "sys/devices/system/clocksource/clocksource0";
    let Some(source) = subject.host.text(&format!("{folder}/current_clocksource")) else {
        return Finding::unknown(CHECK, format!("/{folder} cannot be read"));
    };
    let source: String = source.chars().take(40).collect();
    let fast = ["tsc", "kvm-clock", "arch_sys_counter", "hyperv_clocksource_tsc_page"];
    if fast.contains(&source.as_str()) {
        return Finding::ok(CHECK, format!("clocksource {source}"));
    }
    let finding = Finding::warning(
        CHECK,
        format!("clocksource {source}: each reading of the clock, once a turn, is a system call"),
    );
    let others = subject.host.text(&format!("{folder}/available_clocksource"));
    match others.is_some_and(|others| others.split_whitespace().any(|it| it == "tsc")) {
        true => finding.mend(format!("echo tsc >/{folder}/current_clocksource")),
        // The kernel does not use one that it found unstable.
        false => finding.mend("dmesg | grep -i -e tsc -e clocksource"),
    }
}

fn time(subject: &Subject<'_>) -> Finding {
    const CHECK: &str = "time";
    let daemons = [
        ("run/systemd/timesync/synchronized", "systemd-timesyncd"),
        ("run/chrony/chronyd.pid", "chrony"),
        ("run/chronyd.pid", "chrony"),
        ("run/ntpd.pid", "ntpd"),
        ("run/ptp4l.pid", "ptp4l"),
    ];
    match daemons.iter().find(|(path, _)| subject.host.exists(path)) {
        Some((_, name)) => Finding::ok(CHECK, format!("kept by {name}")),
        None => Finding::warning(
            CHECK,
            "no daemon that keeps the clock right was found: items expire by it",
        )
        .mend("apt-get install chrony"),
    }
}
