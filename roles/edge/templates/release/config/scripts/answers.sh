#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# answers.sh HOST PORT PATH: succeeds where an HTTP request is answered with 200. Needs nothing but bash.
exec 3<>"/dev/tcp/$1/$2" || exit 1
printf 'GET %s HTTP/1.0\r\nHost: localhost\r\n\r\n' "$3" >&3
read -r -t 4 _ status _ <&3
[ "$status" = 200 ]
