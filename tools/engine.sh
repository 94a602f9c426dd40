#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# The lab's own Docker engine: tools/engine.sh start UID:GID | stop | remove. Needs root. Touches no other engine's things.
set -euo pipefail
# shellcheck source=tools/lab-env.sh
. "$(dirname "$0")/lab-env.sh"
export PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
pidfile=$LAB_RUN/docker.pid
containerd_pidfile=$LAB_RUN/exec/containerd/containerd.pid

pid_of() { cat "$1" 2>/dev/null || true; }

# Is there another engine in this network, whose bridges and rules are not ours to touch? (Those inside containers have networks of their own.)
others() {
  local process network
  network=$(readlink /proc/self/ns/net)
  for process in /proc/[0-9]*; do
    case "$(readlink "$process/exe" 2>/dev/null)" in
      */dockerd|*"/dockerd (deleted)")
        if [ "$(readlink "$process/ns/net" 2>/dev/null)" = "$network" ] && ! is_ours "${process#/proc/}" dockerd; then return 0; fi ;;
    esac
  done
  return 1
}

wait_gone() { # PID SECONDS
  local end=$((SECONDS + $2))
  while [ -d "/proc/$1" ] && [ "$(cut -d ' ' -f 3 "/proc/$1/stat" 2>/dev/null)" != Z ]; do
    [ "$SECONDS" -lt "$end" ] || return 1
    sleep 0.2
  done
}

end_process() { # PID PROGRAM SECONDS
  is_ours "$1" "$2" || return 0
  kill -TERM "$1" 2>/dev/null || true
  if ! wait_gone "$1" "$3"; then
    kill -KILL "$1" 2>/dev/null || true
    wait_gone "$1" 10 || true
  fi
}

# Every process of ours but dockerd itself: containerd and the shims of containers.
helpers() {
  local process
  for process in /proc/[0-9]*; do
    case "$(readlink "$process/exe" 2>/dev/null)" in
      */containerd*|*/docker-proxy*) case "$(tr '\0' ' ' <"$process/cmdline" 2>/dev/null)" in *"$LAB_RUN/exec/"*) echo "${process#/proc/}" ;; esac ;;
    esac
  done
}

start() {
  local owner=$1 pid bridge
  mkdir -p "$LAB_STATE" "$LAB_RUN"
  [ "$(stat -c %u:%g "$LAB_STATE")" = "$owner" ] || chown "$owner" "$LAB_STATE"

  pid=$(pid_of "$pidfile")
  if is_ours "$pid" dockerd; then
    # It may be starting. One that hangs is replaced.
    if await 60; then return; fi
    end_process "$pid" dockerd 30
  fi
  ! others || fail "Another Docker engine runs on this machine, and a second one would rewrite its firewall rules. Use it (unset LAB_ENGINE, see DOCKER_HOST), or stop it."
  # What a killed engine left: pid files whose numbers may belong to others by now, and a socket nobody listens to.
  rm -f "$pidfile" "$LAB_RUN/docker.sock"
  is_ours "$(pid_of "$containerd_pidfile")" containerd || rm -f "$containerd_pidfile" "$LAB_RUN"/exec/containerd/*.sock "$LAB_RUN"/exec/containerd/*.sock.ttrpc
  [ -s "$LAB_STATE/machine" ] || remember
  if [ "$(stat -c %s "$LAB_STATE/dockerd.log" 2>/dev/null || echo 0)" -gt 20000000 ]; then : >"$LAB_STATE/dockerd.log"; fi

  # The default bridge is shared by all engines of a machine: where another has it, the lab's engine does without.
  bridge=--bip=$LAB_BRIDGE_ADDRESS
  if ip -4 -o address show dev docker0 2>/dev/null | grep -qv " $LAB_BRIDGE_ADDRESS "; then bridge=--bridge=none; fi
  ulimit -n 1048576 2>/dev/null || true
  (
    # make waits for everyone who holds one of its descriptors.
    for descriptor in /proc/self/fd/*; do
      descriptor=${descriptor##*/}
      [ "$descriptor" -le 2 ] || eval "exec $descriptor>&-" 2>/dev/null || true
    done
    exec setsid --fork dockerd --data-root "$LAB_STATE/docker" --exec-root "$LAB_RUN/exec" --pidfile "$pidfile" \
      --host "$lab_socket" --group "${owner#*:}" "$bridge" </dev/null >>"$LAB_STATE/dockerd.log" 2>&1
  )
  await 120 || {
    echo "The lab's engine did not start within 120 s. The end of $LAB_STATE/dockerd.log:" >&2
    tail -n 15 "$LAB_STATE/dockerd.log" >&2
    exit 1
  }
}

await() { # SECONDS
  local end=$((SECONDS + $1))
  until answers "$lab_socket"; do
    [ "$SECONDS" -lt "$end" ] || return 1
    sleep 0.5
  done
}

# An engine switches forwarding on, and the policy of the forward chain to drop: both are put back when it is removed.
remember() {
  echo "forward=$(sysctl -n net.ipv4.ip_forward) policy=$(iptables -S FORWARD 2>/dev/null | sed -n 's/^-P FORWARD //p')" >"$LAB_STATE/machine"
}

stop() {
  local pid
  end_process "$(pid_of "$pidfile")" dockerd 90
  for pid in $(helpers); do kill -TERM "$pid" 2>/dev/null || true; done
  for pid in $(helpers); do wait_gone "$pid" 10 || kill -KILL "$pid" 2>/dev/null || true; done
}

remove() {
  local mount chain table policy forward rules='-j DOCKER'
  stop
  case "$LAB_STATE:$LAB_RUN" in /*/*:/*/*) ;; *) fail "LAB_STATE and LAB_RUN must be directories of their own, not $LAB_STATE and $LAB_RUN." ;; esac
  # Deepest first. A mount that is still busy is detached: nobody of ours is left to use it.
  cut -d ' ' -f 5 /proc/self/mountinfo | grep -E "^($LAB_STATE|$LAB_RUN)(/|$)" | sort -r | while read -r mount; do
    umount "$mount" 2>/dev/null || umount --lazy "$mount" 2>/dev/null || true
  done
  policy=$(sed -n 's/.*policy=//p' "$LAB_STATE/machine" 2>/dev/null || true)
  forward=$(sed -n 's/.*forward=\([01]\).*/\1/p' "$LAB_STATE/machine" 2>/dev/null || true)
  if ! others && [ -d "$LAB_STATE/docker" ]; then
    if ip -4 -o address show dev docker0 2>/dev/null | grep -q " $LAB_BRIDGE_ADDRESS "; then
      ip link delete docker0 || true
      rules='(-j DOCKER|-[io] docker0)'
    fi
    for table in nat filter; do
      iptables -t "$table" -S 2>/dev/null | grep -E "^-A (FORWARD|PREROUTING|OUTPUT|POSTROUTING) .*$rules" | sed 's/^-A/-D/' | while read -r chain; do
        # shellcheck disable=SC2086
        eval iptables -t "$table" $chain || true
      done
      iptables -t "$table" -S 2>/dev/null | sed -n 's/^-N \(DOCKER.*\)/\1/p' | while read -r chain; do iptables -t "$table" -F "$chain" || true; done
      iptables -t "$table" -S 2>/dev/null | sed -n 's/^-N \(DOCKER.*\)/\1/p' | while read -r chain; do iptables -t "$table" -X "$chain" || true; done
    done
    [ -z "$policy" ] || iptables -P FORWARD "$policy" || true
    [ -z "$forward" ] || sysctl -q -w "net.ipv4.ip_forward=$forward" || true
    find /sys/fs/cgroup -mindepth 2 -depth -type d \( -path '*/docker/*' -o -name docker \) -exec rmdir {} + 2>/dev/null || true
  fi
  rm -rf --one-file-system "${LAB_STATE:?}" "${LAB_RUN:?}"
}

case "${1:-}" in
  start) start "${2:-0:0}" ;;
  stop) stop ;;
  remove) remove ;;
  *) fail "Usage: tools/engine.sh start UID:GID | stop | remove" ;;
esac
