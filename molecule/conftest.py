# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of what a converged host is like, by role. They change nothing and can be run against any inventory:

pytest molecule/redis/tests --ansible-inventory inventories/prod

Those in a folder `failures` break things, and run on the lab only.
"""

from __future__ import annotations

import hashlib
import os
import pathlib
import sys
import typing as t

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "molecule"), str(ROOT / "tests" / "e2e")]
# Ansible reads its configuration when it is imported.
os.environ.setdefault("ANSIBLE_CONFIG", str(ROOT / "ansible.cfg"))
os.environ.setdefault("ANSIBLE_VAULT_IDENTITY_LIST", f"platform@{ROOT}/tools/vault-password")

import checks  # noqa: E402
from ansible import constants  # noqa: E402
from ansible.cli import CLI  # noqa: E402
from ansible.inventory.manager import InventoryManager  # noqa: E402
from ansible.parsing.dataloader import DataLoader  # noqa: E402
from ansible.plugins.loader import init_plugin_loader  # noqa: E402
from ansible.template import Templar  # noqa: E402
from ansible.vars.manager import VariableManager  # noqa: E402
from testinfra.utils.ansible_runner import AnsibleRunner  # noqa: E402

if t.TYPE_CHECKING:
    from testinfra.host import Host

CONNECTION = (
    "ansible_become",
    "ansible_become_user",
    "ansible_connection",
    "ansible_host",
    "ansible_port",
    "ansible_private_key_file",
    "ansible_ssh_common_args",
    "ansible_ssh_extra_args",
    "ansible_ssh_private_key_file",
    "ansible_user",
)


class Inventory:
    """The inventory as a role sees it: variables are rendered, with the roles' defaults below them."""

    def __init__(self, source: str) -> None:
        init_plugin_loader([str(ROOT / ".ansible" / "collections")])
        self.loader = DataLoader()
        self.loader.set_basedir(str(ROOT))
        self.loader.set_vault_secrets(
            CLI.setup_vault_secrets(self.loader, vault_ids=constants.config.get_config_value("DEFAULT_VAULT_IDENTITY_LIST"), auto_prompt=False)
        )
        self.manager = InventoryManager(loader=self.loader, sources=[source])
        self.variable_manager = VariableManager(loader=self.loader, inventory=self.manager)
        self.known: dict[tuple[str, str], dict[str, t.Any]] = {}

    def variables(self, host: str, role: str = "platform") -> dict[str, t.Any]:
        if (host, role) not in self.known:
            values: dict[str, t.Any] = {}
            for name in ("platform", role):
                for part in ("defaults", "vars"):
                    path = ROOT / "roles" / name / part / "main.yml"
                    if path.exists():
                        values.update(self.loader.load_from_file(str(path), trusted_as_template=True) or {})
            values.update(self.variable_manager.get_vars(host=self.manager.get_host(host)))
            values["hostvars"] = {name: self.variable_manager.get_vars(host=self.manager.get_host(name)) for name in self.hosts()}
            self.known[host, role] = values
        return self.known[host, role]

    def value(self, host: str, name: str, role: str = "platform") -> t.Any:
        values = self.variables(host, role)
        return Templar(loader=self.loader, variables=values).template(values[name])

    def secrets(self, host: str) -> dict[str, str]:
        """Values of all variables that an argument spec of any role marks as secret, where the inventory sets them."""
        names: set[str] = set()
        for path in ROOT.glob("roles/*/meta/argument_specs.yml"):
            for entry in (self.loader.load_from_file(str(path)) or {})["argument_specs"].values():
                names.update(name for name, option in (entry.get("options") or {}).items() if option.get("no_log"))
        values = {name: self.value(host, name) for name in names if name in self.variables(host)}
        return {name: text for name, text in values.items() if isinstance(text, str) and len(text) >= 8}

    def hosts(self) -> list[str]:
        return [str(item.name) for item in self.manager.get_hosts()]

    def connections(self) -> dict[str, t.Any]:
        """What testinfra wants to know, in the form of `ansible-inventory --list`, with rendered values."""
        folder = os.path.expanduser("~/.ansible/cp")
        os.makedirs(folder, mode=0o700, exist_ok=True)
        hostvars = {host: {name: self.value(host, name) for name in CONNECTION if name in self.variables(host)} for host in self.hosts()}
        for host, values in hostvars.items():
            # One connection a host for all tests; testinfra sets no path where ansible.cfg already asks for a control master.
            path = os.path.join(folder, hashlib.sha256(f"{host} {values}".encode()).hexdigest()[:16])
            values["ansible_ssh_extra_args"] = f"{values.get('ansible_ssh_extra_args', '')} -o ControlPath={path}".strip()
        return {"_meta": {"hostvars": hostvars}, **{name: {"hosts": hosts} for name, hosts in self.manager.get_groups_dict().items()}}


def pytest_configure(config: pytest.Config) -> None:
    source = os.path.abspath(config.option.ansible_inventory or ROOT / "inventories" / "lab")
    config.option.ansible_inventory = source
    inventory = Inventory(source)
    config.stash[INVENTORY] = inventory
    AnsibleRunner.get_runner(source).inventory = inventory.connections()


INVENTORY = pytest.StashKey[Inventory]()


@pytest.fixture(scope="session")
def inventory(pytestconfig: pytest.Config) -> Inventory:
    return pytestconfig.stash[INVENTORY]


@pytest.fixture(scope="module")
def role(request: pytest.FixtureRequest) -> str:
    """The role under test: the name of its scenario."""
    return request.path.parent.parent.name


@pytest.fixture(scope="module")
def value(host: Host, inventory: Inventory, role: str) -> t.Callable[[str], t.Any]:
    """A variable of the host, as the role under test sees it."""
    return lambda name: inventory.value(checks.name(host), name, role)


@pytest.fixture(scope="module")
def secrets(host: Host, inventory: Inventory) -> dict[str, str]:
    return inventory.secrets(checks.name(host))


@pytest.fixture(scope="module")
def containers(host: Host, role: str) -> dict[str, dict[str, t.Any]]:
    """The running containers of the tier under test, by service."""
    return checks.containers(host, role)
