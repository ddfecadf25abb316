#!/usr/bin/env bash
# The first process of the node, in its own namespaces; started by up.sh. When it ends, the kernel ends all processes of the node and removes its
# mounts and interfaces.
# usage: node.sh HOME STATE (the directory that install.sh prepared, and a directory for this start)
set -euo pipefail
home=$1 state=$2
address=10.97.0.2 pods=10.98.0.0/16 services=10.96.0.0/16
keys=$state/keys

# The usual paths, private to the node.
mount --make-rshared /
mkdir -p "$state"/{lib,log,sysctl}
mount --bind "$state/lib" /var/lib
mount --bind "$state/log" /var/log
mount -t tmpfs tmpfs /run
# Kubelet sets these for the whole machine: give it private copies.
for setting in vm/overcommit_memory vm/panic_on_oom kernel/panic kernel/panic_on_oops kernel/keys/root_maxkeys kernel/keys/root_maxbytes; do
    cat "/proc/sys/$setting" >"$state/sysctl/${setting##*/}"
    mount --bind "$state/sysctl/${setting##*/}" "/proc/sys/$setting"
done

# A separate cgroup for the pods of this node, in case other software runs containers on this machine.
for controller in /sys/fs/cgroup /sys/fs/cgroup/*; do
    if [[ -e $controller/cgroup.procs ]]; then mkdir -p "$controller/lockstep-tests"; fi
done

# up.sh creates the end of the link on the machine.
ip link set lo up
until ip link set eth0 up 2>/dev/null; do sleep 0.05; done
ip address add "$address/24" dev eth0
ip route add default via 10.97.0.1
echo 1 >/proc/sys/net/ipv4/ip_forward
# responses between pods over a service must pass through here
echo 1 >/proc/sys/net/bridge/bridge-nf-call-iptables

libraries=("$home"/debian/{,usr/}lib/*-linux-gnu) extensions=("$home"/debian/usr/lib/*-linux-gnu/xtables)
export PATH="$home/bin:$home/debian/usr/bin:$home/debian/usr/sbin:$PATH"
export LD_LIBRARY_PATH="${libraries[0]}:${libraries[1]:-}" XTABLES_LIBDIR="${extensions[0]}"
unset KUBECONFIG

mkdir -p /run/cni
cat >/run/cni/pods.conflist <<CNI
{"cniVersion": "0.4.0", "name": "pods", "plugins": [
  {"type": "bridge", "bridge": "pods", "isGateway": true, "hairpinMode": true,
   "ipam": {"type": "host-local", "ranges": [[{"subnet": "$pods"}]], "routes": [{"dst": "0.0.0.0/0"}]}},
  {"type": "portmap", "capabilities": {"portMappings": true}}]}
CNI
cat >/run/containerd.toml <<CONTAINERD
version = 2
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "localhost/pause:1"
restrict_oom_score_adj = true
disable_apparmor = true
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "$home/debian/usr/lib/cni"
conf_dir = "/run/cni"
CONTAINERD
# the node itself has no DNS
: >/run/resolv.conf
cat >/run/kubelet.yaml <<KUBELET
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: $keys/ca.crt}}
authorization: {mode: Webhook}
tlsCertFile: $keys/node.crt
tlsPrivateKeyFile: $keys/node.key
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
cgroupDriver: cgroupfs
cgroupRoot: /lockstep-tests
failCgroupV1: false
failSwapOn: false
enforceNodeAllocatable: []
evictionHard: {memory.available: 100Mi, nodefs.available: 0%, imagefs.available: 0%}
# images can't be pulled again
imageGCHighThresholdPercent: 100
clusterDNS: [10.96.0.10]
clusterDomain: cluster.local
resolvConf: /run/resolv.conf
KUBELET
# keep NAME COMMAND...: runs it in the background and restarts it when it ends; the PID is in /run/NAME.pid
keep() {
    local name=$1
    shift
    while true; do
        "$@" >>"/var/log/$name.log" 2>&1 &
        echo $! >"/run/$name.pid"
        wait $! || true
        sleep 0.5
    done &
}

keep containerd containerd --config /run/containerd.toml
keep etcd etcd --data-dir /var/lib/etcd --listen-client-urls http://127.0.0.1:2379 --advertise-client-urls http://127.0.0.1:2379 \
    --listen-peer-urls http://127.0.0.1:2380 --logger zap
keep kube-apiserver kube-apiserver --etcd-servers=http://127.0.0.1:2379 --advertise-address="$address" --service-cluster-ip-range="$services" \
    --authorization-mode=Node,RBAC --enable-admission-plugins=NodeRestriction --allow-privileged \
    --tls-cert-file="$keys/apiserver.crt" --tls-private-key-file="$keys/apiserver.key" --client-ca-file="$keys/ca.crt" \
    --kubelet-client-certificate="$keys/admin.crt" --kubelet-client-key="$keys/admin.key" --kubelet-certificate-authority="$keys/ca.crt" \
    --kubelet-preferred-address-types=InternalIP --service-account-issuer=https://kubernetes.default.svc \
    --service-account-key-file="$keys/accounts.key" --service-account-signing-key-file="$keys/accounts.key"
keep kube-controller-manager kube-controller-manager --kubeconfig="$keys/controllers.kubeconfig" --bind-address=127.0.0.1 \
    --leader-elect=false --use-service-account-credentials --root-ca-file="$keys/ca.crt" \
    --service-account-private-key-file="$keys/accounts.key" --cluster-signing-cert-file="$keys/ca.crt" --cluster-signing-key-file="$keys/ca.key"
keep kube-scheduler kube-scheduler --kubeconfig="$keys/scheduler.kubeconfig" --bind-address=127.0.0.1 --leader-elect=false
keep kube-proxy kube-proxy --kubeconfig="$keys/proxy.kubeconfig" --hostname-override=node --proxy-mode=iptables --cluster-cidr="$pods" \
    --conntrack-max-per-core=0 --conntrack-tcp-timeout-established=0 --conntrack-tcp-timeout-close-wait=0
# Only network policies. They apply to a pod shortly after its start.
keep kube-router kube-router --kubeconfig="$keys/admin.kubeconfig" --run-firewall --run-router=false --run-service-proxy=false \
    --hostname-override=node --service-cluster-ip-range="$services" --health-port=0 --metrics-port=0
until [[ -S /run/containerd/containerd.sock ]]; do sleep 0.05; done
keep kubelet kubelet --config=/run/kubelet.yaml --kubeconfig="$keys/node.kubeconfig" --hostname-override=node --node-ip="$address"
wait
