#!/usr/bin/env bash
# What scrapes of the metrics cost a worker: its CPU time for a request in rounds of the same load,
# in turn beside many scrapes a second of its own server and of another, idle one. Load, scraper and
# admin threads share a core here, and a load that gets less of it makes each request dearer: with
# the other server scraped as often, that is the same in both. A measurement for
# docs/MEASUREMENTS.md and not a test.
#
#   tests/scrapes_beside.sh [ROUNDS] [SCRAPES A SECOND] [SECONDS A ROUND]
#   sunder_binary  the server and the client, a release build                (from the environment)
set -euo pipefail
. "$(dirname "$0")/../scripts/lib.sh"
cd "$project"

: "${sunder_binary:?}"
rounds=${1:-7}
scrapes=${2:-100}
seconds=${3:-5}
port=23973
admin=23974
other_port=23975
other_admin=23976

work=$(mktemp -d)
on_exit rm -rf -- "$work"

# The worker has a core. The admin thread takes another, which it shares with the load.
start_sunder "$work/other" - -p "$other_port" --cores 0 --poll adaptive --l1 memory,size=256M \
    --admin "127.0.0.1:$other_admin"
start_sunder "$work/server" - -p "$port" --cores 0 --poll adaptive --l1 memory,size=256M \
    --admin "127.0.0.1:$admin"

# The worker's CPU time in clock ticks, and its gets.
used() {
    local task
    for task in "/proc/$sunder_pid/task/"*; do
        [ "$(cat "$task/comm")" != worker-0 ] || awk '{ print $14 + $15 }' "$task/stat"
    done
    printf 'stats\r\nquit\r\n' | nc -w 5 127.0.0.1 "$port" | tr -d '\r' |
        awk '$2 == "cmd_get" { print $3 }'
}

# load PORT [FLAG..]: gets, from the other core.
load() {
    local to=$1
    shift
    taskset -c 1 "$sunder_binary" bench -p "$to" --keys 10000 --connections 50 --ratio 1:0 \
        --duration "$seconds" --warmup 1 "$@" >"$work/said" 2>&1 ||
        { cat "$work/said" >&2; fail "the load failed"; }
}

# measure NAME: nanoseconds of the worker for a get.
measure() {
    local name=$1 before after
    mapfile -t before < <(used)
    load "$port" --no-fill
    mapfile -t after < <(used)
    awk -v name="$name" -v tick="$(getconf CLK_TCK)" -v ticks=$((after[0] - before[0])) \
        -v gets=$((after[1] - before[1])) \
        'BEGIN { printf "%s %.1f\n", name, ticks / tick * 1e9 / gets }' >>"$work/rounds"
}

# scrape ADMIN: at an even rate until it is ended, over one connection at a time; counts the scrapes.
scrape() {
    exec taskset -c 1 python3 - "$1" "$scrapes" "$work/scraped.$1" <<'PYTHON'
import http.client, sys, time
port, rate, path = int(sys.argv[1]), float(sys.argv[2]), sys.argv[3]
connection, count, due = None, 0, time.monotonic()
with open(path, "a") as log:
    while True:
        due += 1 / rate
        time.sleep(max(0, due - time.monotonic()))
        connection = connection or http.client.HTTPConnection("127.0.0.1", port)
        try:
            connection.request("GET", "/metrics")
            size = len(connection.getresponse().read())
            log.write(f"{size}\n")
            log.flush()
        except (OSError, http.client.HTTPException):
            # The server ends connections that are old.
            connection = None
PYTHON
}

# round NAME ADMIN: a load beside scrapes of one of the two.
round() {
    set -m
    (scrape "$2") &
    scraper=$!
    set +m
    measure "$1"
    kill -TERM -- "-$scraper"
    wait "$scraper" 2>/dev/null || true
}

# Both have the same metrics to show.
load "$other_port"
load "$port"
: >"$work/rounds"
for ((n = 0; n < rounds; n++)); do
    round other "$other_admin"
    round own "$admin"
done
for of in "$other_admin" "$admin"; do
    say "port $of: $(wc -l <"$work/scraped.$of") scrapes of $(tail -n 1 "$work/scraped.$of") bytes"
done
for kind in other own; do
    awk -v kind="$kind" '$1 == kind { print $2 }' "$work/rounds" | sort -n |
        awk -v kind="$kind" '
            { all[NR] = $1 }
            END { printf "%-6s %.0f ns a get (%.0f to %.0f)\n", kind, all[int((NR + 1) / 2)], all[1], all[NR] }'
done
# A round has both, one after the other: their ratio is what a slow change of the host leaves.
awk '$1 == "other" { other = $2 } $1 == "own" { print $2 / other }' "$work/rounds" | sort -n |
    awk '
        { all[NR] = $1 }
        END {
            printf "own / other, median of %d rounds: %.3f (quartiles %.3f and %.3f)\n", NR,
                all[int((NR + 1) / 2)], all[int((NR + 3) / 4)], all[int((3 * NR + 1) / 4)]
        }'
