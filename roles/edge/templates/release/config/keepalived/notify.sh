#!/bin/bash
# SPDX-License-Identifier: GPL-3.0-or-later
# keepalived calls this with TYPE NAME STATE PRIORITY: keeps the state for the health check.
echo "$3" >/run/vrrp-state.new && mv /run/vrrp-state.new /run/vrrp-state
