#!/usr/bin/env bash
# Runs a command on the node: enter.sh ctr -n k8s.io tasks list; enter.sh sh -c 'kill -9 $(cat /run/kube-apiserver.pid)', which restarts it.
set -euo pipefail
home=$(realpath "$(dirname "$0")/../../target/cluster")
[[ -e $home/pid ]] || { echo "cluster: not running; start it with tests/cluster/up.sh" >&2; exit 1; }
export PATH=$home/bin:$home/debian/usr/bin:$home/debian/usr/sbin:$PATH
exec nsenter --target "$(cat "$home/pid")" --mount --net --pid -- "$@"
