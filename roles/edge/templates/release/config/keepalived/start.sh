#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Writes what is known on the host only, and becomes keepalived. Arguments are passed on (--config-test).
set -euo pipefail
umask 077

# shellcheck source=/dev/null
. /etc/platform/member.env

mkdir -p /run/keepalived
install -d -m 0777 /run/vrrp

# VRRP goes out, and the virtual address is put, where this host's own address is.
if [ -z "$INTERFACE" ]; then
  read -r _ INTERFACE _ < <(ip -o -4 address show to "$ADDRESS/32") || true
fi
if [ -z "$INTERFACE" ]; then
  echo "No interface of this host has the address $ADDRESS. Correct platform_address, or set edge_interface." >&2
  exit 1
fi
echo "\$INTERFACE=${INTERFACE%%@*}" >/run/keepalived/interface.conf

# A file of the tier's user, which root can't read without rights that it does not have here.
setpriv --reuid "$OWNER" --regid "$OWNER" --clear-groups cat /run/secrets/vrrp-auth.conf >/run/keepalived/auth.conf

exec keepalived --dont-fork --log-console --vrrp --use-file=/etc/platform/keepalived.conf "$@"
