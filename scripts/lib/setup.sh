# What every script here starts with: places, messages, and what is missing on the machine. Sourced, not run.
#
# Quiet unless something is wrong; a step that takes long says that it runs. Everything is idempotent.
# shellcheck shell=bash

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
TARGET=${CARGO_TARGET_DIR:-$ROOT/target}
LOGS=$(mktemp -d "${TMPDIR:-/tmp}/sluice-log.XXXXXX")
export CARGO_TERM_QUIET=${CARGO_TERM_QUIET:-true} CARGO_TERM_PROGRESS_WHEN=never
# One temporary folder for everything that the tests make, so that one removal cleans up.
export DEBIAN_FRONTEND=noninteractive

if [ -t 1 ]; then BOLD=$'\e[1m' DIM=$'\e[2m' RED=$'\e[31m' GREEN=$'\e[32m' PLAIN=$'\e[0m'; else BOLD='' DIM='' RED='' GREEN='' PLAIN=''; fi

say() { printf '%s\n' "$*"; }
die() { printf '%serror:%s %s\n' "$RED" "$PLAIN" "$*" >&2; exit 1; }
need_root() { [ "$(id -u)" = 0 ] || die "${1:-this} needs root: it makes network namespaces and installs packages"; }

# quietly STEP COMMAND...: runs it, shows its output only if it fails.
quietly() {
    local step=$1 log
    shift
    log="$LOGS/$(printf '%s' "$step" | tr -c 'a-zA-Z0-9' _).log"
    if ! "$@" >"$log" 2>&1; then
        printf '%s✗ %s%s\n' "$RED" "$step" "$PLAIN" >&2
        tail -n "${TAIL:-60}" "$log" >&2
        return 1
    fi
}

# step NAME COMMAND...: as quietly, with a line that says what runs and how long it took.
step() {
    local name=$1 start=$SECONDS
    shift
    [ -t 1 ] && printf '%s… %s%s' "$DIM" "$name" "$PLAIN"
    quietly "$name" "$@" || return 1
    [ -t 1 ] && printf '\r\e[K'
    printf '%s✓%s %s %s(%ss)%s\n' "$GREEN" "$PLAIN" "$name" "$DIM" "$((SECONDS - start))" "$PLAIN"
}

# install_packages NAME...: Debian packages that are not there yet.
install_packages() {
    local missing=() p
    for p in "$@"; do
        dpkg-query -W -f='${Status}' "$p" 2>/dev/null | grep -q 'ok installed' || missing+=("$p")
    done
    [ ${#missing[@]} = 0 ] && return 0
    need_root "installing ${missing[*]}"
    command -v apt-get >/dev/null || die "not a Debian system; please install: ${missing[*]}"
    # A service that a package brings must not start: the tests start their own in namespaces.
    local policy=/usr/sbin/policy-rc.d made=''
    [ -e $policy ] || { printf '#!/bin/sh\nexit 101\n' >$policy && chmod +x $policy && made=1; }
    step "installing packages: ${missing[*]}" sh -c \
        'apt-get update -q && apt-get install -y -q --no-install-recommends "$@"' sh "${missing[@]}" || { [ -n "$made" ] && rm -f $policy; return 1; }
    [ -n "$made" ] && rm -f $policy
    return 0
}

BUILD_PACKAGES=(build-essential ca-certificates curl git pkg-config libclang-dev libdpdk-dev libpcap-dev)
DEMO_PACKAGES=(ethtool iperf3 iproute2 iputils-ping nginx-light)
TEST_PACKAGES=(conntrack dnsmasq-base frr ipset iptables isc-dhcp-client lftp netcat-openbsd nfdump nftables ngircd openssh-client openssh-server openssl
    procps prometheus python3 sip-tester tcpdump tftp-hpa tftpd-hpa vsftpd)

rust_is_new_enough() {
    command -v cargo >/dev/null || return 1
    local want have
    want=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$ROOT/Cargo.toml")
    # Asked in the project's folder, where a pinned toolchain would show.
    have=$(cd "$ROOT" && rustc --version 2>/dev/null | cut -d' ' -f2)
    [ -n "$have" ] && [ "$(printf '%s\n%s\n' "$want" "$have" | sort -V | head -n1)" = "$want" ]
}

# A Rust toolchain that is new enough: what is there, else Debian's rustup package, else rustup's own installer.
install_rust() {
    local cargo_bin=${CARGO_HOME:-$HOME/.cargo}/bin
    case ":$PATH:" in *":$cargo_bin:"*) ;; *) export PATH="$cargo_bin:$PATH" ;; esac
    rust_is_new_enough && return 0
    if ! command -v rustup >/dev/null; then
        if apt-cache policy rustup 2>/dev/null | grep -q 'Candidate: [0-9]'; then
            install_packages rustup
        else
            step 'installing rustup' sh -c \
                'curl --proto "=https" --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y --no-modify-path --profile minimal --default-toolchain none'
        fi
    fi
    step 'installing the Rust toolchain' rustup toolchain install stable --profile minimal -c clippy -c rustfmt
    rustup default >/dev/null 2>&1 || rustup default stable >/dev/null 2>&1
    rust_is_new_enough || export RUSTUP_TOOLCHAIN=stable
    rust_is_new_enough || die "no Rust toolchain of $(sed -n 's/^rust-version = //p' "$ROOT/Cargo.toml") or newer can be had"
}

install_for_build() { install_packages "${BUILD_PACKAGES[@]}" && install_rust; }

build_programs() {
    step 'building sluiced and sluice' cargo build --manifest-path "$ROOT/Cargo.toml" --release --locked -p sluiced -p sluice
}
