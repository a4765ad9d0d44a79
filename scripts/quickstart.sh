#!/usr/bin/env bash
# Demonstrates the appliance on one machine: builds it, connects it to a virtual wire, sends
# requests like any memcached client, and runs a verified load.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
cd "$project"

usage="usage: scripts/quickstart.sh [--keep]
Builds the release and runs sunder on a DPDK device at one end of a virtual wire between two network
namespaces; sends requests from the other end, then runs a load and prints latencies.
  --keep   then keep running until ctrl-C, and print how to connect
Needs root for the namespaces (asks sudo). Leaves nothing behind but the build in target/."

keep=0
for argument in "$@"; do
    case "$argument" in
        --keep) keep=1 ;;
        --help | -h)
            say "$usage"
            exit 0
            ;;
        *) refuse "unknown argument '$argument'" ;;
    esac
done

# Run under sudo by the caller and by root, cargo builds only once: the second run finds the build.
scripts/setup.sh
say "1. Building the release (some minutes the first time)."
cargo build --quiet --release --bin sunder
become_root "$@"
on_exit give_back_target

server=sunder-quickstart-$$-server
client=sunder-quickstart-$$-client
address=10.77.0.1
port=11211
log=$(mktemp)
on_exit rm -f -- "$log"

say "2. Making two network namespaces and a wire (veth) between them:
   $server and $client."
make_pair "$server" "$client"

say "3. Starting sunder in the first, on DPDK's net_af_packet at its end of the wire. The kernel
   there has no address: $address is sunder's own, and so are ARP, IP and TCP."
serve=(--device 'net_af_packet0,iface=sunder0' --address "$address/24" -p "$port"
    --huge off --poll adaptive)
say "   sunder serve ${serve[*]}"
start_sunder "$log" "$server" "${serve[@]}" || exit 1

say "4. Talking to it from the second with nc, over the client kernel's TCP:"
coproc nc { exec ip netns exec "$client" nc "$address" "$port"; }
# shellcheck disable=SC2154 # coproc sets it
nc_pid_kept=$nc_PID
on_exit end_process "$nc_pid_kept"

# Reads one line of an answer, without its end, into $answer.
read_answer() {
    IFS= read -r -t 10 -u "${nc[0]}" answer || fail "no answer to '$asked' within 10 s"
    answer=${answer%$'\r'}
}
# ask LINE [BLOCK]: sends it.
ask() {
    asked=$1
    printf '%s\r\n' "$@" >&"${nc[1]}"
}
# session LINE.. -- ANSWER..: shows both sides, and fails on other answers.
session() {
    local line lines=()
    while [ "$1" != -- ]; do
        lines+=("$1")
        say "     > $1"
        shift
    done
    shift
    ask "${lines[@]}"
    for line in "$@"; do
        read_answer
        say "     < $answer"
        [ "$answer" = "$line" ] || fail "'$asked' was answered '$answer', expected '$line'"
    done
}

session 'get foo' -- END
session 'set foo 0 0 6' foobar -- STORED
session 'get foo' -- 'VALUE foo 0 6' foobar END
session 'touch foo 2' -- TOUCHED
session 'get foo' -- 'VALUE foo 0 6' foobar END
say "     (asking again until two seconds are over)"
started=$SECONDS
answer=
while [ "$answer" != END ]; do
    [ $((SECONDS - started)) -le 10 ] || fail "foo has not expired after 10 s"
    sleep 0.2
    ask 'get foo'
    read_answer
    [ "$answer" = END ] && break
    read_answer
    read_answer
    answer=
done
say "     > get foo"
say "     < END"
ask quit
# nc ends when neither side sends anything more.
nc_input=${nc[1]}
exec {nc_input}>&-
wait "$nc_pid_kept" || fail "the connection did not end well after quit"

say "5. Loading it: 50 connections, one request at a time each, 100-byte values, each one checked."
ip netns exec "$client" target/release/sunder setget "$address:$port" \
    --workers 50 --num-ops 100k --value-bytes 100 --no-loss --duration 60
say "   Every value was the right one."

if [ "$keep" -eq 1 ]; then
    say "6. Staying up. In another terminal, as root:
     ip netns exec $client nc $address $port
     ip netns exec $client memccapable -h $address -p $port
   ctrl-C ends sunder and removes both namespaces."
    trap 'say; say "Stopping."; exit 0' INT
    wait "$sunder_pid" || true
    fail "sunder has ended by itself: $(cat "$log")"
fi
say "6. Stopping sunder and removing both namespaces."
status=0
end_process "$sunder_pid" || status=$?
[ "$status" -eq 0 ] || fail "sunder ended with status $status: $(cat "$log")"
say "Done: everything answered as it should."
