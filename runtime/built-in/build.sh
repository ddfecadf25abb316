#!/usr/bin/env bash
# Builds the built-in modules with the given `lockstep`, and compresses them.
set -euo pipefail
cd "$(dirname "$0")"
export CC_wasm32_wasip1=${CC_wasm32_wasip1:-clang-19} AR_wasm32_wasip1=${AR_wasm32_wasip1:-llvm-ar-19}
# zstd brings the headers that it needs
export CFLAGS_wasm32_wasip1='-ffreestanding -nostdlibinc'
for name in tables sql; do
    "$1" build "$name" --output "$name/target/module.wasm"
    printf 'sha256:%s\n' "$(sha256sum <"$name/target/module.wasm" | cut -d' ' -f1)" >"$name.digest"
    python3 -c 'import sys, zlib
deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
sys.stdout.buffer.write(deflate.compress(sys.stdin.buffer.read()) + deflate.flush())' <"$name/target/module.wasm" >"$name.wasm.deflate"
done
