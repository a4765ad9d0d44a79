#!/usr/bin/env bash
# Every test there is, the same on a laptop and in CI. Needs root for network namespaces and
# hugepages (asks sudo), no special hardware; skips nothing, leaves nothing behind but target/.
# Ends with 'N passed, N failed'.
set -uo pipefail
. "$(dirname "$0")/lib.sh"
cd "$project" || exit 1

if [ "${1:-}" = --help ]; then
    say "usage: scripts/test.sh
Formatting, lints, builds with and without DPDK, unit tests, the wire table against a real
memcached, hostile inputs, real clients over DPDK devices in network namespaces, and the quickstart. The last
line counts them all. What each stage said is in target/test-logs/."
    exit 0
fi
[ $# -eq 0 ] || refuse "unknown argument '$1'"

become_root "$@"
on_exit give_back_target
logs=$project/target/test-logs
mkdir -p "$logs"

# This checkout and a TMPDIR by paths that are several words, and a command where one is taken for
# code: by_words SCRIPT ARGUMENT.. runs a script so.
words="$logs/several words; exit 9"
on_exit rm -rf -- "$words"
mkdir -p "$words/tmp dir"
ln -sfn "$project" "$words/check out"
by_words() { TMPDIR="$words/tmp dir" "$words/check out/$1" "${@:2}"; }

passed=0
failed=0
failed_stages=()

# stage NAME COMMAND..: runs it with its output in a log, and counts the tests the log tells of.
# A stage that tells of none is itself the test. A stage that fails counts as a failure in any case.
stage() {
    local name=$1 log started=$SECONDS status=0 counts ok bad
    shift
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
    passed=$((passed + ok))
    failed=$((failed + bad))
    printf '%-44s %6d passed %4d failed %5d s\n' "$name" "$ok" "$bad" "$((SECONDS - started))"
    if [ "$bad" -gt 0 ]; then
        failed_stages+=("$name")
        show_failure "$log"
    fi
}

# Sums 'N passed; N failed; N ignored' of cargo and 'N passed, N failed' of our own; what was
# ignored has not passed.
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

# The built test binary of this name; cargo tells of sunder's own, which tests start, as well.
test_binary() {
    cargo test --quiet --no-run --test "$1" --message-format=json 2>/dev/null |
        grep -o "\"executable\":\"[^\"]*/deps/$1-[^\"]*\"" | cut -d'"' -f4
}

without_libdpdk() {
    # As on a machine that has none: pkg-config finds nothing.
    PKG_CONFIG_LIBDIR=/nonexistent PKG_CONFIG_PATH='' \
        cargo build --no-default-features --target-dir target/without-dpdk
}

lint_without_dpdk() {
    PKG_CONFIG_LIBDIR=/nonexistent PKG_CONFIG_PATH='' cargo clippy --no-default-features \
        --all-targets --target-dir target/without-dpdk -- -D warnings
}

setup_is_quick() {
    local started_ms ended_ms
    started_ms=$(date +%s%3N)
    scripts/setup.sh
    ended_ms=$(date +%s%3N)
    [ $((ended_ms - started_ms)) -lt 1000 ]
}

appliance() {
    sunder_binary=$project/target/debug/sunder wire_binary=$(test_binary wire) tests/appliance.sh
}

# What there is of what the tests make, and no living run of them claims: namespaces, whose names
# tell the script's id; hugepages; folders of DPDK's, likewise; servers without a parent.
whats_there() {
    local name id
    while read -r name _; do
        id=${name//[^0-9]/}
        [ -n "$id" ] && [ -d "/proc/$id" ] || printf '%s\n' "$name"
    done < <({ ip netns list; ls /run/dpdk 2>/dev/null; } | grep '^sunder-')
    cat /proc/sys/vm/nr_hugepages
    pgrep -P 1 -f "^$project/target/.*/sunder serve|^memcached -u root -U 0 -l 127.0.0.1 -m 64"
}

# With the release: these count bytes of memory and move megabytes.
with_release() {
    sunder_binary=$project/target/release/sunder examples=$project/target/release/examples "$@"
}

# The build for production: it answers rightly, and its instructions show that the profile was used.
optimized_build() {
    local said status log=target/test-logs/optimized-server.log sunder_binary
    said=$(by_words scripts/build-optimized.sh --bench) || return
    scripts/instructions.sh --optimized "${said##*: }" || return
    sunder_binary=$(sed -n 's/^Done: //p' <<<"$said")
    start_sunder "$log" - -p 23199 --l1 memory || return
    "$sunder_binary" blast 127.0.0.1:23199 --text --binary --all -w 50 -n 200000
    status=$?
    end_process "$sunder_pid" && return "$status"
}

# Every row of the comparison, so briefly that its figures mean nothing; but there they have to be.
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

# The SSD tier's, likewise.
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

before=$(whats_there)
scripts/setup.sh || fail "setup failed"
stage "setup again: nothing to do, quickly" setup_is_quick
stage "formatting" cargo fmt --all --check
stage "scripts' lint" shellcheck -x -P scripts scripts/*.sh tests/*.sh .ci/run
stage "lint" cargo clippy --workspace --all-targets -- -D warnings
stage "lint without DPDK" lint_without_dpdk
stage "build without libdpdk" without_libdpdk
stage "build" cargo build --workspace --all-targets
stage "unit tests" cargo test --workspace --lib --bins --examples
stage "documentation tests" cargo test --workspace --doc
for test in tests/*.rs tests/*/main.rs; do
    [ -e "$test" ] || continue
    name=${test#tests/}
    name=${name%/main.rs}
    name=${name%.rs}
    stage "tests/$name" cargo test --test "$name"
done
stage "appliance" appliance
stage "release build" cargo build --release --bin sunder --example many_connections \
    --example measure_ssd
stage "instructions per request" scripts/instructions.sh
stage "optimized build" optimized_build
stage "15,000 connections" with_release tests/many.sh
stage "faults on the wire" with_release tests/faults.sh
stage "comparison" comparison
stage "comparison of the SSD tier" ssd_comparison
stage "quickstart" by_words scripts/quickstart.sh
stage "nothing left behind" nothing_left

say "All of it took $((SECONDS / 60)) min $((SECONDS % 60)) s."
for name in "${failed_stages[@]}"; do
    say "failed: $name"
done
say "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
