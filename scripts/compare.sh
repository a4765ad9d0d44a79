#!/usr/bin/env bash
# One table: the throughput of memcached, nutcracker in front of it, and sunder in each of its
# configurations, on this machine in one run, and the fastest one relative to the packet rate of its
# link. One client on one core; everything else on another. All run alternately, round after round,
# so that other load on the machine affects all alike; a figure is the median of the rounds. A
# measurement: it fails if something does not run or answers wrongly, never because a figure is low.
#
#   sunder_binary  the server and the client [target/release/sunder, built first]  (environment)
set -euo pipefail
is_built=${sunder_binary:+yes}
. "$(dirname "$0")/lib.sh"
sunder_binary=$(realpath -m "$sunder_binary")

usage="usage: scripts/compare.sh [OPTION]..
Measures memcached, nutcracker and sunder side by side; prints a table and writes it as markdown.

  --rows LIST         of memcached,nutcracker,memory,plain,chunked,chunked-16K,memif,packets [all]
                      memory, plain, chunked, chunked-16K: sunder on kernel sockets, by its L1
                      memif: sunder on net_memif, L1 in memory, with the DPDK client
                      packets: dpdk-testpmd, 5tswap against flowgen, on the same link
  --connections LIST  of the rows on kernel sockets [50,1000]; memif has the largest
  --value-bytes N     [100]
  --keys N            [10000]
  --seconds S         of each measurement [1]
  --rounds N          [3]
  --cores C,S         of the client, and of all servers [0,1]
  --precedence        raise the priority over all other processes, by nice values
  --limit S           time-out of the whole run, in seconds [600]
  --output FILE       [target/compare.md]
  --json-dir DIR      keep the result of each measurement, for sunder bench report
  --help              this text

Every connection has one request in flight. Needs root (asks sudo) and 2 MiB hugepages for memif and
packets, which it releases. Takes some 3 minutes; less with --seconds, --rounds and --rows.

Spinning processes need a core each: a measurement on net_memif in which client or server waited for
a core more than 3 % of the time is repeated, up to three times, and the table shows how many
measurements were used nevertheless."

all_rows=memcached,nutcracker,memory,plain,chunked,chunked-16K,memif,packets
rows=$all_rows connections=50,1000 value_bytes=100 keys=10000 seconds=1 rounds=3 cores=0,1
precedence=no limit=600 output=target/compare.md json_dir=
asked="scripts/compare.sh $*"
words=("$@")
while [ $# -gt 0 ]; do
    case "$1" in
        --help | -h)
            say "$usage"
            exit 0
            ;;
        --precedence) precedence=yes ;;
        --rows | --connections | --value-bytes | --keys | --seconds | --rounds | --cores | \
            --limit | --output | --json-dir)
            [ $# -gt 1 ] || refuse "$1 wants a value"
            name=${1#--}
            printf -v "${name//-/_}" %s "$2"
            shift
            ;;
        *) refuse "unknown argument '$1'" ;;
    esac
    shift
done

number value-bytes "$value_bytes" 1000000
number keys "$keys" 10000000
number rounds "$rounds" 1000
number limit "$limit" 86400
[[ $seconds =~ ^[0-9]{1,3}(\.[0-9]+)?$ && $seconds =~ [1-9] ]] ||
    refuse "--seconds '$seconds': not a number of seconds below 1000"
IFS=, read -ra counts <<<"$connections"
[ ${#counts[@]} -gt 0 ] || refuse "--connections: name at least one number"
most=0
for count in "${counts[@]}"; do
    number connections "$count" 10000
    [ "$count" -le "$most" ] || most=$count
done
IFS=, read -ra chosen <<<"$rows"
[ ${#chosen[@]} -gt 0 ] || refuse "--rows: name at least one"
for row in "${chosen[@]}"; do
    [[ ,$all_rows, == *",$row,"* ]] || refuse "--rows '$row': no such row"
done
two_cores "$cores"
output=$(realpath -m -- "$output")
[ -z "$json_dir" ] || json_dir=$(realpath -m -- "$json_dir")

has() { [[ ,$rows, == *",$1,"* ]]; }

cd "$project"
for tool in jq taskset memcached nutcracker dpdk-testpmd; do
    command -v "$tool" >/dev/null || fail "no $tool: scripts/setup.sh installs it"
done
[ -n "$is_built" ] || cargo build --quiet --release --bin sunder
become_root "${words[@]}"
on_exit give_back_target
taskset -c "$client_core,$server_core" true 2>/dev/null || fail "no cores $cores to run on"

# Even if something hangs, the script ends: it waits only for short sleeps and its own children.
trap 'fail "not done after $limit seconds (--limit): $at"' USR1
at="nothing measured"
(
    # Its sleep ends with it.
    trap 'kill "$sleep_pid" 2>/dev/null; exit' TERM
    sleep "$limit" &
    sleep_pid=$!
    wait "$sleep_pid"
    kill -USR1 $$
) &
watchdog=$!
stop_watchdog() { kill "$watchdog" 2>/dev/null; }
on_exit stop_watchdog

work=$(mktemp -d)
on_exit rm -rf -- "$work"
# A Unix socket's path has at most 107 bytes and nutcracker's no space, whatever TMPDIR is.
sockets=$(mktemp -d /tmp/sunder-compare.XXXXXX)
on_exit rm -rf -- "$sockets"
# DPDK creates a folder here for each process, and leaves it.
export RUNTIME_DIRECTORY=$sockets/runtime
mkdir "$RUNTIME_DIRECTORY"
mkdir -p "$(dirname "$output")" "${json_dir:=$work/json}"
# One line per measurement: row, connections, round, requests per second, p50 and p99 in
# microseconds.
figures=$work/figures
: >"$figures"
if [ "$precedence" = yes ]; then
    # The scheduler weighs sessions against one another, and nice values only within each.
    nice_before=$(awk '{ print $3 }' /proc/self/autogroup)
    on_exit put "$nice_before" /proc/self/autogroup
    echo -20 >/proc/self/autogroup
    renice -n -20 -p $$ >/dev/null
fi
# Processes without their own core run on the servers' core.
taskset -cp "$server_core" $$ >/dev/null

# in_background LOG COMMAND..: sets started_pid; the command is ended with the script.
in_background() {
    local log=$1
    shift
    "$@" </dev/null >"$log" 2>&1 &
    started_pid=$!
    on_exit end_process "$started_pid"
}

# wait_for WHAT COMMAND..: until it succeeds, at most thirty seconds.
wait_for() {
    local what=$1 i
    shift
    for ((i = 0; i < 600; i++)); do
        "$@" 2>/dev/null && return
        sleep 0.05
    done
    fail "$what: not there after thirty seconds"
}

# bench ROW COUNT NAME ARGUMENT..: one measurement; its result is $json_dir/NAME.json.
bench() {
    local row=$1 count=$2 name=$3
    shift 3
    at="at $name"
    rm -f "$json_dir/$name.json"
    in_background "$work/bench.log" taskset -c "$client_core" "$sunder_binary" bench "$@" \
        --connections "$count" --ratio 1:0 --value-bytes "$value_bytes" --keys "$keys" \
        --duration "$seconds" --warmup "$warmup" --label "$row" --json "$json_dir/$name.json"
    bench_pid=$started_pid
}
warmup=$(awk "BEGIN { print $seconds / 4 }")

# The result is complete: it is written before the client leaves.
is_told() {
    [ -s "$json_dir/$1.json" ] && jq -e .format "$json_dir/$1.json" >/dev/null 2>&1
}

# The client's own message when it fails.
bench_failed() { fail "$1: $(tail -n 1 "$work/bench.log")"; }

# note ROW COUNT ROUND NAME: records the figures of a plain run.
note() {
    jq -r --arg row "$1" --arg count "$2" --arg round "$3" '.steps[0] | .latency.all as $all |
        def at($share): [$all.percentiles[] | select(.[0] >= $share)][0][1] / 1000;
        [$row, $count, $round, .rate, at(0.5), at(0.99)] | @tsv' "$json_dir/$4.json" >>"$figures"
}

# --- Cores of one's own ---

# Measurements in which a spinning process had to wait for its core.
disturbed=0

# cores_ns PID..: how long their threads ran so far, and how long they were ready but not running,
# from schedstat.
cores_ns() {
    local pid files=()
    for pid in "$@"; do
        files+=("/proc/$pid"/task/*/schedstat)
    done
    # A thread may have ended in the meantime.
    { cat "${files[@]}" 2>/dev/null || true; } |
        awk '{ ran += $1; waited += $2 } END { printf "%.0f %.0f", ran, waited }'
}

# alone SINCE PID..: whether they waited for at most 3 % of the time since cores_ns returned SINCE.
alone() {
    local before ran waited
    read -ra before <<<"$1"
    shift
    read -r ran waited < <(cores_ns "$@") || true
    ((ran -= before[0], waited -= before[1]))
    ((100 * waited <= 3 * (ran + waited)))
}

# Waits this long without a process, so that spinning processes are not disturbed.
exec {nap_input}<> <(:)
nap() { read -rt "$1" -u "$nap_input" || true; }

# undisturbed COMMAND..: until it sets is_alone, at most three times.
undisturbed() {
    local attempt
    for attempt in 1 2 3; do
        is_alone=yes
        "$@"
        [ "$is_alone" = no ] || return 0
    done
    disturbed=$((disturbed + 1))
}

# --- Kernel sockets ---

declare -A targets=()
serve() {
    local row=$1 port=$2
    shift 2
    start_sunder "$work/$row.log" - -p "$port" --cores "$server_core" --poll adaptive \
        --max-connections "$((most + 64))" "$@" || exit 1
    targets[$row]=127.0.0.1:$port
}

start_memcached() {
    in_background "$work/memcached.log" memcached -u root -t 1 -m 1024 -I 2m \
        -c "$((most + 64))" "$@"
}

# start_row ROW: its servers run until the end.
start_row() {
    local row=$1 path=$sockets/$1
    case "$row" in
        memcached)
            start_memcached -U 0 -l 127.0.0.1 -p 22100
            targets[$row]=127.0.0.1:22100
            ;;
        nutcracker)
            start_memcached -s "$path"
            wait_for memcached test -S "$path"
            printf '%s\n' "memcached:" "  listen: 127.0.0.1:22101" "  hash: fnv1a_64" \
                "  distribution: ketama" "  preconnect: true" "  servers:" "   - $path:1 local" \
                >"$work/nutcracker.yml"
            in_background "$work/nutcracker.log" nutcracker -c "$work/nutcracker.yml" \
                -a 127.0.0.1 -s 22102
            targets[$row]=127.0.0.1:22101
            ;;
        memory) serve "$row" 22103 --l1 memory,size=1G ;;
        *)
            local layout=plain
            [ "$row" = plain ] || layout=chunked
            [ "$row" = chunked-16K ] && layout+=,chunk=16K
            start_memcached -s "$path"
            wait_for memcached test -S "$path"
            serve "$row" $((22104 + ${#targets[@]})) --l1 "memcached,addr=unix:$path,layout=$layout"
            ;;
    esac
    wait_for "$row" nc -z 127.0.0.1 "${targets[$row]#*:}"
}

# measure_kernel ROW COUNT ROUND
measure_kernel() {
    local name=$1-$2-$3 fill=()
    # A row's servers keep the items stored for the first measurement.
    [[ $3 = 1 && $2 = "${counts[0]}" ]] || fill=(--no-fill)
    local attempt
    for attempt in 1 2 3; do
        bench "$1" "$2" "$name" "${targets[$1]}" "${fill[@]}"
        wait "$bench_pid" && break
        # On an overloaded machine there may be no answer in a short measurement.
        if [ "$attempt" = 3 ] || ! grep -q 'time was over' "$work/bench.log"; then
            bench_failed "$1"
        fi
    done
    note "$1" "$2" "$3" "$name"
}

# --- net_memif ---

link() { printf 'net_memif0,role=%s,socket=%s,socket-abstract=no,rsize=11' "$1" "$sockets/link"; }

# measure_memif ROW NAME ARGUMENT..: on a separate server. A process that leaves a memif while its
# peer still polls crashes the peer (docs/ARCHITECTURE.md): after the client has printed its result
# it only keeps the link, then the server ends, then the client ends by itself.
measure_memif() {
    local row=$1 name=$2 since
    shift 2
    rm -f -- "$sockets/link"
    start_sunder "$work/memif.log" - --device "$(link server)" --address 10.9.0.1/16 \
        --cores "$server_core" --max-connections "$((most + 64))" --l1 memory,size=1G || exit 1
    bench "$row" "$most" "$name" 10.9.0.1 --device "$(link client)" --address 10.9.1.1/16 \
        --core "$client_core" --hold 20 "$@"
    # If the script ends early: in the same order.
    on_exit end_process "$sunder_pid"
    since=$(cores_ns "$sunder_pid" "$bench_pid")
    until is_told "$name"; do
        kill -0 "$bench_pid" 2>/dev/null || bench_failed "$row"
        nap 0.1
    done
    alone "$since" "$sunder_pid" "$bench_pid" || is_alone=no
    end_process "$sunder_pid" || fail "$row: sunder ended with status $?"
    wait "$bench_pid" || bench_failed "$row"
}

# find_knee: the median of three sweeps, because a pause of the machine may end any of them.
find_knee() {
    local sweep knees=() sweeps=$((rounds < 3 ? rounds : 3))
    for ((sweep = 1; sweep <= sweeps; sweep++)); do
        undisturbed measure_memif memif-sweep "memif-sweep-$sweep" --sweep auto
        knees+=("$(jq 'if .knee == null then 0 else .steps[.knee].rate end' \
            "$json_dir/memif-sweep-$sweep.json")")
    done
    knee=$(printf '%s\n' "${knees[@]}" | sort -g | sed -n "$(((sweeps + 1) / 2))p")
    knee_is="knee"
    if [ "$knee" = 0 ]; then
        # No rate was sustained: on a machine this busy, shares of the maximum are used.
        knee=$(jq '.steps[0].rate' "$json_dir/memif-1.json")
        knee_is="saturation, no knee found"
    fi
}

# measure_memif_round ROUND: at saturation; once, to find the knee; then at shares of it.
measure_memif_round() {
    local round=$1 share
    undisturbed measure_memif memif "memif-$round"
    note memif "$most" "$round" "memif-$round"
    [ "$round" != 1 ] || find_knee
    for share in 10 50 80; do
        undisturbed measure_memif "memif-$share" "memif-$share-$round" \
            --rate "$(awk "BEGIN { printf \"%.0f\", $knee * $share / 100 }")"
        note "memif-$share" "$most" "$round" "memif-$share-$round"
    done
}

# start_testpmd NAME CORE ROLE MODE: reads commands from file descriptor NAME_in; NAME_pid.
start_testpmd() {
    local pipe=$work/$1.in
    rm -f "$pipe"
    mkfifo "$pipe"
    exec {testpmd_in}<>"$pipe"
    taskset -c "$2" stdbuf -oL \
        dpdk-testpmd --lcores "0@$2,1@$2" --in-memory --no-pci --no-telemetry \
        --file-prefix="sunder-$$-$1" -m 64 --vdev "$(link "$3")" -- -i --total-num-mbufs=16384 \
        --forward-mode="$4" <"$pipe" >"$work/$1.log" 2>&1 &
    printf -v "$1_pid" %s $!
    printf -v "$1_in" %s "$testpmd_in"
    on_exit end_process "$!"
    wait_for dpdk-testpmd grep -q 'testpmd>' "$work/$1.log"
}

# Frames that 5tswap received and sent per second since the previous sample, for each sample.
testpmd_rates() { grep -oE '[RT]x-pps: +[0-9]+' "$work/swap.log"; }
looked() { [ "$(testpmd_rates | wc -l)" -ge "$1" ]; }

# measure_packets ROUND: a request costs a packet in each direction, so the smaller of the two rates
# is recorded. Forwarding stops on both sides before either leaves.
measure_packets() {
    local swap_pid swap_in flow_pid flow_in since
    at="at packets-$1"
    rm -f -- "$sockets/link"
    start_testpmd swap "$server_core" server 5tswap
    start_testpmd flow "$client_core" client flowgen
    echo start >&"$swap_in"
    echo start >&"$flow_in"
    sleep "$warmup"
    echo show port stats all >&"$swap_in"
    wait_for "testpmd's counters" looked 2
    since=$(cores_ns "$swap_pid" "$flow_pid")
    nap "$seconds"
    echo show port stats all >&"$swap_in"
    alone "$since" "$swap_pid" "$flow_pid" || is_alone=no
    wait_for "testpmd's counters" looked 4
    echo stop >&"$flow_in"
    echo stop >&"$swap_in"
    wait_for "testpmd's end of forwarding" grep -q 'Accumulated' "$work/flow.log"
    wait_for "testpmd's end of forwarding" grep -q 'Accumulated' "$work/swap.log"
    echo quit >&"$swap_in"
    echo quit >&"$flow_in"
    wait "$swap_pid" || fail "packets: 5tswap: $(tail -n 1 "$work/swap.log")"
    wait "$flow_pid" || fail "packets: flowgen: $(tail -n 1 "$work/flow.log")"
    exec {swap_in}>&- {flow_in}>&-
}

# note_packets ROUND: records its figure.
note_packets() {
    testpmd_rates | awk -v round="$1" '
        { rates[NR] = $2 }
        END { print "packets\t-\t" round "\t" (rates[3] < rates[4] ? rates[3] : rates[4]) "\t-\t-" }
    ' >>"$figures"
}

# --- The table ---

# Medians of all rounds; a share is the median of the shares within a round.
table() {
    awk -F '\t' -v rows="$rows" -v counts="$connections" -v most="$most" -v knee_is="${knee_is:-}" '
        function median(list, n, i, j, swap) {
            for (i = 2; i <= n; i++)
                for (j = i; j > 1 && list[j - 1] + 0 > list[j] + 0; j--) {
                    swap = list[j]; list[j] = list[j - 1]; list[j - 1] = swap
                }
            return (list[int((n + 1) / 2)] + list[int(n / 2) + 1]) / 2
        }
        # The median of a column, or of its ratio to another row in the same round.
        function of(row, count, column, base, base_count, round, own, list, n) {
            for (round = 1; round <= rounds; round++) {
                if (!((row, count, round, column) in all)) continue
                own = all[row, count, round, column]
                if (base == "") list[++n] = own
                else if ((base, base_count, round, column) in all)
                    list[++n] = own / all[base, base_count, round, column]
            }
            return n ? median(list, n) : "-"
        }
        # The lowest and the highest of the rounds.
        function span(row, count, round, own, least, most) {
            for (round = 1; round <= rounds; round++) {
                if (!((row, count, round, 4) in all)) continue
                own = all[row, count, round, 4] + 0
                if (least == "" || own < least) least = own
                if (own > most) most = own
            }
            return sprintf("%.0f to %.0f", least, most)
        }
        function put(row, count, words, share, limit) {
            share = row ~ /memif-|packets/ ? "-" : of(row, count, 4, "memcached", count)
            limit = row == "memif" ? of(row, count, 4, "packets", "-") : "-"
            printf "| %s | %s | %.0f | %s | %s | %s | %s | %s |\n", words, count,
                of(row, count, 4), share == "-" ? share : sprintf("%.2f", share),
                limit == "-" ? limit : sprintf("%.1f %%", 100 * limit),
                row == "packets" ? "-" : sprintf("%.0f", of(row, count, 5)),
                row == "packets" ? "-" : sprintf("%.0f", of(row, count, 6)), span(row, count)
        }
        { for (i = 4; i <= 6; i++) all[$1, $2, $3, i] = $i; if ($3 > rounds) rounds = $3 }
        END {
            words["memcached"] = "memcached"
            words["nutcracker"] = "nutcracker before memcached"
            words["memory"] = "sunder, L1 in memory"
            words["plain"] = "sunder before memcached, plain"
            words["chunked"] = "sunder before memcached, chunked as Rend"
            words["chunked-16K"] = "sunder before memcached, chunks of 16K"
            print "| | connections | requests/s | beside memcached | of the packet limit |" \
                " p50, us | p99, us | requests/s by rounds |"
            print "|---|---|---|---|---|---|---|---|"
            for (c = 1; c <= split(counts, count, ","); c++)
                for (r = 1; r <= split(rows, row, ","); r++)
                    if (row[r] in words) put(row[r], count[c], words[row[r]])
            if (("," rows ",") ~ /,memif,/) {
                put("memif", most, "sunder on net_memif, L1 in memory")
                for (share = 10; share <= 80; share += share == 10 ? 40 : 30)
                    put("memif-" share, most, "the same at " share " % of its " knee_is)
            }
            if (("," rows ",") ~ /,packets,/)
                put("packets", "-", "dpdk-testpmd on net_memif: packets there and back")
        }' "$figures"
}

versions() {
    local cpu
    cpu=$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)
    say "$(nproc --all) cores of $cpu, kernel $(uname -r), $("$sunder_binary" --version)," \
        "$(memcached -V), $(nutcracker -V 2>&1 | sed -n '1s/.*-/nutcracker /p'), DPDK" \
        "$(pkg-config --modversion libdpdk). Load average $load_before before,"
    say "$(cut -d' ' -f1 /proc/loadavg) after$([ "$precedence" = no ] ||
        printf ' (the measured processes had precedence)'). The client on core $client_core," \
        "all servers on core $server_core; one request at a"
    say "time on a connection; all GETs of $keys keys of 16 bytes, values of $value_bytes bytes;" \
        "$rounds rounds of $seconds s each, medians."
}

load_before=$(cut -d' ' -f1 /proc/loadavg)
if has memif || has packets; then
    # Two processes on the link, each with its own pool: testpmd's is the larger one.
    reserve_hugepages 80
fi
kernel_rows=()
for row in "${chosen[@]}"; do
    case "$row" in
        memif | packets) ;;
        *)
            start_row "$row"
            kernel_rows+=("$row")
            ;;
    esac
done
for ((round = 1; round <= rounds; round++)); do
    for count in "${counts[@]}"; do
        for row in "${kernel_rows[@]}"; do
            measure_kernel "$row" "$count" "$round"
        done
    done
    ! has memif || measure_memif_round "$round"
    if has packets; then
        undisturbed measure_packets "$round"
        note_packets "$round"
    fi
done

{
    say "## Side by side ($(date -u +%F))"
    say
    say "    $asked"
    say
    versions
    say
    table
    if has memif || has packets; then
        say
        cat <<END
A request on net_memif is two packets, one there and one back; testpmd (5tswap against flowgen, 64
bytes, rsize=11) moves twice the packets of its row. At shares of the knee: open loop, latency from
the time that a request was due; else closed loop.
END
        [ "$disturbed" -eq 0 ] || say "Others had the cores for more than 3 % of the time in" \
            "$disturbed measurements, three times in a row."
    fi
} >"$output.new"
mv "$output.new" "$output"
cat "$output"
