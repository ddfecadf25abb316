#!/usr/bin/env bash
# Installs the requirements of the browser tests: JupyterLab in target/venv, playwright-core in target/browser, and missing Chromium, Node.js and
# npm with apt, if this user may install packages. The tests report what is missing.
set -euo pipefail
cd "$(dirname "$0")/../.."

say() { printf 'browser: %s\n' "$*" >&2; }

has() { command -v "$1" >/dev/null; }

# install PACKAGE...: with apt, as root or with passwordless sudo
install() {
    local sudo=()
    has apt-get || { say "apt-get not found: install $* yourself"; return 1; }
    if ((EUID != 0)); then
        { has sudo && sudo -n true 2>/dev/null; } || { say "installing packages needs root: apt-get install $*"; return 1; }
        sudo=(sudo -n)
    fi
    say "installing $* with apt"
    "${sudo[@]}" apt-get update --quiet=2 >&2
    "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install --quiet=2 --yes --no-install-recommends "$@" >/dev/null
}

packages=()
has chromium || has google-chrome || packages+=(chromium fonts-liberation)
has node || packages+=(nodejs)
has npm || packages+=(npm)
if ((${#packages[@]})); then install "${packages[@]}"; fi

target/venv/bin/pip install --quiet -r tests/browser/requirements.txt
mkdir -p target/browser
cp tests/browser/package.json tests/browser/package-lock.json target/browser
npm ci --prefix target/browser --no-audit --no-fund --loglevel=error >/dev/null
touch target/browser/.ready
