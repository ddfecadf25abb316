#!/bin/sh
# Starts JupyterLab. With NB_PREFIX it runs behind Kubeflow's gateway, which authenticates users. Otherwise JupyterLab requires the token that it
# prints to its log.
set -eu
if [ -n "${NB_PREFIX:-}" ]; then set -- --IdentityProvider.token= "$@"; fi
exec jupyter lab --no-browser --ip=0.0.0.0 --port=8888 --ServerApp.base_url="${NB_PREFIX:-/}" --ServerApp.root_dir="$HOME" \
    --ServerApp.allow_remote_access=True --ServerApp.authenticate_prometheus=False "$@"
