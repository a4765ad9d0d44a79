#!/usr/bin/env bash
# What a dump of all items costs other clients: rounds of the same load, in turn without a dump and
# beside one that is read again and again as fast as it comes. A measurement for
# docs/MEASUREMENTS.md and not a test.
#
#   tests/dump_beside.sh [ITEMS] [ROUNDS] [REQUESTS A SECOND]
#   sunder_binary  the server and the client, a release build                (from the environment)
set -euo pipefail
. "$(dirname "$0")/../scripts/lib.sh"
cd "$project"

: "${sunder_binary:?}"
items=${1:-1000000}
rounds=${2:-7}
rate=${3:-20000}
seconds=4
port=23971

work=$(mktemp -d)
on_exit rm -rf -- "$work"

start_sunder "$work/server" - -p "$port" --cores 0 --poll busy --l1 memory,size=1G

# load NAME [FLAG..]: its p50 and p99 in microseconds, as NAME P50 P99.
load() {
    local name=$1
    shift
    taskset -c 1 "$sunder_binary" bench -p "$port" --rate "$rate" --keys "$items" --connections 50 \
        --duration "$seconds" --warmup 1 --json "$work/result" "$@" >"$work/said" 2>&1 ||
        { cat "$work/said" >&2; fail "the load failed"; }
    jq -r --arg name "$name" "$figures" "$work/result" >>"$work/rounds"
}

# In the result a percentile is its share, nanoseconds, and how many requests were not slower.
# shellcheck disable=SC2016  # the program is jq's.
figures='.steps[0].latency.all.percentiles as $all
    | [0.5, 0.99 | . as $share | first($all[] | select(.[0] >= $share)) | .[1] / 1000 | round | tostring]
    | [$name] + . | join(" ")'

resident() { awk '$1 ~ /^Vm(RSS|HWM):/ { printf "%s %s KiB ", $1, $2 }' "/proc/$sunder_pid/status"; }

# Reads dumps until it is ended; counts their lines. It has only the time of its core that the load
# leaves, so that what is measured is the server's.
dumps() {
    while :; do
        printf 'lru_crawler %s all\r\nquit\r\n' "$1" | taskset -c 1 chrt -i 0 nc -w 60 127.0.0.1 "$port" |
            taskset -c 1 chrt -i 0 wc -l >>"$work/lines"
    done
}

load fill
: >"$work/rounds"
say "before: $(resident)"
for ((round = 0; round < rounds; round++)); do
    for kind in none metadump none mgdump; do
        if [ "$kind" = none ]; then
            load none --no-fill
            continue
        fi
        : >"$work/lines"
        set -m
        (dumps "$kind") &
        reader=$!
        set +m
        load "$kind" --no-fill
        kill -TERM -- "-$reader"
        wait "$reader" 2>/dev/null || true
        awk -v kind="$kind" -v items="$items" '
            $1 < items { print kind ": a dump of " $1 " lines"; bad = 1 }
            END { if (NR == 0) print kind ": no dump was read to its end"; exit bad }' "$work/lines"
    done
done
say "after:  $(resident)"
for kind in none metadump mgdump; do
    for column in 2 3; do
        awk -v kind="$kind" -v column="$column" '$1 == kind { print $column }' "$work/rounds" | sort -n |
            awk -v kind="$kind" -v name="$([ "$column" = 2 ] && printf p50 || printf p99)" '
                { all[NR] = $1 }
                END { printf "%-9s %s %s us (%s to %s)\n", kind, name, all[int((NR + 1) / 2)], all[1], all[NR] }'
    done
done
