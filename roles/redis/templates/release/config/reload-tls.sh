#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# Makes a running server take up renewed certificates: Redis re-reads the files, Sentinel can only be started again
# (a fraction of a second, one member after the other).
set -eu

. /etc/platform/lib.sh

case $1 in
  sentinel)
    # In the background: this command would end with the server, and be taken as failed. The restart policy starts it again.
    (sleep $((1 + INDEX * 3)) && cli admin "$SELF" "$(port_of sentinel)" SHUTDOWN) </dev/null >/dev/null 2>&1 &
    ;;
  *)
    cli admin "$SELF" "$(port_of "$1")" CONFIG SET tls-cert-file /live/tls/tls.crt tls-key-file /live/tls/private/tls.key \
      tls-ca-cert-file /live/tls/ca.crt >/dev/null
    ;;
esac
