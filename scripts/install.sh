#!/usr/bin/env bash
# Installs sunder, its man pages and its completions for bash, zsh and fish, or removes them again.
#
# usage: scripts/install.sh [--prefix DIR] [--binary FILE]
#        scripts/install.sh [--prefix DIR] --uninstall
#
#   --prefix DIR      where to install: DIR/bin and DIR/share [/usr/local]
#   --binary FILE     the binary, of cargo build --release unless given; it writes its own man pages
#                     and completions
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

# What was installed, one file a line, below the prefix.
list=$prefix/share/sunder/installed

if [ "$is_uninstall" = 1 ]; then
    [ -f "$list" ] || fail "nothing is installed in $prefix (no $list)"
    # The list may have been changed: nothing but sunder's own files is removed, whatever it says.
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
# With a folder, or the shell would look for it along PATH.
binary=$(realpath -- "$binary")
made=$(mktemp -d)
trap 'rm -rf -- "$made"' EXIT
mkdir "$made/man" "$made/completions"
"$binary" generate man "$made/man"
"$binary" generate completions "$made/completions"

files=()
# put MODE FILE NAME: installs FILE as NAME below the prefix.
put() {
    install -D -m "$1" -- "$2" "$prefix/$3"
    files+=("$3")
}

put 755 "$binary" bin/sunder
for page in "$made"/man/*.1; do
    put 644 "$page" "share/man/man1/${page##*/}"
done
put 644 "$made/completions/sunder.bash" share/bash-completion/completions/sunder
put 644 "$made/completions/_sunder" share/zsh/site-functions/_sunder
put 644 "$made/completions/sunder.fish" share/fish/vendor_completions.d/sunder.fish
mkdir -p -- "${list%/*}"
printf '%s\n' "${files[@]}" >"$list"
printf 'installed sunder in %s; scripts/install.sh --prefix %q --uninstall removes it\n' \
    "$prefix" "$prefix"
