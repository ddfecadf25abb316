#!/usr/bin/env bash
# Runs cargo with static linking, so that programs run in an otherwise empty image. Uses target/static, because in target/release the other flags
# would recompile everything each time.
# usage: static.sh COMMAND [ARGUMENT...], as in `static.sh build -p lockstep-host`
set -euo pipefail
cd "$(dirname "$0")/../.."
export RUSTFLAGS="-C target-feature=+crt-static -C link-arg=-Wl,--icf=all -C link-arg=-Wl,-z,pack-relative-relocs"
exec cargo "$1" --release --target "$(rustc --print host-tuple)" --target-dir target/static "${@:2}"
