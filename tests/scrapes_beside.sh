#!/usr/bin/env bash
# What scrapes of the metrics cost a worker: its CPU time for a request in rounds of the same load,
# in turn without scrapes and beside many a second. Not requests a second: load, scraper and admin
# thread share a core here. A measurement for docs/MEASUREMENTS.md and not a test.
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

work=$(mktemp -d)
on_exit rm -rf -- "$work"

# The worker has a core. The admin thread takes another, which it shares with the load.
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

# load NAME [FLAG..]: nanoseconds of the worker for a get.
load() {
    local name=$1 before after
    shift
    mapfile -t before < <(used)
    taskset -c 1 "$sunder_binary" bench -p "$port" --keys 10000 --connections 50 --ratio 1:0 \
        --duration "$seconds" --warmup 1 "$@" >"$work/said" 2>&1 ||
        { cat "$work/said" >&2; fail "the load failed"; }
    mapfile -t after < <(used)
    awk -v name="$name" -v tick="$(getconf CLK_TCK)" -v ticks=$((after[0] - before[0])) \
        -v gets=$((after[1] - before[1])) \
        'BEGIN { printf "%s %.1f\n", name, ticks / tick * 1e9 / gets }' >>"$work/rounds"
}

# Scrapes at an even rate until it is ended, over one connection at a time; counts the scrapes.
scrape() {
    exec taskset -c 1 python3 - "$admin" "$scrapes" "$work/scraped" <<'PYTHON'
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

load fill
: >"$work/rounds"
: >"$work/scraped"
for ((round = 0; round < rounds; round++)); do
    load none --no-fill
    set -m
    (scrape) &
    scraper=$!
    set +m
    load scraped --no-fill
    kill -TERM -- "-$scraper"
    wait "$scraper" 2>/dev/null || true
done
say "$(wc -l <"$work/scraped") scrapes of $(tail -n 1 "$work/scraped") bytes"
for kind in none scraped; do
    awk -v kind="$kind" '$1 == kind { print $2 }' "$work/rounds" | sort -n |
        awk -v kind="$kind" '
            { all[NR] = $1 }
            END { printf "%-9s %.0f ns a get (%.0f to %.0f)\n", kind, all[int((NR + 1) / 2)], all[1], all[NR] }'
done
