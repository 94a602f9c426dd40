# SPDX-License-Identifier: GPL-3.0-or-later
"""What the role mongodb gives a member: a configuration that the server takes, keys in the server's form, the members of the set, the app's indexes."""

from __future__ import annotations

import functools
import importlib.util
import json
import pathlib
import re
import sys
import typing as t

import pytest
import yaml

REPOSITORY = pathlib.Path(__file__).resolve().parents[3]
SECRETS = {name: f"{name}-of-this-test" for name in ("mongodb_admin_password", "mongodb_api_password", "mongodb_applier_password")}
KEY, OTHER_KEY = "dR4kWz8TnX2vLq6MhY9pJc3GbS7fKt5N", "Vu7yQm3HxZ9sBw2KdP6nRf8JtC4gLa5E"


@functools.cache
def load(path: str) -> t.Any:
    """A Python file of the repository as a module of its own."""
    spec = importlib.util.spec_from_file_location(pathlib.Path(path).stem, REPOSITORY / path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def render(path: str, **changes: t.Any) -> str:
    return str(load("tests/unit/roles/test_templates.py").render("mongodb", path, mongodb_keyfile=KEY, **SECRETS, **changes))


@pytest.fixture
def standin(monkeypatch: pytest.MonkeyPatch) -> t.Any:
    """The configuration reader of the stand-in, which refuses what mongod refuses."""
    monkeypatch.syspath_prepend(str(REPOSITORY / "tests" / "standins"))
    import mongod.config

    return mongod.config


@pytest.mark.parametrize("changes", [{}, {"mongodb_oplog_min_hours": 24, "mongodb_parameters": {"cursorTimeoutMillis": 60000, "ttlMonitorEnabled": True}}])
def test_the_server_takes_the_configuration(standin: t.Any, tmp_path: pathlib.Path, changes: dict[str, t.Any]) -> None:
    keyfile = tmp_path / "keyfile"
    keyfile.touch(mode=0o400)
    keyfile.chmod(0o600)
    keyfile.write_text(render("secrets/keyfile"))
    file = tmp_path / "mongod.conf"
    file.write_text(render("config/mongod.conf", **changes).replace("/run/secrets/keyfile", str(keyfile)))
    config = standin.parse(["--config", str(file)])
    assert config.tls and config.authorization
    assert config.addresses == ["192.0.2.31"]
    assert config.keys == [KEY]
    assert config.parameters["enableLocalhostAuthBypass"] is False
    assert config.parameters["shutdownTimeoutMillisForSignaledShutdown"] == 15000
    assert config.get("storage.oplogMinRetentionHours") == changes.get("mongodb_oplog_min_hours")
    assert {**config.parameters, **changes.get("mongodb_parameters", {})} == config.parameters


@pytest.mark.parametrize(("limit", "cache"), [("512m", 0.25), ("1024m", 0.25), ("2g", 0.5), ("4096m", 1.5), ("16g", 7.5)])
def test_the_cache_follows_the_memory_limit(limit: str, cache: float) -> None:
    """https://www.mongodb.com/docs/manual/core/wiredtiger/#memory-use"""
    document = yaml.safe_load(render("config/mongod.conf", mongodb_memory_limit=limit))
    assert document["storage"]["wiredTiger"]["engineConfig"]["cacheSizeGB"] == cache


@pytest.mark.parametrize(("value", "keys"), [(KEY, [KEY]), ([KEY, OTHER_KEY], [KEY, OTHER_KEY])])
def test_the_key_file_is_a_list_also_of_one(value: t.Any, keys: list[str]) -> None:
    from ansible_collections.novacorrente.platform.plugins.module_utils._mongodb import key_file_keys

    text = load("tests/unit/roles/test_templates.py").render("mongodb", "secrets/keyfile", **SECRETS, mongodb_keyfile=value)
    assert yaml.safe_load(text) == key_file_keys(text) == keys


def test_the_container_is_confined_and_has_time_to_hand_over() -> None:
    service = yaml.safe_load(render("compose.yml"))["services"]["mongodb"]
    assert int(service["stop_grace_period"].removesuffix("s")) >= 120
    assert (service["read_only"], service["cap_drop"], service["user"]) == (True, ["ALL"], "10030:10030")
    assert "environment" not in service
    assert KEY not in json.dumps(service)


def variables(**host: t.Any) -> t.Any:
    """The role's variables on the first member; ``host`` are facts of the last one."""
    templates = load("tests/unit/roles/test_templates.py")
    groups, hostvars = templates.inventory()
    hostvars = {**hostvars, groups["mongodb"][-1]: {**hostvars[groups["mongodb"][-1]], **host}}
    values: dict[str, t.Any] = {}
    for path in ("platform/defaults", "mongodb/defaults", "mongodb/vars"):
        values.update(templates.LOADER.load_from_file(str(REPOSITORY / "roles" / path / "main.yml"), trusted_as_template=True) or {})
    values.update(hostvars[groups["mongodb"][0]], **SECRETS, mongodb_keyfile=KEY, hostvars=hostvars, groups=groups)
    return templates.Templar(loader=templates.LOADER, variables=values)


def test_the_members_are_the_hosts_of_the_group_with_their_zones() -> None:
    from ansible.template import trust_as_template

    members = variables(mongodb_hidden=True, mongodb_delay=3600, mongodb_votes=0).template(trust_as_template("{{ mongodb_members }}"))
    plain = {"priority": 1.0, "votes": 1, "hidden": False, "delay": 0}
    assert members == [
        {"host": "192.0.2.31:27017", **plain, "tags": {"zone": "a"}},
        {"host": "192.0.2.32:27017", **plain, "tags": {"zone": "b"}},
        {"host": "192.0.2.33:27017", "priority": 0.0, "votes": 0, "hidden": True, "delay": 3600, "tags": {"zone": "c"}},
    ]


def test_the_indexes_are_those_that_the_app_makes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two lists of one thing, as roles and apps are released apart; this keeps them equal."""
    pymongo = pytest.importorskip("pymongo")
    from ansible.template import trust_as_template

    source = (REPOSITORY / "apps" / "api" / "app" / "schema.py").read_text()
    # The app's own packages are not installed here: only its data is read.
    names = re.search(r"^INSIGHTS, OUTBOX = .*$", source, re.MULTILINE)
    data = re.search(r"^_ORDER = .*?^CONSTRAINTS", source, re.MULTILINE | re.DOTALL)
    assert names and data
    scope: dict[str, t.Any] = {"pymongo": pymongo}
    exec(f"{names.group()}\n{data.group().removesuffix('CONSTRAINTS')}", scope)  # noqa: S102 - our own source
    app = {(name, model.document["name"]): model.document for name, models in scope["INDEXES"].items() for model in models}

    from ansible_collections.novacorrente.platform.plugins.module_utils._mongodb import index_of
    from ansible_collections.novacorrente.platform.plugins.modules.mongodb_settings import index_document

    wanted = variables().template(trust_as_template("{{ mongodb_indexes }}"))
    defaults = {"unique": False, "sparse": False, "expire_after_seconds": None}
    role = {(item["collection"], item["name"]): index_document({**defaults, **item}) for item in wanted}
    assert {key: index_of(document) for key, document in role.items()} == {key: index_of(document) for key, document in app.items()}
    assert {item["database"] for item in wanted} == {"platform"}


def test_only_the_standard_library_and_pymongo_are_asked_of_a_host() -> None:
    source = (REPOSITORY / "roles/mongodb/templates/release/config/rotate-certificates.py").read_text()
    imported = {line.split()[1].split(".")[0] for line in source.splitlines() if line.startswith(("import ", "from "))}
    assert imported - sys.stdlib_module_names == {"pymongo"}
