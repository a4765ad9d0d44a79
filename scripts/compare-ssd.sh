#!/usr/bin/env bash
# Compares the SSD tier with fio and with memcached's extstore, on the same file system in one run,
# as tables: hits from disk alone, the cost of one, memory per object, bytes written per byte set,
# recovery. All run alternately, round after round, because a disk's speed varies; a figure is the
# median of the rounds, and a ratio is the median of the ratios within a round. A measurement: it
# fails if something does not run or answers wrongly, never because a figure is low.
#
#   sunder_binary  the server and the client [target/release/sunder, built first]  (environment)
#   examples       where measure_ssd is [target/release/examples, built first]  (environment)
set -euo pipefail
is_built=${sunder_binary:+${examples:+yes}}
. "$(dirname "$0")/lib.sh"
sunder_binary=$(realpath -m "$sunder_binary")
measure=$(realpath -m "${examples:-$project/target/release/examples}")/measure_ssd

usage="usage: scripts/compare-ssd.sh [OPTION]..
Compares the SSD tier with fio and extstore; prints tables and writes them as markdown.

  --parts LIST        of reads,extstore,recovery,writes [all]
                      reads: hits from disk, in process and over loopback; memory per object
                      extstore: the same with memcached's, as part of reads
                      recovery: opening the log of reads after a clean stop and after kill -9
                      writes: sets compared with fio's writes, bytes written, concurrent gets
  --values LIST       lengths of values in reads, in bytes [4000,1000]
  --gigabytes N       of values in reads, and at most in writes 2 [8]
  --connections LIST  over loopback, one request in flight on each [64,256]
  --seconds S         of each measurement [3]
  --rounds N          [3]
  --cores C,S         of the client, and of all servers [0,1]
  --dir DIR           where to create the files, in a folder that is removed [target]
  --output FILE       [target/compare-ssd.md]
  --help              this text

Needs 2.5 times --gigabytes of free disk space. Takes some 8 minutes."

all_parts=reads,extstore,recovery,writes
parts=$all_parts values=4000,1000 gigabytes=8 connections=64,256 seconds=3 rounds=3 cores=0,1
dir=$project/target output=target/compare-ssd.md
asked="scripts/compare-ssd.sh $*"
while [ $# -gt 0 ]; do
    case "$1" in
        --help | -h)
            say "$usage"
            exit 0
            ;;
        --parts | --values | --gigabytes | --connections | --seconds | --rounds | --cores | \
            --dir | --output)
            [ $# -gt 1 ] || refuse "$1 wants a value"
            name=${1#--}
            printf -v "$name" %s "$2"
            shift
            ;;
        *) refuse "unknown argument '$1'" ;;
    esac
    shift
done

number rounds "$rounds" 100
[[ $seconds =~ ^[0-9]{1,2}(\.[0-9]+)?$ && $seconds =~ [1-9] ]] ||
    refuse "--seconds '$seconds': not a number of seconds below 100"
[[ $gigabytes =~ ^[0-9]{1,3}(\.[0-9]+)?$ && $gigabytes =~ [1-9] ]] ||
    refuse "--gigabytes '$gigabytes': not a number below 1000"
IFS=, read -ra lengths <<<"$values"
for length in "${lengths[@]}"; do number values "$length" 100000; done
IFS=, read -ra counts <<<"$connections"
for count in "${counts[@]}"; do number connections "$count" 10000; done
IFS=, read -ra chosen <<<"$parts"
for part in "${chosen[@]}"; do
    [[ ,$all_parts, == *",$part,"* ]] || refuse "--parts '$part': no such part"
done
two_cores "$cores"
output=$(realpath -m -- "$output")

has() { [[ ,$parts, == *",$1,"* ]]; }

cd "$project"
for tool in jq taskset memcached fio nc; do
    command -v "$tool" >/dev/null || fail "no $tool: scripts/setup.sh installs it"
done
[ -n "$is_built" ] || cargo build --quiet --release --bin sunder --example measure_ssd
taskset -c "$client_core,$server_core" true 2>/dev/null || fail "no cores $cores to run on"

dir=$(realpath -m -- "$dir")
mkdir -p "$dir" "$(dirname "$output")"
work=$(mktemp -d "$dir/compare-ssd.XXXXXX")
on_exit rm -rf -- "$work"
# Files are named relative to their folder: fio, memcached and sunder would cut a path at its first
# ';', ':' or ',', and write to another file.
cd "$work"
needed_kb=$(awk "BEGIN { printf \"%.0f\", $gigabytes * 2.5e6 + 1e6 }")
free_kb=$(df --output=avail "$work" | tail -n 1)
[ "$free_kb" -gt "$needed_kb" ] || fail "$dir has $free_kb kB free; it takes $needed_kb"
# One line per measurement: table, row, round, operations or MB per second, CPU us each, p50, p99 in
# us.
figures=$work/figures
: >"$figures"
port=$((20000 + $$ % 20000))

note() { (IFS=$'\t' && printf '%s\n' "$*") >>"$figures"; }

# run_fio NAME ARGUMENT..: with the options of the comparison; its report is $work/NAME.json.
run_fio() {
    local name=$1
    shift
    timeout 120 fio --name="$name" --direct=1 --ioengine=io_uring --output-format=json \
        --time_based=1 --runtime="$(awk "BEGIN { print $seconds * 1000 }")ms" --ramp_time=300ms \
        --thread=1 "$@" \
        --output="$work/$name.json" >"$work/$name.log" 2>&1 ||
        fail "fio: $(tail -n 1 "$work/$name.log")"
}

# measure NAME WORK FILE NAME=NUMBER..: the tier in a separate process.
measure() {
    local name=$1
    shift
    timeout 300 "$measure" "$@" >"$work/$name.json" 2>"$work/$name.log" ||
        fail "measure_ssd $*: $(grep -v '^ ' "$work/$name.log" | tail -n 3)"
}

# of NAME FIELD: a number of a result.
of() { jq -r ".$2" "$work/$1.json"; }

# CPU time of all threads of a process, in nanoseconds, and its hits.
cpu_ns() { cat /proc/"$1"/task/*/schedstat | awk '{ sum += $1 } END { printf "%.0f", sum }'; }
stat_of() {
    printf 'stats\r\nquit\r\n' | nc -w 5 127.0.0.1 "$1" | tr -d '\r' |
        awk -v name="$2" '$2 == name { print $3 }'
}

# ask TABLE ROW ROUND PID PORT COUNT KEYS LENGTH: gets over loopback.
ask() {
    local table=$1 row=$2 round=$3 pid=$4 port=$5 count=$6 keys=$7 length=$8 cpu hits
    cpu=$(cpu_ns "$pid")
    hits=$(stat_of "$port" get_hits)
    timeout 120 taskset -c "$client_core" "$sunder_binary" bench "127.0.0.1:$port" --no-fill \
        --ratio 1:0 --keys "$keys" --value-bytes "$length" --connections "$count" \
        --duration "$seconds" --warmup 0.3 --json "$work/bench.json" >"$work/bench.log" 2>&1 ||
        fail "$row: $(tail -n 1 "$work/bench.log")"
    cpu=$(($(cpu_ns "$pid") - cpu))
    hits=$(($(stat_of "$port" get_hits) - hits))
    [ "$hits" -gt 0 ] || fail "$row: no hit"
    # Misses are not measured: extstore loses some items, sunder none.
    jq -r --arg cpu "$cpu" --arg hits "$hits" --arg table "$table" --arg row "$row-$count" \
        --arg round "$round" '.steps[0] | .latency.all as $all |
        def at($share): [$all.percentiles[] | select(.[0] >= $share)][0][1] / 1000;
        [$table, $row, $round, .rate * .hits / (.hits + .misses),
            ($cpu | tonumber) / ($hits | tonumber) / 1000, at(0.5), at(0.99)] | @tsv' \
        "$work/bench.json" >>"$figures"
}

# --- Reads ---

# start_memcached KEYS LENGTH: with extstore, and all keys set; sets memcached_pid. Its file may
# become twice as large as necessary, otherwise memcached compacts it all the time.
start_memcached() {
    local bytes=$(($1 * ($2 + 150)))
    [ "$bytes" -gt 1000000000 ] || bytes=1000000000
    taskset -c "$server_core" memcached -u root -U 0 -l 127.0.0.1 -p "$((port + 1))" -t 1 \
        -m "$(($1 * 110 / 1000000 + 256))" -c 10100 \
        -o "ext_path=extstore:$((bytes * 2 >> 30))G,ext_threads=8" \
        >"$work/memcached.log" 2>&1 &
    memcached_pid=$!
    on_exit end_process "$memcached_pid"
    sleep 0.5
    timeout 280 taskset -c "$client_core" "$sunder_binary" bench "127.0.0.1:$((port + 1))" \
        --keys "$1" --value-bytes "$2" --connections 8 --ratio 1:0 --duration 0.1 --warmup 0 \
        >"$work/bench.log" 2>&1 || fail "memcached: $(tail -n 1 "$work/bench.log")"
}

# While memcached serves gets: it reads through the page cache, so the disk is measured only if the
# cache is dropped.
keep_dropping() {
    while true; do
        dd if="$work/extstore" iflag=nocache count=0 status=none
        sleep 0.1
    done
}

ask_memcached() {
    local dropper
    keep_dropping &
    dropper=$!
    ask "$1" extstore "$2" "$memcached_pid" "$((port + 1))" "$3" "$4" "$5"
    kill "$dropper"
    wait "$dropper" 2>/dev/null || true
}

measure_reads() {
    local length=$1 log=log keys object round count extstore_keys
    keys=$(awk "BEGIN { printf \"%.0f\", $gigabytes * 1e9 / $length }")
    # A record's header and key, and its padding.
    object=$((length + length / 16 + 100))
    local size
    size=$(awk "BEGIN { printf \"%.0f\", $keys * $object * 1.03 + 8e8 }")
    local about=("value=$length" "keys=$keys" "object=$object")
    measure "fill-$length" fill "$log" "${about[@]}" "size=$size"
    # Blocks that were never written are not read from the disk.
    local written
    written=$(awk "BEGIN { printf \"%.0f\", $(of "fill-$length" bytes_written) * 0.98 }")
    if has extstore; then
        # Fewer if they are small: memcached executes them one by one.
        extstore_keys=$((keys < 2000000 ? keys : 2000000))
        start_memcached "$extstore_keys" "$length"
    fi
    for ((round = 1; round <= rounds; round++)); do
        run_fio fio --readonly --rw=randread --bs=4k --iodepth=64 --filename="$log" \
            --offset=1m --size="$written"
        jq -r --arg length "$length" --arg round "$round" '.jobs[0] | [$length, "fio", $round,
            .read.iops, (.usr_cpu + .sys_cpu) / 100 * .read.runtime * 1000 / .read.total_ios,
            (.read.clat_ns.percentile | .["50.000000"] / 1000, .["99.000000"] / 1000)] | @tsv' \
            "$work/fio.json" >>"$figures"
        measure gets gets "$log" "${about[@]}" depth=64 "seconds=$seconds" warmup=0.3
        # Of a million items about one is lost to another with the same index entry.
        jq -e '.misses <= 1 + .hits / 100000' "$work/gets.json" >/dev/null ||
            fail "$(of gets misses) items are not there"
        note "$length" process "$round" "$(of gets per_s)" "$(of gets cpu_us)" \
            "$(of gets p50_us)" "$(of gets p99_us)"
        start_sunder "$work/ssd.log" - -p "$port" --cores "$server_core" --poll adaptive \
            --max-connections 10100 --l1 "ssd,path=$log,object=$object" || exit 1
        for count in "${counts[@]}"; do
            ask "$length" wire "$round" "$sunder_pid" "$port" "$count" "$keys" "$length"
        done
        end_process "$sunder_pid" || fail "sunder ended with status $?"
        start_sunder "$work/memory.log" - -p "$port" --cores "$server_core" --poll adaptive \
            --max-connections 10100 --l1 memory,size=1G || exit 1
        timeout 120 "$sunder_binary" bench "127.0.0.1:$port" --keys 100000 --value-bytes "$length" \
            --duration 0.1 --warmup 0 >"$work/bench.log" 2>&1 || fail "$(tail -n 1 "$work/bench.log")"
        for count in "${counts[@]}"; do
            ask "$length" memory "$round" "$sunder_pid" "$port" "$count" 100000 "$length"
            ! has extstore || ask_memcached "$length" "$round" "$count" "$extstore_keys" "$length"
        done
        end_process "$sunder_pid" || fail "sunder ended with status $?"
    done
    if has extstore; then
        end_process "$memcached_pid"
        rm "$work/extstore"
    fi
}

# --- Recovery ---

note_opened() {
    note "$1" "$2" "$3" "$(awk "BEGIN { print $(of open open_s) * 1e9 / $(stat -c %s "$work/log") }")" \
        "$(of open open_s)" "$(of open found)" "$(of open items)"
}

# Opens the log of the read tests; the kill comes during sets.
measure_recovery() {
    local length=$1 log=log size round storm
    local about=("value=$length" "object=$((length + length / 16 + 100))")
    size=$(stat -c %s "$log")
    for ((round = 1; round <= rounds; round++)); do
        measure open open "$log" "${about[@]}"
        note_opened recovery "$length-stopped" "$round"
        "$measure" sets "$log" "${about[@]}" "size=$size" seconds=600 >"$work/storm.log" 2>&1 &
        storm=$!
        on_exit end_process "$storm"
        # Not while it is still opening the log.
        sleep "$(awk "BEGIN { print 2 + 2 * $(of open open_s) }")"
        is_own "$storm" || fail "measure_ssd sets: $(tail -n 3 "$work/storm.log")"
        kill -KILL "$storm"
        wait "$storm" 2>/dev/null || true
        measure open open "$log" "${about[@]}"
        note_opened recovery "$length-killed" "$round"
    done
}

# --- Writes ---

# measure_sets ROW ROUND MIN MAX OBJECT ARGUMENT..: the log wraps before the measurement starts.
measure_sets() {
    local row=$1 round=$2 least=$3 most=$4 object=$5
    shift 5
    measure sets sets "$work/sets-$least-$most" "value=$least" "value_max=$most" \
        "object=$object" "size=$sets_size" "seconds=$seconds" "$@"
    note writes "$row" "$round" "$(of sets set_mb_s)" "$(of sets cpu_us_per_mb)" \
        "$(of sets p50_us)" "$(of sets p99_us)" "$(of sets amplification)" \
        "$(of sets disk_amplification)" "$(of sets gets_per_s)" "$(of sets turn_max_us)"
}

measure_writes() {
    local round half
    sets_size=$(awk "BEGIN { s = $gigabytes * 1e9; printf \"%.0f\", s < 2e9 ? s : 2e9 }")
    # The minimum number of segments of a log.
    [ "$sets_size" -gt 300000000 ] || sets_size=300000000
    for ((round = 1; round <= rounds; round++)); do
        # The second pass over its file, like a log that has wrapped.
        run_fio fio-write --rw=write --bs=256k --iodepth=16 --filename=fio-write \
            --size="$sets_size" --overwrite=1
        jq -r --arg round "$round" '.jobs[0] | ["writes", "fio", $round,
            .write.bw_bytes / 1e6, (.usr_cpu + .sys_cpu) / 100 * .write.runtime * 1000 /
            (.write.io_bytes / 1e6), 0, 0, 1, 1, 0, 0] | @tsv' "$work/fio-write.json" >>"$figures"
        measure_sets 4000 "$round" 4000 4000 4350
        half=$(awk "BEGIN { print $(of fio-write 'jobs[0].write.bw_bytes') / 2e6 }")
        measure_sets 4000-half "$round" 4000 4000 4350 "rate=$half" depth=16
        measure_sets 4000-gets "$round" 4000 4000 4350 depth=16
    done
    measure_sets 1000 1 1000 1000 1162
    measure_sets 100-1000 1 100 1000 700
    rm "$work"/sets-* "$work/fio-write"
}

# --- Tables ---

# Functions of awk on the figures: medians, and medians of ratios within a round.
# shellcheck disable=SC2016 # they are awk's dollars
medians='
    function median(list, n, i, j, swap) {
        for (i = 2; i <= n; i++)
            for (j = i; j > 1 && list[j - 1] + 0 > list[j] + 0; j--) {
                swap = list[j]; list[j] = list[j - 1]; list[j - 1] = swap
            }
        return (list[int((n + 1) / 2)] + list[int(n / 2) + 1]) / 2
    }
    function of(row, column, round, list, n) {
        for (round = 1; round <= rounds; round++)
            if ((row, round, column) in all) list[++n] = all[row, round, column]
        return n ? median(list, n) : "-"
    }
    # Relative to another row: the median; shares has the value of each round.
    function beside(row, base, round, list, n) {
        shares = ""
        for (round = 1; round <= rounds; round++)
            if ((row, round, 4) in all && (base, round, 4) in all) {
                list[++n] = all[row, round, 4] / all[base, round, 4]
                shares = shares (n > 1 ? ", " : "") sprintf("%.2f", list[n])
            }
        return n ? sprintf("%.2f", median(list, n)) : "-"
    }
    $1 == wanted { for (i = 4; i <= NF; i++) all[$2, $3, i] = $i; if ($3 > rounds) rounds = $3 }'

reads_table() {
    awk -F '\t' -v wanted="$1" -v counts="$connections" "$medians"'
        function put(row, words, base, share, cost) {
            if (of(row, 4) == "-") return
            share = beside(row, "fio")
            cost = base == "" ? "-" : sprintf("%.1f", of(row, 5) - (base == "0" ? 0 : of(base, 5)))
            printf "| %s | %.0f | %s | %s | %.1f | %s | %.0f | %.0f |\n", words, of(row, 4),
                row == "fio" ? "-" : share, row == "fio" ? "-" : shares, of(row, 5), cost,
                of(row, 6), of(row, 7)
        }
        END {
            print "| | a second | beside fio | in each round | CPU us each | beyond L1 | p50, us |" \
                " p99, us |"
            print "|---|---|---|---|---|---|---|---|"
            put("fio", "fio, random reads of 4 KiB, depth 64", "")
            put("process", "tier in process, 64 gets in flight", "0")
            for (c = 1; c <= split(counts, count, ","); c++) {
                put("wire-" count[c], "sunder, SSD, " count[c] " connections",
                    "memory-" count[c])
                put("extstore-" count[c], "memcached, extstore, " count[c] " connections",
                    "memory-" count[c])
                put("memory-" count[c], "sunder, L1 in memory, " count[c] " connections", "")
            }
        }' "$figures"
}

memory_table() {
    local length
    say "| values of | items | index, MB | resident grew by, MB | bytes an item |"
    say "|---|---|---|---|---|"
    for length in "${lengths[@]}"; do
        jq -r --arg length "$length" '"| \($length) B | \(.items) | \(.index_bytes / 1e5 | round
            / 10) | \((.resident - .resident_before) / 1e5 | round / 10) | \(.resident_per_item)" +
            " |"' "$work/fill-$length.json"
    done
}

recovery_table() {
    awk -F '\t' -v wanted=recovery -v lengths="$values" "$medians"'
        function put(row, words) {
            printf "| %s | %.0f | %.2f | %.3f |\n", words, of(row, 6), of(row, 5), of(row, 4)
        }
        END {
            print "| | items found | s | s a GB of log |"
            print "|---|---|---|---|"
            for (l = 1; l <= split(lengths, length_, ","); l++) {
                put(length_[l] "-stopped", length_[l] " B, after a clean stop")
                put(length_[l] "-killed", length_[l] " B, after kill -9 amid sets")
            }
        }' "$figures"
}

writes_table() {
    awk -F '\t' -v wanted=writes "$medians"'
        function put(row, words, share) {
            share = beside(row, "fio")
            printf "| %s | %.0f | %s | %s | %.3f | %.3f | %.0f | %.0f | %.0f | %.0f |\n", words,
                of(row, 4), row == "fio" ? "-" : share, row == "fio" ? "-" : shares, of(row, 8),
                of(row, 9), of(row, 5), of(row, 10), of(row, 6), of(row, 7)
        }
        END {
            print "| | set, MB/s | beside fio | in each round | written a byte set |" \
                " the kernel says | CPU us a MB | gets/s | p50, us | p99, us |"
            print "|---|---|---|---|---|---|---|---|---|---|"
            put("fio", "fio, writes of 256 KiB, depth 16")
            put("4000", "4,000 B")
            put("4000-half", "4,000 B at half of fio, 16 gets")
            put("4000-gets", "4,000 B as fast as can be, 16 gets")
            put("1000", "1,000 B")
            put("100-1000", "100 to 1,000 B")
        }' "$figures"
}

for length in "${lengths[@]}"; do
    if has reads || has recovery; then
        if has reads; then
            measure_reads "$length"
        else
            measure "fill-$length" fill log "value=$length" \
                "object=$((length + length / 16 + 100))" \
                "keys=$(awk "BEGIN { printf \"%.0f\", $gigabytes * 1e9 / $length }")" \
                "size=$(awk "BEGIN { printf \"%.0f\", $gigabytes * 1.25e9 + 8e8 }")"
        fi
        ! has recovery || measure_recovery "$length"
        rm "$work/log"
    fi
done
! has writes || measure_writes

{
    say "## The SSD tier beside fio and extstore ($(date -u +%F))"
    say
    say "    $asked"
    say
    cpu=$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)
    say "$(nproc --all) cores of $cpu, kernel $(uname -r), $("$sunder_binary" --version)," \
        "$(memcached -V), $(fio --version), $(df --output=fstype "$dir" | tail -n 1)."
    say "$rounds rounds of $seconds s each, in turns; medians."
    if has reads; then
        for length in "${lengths[@]}"; do
            say
            say "Gets of values of $length B that are on disk only, $gigabytes GB of them:"
            say
            reads_table "$length"
        done
        say
        memory_table
    fi
    if has recovery; then
        say
        recovery_table
    fi
    if has writes; then
        say
        writes_table
    fi
} >"$output.new"
mv "$output.new" "$output"
cat "$output"
