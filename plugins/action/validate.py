# Copyright: (c) 2026, Nova Corrente platform team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import datetime
import os
import typing as t

from ansible import constants as C
from ansible.parsing.vault import EncryptedString
from ansible.plugins.action import ActionBase

from ansible_collections.novacorrente.platform.plugins.plugin_utils import _validation as core
from ansible_collections.novacorrente.platform.plugins.plugin_utils import _validation_io as io

COLLECTION = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
# Roles that run on every host, in this order, before those of the host's own groups.
COMMON_ROLES = ("platform", "host", "docker", "tls")
# Provided by a run itself, so that nothing can be said about them before it.
LATER = ("ansible_facts",)
ISSUED = ("platform_leaf_certificate", "platform_leaf_key")
# How a host is reached, for the message when it cannot be.
CONNECTION = ("ansible_host", "ansible_user", "ansible_port", "ansible_python_interpreter")


class HostView:
    """One host's variables as the roles on it will see them."""

    def __init__(self, name: str, raw: dict[str, t.Any], roles: list[str]) -> None:
        self.name = name
        self.raw = raw
        self.roles = roles
        self.values: dict[str, t.Any] = {}
        self.problems: dict[str, core.Problem] = {}


class ActionModule(ActionBase):
    """Checks the inventory on the controller, and gathers what the hosts said about themselves."""

    TRANSFERS_FILES = False
    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        task_vars = task_vars or {}
        result = super().run(tmp, task_vars)
        _unused, args = self.validate_argument_spec(
            argument_spec={
                "online": {"type": "bool", "default": True},
                "fail": {"type": "bool", "default": True},
                "tiers": {"type": "list", "elements": "str", "choices": [*core.TIERS, *core.SERVICES]},
                "checked": {"type": "dict"},
                "preflight": {"type": "dict"},
            },
            required_together=[("checked", "preflight")],
        )
        if args["checked"] is not None:
            findings, hosts, secrets = self._gather(args["checked"], args["preflight"], task_vars)
        else:
            findings, hosts, secrets = self._check(args["tiers"], args["online"], task_vars)
        views = {name: host["risks"] for name, host in hosts.items()}
        risks = {name: {"platform_accept_risks": names} for name, names in views.items()}
        final = core.accept_risks(findings.sorted(), risks)
        for finding in final:
            for field in ("message", "value", "accepted", "mend"):
                setattr(finding, field, core.scrub(getattr(finding, field), secrets))
        errors, warnings = core.count_levels(final)
        report = core.report(final, hosts)
        result.update(
            changed=False,
            findings=[finding.as_dict() for finding in final],
            hosts=hosts,
            report=report,
            error_count=errors,
            warning_count=warnings,
            msg=f"{core.summary(final)}.",
        )
        if args["fail"]:
            self._display.display(f"\n{report}\n", color=C.config.get_config_value("COLOR_ERROR" if errors else "COLOR_WARN" if warnings else "COLOR_OK"))
            if errors:
                codes = ", ".join(dict.fromkeys(finding.code for finding in final if finding.level == core.ERROR))
                result.update(failed=True, msg=f"{core.summary(final)}, listed above; nothing has been changed: {codes}")
                if not self._task.register:
                    # What nobody asked for as data would push the report off the screen.
                    for name in ("findings", "hosts", "report"):
                        result.pop(name)
        return result

    # -- the controller's part --

    def _check(self, tiers: list[str] | None, online: bool, task_vars: dict[str, t.Any]) -> tuple[core.Findings, dict[str, t.Any], set[str]]:
        findings = core.Findings()
        groups = {name: list(members) for name, members in task_vars["groups"].items()}
        wanted = tiers or core.expected_tiers(groups)
        present = core.check_groups(findings, groups, wanted)
        self._roles = io.load_roles(os.path.join(COLLECTION, "roles"))
        # What earlier tasks of the run registered or set is not the inventory's; nothing public tells the two apart.
        manager = getattr(task_vars["hostvars"], "_variable_manager", None)
        volatile = getattr(manager, "_nonpersistent_fact_cache", None) or {}
        self._registered = {str(host): set(names) for host, names in volatile.items()}
        names = list(dict.fromkeys(host for name in present for host in groups[name]))
        views = self._views(names, groups, present, task_vars)
        hosts = {view.name: view.values for view in views}

        vaulted, plain_files = self._inventory_names(views)
        spec_secrets = {name for role in self._roles.values() for name in core.spec_secrets(role.options)}
        secrets = vaulted | spec_secrets | set(core.all_secrets())
        self._check_variables(findings, views, secrets)
        self._check_secrets(findings, views, hosts, plain_files)
        core.check_access_keys(findings, hosts)
        core.check_addresses(findings, hosts, groups)
        core.check_names(findings, hosts, io.is_time_zone)
        core.check_zones(findings, hosts)
        core.check_clusters(findings, groups, hosts, present)
        core.check_ports(findings, groups, hosts, present)
        self._check_images(findings, groups, hosts, present, online)
        self._check_ca(findings, hosts)
        core.check_risks(findings, hosts)

        shown = {view.name: self._summary(view, groups, present) for view in views}
        values = {
            str(view.values[name])
            for view in views
            for name in view.values
            if (name in secrets or core.SECRET_NAME.search(name)) and isinstance(view.values[name], str)
        }
        return findings, shown, values

    def _views(self, names: list[str], groups: dict[str, list[str]], present: list[str], task_vars: dict[str, t.Any]) -> list[HostView]:
        hostvars = task_vars["hostvars"]
        shared = {name: hostvars[name] for name in hostvars}
        trees = {role: self._role_files(role) for role in self._roles}
        views = []
        for name in names:
            raw = dict(hostvars.raw_get(name))
            raw["hostvars"] = shared
            if not raw.get("ansible_facts"):
                # Its absence gives an error that names it, instead of one about an attribute.
                raw.pop("ansible_facts", None)
            roles = [role for role in (*COMMON_ROLES, *[tier for tier in present if name in groups[tier]]) if role in self._roles]
            view = HostView(name, raw, roles)
            for role in roles:
                self._resolve(view, role, trees)
            views.append(view)
        return views

    def _role_files(self, role: str) -> tuple[dict[str, t.Any], dict[str, t.Any]]:
        loaded = []
        for kind in ("defaults", "vars"):
            path = os.path.join(self._roles[role].path, kind, "main.yml")
            content = self._loader.load_from_file(path, cache="all", trusted_as_template=True) if os.path.isfile(path) else None
            loaded.append(content or {})
        return loaded[0], loaded[1]

    def _chain(self, role: str) -> list[str]:
        """A role and those it depends on, these first."""
        chain: list[str] = []
        for dependency in self._roles[role].dependencies if role in self._roles else ():
            chain += [item for item in self._chain(dependency) if item not in chain]
        return [*chain, role]

    def _resolve(self, view: HostView, role: str, trees: dict[str, tuple[dict[str, t.Any], dict[str, t.Any]]]) -> None:
        variables: dict[str, t.Any] = {}
        chain = [item for item in self._chain(role) if item in trees]
        for item in chain:
            variables.update(trees[item][0])
        variables.update(view.raw)
        for item in chain:
            variables.update(trees[item][1])
        variables["tier"] = role
        # Issued by the run, and dear to open: nothing is judged by them here.
        variables.update((name, "") for name in ISSUED if name not in view.raw)
        templar = self._templar.copy_with_new_env(available_variables=variables)
        for name in self._roles[role].options:
            if name not in variables or name in view.values or name in view.problems:
                continue
            try:
                view.values[name] = core.plain(templar.template(variables[name]))
            except Exception as error:  # filters and lookups raise anything; each becomes a finding
                later = [*LATER, *([str(view.values["platform_pki_dir"])] if view.values.get("platform_pki_dir") else [])]
                view.problems[name] = core.problem_from_error(str(error), later, str(variables[name]))
        if role == "platform":
            for name in CONNECTION:
                if name in variables:
                    try:
                        view.values[name] = core.plain(templar.template(variables[name]))
                    except Exception as error:
                        view.problems[name] = core.problem_from_error(str(error), LATER)

    def _inventory_names(self, views: list[HostView]) -> tuple[set[str], dict[str, str]]:
        """Names in vaulted files of the inventory, and names with the plain file each stands in."""
        directories = {str(view.raw["inventory_dir"]) for view in views if view.raw.get("inventory_dir")}
        vaulted: set[str] = set()
        plain: dict[str, str] = {}
        for path in io.inventory_files(sorted(directories)):
            secret = io.is_vaulted(path)
            try:
                content = self._loader.load_from_file(path, cache="all", trusted_as_template=True)
            except Exception:  # Ansible itself has said so when it loaded the inventory
                continue
            for name, value in content.items() if isinstance(content, dict) else ():
                if secret or isinstance(value, EncryptedString):
                    vaulted.add(str(name))
                elif isinstance(value, str) and value and not self._templar.is_template(value):
                    plain[str(name)] = path
        return vaulted, plain

    def _check_variables(self, findings: core.Findings, views: list[HostView], secrets: set[str]) -> None:
        known = {name for role in self._roles.values() for name in role.options}
        for view in views:
            missing: set[str] = set()
            for role in view.roles:
                options = self._roles[role].options
                missing |= core.check_role_variables(findings, view.name, role, options, view.values, view.problems, secrets)
            for name in self._wanted_secrets(view.roles):
                if name in missing or (not view.values.get(name) and name not in view.problems and not view.raw.get(name)):
                    missing.add(name)
                    core.missing_secret(findings, name, [view.name])
            # Images that are missing are reported as such, not as what is missing in the variables that use them.
            images = view.values.get("platform_images")
            missing |= {name for tier in core.TIERS.values() for name in tier.images if isinstance(images, dict) and not images.get(name)}
            core.check_problems(findings, view.name, view.problems, missing)

            def shown(name: str, view: HostView = view) -> str:
                value = view.raw[name]
                hidden = name in secrets or bool(core.SECRET_NAME.search(name)) or isinstance(value, EncryptedString)
                return core.show(value, hidden)

            core.check_unknown(findings, view.name, self._inventory_variables(view), known, self._roles, shown)

    def _inventory_variables(self, view: HostView) -> set[str]:
        """What the inventory and the command line define: no facts, results or magic variables of a run."""
        names = {name for name in view.raw if not name.startswith("ansible_")}
        names -= {"groups", "group_names", "hostvars", "inventory_dir", "inventory_file", "inventory_hostname", "inventory_hostname_short"}
        names -= {"omit", "playbook_dir", "play_hosts", "role_name", "role_names", "role_path", "environment"}
        return names - self._registered.get(view.name, set())

    def _wanted_secrets(self, roles: list[str]) -> list[str]:
        """Secrets that roles require: their own, and those of other roles that stand in their templates."""
        required = {name for role in self._roles.values() for name in core.spec_secrets(role.options) if role.options[name].get("required")}
        return sorted({name for role in roles for name in required & (self._roles[role].words | set(self._roles[role].options))})

    def _check_secrets(self, findings: core.Findings, views: list[HostView], hosts: dict[str, t.Any], plain_files: dict[str, str]) -> None:
        raw = {view.name: view.raw for view in views}
        strict = {name for view in views for name in self._wanted_secrets(view.roles)} | set(core.all_secrets())

        def own(host: str, name: str) -> bool:
            value = raw[host].get(name)
            return value is not None and (isinstance(value, EncryptedString) or not self._templar.is_template(value))

        core.check_secrets(findings, hosts, strict, own)
        for name in sorted(strict & set(plain_files)):
            concerned = [view.name for view in views if own(view.name, name)]
            if concerned:
                findings.add(
                    "SECRET_PLAIN",
                    f"The secret {name} lies as plain text in {plain_files[name]}.",
                    concerned,
                    variable=name,
                    value=core.show(str(raw[concerned[0]][name]), True),
                    accepted="a value in a file that Ansible Vault encrypts",
                    mend="Encrypt the file (ansible-vault encrypt), or move the secret to group_vars/all/vault.yml, and change the secret.",
                )

    def _check_images(self, findings: core.Findings, groups: dict[str, list[str]], hosts: dict[str, t.Any], present: list[str], online: bool) -> None:
        images = core.check_images(findings, groups, hosts, present)
        sources: list[t.Any] = []
        for host in groups.get("registry", ()):
            listed = hosts.get(host, {}).get("registry_images")
            sources += listed if isinstance(listed, list) else []
        users: dict[str, tuple[str, list[str]]] = {}
        for host, values in hosts.items():
            named = values.get("platform_images")
            for name, reference in named.items() if isinstance(named, dict) else ():
                if reference in images:
                    users.setdefault(reference, (f"platform_images.{name}", []))[1].append(host)
        from_source = {}
        for reference, image in images.items():
            entry = core.source_for(image, sources)
            from_source[reference] = io.source_presence(image, str(entry.get("source", "")), online) if entry else core.Presence(None)
        asked = [image for reference, image in images.items() if not from_source[reference].found] if online else []
        answers = io.registry_presences(asked, self._registry_access(hosts)) if asked else {}
        for reference, image in images.items():
            source, answer = from_source[reference], answers.get(image, core.Presence(None))
            if source.found is None and answer.found is False:
                source = core.Presence(None, "it is not listed in registry_images")
            variable, names = users[reference]
            core.check_presence(findings, image, reference, variable, names, source, answer)

    def _registry_access(self, hosts: dict[str, t.Any]) -> io.RegistryAccess:
        values: dict[str, t.Any] = next(iter(hosts.values()), {})
        ca_path = os.path.join(str(values.get("platform_pki_dir") or ""), "ca.crt")
        return io.RegistryAccess(
            str(values.get("platform_registry") or ""),
            values.get("platform_registry_username"),
            values.get("platform_registry_password"),
            ca_path if os.path.isfile(ca_path) else None,
        )

    def _check_ca(self, findings: core.Findings, hosts: dict[str, t.Any]) -> None:
        directories: dict[tuple[str, str | None], list[str]] = {}
        for host, values in hosts.items():
            if isinstance(values.get("platform_pki_dir"), str):
                directories.setdefault((values["platform_pki_dir"], values.get("platform_ca_passphrase")), []).append(host)
        now = datetime.datetime.now(datetime.UTC)
        for (directory, passphrase), names in directories.items():
            try:
                certificate = io.read_optional(os.path.join(directory, "ca.crt"))
                key = io.read_optional(os.path.join(directory, "ca.key"))
            except OSError as error:
                fields = {"variable": "platform_pki_dir", "value": core.show(directory), "accepted": "files that the controller's user may read"}
                findings.add("CA_UNREADABLE", f"The private CA cannot be read: {error}", names, mend="Correct owner and mode of the files.", **fields)
                continue
            if certificate is not None:
                core.check_ca(findings, certificate, key, passphrase if isinstance(passphrase, str) else None, now, directory, names)

    def _summary(self, view: HostView, groups: dict[str, list[str]], present: list[str]) -> dict[str, t.Any]:
        """What the check of the host itself needs, and what a later report says about it."""
        values = view.values
        mine = [tier for tier in present if view.name in groups[tier]]
        memory = core.memory_of(values, mine)
        return {
            "tiers": mine,
            "address": values.get("platform_address"),
            "zone": values.get("platform_zone"),
            "root": values.get("platform_root") or "/srv/platform",
            "ports": core.ports_of(view.name, groups, values, mine),
            "memory": memory,
            "memory_mib": int(sum(memory.values()) + core.number(values.get("platform_memory_reserve_mib"), 0)),
            "disk_gib": core.number(values.get("platform_minimum_disk_gib"), 0),
            "inodes": int(core.number(values.get("platform_minimum_inodes"), 0)),
            "clock_tolerance": core.number(values.get("platform_clock_tolerance"), 5),
            "risks": core.risks_of(values),
            "connection": {name: values[name] for name in CONNECTION if values.get(name) is not None},
        }

    # -- the hosts' part --

    def _gather(self, checked: dict[str, t.Any], preflight: dict[str, t.Any], task_vars: dict[str, t.Any]) -> tuple[core.Findings, dict[str, t.Any], set[str]]:
        findings = core.Findings()
        for finding in checked.get("findings", ()):
            findings.add_dict(finding)
        hosts = checked.get("hosts", {})
        for host, answer in preflight.items():
            if host in hosts:
                core.check_preflight_result(findings, host, hosts[host].get("connection", {}), answer)
        return findings, hosts, set()
