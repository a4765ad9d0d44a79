#!/usr/bin/env bash
# Installs the packages for building, running and testing sunder, on Debian 12. If nothing is
# missing it ends quickly without changes.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

if [ "${1:-}" = --help ]; then
    say "usage: scripts/setup.sh [--optimized | --build]
Installs the Debian packages that sunder's build, its quickstart and its tests need, and checks
that a Rust toolchain is there. Asks sudo only if something is missing.
  --optimized   also what scripts/build-optimized.sh needs
  --build       only what cargo build needs"
    exit 0
fi

# Compiling: a C compiler for DPDK's inline functions, libclang to generate bindings from its
# headers.
build=(build-essential pkg-config clang libclang-dev libdpdk-dev)
# Running: network namespaces for quickstart and tests, and a client to type into.
run=(iproute2 ethtool netcat-openbsd procps)
# Testing: the servers and tools that sunder is compared with, a load balancer, a conformance tool,
# instruction counts, Python and Ruby clients, loop devices with file systems, a browser for the
# live page, tools that the scripts use, and systemd's own for the unit.
test=(memcached haproxy libmemcached-tools libsasl2-modules nutcracker dpdk-dev fio jq valgrind
    python3 python3-venv mmdebstrap iputils-ping mount util-linux e2fsprogs xfsprogs btrfs-progs
    shellcheck chromium chromium-driver
    systemd)
# Building with a profile: the tool that merges profiles.
optimized=()
case "${1:-}" in
    '') ;;
    --optimized) optimized=(llvm-19) ;;
    --build) run=() test=() ;;
    *) refuse "unknown argument '$1'" ;;
esac

missing=()
for package in "${build[@]}" "${run[@]}" "${test[@]}" "${optimized[@]}"; do
    case "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" in
        installed) ;;
        *) missing+=("$package") ;;
    esac
done
if [ ${#missing[@]} -gt 0 ]; then
    say "Installing: ${missing[*]}"
    as_root=()
    if [ "$(id -u)" -ne 0 ]; then
        command -v sudo >/dev/null || fail "needs root to install packages: run it as root"
        as_root=(sudo)
    fi
    "${as_root[@]}" apt-get update -qq
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
    # Debian starts a memcached on sunder's default port when the package is installed.
    if [[ " ${missing[*]} " == *" memcached "* ]] && [ -d /run/systemd/system ]; then
        say "Stopping the memcached service that this installation started on port 11211."
        "${as_root[@]}" systemctl disable --quiet --now memcached
    fi
fi

rust_wanted=1.95
if ! command -v cargo >/dev/null || ! command -v rustc >/dev/null; then
    fail "no Rust toolchain: install $rust_wanted or newer with rustup (https://rustup.rs)"
fi
rust_found=$(rustc --version | cut -d' ' -f2)
if [ "$(printf '%s\n' "$rust_wanted" "$rust_found" | sort -V | head -n 1)" != "$rust_wanted" ]; then
    fail "Rust $rust_found is too old: 'rustup update' to $rust_wanted or newer"
fi
