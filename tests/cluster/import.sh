#!/usr/bin/env bash
# Imports images from OCI archives to the node. Pods use them with imagePullPolicy Never or IfNotPresent.
# usage: import.sh ARCHIVE...
set -euo pipefail
for archive in "$@"; do
    "$(dirname "$0")/enter.sh" ctr --namespace k8s.io images import "$(realpath "$archive")"
done
