#!/usr/bin/python
# Copyright: (c) 2026, Nova Corrente platform team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: leaf_certificates
short_description: Issue the leaf certificates of a host that are due
version_added: 0.1.0
author:
  - Nova Corrente platform team (@novacorrente)
description:
  - Compares the leaf certificates that a host needs with the files on the controller, and issues those that are missing, state other names,
    addresses or usages, come from another CA, or end soon. Each is signed by the private CA whose encrypted key lies on the controller.
  - Runs on the controller, in Ansible's own process, whatever host the task is for. All certificates of a platform take a second; the
    same by three modules a certificate takes minutes on a small controller.
  - Keys are EC P-256. Certificate and key (PKCS#8, encrypted with O(passphrase)) share one file of mode 0600 that is written at
    once, so that a run killed at any moment leaves the old pair or the new one.
  - Fails where the CA has ended and warns where it soon will.
requirements:
  - cryptography (on the controller; ansible-core brings it)
attributes:
  check_mode:
    support: full
    description: Nothing is written. A CA that does not exist yet is taken for one that will.
  diff_mode:
    support: full
    description: Shows names, addresses, usages, issuer and end of each certificate; never a key.
  idempotent:
    support: full
    description: A certificate that states what is wanted and has enough days left is not touched.
  platform:
    support: full
    platforms: posix
    description: The platforms the controller runs on.
options:
  certificates:
    description: The certificates of the host.
    type: list
    elements: dict
    required: true
    suboptions:
      path:
        description: File on the controller that holds certificate and encrypted key.
        type: path
        required: true
      names:
        description: DNS names.
        type: list
        elements: str
        required: true
      addresses:
        description: IP addresses.
        type: list
        elements: str
        default: []
      usages:
        description: What the certificate is for.
        type: list
        elements: str
        choices: [serverAuth, clientAuth]
        default: [serverAuth]
  common_name:
    description: Common name of the certificates. The inventory's name of the host by default.
    type: str
  ca_certificate:
    description: File on the controller with the CA's certificate.
    type: path
    required: true
  ca_key:
    description: File on the controller with the CA's encrypted key.
    type: path
    required: true
  passphrase:
    description: Passphrase of the CA's key and of the keys that are made.
    type: str
    required: true
  days:
    description: Lifetime of a certificate in days.
    type: int
    default: 90
  spread_days:
    description: Each certificate lives up to so many days less, told from its path, so that they do not all end on one day.
    type: int
    default: 20
  renew_days:
    description: A certificate with fewer days left is issued anew.
    type: int
    default: 30
  ca_warn_days:
    description: Warn where the CA has fewer days left.
    type: int
    default: 365
"""

EXAMPLES = r"""
- name: Issue the certificates that are due
  novacorrente.platform.leaf_certificates:
    ca_certificate: pki/ca.crt
    ca_key: pki/ca.key
    passphrase: "{{ platform_ca_passphrase }}"
    certificates:
      - path: pki/hosts/edge1/edge.pem
        names: [platform.example.org, edge1]
        addresses: [192.0.2.10]
        usages: [serverAuth]
"""

RETURN = r"""
issued:
  description: The certificates that were, or in check mode would be, issued.
  returned: always
  type: list
  elements: dict
  contains:
    path:
      description: File on the controller.
      type: str
      sample: pki/hosts/edge1/edge.pem
    reason:
      description: Why it was due.
      type: str
      sample: it has 29 days left, fewer than 30
"""
