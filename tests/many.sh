#!/usr/bin/env bash
# Thousands of concurrent kernel clients over DPDK, each answered, and the memory of each. Run by
# scripts/test.sh, as root. Prints the figures.
#
#   tests/many.sh [CONNECTIONS]
#   sunder_binary, examples: the server, and the folder of built examples (from the environment)
set -euo pipefail
. "$(dirname "$0")/../scripts/lib.sh"
cd "$project"

: "${sunder_binary:?}" "${examples:?}"
[ "$(id -u)" -eq 0 ] || fail "needs root, for network namespaces"
connections=${1:-15000}

# Target: an idle connection costs at most 40 KiB, whatever it did before.
bytes_max=$((40 * 1024))

server=sunder-many-$$-server
client=sunder-many-$$-client
make_pair "$server" "$client"
log=$(mktemp)
on_exit rm -f -- "$log"
ulimit -n 20000
# Room for all their requests to arrive in one burst: those beyond the driver's 512 frames would be
# lost, and clients back off exponentially.
device=net_af_packet0,iface=sunder0,framecnt=8192
start_sunder "$log" "$server" --device "$device" --address 10.77.0.1/24 --workers 1 --huge off \
    --poll adaptive --max-connections 16000
ip netns exec "$client" "$examples/many_connections" 10.77.0.1:11211 \
    --connections "$connections" --server-pid "$sunder_pid" \
    --bytes-per-connection-max "$bytes_max"
end_process "$sunder_pid"
