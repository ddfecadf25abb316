#!/usr/bin/env bash
# Gives this machine a Rust toolchain that compiles for wasm32-wasip1.
#
# Routes, in this order:
#   found   the rustc on PATH has the target already: nothing to do
#   rustup  rustup target add wasm32-wasip1
#   debian  for machines that reach a Debian 12 mirror but not rustup's server: Debian's rustc, its std built once
#           from Debian's sources, its wasi-libc
# What the debian route makes lies in ${XDG_CACHE_HOME:-~/.cache}/lockstep/toolchain/debian-<digest>. The digest is that of
# this script followed by what Debian's `rustc -vV` says, so that a change of either makes it anew (the kernel's
# toolchain module finds it by the same rule). Elsewhere it only installs packages with apt.
set -euo pipefail
shopt -s inherit_errexit nullglob

target=wasm32-wasip1
script=$(realpath "${BASH_SOURCE[0]}")
packages=(rustc-web cargo-web rust-web-src wasi-libc gcc libc6-dev)
debian_rustc=/usr/bin/rustc
debian_cargo=/usr/bin/cargo

usage() {
    cat <<'USAGE'
usage: toolchain.sh [--check] [--print] [--debian] [--cache DIR]
  --check   change nothing; exit with 0 if there is a toolchain, with 1 if not
  --print   write the path of its rustc to stdout
  --debian  make the toolchain from Debian 12 packages, even if rustup has the target
  --cache   where lockstep keeps its cache: ${XDG_CACHE_HOME:-~/.cache}/lockstep
environment: LOCKSTEP_TOOLCHAIN=debian is --debian
exit codes: 0 there is a toolchain, 1 there is none or a command failed, 2 wrong usage
USAGE
}

say() { printf 'toolchain: %s\n' "$*" >&2; }

# fail MESSAGE HINT
fail() {
    printf 'error: %s\nhint: %s\n' "$1" "$2" >&2
    exit 1
}

# run HINT COMMAND...: runs it with its output kept aside; if it fails, shows the output, the command and the hint.
run() {
    local hint=$1 log
    shift
    log=$(mktemp)
    if "$@" >"$log" 2>&1; then
        rm -f "$log"
    else
        local code=$?
        tail -n 40 "$log" >&2
        rm -f "$log"
        fail "\`$*\` failed with exit code $code" "$hint"
    fi
}

# The real rustc behind the one on PATH (which may be rustup's proxy), if it has the target.
rustc_on_path() {
    local sysroot
    sysroot=$(rustc --print sysroot 2>/dev/null) || return 1
    [[ -n $(echo "$sysroot/lib/rustlib/$target/lib"/libstd-*.rlib) ]] || return 1
    echo "$sysroot/bin/rustc"
}

# Where the toolchain of the debian route belongs; fails if Debian's rustc is not installed.
debian_home() {
    local digest
    dpkg-query --show rustc-web cargo-web rust-web-src wasi-libc >/dev/null 2>&1 || return 1
    digest=$({ cat "$script" && "$debian_rustc" -vV; } | sha256sum) || return 1
    echo "$cache/debian-${digest:0:12}"
}

debian_rustc_made() {
    local home
    home=$(debian_home) || return 1
    [[ -x $home/bin/rustc ]] && echo "$home/bin/rustc"
}

install_packages() {
    local wanted=("${packages[@]}") missing=() sudo=() package
    [[ -n $(rust_lld) ]] || wanted+=(lld-19)
    for package in "${wanted[@]}"; do
        [[ $(dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null) == installed ]] || missing+=("$package")
    done
    ((${#missing[@]})) || return 0
    command -v apt-get >/dev/null ||
        fail "no apt-get here: the debian route needs Debian 12" "install rustup from https://rustup.rs, then run: rustup target add $target"
    if ((EUID != 0)); then
        command -v sudo >/dev/null || fail "installing packages takes root" "as root run: apt-get install ${missing[*]}"
        sudo=(sudo)
    fi
    say "installing ${missing[*]} with apt"
    run "look at the sources of apt: Debian 12 (bookworm) with bookworm-security is needed" \
        "${sudo[@]}" apt-get update
    run "rustc-web 1.95 or newer is in Debian 12's bookworm-security; on other systems install rustup and run: rustup target add $target" \
        "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends "${missing[@]}"
}

# A linker that understands `-flavor wasm`: the one of a rustup toolchain, or Debian's.
rust_lld() {
    local candidate rustup=${RUSTUP_HOME:-${HOME:-/root}/.rustup}
    for candidate in "$rustup"/toolchains/{stable-*,*}/lib/rustlib/*/bin/rust-lld /usr/bin/lld-19; do
        [[ -x $candidate ]] && echo "$candidate" && return
    done
    return 0
}

# build_std WORK: std for the target, as rlibs in WORK/target/$target/release/deps.
build_std() {
    local work=$1 sources commit
    sources=$("$debian_rustc" --print sysroot)/lib/rustlib/src/rust
    commit=$("$debian_rustc" -vV | sed -n 's/^commit-hash: //p')
    mkdir -p "$work/src"
    cat >"$work/Cargo.toml" <<'MANIFEST'
[package]
name = "empty"
edition = "2024"
[profile.release]
panic = "abort"
debug = 0
MANIFEST
    : >"$work/src/lib.rs"
    # Bitcode, so that link-time optimisation works; panic messages that don't name this machine's directories.
    run "if it says that a package can't be fetched, rust-web-src is not that of rustc-web: run apt-get upgrade" \
        env --unset=CARGO_ENCODED_RUSTFLAGS --unset=CARGO_TARGET_DIR --unset=RUSTC_WRAPPER --unset=RUSTUP_TOOLCHAIN \
        RUSTC="$debian_rustc" RUSTC_BOOTSTRAP=1 \
        RUSTFLAGS="-Cembed-bitcode=yes --remap-path-prefix=$sources=/rustc/$commit" \
        "$debian_cargo" build --release --target "$target" --manifest-path "$work/Cargo.toml" --target-dir "$work/target" \
        -Z build-std=std,panic_abort,panic_unwind,proc_macro,test
}

# Debian's wasi-libc is of 2022 and lacks what today's std can call. These answer what a WASI without threads answers:
# 58 is ENOTSUP, 52 is ENOSYS.
missing_libc() {
    cat <<'RUST'
#![no_std]
#![feature(thread_local)]
use core::ffi::{c_char, c_int, c_void};
unsafe extern "C" {
    #[thread_local]
    static mut errno: c_int;
}
const ENOSYS: c_int = 52;
const ENOTSUP: c_int = 58;
fn unsupported() -> c_int {
    unsafe { errno = ENOSYS };
    -1
}
type P = *mut c_void;
#[unsafe(no_mangle)] extern "C" fn pthread_create(_: P, _: P, _: P, _: P) -> c_int { ENOTSUP }
#[unsafe(no_mangle)] extern "C" fn pthread_join(_: P, _: P) -> c_int { ENOTSUP }
#[unsafe(no_mangle)] extern "C" fn pthread_detach(_: P) -> c_int { ENOTSUP }
#[unsafe(no_mangle)] extern "C" fn pthread_attr_init(_: P) -> c_int { 0 }
#[unsafe(no_mangle)] extern "C" fn pthread_attr_setstacksize(_: P, _: usize) -> c_int { 0 }
#[unsafe(no_mangle)] extern "C" fn pthread_attr_destroy(_: P) -> c_int { 0 }
#[unsafe(no_mangle)] extern "C" fn chmod(_: *const c_char, _: u32) -> c_int { unsupported() }
#[unsafe(no_mangle)] extern "C" fn fchmod(_: c_int, _: u32) -> c_int { unsupported() }
#[unsafe(no_mangle)] extern "C" fn realpath(_: *const c_char, _: *mut c_char) -> *mut c_char {
    unsupported();
    core::ptr::null_mut()
}
RUST
}

# assemble WORK ROOT: a sysroot in ROOT, with bin/rustc and bin/cargo.
assemble() {
    local work=$1 root=$2 libc=/usr/lib/wasm32-wasi host lib own hint="this script and Debian's packages don't fit: report it"
    host=$("$debian_rustc" -vV | sed -n 's/^host: //p')
    lib=$root/lib/rustlib/$target/lib
    own=$lib/self-contained
    mkdir -p "$own" "$root/bin" "$root/lib/rustlib/$host/bin"

    cp "$work/target/$target/release/deps"/*.rlib "$lib"
    rm "$lib"/libempty-*.rlib
    local archive
    for archive in "$libc"/lib{c,m,pthread,rt,dl,util,wasi-emulated-*}.a; do
        cp "$archive" "$own"
    done

    ln -s "$("$debian_rustc" --print sysroot)/lib/rustlib/$host/lib" "$root/lib/rustlib/$host/lib"
    ln -s "$(rust_lld)" "$root/lib/rustlib/$host/bin/rust-lld"
    ln -s "$debian_cargo" "$root/bin/cargo"
    cat >"$root/bin/rustc" <<WRAPPER
#!/bin/sh
exec $debian_rustc --sysroot="\${0%/bin/rustc}" "\$@"
WRAPPER
    chmod +x "$root/bin/rustc"

    missing_libc >"$work/missing.rs"
    run "$hint" env RUSTC_BOOTSTRAP=1 "$root/bin/rustc" --edition 2024 --target "$target" --crate-type lib --emit obj \
        -Cpanic=abort -Copt-level=2 -Ccodegen-units=1 -o "$work/missing.o" "$work/missing.rs"
    local crt
    for crt in crt1-command.o crt1-reactor.o; do
        run "$hint" "$root/lib/rustlib/$host/bin/rust-lld" -flavor wasm -r "$libc/$crt" "$work/missing.o" -o "$own/$crt"
    done
}

# try_out WORK ROOT: a program that uses threads and files must compile.
try_out() {
    cat >"$1/try.rs" <<'RUST'
fn main() {
    let thread = std::thread::Builder::new().spawn(|| ());
    println!("{:?} {:?}", thread.err(), std::fs::canonicalize("/").err());
}
RUST
    run "this script and Debian's packages don't fit: report it" \
        "$2/bin/rustc" --edition 2024 --target "$target" -o "$1/try.wasm" "$1/try.rs"
}

make_debian() {
    install_packages
    local home temp
    home=$(debian_home) || fail "Debian's rustc is not where its package should put it: $debian_rustc" "run: apt-get install --reinstall rustc-web"
    [[ -x $home/bin/rustc ]] && return
    mkdir -p "$cache"
    exec 9>"$cache/lock"
    flock 9
    [[ -x $home/bin/rustc ]] && return
    temp=$(mktemp -d "$cache/new.XXXXXX")
    # shellcheck disable=SC2064 # $temp is meant as it is now
    trap "rm -rf '$temp'" EXIT
    say "building std for $target from Debian's sources (about a minute and a half)"
    build_std "$temp/work"
    say "putting the sysroot together"
    assemble "$temp/work" "$temp/root"
    try_out "$temp/work" "$temp/root"
    rm -rf "$home"
    mv -T "$temp/root" "$home"
    say "made $home"
}

check=false print=false debian=false cache=
[[ ${LOCKSTEP_TOOLCHAIN:-} == debian ]] && debian=true
while (($#)); do
    case $1 in
    --check) check=true ;;
    --print) print=true ;;
    --debian) debian=true ;;
    --cache) shift && cache=${1:-} ;;
    --help | -h) usage && exit ;;
    *) usage >&2 && exit 2 ;;
    esac
    shift
done
: "${cache:=${XDG_CACHE_HOME:-${HOME:?set HOME, XDG_CACHE_HOME or --cache}/.cache}/lockstep}"
cache=$cache/toolchain

find_rustc() {
    if ! $debian && rustc_on_path; then return; fi
    debian_rustc_made
}

if ! rustc=$(find_rustc); then
    if $check; then
        say "no toolchain for $target; to get one run: $0"
        exit 1
    fi
    if ! $debian && command -v rustup >/dev/null; then
        say "rustup target add $target"
        rustup target add "$target" >&2 || say "rustup can't fetch it, so the debian route"
    fi
    if ! rustc=$(find_rustc); then
        make_debian
        rustc=$(debian_rustc_made)
    fi
fi
say "using $rustc ($("$rustc" -V))"
if $print; then echo "$rustc"; fi
