#!/usr/bin/env bash
# The kernel's TCP and sunder's on the same faulty wire: how fast the same verified load runs. A
# measurement for docs/MEASUREMENTS.md and not a test; needs root.
#
#   tests/compare_tcp.sh [MEGABYTES EACH WAY] [FAULTS OF EACH KIND IN A MILLION FRAMES]
#   sunder_binary  the server and the client                                  (from the environment)
set -euo pipefail
. "$(dirname "$0")/../scripts/lib.sh"
cd "$project"

: "${sunder_binary:?}"
[ "$(id -u)" -eq 0 ] || fail "needs root, for network namespaces"
megabytes=${1:-100}
faults_ppm=${2:-10000}

server=sunder-compare-$$-server
client=sunder-compare-$$-client
wire=sunder-compare-$$-wire
log=$(mktemp)
on_exit rm -f -- "$log"

# connect NAMESPACE INTERFACE END: a veth pair from NAMESPACE to the wire's END, without offloads.
connect() {
    ip link add "$2" netns "$1" type veth peer name "$3" netns "$wire"
    ip netns exec "$1" ethtool -K "$2" tx off tso off gso off gro off >/dev/null
    ip netns exec "$wire" ethtool -K "$3" tx off tso off gso off gro off >/dev/null
    ip -n "$1" link set "$2" up
    ip -n "$wire" link set "$3" up
}

make_namespace "$server"
make_namespace "$client"
make_namespace "$wire"
for namespace in "$server" "$wire"; do
    ip netns exec "$namespace" sysctl -q -w net.ipv6.conf.all.disable_ipv6=1
    ip netns exec "$namespace" sysctl -q -w net.ipv6.conf.default.disable_ipv6=1
done
connect "$server" sunder0 end0
connect "$client" client0 end1
ip -n "$client" address add 10.77.0.2/24 dev client0

touch "$log.wire"
ip netns exec "$wire" python3 tests/bad_wire.py 1 "$faults_ppm" end0 end1 >"$log.wire" 2>&1 &
wire_pid=$!
on_exit end_process "$wire_pid"
on_exit rm -f -- "$log.wire"
for ((i = 0; i < 500; i++)); do
    grep -q ready "$log.wire" && break
    sleep 0.01
done

# load NAME: the same load for each server, one connection and twenty.
load() {
    local connections
    for connections in 1 20; do
        printf '%-28s %2d connections: ' "$1" "$connections"
        # Of four pairs three values are set and three are read back.
        ip netns exec "$client" "$sunder_binary" setget 10.77.0.1:11211 --duration 120 \
            --num-ops "$((megabytes * 10 * 4 / 3))" --value-bytes 100000 --key-length 2 \
            --workers "$connections" | awk -v megabytes="$megabytes" \
            '/ requests in / { printf "%.1f MB/s both ways, %s\n", 2 * megabytes / $4, $0 }'
    done
}

start_sunder "$log" "$server" --device net_af_packet0,iface=sunder0 --address 10.77.0.1/24 \
    --workers 1 --huge off --poll adaptive --l1 memory,size=256M
load "sunder over DPDK"
end_process "$sunder_pid"

ip -n "$server" address add 10.77.0.1/24 dev sunder0
read -ra congestions </proc/sys/net/ipv4/tcp_allowed_congestion_control
for congestion in "${congestions[@]}"; do
    ip netns exec "$server" sysctl -q -w net.ipv4.tcp_congestion_control="$congestion"
    start_sunder "$log" "$server" --bind 10.77.0.1 --workers 1 --l1 memory,size=256M
    load "sunder over the kernel, $congestion"
    end_process "$sunder_pid"
    ip netns exec "$server" memcached -u nobody -t 1 -m 256 -l 10.77.0.1 -p 11211 &
    memcached_pid=$!
    on_exit end_process "$memcached_pid"
    for ((i = 0; i < 500; i++)); do
        ip netns exec "$client" nc -z -w 1 10.77.0.1 11211 && break
        sleep 0.01
    done
    load "memcached, $congestion"
    end_process "$memcached_pid" || true
done
