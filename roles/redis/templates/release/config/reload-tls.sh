#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# Makes a running server take up renewed certificates: Redis re-reads the files, Sentinel can only be started again
# (a fraction of a second, one member after the other).
set -eu

. /etc/platform/lib.sh

case $1 in
  sentinel)
    sleep $((INDEX * 3))
    # The connection ends with the server, which is no failure; the restart policy starts it again.
    cli admin "$SELF" "$(port_of sentinel)" SHUTDOWN || true
    ;;
  *)
    cli admin "$SELF" "$(port_of "$1")" CONFIG SET tls-cert-file /live/tls/tls.crt tls-key-file /live/tls/private/tls.key \
      tls-ca-cert-file /live/tls/ca.crt >/dev/null
    ;;
esac
