#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Says where the lab's platform answers, after asking it.
set -euo pipefail
cd "$(dirname "$0")/.."
vip=$(sed -n 's/^platform_vip: *//p' inventories/lab/group_vars/all/lab.yml)
domain=$(sed -n 's/^platform_domain: *//p' inventories/lab/group_vars/all/lab.yml)
ca=inventories/lab/pki/ca.crt
ask=(curl --silent --show-error --cacert "$ca" --resolve "$domain:443:$vip" --noproxy '*')

end=$((SECONDS + 60))
until "${ask[@]}" --fail --max-time 5 --output /dev/null "https://$domain/api/v1/tables/weather?limit=1" 2>/dev/null; do
  if [ "$SECONDS" -ge "$end" ]; then
    echo "https://$domain/api/v1/tables/weather?limit=1 on $vip did not answer within 60 s:" >&2
    "${ask[@]}" --include --max-time 5 "https://$domain/api/v1/tables/weather?limit=1" >&2 || true
    exit 1
  fi
  sleep 1
done
cat <<TEXT
  The platform answers on https://$vip/ (host name $domain, virtual address of edge1 and edge2).

    curl --cacert $ca --resolve $domain:443:$vip https://$domain/api/v1/tables/weather?limit=1

  Hosts:     .venv/bin/ansible -i inventories/lab all -m ansible.builtin.ping
  A shell:   ssh -i .lab/ssh/id_ed25519 -o UserKnownHostsFile=.lab/known_hosts operator@198.18.0.11
  Secrets:   .venv/bin/ansible-vault view inventories/lab/group_vars/all/vault.yml
  How it is: .venv/bin/ansible-playbook -i inventories/lab playbooks/status.yml
  Again:     .venv/bin/ansible-playbook -i inventories/lab site.yml
  Remove:    make clean
TEXT
