#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Makes a fresh Debian or Ubuntu machine ready: OS packages, a virtual environment from requirements.txt, a Docker engine.
#
#   tools/setup.sh [test]
#
# Can be repeated and interrupted; says nothing and takes a second where there is nothing to do. `test` adds what only tests need.
# An engine that answers on DOCKER_HOST or the machine's socket is used as it is, otherwise (or with LAB_ENGINE=own) one is
# started for the lab alone. What other tools need to know is written to .cache/env.
set -euo pipefail
# shellcheck source=tools/lab-env.sh
. "$(dirname "$0")/lab-env.sh"
cd "$root"
purpose=${1:-demo}
began=$SECONDS

# --- OS packages -----------------------------------------------------------------------------------------------------

installed() { [ "$(dpkg-query -W -f '${Status}' "$1" 2>/dev/null)" = "install ok installed" ]; }

apt_get() {
  as_root env DEBIAN_FRONTEND=noninteractive NEEDRESTART_MODE=l apt-get -q -y -o DPkg::Lock::Timeout=600 -o Acquire::Retries=5 "$@"
}

# Another process may hold the lists' lock, or a mirror be in the middle of an update.
apt_update() {
  local try
  for try in 1 2 3 4 5 6; do
    if apt_get update >>"$log" 2>&1; then return 0; fi
    say "The package lists could not be fetched (try $try); again in 10 s"
    sleep 10
  done
  fail "apt-get update failed six times. The end of $log:
$(tail -n 15 "$log")"
}

packages() {
  command -v dpkg-query >/dev/null || fail "This machine has no dpkg. Supported are Debian 12 and 13, Ubuntu 22.04 and 24.04."
  local want=(ca-certificates curl iproute2 openssh-client mmdebstrap debian-archive-keyring skopeo xz-utils) missing=() name
  # Programs may come from elsewhere than the OS's packages.
  command -v make >/dev/null || want+=(make)
  command -v git >/dev/null || want+=(git)
  if ! command -v docker >/dev/null; then
    want+=(docker.io iptables)
  elif ! engine_address >/dev/null && ! PATH="$PATH:/usr/sbin:/sbin" command -v dockerd >/dev/null; then
    want+=(docker.io iptables)
  fi
  if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    want+=("$(basename "$(readlink -f "$(command -v "$python")")")-venv")
  fi
  if [ "$purpose" = test ] && [ ! -e /usr/bin/chromium ] && [ ! -e /usr/bin/chromium-browser ] && [ ! -e /snap/bin/chromium ]; then
    case "$(. /etc/os-release && echo "$ID")" in
      ubuntu) want+=(chromium-browser) ;;
      *) want+=(chromium) ;;
    esac
  fi
  # The apps' tests start servers of their own.
  if [ "$purpose" = test ]; then
    want+=(redis-server redis-sentinel)
    command -v mvn >/dev/null || want+=(maven)
    command -v java >/dev/null || want+=(default-jre-headless)
  fi
  for name in "${want[@]}"; do installed "$name" || missing+=("$name"); done
  [ ${#missing[@]} -gt 0 ] || return 0

  say "Installing OS packages: ${missing[*]}"
  mkdir -p .cache
  log=$root/.cache/apt.log
  : >"$log"
  if [ -n "$(dpkg --audit 2>/dev/null)" ]; then as_root dpkg --configure -a >>"$log" 2>&1 || true; fi
  apt_update
  # Debian 13 has the client in a package of its own.
  case " ${missing[*]} " in *" docker.io "*) apt-cache show docker-cli >/dev/null 2>&1 && missing+=(docker-cli) ;; esac
  apt_get install --no-install-recommends "${missing[@]}" >>"$log" 2>&1 &
  local pid=$! start=$SECONDS
  while kill -0 "$pid" 2>/dev/null; do
    sleep 1
    [ $(((SECONDS - start) % 20)) != 0 ] || [ "$SECONDS" = "$start" ] || say "  apt-get: $((SECONDS - start)) s, $(tail -n 1 "$log" | cut -c 1-90)"
  done
  wait "$pid" || fail "apt-get install failed. The end of $log:
$(tail -n 15 "$log")"
}

# --- Python ----------------------------------------------------------------------------------------------------------

find_python() {
  local name
  for name in python3 python3.13 python3.12 python3.11 python3.14; do
    if command -v "$name" >/dev/null && "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      echo "$name"
      return
    fi
  done
  fail "Python 3.11 or newer is needed; found $(python3 --version 2>&1 || echo none). On Ubuntu 22.04: apt-get install python3.11 python3.11-venv"
}

virtual_environment() {
  local stamp
  stamp="$(sha256sum <requirements.txt | cut -c 1-32) $("$python" -V)"
  if [ -x .venv/bin/ansible-playbook ] && [ "$(cat .venv/.stamp 2>/dev/null)" = "$stamp" ]; then return; fi
  say "Installing the virtual environment .venv from requirements.txt"
  export UV_CACHE_DIR=$root/.cache/uv UV_SYSTEM_CERTS=1 UV_LINK_MODE=hardlink UV_NO_PROGRESS=1 UV_HTTP_TIMEOUT=120
  local uv=$root/.cache/tools/bin/uv
  if [ "$("$uv" --version 2>/dev/null | cut -d ' ' -f 2)" != "$uv_version" ]; then
    rm -rf .cache/tools
    "$python" -m venv .cache/tools
    .cache/tools/bin/python -m pip install --quiet --disable-pip-version-check --retries 10 "uv==$uv_version"
  fi
  # The stamp goes first: an interrupted installation must not look like a finished one.
  rm -f .venv/.stamp
  if ! .venv/bin/python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    rm -rf .venv
    "$uv" venv --quiet --python "$(command -v "$python")" .venv
  fi
  "$uv" pip sync --quiet --python .venv/bin/python requirements.txt
  echo "$stamp" >.venv/.stamp
}

# --- Docker engine ---------------------------------------------------------------------------------------------------

# Prints the address of the engine to use, if one answers. Empty: the client's default.
engine_address() {
  if [ -n "${DOCKER_HOST:-}" ] && [ "$DOCKER_HOST" != "$lab_socket" ]; then
    answers "$DOCKER_HOST" || fail "DOCKER_HOST is $DOCKER_HOST, but no engine answers there. Start it, or unset DOCKER_HOST."
    echo "$DOCKER_HOST"
  elif [ "${LAB_ENGINE:-}" != own ] && [ "${DOCKER_HOST:-}" != "$lab_socket" ] && [ -S /var/run/docker.sock ] && answers unix:///var/run/docker.sock; then
    echo unix:///var/run/docker.sock
  elif answers "$lab_socket"; then
    echo "$lab_socket"
  else
    return 1
  fi
}

engine() {
  local address
  if address=$(engine_address); then
    engine=$address
    return
  fi
  if [ "${LAB_ENGINE:-}" != own ] && [ -S /var/run/docker.sock ] && [ ! -w /var/run/docker.sock ] && as_root timeout 15 docker -H unix:///var/run/docker.sock version >/dev/null 2>&1; then
    fail "A Docker engine runs on this machine, but not for $(id -un). Run as root, join the group docker, or set LAB_ENGINE=own for an engine of the lab's own."
  fi
  say "Starting a Docker engine for the lab ($LAB_STATE/docker)"
  as_root "$root/tools/engine.sh" start "$(id -u):$(id -g)"
  answers "$lab_socket" || fail "The lab's engine does not answer on $lab_socket. The end of $LAB_STATE/dockerd.log:
$(as_root tail -n 15 "$LAB_STATE/dockerd.log")"
  engine=$lab_socket
}

python=$(find_python)
packages
virtual_environment
engine

# Caches and image layouts belong to whoever builds the lab.
if [ ! -w "$LAB_STATE" ]; then
  as_root mkdir -p "$LAB_STATE"
  as_root chown "$(id -u):$(id -g)" "$LAB_STATE"
fi
mkdir -p .cache
environment="export DOCKER_HOST='$engine' LAB_STATE='$LAB_STATE' LAB_RUN='$LAB_RUN'
export PATH='$root/.venv/bin':\"\$PATH\""
[ "$(cat .cache/env 2>/dev/null)" = "$environment" ] || printf '%s\n' "$environment" >.cache/env
[ $((SECONDS - began)) -lt 5 ] || say "Set up in $((SECONDS - began)) s"
