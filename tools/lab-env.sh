# shellcheck shell=bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Where the lab keeps its things on this machine; read by the other tools. One lab a machine: its state is not in the checkout.
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
export LAB_STATE=${LAB_STATE:-/var/lib/novacorrente-lab}
export LAB_RUN=${LAB_RUN:-/run/novacorrente-lab}
export LAB_BRIDGE_ADDRESS=${LAB_BRIDGE_ADDRESS:-198.19.255.1/24}
lab_socket=unix://$LAB_RUN/docker.sock
uv_version=0.13.9
umask 022

say() { printf '  %s\n' "$*"; }
fail() { printf '\n%s\n' "$*" >&2; exit 1; }

# Root's commands: directly, or by sudo.
as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"
  elif command -v sudo >/dev/null; then sudo "$@"
  else fail "This step needs root and there is no sudo. Run it as root: $*"
  fi
}

# Is PID one of our engine's processes? Its command line must name our run directory: a number alone may have been given to another.
is_ours() { # PID PROGRAM
  case "$1" in ''|*[!0-9]*) return 1 ;; esac
  [ -r "/proc/$1/cmdline" ] || return 1
  case "$(tr '\0' ' ' <"/proc/$1/cmdline")" in
    *"$2 "*"$LAB_RUN/"*) return 0 ;;
  esac
  return 1
}

answers() { timeout 15 docker -H "$1" version --format '{{.Server.Version}}' >/dev/null 2>&1; }
