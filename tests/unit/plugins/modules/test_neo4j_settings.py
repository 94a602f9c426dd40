# Copyright: (c) 2026, Nova Corrente platform team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module against a real Neo4j Community server, which the role's own files and the image's own scripts start on the loopback.

The server's jars: in the directory that NEO4J_HOME_LIB names, or where the tests of the apps have put them. Without them nothing is tested here.
"""

from __future__ import annotations

import os
import pathlib
import re
import shutil
import socket
import subprocess
import time
import typing as t

import pytest

pytest.importorskip("neo4j")

import neo4j
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template
from neo4j.exceptions import AuthError, Neo4jError

pytestmark = pytest.mark.servers

ROOT = pathlib.Path(__file__).resolve().parents[4]
ROLE = ROOT / "roles/neo4j"
JARS = pathlib.Path(os.environ.get("NEO4J_HOME_LIB") or ROOT / ".cache/neo4j-5.26.30/lib")
# Characters that mean something in a file of arguments, to a shell, or in a configuration.
PASSWORD = "a-#'${x}\\\"`pass-word"
PLAIN = "plain-password"
USER = {"name": "api", "password": PLAIN}
ID = {"name": "insight_id", "label": "Insight", "properties": ["id"]}


def role_files(base: pathlib.Path, **variables: t.Any) -> dict[str, str]:
    """The role's templates as the action would render them, with the container's paths and ports replaced by those of this test."""
    loader = DataLoader()
    values = {**loader.load_from_file(str(ROLE / "defaults/main.yml"), trusted_as_template=True), "groups": {}, **variables}
    templar = Templar(loader=loader, variables=values)
    files = {}
    for path in sorted((ROLE / "templates").rglob("*")):
        if path.is_file() and path.name != "compose.yml.j2":
            text = path.read_text(encoding="utf-8")
            if path.suffix == ".j2":
                text = str(templar.template(trust_as_template(text), overrides={"trim_blocks": True}, escape_backslashes=False))
            name = str(path.relative_to(ROLE / "templates")).removesuffix(".j2")
            files[name] = re.sub(r"(?<![\w/])/(etc/platform|run/secrets|live|data|logs|tmp)\b", lambda match: f"{base}/{match[1]}", text)
    return files


class Server:
    """A member as its container would run it."""

    def __init__(self, base: pathlib.Path, leaf: t.Any, ca: str) -> None:
        self.base = base
        with socket.socket() as bolt, socket.socket() as https:
            bolt.bind(("127.0.0.1", 0))
            https.bind(("127.0.0.1", 0))
            self.bolt, self.https = bolt.getsockname()[1], https.getsockname()[1]
        files = role_files(
            base,
            platform_address="127.0.0.1",
            platform_ca_certificate=ca,
            platform_leaf_certificate=leaf.certificate.read_text(),
            platform_leaf_key=leaf.key.read_text(),
            neo4j_password=PASSWORD,
            neo4j_memory_mib=512,
            neo4j_jvm_options=["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"],
        )
        top = {"release/config": "etc/platform", "release/secrets/server": "run/secrets", "live": "live"}
        for name, text in files.items():
            for start, target in top.items():
                if name.startswith(f"{start}/"):
                    path = base / target / name.removeprefix(f"{start}/")
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_text(text.replace(":7687", f":{self.bolt}").replace(":7473", f":{self.https}"), encoding="utf-8")
        for name in ("data", "logs", "tmp"):
            (base / name).mkdir()
        home = base / "home"
        shutil.copytree(ROOT / "images/neo4j/bin", home / "bin")
        (home / "bin/neo4j-admin").symlink_to("neo4j")
        (home / "lib").symlink_to(JARS)
        environment = {**os.environ, "NEO4J_HOME": str(home), "NEO4J_CONF": str(base / "etc/platform"), "PATH": f"{home}/bin:{os.environ['PATH']}"}
        self.commands: set[str] = set()
        with (base / "out.log").open("wb") as log:
            self.process = subprocess.Popen(
                ["bash", str(base / "etc/platform/start.sh")], env=environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True
            )

    def wait(self) -> None:
        deadline = time.monotonic() + 900
        while time.monotonic() < deadline and self.process.poll() is None:
            self.look()
            with socket.socket() as probe:
                probe.settimeout(0.5)
                if probe.connect_ex(("127.0.0.1", self.https)) == 0:
                    return
            time.sleep(0.3)
        pytest.fail(f"Neo4j did not start:\n{(self.base / 'out.log').read_text()[-3000:]}")

    def look(self) -> None:
        """Remember the argument lists of all processes that the start makes."""
        for entry in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
            try:
                words = entry.read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if str(self.base) in words:
                self.commands.add(words)

    def driver(self, ca: pathlib.Path, user: str, password: str) -> neo4j.Driver:
        trust = neo4j.TrustCustomCAs(str(ca))
        return neo4j.GraphDatabase.driver(f"bolt://127.0.0.1:{self.bolt}", auth=(user, password), encrypted=True, trusted_certificates=trust)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, authority: t.Any) -> t.Iterator[Server]:
    if not JARS.is_dir():
        pytest.skip(f"no Neo4j: {JARS} is missing; NEO4J_HOME_LIB names another directory, and the tests of apps/api fetch the jars")
    found = Server(tmp_path_factory.mktemp("neo4j"), authority.leaf("127.0.0.1"), authority.file.read_text())
    try:
        found.wait()
        yield found
    finally:
        found.process.terminate()
        found.process.wait(120)


Settle = t.Callable[..., dict[str, t.Any]]


@pytest.fixture
def settle(server: Server, run_module: t.Any, authority: t.Any) -> Settle:
    def run(**parameters: t.Any) -> dict[str, t.Any]:
        values = {"members": [f"127.0.0.1:{server.bolt}"], "ca_certificate": authority.file.read_text(), "password": PASSWORD, "wait_timeout": 60, **parameters}
        return dict(run_module("neo4j_settings", **values))

    return run


def actions(result: dict[str, t.Any]) -> list[str]:
    assert not result.get("failed"), result
    (found,) = result["actions"].values()
    return list(found)


def lets_in(server: Server, authority: t.Any, user: str, password: str) -> bool:
    with server.driver(authority.file, user, password) as driver:
        try:
            driver.verify_connectivity()
        except AuthError:
            return False
    return True


def listening(process: int) -> set[int]:
    """Ports on which a process listens, on whatever address."""
    sockets = set()
    for entry in pathlib.Path(f"/proc/{process}/fd").iterdir():
        match = re.fullmatch(r"socket:\[(\d+)\]", os.readlink(entry))
        sockets |= {match[1]} if match else set()
    rows = [line.split() for name in ("tcp", "tcp6") for line in pathlib.Path(f"/proc/net/{name}").read_text().splitlines()[1:]]
    return {int(row[1].rpartition(":")[2], 16) for row in rows if row[3] == "0A" and row[9] in sockets}


def test_the_server_starts_from_the_roles_files(server: Server, authority: t.Any) -> None:
    assert lets_in(server, authority, "neo4j", PASSWORD)
    assert not lets_in(server, authority, "neo4j", "neo4j")
    assert any("set-initial-password" in words for words in server.commands)
    assert [words for words in server.commands if "pass-word" in words] == []
    assert listening(server.process.pid) == {server.bolt, server.https}
    plain = neo4j.GraphDatabase.driver(f"bolt://127.0.0.1:{server.bolt}", auth=("neo4j", PASSWORD), encrypted=False, connection_timeout=5)
    with plain, pytest.raises(Exception, match="defunct|closed|TLS|encrypt|ServiceUnavailable|Couldn't connect"):
        plain.verify_connectivity()


def test_the_health_check_is_answered(server: Server, authority: t.Any) -> None:
    words = re.search(r"test: (\[CMD, wget.*?\])", (ROLE / "templates/release/compose.yml.j2").read_text(encoding="utf-8"), re.DOTALL)
    assert words is not None
    command = yaml.safe_load(
        words[1]
        .replace("{{ platform_address }}:7473", f"127.0.0.1:{server.https}")
        .replace("/etc/platform", f"{server.base}/etc/platform")
        .replace("--timeout=9", "--timeout=120")
    )
    if shutil.which("wget") is None:
        pytest.skip("wget is not installed here; the image has it")
    assert subprocess.run(command[1:], check=False).returncode == 0
    stranger = [word.replace(f"{server.base}/etc/platform/tls/trusted/ca.crt", "/dev/null") for word in command[1:]]
    assert subprocess.run(stranger, check=False).returncode != 0


def test_nothing_is_done_in_check_mode(settle: Settle, server: Server, authority: t.Any) -> None:
    result = settle(users=[USER], constraints=[ID], _ansible_check_mode=True, _ansible_diff=True)
    assert result["changed"] and len(actions(result)) == 2
    assert [item["before"] for item in result["diff"]] == ["absent\n", "absent\n"]
    assert not lets_in(server, authority, "api", PLAIN)


def test_a_second_run_changes_nothing(settle: Settle, server: Server, authority: t.Any) -> None:
    wanted = {"users": [USER], "constraints": [ID], "indexes": [{"name": "by_title", "label": "Insight", "properties": ["title"], "type": "text"}]}
    first = settle(**wanted)
    assert actions(first) == [
        "create_constraint insight_id: absent -> uniqueness of Insight(id)",
        "create_index by_title: absent -> text of Insight(title)",
        "set_user api: absent -> present",
    ]
    assert PLAIN not in str(first) and "pass-word" not in str(first)
    assert lets_in(server, authority, "api", PLAIN)
    second = settle(**wanted)
    assert actions(second) == [] and not second["changed"] and second["diff"] == []


def test_a_password_that_is_changed_is_told_by_a_login(settle: Settle, server: Server, authority: t.Any) -> None:
    settle(users=[USER])
    other = {"name": "api", "password": "another-password"}
    assert actions(settle(users=[other])) == ["set_user api: another password -> the given password"]
    assert lets_in(server, authority, "api", "another-password") and not lets_in(server, authority, "api", PLAIN)
    assert actions(settle(users=[other])) == []
    assert actions(settle(users=[{"name": "api", "state": "absent"}])) == ["remove_user api: present -> absent"]
    assert not lets_in(server, authority, "api", "another-password")


def test_a_user_that_must_change_its_password_is_not_usable(settle: Settle, server: Server, authority: t.Any) -> None:
    with server.driver(authority.file, "neo4j", PASSWORD) as driver:
        driver.execute_query("CREATE USER expired SET PASSWORD $password CHANGE REQUIRED", password=PLAIN, database_="system")
    expired = {"name": "expired", "password": PLAIN}
    assert actions(settle(users=[expired])) == ["set_user expired: must change its password -> need not"]
    assert actions(settle(users=[expired])) == []
    with server.driver(authority.file, "expired", PLAIN) as driver:
        assert driver.execute_query("RETURN 1 AS one", database_="neo4j").records[0]["one"] == 1


def test_a_user_that_somebody_keeps_locked_is_waited_for(settle: Settle, server: Server, authority: t.Any) -> None:
    settle(users=[USER])
    with server.driver(authority.file, "api", "wrong-password") as driver:
        for _attempt in range(4):
            with pytest.raises(Neo4jError):
                driver.verify_connectivity()
    assert actions(settle(users=[USER])) == []


def test_the_administrators_password_is_changed_by_the_one_before(settle: Settle, server: Server, authority: t.Any) -> None:
    new = "new-administrator"
    assert settle(password=new)["msg"].endswith("does not accept the password of neo4j, and there is no previous_password.")
    wrong = settle(password=new, previous_password="not-it-either")
    assert wrong["failed"] and "not-it-either" not in str(wrong) and new not in wrong["msg"]
    assert actions(settle(password=new, previous_password=PASSWORD)) == ["set_user neo4j: the previous password -> the given password"]
    assert lets_in(server, authority, "neo4j", new)
    assert actions(settle(password=new, previous_password=PASSWORD)) == []
    assert len(actions(settle(password=PASSWORD, previous_password=new))) == 1


def test_a_constraint_of_another_shape_is_replaced_and_one_of_another_name_counts(settle: Settle) -> None:
    settle(constraints=[ID])
    assert actions(settle(constraints=[{**ID, "name": "same_by_another_name"}])) == []
    both = settle(constraints=[{**ID, "properties": ["id", "kind"]}])
    assert [action.split(":")[0] for action in actions(both)] == ["drop_constraint insight_id", "create_constraint insight_id"]
    assert actions(settle(constraints=[{**ID, "properties": ["id", "kind"]}])) == []
    assert actions(settle(constraints=[{"name": "insight_id", "state": "absent"}])) == ["drop_constraint insight_id: uniqueness of Insight(id, kind) -> absent"]


@pytest.mark.parametrize(
    ("parameters", "says"),
    [
        ({"users": [{**USER, "roles": ["reader"]}]}, "has roles, which the Community edition does not know"),
        ({"users": [{"name": "api"}]}, "needs a password of 8 characters"),
        ({"users": [{"name": "neo4j", "password": PLAIN}]}, "is the administrator"),
        ({"constraints": [{**ID, "label": "A` DETACH DELETE n //"}]}, "Accepted are letters"),
        ({"constraints": [{"name": "c"}]}, "needs label and properties"),
        ({"ca_certificate": "no certificate"}, "not a certificate in PEM form"),
    ],
)
def test_what_cannot_be_meant_so_is_refused(settle: Settle, parameters: dict[str, t.Any], says: str) -> None:
    result = settle(**parameters)
    assert result["failed"] and says in result["msg"], result


def test_a_cluster_is_not_made_of_community(settle: Settle) -> None:
    result = settle(edition="enterprise")
    assert result["failed"] and "runs the community edition, wanted is enterprise" in result["msg"], result


def test_nothing_is_changed_where_a_member_does_not_answer(settle: Settle, server: Server) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        result = settle(
            members=[f"127.0.0.1:{server.bolt}", f"127.0.0.1:{nobody.getsockname()[1]}"],
            constraints=[{"name": "never", "label": "Never", "properties": ["id"]}],
            wait_timeout=1,
        )
    assert result["failed"] and "does not answer" in result["msg"]
    assert actions(settle(constraints=[{"name": "never", "state": "absent"}])) == []


def test_a_stranger_is_told_nothing(settle: Settle, stranger: t.Any) -> None:
    result = settle(ca_certificate=stranger.file.read_text(), wait_timeout=1)
    assert result["failed"] and "does not answer" in result["msg"] and "CertVerification" in result["msg"], result


@pytest.mark.parametrize("source", ["file:///etc/hostname", "http://127.0.0.1:1/"])
def test_queries_reach_no_file_and_no_address(server: Server, authority: t.Any, source: str) -> None:
    with server.driver(authority.file, "neo4j", PASSWORD) as driver, pytest.raises(Neo4jError) as caught:
        driver.execute_query("LOAD CSV FROM $source AS line RETURN line", source=source, database_="neo4j")
    assert re.search("allow_csv_import_from_file_urls|blocked|access to", str(caught.value), re.IGNORECASE)
