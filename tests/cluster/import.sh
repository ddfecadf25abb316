#!/usr/bin/env bash
# Gives the node images, which are OCI archives; pods name them with imagePullPolicy Never or IfNotPresent.
# usage: import.sh ARCHIVE...
set -euo pipefail
for archive in "$@"; do
    "$(dirname "$0")/enter.sh" ctr --namespace k8s.io images import "$(realpath "$archive")"
done
