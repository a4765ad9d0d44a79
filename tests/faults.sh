#!/usr/bin/env bash
# Bytes in both directions over DPDK on a wire that loses, reorders and duplicates 1 % of the frames
# in each direction, by a seed: no byte may be wrong, no connection may hang. Run by
# scripts/test.sh, as root.
#
#   tests/faults.sh [MEGABYTES EACH WAY]
#   sunder_binary  the server and the client                                  (from the environment)
set -euo pipefail
. "$(dirname "$0")/../scripts/lib.sh"
cd "$project"

: "${sunder_binary:?}"
[ "$(id -u)" -eq 0 ] || fail "needs root, for network namespaces"
megabytes=${1:-100}
faults=${faults:-seed=1,drop=10000,reorder=10000,duplicate=10000}

server=sunder-faults-$$-server
client=sunder-faults-$$-client
make_pair "$server" "$client"
log=$(mktemp)
on_exit rm -f -- "$log"
passed=0
failed=0

# move_bytes WORKERS VALUE_BYTES CONNECTIONS MEGABYTES
move_bytes() {
    local workers=$1 value_bytes=$2 connections=$3 megabytes=$4 status=0
    say "--- workers $workers, values of $value_bytes bytes, $connections connections, $megabytes MB:"
    start_sunder "$log" "$server" --device net_af_packet0,iface=sunder0 --address 10.77.0.1/24 \
        --workers "$workers" --huge off --poll adaptive --l1 memory,size=256M --faults "$faults"
    # Of four values set three are read back, and one is deleted first.
    ip netns exec "$client" "$sunder_binary" setget 10.77.0.1:11211 --no-loss --duration 600 \
        --num-ops $((megabytes * 4000000 / (3 * value_bytes))) --value-bytes "$value_bytes" \
        --key-length 2 --workers "$connections" || status=1
    end_process "$sunder_pid" || status=1
    if [ "$status" -eq 0 ]; then passed=$((passed + 1)); else failed=$((failed + 1)); fi
}

move_bytes 1 100000 20 "$megabytes"
move_bytes 1 1000 50 $((megabytes / 50))
move_bytes 2 100000 20 "$megabytes"

say "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
