#!/usr/bin/env bash
# Builds the images lockstep-step, lockstep-host and lockstep-kernel as OCI archives in target/images, without a container engine or registry. They
# contain the static command (about ten minutes the first time), certificates and an SBOM. The image for kernels also contains a compiler and the
# common crates (about ten more). Containerfile is the equivalent for docker, podman and buildah. The same command gives the same digests.
set -euo pipefail
cd "$(dirname "$0")/../.."
images=target/images
tuple=$(rustc --print host-tuple)
version=$(sed -n '/^\[workspace.package\]/,/^\[/ s/^version = "\(.*\)"/\1/p' Cargo.toml)

case $tuple in
x86_64-unknown-linux-gnu) architecture=amd64 ;;
aarch64-unknown-linux-gnu) architecture=arm64 ;;
*) echo "error: images can only be built on Linux with glibc, not on $tuple" >&2; exit 3 ;;
esac

deploy/images/static.sh build --locked -p lockstep-host
mkdir -p $images
strip -o $images/lockstep "target/static/$tuple/release/lockstep"
deploy/images/sbom.py >$images/lockstep.cdx.json
# only Mozilla's certificates, if they are separate from others that this machine trusts
cat /usr/share/ca-certificates/mozilla/*.crt >$images/ca-certificates.crt 2>/dev/null ||
    cp /etc/ssl/certs/ca-certificates.crt $images/ca-certificates.crt

# The crates for cells, compiled by the command itself, which prints the path of its compiler. There is one cache per version of the SDK's sources,
# so that the image contains only its own.
cache=$PWD/$images/cache/$({ rustc -vV && find runtime/sdk kernel/src/toolchain -type f | sort | xargs sha256sum; } | sha256sum | head -c 12)
rustc=$(LOCKSTEP_CACHE=$cache LOCKSTEP_STORE=$cache/store $images/lockstep --quiet toolchain install --crates)

# The compiler, without the files for native programs. In the image it finds its libraries relative to its own path: in /usr, as on Debian, behind a
# script.
kernel=$images/kernel usr=$images/kernel/toolchain/usr
rm -rf $kernel
mkdir -p $usr/{bin,lib64,"lib/rustlib/$tuple/bin"} $kernel/cache
ln -s usr/lib usr/lib64 $kernel/toolchain
sysroot=$("$rustc" --print sysroot)
program=$rustc
[[ $(head -c 2 "$rustc") != '#!' ]] || program=/usr/bin/rustc
linker=$(realpath "$sysroot/lib/rustlib/$tuple/bin/rust-lld")
cp -L "$program" "$sysroot/bin/cargo" $usr/bin
cp "$linker" "$usr/lib/rustlib/$tuple/bin/rust-lld"
cp -rL "$sysroot/lib/rustlib/wasm32-wasip1" $usr/lib/rustlib
for program in "$program" "$sysroot/bin/cargo" "$linker"; do
    ldd "$program" | sed -n 's/.* => \(.*\) (.*/\1/p; s/^\t\(\/.*\) (.*/\1/p'
done | sort -u | while read -r library; do
    case $library in
    */../*) cp -L "$library" $usr/lib ;; # its own, relative to the program
    *) mkdir -p "$usr$(dirname "${library#/usr}")" && cp -L "$library" "$usr${library#/usr}" ;;
    esac
done

# The compiled crates that cells link with. Other crates cannot be added without a compiler for native programs.
(cd "$cache" && cp -l --parents -t "$OLDPWD/$kernel/cache" native/*/*.cwasm prelude/*/asked/* prelude/*/sets/*/{ready.json,base.wasm} \
    prelude/*/sets/*/target/{wasm32-wasip1/release/deps/*.rlib,release/deps/*.so})
sed -i "s|$cache/|/opt/lockstep/cache/|" $kernel/cache/prelude/*/sets/*/ready.json

# image NAME TITLE ARGUMENTS [OPTION...]
image() {
    deploy/images/archive.py "$images/$1.tar" --name "docker.io/library/$1:$version" --architecture $architecture \
        --label "org.opencontainers.image.title=$2" --label "org.opencontainers.image.version=$version" \
        --label org.opencontainers.image.licenses=Apache-2.0 \
        --env HOME=/tmp --env LOCKSTEP_STORE=/tmp/store --entrypoint /lockstep --command "$3" "${@:4}" --layer \
        $images/lockstep=/lockstep $images/ca-certificates.crt=/etc/ssl/certs/ca-certificates.crt $images/lockstep.cdx.json=/lockstep.cdx.json
}

image lockstep-step "Lockstep: a task" ""
image lockstep-host "Lockstep: a host" "serve --bind 0.0.0.0:8080"
image lockstep-kernel "Lockstep: a host that compiles cells" "serve --bind 0.0.0.0:8080" --env PATH=/usr/bin \
    --env LOCKSTEP_CACHE_FROM=/opt/lockstep/cache --layer $kernel/toolchain=/ --layer $kernel/cache=/opt/lockstep/cache
