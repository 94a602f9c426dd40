# SPDX-License-Identifier: GPL-3.0-or-later
"""The whole check, as ansible-playbook runs it: bad input in an inventory, and what a person is told. No host is asked."""

from __future__ import annotations

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import typing as t

import pytest
import yaml

REPOSITORY = pathlib.Path(__file__).resolve().parents[4]
PLAYBOOKS = pathlib.Path(sys.executable).with_name("ansible-playbook")


class Inventory:
    """A copy of the production example with a vault of its own."""

    def __init__(self, directory: pathlib.Path) -> None:
        self.path = directory / "prod"
        shutil.copytree(REPOSITORY / "inventories" / "prod", self.path, ignore=shutil.ignore_patterns("pki", "vault.yml"))
        self.password = directory / "password"
        self.password.write_text("a password of thirty characters\n", encoding="utf-8")

    def run(self, playbook: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "PLATFORM_VAULT_PASSWORD_FILE": str(self.password), "ANSIBLE_NOCOLOR": "1", "ANSIBLE_CALLBACK_RESULT_FORMAT": "json"}
        command = [str(PLAYBOOKS), f"playbooks/{playbook}.yml", "-i", str(self.path), *arguments]
        return subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=120, check=False)

    def validate(self, *arguments: str, **variables: t.Any) -> tuple[int, str]:
        done = self.run("validate", "-e", json.dumps({"validate_online": False, **variables}), *arguments)
        return done.returncode, done.stdout + done.stderr

    def change(self, name: str, edit: t.Callable[[t.Any], None]) -> None:
        path = self.path / name
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        edit(content)
        path.write_text(yaml.safe_dump(content), encoding="utf-8")


@pytest.fixture(scope="module")
def complete(tmp_path_factory: pytest.TempPathFactory) -> Inventory:
    inventory = Inventory(tmp_path_factory.mktemp("inventory"))
    done = inventory.run("secrets")
    assert done.returncode == 0, done.stdout + done.stderr
    return inventory


@pytest.fixture
def fresh(complete: Inventory, tmp_path: pathlib.Path) -> Inventory:
    inventory = Inventory(tmp_path)
    shutil.copy(complete.path / "group_vars/all/vault.yml", inventory.path / "group_vars/all/vault.yml")
    return inventory


def found(output: str) -> set[str]:
    return set(re.findall(r"^(?:ERROR|WARNING) ([A-Z_]+)", output, re.MULTILINE))


def test_the_production_example_has_no_findings(complete: Inventory) -> None:
    code, output = complete.validate()
    assert code == 0, output
    assert "Validation: 0 errors and 0 warnings." in output


def test_without_a_vault_every_secret_is_named(tmp_path: pathlib.Path) -> None:
    code, output = Inventory(tmp_path).validate()
    assert code != 0 and found(output) == {"SECRET_MISSING"}
    for name in yaml.safe_load((REPOSITORY / "inventories/prod/group_vars/all/vault.yml.example").read_text(encoding="utf-8")):
        assert f"The secret {name} is not defined." in output
    assert "playbooks/secrets.yml" in output


def test_the_example_vault_is_refused(tmp_path: pathlib.Path) -> None:
    inventory = Inventory(tmp_path)
    shutil.copy(inventory.path / "group_vars/all/vault.yml.example", inventory.path / "group_vars/all/vault.yml")
    code, output = inventory.validate()
    assert code != 0 and {"SECRET_WEAK", "SECRET_REUSED", "SECRET_PLAIN"} <= found(output)
    assert "change-me" not in output


def test_an_existing_vault_is_never_overwritten(fresh: Inventory) -> None:
    vault = fresh.path / "group_vars/all/vault.yml"
    before = vault.read_bytes()
    done = fresh.run("secrets")
    assert done.returncode != 0 and "must not exist yet" in done.stdout + done.stderr
    assert vault.read_bytes() == before and before.startswith(b"$ANSIBLE_VAULT")


def test_all_mistakes_come_at_once(fresh: Inventory) -> None:
    def hosts(content: t.Any) -> None:
        content["all"]["hosts"]["data1"]["platform_zone"] = "d"
        content["all"]["hosts"]["data2"]["ansible_host"] = "192.0.2.31"
        content["all"]["children"]["minio"]["hosts"] = {"data1": {}, "data2": {}}
        content["all"]["children"]["redis"]["hosts"] = {"data1": {}, "data2": {}}
        content["all"]["children"]["worker"]["hosts"] = {"app1": {}}

    def images(content: t.Any) -> None:
        content["platform_images"]["redis"] = "192.0.2.41:5000/redis:8"
        del content["platform_images"]["haproxy"]
        content["registry_images"][2]["source"] = "oci:/nowhere/layout:0.1.0"

    def main(content: t.Any) -> None:
        content["platform_minimum_inodes"] = "many"
        content["platform_adress"] = "192.0.2.1"
        content["platform_name"] = "{{ nobody_knows }}"
        content["platform_ca_passphrase"] = "Xn9PzR4sLd2VhK8tWg6MqJb5Qq"
        content["redis_admin_password"] = "short"

    fresh.change("hosts.yml", hosts)
    fresh.change("group_vars/all/images.yml", images)
    fresh.change("group_vars/all/main.yml", main)
    # What hosts a run is limited to does not narrow the check of the inventory.
    code, output = fresh.validate("--limit", "edge1", platform_accept_risks=["WORKER_TOO_FEW_HOSTS"])
    assert code != 0
    wanted = {"ZONE_UNKNOWN", "ADDRESS_DUPLICATE", "MINIO_TOO_FEW_NODES", "REDIS_TOO_FEW_NODES", "IMAGE_UNPINNED", "IMAGE_MISSING", "IMAGE_NOT_FOUND"}
    wanted |= {"VARIABLE_TYPE", "VARIABLE_UNKNOWN", "VARIABLE_TEMPLATE"}
    assert wanted <= found(output), output
    assert "WARNING WORKER_TOO_FEW_HOSTS on app1, risk accepted" in output
    assert "refers to nobody_knows" in output and "did you mean platform_address?" in output
    assert "Xn9PzR4sLd2VhK8tWg6MqJb5Qq" not in output


def test_an_unreachable_host_is_a_finding_and_does_not_hide_the_others(fresh: Inventory) -> None:
    fresh.change("group_vars/all/main.yml", lambda content: content.update(platform_minimum_inodes="many"))
    done = fresh.run("validate", "--limit", "edge1", "-e", "ansible_host=127.0.0.1 ansible_port=1 ansible_ssh_common_args='-o ConnectTimeout=3'")
    output = done.stdout + done.stderr
    assert done.returncode != 0 and {"HOST_UNREACHABLE", "VARIABLE_TYPE"} <= found(output), output
    assert "edge1 cannot be reached as operator at 127.0.0.1, port 1" in output


def test_the_examples_name_the_secrets_that_the_roles_require() -> None:
    from ansible.plugins.loader import lookup_loader

    names = lookup_loader.get("novacorrente.platform.secret_names").run([], {})
    for inventory in ("prod", "staging"):
        example = yaml.safe_load((REPOSITORY / f"inventories/{inventory}/group_vars/all/vault.yml.example").read_text(encoding="utf-8"))
        assert sorted(example) == names


@pytest.mark.parametrize("inventory", ["prod", "staging"])
def test_the_examples_name_variables_that_there_are(inventory: str) -> None:
    from ansible_collections.novacorrente.platform.plugins.plugin_utils._validation_io import load_roles

    known = {name for role in load_roles(str(REPOSITORY / "roles")).values() for name in role.options}
    for path in sorted((REPOSITORY / "inventories" / inventory / "group_vars").rglob("*.yml")):
        # What is commented out counts, too: an operator takes it for real.
        names = re.findall(r"^(?:# )?([a-z]+_[a-z0-9_]+):", path.read_text(encoding="utf-8"), re.MULTILINE)
        assert {name for name in names if not name.startswith("ansible_")} <= known, path
