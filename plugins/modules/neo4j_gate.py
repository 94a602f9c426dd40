#!/usr/bin/python
# Copyright: (c) 2026, Nova Corrente platform team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: neo4j_gate
short_description: Gate of Neo4j, a Community server, Community members kept equal by an outbox, or an Enterprise cluster
version_added: 0.2.0
author:
  - Nova Corrente platform team (@novacorrente)
description:
  - Asks all members at the same time whether a rollout may begin, whether O(target) may go, whether it is back, and whether all ended well.
  - With O(edition=community) members are independent. Where they are kept equal by an outbox, the lag of a member is the distance between the newest
    number of the outbox and the number stored in C((:Outbox {id:'position'}).number). A single member may go only by force, since that is an outage.
  - With O(edition=enterprise) each database is judged by the vendor's checks of C(/dbms/cluster/status), by C(SHOW SERVERS) and C(SHOW DATABASES) as
    the other members see them, and by C(dbms.cluster.statusCheck), which replicates an entry that changes no data. Needs Neo4j 5.24 or later.
  - In phase V(preflight) O(expect_version) is the version that is planned, and must be reachable in place from the one that runs.
  - Running backups are not visible to a query, so the caller looks after those.
  - TLS is always verified.
notes:
  - Reason codes, and what to do about each. Their subject is the member, the database, or both.
  - C(NEO_REFUSED) (wait) nothing listens there. The server starts, or has ended; look at its log.
  - C(NEO_NO_ANSWER) (wait) connected, and then silence.
  - C(NEO_UNREACHABLE) (unknown) no way to the host. Look at the host, the network and the firewall.
  - C(NEO_TLS) (fail) the certificate is not good for this address and O(ca_file).
  - C(NEO_AUTH) (unknown) the user is refused. Look at O(username) and O(password).
  - C(NEO_QUERY) (unknown) a query failed or its answer cannot be read. The server's code is in the text.
  - C(NEO_DATABASE_UNAVAILABLE), C(NEO_DATABASE_STARTING) (wait) a database is starting, recovering or copying its store.
  - C(NEO_DATABASE_FAILED) (fail) a database is dirty, quarantined, or not in the state requested. The message of the server is in the text.
  - C(NEO_NO_DATABASE) (fail) O(database) does not exist there.
  - C(NEO_EDITION) (fail) the server is of another edition than O(edition).
  - C(NEO_LAG) (wait) more than O(max_lag) behind. Is the applier running?
  - C(NEO_AHEAD) (wait) the member has applied more than the outbox holds. If it stays, MongoDB has lost records; rebuild the member.
  - C(NEO_OUTBOX_UNKNOWN) (unknown) the newest number could not be read from MongoDB.
  - C(NEO_POSITION_UNKNOWN) (unknown) the number stored in the member is none.
  - C(NEO_SINGLE) (fail) the only member. Announce the outage and force with a reason.
  - C(NEO_TOO_FEW) (as the members that are missing) too few healthy members would remain.
  - C(NEO_VERSION), C(NEO_NOT_RESTARTED) (fail) not the version expected, or a process from before O(not_before).
  - C(NEO_VERSION_UNKNOWN), C(NEO_START_UNKNOWN) (unknown) the member does not tell.
  - C(NEO_VERSIONS_DIFFER) (fail) a rollout was not finished. Run it again.
  - C(NEO_VERSION_PATH) (fail) a downgrade, or a version that cannot be reached in one step.
  - C(NEO_DISCOVERY) (fail) 2025.01 and later need discovery V2_ONLY on all members first.
  - C(NEO_NO_CLUSTER) (fail) the member has no cluster status.
  - C(NEO_FEW_PRIMARIES) (fail) a database with less than three primaries stops whenever one does. Raise its topology, or force with a reason.
  - C(NEO_NO_MAJORITY) (as the members that are missing) a database of O(target) would lose its majority.
  - C(NEO_UNHEALTHY) (fail) a member met an error that keeps a database from writing. Look at its log, replace the member.
  - C(NEO_NOT_PARTICIPATING), C(NEO_NOT_VOTING), C(NEO_VOTING_SETS) (wait) a member is joining or leaving a Raft group.
  - C(NEO_NO_LEADER), C(NEO_LEADER_SILENT) (wait) an election, or no connection to the leader.
  - C(NEO_LEADERS_DIFFER) (unknown) members name different leaders, as in a partition.
  - C(NEO_NOT_REPLICATING), C(NEO_MEMBER_STATUS) (wait) the status check reaches no majority, or a member takes no part.
  - C(NEO_STATUS), C(NEO_STATUS_CHECK) (unknown) a state or the status check is missing.
  - C(NEO_NOT_SEEN_BY_OTHERS) (unknown) no other member could be asked about it.
  - C(NEO_NOT_LISTED), C(NEO_SERVER_UNAVAILABLE), C(NEO_HOSTING) (wait) the others do not see the server, not yet as available, or not with its databases.
  - C(NEO_SERVER_STATE) (fail) the server is not enabled.
  - C(NEO_NO_SUCH_MEMBER) (fail) O(target) is not in O(members).
extends_documentation_fragment:
  - novacorrente.platform.gate
requirements:
  - neo4j >= 5.14 (Python)
  - pymongo >= 4.3 (Python), where O(outbox) is read from MongoDB
options:
  edition:
    description: The edition of the servers.
    type: str
    choices: [community, enterprise]
    default: community
  members:
    description: The members. The host of an address must be in the server's certificate.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Name of the member in the inventory.
        type: str
        required: true
      address:
        description: Where Bolt listens, as C(host:port). The port is 7687 by default.
        type: str
        required: true
      http_address:
        description: Where HTTPS listens, as C(host:port). By default port 7473 of the same host. Used with O(edition=enterprise).
        type: str
        default: ''
      advertised:
        description: Address by which C(SHOW SERVERS) names it, where that is neither O(members[].address) nor the name with the port of Bolt.
        type: str
        default: ''
  username:
    description: A user that may run the queries above, on Enterprise one with the rights of an administrator.
    type: str
    default: neo4j
  password:
    description: The user's password.
    type: str
    required: true
  ca_file:
    description: File of certificates in PEM form that servers, MongoDB too, are verified against. By default the system's.
    type: path
  plain:
    description: Whether members are asked without TLS. Accepted for addresses of the loopback only.
    type: bool
    default: false
  timeout:
    description: Seconds that a connection or an answer may take.
    type: float
    default: 5.0
  database:
    description: The database of the graph, for O(edition=community).
    type: str
    default: neo4j
  newest:
    description: The newest number of the outbox, where the caller knows it. Neither this nor O(outbox) means that there is no outbox.
    type: int
  outbox:
    description: Where the newest number of the outbox is read.
    type: dict
    suboptions:
      uri:
        description: URI of MongoDB, without a password.
        type: str
        required: true
      database:
        description: Database of the outbox.
        type: str
        required: true
      collection:
        description: Collection of the outbox, whose C(_id) is the number.
        type: str
        default: outbox
      username:
        description: Name of a user that may read the collection.
        type: str
        default: ''
      password:
        description: The user's password.
        type: str
  max_lag:
    description: Records that a Community member, or Raft entries that a primary, may be behind.
    type: int
    default: 100
  max_silence:
    description: Seconds that a primary may not have heard from the leader.
    type: float
    default: 10.0
  min_available:
    description: Healthy Community members that must remain in phase V(before). By default all but one, and at least one.
    type: int
  interval:
    description: Seconds between two looks at a healthy system. One look is up to three requests to a member.
    type: float
    default: 3.0
"""

EXAMPLES = r"""
- name: May this member of the graph go?
  novacorrente.platform.neo4j_gate:
    phase: before
    target: "{{ inventory_hostname }}"
    members:
      - {name: data1, address: "192.0.2.31:7687"}
      - {name: data2, address: "192.0.2.32:7687"}
    password: "{{ neo4j_password }}"
    ca_file: /etc/platform/ca.crt
    outbox:
      uri: mongodb://192.0.2.31,192.0.2.32,192.0.2.33/?replicaSet=rs0
      database: platform
      username: gate
      password: "{{ mongodb_gate_password }}"

- name: Is this server of the cluster back?
  novacorrente.platform.neo4j_gate:
    edition: enterprise
    phase: after
    target: data1
    expect_version: 5.26.30
    not_before: "{{ restarted_at }}"
    members:
      - {name: data1, address: "192.0.2.31:7687"}
      - {name: data2, address: "192.0.2.32:7687"}
      - {name: data3, address: "192.0.2.33:7687"}
    password: "{{ neo4j_password }}"
    ca_file: /etc/platform/ca.crt

# From the command line, with the password in a file that is encrypted:
#   ansible localhost -m novacorrente.platform.neo4j_gate -e @secrets.yml -a '{"wait": false, "password": "{{ neo4j_password }}",
#     "ca_file": "/etc/platform/ca.crt", "members": [{"name": "data1", "address": "192.0.2.31:7687"}]}'
"""

RETURN = r"""
msg:
  description: The outcome for a person.
  returned: always
  type: str
verdict:
  description: V(pass), V(wait), V(fail) or V(unknown).
  returned: when the gate looked
  type: str
  sample: pass
reasons:
  description: What keeps the gate from passing, each with C(code), C(verdict), C(subject), C(text) and C(key).
  returned: when the gate looked
  type: list
  elements: dict
tolerated:
  description: Keys of findings that the policy overruled.
  returned: when the gate looked
  type: list
  elements: str
observed:
  description:
    - C(members) has by inventory name each member's C(version), C(started) and C(lag), or an C(error).
    - With O(edition=community) the C(lag) has the unit records and is behind the newest number of the outbox, or behind the member that has come furthest
      where no outbox is read. C(position) and the states of C(databases) are told too. Members are independent, so none has a role.
    - With O(edition=enterprise) C(role) is V(leader) or V(follower) in O(database), and C(lag) of a follower has the unit entries, those of Raft.
    - Of a cluster also the leader of each database, by which a rollout orders its members.
  returned: when the gate looked
  type: dict
  sample:
    members:
      data1: {version: 5.26.30, lag: 0 records, started: 1800000000.0, position: 512, databases: {neo4j: online, system: online}}
    newest: 512
margin:
  description: How many more members may be lost. Of a cluster the least of its databases. In phase V(before) without the target.
  returned: when the gate looked
  type: int
progress:
  description: In phase V(after) the number of the record, or of the Raft entries, that O(target) has reached.
  returned: when the gate looked
  type: float
elapsed:
  description: Seconds that the gate took.
  returned: when the gate looked
  type: float
polls:
  description: How many times it looked.
  returned: when the gate looked
  type: int
"""

import functools
import typing as t

from ansible.module_utils.basic import AnsibleModule, missing_required_lib

from ansible_collections.novacorrente.platform.plugins.module_utils._gates import addresses, https, neo4j, neo4j_cluster, neo4j_fetch
from ansible_collections.novacorrente.platform.plugins.module_utils._gates import module as gate

BOLT_PORT = 7687
HTTPS_PORT = 7473
HTTP_PORT = 7474


def url_of(address: str, port: int, plain: bool) -> str:
    """A URL for an address, with its port told. Raises addresses.AddressError."""
    return f"{'http' if plain else 'https'}://{addresses.join(*addresses.split(address, port))}/"


def bolts_of(params: t.Mapping[str, t.Any]) -> dict[str, neo4j_fetch.Bolt]:
    """Raises addresses.AddressError."""
    bolts = {}
    for member in params["members"]:
        place, _path = https.place_of(url_of(member["address"], BOLT_PORT, params["plain"]))
        bolts[member["name"]] = neo4j_fetch.Bolt(place, params["ca_file"], params["username"], params["password"], params["timeout"])
    return bolts


def cluster_fetcher(params: t.Mapping[str, t.Any]) -> neo4j_fetch.ClusterFetcher:
    """Raises addresses.AddressError."""
    context = https.tls_context(params["ca_file"])
    login = https.basic(params["username"], params["password"])
    clients, known_as = {}, {}
    for member in params["members"]:
        host, port = addresses.split(member["address"], BOLT_PORT)
        address = member["http_address"] or (f"[{host}]" if ":" in host else host)
        place, _path = https.place_of(url_of(address, HTTP_PORT if params["plain"] else HTTPS_PORT, params["plain"]))
        clients[member["name"]] = https.Client(place, context, params["timeout"], login)
        known_as[member["name"]] = tuple(filter(None, (addresses.join(host, port), f"{member['name']}:{port}", member["advertised"])))
    target = params["target"] if params["phase"] in ("before", "after") else ""
    return neo4j_fetch.ClusterFetcher(bolts_of(params), clients, known_as, target, params["timeout"])


def community_fetcher(params: t.Mapping[str, t.Any]) -> neo4j_fetch.CommunityFetcher:
    """Raises addresses.AddressError."""
    newest: int | neo4j_fetch.Outbox | None = params["newest"]
    outbox = params["outbox"]
    if outbox:
        login = (outbox["username"], outbox["password"] or "")
        newest = neo4j_fetch.Outbox(outbox["uri"], outbox["database"], outbox["collection"], params["ca_file"], *login, params["timeout"])
    return neo4j_fetch.CommunityFetcher(bolts_of(params), params["database"], newest)


def main() -> t.NoReturn:
    text = {"type": "str", "default": ""}
    module = AnsibleModule(
        argument_spec={
            **gate.OPTIONS,
            "interval": {"type": "float", "default": 3.0},
            "edition": {"type": "str", "choices": ["community", "enterprise"], "default": "community"},
            "members": {**gate.MEMBERS, "options": {**gate.MEMBER, "http_address": text, "advertised": text}},
            "username": {"type": "str", "default": "neo4j"},
            "password": {"type": "str", "required": True, "no_log": True},
            "ca_file": {"type": "path"},
            "plain": {"type": "bool", "default": False},
            "timeout": {"type": "float", "default": 5.0},
            "database": {"type": "str", "default": "neo4j"},
            "newest": {"type": "int"},
            "outbox": {
                "type": "dict",
                "options": {
                    "uri": {"type": "str", "required": True},
                    "database": {"type": "str", "required": True},
                    "collection": {"type": "str", "default": "outbox"},
                    "username": text,
                    "password": {"type": "str", "no_log": True},
                },
            },
            "max_lag": {"type": "int", "default": 100},
            "max_silence": {"type": "float", "default": 10.0},
            "min_available": {"type": "int"},
        },
        mutually_exclusive=[("newest", "outbox")],
        supports_check_mode=True,
    )
    params = module.params
    if neo4j_fetch.NEO4J_ERROR:
        module.fail_json(msg=missing_required_lib("neo4j"), exception=neo4j_fetch.NEO4J_ERROR)
    if params["outbox"] and neo4j_fetch.PYMONGO_ERROR:
        module.fail_json(msg=missing_required_lib("pymongo"), exception=neo4j_fetch.PYMONGO_ERROR)
    limits = neo4j.Limits(
        max_lag=params["max_lag"],
        outbox=params["newest"] is not None or bool(params["outbox"]),
        database=params["database"],
        min_available=params["min_available"],
        max_silence=params["max_silence"],
    )
    try:
        https.tls_context(params["ca_file"])
        if params["edition"] == "enterprise":
            cluster = cluster_fetcher(params)
            gate.run(module, "neo4j", cluster.fetch, functools.partial(neo4j_cluster.evaluate, limits=limits))
        single = community_fetcher(params)
    except addresses.AddressError as exc:
        module.fail_json(msg=str(exc))
    gate.run(module, "neo4j", single.fetch, functools.partial(neo4j.evaluate, limits=limits))


if __name__ == "__main__":
    main()
