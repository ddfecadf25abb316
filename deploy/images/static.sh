#!/usr/bin/env bash
# Cargo, linking statically: what it makes runs in an image that has nothing else. It does so in target/static, as another kind of linking would
# compile everything anew each time in target/release.
# usage: static.sh COMMAND [ARGUMENT...], as in `static.sh build -p lockstep-host`
set -euo pipefail
cd "$(dirname "$0")/../.."
export RUSTFLAGS="-C target-feature=+crt-static -C link-arg=-Wl,--icf=all -C link-arg=-Wl,-z,pack-relative-relocs"
exec cargo "$1" --release --target "$(rustc --print host-tuple)" --target-dir target/static "${@:2}"
