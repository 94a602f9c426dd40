#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Removes what `make` made: the lab's hosts, network and images, its own engine, and all generated files of this checkout.
# Another engine keeps everything else it has. OS packages stay.
set -euo pipefail
# shellcheck source=tools/lab-env.sh
. "$(dirname "$0")/lab-env.sh"
cd "$root"
[ ! -r .cache/env ] || . .cache/env
engine=${DOCKER_HOST:-}
if [ -z "$engine" ]; then
  if answers "$lab_socket"; then engine=$lab_socket; else engine=unix:///var/run/docker.sock; fi
fi

if command -v docker >/dev/null && answers "$engine"; then
  export DOCKER_HOST=$engine
  say "Removing the lab's hosts, network and images from the engine at $engine"
  docker ps -aq --filter label=novacorrente_lab | xargs -r docker rm --force --volumes >/dev/null
  docker network ls -q --filter label=novacorrente_lab | xargs -r docker network rm >/dev/null
  if [ "$engine" != "$lab_socket" ]; then python3 tools/images.py remove; fi
fi
if [ -d "$LAB_STATE" ] || [ -d "$LAB_RUN" ]; then
  say "Removing the lab's engine and its data ($LAB_STATE)"
  as_root tools/engine.sh remove
fi
say "Removing generated files"
rm -rf .lab .venv .cache .pytest_cache .mypy_cache .ruff_cache .hypothesis tests/output inventories/lab/pki apps/*/node_modules apps/*/dist \
  inventories/lab/generated.yml inventories/lab/group_vars/all/images.yml inventories/lab/group_vars/all/vault.yml novacorrente-platform-*.tar.gz
find . -path ./.git -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +
say "Left in place: OS packages that were installed"
