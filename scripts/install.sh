#!/usr/bin/env bash
# Installs sunder, its man pages and its completions for bash, zsh and fish, or removes them again.
#
# usage: scripts/install.sh [--prefix DIR] [--binary FILE]
#        scripts/install.sh [--prefix DIR] --uninstall
#
#   --prefix DIR      where to install: DIR/bin and DIR/share [/usr/local]
#   --binary FILE     the binary [that of scripts/build-optimized.sh if there is one, else that of
#                     cargo build --release]; it writes its own man pages and completions
#   --uninstall       remove what was installed there, and nothing else
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
binary=$project/target/release/sunder
for optimized in "$project"/target/optimized/*/release/sunder; do
    [ ! -x "$optimized" ] || binary=$optimized
done
is_uninstall=0
while [ $# -gt 0 ]; do
    case $1 in
        --prefix | --binary)
            [ -n "${2:-}" ] || refuse "$1: expected a path"
            if [ "$1" = --prefix ]; then prefix=$2; else binary=$2; fi
            shift
            ;;
        --uninstall) is_uninstall=1 ;;
        -h | --help)
            sed -n '4,11s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
            exit 0
            ;;
        *) refuse "$1: unknown" ;;
    esac
    shift
done
[[ $prefix = /* ]] || refuse "--prefix $prefix: expected a path from the root on"

# Installed files, one per line, relative to the prefix.
list=$prefix/share/sunder/installed

if [ "$is_uninstall" = 1 ]; then
    [ -f "$list" ] || fail "nothing is installed in $prefix (no $list)"
    # The list may have been changed: only sunder's own files are removed, whatever it contains.
    ours='^(bin/sunder|share/man/man1/sunder[a-z0-9-]*\.1|share/bash-completion/completions/sunder'
    ours+='|share/zsh/site-functions/_sunder|share/fish/vendor_completions\.d/sunder\.fish)$'
    mapfile -t files <"$list"
    for file in "${files[@]}"; do
        [[ $file =~ $ours ]] || fail "$list: '$file' is none of sunder's files; remove that line"
    done
    for file in "${files[@]}"; do
        rm -f -- "$prefix/$file"
    done
    rm -f -- "$list"
    rmdir --ignore-fail-on-non-empty -- "$prefix/share/sunder"
    echo "removed sunder from $prefix"
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
    [ "$file" != bin/sunder ] || mode=755
    install -D -m "$mode" -- "${sources[$file]}" "$prefix/$file"
done
printf 'installed %q in %s; scripts/install.sh --prefix %q --uninstall removes it\n' \
    "$binary" "$prefix" "$prefix"
