#!/usr/bin/env bash
# Stops the cluster that up.sh started. When the first process of the node ends, its other processes, mounts and interfaces end with it.
set -euo pipefail
cd "$(dirname "$0")/../.."
home=$PWD/target/cluster

# Another process may have this PID by now.
if [[ -e $home/pid ]] && node=$(cat "$home/pid") && grep -qsa "$home/state" "/proc/$node/cmdline"; then
    kill -9 "$node"
    while [[ -e /proc/$node ]]; do sleep 0.05; done
fi
ip link delete lockstep0 2>/dev/null || true
for ((tries = 0; tries < 50; tries++)); do
    mapfile -t groups < <(find /sys/fs/cgroup -depth -type d -path '*/lockstep-tests*' 2>/dev/null)
    ((${#groups[@]})) || break
    rmdir "${groups[@]}" 2>/dev/null || sleep 0.1
done
rm -rf "$home/pid" "$home/kubeconfig" "$home/state"
