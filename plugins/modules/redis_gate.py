#!/usr/bin/python
# Copyright: (c) 2026, Nova Corrente platform team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: redis_gate
short_description: Whether a member of a Redis replication may go, or is back
version_added: 0.2.0
author:
  - Nova Corrente platform team (@novacorrente)
description:
  - Asks each server and each Sentinel of one replication, all at the same time. One call is about one master, such as C(cache) or C(queue).
    Without Sentinels it serves plain replicas too.
  - Nothing is written before a member goes. In phases V(after) and V(final) O(probe_key) is written on the master, must be acknowledged by all its
    replicas within 2 s, and is removed. In check mode it is not written.
  - A Sentinel that has the name of a server in O(members) goes and comes with it.
  - The margin of the result is the number of further members that can be lost with a master still writing, and enough Sentinels to replace it;
    in phase V(before) without the target. The progress grows from answering to loaded, copied, connected and caught up.
extends_documentation_fragment:
  - novacorrente.platform.gate
attributes:
  check_mode:
    support: full
    description: O(probe_key) is not written in check mode. The result's RV(observed) says whether it was.
requirements:
  - redis >= 5.0 (Python)
options:
  members:
    description: The servers of the replication, all of them, masters and replicas.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Name of the host in the inventory.
        type: str
        required: true
      address:
        description: Address as C(host:port), the one that it announces. A name is looked up, as servers and Sentinels tell numbers.
        type: str
        required: true
  sentinels:
    description: The Sentinels, all of them. None for plain replicas.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name of the host in the inventory.
        type: str
        required: true
      address:
        description: Address as C(host:port).
        type: str
        required: true
  master_name:
    description: What the Sentinels call the master. Required with O(sentinels).
    type: str
    default: ''
  username:
    description:
      - A user who may C(INFO) and C(CONFIG GET), and C(SET), C(WAIT) and C(DEL) on O(probe_key).
      - Without C(CONFIG GET) a server that has no append-only file is not known to keep its data, which matters where O(persistent=true).
    type: str
  password:
    description: Password of that user.
    type: str
  sentinel_username:
    description: A user of the Sentinels, by default O(username). It may ask them for C(MASTER), C(GET-MASTER-ADDR-BY-NAME), C(REPLICAS) and C(CKQUORUM).
    type: str
  sentinel_password:
    description: Password of that user. By default O(password).
    type: str
  ca_file:
    description:
      - Path of a file with the certificate authorities, PEM, that the certificates are verified against.
      - Where it is left out, the system's authorities are used. Connections are always TLS, and certificates are always verified.
    type: path
  persistent:
    description: Whether the data must survive a restart. V(false) for a cache, which may keep nothing on disk.
    type: bool
    default: true
  hand_over:
    description:
      - Whether the caller makes another server the master before it stops a target that is the master, by C(SENTINEL FAILOVER) or C(FAILOVER TO).
      - Phase V(before) then asks whether there is one that could be. Otherwise a master may not go.
    type: bool
    default: false
  probe_key:
    description: Key of the probe. Empty writes none.
    type: str
    default: platform:gate
  max_lag:
    description: Bytes of the replication stream that a replica may be behind. A tenth of the master's backlog is allowed where that is more.
    type: int
    default: 1048576
  max_silence:
    description: Seconds for which a replica may have heard nothing of its master.
    type: int
    default: 10
  max_ack:
    description: Seconds that the last acknowledgement of a replica may be old.
    type: int
    default: 1
notes:
  - V(REDIS_UNSEEN) and V(REDIS_SENTINEL_UNSEEN), no answer, or one that is not allowed. Look at the network, the certificate and the user's ACL.
  - V(REDIS_DOWN) and V(REDIS_SENTINEL_DOWN), it does not run. Start it, or look at its log. A target that is down already may be worked on with
    policy V(forced).
  - V(REDIS_NO_MASTER) and V(REDIS_MASTER_DOWN), nobody takes writes. Sentinels replace the master within their time-outs. Where they do not, ask
    C(SENTINEL CKQUORUM), and their log for C(NOGOODSLAVE). Without Sentinels make the replica with the highest offset the master.
  - V(REDIS_TWO_MASTERS), find out which one the clients write to before anything else. The Sentinels make the other its replica, which loses its writes.
  - V(REDIS_WRONG_MASTER), V(REDIS_SENTINEL_STALE) and V(REDIS_FAILOVER), a change of the master is under way, or a Sentinel has not heard of it. If it
    stays so, restart that Sentinel and look at the network between the Sentinels.
  - V(REDIS_SENTINELS_DISAGREE), Sentinels name different masters by the same epoch. Look at their logs. Do not restart anything before it is clear.
  - V(REDIS_SENTINEL_MISSING), a Sentinel does not watch this master. Its configuration was lost, or O(master_name) is wrong.
  - V(REDIS_SENTINEL_QUORUM), a Sentinel could not have the master replaced. Its own words follow. Bring the other Sentinels back.
  - V(REDIS_SENTINEL_COUNT) and V(REDIS_SENTINEL_REPLICAS), a Sentinel knows other members than there are. Too few mend within seconds after a start, for
    too many use C(SENTINEL RESET) on one Sentinel after the other.
  - V(REDIS_SENTINEL_SEES), a Sentinel has the target as down or disconnected. It notices a return within a second or two.
  - V(REDIS_LOADING), V(REDIS_SYNC), V(REDIS_LAG) and V(REDIS_STUCK), a server is not there yet. If it does not get there, its log and the master's say why,
    most often a backlog or an output buffer that is too small.
  - V(REDIS_LINK), V(REDIS_FOLLOWS) and V(REDIS_NOT_LISTED), a replica does not follow the master. Look at C(masterauth), the network and the certificates.
  - V(REDIS_SAVING), data is being written to disk, which a stop would break off. Wait.
  - V(REDIS_PERSISTENCE), a server keeps nothing on disk. Turn C(appendonly) on, or say O(persistent=false) if this is a cache.
  - V(REDIS_SAVE_FAILED), a server could not write to its disk. Look at the space and its log.
  - V(REDIS_MASTER), the target is the master. Hand over first, or say O(hand_over=true) if the caller does.
  - V(REDIS_NO_GOOD_REPLICA), Sentinel would answer C(NOGOODSLAVE) to a hand-over. Bring a replica back. Never delete the master for it.
  - V(REDIS_LAST) and V(REDIS_LAST_REPLICA), without the target nobody, or only one server, would have the data. Bring the others back.
  - V(REDIS_MIN_REPLICAS), V(REDIS_SENTINEL_MAJORITY) and V(REDIS_MARGIN), too few would remain for writes, for an election, or for one more failure.
  - V(REDIS_MEMBERS), O(members) or O(target) is not what the replication consists of. Correct the inventory.
  - V(REDIS_VERSION), a server was restarted and runs another version than O(expect_version). V(REDIS_NOT_RESTARTED), it still runs as it did at
    O(not_before).
  - V(REDIS_PROBE), a write was refused or not acknowledged by all replicas. The text has the server's words.
  - V(GATE_HEALTHY_DEADLINE), V(GATE_PROGRESS_DEADLINE) and V(GATE_HARD_DEADLINE) say which deadline passed with the other findings still there.
seealso:
  - name: High availability with Redis Sentinel
    description: Quorum, majority, and how a replica is chosen.
    link: https://redis.io/docs/latest/operate/oss_and_stack/management/sentinel/
"""

EXAMPLES = r"""
- name: May this member of the queue go, if it hands over first?
  novacorrente.platform.redis_gate:
    phase: before
    target: "{{ inventory_hostname }}"
    hand_over: true
    master_name: queue
    members:
      - {name: data1, address: "192.0.2.31:6380"}
      - {name: data2, address: "192.0.2.32:6380"}
      - {name: data3, address: "192.0.2.33:6380"}
    sentinels:
      - {name: data1, address: "192.0.2.31:26379"}
      - {name: data2, address: "192.0.2.32:26379"}
      - {name: data3, address: "192.0.2.33:26379"}
    username: admin
    password: "{{ redis_admin_password }}"
    ca_file: /srv/platform/redis/live/tls/ca.crt

- name: Is the cache well again?
  novacorrente.platform.redis_gate:
    phase: final
    master_name: cache
    persistent: false
    members: "{{ groups['redis'] | novacorrente.platform.members(hostvars, 6379) }}"
    sentinels: "{{ groups['redis'] | novacorrente.platform.members(hostvars, 26379) }}"
    username: admin
    password: "{{ redis_admin_password }}"
    ca_file: /srv/platform/redis/live/tls/ca.crt

# At three in the morning; the inventory fills in the braces, so that no secret is in the command:
# ansible data1 -i inventories/production -c local -m novacorrente.platform.redis_gate -a '{"wait": false, "master_name": "queue",
#   "members": "{{ groups.redis | novacorrente.platform.members(hostvars, 6380) }}", "ca_file": "pki/ca.crt",
#   "sentinels": "{{ groups.redis | novacorrente.platform.members(hostvars, 26379) }}",
#   "username": "admin", "password": "{{ redis_admin_password }}"}'
"""

RETURN = r"""
verdict:
  description: What was found, one of V(pass), V(wait), V(fail) and V(unknown). V(wait) only where O(wait=false).
  returned: always
  type: str
  sample: wait
reasons:
  description: The findings that keep the gate from passing, each with C(code), C(verdict), C(subject), C(text) and C(key).
  returned: always
  type: list
  elements: dict
  sample: [{code: REDIS_LINK, verdict: wait, subject: data1, text: Has no connection to its master., key: REDIS_LINK data1}]
tolerated:
  description: Keys of findings that the policy overruled.
  returned: always
  type: list
  elements: str
observed:
  description:
    - The master, what each Sentinel says, and whether the probe key was written.
    - C(members) has by inventory name each server's C(version), C(role) (V(master) or V(replica)), C(lag) of a replica behind its master with the unit
      bytes, C(offset) in the stream, and the codes of what keeps it from being a good replica. A server that does not answer has an C(error) instead.
  returned: always
  type: dict
  sample:
    master: data1
    members:
      data1: {version: 8.0.3, role: master, offset: 41350, trouble: []}
      data2: {version: 8.0.3, role: replica, lag: 12 bytes, offset: 41338, trouble: []}
    sentinels: {data1: "names data1, epoch 3", data2: "names data1, epoch 3"}
    probed: false
margin:
  description: Further members that can be lost with a master still writing and replaceable. Negative where that does not hold now.
  returned: always
  type: int
  sample: 1
progress:
  description: How far the target, or all servers, are on their way back. None before a change.
  returned: always
  type: float
elapsed:
  description: Seconds that the gate took.
  returned: always
  type: float
polls:
  description: How many times it looked.
  returned: always
  type: int
"""

import os

from ansible.module_utils.basic import AnsibleModule, missing_required_lib

from ansible_collections.novacorrente.platform.plugins.module_utils._gates import contract, redis, redis_fetch
from ansible_collections.novacorrente.platform.plugins.module_utils._gates import module as gate


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **gate.OPTIONS,
            "members": gate.MEMBERS,
            "sentinels": {"type": "list", "elements": "dict", "default": [], "options": gate.MEMBER},
            "master_name": {"type": "str", "default": ""},
            "username": {"type": "str"},
            "password": {"type": "str", "no_log": True},
            "sentinel_username": {"type": "str"},
            "sentinel_password": {"type": "str", "no_log": True},
            "ca_file": {"type": "path"},
            "persistent": {"type": "bool", "default": True},
            "hand_over": {"type": "bool", "default": False},
            "probe_key": {"type": "str", "default": "platform:gate", "no_log": False},
            "max_lag": {"type": "int", "default": redis.Limits.max_lag},
            "max_silence": {"type": "int", "default": redis.Limits.max_silence},
            "max_ack": {"type": "int", "default": redis.Limits.max_ack},
        },
        supports_check_mode=True,
    )
    if redis_fetch.REDIS_ERROR:
        module.fail_json(msg=missing_required_lib("redis >= 5.0"), exception=redis_fetch.REDIS_ERROR)
    params = module.params
    members, sentinels = ({each["name"]: each["address"] for each in params[option]} for option in ("members", "sentinels"))
    if not members:
        module.fail_json(msg="members is empty; the servers of the replication are needed.")
    if sentinels and not params["master_name"]:
        module.fail_json(msg="master_name is empty; with sentinels it is needed, such as 'cache' or 'queue'.")
    if params["ca_file"] and not os.path.isfile(params["ca_file"]):
        module.fail_json(msg=f"ca_file: {params['ca_file']} is no file.")
    login = (params["username"], params["password"])
    probing = params["phase"] in (contract.AFTER, contract.FINAL) and not module.check_mode
    try:
        look = redis_fetch.Look(
            members,
            sentinels,
            master_name=params["master_name"],
            login=login,
            sentinel_login=(params["sentinel_username"] or login[0], params["sentinel_password"] or login[1]),
            ca_file=params["ca_file"],
            probe_key=params["probe_key"] if probing else "",
        )
    except ValueError as exc:
        module.fail_json(msg=f"members, sentinels: {exc}")
    limits = redis.Limits(params["max_lag"], params["max_silence"], params["max_ack"])
    gate.run(
        module,
        "redis",
        look.fetch,
        lambda snapshot, question, earlier: redis.evaluate(snapshot, question, earlier, limits, persistent=params["persistent"], hand_over=params["hand_over"]),
    )


if __name__ == "__main__":
    main()
