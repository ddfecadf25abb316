#!/usr/bin/env bash
# Ends the cluster that up.sh brought up: with the node's first process all others end, and their mounts and interfaces are gone.
set -euo pipefail
cd "$(dirname "$0")/../.."
home=$PWD/target/cluster

# A process may have got the number since.
if [[ -e $home/pid ]] && node=$(cat "$home/pid") && grep -qsa "$home/state" "/proc/$node/cmdline"; then
    kill -9 "$node"
    while [[ -e /proc/$node ]]; do sleep 0.05; done
fi
ip link delete lockstep0 2>/dev/null || true
for ((tries = 0; tries < 50; tries++)); do
    mapfile -t groups < <(find /sys/fs/cgroup -depth -type d -path '*/kubepods*' 2>/dev/null)
    ((${#groups[@]})) || break
    rmdir "${groups[@]}" 2>/dev/null || sleep 0.1
done
rm -rf "$home/pid" "$home/kubeconfig" "$home/state"
