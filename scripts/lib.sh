# shellcheck shell=bash
# Shared by the scripts: messages, cleanup, namespaces, servers. Sourced, never run.
#
# Everything created here is registered with on_exit where it is created, and processes are ended by
# the id of the one that was started, never by name.

# The binary that start_sunder starts; a script may set another.
sunder_binary=${sunder_binary:-target/release/sunder}

project=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

say() { printf '%s\n' "$*"; }
fail() {
    printf '%s: %s\n' "$(basename "$0")" "$*" >&2
    exit 1
}

# on_exit COMMAND WORD..: runs it at the end, last registered first, however the script ends. Its
# words are kept unchanged, so that a path stays one word whatever it contains: never a line of
# shell.
exit_commands=()
on_exit() {
    local words
    printf -v words '%q ' "$@"
    exit_commands+=("$words")
    trap run_exit_commands EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
}
run_exit_commands() {
    local status=$? i
    trap - EXIT
    trap '' INT TERM HUP USR1
    for ((i = ${#exit_commands[@]} - 1; i >= 0; i--)); do
        eval "${exit_commands[i]}" || true
    done
    exit "$status"
}

# Restarts the calling script as root, keeping the environment that cargo needs. Call with "$@".
become_root() {
    [ "$(id -u)" -eq 0 ] && return
    command -v sudo >/dev/null || fail "needs root, and there is no sudo: run it as root"
    say "Needs root for network namespaces; asking sudo."
    exec sudo env PATH="$PATH" HOME="$HOME" CARGO_HOME="${CARGO_HOME:-$HOME/.cargo}" \
        RUSTUP_HOME="${RUSTUP_HOME:-$HOME/.rustup}" "$project/scripts/$(basename "$0")" "$@"
}

# Files that root wrote below target/ are given back to the caller of sudo.
give_back_target() {
    [ -n "${SUDO_UID:-}" ] || return 0
    chown -R "$SUDO_UID:${SUDO_GID:-$SUDO_UID}" "$project/target"
}

# is_own PID: whether it is a child of this script that has not ended. An id that was reused by
# another process is not.
is_own() {
    local parent state
    read -r parent state < <(ps -o ppid=,stat= -p "$1") || return 1
    # Not $$, which in a subshell is its parent's.
    [ "$parent" = "$BASHPID" ] && [ "${state:0:1}" != Z ]
}

# end_process PID: SIGTERM, up to ten seconds, SIGKILL. Returns the child's exit status.
end_process() {
    local pid=$1 i
    is_own "$pid" && kill -TERM "$pid"
    for ((i = 0; i < 1000; i++)); do
        is_own "$pid" || break
        sleep 0.01
    done
    is_own "$pid" && kill -KILL "$pid"
    wait "$pid" 2>/dev/null
}

# put VALUE FILE: writes a line to a file of the kernel.
put() { printf '%s\n' "$1" >"$2"; }

# make_namespace NAME: with its loopback up; removed at the end.
make_namespace() {
    ip netns add "$1"
    on_exit ip netns del "$1"
    ip -n "$1" link set lo up
    # A test opens and closes tens of thousands of connections: ports in TIME-WAIT would run out.
    ip netns exec "$1" sysctl -q -w net.ipv4.tcp_max_tw_buckets=64
    ip netns exec "$1" sysctl -q -w net.ipv4.ip_local_port_range='1024 65535'
}

# make_pair SERVER CLIENT: two namespaces connected by a veth pair. The server's end, sunder0, gets
# no address: sunder uses it. The client's end, client0, gets 10.77.0.2/24 and fd77::2/64.
make_pair() {
    local server=$1 client=$2
    make_namespace "$server"
    make_namespace "$client"
    # The kernel must not send on the wire that sunder uses.
    ip netns exec "$server" sysctl -q -w net.ipv6.conf.all.disable_ipv6=1
    ip netns exec "$server" sysctl -q -w net.ipv6.conf.default.disable_ipv6=1
    ip link add sunder0 netns "$server" type veth peer name client0 netns "$client"
    # net_af_packet sees frames before a NIC would complete them: the checksums that the client's
    # kernel leaves to its NIC, and segments larger than a frame.
    ip netns exec "$client" ethtool -K client0 tx off tso off gso off gro off >/dev/null
    ip -n "$client" address add 10.77.0.2/24 dev client0
    ip -n "$client" address add fd77::2/64 dev client0 nodad
    ip -n "$server" link set sunder0 up
    ip -n "$client" link set client0 up
}

# await_line PATTERN FILE PID: whether the child writes such a line within 30 s, before it ends.
await_line() {
    local i
    for ((i = 0; i < 3000; i++)); do
        grep -q -- "$1" "$2" && return 0
        is_own "$3" || break
        sleep 0.01
    done
    return 1
}

# start_sunder LOG NAMESPACE ARGUMENTS..: sets sunder_pid when it serves. "-" means no namespace.
start_sunder() {
    local log=$1 namespace=$2
    shift 2
    local enter=()
    [ "$namespace" = - ] || enter=(ip netns exec "$namespace")
    # Truncated here: the child would do it only when it runs, and until then the log would contain
    # the lines of an earlier start.
    : >"$log"
    # ip executes the command in its own process, so the id is sunder's.
    "${enter[@]}" "$sunder_binary" serve "$@" >"$log" 2>&1 &
    sunder_pid=$!
    on_exit end_process "$sunder_pid"
    await_line '^sunder: ready' "$log" "$sunder_pid" && return 0
    say "sunder serve $* does not serve:"
    sed 's/^/    /' "$log"
    return 1
}

# reserve_hugepages COUNT: of 2 MiB, in total; the previous number is restored at the end.
reserve_hugepages() {
    local count=$1 file=/proc/sys/vm/nr_hugepages before
    before=$(cat "$file")
    [ "$before" -ge "$count" ] && return
    on_exit put "$before" "$file"
    echo "$count" >"$file"
    [ "$(cat "$file")" -ge "$count" ] || fail "no memory for $count hugepages of 2 MiB"
}

# make_venv: the Python clients in fixed versions, in target/venv; created once per set of versions.
python_clients=(pymemcache==4.0.0 python-binary-memcached==0.33.0 pylibmc==1.6.3
    meta-memcache==4.3.0 meta-memcache-socket==0.3.1)
make_venv() {
    local venv=$project/target/venv stamp
    stamp=$(printf '%s\n' "${python_clients[@]}")
    [ "$(cat "$venv/.stamp" 2>/dev/null)" = "$stamp" ] && return
    rm -rf "$venv"
    /usr/bin/python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check "${python_clients[@]}"
    printf '%s\n' "$stamp" >"$venv/.stamp"
}

# make_ruby: a root in target/ruby with Debian 13's Ruby and the Dalli of Debian's unstable, the
# current release: Debian 12's Ruby is too old for it. Created once.
make_ruby() {
    local root=$project/target/ruby
    [ ! -e "$root/.complete" ] || return 0
    rm -rf "$root"
    # A mirror may be older than a release file says it may.
    mmdebstrap --quiet --variant=extract --aptopt='Acquire::Check-Valid-Until "false"' \
        --aptopt='APT::Default-Release "trixie"' --include=ruby,ruby-dalli/sid,base-files \
        trixie "$root" "deb http://deb.debian.org/debian trixie main" \
        "deb http://deb.debian.org/debian sid main"
    touch "$root/.complete"
}

# refuse WORDS: reports a wrong argument, with its exit status.
refuse() {
    printf '%s: %s; see --help\n' "$(basename "$0")" "$*" >&2
    exit 2
}

# number NAME VALUE MAX: refuses the argument --NAME unless it is a whole number from 1 to MAX.
number() {
    [[ $2 =~ ^[1-9][0-9]{0,8}$ && $2 -le $3 ]] || refuse "--$1 '$2': not 1 to $3"
}

# two_cores LIST: sets client_core and server_core, or refuses --cores.
two_cores() {
    [[ $1 =~ ^([0-9]{1,3}),([0-9]{1,3})$ ]] || refuse "--cores '$1': not two cores"
    # shellcheck disable=SC2034 # for who calls
    client_core=${BASH_REMATCH[1]} server_core=${BASH_REMATCH[2]}
    [ "$client_core" != "$server_core" ] || refuse "--cores '$1': the same core twice"
}
