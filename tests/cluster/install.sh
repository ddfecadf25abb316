#!/usr/bin/env bash
# Gets what a node of Kubernetes needs into target/cluster, and installs nothing: Kubernetes, CoreDNS and kube-router's network policies built
# as Go tools (some ten minutes of two cores the first time), containerd, runc, etcd, CNI plugins and iptables from Debian's packages.
set -euo pipefail
cd "$(dirname "$0")/../.."

packages=(containerd runc etcd-server containernetworking-plugins iptables libip4tc2 libip6tc2 libxtables12 ipset
    libipset13 libmnl0 libseccomp2)
directory=$PWD/target/cluster

say() { printf 'cluster: %s\n' "$*" >&2; }

download() { (cd "$directory/packages" && apt-get download --quiet=2 "${packages[@]}" 2>/dev/null); }

for program in go apt-get dpkg; do
    command -v "$program" >/dev/null || { say "no $program here, so no cluster can be built"; exit 3; }
done

mkdir -p "$directory/packages" "$directory/bin"
say "getting ${packages[*]}"
# a new machine has no lists of packages yet
download || { apt-get update --quiet=2 >&2 && download; } ||
    { say "Debian's packages can't be had: ${packages[*]}"; exit 3; }
for package in "$directory"/packages/*.deb; do dpkg -x "$package" "$directory/debian"; done
rm -r "$directory/packages"
for name in iptables iptables-save iptables-restore ip6tables ip6tables-save ip6tables-restore; do
    ln -sf xtables-legacy-multi "$directory/debian/usr/sbin/$name"
done

version=$(go -C tests/cluster/tools list -m -f '{{.Version}}' k8s.io/kubernetes)
say "building Kubernetes $version"
# what else is built meanwhile goes first: more waits for it
CGO_ENABLED=0 nice go -C tests/cluster/tools build -trimpath -o "$directory/bin/" \
    -ldflags "-s -w -X k8s.io/component-base/version.gitVersion=$version" tool ./dns ./pause
# other versions of the same libraries than Kubernetes', hence a module of its own
CGO_ENABLED=0 nice go -C tests/cluster/tools/policies build -trimpath -ldflags "-s -w" -o "$directory/bin/" tool
touch "$directory/bin/.ready"
