#!/usr/bin/env bash
# Measures cold starts of pods: the image of a step, and an image like python:3-slim made of Debian's packages. Both images are local files, so the
# times do not include a registry or a network. Needs a running cluster (up.sh); is skipped without debootstrap or Debian's packages.
set -euo pipefail
cd "$(dirname "$0")/../.."
home=$PWD/target/cluster
export KUBECONFIG=${KUBECONFIG:-$home/kubeconfig} PATH=$home/bin:$PATH
step=target/images/lockstep-step.tar
slim=$home/slim

command -v debootstrap >/dev/null || apt-get install --quiet --yes debootstrap >/dev/null 2>&1 || true
if [[ ! -e $slim.tar ]]; then
    rm -rf "$slim"
    if ! debootstrap --variant=minbase --include=python3-minimal bookworm "$slim" >"$slim.log" 2>&1; then
        echo "skipped: can't build an image like python:3-slim: see $slim.log"
        exit
    fi
    rm -rf "$slim"/{dev,proc,sys,run,var/cache,var/lib/apt/lists,usr/share/doc,usr/share/man,usr/share/locale}
    deploy/images/archive.py "$slim.tar" --name localhost/slim:1 --entrypoint /usr/bin/python3 --layer "$slim=/" >/dev/null
    rm -rf "$slim"
fi

# seconds COMMAND...: prints its duration
seconds() {
    local begun
    begun=$(date +%s.%N)
    "$@" >/dev/null
    python3 -c "import sys; print(f'{float(sys.argv[2]) - float(sys.argv[1]):.2f}')" "$begun" "$(date +%s.%N)"
}

# pod NAME IMAGE ARGUMENT...: runs a pod until it succeeds
pod() {
    kubectl run "$1" --image="$2" --restart=Never --image-pull-policy=Never --command -- "${@:3}"
    kubectl wait pod "$1" --for=jsonpath='{.status.phase}'=Succeeded --timeout=60s
    kubectl delete pod "$1" --wait=false
}

# cold NAME ARCHIVE IMAGE ARGUMENT...
cold() {
    tests/cluster/enter.sh ctr --namespace k8s.io images rm --sync "$3" >/dev/null 2>&1 || true
    local unpacked started
    unpacked=$(seconds tests/cluster/import.sh "$2")
    started=$(seconds pod "cold-$1" "${@:3}")
    printf '%s: %s MB packed; unpacked on the node in %s s, then a pod to its end in %s s\n' "$1" "$(($(stat -c %s "$2") / 1000000))" "$unpacked" "$started"
}

version=$(sed -n '/^\[workspace.package\]/,/^\[/ s/^version = "\(.*\)"/\1/p' Cargo.toml)
cold step "$step" "docker.io/library/lockstep-step:$version" /lockstep --version
cold slim "$slim.tar" localhost/slim:1 /usr/bin/python3 -c pass
