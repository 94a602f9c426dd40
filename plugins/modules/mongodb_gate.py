#!/usr/bin/python
# Copyright: (c) 2026, Nova Corrente platform team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: mongodb_gate
short_description: Whether a member of a MongoDB replica set may go, is back, or the set is well
version_added: 0.2.0
author:
  - Nova Corrente platform team (@novacorrente)
description:
  - Asks every member of a replica set directly, all at the same time, and answers one question about the set. See O(phase).
  - V(preflight) wants all members well and nothing under way, V(before) a set that is still available and durable without O(target),
    V(after) the target restarted, caught up and seen by the others, V(final) one version everywhere.
  - A member that only this host cannot reach is V(unknown); one that a majority of the voters cannot reach either is down.
  - In phase V(after), and in V(before) with O(handed_over), one small document is written and removed again to prove that replication works
    from end to end, see O(probe).
  - Runs where PyMongo is, on a member or on the controller.
  - Backups, and whether the coming image is on every host, are not seen by this gate.
extends_documentation_fragment:
  - novacorrente.platform.gate
attributes:
  check_mode:
    support: full
    description: The write of O(probe) is left out, and RV(observed) says so.
notes:
  - The user needs the role C(clusterMonitor) on C(admin), and C(readWrite) on O(probe_database) where O(probe) is on.
  - C(MDB_UNREACHABLE) the member gives no answer here. Is it running, is the port open to this host, does its certificate fit its address?
  - C(MDB_DOWN) neither here nor to a majority of the voters. Start it.
  - C(MDB_REFUSED) it answers, but not to this user. Check O(login_user), its password and roles.
  - C(MDB_UNINITIATED) it has no configuration. Initiate the set once, or add the member to it.
  - C(MDB_REMOVED) it runs, but the set does not know it. Add it or stop it.
  - C(MDB_NOT_ASKED) the set has a member that is not in O(members). Compare the addresses.
  - C(MDB_TARGET) O(target) is none of the set's members.
  - C(MDB_CONFIG_UNSEEN) nobody told the set's configuration. See the other findings.
  - C(MDB_SET_NAME) members of different sets. Correct the list or the servers' replSetName.
  - C(MDB_CONFIG) a reconfiguration is under way. Wait.
  - C(MDB_NO_PRIMARY) nobody takes writes. Wait for the election; if it lasts, count the votes.
  - C(MDB_TWO_PRIMARIES) an old primary has not stepped down yet. Wait; look for a partition.
  - C(MDB_PRIMARY_DISPUTED), C(MDB_TERM) members do not agree yet. Wait; look for a partition.
  - C(MDB_ELECTION) the primary was elected a moment ago. Wait.
  - C(MDB_STATE) the member is neither primary nor secondary. See its log.
  - C(MDB_TOO_STALE) it can never catch up. Resync it.
  - C(MDB_PEERS) it is seen here, but not by enough of the others. Look for a partition.
  - C(MDB_LAG) it is too far behind. Wait; look at its disk and the load.
  - C(MDB_SYNC_SOURCE) it follows nobody. Wait; see its log.
  - C(MDB_OPLOG) the oplog spans too little time for a member that is away. Enlarge it with replSetResizeOplog.
  - C(MDB_INDEX_BUILD) indexes are being built. Wait.
  - C(MDB_FCV) featureCompatibilityVersion is in change, differs, or does not fit the server. Run setFeatureCompatibilityVersion again.
  - C(MDB_UPGRADE_PATH) O(expect_version) cannot follow. Go one major series at a time.
  - C(MDB_DISK) the disk of the data is too full. Make room first.
  - C(MDB_CLOCK) clocks differ. Repair time synchronisation.
  - C(MDB_TAKEOVER) a member of higher priority is about to become primary. Wait.
  - C(MDB_QUORUM) too few votes would be left for a primary. Bring the others back first. No policy overrules it.
  - C(MDB_WRITE_MAJORITY), C(MDB_ARBITER) too few data-bearing members would be left for writes with majority. With an arbiter that is so in a
    set of three; V(forced) accepts the outage of such writes.
  - C(MDB_MARGIN) the set could still lose one more member, if the others were well. Bring them back, or accept it by O(policy).
  - C(MDB_SUCCESSOR) nobody could become primary. Wait for a secondary to catch up.
  - C(MDB_SUCCESSOR_VERSION) the successor is still to be updated. Take that one first.
  - C(MDB_STILL_PRIMARY) the target has not handed over yet. Step it down without force; force may lose writes.
  - C(MDB_RESTART) the old process still runs.
  - C(MDB_VERSION), C(MDB_VERSIONS) not the expected version, or more than one.
  - C(MDB_INITIAL_SYNC) all data are copied anew. If that was not planned, the data directory was lost; else set O(initial_sync_expected).
  - C(MDB_INITIAL_SYNC_FAILED) the copying failed. See the member's log.
  - C(MDB_ROLLBACK) writes were rolled back. Look at the files under C(rollback/) in the data directory.
  - C(MDB_PROBE) the written document did not arrive. See RV(reasons) for why.
requirements:
  - pymongo >= 4.4 (Python)
options:
  members:
    description: All members of the set.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Name of the member, usually that of its host in the inventory. O(target) is one of these.
        type: str
        required: true
      address:
        description: Address as C(host:port), as the set's own configuration has it.
        type: str
        required: true
  login_user:
    description: User to log in as. Without one only members that need no login can be judged.
    type: str
  login_password:
    description: Password of O(login_user).
    type: str
  login_database:
    description: Database that O(login_user) belongs to.
    type: str
    default: admin
  ca_file:
    description:
      - Path, where the module runs, of the certificate authorities in PEM form that the members' certificates are verified against.
      - Where it is left out, the system's authorities are used. TLS is always used and verified.
    type: path
  certificate_file:
    description: Path of a client certificate and its key, both in one file in PEM form, where the members ask for one.
    type: path
  max_lag:
    description: Seconds that a member may be behind the primary.
    type: float
    default: 10.0
  expected_downtime:
    description: Seconds that the restart of one member takes at most. The oplogs must span five times as much, and at least O(min_oplog).
    type: float
    default: 600.0
  min_oplog:
    description: Seconds that the oplog of every member must span at least. One that is not full yet is reckoned as it will be.
    type: float
    default: 3600.0
  max_clock_skew:
    description: Seconds that the clocks of two members may be apart.
    type: float
    default: 1.0
  min_disk_free:
    description: Share of the data's disk that must be free, V(0) to V(1). V(0) does not ask.
    type: float
    default: 0.1
  initial_sync_expected:
    description: Whether O(target) comes back without data, as a new or a replaced member does. It has O(progress_deadline) then while it copies.
    type: bool
    default: false
  handed_over:
    description: In phase V(before), whether the target was told to step down, so that another member must be primary now.
    type: bool
    default: false
  probe:
    description:
      - Whether a write must be seen. In phase V(after) every data-bearing voter must take it and it is read back from O(target) itself, in phase
        V(before) with O(handed_over) a majority must have it in its journal.
      - It is made once all else holds, and removed again.
    type: bool
    default: true
  probe_database:
    description: Database that the probe is written to, in a collection C(gate).
    type: str
    default: platform_gate
seealso:
  - name: replSetGetStatus
    description: What most of the verdict is read from.
    link: https://www.mongodb.com/docs/manual/reference/command/replSetGetStatus/
"""

EXAMPLES = r"""
- name: May data1 go?
  novacorrente.platform.mongodb_gate:
    phase: before
    target: data1
    expect_version: 8.0.4
    members:
      - {name: data1, address: "192.0.2.31:27017"}
      - {name: data2, address: "192.0.2.32:27017"}
      - {name: data3, address: "192.0.2.33:27017"}
    login_user: gate
    login_password: "{{ mongodb_gate_password }}"
    ca_file: /srv/platform/mongodb/live/tls/ca.crt

- name: Is it back?
  novacorrente.platform.mongodb_gate:
    phase: after
    target: data1
    expect_version: 8.0.4
    not_before: "{{ restarted_at }}"
    members: "{{ mongodb_members }}"
    login_user: gate
    login_password: "{{ mongodb_gate_password }}"
    ca_file: /srv/platform/mongodb/live/tls/ca.crt

# From the command line, a look at the set as it is:
# ansible data1 -m novacorrente.platform.mongodb_gate -e @members.yml -a '{"members": "{{ mongodb_members }}", "login_user": "gate",
#   "login_password": "{{ mongodb_gate_password }}", "ca_file": "/srv/platform/mongodb/live/tls/ca.crt", "wait": false}'
"""

RETURN = r"""
verdict:
  description: V(pass), V(wait), V(fail) or V(unknown).
  returned: always
  type: str
  sample: pass
reasons:
  description: What keeps the gate from passing.
  returned: always
  type: list
  elements: dict
  sample:
    - code: MDB_LAG
      key: MDB_LAG data2
      subject: data2
      text: is 31 s behind the primary; 10 s are allowed.
      verdict: wait
tolerated:
  description: Keys of findings that O(policy) overruled.
  returned: always
  type: list
  elements: str
observed:
  description:
    - Primary, term, likely successor, and the elections that a rollout of all members will cause.
    - C(members) has by inventory name each member's C(version), C(role) (V(primary), V(secondary) or V(arbiter)), where it has none of these its
      C(state), C(lag) of its data behind the primary's with the unit s, beyond a wanted delay, and more.
  returned: always
  type: dict
  sample:
    primary: data1
    members:
      data1: {version: 7.0.28, role: primary, address: "192.0.2.31:27017", votes: 1, priority: 1.0}
      data2: {version: 7.0.28, role: secondary, lag: 0 s, address: "192.0.2.32:27017", votes: 1, priority: 1.0}
margin:
  description: How many more members may be lost, in phase V(before) after O(target) went. Negative where members are missing already.
  returned: always
  type: int
  sample: 0
progress:
  description: A number that grows while O(target) recovers. The time of its last operation, or in an initial sync the bytes still to copy, negative.
  returned: always
  type: float
elapsed:
  description: Seconds that the gate took.
  returned: always
  type: float
polls:
  description: How many times the gate looked.
  returned: always
  type: int
"""

import dataclasses
import os
import typing as t

from ansible.module_utils.basic import AnsibleModule, missing_required_lib

from ansible_collections.novacorrente.platform.plugins.module_utils._gates import contract, mongodb, mongodb_fetch
from ansible_collections.novacorrente.platform.plugins.module_utils._gates import module as gate


def main() -> t.NoReturn:
    module = AnsibleModule(
        argument_spec={
            **gate.OPTIONS,
            "members": gate.MEMBERS,
            "login_user": {"type": "str"},
            "login_password": {"type": "str", "no_log": True},
            "login_database": {"type": "str", "default": "admin"},
            "ca_file": {"type": "path"},
            "certificate_file": {"type": "path"},
            "max_lag": {"type": "float", "default": 10.0},
            "expected_downtime": {"type": "float", "default": 600.0},
            "min_oplog": {"type": "float", "default": 3600.0},
            "max_clock_skew": {"type": "float", "default": 1.0},
            "min_disk_free": {"type": "float", "default": 0.1},
            "initial_sync_expected": {"type": "bool", "default": False},
            "handed_over": {"type": "bool", "default": False},
            "probe": {"type": "bool", "default": True},
            "probe_database": {"type": "str", "default": "platform_gate"},
        },
        required_together=[("login_user", "login_password")],
        supports_check_mode=True,
    )
    if mongodb_fetch.PYMONGO_ERROR:
        module.fail_json(msg=missing_required_lib("pymongo"), exception=mongodb_fetch.PYMONGO_ERROR)
    params = module.params
    for option in ("ca_file", "certificate_file"):
        if params[option] and not os.access(params[option], os.R_OK):
            module.fail_json(msg=f"{option} is {params[option]!r}; there is no such file on this host, or it may not be read.")
    names = ("max_lag", "expected_downtime", "min_oplog", "max_clock_skew", "min_disk_free", "initial_sync_expected", "handed_over", "probe")
    limits = mongodb.Limits(**{name: params[name] for name in names})
    if module.check_mode:
        limits = dataclasses.replace(limits, probe=False)
    login = {"username": params["login_user"], "password": params["login_password"], "authSource": params["login_database"]} if params["login_user"] else {}
    look = mongodb_fetch.Fetcher(
        [(member["name"], member["address"]) for member in params["members"]],
        login,
        params["ca_file"],
        params["certificate_file"],
        full=params["phase"] in (contract.PREFLIGHT, contract.BEFORE),
    )

    def evaluate(snapshot: mongodb.Snapshot, question: contract.Question, earlier: contract.Earlier[mongodb.Snapshot]) -> contract.Evaluation:
        seen = mongodb.evaluate(snapshot, question, earlier, limits)
        if module.check_mode and params["probe"]:
            return dataclasses.replace(seen, observed={**seen.observed, "probe": "left out in check mode"})
        return seen

    def fetch() -> mongodb.Snapshot:
        return look.look_and_probe(gate.question_of(params), limits, params["probe_database"])

    try:
        gate.run(module, "mongodb", fetch, evaluate)
    finally:
        look.close()


if __name__ == "__main__":
    main()
