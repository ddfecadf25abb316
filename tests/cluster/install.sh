#!/usr/bin/env bash
# Prepares a Kubernetes node in target/cluster, without installing anything: builds Kubernetes, CoreDNS and the network policies of kube-router as
# Go tools (about ten minutes on two cores the first time), and unpacks containerd, runc, etcd, CNI plugins and iptables from Debian's packages.
set -euo pipefail
cd "$(dirname "$0")/../.."

packages=(containerd runc etcd-server containernetworking-plugins iptables libip4tc2 libip6tc2 libxtables12 ipset
    libipset13 libmnl0 libseccomp2)
directory=$PWD/target/cluster

say() { printf 'cluster: %s\n' "$*" >&2; }

download() { (cd "$directory/packages" && apt-get download --quiet=2 "${packages[@]}" 2>/dev/null); }

for program in go apt-get dpkg; do
    command -v "$program" >/dev/null || { say "$program not found: can't build a cluster"; exit 3; }
done

mkdir -p "$directory/packages" "$directory/bin"
say "downloading ${packages[*]}"
# a new machine has no package lists yet
download || { apt-get update --quiet=2 >&2 && download; } ||
    { say "can't download Debian's packages: ${packages[*]}"; exit 3; }
for package in "$directory"/packages/*.deb; do dpkg -x "$package" "$directory/debian"; done
rm -r "$directory/packages"
for name in iptables iptables-save iptables-restore ip6tables ip6tables-save ip6tables-restore; do
    ln -sf xtables-legacy-multi "$directory/debian/usr/sbin/$name"
done

version=$(go -C tests/cluster/tools list -m -f '{{.Version}}' k8s.io/kubernetes)
say "building Kubernetes $version"
# other builds have priority: more depends on them
CGO_ENABLED=0 nice go -C tests/cluster/tools build -trimpath -o "$directory/bin/" \
    -ldflags "-s -w -X k8s.io/component-base/version.gitVersion=$version" tool ./dns ./pause
# a separate module, because it needs other versions of the libraries than Kubernetes
CGO_ENABLED=0 nice go -C tests/cluster/tools/policies build -trimpath -ldflags "-s -w" -o "$directory/bin/" tool
touch "$directory/bin/.ready"
