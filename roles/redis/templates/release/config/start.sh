#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# Writes the configuration of one instance (cache, queue or sentinel) and becomes its server.
#
# Redis and Sentinel rewrite their configuration files: roles and epochs are written to them at a failover. The release is
# immutable, so that file lies with the data and is made anew at each start from the release and from what must survive.
set -eu
umask 077

. /etc/platform/lib.sh

instance=$1
file=/data/$instance.conf
members=$(echo "$MEMBERS" | wc -w)

is_member() {
  case " $MEMBERS " in
    *" $1 "*) true ;;
    *) false ;;
  esac
}

# master_said_by SENTINEL NAME: "epoch address"; nothing where it does not answer.
master_said_by() {
  cli sentinel "$1" "$PORT_sentinel" SENTINEL MASTER "$2" 2>/dev/null | {
    key='' address='' epoch=''
    while read -r line; do
      case $key in
        ip) address=$line ;;
        config-epoch) epoch=$line ;;
      esac
      case $key in
        '') key=$line ;;
        *) key='' ;;
      esac
    done
    if [ -n "$address" ] && [ -n "$epoch" ]; then echo "$epoch $address"; fi
  }
}

# agreed_master NAME: the master of the newest epoch, once a majority of all Sentinels has answered.
agreed_master() {
  answers=$(
    for sentinel in $MEMBERS; do master_said_by "$sentinel" "$1" & done
    wait
  )
  [ -n "$answers" ] || return 1
  [ "$(echo "$answers" | wc -l)" -gt $((members / 2)) ] || return 1
  echo "$answers" | sort -n | tail -n 1 | cut -d ' ' -f 2
}

# master_of NAME: who is master now. A member never makes itself the master: after an absence another may have been elected.
master_of() {
  remembered=$(sed -n 's/^replicaof \([^ ]*\) .*/\1/p' "$file" 2>/dev/null | tail -n 1)
  waited=0
  while true; do
    if master=$(agreed_master "$1"); then
      echo "$master"
      return
    fi
    if [ "$waited" -ge "$PATIENCE" ] && [ -n "$remembered" ] && [ "$remembered" != "$SELF" ]; then
      echo "No majority of the Sentinels answers; starting as a replica of $remembered, as before." >&2
      echo "$remembered"
      return
    fi
    if [ $((waited % 10)) -eq 0 ]; then
      echo "Waiting for a majority of the Sentinels ($MEMBERS) to name the master of $1." >&2
    fi
    sleep 1
    waited=$((waited + 1))
  done
}

start_server() {
  master=$(master_of "$instance")
  {
    echo "include /etc/platform/common.conf"
    echo "include /etc/platform/data.conf"
    echo "include /etc/platform/$instance.conf"
    echo "include /run/secrets/replication.conf"
    if [ "$master" != "$SELF" ]; then echo "replicaof $master $(port_of "$instance")"; fi
  } >"$file.new"
  mv "$file.new" "$file"
  exec redis-server "$file"
}

# state_of PATTERN: lines of the last run's file.
state_of() {
  if [ -f "$file" ]; then grep -E "$1" "$file" || true; fi
}

start_sentinel() {
  password=$(cat /run/secrets/sentinel_password)
  {
    cat /etc/platform/common.conf /etc/platform/sentinel.conf
    echo "sentinel sentinel-user sentinel"
    echo "sentinel sentinel-pass \"$password\""
    state_of '^sentinel (myid|current-epoch) '
    for name in cache queue; do
      master=$(state_of "^sentinel monitor $name " | cut -d ' ' -f 4)
      is_member "$master" || master=$BOOTSTRAP
      echo "sentinel monitor $name $master $(port_of "$name") $QUORUM"
      echo "sentinel auth-user $name sentinel"
      echo "sentinel auth-pass $name \"$password\""
      echo "sentinel down-after-milliseconds $name $DOWN_AFTER"
      echo "sentinel failover-timeout $name $FAILOVER_TIMEOUT"
      echo "sentinel parallel-syncs $name 1"
      state_of "^sentinel (config-epoch|leader-epoch) $name "
      state_of "^sentinel known-(replica|sentinel) $name " | while read -r words; do
        # shellcheck disable=SC2086
        set -- $words
        if is_member "$4"; then echo "$words"; fi
      done
    done
  } >"$file.new"
  mv "$file.new" "$file"
  exec redis-server "$file" --sentinel
}

case $instance in
  sentinel) start_sentinel ;;
  cache | queue) start_server ;;
  *)
    echo "Unknown instance: $instance" >&2
    exit 2
    ;;
esac
