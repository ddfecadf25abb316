#!/usr/bin/env bash
# Runs an S3 server at 10.97.0.1 for this machine and pods, with the bucket `team`.
# usage: s3.sh start [KEY [SECRET]]   start it with these credentials, and print the variables for clients
#        s3.sh stop                   stop it and keep its data
#        s3.sh clear                  stop it and remove its data
set -euo pipefail
cd "$(dirname "$0")/../.."
home=$PWD/target/cluster-s3
port=9000

stop() {
    if [[ -e $home/pid ]] && pid=$(cat "$home/pid") && grep -qsa s3s-fs "/proc/$pid/cmdline"; then
        kill "$pid"
        while [[ -e /proc/$pid ]]; do sleep 0.05; done
    fi
    rm -f "$home/pid"
}

start() {
    local key=${1:-lockstep} secret=${2:-secret}
    [[ -x target/s3/bin/s3s-fs ]] || { echo "cluster: no S3 server; build it with make target/s3/bin/s3s-fs" >&2; exit 1; }
    stop
    mkdir -p "$home/objects/team"
    setsid target/s3/bin/s3s-fs --host 10.97.0.1 --port $port --access-key "$key" --secret-key "$secret" "$home/objects" \
        </dev/null >"$home/log" 2>&1 &
    echo $! >"$home/pid"
    until (exec 3<>/dev/tcp/10.97.0.1/$port) 2>/dev/null; do
        [[ -e /proc/$! ]] || { cat "$home/log" >&2; exit 1; }
        sleep 0.05
    done
    cat <<VARIABLES
LOCKSTEP_SHARED=s3://team/results
AWS_ENDPOINT_URL=http://10.97.0.1:$port
AWS_ALLOW_HTTP=true
AWS_REGION=us-east-1
AWS_ACCESS_KEY_ID=$key
AWS_SECRET_ACCESS_KEY=$secret
VARIABLES
}

case ${1:-} in
start) start "${@:2}" ;;
stop) stop ;;
clear) stop && rm -rf "$home" ;;
*) sed -n '3,6s/^# //p' "$0" >&2 && exit 2 ;;
esac
