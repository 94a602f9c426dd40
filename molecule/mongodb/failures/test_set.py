# SPDX-License-Identifier: GPL-3.0-or-later
"""A replica set grows, shrinks, loses members and data, and never makes a second set. Acknowledged writes are there at the end of each test."""

from __future__ import annotations

import copy
import json
import pathlib
import time
import typing as t

import pytest
import replica_set
import support
import yaml

ROOT = "/srv/platform/mongodb"
THREE = ["data1", "data2", "data3"]
FIVE = [*THREE, "data4", "ops1"]


def step_down(host: str) -> None:
    """Another member is primary afterwards."""
    if replica_set.primary(host) == host:
        replica_set.ask(host, {"replSetStepDown": 120, "secondaryCatchUpPeriodSecs": 30})
        support.wait_for("another primary", lambda: "PRIMARY" in replica_set.states(host).values() and replica_set.primary(host) != host, 60)


def identity(host: str) -> str:
    return str(replica_set.ask(host, {"replSetGetConfig": 1})["config"]["settings"]["replicaSetId"])


class Platform:
    """The lab's inventory with another group mongodb, and what was written and acknowledged."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder
        self.count = 0
        self.members: list[str] = []
        self.written = 0

    def inventory(self, members: list[str]) -> pathlib.Path:
        """The lab's directory, seen through links, with a group mongodb of these hosts."""
        self.count += 1
        target = self.folder / f"inventory{self.count}"
        target.mkdir()
        for item in support.INVENTORY.iterdir():
            if item.name != "hosts.yml":
                (target / item.name).symlink_to(item)
        hosts = copy.deepcopy(yaml.safe_load((support.INVENTORY / "hosts.yml").read_text()))
        hosts["all"]["children"]["mongodb"] = {"hosts": {name: {} for name in members}}
        (target / "hosts.yml").write_text(yaml.safe_dump(hosts))
        return target

    def converge(self, name: str, members: list[str], ok: bool = True, **variables: t.Any) -> support.Run:
        """The tier, and before it firewall and certificates where the members are others than the last time, as site.yml does them."""
        inventory = self.inventory(members)
        playbooks = ["tier.yml"] if members == self.members else ["host.yml", "tls.yml", "tier.yml"]
        self.members = members
        # A file, as keys are no words for a command line.
        file = self.folder / "variables.json"
        file.touch(mode=0o600)
        file.write_text(json.dumps({"tier": "mongodb", **variables}))
        for playbook in playbooks:
            run = support.playbook(f"mongodb-{name}", "-e", f"@{file}", playbook=f"playbooks/{playbook}", inventory=inventory, timeout=1800)
            assert playbook == "tier.yml" or run.code == 0, run.text[-3000:]
        assert (run.code == 0) is ok, run.text[-3000:]
        return run

    def write(self, members: list[str]) -> None:
        """One more document, acknowledged by a majority."""
        number = self.written + 1
        command = {"insert": "e2e", "documents": [{"_id": number}], "writeConcern": {"w": "majority", "wtimeout": 20000}}
        answer = replica_set.ask(members[0], command, members, "platform")
        assert answer["n"] == 1 and "writeConcernError" not in answer, answer
        self.written = number

    def assert_all_there(self, members: list[str]) -> None:
        command = {"count": "e2e", "query": {}, "$readPreference": {"mode": "secondaryPreferred"}}
        for host in members:
            support.wait_for(
                f"{host} has all {self.written} documents", lambda h=host: replica_set.ask(h, command, database="platform")["n"] == self.written, 60
            )


def wipe(host: str) -> None:
    """The data directory is lost, as after a disk was replaced."""
    support.ssh(host, f"docker compose -p mongodb kill; find {ROOT}/data -mindepth 1 -delete; docker compose -p mongodb start", timeout=180)


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[Platform]:
    made = Platform(tmp_path_factory.mktemp("mongodb"))
    made.converge("three", THREE)
    replica_set.ask(THREE[0], {"delete": "e2e", "deletes": [{"q": {}, "limit": 0}], "writeConcern": {"w": "majority"}}, THREE, "platform")
    yield made
    made.converge("back-to-three", THREE)
    for host in ("data4", "ops1"):
        support.ssh(host, f"docker compose -p mongodb down; rm -rf {ROOT}", check=False)


def test_a_second_run_changes_nothing(platform: Platform):
    support.wait_for("a healthy set", lambda: replica_set.healthy(THREE), 60)
    started = support.started_at()
    run = platform.converge("again", THREE)
    assert run.changed() == {}
    assert support.started_at() == started
    platform.write(THREE)


def test_three_members_grow_to_five(platform: Platform):
    before = identity("data1")
    started = {name: when for name, when in support.started_at().items() if name.startswith(tuple(f"{host}/mongodb" for host in THREE))}
    platform.converge("five", FIVE)
    support.wait_for("five healthy members", lambda: replica_set.healthy(FIVE), 120)
    assert identity("ops1") == before
    assert {name: support.started_at()[name] for name in started} == started
    votes = {item["host"]: (item["votes"], item["priority"]) for item in replica_set.ask("data1", {"replSetGetConfig": 1})["config"]["members"]}
    assert set(votes.values()) == {(1, 1)} and len(votes) == 5
    platform.write(FIVE)
    platform.assert_all_there(FIVE)
    assert platform.converge("five-again", FIVE).changed() == {}


def test_five_shrink_to_three_the_primary_among_those_that_go(platform: Platform):
    support.wait_for("five healthy members", lambda: replica_set.healthy(FIVE), 120)
    # The module runs on data1, which stays; whoever is primary goes.
    step_down("data1")
    leader = replica_set.primary()
    kept = ["data1", *[host for host in FIVE if host not in ("data1", leader)][:2]]
    platform.converge("shrunk", kept)
    support.wait_for("three healthy members", lambda: replica_set.healthy(kept), 60)
    platform.write(kept)
    platform.assert_all_there(kept)
    for host in set(FIVE) - set(kept):
        support.ssh(host, f"docker compose -p mongodb down; rm -rf {ROOT}")
    platform.converge("three-again", THREE)
    support.wait_for("the three", lambda: replica_set.healthy(THREE), 120)
    platform.assert_all_there(THREE)


def test_a_dead_member_is_replaced_by_another_host(platform: Platform):
    dead = next(host for host in THREE if host != replica_set.primary())
    left = [host for host in THREE if host != dead]
    support.ssh(dead, "docker compose -p mongodb kill")
    support.wait_for("the dead one is seen", lambda: replica_set.states(left[0])[dead] not in ("PRIMARY", "SECONDARY"), 60)
    platform.write(left)
    replaced = [*left, "data4"]
    platform.converge("replaced", replaced)
    support.wait_for("three healthy members", lambda: replica_set.healthy(replaced), 120)
    platform.assert_all_there(replaced)
    support.ssh(dead, f"docker compose -p mongodb down; rm -rf {ROOT}/data")
    platform.converge("replaced-back", THREE)
    support.wait_for("the three", lambda: replica_set.healthy(THREE), 120)
    platform.assert_all_there(THREE)
    support.ssh("data4", f"docker compose -p mongodb down; rm -rf {ROOT}")


def test_a_member_that_lost_its_data_is_given_it_and_never_makes_a_set(platform: Platform):
    before = identity("data1")
    # The first one, on which the cluster is settled and a set would be made.
    step_down("data1")
    wipe("data1")
    platform.converge("lost-data", THREE)
    support.wait_for("the data is back", lambda: replica_set.healthy(THREE, "data2"), 120)
    assert {identity(host) for host in THREE} == {before}
    platform.assert_all_there(THREE)


def test_an_empty_member_alone_makes_no_set(platform: Platform):
    """All others are cut off: the empty one must wait for them, however often the platform is converged."""
    before = identity("data2")
    step_down("data1")
    cut = f"""nft -f - <<'RULES'
table inet cut {{
  chain input {{
    type filter hook input priority -10
    ip saddr {support.address("data1")} tcp dport 27017 drop
    ip saddr {support.address("data1")} tcp sport 27017 drop
  }}
}}
RULES"""
    for host in ("data2", "data3"):
        support.ssh(host, cut)
    try:
        wipe("data1")
        support.wait_for("the empty member answers", lambda: bool(replica_set.ask("data1", {"hello": 1})), 60)
        run = platform.converge("alone", THREE, ok=False)
        assert "no server that answers has a configuration" in run.text.lower() or "does not answer" in run.text
        assert "setName" not in replica_set.ask("data1", {"hello": 1})
    finally:
        for host in ("data2", "data3"):
            support.ssh(host, "nft delete table inet cut", check=False)
    platform.converge("not-alone", THREE)
    support.wait_for("the data is back", lambda: replica_set.healthy(THREE, "data2"), 120)
    assert {identity(host) for host in THREE} == {before}
    platform.assert_all_there(THREE)


def test_a_member_with_another_key_is_not_let_in(platform: Platform):
    """Only one host has another key: it stays outside, the rest is not touched, and the right key brings it back."""
    host = next(name for name in THREE if name != replica_set.primary())
    others = [name for name in THREE if name != host]
    target = support.ssh(host, f"readlink -f {ROOT}/current").strip() + "/secrets/keyfile"
    support.ssh(
        host, f"cp -p {target} /root/keyfile.good; echo '- anotherKeyThatNobodyElseOfThemHas12' > {target}; docker compose -p mongodb restart", timeout=180
    )
    support.wait_for("the others see it as lost", lambda: replica_set.states(others[0])[host] not in ("PRIMARY", "SECONDARY"), 60)
    platform.write(others)
    run = support.playbook("mongodb-wrong-key", "-e", "tier=mongodb", playbook="playbooks/tier.yml", inventory=platform.inventory(THREE), timeout=900)
    # Staging mends the file of the release; the container must be started anew to read it.
    assert run.code == 0, run.text[-3000:]
    support.ssh(host, "docker compose -p mongodb restart", timeout=180)
    support.wait_for("it is back", lambda: replica_set.healthy(THREE, others[0]), 120)
    platform.assert_all_there(THREE)


def test_the_key_is_changed_while_the_set_runs(platform: Platform):
    old = str(support.secrets()["mongodb_keyfile"])
    new = "dR4kWz8TnX2vLq6MhY9pJc3GbS7fKt5NVu7yQm3HxZ9s"
    # And back, so that the lab ends with the key that is in its vault.
    for number, keys in enumerate(([old, new], [new, old], [new], [new, old], [old, new], [old])):
        platform.converge(f"key-{number}", THREE, mongodb_keyfile=keys if len(keys) > 1 else keys[0])
        support.wait_for("a healthy set", lambda: replica_set.healthy(THREE), 120)
        platform.write(THREE)
    platform.assert_all_there(THREE)


def test_a_renewed_certificate_is_shown_without_a_restart(platform: Platform):
    started = support.started_at()
    serials = {host: _serial(host) for host in THREE}
    for host in THREE:
        (support.INVENTORY / "pki" / "hosts" / host / "mongodb.pem").unlink()
    issued = support.playbook("mongodb-issued", playbook="playbooks/tls.yml")
    assert issued.code == 0, issued.text[-3000:]
    platform.converge("certificates", THREE)
    assert {host: support.started_at()[f"{host}/mongodb-mongodb-1"] for host in THREE} == {host: started[f"{host}/mongodb-mongodb-1"] for host in THREE}
    assert not set(serials.values()) & {_serial(host) for host in THREE}


def _serial(host: str) -> str:
    """Serial number of the certificate that the member shows."""
    return support.ssh(host, f"openssl s_client -connect {support.address(host)}:27017 </dev/null 2>/dev/null | openssl x509 -noout -serial").strip()


def test_the_primary_is_killed_and_every_acknowledged_write_is_there(platform: Platform):
    leader = replica_set.primary()
    others = [host for host in THREE if host != leader]
    for _ in range(5):
        platform.write(THREE)
    support.ssh(leader, "docker compose -p mongodb kill")
    begin = time.monotonic()
    platform.write([*others, leader])
    print(f"write outage after the loss of the primary: {time.monotonic() - begin:.1f} s")
    platform.converge("after-kill", THREE)
    support.wait_for("the three", lambda: replica_set.healthy(THREE, others[0]), 120)
    platform.assert_all_there(THREE)
