#!/usr/bin/env bash
# Builds sunder for production, guided by a profile of itself under its intended loads. The compiler
# then lays out and inlines the code that requests execute, which an ordinary release build has to
# guess; docs/MEASUREMENTS.md has the gain.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
cd "$project"

usage="usage: scripts/build-optimized.sh [--bench]
Builds an instrumented sunder, runs loads of a few seconds on it over loopback, a Unix socket and
net_memif, and builds it again with the resulting profile. Prints the path of the binary. Needs no
root and no hugepages; takes some 6 minutes on two cores.
  --bench   also the worker's benchmark, guided by its own profile"

with_bench=0
for argument in "$@"; do
    case "$argument" in
        --bench) with_bench=1 ;;
        --help | -h)
            say "$usage"
            exit 0
            ;;
        *) refuse "unknown argument '$argument'" ;;
    esac
done

scripts/setup.sh --optimized
# The tool of any LLVM that can read this compiler's profiles.
profdata=$(printf '%s\n' /usr/lib/llvm-*/bin/llvm-profdata | sort -V | tail -n 1)
[ -x "$profdata" ] || fail "no llvm-profdata: scripts/setup.sh --optimized installs it"

work=$(mktemp -d)
on_exit rm -rf -- "$work"
# A Unix socket's path has at most 107 bytes, whatever TMPDIR is.
sockets=$(mktemp -d /tmp/sunder-optimized.XXXXXX)
on_exit rm -rf -- "$sockets"
mkdir "$work/profiles"
# Instrumented build scripts would also write here, but there are none: --target keeps the flags
# from code that runs on the host.
export LLVM_PROFILE_FILE="$work/profiles/%p-%m.profraw"
triple=$(rustc -vV | sed -n 's/^host: //p')

# The caller's flags for rustc, one per word: cargo splits RUSTFLAGS at spaces, which a path may
# contain, and CARGO_ENCODED_RUSTFLAGS at a character that no path contains.
read -ra caller_flags <<<"${RUSTFLAGS:-}"

# build FLAG FOLDER: sets sunder_binary and bench_binary. Together: each is linked on one core.
build() {
    local folder=$2 flags targets=(--bin sunder)
    [ "$with_bench" = 0 ] || targets+=(--bench worker)
    flags=$(IFS=$'\x1f' && printf '%s' "${caller_flags[*]}${caller_flags:+$'\x1f'}$1")
    CARGO_ENCODED_RUSTFLAGS=$flags cargo build --quiet --release "${targets[@]}" \
        --target "$triple" --target-dir "$folder" --message-format=json-render-diagnostics \
        >"$work/built"
    sunder_binary=$folder/$triple/release/sunder
    bench_binary=$(jq -r 'select(.target.name? == "worker" and .executable != null).executable' \
        "$work/built")
}

port=23110
# serving ARGUMENT..: a server on a free loopback port, in place of the last one.
serving() {
    port=$((port + 1))
    start_sunder "$work/server.log" - -p "$port" --workers 1 "$@" ||
        fail "the instrumented sunder does not serve"
}

# tool ARGUMENT..: a load, which must succeed.
tool() {
    "$sunder_binary" "$@" >"$work/tool.log" 2>&1 || {
        cat "$work/tool.log" >&2
        fail "failed: sunder $*"
    }
}

# train_on_device FLAG..: over a link to itself.
train_on_device() {
    local link="net_memif0,socket=$sockets/link,socket-abstract=no,rsize=11" client attempt
    start_sunder "$work/server.log" - --device "$link,role=server" --address 10.9.0.1/16 \
        --huge off --workers 1 --l1 memory,size=64M || fail "sunder does not serve on net_memif"
    # The server accepts in DPDK's interrupt thread: on a busy host not always the first time.
    for attempt in 1 2 3; do
        "$sunder_binary" bench 10.9.0.1 --device "$link,role=client" --address 10.9.1.1/16 \
            --huge off --connections 200 --duration 2 --hold 10 "$@" >"$work/tool.log" 2>&1 &
        client=$!
        on_exit end_process "$client"
        await_line 'latency, ' "$work/tool.log" "$client" && break
        [ "$attempt" -eq 3 ] || ! grep -q 'starting it failed' "$work/tool.log" && break
        sleep 0.5
    done
    # A process that leaves a memif while its peer is there may crash it: the server ends first.
    end_process "$sunder_pid" || fail "sunder on net_memif did not stop cleanly"
    wait "$client" || { cat "$work/tool.log" >&2; fail "the load over net_memif failed"; }
}

# train_on_sockets: every command, both protocols, small values and large ones.
train_on_sockets() {
    tool blast "127.0.0.1:$port" --text --binary --all -w 16 -n 40000
    tool bench "127.0.0.1:$port" --duration 1 --warmup 0 --text
    tool bench "127.0.0.1:$port" --duration 1 --warmup 0 --binary
    tool bench "127.0.0.1:$port" --duration 1 --warmup 0 --value-bytes 10K --keys 1000
    end_process "$sunder_pid" || fail "sunder did not stop cleanly"
}

train() {
    local layout
    train_on_device --text
    train_on_device --text --ratio 1:0
    train_on_device --binary
    train_on_device --text --depth 8 --multi-get 4
    serving --l1 memory,size=64M
    train_on_sockets
    serving --l1 memory,size=8M --l2 "ssd,path=$work/log,size=1G" --bp $((port + 100))
    train_on_sockets
    memcached -s "$sockets/memcached" -t 1 -m 256 -I 2m -u "$(id -un)" &
    on_exit end_process "$!"
    for ((i = 0; i < 500; i++)); do
        [ -S "$sockets/memcached" ] && break
        sleep 0.01
    done
    for layout in plain chunked chunked,chunk=16K; do
        serving --l1 "memcached,addr=unix:$sockets/memcached,layout=$layout"
        tool blast "127.0.0.1:$port" --text --binary -w 16 -n 20000 --prefix "${layout//,/-}"
        tool bench "127.0.0.1:$port" --duration 1 --warmup 0
        tool bench "127.0.0.1:$port" --duration 1 --warmup 0 --value-bytes 10K --keys 1000
        end_process "$sunder_pid" || fail "sunder did not stop cleanly"
    done
    [ "$with_bench" = 1 ] || return 0
    "$bench_binary" 200 100000 10000 >"$work/tool.log"
}

say "1. Building sunder with instruments (some minutes the first time)."
build "-Cprofile-generate=$work/profiles" target/training
say "2. Putting loads on it."
train
"$profdata" merge -o target/training/sunder.profdata "$work"/profiles/*.profraw ||
    fail "$profdata cannot read what this compiler writes: a newer llvm package is wanted"
# What is called for every request was called often; an empty profile would be used without a word.
most=$("$profdata" show target/training/sunder.profdata |
    sed -n 's/^Maximum function count: //p')
[ "${most:-0}" -gt 100000 ] || fail "the loads left no profile: its highest count is ${most:-none}"
say "3. Building it again with what they showed."
build "-Cprofile-use=$project/target/training/sunder.profdata" target/optimized
say "Done: $sunder_binary"
[ "$with_bench" = 0 ] || say "The worker's benchmark: $bench_binary"
