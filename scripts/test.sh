#!/usr/bin/env bash
# All tests, the same on a laptop and in CI. Needs root for network namespaces and hugepages (asks
# sudo), no special hardware; skips nothing, leaves nothing behind but target/. The last line is 'N
# passed, N failed'.
set -uo pipefail
. "$(dirname "$0")/lib.sh"
cd "$project" || exit 1

usage="usage: scripts/test.sh [--list | --quick | --only NAME ..]
Formatting, lints, builds with and without DPDK, unit tests, the wire table against a real
memcached, hostile inputs, real clients over DPDK devices in network namespaces, and the quickstart.
The last line has the totals. The output of each stage is in target/test-logs/.
  --list        the groups and the stages in them; q marks those of --quick
  --only NAME   one stage, or the stages of a group; may be repeated
  --quick       the most useful stages, for every change: under 4 minutes if the build is up to
                date"

# These stages find most of what a change breaks.
quick=(
    "formatting" "scripts' lint" "lint" "unit tests" "tests/allocations" "tests/tidy"
    "tests/inside/worker" "tests/inside/memcached_tier" "tests/inside/memcached_chunked"
    "tests/server/cli" "tests/server/hostile" "tests/server/library" "tests/server/long_values"
)
# Stages that measure no time: they run in parallel with builds.
beside=(tests/server/history tests/server/load_tools tests/server/scripts tests/server/ssd)

mode=run
only=()
while [ $# -gt 0 ]; do
    case "$1" in
        --list) mode=list ;;
        --quick) only+=("${quick[@]}") ;;
        --only=?*) only+=("${1#--only=}") ;;
        --only)
            [ -n "${2:-}" ] || refuse "--only: which stage or group"
            only+=("$2")
            shift
            ;;
        --help | -h)
            say "$usage"
            exit 0
            ;;
        *) refuse "unknown argument '$1'" ;;
    esac
    shift
done

logs=$project/target/test-logs
# One line per stage: passed, failed, name. Parallel stages write there too.
results=$logs/results
stage_names=()

# is_in WORD WORDS..: whether it is one of them.
is_in() {
    local word
    for word in "${@:2}"; do
        [ "$word" != "$1" ] || return 0
    done
    return 1
}

# stage GROUP NAME COMMAND..: runs it with its output in a log, and counts the tests that the log
# reports. A stage that reports none is a test itself. A stage that fails counts as a failure in any
# case.
stage() {
    local group=$1 name=$2 log started=$SECONDS status=0 counts ok bad mark=' '
    shift 2
    stage_names+=("$name" "$group")
    if [ "$mode" = list ]; then
        is_in "$name" "${quick[@]}" && mark=q
        printf '%s %-12s %s\n' "$mark" "$group" "$name"
        return
    fi
    [ "$mode" = run ] || return 0
    if [ "${#only[@]}" -gt 0 ]; then
        is_in "$name" "${only[@]}" || is_in "$group" "${only[@]}" || return 0
    fi
    log=$logs/${name//[^a-zA-Z0-9]/-}.log
    "$@" </dev/null >"$log" 2>&1 || status=$?
    counts=$(count_tests "$log")
    ok=${counts% *}
    bad=${counts#* }
    if [ "$status" -eq 0 ]; then
        [ "$((ok + bad))" -gt 0 ] || ok=1
    else
        [ "$bad" -gt 0 ] || bad=1
    fi
    {
        # One at a time: another stage may end at the same moment.
        flock 8
        printf '%d %d %s\n' "$ok" "$bad" "$name" >>"$results"
        printf '%-44s %6d passed %4d failed %5d s\n' "$name" "$ok" "$bad" $((SECONDS - started))
        [ "$bad" -eq 0 ] || show_failure "$log"
    } 8>"$logs/.printing"
}

# Sums 'N passed; N failed; N ignored' of cargo and 'N passed, N failed' of our own; an ignored test
# has not passed.
count_tests() {
    awk '
        match($0, /[0-9]+ passed[;,] [0-9]+ failed/) {
            split(substr($0, RSTART, RLENGTH), words, " ")
            ok += words[1]
            bad += words[3]
            if (match($0, /[0-9]+ ignored/)) bad += substr($0, RSTART, RLENGTH) + 0
        }
        END { print ok + 0, bad + 0 }' "$1"
}

show_failure() {
    say "    ---- $1, its failures and its end:"
    { grep -nE -A 8 'FAILED|^error|panicked' "$1" | head -n 120; say "..."; tail -n 30 "$1"; } |
        sed 's/^/    /'
}

# The test binary of this name; cargo also reports sunder's own binary, which tests start.
test_binary() {
    cargo test --quiet --no-run --test "$1" --message-format=json 2>/dev/null |
        grep -o "\"executable\":\"[^\"]*/deps/$1-[^\"]*\"" | cut -d'"' -f4
}

# As on a machine without DPDK: pkg-config finds nothing. In the same folder as the other builds,
# for what sunder depends on is the same; dpdk-sys is no part of it, so that nothing asks pkg-config.
without_libdpdk() {
    PKG_CONFIG_LIBDIR=/nonexistent PKG_CONFIG_PATH='' cargo "$1" --no-default-features "${@:2}"
}

# If nothing is missing nothing must be installed: an attempt fails, and is reported.
setup_installs_nothing() {
    local folder=$words/installers name
    mkdir -p "$folder"
    for name in apt-get apt dpkg sudo systemctl rustup; do
        printf '#!/bin/sh\necho "%s $*" >>"%s"\nexit 1\n' "$name" "$folder/ran" >"$folder/$name"
        chmod +x "$folder/$name"
    done
    PATH=$folder:$PATH scripts/setup.sh && PATH=$folder:$PATH scripts/setup.sh --optimized ||
        return
    if [ -e "$folder/ran" ]; then
        cat "$folder/ran"
        return 1
    fi
}

# The parsers' invariants on the conformance tables; cargo fuzz generates more input.
fuzz_targets() {
    local target count=0
    for target in fuzz/targets/*.rs; do
        target=$(basename "$target" .rs)
        "target/debug/$target" src/protocol/conformance/* "$logs"/*.log Cargo.lock || return
        count=$((count + 1))
    done
    say "$count passed, 0 failed"
}

# module BINARY MODULE: its tests, in a separate process. A module without tests is not in its
# binary.
module() {
    local log=$logs/.module
    cargo test --test "$1" -- "$2::" 2>&1 | tee "$log"
    [ "${PIPESTATUS[0]}" -eq 0 ] && grep -q '^running [1-9]' "$log"
}

# modules [beside]: those of the test binaries with many, each as a stage.
modules() {
    local path name is_beside
    for path in tests/server/*.rs tests/server/*/mod.rs tests/inside/*.rs tests/inside/*/mod.rs; do
        [ -e "$path" ] || continue
        name=${path%.rs}
        name=${name%/mod}
        [ "${name##*/}" != main ] || continue
        is_beside=
        is_in "$name" "${beside[@]}" && is_beside=beside
        [ "$is_beside" = "${1:-}" ] || continue
        stage tests "$name" module "$(basename "$(dirname "$name")")" "$(basename "$name")"
    done
}

# Test binaries with one subject each.
binaries() {
    local path name
    for path in tests/*.rs tests/*/main.rs; do
        name=${path%.rs}
        name=${name%/main}
        case $name in
            # By their modules, in parallel with builds.
            tests/server | tests/inside | tests/wire) ;;
            *) stage tests "$name" cargo test --test "$(basename "$name")" ;;
        esac
    done
}

appliance() {
    sunder_binary=$project/target/debug/sunder wire_binary=$(test_binary wire) tests/appliance.sh
}

# Leftovers of tests that no running test owns: namespaces, whose names contain the script's id;
# hugepages; folders of DPDK, likewise; servers without a parent.
whats_there() {
    local name id
    while read -r name _; do
        id=${name//[^0-9]/}
        [ -n "$id" ] && [ -d "/proc/$id" ] || printf '%s\n' "$name"
    done < <({ ip netns list; ls /run/dpdk 2>/dev/null; } | grep '^sunder-')
    cat /proc/sys/vm/nr_hugepages
    pgrep -P 1 -f "^$project/target/.*/sunder serve|^memcached -u root -U 0 -l 127.0.0.1 -m 64"
}

release_build() {
    cargo build --release --bin sunder --bench worker --bench parts
}

# What is installed, without the inside that benches see: linked again, on one core. The quickstart
# finds it built.
installed_build() {
    cargo build --release --bin sunder
}

# With the release build of the server: these count its bytes of memory and move megabytes. Their
# clients are those of the debug build, for each release links all of sunder.
with_release() {
    release_build && cargo build --example many_connections --example measure_ssd || return
    sunder_binary=$project/target/release/sunder examples=$project/target/debug/examples "$@"
}

# The production build: it answers correctly. What the profile gains is shown by a benchmark that is
# built the same way, on demand: it would be linked twice more (docs/HACKING.md, "Measure").
optimized_build() {
    local said status log=target/test-logs/optimized-server.log sunder_binary
    said=$(by_words scripts/build-optimized.sh) || return
    sunder_binary=$(sed -n 's/^Done: //p' <<<"$said")
    start_sunder "$log" - -p 23199 --l1 memory || return
    "$sunder_binary" blast 127.0.0.1:23199 --text --binary --all -w 50 -n 200000
    status=$?
    end_process "$sunder_pid" && return "$status"
}

# Every row of the comparison, so short that its figures mean nothing; but there must be figures.
comparison() {
    local table=target/compare-briefly.md
    sunder_binary=$project/target/release/sunder by_words scripts/compare.sh --seconds 0.5 \
        --rounds 1 --connections 2,50 --output "$table" || return
    awk -F ' *[|] *' '
        /^[|] [^|]/ && !/requests.s/ {
            rows++
            is_packets = $2 ~ /testpmd/
            if ($4 <= 0 || !is_packets && ($7 <= 0 || $8 < $7)) { print "no figures: " $0; bad++ }
        }
        END { if (rows != 17) print rows + 0 " rows"; exit bad || rows != 17 }' "$table"
}

# The same for the SSD tier.
ssd_comparison() {
    local tables=target/compare-ssd-briefly.md
    with_release by_words scripts/compare-ssd.sh --dir "$words/tmp dir" --gigabytes 0.1 \
        --seconds 0.3 --rounds 1 --connections 2,8 --output "$tables" || return
    awk -F ' *[|] *' '
        /^[|] [^|]/ && !/values of/ {
            rows++
            for (i = 3; i < NF; i++) if ($i == "") { print "no figure: " $0; bad++ }
            if ($3 !~ /^[a-z]/ && $3 <= 0) { print "nothing was done: " $0; bad++ }
        }
        END { if (rows != 28) print rows + 0 " rows"; exit bad || rows != 28 }' "$tables"
}

nothing_left() { diff <(printf '%s\n' "$before") <(whats_there); }

# Compilers use all cores.
first() {
    stage lints "setup again: nothing to install" setup_installs_nothing
    stage lints "formatting" cargo fmt --all --check
    stage lints "scripts' lint" shellcheck -x -P scripts scripts/*.sh tests/*.sh .ci/run
    stage lints "lint" cargo clippy --workspace --all-targets -- -D warnings
    stage lints "lint without the feature internals" cargo clippy --lib --bins -- -D warnings
    stage lints "documentation" env RUSTDOCFLAGS="-D warnings" cargo doc --no-deps --lib
    stage lints "lint without DPDK" without_libdpdk clippy --all-targets -- -D warnings
    stage builds "build without libdpdk" without_libdpdk build
    stage builds "build" cargo build --workspace --all-targets
    stage builds "fuzz targets" fuzz_targets
    stage unit "unit tests" cargo test --workspace --exclude sunder-fuzz --lib --bins --examples
    stage unit "dpdk/tests" cargo test --package dpdk-sys --tests
    stage unit "documentation tests" cargo test --workspace --doc
    binaries
    modules
}

# Builds that link everything again on one core, and counts of instructions, which parallel load
# does not change.
beside_tests() {
    stage release "release build" release_build
    stage release "instructions per request" scripts/instructions.sh
    stage release "optimized build" optimized_build
}

# Tests that measure no time.
beside_builds() {
    modules beside
    stage tests "tests/wire" cargo test --test wire
    stage appliance "appliance" appliance
    stage release "release build as installed" installed_build
}

last() {
    stage network "15,000 connections" with_release tests/many.sh
    stage network "faults on the wire" with_release tests/faults.sh
    stage comparison "comparison" comparison
    stage comparison "comparison of the SSD tier" ssd_comparison
    stage quickstart "quickstart" by_words scripts/quickstart.sh
    stage quickstart "nothing left behind" nothing_left
}

all() {
    local lane
    first
    # A separate process group, so that it ends with all processes that it started.
    set -m
    (
        exit_commands=()
        trap - EXIT INT TERM HUP
        renice -n 10 "$BASHPID" >/dev/null
        beside_tests
    ) &
    lane=$!
    set +m
    on_exit end_lane "$lane"
    beside_builds
    wait "$lane"
    last
}

end_lane() { kill -TERM -- "-$1" 2>/dev/null; }

one_by_one() {
    first
    beside_tests
    beside_builds
    last
}

if [ "$mode" = list ]; then
    one_by_one
    exit 0
fi
mode=names
one_by_one
for name in "${only[@]}"; do
    is_in "$name" "${stage_names[@]}" || refuse "--only '$name': see --list"
done
mode=run

become_root ${only[@]+"${only[@]/#/--only=}"}
on_exit give_back_target
mkdir -p "$logs"
: >"$results"

# This checkout and a TMPDIR under paths of several words, which are a command if evaluated:
# by_words SCRIPT ARGUMENT.. runs a script with them.
words="$logs/several words; exit 9"
on_exit rm -rf -- "$words"
mkdir -p "$words/tmp dir"
ln -sfn "$project" "$words/check out"
by_words() { TMPDIR="$words/tmp dir" "$words/check out/$1" "${@:2}"; }

before=$(whats_there)
# With what the optimized build needs: a stage checks that nothing of either is missing.
scripts/setup.sh --optimized || fail "setup failed"
if [ "${#only[@]}" -gt 0 ]; then one_by_one; else all; fi

say "All of it took $((SECONDS / 60)) min $((SECONDS % 60)) s."
awk '
    { passed += $1; failed += $2 }
    $2 > 0 { sub(/^[0-9]+ [0-9]+ /, ""); print "failed: " $0 }
    END { print passed + 0 " passed, " failed + 0 " failed"; exit failed > 0 || passed == 0 }
' "$results"
