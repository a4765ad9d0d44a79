#!/usr/bin/env bash
# What a memcached behind sunder answers, beside the same memcached alone and behind nutcracker: GETs
# a second, one client core, everything else on the other core, in one run. Prints a table a value
# size. A measurement, not a test: scripts/test.sh does not run it.
#
#   sunder_binary  the server      examples  the folder of the built examples    (from the environment)
set -euo pipefail
. "$(dirname "$0")/../scripts/lib.sh"
cd "$project"

: "${sunder_binary:?}" "${examples:?}"
client_core=${client_core:-0}
server_core=${server_core:-1}
rounds=${rounds:-9}

work=$(mktemp -d)
on_exit "rm -rf $work"
port=22110

# on_core COMMAND..: runs it in the background on the servers' core; ended when the script is.
on_core() {
    taskset -c "$server_core" "$@" >"$work/log" 2>&1 &
    on_exit "end_process $! || true"
}

# memcached ARGUMENTS..: one thread, as many items as there is memory for.
memcached_with() { on_core memcached -u root -t 1 -m 1024 -I 2m "$@"; }

servers=()
serve() {
    local name=$1
    shift
    port=$((port + 1))
    on_core "$sunder_binary" serve -p "$port" --workers 1 --poll adaptive "$@"
    servers+=("$name=127.0.0.1:$port")
}

memcached_with -U 0 -l 127.0.0.1 -p 22100
servers+=("memcached=127.0.0.1:22100")

memcached_with -s "$work/proxied"
cat >"$work/nutcracker.yml" <<END
memcached:
  listen: 127.0.0.1:22101
  hash: fnv1a_64
  distribution: ketama
  preconnect: true
  servers:
   - $work/proxied:1 local
END
on_core nutcracker -c "$work/nutcracker.yml" -a 127.0.0.1 -s 22102
servers+=("nutcracker=127.0.0.1:22101")

memcached_with -s "$work/plain"
memcached_with -s "$work/chunked"
memcached_with -s "$work/chunked-16K"
for name in proxied plain chunked chunked-16K; do
    until [ -S "$work/$name" ]; do sleep 0.05; done
done
serve "plain" --l1 "memcached,addr=unix:$work/plain"
serve "chunked" --l1 "memcached,addr=unix:$work/chunked,layout=chunked"
serve "chunked 16K" --l1 "memcached,addr=unix:$work/chunked-16K,layout=chunked,chunk=16K"
serve "memory" --l1 memory,size=1G
for server in "${servers[@]}"; do
    address=${server##*=}
    until nc -z "${address%:*}" "${address#*:}"; do sleep 0.05; done
done

# The larger the values the fewer they are, so that the data stay of one order of size.
for size in 100:1000 10000:100 100000:100; do
    value_bytes=${size%:*}
    say "values of $value_bytes bytes, 50 connections, one request at a time on each"
    taskset -c "$client_core" "$examples/throughput" --connections 50 --value-bytes "$value_bytes" \
        --keys "${size#*:}" --rounds "$rounds" "${servers[@]}"
done
