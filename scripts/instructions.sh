#!/usr/bin/env bash
# Counts the instructions that the whole worker takes per request, under callgrind, on frames made in
# the process, and compares them with the recorded ones: more than 5 % above is a failure.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
cd "$project"

recorded=benches/instructions.txt
usage="usage: scripts/instructions.sh [--record]
Compares instructions per request with $recorded; --record writes that file anew."
record=0
case "${1:-}" in
    '') ;;
    --record) record=1 ;;
    *)
        say "$usage"
        [ "$1" = --help ] && exit 0
        exit 2
        ;;
esac

connections=100
requests=20000
allowed_percent=5

# The one bench binary: what cargo says it built.
binary=$(cargo bench --bench worker --no-run --message-format=json 2>/dev/null |
    grep -o '"executable":"[^"]*/worker-[^"]*"' | cut -d'"' -f4)
[ -x "$binary" ] || fail "the bench does not build"

work=$(mktemp -d)
on_exit "rm -rf $work"

# Instructions of the server's turns for so many requests of a kind. Making frames, the client's part,
# is outside of what is counted.
count() {
    valgrind --tool=callgrind --callgrind-out-file="$work/out" --collect-atstart=no \
        --toggle-collect='*Bench*turns*' "$binary" --count "$1" "$connections" "$2" \
        >"$work/log" 2>&1 || { cat "$work/log"; fail "callgrind failed"; }
    sed -n 's/^\(totals\|summary\): \([0-9]*\).*/\2/p' "$work/out" | tail -n 1
}

passed=0
failed=0
lines=
for kind in get-hit get-miss set binary-get-hit; do
    # The difference of two runs leaves connecting out.
    few=$(count "$kind" "$connections")
    many=$(count "$kind" $((connections + requests)))
    now=$(((many - few) / requests))
    lines+="$kind $now"$'\n'
    was=$(awk -v kind="$kind" '$1 == kind { print $2 }' "$recorded" 2>/dev/null || true)
    if [ "$record" -eq 1 ] || [ -z "$was" ]; then
        say "$kind: $now instructions per request"
        [ "$record" -eq 1 ] || failed=$((failed + 1))
    elif [ $((now * 100)) -gt $((was * (100 + allowed_percent))) ]; then
        say "$kind: $now instructions per request, $was recorded: over $allowed_percent % more"
        failed=$((failed + 1))
    else
        say "$kind: $now instructions per request, $was recorded"
        passed=$((passed + 1))
    fi
done
if [ "$record" -eq 1 ]; then
    {
        say "# Instructions per request of the whole worker, $connections connections, 100-byte values;"
        say "# written by scripts/instructions.sh --record."
        printf '%s' "$lines"
    } >"$recorded"
    exit 0
fi
say "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
