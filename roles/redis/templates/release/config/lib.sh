# SPDX-License-Identifier: GPL-3.0-or-later
# Shared by start.sh and reload-tls.sh.

# shellcheck source=/dev/null
. /etc/platform/cluster.env

port_of() {
  eval "echo \"\$PORT_$1\""
}

# cli USER HOST PORT words... : the password travels in the environment of redis-cli only, not in its arguments.
cli() {
  user=$1 host=$2 port=$3
  shift 3
  REDISCLI_AUTH=$(cat "/run/secrets/${user}_password") timeout 3 redis-cli -e -t 2 --tls --cacert /live/tls/ca.crt \
    --user "$user" --no-auth-warning -h "$host" -p "$port" "$@"
}
