#!/usr/bin/env bash
# Starts a single-node Kubernetes on this machine, without Docker or a registry, and waits until it is ready. It has its own namespaces and can
# connect only to this machine:
#   10.97.0.1       this machine, for servers of tests that pods connect to
#   10.97.0.2       the node, with the API server on port 6443
#   10.98.0.0/16    pods, and
#   10.96.0.0/16    services, both also reachable from this machine
# target/cluster/kubeconfig is for kubectl; logs are in target/cluster/state/log. Each start creates a new cluster, unless one is running.
# down.sh stops it.
set -euo pipefail
cd "$(dirname "$0")/../.."
home=$PWD/target/cluster
state=$home/state keys=$home/state/keys
export KUBECONFIG=$home/kubeconfig PATH=$home/bin:$PATH

say() { printf 'cluster: %s\n' "$*" >&2; }

# cannot REASON: exits because no cluster is possible here
cannot() {
    say "can't run a cluster: $*"
    exit 3
}

is_ready() { kubectl get --raw /readyz >/dev/null 2>&1 && kubectl wait --for=condition=Ready node/node --timeout=1s >/dev/null 2>&1; }

((EUID == 0)) || cannot "root is required"
for program in ip make nsenter openssl python3 unshare; do
    command -v "$program" >/dev/null || cannot "$program is missing"
done
unshare --mount --net --pid --fork --mount-proc mount -t tmpfs tmpfs /run 2>/dev/null || cannot "namespaces and mounts are not allowed"

if [[ -e $home/pid ]] && is_ready; then
    say "already running: export KUBECONFIG=$KUBECONFIG"
    exit
fi
make --silent target/cluster/bin/.ready || cannot "tests/cluster/install.sh failed"
tests/cluster/down.sh
mkdir -p "$keys"

# certificate NAME SUBJECT [NAMES]
certificate() {
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "$keys/$1.key" -subj "$2" 2>/dev/null |
        openssl x509 -req -CA "$keys/ca.crt" -CAkey "$keys/ca.key" -CAcreateserial -days 365 -out "$keys/$1.crt" \
            -extfile <(printf 'subjectAltName=%s\nextendedKeyUsage=serverAuth,clientAuth\n' "${3:-DNS:$1}") 2>/dev/null
}

# kubeconfig NAME FILE: writes a kubeconfig with the certificate NAME
kubeconfig() {
    cat >"$2" <<CONFIG
apiVersion: v1
kind: Config
clusters: [{name: lockstep, cluster: {server: "https://10.97.0.2:6443", certificate-authority-data: $(base64 -w0 "$keys/ca.crt")}}]
users: [{name: $1, user: {client-certificate-data: $(base64 -w0 "$keys/$1.crt"), client-key-data: $(base64 -w0 "$keys/$1.key")}}]
contexts: [{name: lockstep, context: {cluster: lockstep, user: $1}}]
current-context: lockstep
CONFIG
}

openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 365 -subj /CN=cluster -keyout "$keys/ca.key" -out "$keys/ca.crt" 2>/dev/null
openssl genrsa -out "$keys/accounts.key" 2048 2>/dev/null
certificate apiserver /CN=kube-apiserver \
    DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,DNS:localhost,IP:127.0.0.1,IP:10.96.0.1,IP:10.97.0.2
certificate admin /O=system:masters/CN=admin
certificate node /O=system:nodes/CN=system:node:node DNS:node,IP:10.97.0.2
certificate controllers /CN=system:kube-controller-manager
certificate scheduler /CN=system:kube-scheduler
certificate proxy /CN=system:kube-proxy
for name in admin node controllers scheduler proxy; do kubeconfig $name "$keys/$name.kubeconfig"; done
(umask 077 && cp "$keys/admin.kubeconfig" "$KUBECONFIG")

say "starting"
SECONDS=0
setsid unshare --mount --net --pid --fork --kill-child --mount-proc tests/cluster/node.sh "$home" "$state" \
    </dev/null >"$state/node.log" 2>&1 &
parent=$!
until node=$(cat "/proc/$parent/task/$parent/children") && [[ -n $node ]]; do sleep 0.02; done
node=${node// /}
echo "$node" >"$home/pid"
# the child has had its namespaces since before the fork
ip link add lockstep0 type veth peer name eth0 netns "$node"
ip address add 10.97.0.1/24 dev lockstep0
ip link set lockstep0 up
ip route add 10.96.0.0/16 via 10.97.0.2
ip route add 10.98.0.0/16 via 10.97.0.2

deploy/images/archive.py "$state/pause.tar" --name localhost/pause:1 --entrypoint /pause --layer "$home/bin/pause=/pause" >/dev/null
deploy/images/archive.py "$state/dns.tar" --name localhost/dns:1 --entrypoint /dns --layer "$home/bin/dns=/dns" >/dev/null
until tests/cluster/import.sh "$state"/*.tar >/dev/null 2>&1; do
    [[ -e /proc/$node ]] || { say "the node ended: see $state/node.log"; exit 1; }
    sleep 0.1
done
until ((SECONDS > 120)); do
    if is_ready && kubectl get serviceaccount default >/dev/null 2>&1 && kubectl apply -f tests/cluster/dns.yaml >/dev/null 2>&1 &&
        kubectl -n kube-system wait --for=condition=Available deployment/dns --timeout=10s >/dev/null 2>&1; then
        say "ready: export KUBECONFIG=$KUBECONFIG"
        exit
    fi
    sleep 0.5
done
say "not ready after two minutes: see the logs in $state/log"
exit 1
