#!/usr/bin/env bash
# Reserves hugepages for the frames of a DPDK device, shows them, and releases them. It only changes
# the kernel's own counters, records under /run what it has added to them and, with --persistent,
# writes its own files under /etc. A reservation is added to those of others, and a release removes
# only unused pages that were added here.
set -euo pipefail

# The roots of the kernel's files and of the configuration; tests use others.
sysfs=${SUNDER_SYSFS:-/sys}
etc=${SUNDER_ETC:-/etc}
run=${SUNDER_RUN:-/run}
lib=${SUNDER_LIB:-/usr/lib}

size_kib=2048
node=
count=
is_persistent=false
is_all=false
is_dry_run=false

usage() {
    cat <<'EOF'
usage: scripts/hugepages.sh COMMAND [OPTION]..

  reserve N       reserve N pages in addition to those of others; repeating it changes nothing
  show            what is reserved, free and in use, by size and NUMA node
  release         release pages reserved here that are not in use

  --size 2M|1G    size of a page (default 2M)
  --node N        only on this NUMA node (default: the kernel distributes them)
  --all           release: every page not in use, also those reserved by others
  --persistent    reserve: also at the next boot; release: not at the next boot any more
  --dry-run       print the steps without executing them
  --help          this text

A device needs about 18 MiB per worker plus 10 MiB; sunder prints how much is missing. Pages of 1G
should be reserved at boot, before memory is fragmented: --persistent explains how.
EOF
}

# Prints one line with the error and the remedy, and exits with status 2.
refuse() {
    printf 'hugepages.sh: %s\n' "$*" >&2
    exit 2
}

is_number() {
    [[ $1 =~ ^(0|[1-9][0-9]{0,8})$ ]]
}

parse() {
    command=
    while (($# > 0)); do
        case $1 in
        reserve | show | release)
            [[ -z $command ]] || refuse "one command at a time: $command or $1"
            command=$1
            if [[ $1 == reserve ]]; then
                if ! is_number "${2-}" || [[ $2 == 0 ]]; then
                    refuse "reserve ${2-}: expected a number of pages, as in: reserve 64"
                fi
                count=$2
                shift
            fi
            ;;
        --size)
            case ${2-} in
            2M) size_kib=2048 ;;
            1G) size_kib=1048576 ;;
            *) refuse "--size ${2-}: expected 2M or 1G" ;;
            esac
            shift
            ;;
        --node)
            is_number "${2-}" || refuse "--node ${2-}: expected a NUMA node's number; see: show"
            node=$2
            shift
            ;;
        --persistent) is_persistent=true ;;
        --all) is_all=true ;;
        --dry-run) is_dry_run=true ;;
        -h | --help)
            usage
            exit 0
            ;;
        *) refuse "$1: unknown; see scripts/hugepages.sh --help" ;;
        esac
        shift
    done
    [[ -n $command ]] || refuse "expected reserve N, show or release; see scripts/hugepages.sh --help"
}

# The directory with the counters of the chosen size and node.
pages_dir() {
    local dir=$sysfs/kernel/mm/hugepages
    if [[ -n $node ]]; then
        dir=$sysfs/devices/system/node/node$node
        [[ -d $dir ]] || refuse "--node $node: no such NUMA node; see: scripts/hugepages.sh show"
        dir=$dir/hugepages
    fi
    dir=$dir/hugepages-${size_kib}kB
    [[ -d $dir ]] ||
        refuse "the kernel has no pages of $(size_name "$size_kib"); use the other --size"
    printf '%s\n' "$dir"
}

size_name() {
    case $1 in
    2048) echo 2M ;;
    1048576) echo 1G ;;
    *) echo "${1}K" ;;
    esac
}

# Sets the number of pages, and returns the number that the kernel reserved.
set_pages() {
    local dir=$1 wanted=$2
    if $is_dry_run; then
        echo "would write $wanted to $dir/nr_hugepages" >&2
        echo "$wanted"
        return
    fi
    echo "$wanted" 2>/dev/null >"$dir/nr_hugepages" ||
        refuse "cannot write $dir/nr_hugepages: run as root (sudo scripts/hugepages.sh ..)"
    cat "$dir/nr_hugepages"
}

# The name of a reservation: by size, on a node or all.
name() {
    echo "sunder-hugepages-$(size_name "$size_kib")${node:+-node$node}"
}

# Number of pages reserved here: as recorded since boot, or else by the configuration for boot.
ours() {
    local noted=0
    if [[ -r $run/$(name) ]]; then
        noted=$(<"$run/$(name)")
    elif [[ -r $(persistent_file) ]]; then
        noted=$(sed -n 's/^# Of sunder: //p' "$(persistent_file)")
    fi
    if is_number "$noted"; then echo "$noted"; else echo 0; fi
}

note_ours() {
    if $is_dry_run; then return; fi
    if ! mkdir -p "$run" 2>/dev/null || ! echo "$1" 2>/dev/null >"$run/$(name)"; then
        refuse "cannot write $run/$(name): run as root (sudo scripts/hugepages.sh ..)"
    fi
}

reserve() {
    local dir before after wanted had
    dir=$(pages_dir)
    if $is_persistent; then refuse_if_overridden; fi
    before=$(<"$dir/nr_hugepages")
    had=$(ours)
    # At most as many as exist, whatever was recorded.
    if ((had > before)); then had=$before; fi
    if ((had >= count)); then
        note_ours "$had"
        echo "$had pages of $(size_name "$size_kib")${node:+ on node $node} were reserved already"
        if $is_persistent; then persist "$before" "$had"; fi
        return
    fi
    wanted=$((before + count - had))
    after=$(set_pages "$dir" "$wanted")
    if ((after < wanted)); then
        # All or nothing: a partial reservation is released.
        set_pages "$dir" "$before" >/dev/null
        refuse "the kernel found memory for $((after - before)) of $((count - had)) pages: free" \
            "some memory (echo 3 >/proc/sys/vm/drop_caches; echo 1 >/proc/sys/vm/compact_memory)," \
            "ask for fewer, or reserve them at boot with --persistent"
    fi
    note_ours "$count"
    if ! $is_dry_run; then
        echo "reserved $((count - had)) pages of $(size_name "$size_kib")${node:+ on node $node};" \
            "now $after"
    fi
    if $is_persistent; then persist "$wanted" "$count"; fi
}

release() {
    local dir reserved free had given after
    dir=$(pages_dir)
    reserved=$(<"$dir/nr_hugepages")
    free=$(<"$dir/free_hugepages")
    had=$(ours)
    given=$had
    if $is_all || ((given > free)); then given=$free; fi
    if ((given == 0)); then
        echo "nothing to give back: $had pages of $(size_name "$size_kib") were reserved here, and" \
            "$free of all $reserved are free$($is_all || ((had > 0)) || echo "; --all gives those back")"
    else
        after=$(set_pages "$dir" "$((reserved - given))")
        note_ours "$((had > given ? had - given : 0))"
        if ! $is_dry_run; then
            echo "released $((reserved - after)) pages of $(size_name "$size_kib"); $after are left," \
                "$((reserved - free)) of them in use"
        fi
    fi
    if $is_persistent; then forget; fi
}

# The file that makes a reservation at boot: one per size and node.
persistent_file() {
    if [[ $size_kib == 2048 && -z $node ]]; then
        echo "$etc/sysctl.d/90-$(name).conf"
    else
        echo "$etc/tmpfiles.d/$(name).conf"
    fi
}

# Other files that set the number of 2M pages of all nodes at boot, one per line: sysctl reads the
# files of its folders in the order of their names, and /etc/sysctl.conf last (sysctl.d(5),
# sysctl(8)).
other_files() {
    local file
    for file in "$etc"/sysctl.d/*.conf "$run"/sysctl.d/*.conf "$lib"/../local/lib/sysctl.d/*.conf \
        "$lib"/sysctl.d/*.conf "$etc/sysctl.conf"; do
        if [[ $file != "$(persistent_file)" ]] &&
            grep -qE '^[[:space:]]*-?vm[./]nr_hugepages[[:space:]]*=' "$file" 2>/dev/null; then
            printf '%s\n' "$file"
        fi
    done
}

# A later file determines the number after boot.
refuse_if_overridden() {
    local file ours
    if [[ $size_kib != 2048 || -n $node ]]; then return; fi
    ours=$(basename "$(persistent_file)")
    while IFS= read -r file; do
        if [[ $file == "$etc/sysctl.conf" || $(basename "$file") > $ours ]]; then
            refuse "$file sets vm.nr_hugepages at boot, and is read after" \
                "$(persistent_file): change the number there, and leave out --persistent"
        fi
    done < <(other_files)
}

persist() {
    local wanted=$1 added=$2 file
    file=$(persistent_file)
    if [[ $file == */sysctl.d/* ]]; then
        write_file "$file" "vm.nr_hugepages = $wanted" "$added"
    else
        # systemd-tmpfiles writes to the kernel's own file early at boot (tmpfiles.d(5), type w).
        write_file "$file" "w $(boot_path) - - - - $wanted" "$added"
    fi
    if [[ $size_kib == 1048576 ]]; then
        echo "note: 1G pages need memory in one piece, which may be gone by then; to be sure, add" \
            "to the kernel's command line: hugepagesz=1G hugepages=$wanted"
    fi
}

# The path of the counter on a running system, whatever root is used here.
boot_path() {
    local dir
    dir=$(pages_dir)
    printf '/sys%s/nr_hugepages\n' "${dir#"$sysfs"}"
}

write_file() {
    local file=$1 line=$2 added=$3
    if $is_dry_run; then
        echo "would write \"$line\" to $file"
        return
    fi
    local note="# Written by scripts/hugepages.sh; release --persistent removes it."
    if ! mkdir -p "${file%/*}" 2>/dev/null ||
        ! printf '%s\n# Of sunder: %s\n%s\n' "$note" "$added" "$line" 2>/dev/null >"$file"; then
        refuse "cannot write $file: run as root (sudo scripts/hugepages.sh ..)"
    fi
    echo "wrote $file: the same at the next boot"
}

forget() {
    local file
    file=$(persistent_file)
    if [[ ! -e $file ]]; then
        echo "nothing was to be reserved at boot ($file does not exist)"
    elif $is_dry_run; then
        echo "would remove $file"
    else
        rm -f "$file" 2>/dev/null || refuse "cannot remove $file: run as root"
        echo "removed $file"
    fi
    # All other pages: of other sizes and nodes, and of others.
    at_boot "$file" | sed 's/^/still /'
}

show() {
    local dir name where
    printf '%-6s %-6s %9s %9s %9s\n' size node reserved free "in use"
    for dir in "$sysfs"/kernel/mm/hugepages/hugepages-*kB \
        "$sysfs"/devices/system/node/node*/hugepages/hugepages-*kB; do
        [[ -r $dir/nr_hugepages ]] || continue
        name=${dir##*/hugepages-}
        where=all
        if [[ $dir =~ /node([0-9]+)/ ]]; then where=${BASH_REMATCH[1]}; fi
        local reserved free
        reserved=$(<"$dir/nr_hugepages")
        free=$(<"$dir/free_hugepages")
        printf '%-6s %-6s %9s %9s %9s\n' "$(size_name "${name%kB}")" "$where" "$reserved" "$free" \
            "$((reserved - free))"
    done
    at_boot ""
}

# at_boot FILE: reservations at boot, except those in FILE.
at_boot() {
    local file
    for file in "$etc"/sysctl.d/90-sunder-hugepages-*.conf \
        "$etc"/tmpfiles.d/sunder-hugepages-*.conf; do
        if [[ -e $file && $file != "$1" ]]; then echo "at boot: $file: $(tail -n 1 "$file")"; fi
    done
    size_kib=2048 node=
    while IFS= read -r file; do
        echo "at boot: $file: $(grep -E 'vm[./]nr_hugepages' "$file" | tail -n 1)"
    done < <(other_files)
}

parse "$@"
[[ -d $sysfs/kernel/mm/hugepages ]] ||
    refuse "this kernel has no hugepages (CONFIG_HUGETLBFS); start sunder with --huge off"
"$command"
