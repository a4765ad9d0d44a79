#!/usr/bin/env bash
# Reserves hugepages for the frames of a DPDK device, shows them, and gives them back.
# It changes the kernel's own counters and, with --persistent, files of its own under /etc; nothing
# else. Reserving is adding to what others have reserved, releasing is taking away what nobody uses.
set -euo pipefail

# Where the kernel and the configuration are; other roots are for tests.
sysfs=${SUNDER_SYSFS:-/sys}
etc=${SUNDER_ETC:-/etc}

size_kib=2048
node=
count=
is_persistent=false
is_dry_run=false

usage() {
    cat <<'EOF'
usage: scripts/hugepages.sh COMMAND [OPTION]..

  reserve N       have N pages more than now are reserved
  show            what is reserved, free and in use, by size and NUMA node
  release         give back every page that nobody uses

  --size 2M|1G    size of a page (default 2M)
  --node N        only on this NUMA node (default: the kernel spreads them)
  --persistent    reserve: also at the next boot; release: no more at the next boot
  --dry-run       say what would be done, and do nothing
  --help          this text

A device needs about 18 MiB a worker and 10 MiB more; sunder says how much is missing. Pages of 1G
are best reserved at boot, when memory is not fragmented yet: --persistent says how.
EOF
}

# One line that says what is wrong and what to do, and exit status 2.
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

# Sets the number of pages, and returns what the kernel made of it.
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

reserve() {
    local dir before after wanted
    dir=$(pages_dir)
    before=$(<"$dir/nr_hugepages")
    wanted=$((before + count))
    after=$(set_pages "$dir" "$wanted")
    if ((after < wanted)); then
        # All or nothing: what came is given back.
        set_pages "$dir" "$before" >/dev/null
        refuse "the kernel found memory for $((after - before)) of $count pages: free some memory" \
            "(echo 3 >/proc/sys/vm/drop_caches; echo 1 >/proc/sys/vm/compact_memory), ask for" \
            "fewer, or reserve them at boot with --persistent"
    fi
    if ! $is_dry_run; then
        echo "reserved $count pages of $(size_name "$size_kib")${node:+ on node $node}; now $after"
    fi
    if $is_persistent; then persist "$wanted"; fi
}

release() {
    local dir reserved free after
    dir=$(pages_dir)
    reserved=$(<"$dir/nr_hugepages")
    free=$(<"$dir/free_hugepages")
    after=$(set_pages "$dir" "$((reserved - free))")
    if ! $is_dry_run; then
        echo "released $((reserved - after)) pages of $(size_name "$size_kib"); $after are in use"
    fi
    if $is_persistent; then forget; fi
}

# The file that makes a reservation at boot: one for each size and node.
persistent_file() {
    local name
    name=sunder-hugepages-$(size_name "$size_kib")${node:+-node$node}
    if [[ $size_kib == 2048 && -z $node ]]; then
        echo "$etc/sysctl.d/90-$name.conf"
    else
        echo "$etc/tmpfiles.d/$name.conf"
    fi
}

persist() {
    local wanted=$1 file
    file=$(persistent_file)
    if [[ $file == */sysctl.d/* ]]; then
        write_file "$file" "vm.nr_hugepages = $wanted"
    else
        # systemd-tmpfiles writes to the kernel's own file early at boot (tmpfiles.d(5), type w).
        write_file "$file" "w $(boot_path) - - - - $wanted"
    fi
    if [[ $size_kib == 1048576 ]]; then
        echo "note: 1G pages need memory in one piece, which may be gone by then; to be sure, add" \
            "to the kernel's command line: hugepagesz=1G hugepages=$wanted"
    fi
}

# Where the counter is on a running system, whatever root is in use here.
boot_path() {
    local dir
    dir=$(pages_dir)
    printf '/sys%s/nr_hugepages\n' "${dir#"$sysfs"}"
}

write_file() {
    local file=$1 line=$2
    if $is_dry_run; then
        echo "would write \"$line\" to $file"
        return
    fi
    local note="# Written by scripts/hugepages.sh; release --persistent removes it."
    if ! mkdir -p "${file%/*}" 2>/dev/null ||
        ! printf '%s\n%s\n' "$note" "$line" 2>/dev/null >"$file"; then
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
        echo "removed $file: nothing is reserved at the next boot"
    fi
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
    for file in "$etc"/sysctl.d/90-sunder-hugepages-*.conf \
        "$etc"/tmpfiles.d/sunder-hugepages-*.conf; do
        if [[ -e $file ]]; then echo "at boot: $file: $(tail -n 1 "$file")"; fi
    done
}

parse "$@"
[[ -d $sysfs/kernel/mm/hugepages ]] ||
    refuse "this kernel has no hugepages (CONFIG_HUGETLBFS); start sunder with --huge off"
"$command"
