#!/bin/sh
# Starts JupyterLab. Behind Kubeflow's gateway, which gives NB_PREFIX, nobody comes here whom it has not asked who they are; elsewhere
# JupyterLab asks for the token that it shows in its log.
set -eu
if [ -n "${NB_PREFIX:-}" ]; then set -- --IdentityProvider.token= "$@"; fi
exec jupyter lab --no-browser --ip=0.0.0.0 --port=8888 --ServerApp.base_url="${NB_PREFIX:-/}" --ServerApp.root_dir="$HOME" \
    --ServerApp.allow_remote_access=True --ServerApp.authenticate_prometheus=False "$@"
