#!/usr/bin/env bash
# Real clients with whole compositions: kernel sockets, and DPDK devices in network namespaces. Run
# by scripts/test.sh, as root; prints 'N passed, N failed' last.
#
#   sunder_binary  the server      wire_binary  the built tests/wire      (from the environment)
set -euo pipefail
. "$(dirname "$0")/../scripts/lib.sh"
cd "$project"
. tests/network.sh

: "${sunder_binary:?}" "${wire_binary:?}"
[ "$(id -u)" -eq 0 ] || fail "needs root, for network namespaces"
make_venv
make_ruby

passed=0
failed=0
logs=$(mktemp -d)
on_exit rm -rf -- "$logs"

# check NAME COMMAND..: one test; the command's output is shown if it fails. Sets $status.
check() {
    local name="$composition: $1" started=$SECONDS
    shift
    status=0
    "$@" >"$logs/check" 2>&1 || status=$?
    if [ "$status" -eq 0 ]; then
        passed=$((passed + 1))
        say "ok      $name ($((SECONDS - started)) s)"
    else
        failed=$((failed + 1))
        say "FAILED  $name (status $status)"
        tail -n 60 "$logs/check" | sed 's/^/    /'
    fi
}

# The conformance tool of libmemcached: all its 54 tests, each must pass.
memccapable_passes() {
    inside memccapable -h "$host" -p 11211 -t 10 | tee "$logs/memccapable"
    [ "$(grep -c '\[pass\]$' "$logs/memccapable")" -eq 54 ]
}

# wire_table EVERY [PORT]: the wire table at every EVERY-th cut; each of its cases is a test.
wire_table() {
    local status=0 ok bad
    inside env ${general:+SUNDER_WIRE_GENERAL=1} SUNDER_WIRE_TARGET="$host:${2:-11211}" \
        SUNDER_WIRE_EVERY="$1" "$wire_binary" \
        >"$logs/wire" 2>&1 || status=$?
    grep -v '^test result' "$logs/wire" | tail -n 40
    read -r _ _ ok _ bad _ < <(grep '^test result' "$logs/wire") || return 1
    passed=$((passed + ok))
    failed=$((failed + bad))
    return "$status"
}

# client_session NAME [ARGUMENT]
client_session() {
    inside env PYTHONDONTWRITEBYTECODE=1 target/venv/bin/python "tests/clients/$1_session.py" \
        "$host" 11211 "${@:2}"
}

# Its Ruby runs in a root of its own, so it reads the session from standard input.
dalli_session() {
    inside env LC_ALL=C.UTF-8 chroot target/ruby ruby -W0 - "$host" 11211 "$@" \
        <tests/clients/dalli_session.rb
}

inside() { ip netns exec "$client" "$@"; }

# A client that half-closes gets all its replies and then a close (nc -N).
half_close() {
    local answer
    answer=$(printf 'set half 0 0 1\r\nx\r\nget half\r\n' | inside nc -N -w 10 "$host" 11211)
    [ "$answer" = $'STORED\r\nVALUE half 0 1\r\nx\r\nEND\r' ]
}

# The connection that asks is in the list, with both its addresses.
conns_are_listed() {
    local answer
    answer=$(printf 'stats conns\r\nquit\r\n' | inside nc -w 10 "$host" 11211)
    printf '%s\n' "$answer"
    grep -q ':state conn_parse_cmd' <<<"$answer" &&
        grep -q ":listen_addr tcp:$host:11211" <<<"$answer" &&
        [ "$(tail -n 1 <<<"$answer")" = $'END\r' ]
}

# A binary noop has a newline as its opcode.
packet_is_a_line() {
    local answer noop='\x80\n\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0'
    answer=$(printf %b "$noop\r\nget nothing\r\nquit\r\n" | inside nc -w 10 "$host" 11211)
    [ "$answer" = $'ERROR\r\nERROR\r\nEND\r' ]
}

answers_ping() { inside ping -c 3 -i 0.2 -W 5 "$1"; }

answers_ipv6() {
    [ "$(printf 'get nothing\r\nquit\r\n' | inside nc -w 10 fd77::1 11211)" = $'END\r' ]
}

load_is_right() {
    inside "$sunder_binary" setget "$host:11211" --no-loss "$@"
}

stops_cleanly() {
    # With an idle client connected.
    coproc { exec ip netns exec "$client" nc "$host" 11211; }
    local idle_pid=$COPROC_PID status=0
    end_process "$sunder_pid" || status=$?
    end_process "$idle_pid" || true
    [ "$status" -eq 0 ]
}

# The tests of every composition; sunder is running already.
everything() {
    check "memccapable, 54 of 54" memccapable_passes
    check "pymemcache" client_session pymemcache
    check "python-binary-memcached" client_session bmemcached
    check "pylibmc" client_session pylibmc
    check "pymemcache, meta" client_session pymemcache_meta
    check "Dalli" dalli_session
    check "half-close" half_close
    check "stats conns" conns_are_listed
    check "load, every value checked" load_is_right --num-ops 10k --workers 50 --value-bytes 100
    check "load with values of 100,000 bytes" load_is_right --num-ops 1k --workers 20 \
        --value-bytes 100000 --key-length 1
}

# A slow reader of 800,000 bytes gets all of them, and a close, from a sunder that was told to stop.
delivers_before_it_stops() {
    local status=0
    inside /usr/bin/python3 tests/clients/slow_reader.py "$host" 11211 "$sunder_pid"
    wait "$sunder_pid" || status=$?
    [ "$status" -eq 0 ]
}

# begin NAME NAMESPACE ARGUMENTS..: starts sunder for one composition.
begin() {
    composition=$1
    local namespace=$2
    shift 2
    check "starts" start_sunder "$logs/sunder" "$namespace" "$@"
    [ "$status" -eq 0 ]
}

# finish: ends it; its output is shown if it did not end well.
finish() {
    check "stops with status 0 on SIGTERM" stops_cleanly
    cat "$logs/sunder" >>"$logs/all"
}

listens() {
    for _ in {1..100}; do
        ! inside nc -z "$host" 11211 || return 0
        sleep 0.1
    done
    return 1
}

# The sessions in meta with a real memcached: what they assert is what it does.
on_memcached() {
    composition="memcached"
    # Without inside: the id of a function would be that of a shell.
    ip netns exec "$client" memcached -u root -U 0 -l 127.0.0.1 -p 11211 &
    memcached_pid=$!
    on_exit end_process "$memcached_pid"
    check "starts" listens
    check "pymemcache, meta" client_session pymemcache_meta old
    check "meta-memcache" client_session meta_memcache
    check "Dalli" dalli_session old
    end_process "$memcached_pid" || true
}

on_kernel_sockets() {
    local workers=$1
    begin "kernel sockets, workers $workers" "$client" -p 11211 --workers "$workers" || return 0
    # First: it takes no cas of more than 32 bits (docs/DIFFERENCES.md).
    check "meta-memcache" client_session meta_memcache
    everything
    finish
}

# on_wire WORKERS EVERY ARGUMENTS..: net_af_packet at the end of a veth pair; the wire table at every
# EVERY-th cut.
on_wire() {
    local workers=$1 every=$2
    shift 2
    begin "net_af_packet, workers $workers $*" "$server" -p 11211 --workers "$workers" \
        --device net_af_packet0,iface=sunder0 --address 10.77.0.1/24 --address fd77::1/64 \
        --poll adaptive "$@" || return 0
    # First, while it is still empty.
    check "the wire table" wire_table "$every"
    check "ICMP echo" answers_ping 10.77.0.1
    check "ICMPv6 echo" answers_ping fd77::1
    check "IPv6" answers_ipv6
    everything
    finish
}

# on_wire_stop WORKERS: how it stops on a device.
on_wire_stop() {
    local workers=$1
    begin "net_af_packet, stop, workers $workers" "$server" --workers "$workers" \
        --device net_af_packet0,iface=sunder0 --address 10.77.0.1/24 --huge off \
        --poll adaptive || return 0
    check "a slow reader gets all before it stops" delivers_before_it_stops
}

# on_wire_login: real clients that have to log in.
on_wire_login() {
    printf 'alice:secret\n' >"$logs/users"
    begin "net_af_packet, --auth-file" "$server" --workers 2 --auth-file "$logs/users" \
        --device net_af_packet0,iface=sunder0 --address 10.77.0.1/24 --huge off \
        --poll adaptive || return 0
    check "python-binary-memcached and pylibmc log in" client_session login
    finish
}

# on_wire_ascii: a port that speaks text only.
on_wire_ascii() {
    begin "net_af_packet, --protocol ascii" "$server" --workers 2 --protocol ascii \
        --device net_af_packet0,iface=sunder0 --address 10.77.0.1/24 --huge off \
        --poll adaptive || return 0
    check "pymemcache" client_session pymemcache
    check "a packet is a line" packet_is_a_line
    finish
}

# on_wire_young: a client that takes no cas of more than 32 bits, which a server has that has stored
# 4 GiB.
on_wire_young() {
    begin "net_af_packet, young" "$server" --workers 2 \
        --device net_af_packet0,iface=sunder0 --address 10.77.0.1/24 --huge off \
        --poll adaptive || return 0
    check "meta-memcache" client_session meta_memcache
    finish
}

# says WORDS: sunder prints them on a line, within ten seconds.
says() {
    for _ in {1..100}; do
        ! grep -q "^sunder: .*$1" "$logs/sunder" || return 0
        sleep 0.1
    done
    cat "$logs/sunder"
    return 1
}

# shows NAME VALUE: stats shows that value within ten seconds.
shows() {
    for _ in {1..100}; do
        if printf 'stats\r\nquit\r\n' | inside nc -w 10 "$host" 11211 |
            grep -q "^STAT $1 $2"$'\r'; then
            return 0
        fi
        sleep 0.1
    done
    return 1
}

link_falls_and_rises() {
    shows device_link_up 1 && shows device_rx_missed 0 || return 1
    ip -n "$client" link set client0 down
    says 'is down and no client is served through it' || return 1
    ip -n "$client" link set client0 up
    says 'is up again' && shows device_link_up 1
}

ends_with_its_device() {
    local status=0
    ip -n "$server" link delete sunder0
    wait "$sunder_pid" || status=$?
    [ "$status" -eq 4 ] && says 'is gone'
}

# on_wire_lost: the reports about a link that goes down, and about a device that is removed. The
# wire does not exist afterwards.
on_wire_lost() {
    begin "net_af_packet, lost" "$server" --workers 2 \
        --device net_af_packet0,iface=sunder0 --address 10.77.0.1/24 --huge off \
        --poll adaptive || return 0
    check "a link that goes down and up is reported" link_falls_and_rises
    check "it ends with its device, with status 4" ends_with_its_device
}

# A second wire between the two namespaces, from wire2client to wire2server.
second_wire() {
    ip link add wire2server netns "$server" type veth peer name wire2client netns "$client"
    inside ethtool -K wire2client tx off tso off gso off gro off >/dev/null
    ip -n "$client" address add 10.83.0.2/24 dev wire2client
    ip -n "$server" link set wire2server up
    ip -n "$client" link set wire2client up
}

# is_stored KEY VALUE HOST: through that address.
is_stored() {
    local answer
    answer=$(printf 'get %s\r\nquit\r\n' "$1" | inside nc -w 10 "$3" 11211)
    [ "$answer" = "VALUE $1 0 ${#2}"$'\r\n'"$2"$'\r\nEND\r' ]
}

# What one address stored the others have.
addresses_share_items() {
    local n
    for n in 77 83; do
        printf 'set from%s 0 0 2\r\n%s\r\nquit\r\n' "$n" "$n" |
            inside nc -w 10 "10.$n.0.1" 11211 | grep -q '^STORED' || return 1
    done
    is_stored from77 77 10.83.0.1 && is_stored from83 83 10.77.0.1
}

# Clients of both devices are in one list, each with a number of its own.
devices_share_a_list() {
    local answer held
    coproc { exec ip netns exec "$client" nc 10.83.0.1 11211; }
    held=$COPROC_PID
    sleep 0.5
    answer=$(printf 'stats conns\r\nquit\r\n' | inside nc -w 10 10.77.0.1 11211)
    end_process "$held" || true
    printf '%s\n' "$answer"
    grep -q ':listen_addr tcp:10.83.0.1:11211' <<<"$answer" &&
        grep -q ':listen_addr tcp:10.77.0.1:11211' <<<"$answer" &&
        [ -z "$(grep ':addr tcp' <<<"$answer" | awk '{ print $2 }' | sort | uniq -d)" ]
}

# Of two devices each has its own link, and its own end.
one_of_two_is_lost() {
    shows device_link_up 1 || return 1
    ip -n "$client" link set wire2client down
    says 'the link of net_af_packet1.* is down' && shows device_link_up 0 || return 1
    is_stored from77 77 10.77.0.1 || return 1
    ip -n "$client" link set wire2client up
    says 'the link of net_af_packet1.* is up again' && shows device_link_up 1 || return 1
    is_stored from77 77 10.83.0.1 || return 1
    ip -n "$server" link delete wire2server
    says 'net_af_packet1.* is gone' && shows device_link_up 0 && is_stored from77 77 10.77.0.1
}

# on_two_devices: both are served by each worker.
on_two_devices() {
    second_wire
    begin "two devices" "$server" --workers 2 --poll adaptive --huge off \
        --device net_af_packet0,iface=sunder0 --device net_af_packet1,iface=wire2server \
        --address 10.77.0.1/24,device=net_af_packet0 \
        --address 10.83.0.1/24,device=net_af_packet1 || return 0
    host=10.83.0.1
    check "the wire table" wire_table 1000
    check "ICMP echo" answers_ping "$host"
    check "pymemcache" client_session pymemcache
    check "load, every value checked" load_is_right --num-ops 10k --workers 50 --value-bytes 100
    host=10.77.0.1
    check "pymemcache on the other" client_session pymemcache
    check "load on the other" load_is_right --num-ops 10k --workers 50 --value-bytes 100
    check "items are the same on both" addresses_share_items
    check "connections are in one list" devices_share_a_list
    check "one of them is lost" one_of_two_is_lost
    finish
}

# local_memcached NAME: one thread on the Unix socket $logs/NAME. Sets $memcached_pid.
local_memcached() {
    rm -f "$logs/$1"
    memcached -u root -t 1 -m 64 -s "$logs/$1" &
    memcached_pid=$!
    on_exit end_process "$memcached_pid"
    for _ in {1..100}; do
        [ ! -S "$logs/$1" ] || return 0
        sleep 0.05
    done
    return 1
}

# on_wire_tiers WORKERS NAME L1 PORT [L2]: one composition of tiers, each case in one piece and cut
# once; its memcacheds are new, their sockets $logs/l1 and $logs/l2.
on_wire_tiers() {
    local workers=$1 name=$2 l1=$3 port=$4 l2=${5:-none} l1_pid l2_pid general=yes
    local_memcached l1 && l1_pid=$memcached_pid
    local_memcached l2 && l2_pid=$memcached_pid
    begin "net_af_packet, $name, workers $workers" "$server" --workers "$workers" \
        --device net_af_packet0,iface=sunder0 --address 10.77.0.1/24 --poll adaptive \
        --l1 "$l1" --l2 "$l2" || return 0
    check "the wire table" wire_table 1000 "$port"
    finish
    end_process "$l1_pid" || true
    end_process "$l2_pid" || true
}

# Every L1 with every orchestrator; memory alone was tested at every cut.
on_wire_all_tiers() {
    # Long time-outs: a memcached must not be considered frozen on a slow machine.
    local workers=$1 name l1 l2=memcached,addr=unix:$logs/l2,timeout=5000
    for name in memory plain chunked; do
        case $name in
            memory) l1=memory ;;
            *) l1=memcached,addr=unix:$logs/l1,layout=$name,timeout=5000 ;;
        esac
        [ "$name" = memory ] || on_wire_tiers "$workers" "$name, l1_only" "$l1" 11211
        on_wire_tiers "$workers" "$name, l1_l2" "$l1" 11211 "$l2"
        on_wire_tiers "$workers" "$name, l1_l2_batch" "$l1" 11212 "$l2"
    done
}

# net_tap: the wire is a tap device that sunder creates, its other end the kernel in the same
# namespace.
on_tap() {
    begin "net_tap" "$client" -p 11211 --workers 1 --device net_tap0,iface=tap0 \
        --address 10.78.0.1/24 --huge off --poll adaptive || return 0
    inside ip address add 10.78.0.2/24 dev tap0
    inside ip link set tap0 up
    check "the wire table" wire_table 7
    check "ICMP echo" answers_ping 10.78.0.1
    everything
    finish
}

server=sunder-test-$$-server
client=sunder-test-$$-client
make_pair "$server" "$client"

host=127.0.0.1
on_memcached
on_kernel_sockets 1
on_kernel_sockets 2
host=10.77.0.1
on_wire 1 1 --huge off
on_networks
host=10.77.0.1
on_wire_login
on_wire_ascii
on_wire_young
on_wire_stop 1
on_wire_stop 2
on_two_devices
reserve_hugepages 512
on_wire 2 3
on_wire_all_tiers 1
on_wire_all_tiers 2
host=10.78.0.1
on_tap
host=10.77.0.1
on_wire_lost

say "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
