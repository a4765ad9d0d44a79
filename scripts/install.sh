#!/usr/bin/env bash
# Installs sunder, its man pages and its completions for bash, zsh and fish, with --service also a
# service for systemd, or removes them again. It never overwrites a configuration.
#
# usage: scripts/install.sh [--prefix DIR] [--binary FILE] [--service [--enable]] [--root DIR]
#        scripts/install.sh [--prefix DIR] [--root DIR] --uninstall
#
#   --prefix DIR      where to install: DIR/bin, DIR/share and DIR/lib [/usr/local]
#   --binary FILE     the binary [that of scripts/build-optimized.sh if there is one, else that of
#                     cargo build --release]; it writes its own man pages and completions
#   --service         also the unit sunder.service, its user, and /etc/sunder/sunder.toml if there
#                     is none; --prefix is /usr/local or /usr then
#   --enable          start the service now and at every boot
#   --root DIR        install into this folder as if it were /, for a package or an image: nothing
#                     is told to a running systemd
#   --uninstall       remove what was installed there, and nothing else: a configuration that was
#                     changed, the user and its data stay
#   --help            this text
set -euo pipefail

project=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

refuse() {
    printf 'install.sh: %s; see scripts/install.sh --help\n' "$*" >&2
    exit 2
}

fail() {
    printf 'install.sh: %s\n' "$*" >&2
    exit 1
}

prefix=/usr/local
root=
binary=$project/target/release/sunder
for optimized in "$project"/target/optimized/*/release/sunder; do
    [ ! -x "$optimized" ] || binary=$optimized
done
is_uninstall=0
is_service=0
is_enabled=0
while [ $# -gt 0 ]; do
    case $1 in
        --prefix | --binary | --root)
            [ -n "${2:-}" ] || refuse "$1: expected a path"
            case $1 in
                --prefix) prefix=$2 ;;
                --binary) binary=$2 ;;
                --root) root=$2 ;;
            esac
            shift
            ;;
        --service) is_service=1 ;;
        --enable) is_enabled=1 ;;
        --uninstall) is_uninstall=1 ;;
        -h | --help)
            sed -n '5,20s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
            exit 0
            ;;
        *) refuse "$1: unknown" ;;
    esac
    shift
done
[[ $prefix = /* ]] || refuse "--prefix $prefix: expected a path from the root on"
[[ -z $root || $root = /* ]] || refuse "--root $root: expected a path from the root on"
root=${root%/}
if [ "$is_service" = 1 ] && [[ $prefix != /usr && $prefix != /usr/local ]]; then
    refuse "--service: systemd reads units of /usr/local and /usr, and not of --prefix $prefix"
fi
[ "$is_enabled" = 0 ] || [ "$is_service" = 1 ] || refuse "--enable: give --service as well"
[ "$is_enabled" = 0 ] || [ -z "$root" ] || refuse "--enable: there is no systemd in --root $root"

to=$root$prefix
# Installed files, one per line, relative to the prefix.
list=$to/share/sunder/installed
settings=$root/etc/sunder/sunder.toml
unit=lib/systemd/system/sunder.service

# Whether there is a systemd that is to know.
has_systemd() { [ -z "$root" ] && [ -d /run/systemd/system ]; }

uninstall() {
    [ -f "$list" ] || fail "nothing is installed in $to (no $list)"
    # The list may have been changed: only sunder's own files are removed, whatever it contains.
    local ours='^(bin/sunder|share/man/man1/sunder[a-z0-9-]*\.1|share/bash-completion/completions/sunder'
    ours+='|share/zsh/site-functions/_sunder|share/fish/vendor_completions\.d/sunder\.fish'
    ours+='|lib/systemd/system/sunder\.service|lib/sysusers\.d/sunder\.conf'
    ours+='|lib/tmpfiles\.d/sunder\.conf|lib/sunder/(hugepages|bind-nic)\.sh'
    ours+='|share/sunder/(sunder\.toml|device\.conf))$'
    local files file
    mapfile -t files <"$list"
    for file in "${files[@]}"; do
        [[ $file =~ $ours ]] || fail "$list: '$file' is none of sunder's files; remove that line"
    done
    if [ -e "$to/$unit" ]; then
        ! has_systemd || systemctl disable --quiet --now sunder.service
        if cmp -s "$to/share/sunder/sunder.toml" "$settings"; then
            rm -f -- "$settings"
        elif [ -e "$settings" ]; then
            echo "$settings was changed and stays"
        fi
        rmdir --ignore-fail-on-non-empty -- "${settings%/*}" 2>/dev/null || true
    fi
    for file in "${files[@]}"; do
        rm -f -- "$to/$file"
    done
    rm -f -- "$list"
    rmdir --ignore-fail-on-non-empty -- "$to/share/sunder"
    [ ! -d "$to/lib/sunder" ] || rmdir --ignore-fail-on-non-empty -- "$to/lib/sunder"
    ! has_systemd || systemctl daemon-reload
    echo "removed sunder from $to"
}

# After the files of a service are there.
set_up_service() {
    if [ ! -e "$settings" ]; then
        install -D -m 644 -- "$to/share/sunder/sunder.toml" "$settings"
    fi
    if [ -n "$root" ]; then return; fi
    # They read the files by their names; at a boot systemd does the same.
    systemd-sysusers sunder.conf
    systemd-tmpfiles --create sunder.conf
    if has_systemd; then systemctl daemon-reload; fi
    if [ "$is_enabled" = 1 ]; then
        has_systemd || fail "--enable: systemd does not run here; the files are installed"
        systemctl enable --now sunder.service
    fi
}

if [ "$is_uninstall" = 1 ]; then
    uninstall
    exit 0
fi

[ -x "$binary" ] || fail "there is no $binary; run cargo build --release, or give --binary FILE"
# With a folder, because the shell would otherwise search it in PATH.
binary=$(realpath -- "$binary")
made=$(mktemp -d)
trap 'rm -rf -- "$made"' EXIT
mkdir "$made/man" "$made/completions"
"$binary" generate man "$made/man"
"$binary" generate completions "$made/completions"

declare -A sources=([bin/sunder]=$binary)
for page in "$made"/man/*.1; do
    sources[share/man/man1/${page##*/}]=$page
done
sources[share/bash-completion/completions/sunder]=$made/completions/sunder.bash
sources[share/zsh/site-functions/_sunder]=$made/completions/_sunder
sources[share/fish/vendor_completions.d/sunder.fish]=$made/completions/sunder.fish
if [ "$is_service" = 1 ]; then
    sed "s|@BINDIR@|$prefix/bin|" "$project/packaging/sunder.service" >"$made/sunder.service"
    sources[$unit]=$made/sunder.service
    sources[lib/sysusers.d/sunder.conf]=$project/packaging/sysusers.conf
    sources[lib/tmpfiles.d/sunder.conf]=$project/packaging/tmpfiles.conf
    sources[share/sunder/sunder.toml]=$project/packaging/sunder.toml
    sources[share/sunder/device.conf]=$project/packaging/device.conf
    # A checkout may be gone at a boot, when a NIC is bound again.
    sources[lib/sunder/hugepages.sh]=$project/scripts/hugepages.sh
    sources[lib/sunder/bind-nic.sh]=$project/scripts/bind-nic.sh
fi

# The list comes first, whole and with what an earlier install put there: whatever interrupts the
# rest, --uninstall removes it.
mkdir -p -- "${list%/*}"
{
    [ ! -f "$list" ] || cat -- "$list"
    printf '%s\n' "${!sources[@]}"
} | sort -u >"$list.new"
mv -- "$list.new" "$list"
for file in "${!sources[@]}"; do
    mode=644
    [[ $file != bin/sunder && $file != *.sh ]] || mode=755
    # Not in the place of the old one, which may run.
    install -D -m "$mode" -- "${sources[$file]}" "$to/$file.new"
    mv -f -- "$to/$file.new" "$to/$file"
done
[ "$is_service" = 0 ] || set_up_service
printf 'installed %q in %s; scripts/install.sh --prefix %q%s --uninstall removes it\n' \
    "$binary" "$to" "$prefix" "${root:+ --root $(printf %q "$root")}"
if [ "$is_service" = 1 ] && [ "$is_enabled" = 0 ]; then
    printf 'settings: %s; start it with: systemctl enable --now sunder\n' "$settings"
fi
