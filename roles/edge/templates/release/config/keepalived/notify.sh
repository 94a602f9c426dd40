#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# keepalived calls this with TYPE NAME STATE PRIORITY at each transition. The file is what the container's health check reads.
set -e
umask 022
echo "$3" >/run/vrrp/state.new
mv /run/vrrp/state.new /run/vrrp/state
