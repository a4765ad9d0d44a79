# shellcheck shell=bash
# Changes in the network during connections: neighbours that move, narrow paths, addresses in use by
# another host, switches with MLD snooping. Sourced by tests/appliance.sh.
# shellcheck disable=SC2154,SC2034 # what that script sets, and what it reads

# The rest of a device's arguments on the wire of make_pair.
wire_device=(-p 11211 --device "net_af_packet0,iface=sunder0" --poll adaptive --huge off)

# A client's NIC fails over: 1.5 s without traffic, then another MAC, while it reads. Its kernel sends
# again 3.0 and 6.2 s after the first loss; on a busy host the NIC is not ready for the first of these.
moves_on_fail_over() {
    local to=$1 mac=$2 status=0
    inside target/venv/bin/python tests/clients/readers.py "$to" 7 7 &
    local reader_pid=$!
    sleep 1.5
    inside ip link set client0 down
    sleep 1.5
    inside ip link set client0 address "$mac"
    inside ip link set client0 up
    inside ip address replace fd77::2/64 dev client0 nodad
    wait "$reader_pid" || status=$?
    return "$status"
}

# refuses_address ADDRESS WORDS: a start with it fails, with these words.
refuses_address() {
    local said status=0
    said=$(ip netns exec "$server" "$sunder_binary" serve "${wire_device[@]}" --workers 1 \
        --address "$1" 2>&1) || status=$?
    say "$said"
    [ "$status" -ne 0 ] && [[ $said == *"$2"* ]]
}

announces_at_link_up() {
    local status=0 line
    coproc { exec ip netns exec "$client" target/venv/bin/python tests/clients/frames.py announced; }
    local listener_pid=$COPROC_PID
    read -r line <&"${COPROC[0]}" && [ "$line" = listening ] || return 1
    ip -n "$server" link set sunder0 down
    sleep 0.6
    ip -n "$server" link set sunder0 up
    wait "$listener_pid" || status=$?
    return "$status"
}

# follows_device_mtu BYTES: a longer answer arrives although the interface's MTU is smaller.
follows_device_mtu() {
    local bytes
    ip -n "$server" link set sunder0 mtu "$1"
    # As often as it is checked, plus one.
    sleep 0.6
    bytes=$(printf 'get read\r\n' | inside nc -N -w 5 10.77.0.1 11211 | wc -c)
    ip -n "$server" link set sunder0 mtu 1500
    [ "$bytes" -eq $((1400 + 19 + 7)) ]
}

# A SYN flood is one line, which says what to do.
tells_of_flood() {
    inside target/venv/bin/python tests/clients/frames.py flood || return 1
    says 'handshakes were dropped, .* --allow' || return 1
    [ "$(grep -c 'handshakes were dropped' "$logs/sunder")" -eq 1 ]
}

answers_tagged() { inside target/venv/bin/python tests/clients/frames.py tagged; }

on_moving_wire() {
    begin "a moving neighbour, workers 2" "$server" "${wire_device[@]}" --workers 2 \
        --address 10.77.0.1/24 --address fd77::1/64 || return 0
    check "another MAC after an outage, IPv4" moves_on_fail_over 10.77.0.1 02:00:00:00:77:11
    check "another MAC after an outage, IPv6" moves_on_fail_over fd77::1 02:00:00:00:77:12
    check "a second server on the interface is refused" refuses_address 10.77.0.1/24 "another sunder"
    check "an IPv4 address of another host is refused" refuses_address 10.77.0.2/24 "has it on this"
    check "an IPv6 address of another host is refused" refuses_address fd77::2/64 "has it on this"
    check "the device's MTU is followed" follows_device_mtu 1000
    check "a priority-tagged frame is answered" answers_tagged
    check "a SYN flood is told" tells_of_flood
    check "addresses are announced when the link comes up" announces_at_link_up
    host=10.77.0.1
    finish
}

# An idle connection is there after the process was stopped for longer than a
# connection may be idle.
survives_pause() {
    local answer idle_pid
    coproc { exec ip netns exec "$client" nc 10.77.0.1 11211; }
    idle_pid=$COPROC_PID
    printf 'get nothing\r\n' >&"${COPROC[1]}"
    read -r -t 5 answer <&"${COPROC[0]}"
    [ "$answer" = $'END\r' ] || return 1
    kill -STOP "$sunder_pid"
    sleep 9
    kill -CONT "$sunder_pid"
    # All connections were looked at by then.
    sleep 4.5
    answer=
    printf 'get nothing\r\n' >&"${COPROC[1]}" || true
    read -r -t 5 answer <&"${COPROC[0]}" || true
    say "$answer"
    end_process "$idle_pid" || true
    [ "$answer" = $'END\r' ]
}

on_paused_wire() {
    begin "a process that is stopped, workers 2" "$server" "${wire_device[@]}" --workers 2 \
        --address 10.77.0.1/24 --idle-timeout 8 || return 0
    check "a pause of 9 s ends no connection" survives_pause
    host=10.77.0.1
    finish
}

# A path of 1,400 bytes between sunder and the client, whose own link takes 1,500.
make_routed() {
    local router=$1 far=$2 link address
    make_namespace "$router"
    make_namespace "$far"
    ip netns exec "$router" sysctl -q -w net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
    ip link add sunder1 netns "$server" type veth peer name near0 netns "$router"
    ip link add client1 netns "$far" type veth peer name far0 netns "$router"
    for link in near0 far0; do
        ip netns exec "$router" ethtool -K "$link" tx off tso off gso off gro off >/dev/null
    done
    ip netns exec "$far" ethtool -K client1 tx off tso off gso off gro off >/dev/null
    ip -n "$router" address add 10.80.0.254/24 dev near0
    ip -n "$router" address add fd80::fe/64 dev near0 nodad
    ip -n "$router" address add 10.81.0.254/24 dev far0
    ip -n "$router" address add fd81::fe/64 dev far0 nodad
    ip -n "$router" link set far0 mtu 1400
    ip -n "$far" address add 10.81.0.2/24 dev client1
    ip -n "$far" address add fd81::2/64 dev client1 nodad
    ip -n "$server" link set sunder1 up
    for address in near0 far0; do ip -n "$router" link set "$address" up; done
    ip -n "$far" link set client1 up
    # It announces a large segment size, and sends none itself.
    ip -n "$far" route add 10.80.0.0/24 via 10.81.0.254 mtu 1400 advmss 1460
    ip -n "$far" route add fd80::/64 via fd81::fe mtu 1400 advmss 1440
}

# long_answer HOST: a value that does not fit into a packet of the path.
long_answer() {
    local answer
    # The answer to the set, then head, value and end.
    answer=$(printf 'set long 0 0 3000\r\n%03000d\r\nget long\r\n' 0 |
        inside nc -N -w 10 "$1" 11211 | wc -c)
    say "$answer bytes"
    [ "$answer" -eq $((8 + 19 + 3000 + 7)) ]
}

# Reports of the router that were accepted, by more than one worker.
was_narrowed() {
    local lowered
    lowered=$(printf 'stats\r\n' | inside nc -N -w 5 10.80.0.1 11211 |
        sed -n 's/^STAT path_mtu_lowered \([0-9]*\)\r$/\1/p')
    say "$lowered"
    [ "$lowered" -ge 2 ]
}

on_narrow_path() {
    local router=sunder-test-$$-router far=sunder-test-$$-far near=$client
    make_routed "$router" "$far"
    client=$far
    if begin "a path of 1,400 bytes, workers 2" "$server" -p 11211 --workers 2 --poll adaptive \
        --huge off --device net_af_packet0,iface=sunder1 --address 10.80.0.1/24 \
        --address fd80::1/64; then
        check "a long answer over IPv4" long_answer 10.80.0.1
        check "a long answer over IPv6" long_answer fd80::1
        check "and again" long_answer 10.80.0.1
        check "the router was believed" was_narrowed
        host=10.80.0.1
        finish
    fi
    client=$near
}

# knows_group SWITCH [TRIES]: the bridge knows the solicited-node group at sunder's port.
knows_group() {
    local i
    for ((i = 0; i < ${2:-200}; i++)); do
        ip netns exec "$1" bridge mdb show dev br0 | grep -q 'port snooped0 grp ff02::1:ff00:1 ' &&
            return 0
        sleep 0.05
    done
    ip netns exec "$1" bridge mdb show dev br0
    return 1
}

# A switch that forwards multicast only to listeners, after its querier has started.
on_snooping_switch() {
    local switch=sunder-test-$$-switch far=sunder-test-$$-seen near=$client
    make_namespace "$switch"
    make_namespace "$far"
    ip link add sunder2 netns "$server" type veth peer name snooped0 netns "$switch"
    ip link add client2 netns "$far" type veth peer name snooped1 netns "$switch"
    ip -n "$switch" link add br0 type bridge mcast_snooping 1 mcast_querier 1 \
        mcast_query_response_interval 50 mcast_startup_query_interval 50 \
        mcast_query_interval 100 mcast_membership_interval 250
    ip -n "$switch" link set snooped0 master br0
    ip -n "$switch" link set snooped1 master br0
    ip netns exec "$far" ethtool -K client2 tx off tso off gso off gro off >/dev/null
    ip -n "$far" address add fd82::2/64 dev client2 nodad
    ip -n "$server" link set sunder2 up
    for link in snooped0 snooped1 br0; do ip -n "$switch" link set "$link" up; done
    ip -n "$far" link set client2 up
    client=$far
    if begin "a switch that looks into MLD" "$server" -p 11211 --workers 1 --poll adaptive \
        --huge off --device net_af_packet0,iface=sunder2 --address fd82::1/64; then
        check "its group is known" knows_group "$switch"
        check "it is found" found_by_solicitation
        # A group that answers no query is removed after 2.5 s.
        sleep 3
        check "its group is still known" knows_group "$switch" 1
        host=fd82::1
        finish
    fi
    client=$near
}

found_by_solicitation() {
    local i
    # The querier starts a moment after the bridge came up; from then on group membership applies.
    for i in 1 2 3 4; do
        inside ip neigh flush dev client2
        [ "$(printf 'get nothing\r\n' | inside nc -N -w 5 fd82::1 11211)" = $'END\r' ] || return 1
        sleep 0.5
    done
}

on_networks() {
    on_moving_wire
    on_paused_wire
    on_narrow_path
    on_snooping_switch
}
