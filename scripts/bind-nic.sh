#!/usr/bin/env bash
# Binds a PCI network device to DPDK (vfio-pci or uio_pci_generic), or back to the kernel. It only
# changes the device's driver and, with --persistent, writes a unit of its own under /etc, and never
# takes an interface that the host uses without --force: you may be logged in through it.
set -euo pipefail

# The root of /sys and /proc, and of the configuration; tests use another.
sysfs=${SUNDER_SYSFS:-/sys}
units=${SUNDER_ETC:-/etc}/systemd/system
routes=${SUNDER_ROUTES:-/proc/net/route}
routes6=${SUNDER_ROUTES6:-/proc/net/ipv6_route}
addresses6=${SUNDER_ADDRESSES6:-/proc/net/if_inet6}

devices=$sysfs/bus/pci/devices
drivers=$sysfs/bus/pci/drivers
driver=vfio-pci
address=
is_forced=false
is_persistent=false
is_dry_run=false

usage() {
    cat <<'EOF'
usage: scripts/bind-nic.sh COMMAND [OPTION]..

  show              PCI network devices, their drivers and interfaces
  bind ADDRESS      bind the device to a driver for DPDK
  unbind ADDRESS    return the device to the kernel

  --driver NAME     bind: vfio-pci (default; needs an IOMMU) or uio_pci_generic
  --force           bind: also if the host uses the interface: it has an address or a route, or is
                    part of a bond, a bridge, a VLAN or similar
  --persistent      bind: also at every boot, before sunder.service; unbind: not any more
  --dry-run         print the steps without executing them
  --help            this text

Addresses are those of show and lspci: 0000:05:00.0, or 05:00.0. Devices of Mellanox (mlx4, mlx5)
stay with the kernel's driver: sunder opens them directly.
EOF
}

# Prints one line with the error and the remedy, and exits with status 2.
refuse() {
    printf 'bind-nic.sh: %s\n' "$*" >&2
    exit 2
}

parse() {
    command=
    while (($# > 0)); do
        case $1 in
        show | bind | unbind)
            [[ -z $command ]] || refuse "one command at a time: $command or $1"
            command=$1
            if [[ $1 != show ]]; then
                [[ -n ${2-} ]] || refuse "$1: expected a PCI address; see scripts/bind-nic.sh show"
                address=$(full_address "$2")
                shift
            fi
            ;;
        --driver)
            case ${2-} in
            vfio-pci | uio_pci_generic) driver=$2 ;;
            *) refuse "--driver ${2-}: expected vfio-pci or uio_pci_generic" ;;
            esac
            shift
            ;;
        --force) is_forced=true ;;
        --persistent) is_persistent=true ;;
        --dry-run) is_dry_run=true ;;
        -h | --help)
            usage
            exit 0
            ;;
        *) refuse "$1: unknown; see scripts/bind-nic.sh --help" ;;
        esac
        shift
    done
    [[ -n $command ]] || refuse "expected show, bind or unbind; see scripts/bind-nic.sh --help"
}

full_address() {
    local given=${1,,} hex='[0-9a-f]'
    if [[ $given =~ ^$hex{2}:$hex{2}\.[0-7]$ ]]; then given=0000:$given; fi
    [[ $given =~ ^$hex{4}:$hex{2}:$hex{2}\.[0-7]$ ]] ||
        refuse "$1: expected a PCI address as 0000:05:00.0; see scripts/bind-nic.sh show"
    printf '%s\n' "$given"
}

# The driver of a device; nothing if it has none.
driver_of() {
    if [[ -L $devices/$1/driver ]]; then basename "$(readlink "$devices/$1/driver")"; fi
}

# The kernel's interfaces on a device: in its own directory, or below a virtio device.
interfaces_of() {
    local path
    for path in "$devices/$1"/net/* "$devices/$1"/virtio*/net/*; do
        if [[ -e $path ]]; then basename "$path"; fi
    done
}

# What the host uses an interface for, one use per line; nothing if it does not.
uses_of() {
    local name=$1 path upper use
    for path in "$sysfs/class/net/$name"/upper_*; do
        [[ -e $path ]] || continue
        upper=${path##*/upper_}
        echo "is part of $upper"
        while IFS= read -r use; do
            echo "is part of $upper, which $use"
        done < <(uses_of "$upper")
    done
    # Destination and mask 0, or prefix length 0: a default route. The multicast and link-local
    # entries that the kernel creates for every IPv6 interface are ignored.
    awk -v name="$name" '
        FILENAME == ARGV[1] && $1 == name {
            what = $2 == "00000000" && $8 == "00000000" ? "carries the default route" : "has a route"
            print what
        }
        FILENAME == ARGV[2] && $10 == name && $1 !~ /^(ff|fe[89ab])/ {
            print $2 == "00" ? "carries the default route" : "has a route"
        }
        FILENAME == ARGV[3] && $6 == name && $1 !~ /^fe[89ab]/ { print "has an address" }
        FILENAME == "-" && $2 == name { print "has an address" }
    ' "$(there "$routes")" "$(there "$routes6")" "$(there "$addresses6")" - < <(addresses4) | sort -u
}

# IPv4 addresses as ip shows them, one per line; /proc does not name their interfaces.
addresses4() {
    if [[ -n ${SUNDER_ADDRESSES4-} ]]; then
        cat "$SUNDER_ADDRESSES4"
    else
        ip -o -4 address 2>/dev/null || true
    fi
}

# A kernel without IPv6 does not have this file.
there() {
    if [[ -r $1 ]]; then printf '%s\n' "$1"; else echo /dev/null; fi
}

require_device() {
    [[ -d $devices/$address ]] ||
        refuse "$address: no such PCI device; see scripts/bind-nic.sh show"
    local class
    class=$(<"$devices/$address/class")
    [[ $class == 0x02* ]] || refuse "$address: not a network device (class $class)"
}

# Writes to a file of the kernel, or with --dry-run prints that it would.
put() {
    local value=$1 file=$2
    if $is_dry_run; then
        echo "would write \"$value\" to $file"
        return
    fi
    # A driver that refuses the device makes the write fail.
    printf '%s\n' "$value" 2>/dev/null >"$file" ||
        refuse "the kernel did not take \"$value\" at $file: run as root, and see dmesg for its reason"
}

load() {
    if [[ -d $drivers/$1 ]]; then return; fi
    if $is_dry_run; then
        echo "would run modprobe $1"
        return
    fi
    modprobe "$1" 2>/dev/null || refuse "no driver $1 in this kernel: install it (Debian:" \
        "linux-image-$(uname -r) has vfio-pci and uio_pci_generic), or use the other --driver"
}

bind() {
    require_device
    local current interface uses
    current=$(driver_of "$address")
    if [[ $current == "$driver" ]]; then
        echo "$address is with $driver already"
        return
    fi
    case $current in
    mlx4_core | mlx5_core)
        refuse "$address: DPDK uses it beside $current; start sunder with --device $address as it is"
        ;;
    esac
    while IFS= read -r interface; do
        uses=$(uses_of "$interface")
        if [[ -n $uses ]] && ! $is_forced; then
            refuse "$address is $interface, which ${uses//$'\n'/; }: you may lose this host; use" \
                "another device, take that away first, or --force if you reach it otherwise"
        fi
    done < <(interfaces_of "$address")
    load "$driver"
    if [[ $driver == vfio-pci && ! -e $devices/$address/iommu_group ]]; then
        refuse_without_iommu
    fi
    # From now on the kernel tries only this driver (Documentation/ABI, driver_override).
    put "$driver" "$devices/$address/driver_override"
    if [[ -n $current ]]; then put "$address" "$devices/$address/driver/unbind"; fi
    put "$address" "$sysfs/bus/pci/drivers_probe"
    finish "$driver"
}

refuse_without_iommu() {
    local switch=$sysfs/module/vfio/parameters/enable_unsafe_noiommu_mode
    if [[ -r $switch && $(<"$switch") == [Y1] ]]; then return; fi
    refuse "$address: vfio-pci needs an IOMMU: switch it on (firmware, and intel_iommu=on on the" \
        "kernel's command line), or use --driver uio_pci_generic, which protects nothing"
}

unbind() {
    require_device
    local current
    current=$(driver_of "$address")
    case $current in
    vfio-pci | uio_pci_generic | igb_uio | '') ;;
    *)
        echo "$address is with the kernel's $current already"
        return
        ;;
    esac
    # An empty line removes the override, and the kernel chooses by the device's ids again.
    put "" "$devices/$address/driver_override"
    if [[ -n $current ]]; then put "$address" "$devices/$address/driver/unbind"; fi
    put "$address" "$sysfs/bus/pci/drivers_probe"
    finish ""
}

# Checks whether the device has this driver, or for "" any driver of the kernel.
finish() {
    if $is_dry_run; then return; fi
    local now
    now=$(driver_of "$address")
    if [[ -n $1 && $now != "$1" ]]; then
        refuse "$address is with ${now:-no driver} and not with $1: see dmesg for the kernel's reason"
    elif [[ -z $now ]]; then
        refuse "$address: no driver of the kernel's took it: load its module with modprobe, then" \
            "echo $address >$sysfs/bus/pci/drivers_probe"
    fi
    echo "$address is with $now now"
}

show() {
    local path id current names interface note
    printf '%-13s %-16s %-11s %s\n' address driver "vendor:id" interfaces
    for path in "$devices"/*; do
        [[ -r $path/class && $(<"$path/class") == 0x02* ]] || continue
        id=$(<"$path/vendor"):$(<"$path/device")
        current=$(driver_of "${path##*/}")
        names=
        while IFS= read -r interface; do
            note=$(uses_of "$interface")
            case $note in
            *"the default route"*) note=" (default route)" ;;
            ?*) note=" (in use)" ;;
            esac
            names+="${names:+, }$interface$note"
        done < <(interfaces_of "${path##*/}")
        printf '%-13s %-16s %-11s %s\n' "${path##*/}" "${current:--}" "${id//0x/}" "${names:--}"
    done
}

# The unit that binds the device at a boot, and where sunder.service requires it.
unit() {
    echo "sunder-nic-$address.service"
}

# What the unit runs: this script, where scripts/install.sh --service puts it or where it is.
persist() {
    local script force=
    script=$(realpath -- "${BASH_SOURCE[0]}")
    if [[ $script == *[[:space:]%\\\"\'\$]* ]]; then
        refuse "$script: systemd could not run it by that path; install it by scripts/install.sh" \
            "--service, and use /usr/local/lib/sunder/bind-nic.sh"
    fi
    if $is_forced; then force=" --force"; fi
    if $is_dry_run; then
        echo "would write $units/$(unit)"
        return
    fi
    if ! mkdir -p "$units/sunder.service.requires" 2>/dev/null ||
        ! cat 2>/dev/null >"$units/$(unit)" <<EOF
# Written by bind-nic.sh; unbind --persistent removes it.
[Unit]
Description=bind $address to $driver for sunder
Before=sunder.service network-pre.target
Wants=network-pre.target

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=$script bind $address --driver $driver$force
EOF
    then
        refuse "cannot write $units/$(unit): run as root (sudo scripts/bind-nic.sh ..)"
    fi
    ln -sf "../$(unit)" "$units/sunder.service.requires/$(unit)"
    tell_systemd
    echo "wrote $units/$(unit): the same at the next boot"
}

forget() {
    if [[ ! -e $units/$(unit) ]]; then
        echo "nothing was to be bound at boot ($units/$(unit) does not exist)"
    elif $is_dry_run; then
        echo "would remove $units/$(unit)"
    else
        rm -f "$units/$(unit)" "$units/sunder.service.requires/$(unit)" 2>/dev/null ||
            refuse "cannot remove $units/$(unit): run as root"
        rmdir --ignore-fail-on-non-empty "$units/sunder.service.requires" 2>/dev/null || true
        tell_systemd
        echo "removed $units/$(unit)"
    fi
}

tell_systemd() {
    if [[ $units == /etc/* && -d /run/systemd/system ]]; then systemctl daemon-reload; fi
}

parse "$@"
if [[ $command == show && ! -d $devices ]]; then
    echo "this host has no PCI devices; sunder's vdevs work without (net_af_packet0,iface=NAME)"
    exit 0
fi
"$command"
if $is_persistent; then
    case $command in
    bind) persist ;;
    unbind) forget ;;
    esac
fi
