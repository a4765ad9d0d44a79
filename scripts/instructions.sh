#!/usr/bin/env bash
# Counts instructions under callgrind and compares them with the recorded ones: per request of the
# whole worker, on frames created in the process, and per operation of a request's parts. An
# increase of more than 5 % is a failure, and is printed.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
cd "$project"

recorded=benches/instructions.txt
gained_percent=2
usage="usage: scripts/instructions.sh [--record | --optimized WORKER]
Compares instructions per request with $recorded.
  --record             write that file again
  --optimized WORKER   only the worker's benchmark built by scripts/build-optimized.sh: a GET hit must
                       take at least $gained_percent % less than recorded"
record=0
optimized=
case "${1:-}" in
    '') ;;
    --record) record=1 ;;
    --optimized) optimized=${2:?which binary, scripts/build-optimized.sh --bench says} ;;
    *)
        say "$usage"
        [ "$1" = --help ] && exit 0
        exit 2
        ;;
esac

# Cases of the whole worker (benches/worker.rs), and of its parts (benches/parts.rs).
kinds=(get-hit get-miss set binary-get-hit meta-get-hit)
cases=(
    parser/text-get parser/text-set parser/text-get-10-keys parser/text-hit
    parser/binary-get parser/binary-set parser/binary-hit
    layout/split layout/assemble
    memory/get-hit memory/get-miss memory/set memory/delete-and-set
    two-tiers/get-miss two-tiers/get-10-misses two-tiers/ssd-hit
)
connections=100
requests=20000
operations=5000
allowed_percent=5

command -v valgrind >/dev/null || fail "needs valgrind: scripts/setup.sh installs it"

work=$(mktemp -d)
on_exit rm -rf -- "$work"

# Instructions of a command under callgrind; the arguments before -- are callgrind's.
count() {
    local options=()
    while [ "$1" != -- ]; do
        options+=("$1")
        shift
    done
    shift
    local out=$work/out.$BASHPID log=$work/log.$BASHPID
    valgrind --tool=callgrind --callgrind-out-file="$out" "${options[@]}" "$@" \
        >"$log" 2>&1 || { cat "$log" >&2; fail "callgrind failed: $*"; }
    sed -n 's/^\(totals\|summary\): \([0-9]*\).*/\2/p' "$out" | tail -n 1
}

# difference LESS MORE COMMAND..: instructions of the command with one number and with the other,
# subtracted; this excludes the start: connecting, storing, starting. Both run concurrently, because
# that changes no count.
difference() {
    local less=$1 more=$2 few many
    shift 2
    "$@" "$less" >"$work/few" &
    many=$("$@" "$more") || fail "no count: $*"
    wait "$!" || fail "no count: $*"
    few=$(<"$work/few")
    say $((many - few))
}

# The server's turns for a number of requests of a kind. Creating frames, the client's part, is not
# counted.
count_turns() {
    count --collect-atstart=no --toggle-collect='*Bench*turns*' -- \
        "$worker" --count "$1" "$connections" "$2"
}

# Instructions per request of a kind.
count_worker() {
    local all
    all=$(difference "$connections" $((connections + requests)) count_turns "$1")
    say $((all / requests))
}

recorded_of() { awk -v name="$1" '$1 == name { print $2 }' "$recorded" 2>/dev/null || true; }

if [ -n "$optimized" ]; then
    worker=$optimized
    now=$(count_worker get-hit)
    was=$(recorded_of get-hit)
    say "get-hit: $now instructions in the optimized build, $was recorded of the ordinary one"
    [ $((now * 100)) -le $((was * (100 - gained_percent))) ] ||
        fail "the profile gains less than $gained_percent %"
    exit 0
fi

# The bench binaries, as reported by cargo. scripts/test.sh builds them together with the rest.
cargo build --release --bench worker --bench parts --message-format=json \
    >"$work/built" 2>"$work/log" || { tail -n 20 "$work/log" >&2; fail "the benches do not build"; }
built() {
    grep -o "\"executable\":\"[^\"]*/$1-[^\"]*\"" "$work/built" | cut -d'"' -f4
}
worker=$(built worker)
parts=$(built parts)
for built in "$worker" "$parts"; do
    [ -x "$built" ] || fail "cargo built no benches"
done

passed=0
lines=
grown=()
# Compares a figure, or records it.
compare() {
    local name=$1 now=$2 was
    lines+="$name $now"$'\n'
    if [ "$record" -eq 1 ]; then
        say "$name: $now instructions"
        return
    fi
    was=$(recorded_of "$name")
    if [ -z "$was" ]; then
        say "$name: $now instructions, none recorded"
        grown+=("$name has no figure in $recorded")
        return
    fi
    local change
    change=$(awk -v now="$now" -v was="$was" 'BEGIN { printf "%+.1f %%", (now / was - 1) * 100 }')
    say "$name: $now instructions, $was recorded ($change)"
    if [ $((now * 100)) -gt $((was * (100 + allowed_percent))) ]; then
        grown+=("$name grew from $was to $now ($change), $allowed_percent % is allowed")
    else
        passed=$((passed + 1))
    fi
}

for kind in "${kinds[@]}"; do
    compare "$kind" "$(count_worker "$kind")"
done
for case in "${cases[@]}"; do
    times=$operations
    # The store's hash seed is drawn at each start, so what its preparation costs differs: by some
    # hundred thousand instructions, which must not count.
    [[ $case != memory/* ]] || times=$((20 * operations))
    all=$(difference "$times" $((2 * times)) count -- "$parts" "$case")
    compare "$case" $((all / times))
done

if [ "$record" -eq 1 ]; then
    {
        say "# Instructions per request of the whole worker ($connections connections, 100-byte values)"
        say "# and per operation of its parts; written by scripts/instructions.sh --record."
        printf '%s' "$lines"
    } >"$recorded"
    exit 0
fi
for line in "${grown[@]}"; do
    say "FAILED: $line"
done
say "$passed passed, ${#grown[@]} failed"
[ "${#grown[@]}" -eq 0 ]
