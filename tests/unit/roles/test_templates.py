# SPDX-License-Identifier: GPL-3.0-or-later
"""Templates of roles, rendered with the example inventory as a run would render them."""

from __future__ import annotations

import functools
import hashlib
import pathlib
import typing as t

import pytest
import yaml
from ansible.inventory.manager import InventoryManager
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template
from ansible.vars.manager import VariableManager

REPOSITORY = pathlib.Path(__file__).resolve().parents[3]
SECRETS = {
    "redis_admin_password": "admin-password",
    "redis_api_password": "api-password",
    "redis_pipeline_password": "pipeline-password",
    "redis_sentinel_password": "sentinel-password",
    "redis_replication_password": "replication-password",
}


LOADER = DataLoader()


@functools.cache
def inventory() -> tuple[dict[str, list[str]], dict[str, dict[str, t.Any]]]:
    """Groups, and the variables of each host."""
    manager = InventoryManager(loader=LOADER, sources=[str(REPOSITORY / "inventories" / "prod")])
    variables = VariableManager(loader=LOADER, inventory=manager)
    return manager.get_groups_dict(), {str(host): variables.get_vars(host=host) for host in manager.get_hosts()}


def render(role: str, path: str, **changes: t.Any) -> str:
    """A file of the release of the role's first member; `changes` are variables of all hosts."""
    groups, hostvars = inventory()
    values: dict[str, t.Any] = {}
    for name in ("platform", role):
        for part in ("defaults", "vars"):
            file = REPOSITORY / "roles" / name / part / "main.yml"
            values.update((LOADER.load_from_file(str(file), trusted_as_template=True) or {}) if file.exists() else {})
    values.update({**hostvars[groups[role][0]], **SECRETS, **changes, "tier": role, "hostvars": hostvars})
    text = (REPOSITORY / "roles" / role / "templates" / "release" / f"{path}.j2").read_text(encoding="utf-8")
    return str(Templar(loader=LOADER, variables=values).template(trust_as_template(text), overrides={"trim_blocks": True}))


def environment(role: str, **changes: t.Any) -> dict[str, str]:
    return dict(yaml.safe_load(render(role, "compose.yml", **changes))["services"][role]["environment"])


@pytest.mark.parametrize("role", ["api", "scheduler", "worker"])
def test_all_that_ask_for_a_run_agree_on_its_limits(role: str) -> None:
    limits = {name: value for name, value in environment(role, platform_job_timeout=600, platform_job_retries=5).items() if name.startswith("PIPELINE_")}
    assert (limits["PIPELINE_JOB_TIMEOUT"], limits["PIPELINE_RETRIES"]) == ("600", "5")


@pytest.mark.parametrize("role", ["scheduler", "worker"])
def test_both_that_can_fail_know_how_to_tell(role: str) -> None:
    """The scheduler tells of runs that were missed, a worker of those that failed."""
    given = {
        "platform_alert_smtp_host": "smtp.example.org", "platform_alert_smtp_port": 465, "platform_alert_smtp_security": "tls",
        "platform_alert_smtp_username": "pipeline", "platform_alert_smtp_password": "smtp-password", "platform_alert_email_from": "from@example.org",
        "platform_alert_email_to": ["a@example.org", "b@example.org"], "platform_alert_webhook_url": "https://hook.example.org/x",
    }  # fmt: skip
    alerts = {name: value for name, value in environment(role, **given).items() if name.startswith("ALERT_")}
    assert alerts == {
        "ALERT_PLATFORM": "novacorrente-prod", "ALERT_SMTP_HOST": "smtp.example.org", "ALERT_SMTP_PORT": "465", "ALERT_SMTP_SECURITY": "tls",
        "ALERT_SMTP_USERNAME": "pipeline", "ALERT_SMTP_PASSWORD_FILE": "/run/secrets/smtp_password", "ALERT_EMAIL_FROM": "from@example.org",
        "ALERT_EMAIL_TO": "a@example.org,b@example.org", "ALERT_WEBHOOK_URL_FILE": "/run/secrets/webhook_url",
    }  # fmt: skip
    assert render(role, "secrets/smtp_password", **given).strip() == "smtp-password"
    assert render(role, "secrets/webhook_url", **given).strip() == "https://hook.example.org/x"
    # Nothing is asked for: no channel, and no file (a blank one is left out of the release) that a channel would name.
    assert [name for name in environment(role) if name.startswith("ALERT_")] == ["ALERT_PLATFORM"]
    assert (render(role, "secrets/smtp_password").strip(), render(role, "secrets/webhook_url").strip()) == ("", "")


def hashes(text: str, user: str) -> list[str]:
    """The passwords' hashes that a user of an ACL file may log in with."""
    (line,) = (line.split() for line in text.splitlines() if line.startswith(f"user {user} "))
    return [word[1:] for word in line if word.startswith("#")]


@pytest.mark.parametrize(
    ("server", "user"),
    [
        *(("cache", user) for user in ("admin", "replication", "sentinel", "api")),
        *(("queue", user) for user in ("admin", "replication", "sentinel", "api", "pipeline")),
        *(("sentinel", user) for user in ("admin", "sentinel", "api", "pipeline")),
    ],
)
def test_a_user_of_redis_may_have_a_second_password_while_it_changes(server: str, user: str) -> None:
    own, other = (hashlib.sha256(text.encode()).hexdigest() for text in (f"{user}-password", "another-password"))
    path = f"secrets/{server}.acl"
    assert hashes(render("redis", path), user) == [own]
    changed = render("redis", path, redis_second_passwords={user: "another-password"})
    assert hashes(changed, user) == [own, other]
    assert "another-password" not in changed
    assert changed.replace(f" #{other}", "") == render("redis", path)


def test_the_api_knows_the_databases_that_there_are() -> None:
    found = environment("api", api_mongodb_members=["192.0.2.31:27017", "192.0.2.32:27017"], api_neo4j_members=["192.0.2.33:7687"])
    assert found["MONGODB_URI"] == "mongodb://192.0.2.31:27017,192.0.2.32:27017/?replicaSet=platform"
    assert found["NEO4J_URIS"] == "bolt+s://192.0.2.33:7687"
    assert environment("api", api_neo4j_members=["192.0.2.33:7687"], api_neo4j_edition="enterprise")["NEO4J_URIS"] == "neo4j+s://192.0.2.33:7687"
    without = environment("api", api_mongodb_members=[], api_neo4j_members=[])
    assert [name for name in without if name.startswith(("MONGODB_", "NEO4J_"))] == []
    assert render("api", "secrets/mongodb_password", api_mongodb_members=[]).strip() == ""
