#!/usr/bin/env bash
# Makes the images lockstep-step and lockstep-host as OCI archives in target/images, without an engine and without a registry: the static
# command (some ten minutes the first time), certificates, and a bill of materials. Containerfile says the same for docker, podman and buildah.
# The same command gives the same digests.
set -euo pipefail
cd "$(dirname "$0")/../.."
images=target/images
tuple=$(rustc --print host-tuple)
version=$(sed -n '/^\[workspace.package\]/,/^\[/ s/^version = "\(.*\)"/\1/p' Cargo.toml)

case $tuple in
x86_64-unknown-linux-gnu) architecture=amd64 ;;
aarch64-unknown-linux-gnu) architecture=arm64 ;;
*) echo "error: images are made on Linux with glibc, not on $tuple" >&2; exit 3 ;;
esac

# a directory of its own: another kind of linking would compile everything anew each time
RUSTFLAGS="-C target-feature=+crt-static" \
    cargo build --release --locked -p lockstep-host --target "$tuple" --target-dir target/static
mkdir -p $images
strip -o $images/lockstep "target/static/$tuple/release/lockstep"
deploy/images/sbom.py >$images/lockstep.cdx.json
# those of Mozilla alone where they can be told from what this machine trusts besides
cat /usr/share/ca-certificates/mozilla/*.crt >$images/ca-certificates.crt 2>/dev/null ||
    cp /etc/ssl/certs/ca-certificates.crt $images/ca-certificates.crt

# image NAME TITLE [ARGUMENT...]
image() {
    deploy/images/archive.py "$images/$1.tar" --name "docker.io/library/$1:$version" --architecture $architecture \
        --label "org.opencontainers.image.title=$2" --label "org.opencontainers.image.version=$version" \
        --label org.opencontainers.image.licenses=Apache-2.0 \
        --env HOME=/tmp --env LOCKSTEP_STORE=/tmp/store --entrypoint /lockstep --command "${*:3}" \
        $images/lockstep=/lockstep $images/ca-certificates.crt=/etc/ssl/certs/ca-certificates.crt $images/lockstep.cdx.json=/lockstep.cdx.json
}

image lockstep-step "Lockstep: a task"
image lockstep-host "Lockstep: a host" serve --bind 0.0.0.0:8080
