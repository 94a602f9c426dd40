# Copyright: (c) 2026, Nova Corrente platform team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What makes an inventory acceptable: rules over resolved variables and groups. No input or output, everything is a function of its arguments.

Private to this collection.
"""

from __future__ import annotations

import collections
import dataclasses
import datetime
import difflib
import ipaddress
import math
import re
import typing as t

from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

ERROR = "error"
WARNING = "warning"

Values = t.Mapping[str, t.Any]
Hosts = t.Mapping[str, Values]
Groups = t.Mapping[str, t.Sequence[str]]


@dataclasses.dataclass(frozen=True)
class Code:
    """One kind of finding. C(acceptable) says whether an operator may take the risk through platform_accept_risks."""

    level: str
    acceptable: bool
    summary: str


def _tier_codes(noun: str, tiers: t.Iterable[str]) -> dict[str, Code]:
    codes = {}
    for tier in tiers:
        codes[f"{tier.upper()}_TOO_FEW_{noun}"] = Code(ERROR, True, f"The cluster {tier} does not survive the loss of a host.")
        codes[f"{tier.upper()}_ZONE_LOSS"] = Code(WARNING, False, f"The cluster {tier} does not survive the loss of a zone.")
    return codes


# Stable names: inventories refer to them, docs/validation.md lists them in this order, and so does a report.
CODES: dict[str, Code] = {
    "VARIABLE_MISSING": Code(ERROR, False, "A required variable is not defined."),
    "VARIABLE_TYPE": Code(ERROR, False, "A value does not have the type that the role accepts."),
    "VARIABLE_VALUE": Code(ERROR, False, "A value is not among those that the role accepts."),
    "VARIABLE_TEMPLATE": Code(ERROR, False, "A variable cannot be resolved, mostly because it refers to an undefined one."),
    "VARIABLE_UNKNOWN": Code(ERROR, True, "A variable has the prefix of a role, but no role knows it."),
    "VARIABLE_SIMILAR": Code(WARNING, False, "A variable that nobody knows is spelled almost like one of a role."),
    "RISK_UNKNOWN": Code(ERROR, False, "platform_accept_risks names something that is not an acceptable code."),
    "GROUP_MISSING": Code(ERROR, False, "A group that the platform needs does not exist or is empty."),
    "ADDRESS_INVALID": Code(ERROR, False, "A host's address or the virtual address is not an IPv4 address."),
    "ADDRESS_DUPLICATE": Code(ERROR, False, "Two hosts have the same address."),
    "VIP_IS_HOST_ADDRESS": Code(ERROR, False, "The virtual address is also the address of a host."),
    "VIP_OTHER_NETWORK": Code(WARNING, False, "The virtual address does not seem to be in the network of the edge hosts."),
    "NETWORK_INVALID": Code(ERROR, False, "A network is not in CIDR form."),
    "NETWORK_OVERLAP": Code(ERROR, True, "The containers' address pool overlaps with addresses in use."),
    "OPERATIONS_NETWORKS_EMPTY": Code(WARNING, False, "No network of operators is given, consoles and metrics are closed to everyone."),
    "DOMAIN_INVALID": Code(ERROR, False, "The public name is not a fully qualified host name."),
    "TIME_ZONE_UNKNOWN": Code(ERROR, False, "The time zone is not in the controller's time zone data base."),
    "PORT_CONFLICT": Code(ERROR, True, "Two tiers on one host want the same port."),
    "ZONE_UNKNOWN": Code(ERROR, False, "A host's zone is not among platform_zones."),
    "ZONE_MISSING": Code(ERROR, False, "Some hosts have a zone and others do not."),
    **_tier_codes("HOSTS", ("edge", "api", "worker", "scheduler")),
    **_tier_codes("NODES", ("minio", "redis", "neo4j")),
    **_tier_codes("MEMBERS", ("mongodb",)),
    "MINIO_DRIVES_UNEVEN": Code(ERROR, False, "MinIO nodes do not have the same drives."),
    "MINIO_ERASURE_SET": Code(ERROR, False, "MinIO's drives cannot be divided into erasure sets of 4 to 16 drives."),
    "MINIO_PARITY": Code(ERROR, False, "The parity does not fit the erasure set."),
    "MINIO_HOST_LOSS": Code(ERROR, True, "MinIO stops accepting writes when one host is lost."),
    "REDIS_EVEN": Code(ERROR, True, "The number of Sentinels is even."),
    "MONGODB_SET": Code(ERROR, False, "The members of MongoDB make a set that no server accepts, or of different names."),
    "MONGODB_EVEN": Code(ERROR, True, "The number of voting members of MongoDB is even."),
    "MONGODB_SLOW_VOTER": Code(WARNING, False, "A delayed member of MongoDB votes: with another one lost, majority writes wait for it."),
    "MONGODB_CACHE": Code(ERROR, True, "MongoDB's cache leaves too little of its memory limit."),
    "MONGODB_KEYFILE": Code(ERROR, False, "A key of MongoDB's key file is not one that servers accept, too weak, or not the same on all members."),
    "NEO4J_EDITION": Code(ERROR, False, "The members of Neo4j are not all of one edition."),
    "NEO4J_LICENSE": Code(ERROR, False, "Neo4j Enterprise is wanted without its licence being accepted."),
    "NEO4J_CLUSTER_SETTING": Code(ERROR, False, "A setting of a Neo4j cluster is given for the Community edition, which has none."),
    "NEO4J_NO_OUTBOX": Code(ERROR, False, "Two or more members of Neo4j Community have no outbox that keeps them equal."),
    "NEO4J_SINGLE": Code(WARNING, False, "Neo4j has a single member: work on it is an outage of what reads the graph."),
    "NEO4J_MEMORY": Code(ERROR, True, "Neo4j's heap and page cache leave the rest of its memory limit too small."),
    "IMAGE_MISSING": Code(ERROR, False, "An image that a tier needs is not in platform_images."),
    "IMAGE_FORMAT": Code(ERROR, False, "An image is not a full reference."),
    "IMAGE_UNPINNED": Code(ERROR, False, "An image is named by tag and not by digest."),
    "IMAGE_NOT_FOUND": Code(ERROR, False, "An image is neither in a source that the registry is filled from, nor in the registry."),
    "SECRET_MISSING": Code(ERROR, False, "A required secret is not defined."),
    "SECRET_WEAK": Code(ERROR, False, "A secret is short, common or has too little variety."),
    "SECRET_FORMAT": Code(ERROR, False, "A secret has characters in it, or more of them, than its system takes."),
    "SECRET_REUSED": Code(ERROR, False, "Two secrets have the same value."),
    "SECRET_PLAIN": Code(WARNING, False, "A secret lies in the inventory as plain text."),
    "ACCESS_KEY_INVALID": Code(ERROR, False, "A MinIO access key is not one that MinIO accepts."),
    "CA_UNREADABLE": Code(ERROR, False, "The private CA's certificate or key cannot be read."),
    "CA_EXPIRED": Code(ERROR, False, "The private CA's certificate has expired."),
    "CA_NOT_YET_VALID": Code(ERROR, False, "The private CA's certificate is not valid yet."),
    "CA_EXPIRES_SOON": Code(WARNING, False, "The private CA's certificate expires in less than 30 days."),
    "CA_NOT_A_CA": Code(ERROR, False, "ca.crt is not the certificate of a CA, or may not sign certificates."),
    "CA_KEY_MISSING": Code(WARNING, False, "There is a CA certificate without its key, so nothing can be issued or renewed."),
    "CA_KEY_PLAIN": Code(ERROR, False, "The private CA's key is not encrypted."),
    "CA_KEY_MISMATCH": Code(ERROR, False, "The private CA's key belongs to another certificate."),
    "CA_PASSPHRASE": Code(ERROR, False, "platform_ca_passphrase does not open the private CA's key."),
    "HOST_UNREACHABLE": Code(ERROR, False, "A host cannot be reached over SSH."),
    "BECOME_FAILED": Code(ERROR, False, "The user on a host may not become root."),
    "PREFLIGHT_FAILED": Code(ERROR, False, "The check of a host could not run, mostly for want of Python."),
    "OS_UNSUPPORTED": Code(ERROR, True, "A host's operating system is not one that the platform is tested on."),
    "ARCHITECTURE_UNSUPPORTED": Code(ERROR, True, "A host's processor architecture is not supported."),
    "PYTHON_UNSUPPORTED": Code(ERROR, False, "A host's Python is too old."),
    "SYSTEMD_MISSING": Code(ERROR, False, "A host does not run systemd."),
    "KERNEL_FEATURE_MISSING": Code(WARNING, False, "A host's kernel does not show a feature that Docker or the firewall needs."),
    "ADDRESS_NOT_ON_HOST": Code(ERROR, True, "A host does not have the address that the inventory gives it."),
    "DISK_FULL": Code(ERROR, True, "A file system has too little free space."),
    "INODES_FULL": Code(ERROR, True, "A file system has too few free inodes."),
    "MEMORY_TOO_SMALL": Code(ERROR, True, "A host has less memory than its members may use."),
    "PORT_TAKEN": Code(ERROR, True, "A port that a tier needs is held by a process that is not the platform's."),
    "CLOCK_OFF": Code(ERROR, True, "A host's clock differs from the controller's."),
}


@dataclasses.dataclass
class Finding:
    """What is wrong, with which value of which variable on which hosts, what is accepted and how to mend it."""

    code: str
    level: str
    message: str
    hosts: list[str] = dataclasses.field(default_factory=list)
    variable: str | None = None
    value: str | None = None
    accepted: str | None = None
    mend: str | None = None
    accepted_risk: bool = False

    @property
    def key(self) -> tuple[t.Any, ...]:
        return (self.code, self.level, self.message, self.variable, self.value, self.accepted, self.mend)

    def as_dict(self) -> dict[str, t.Any]:
        return dataclasses.asdict(self)


class Findings:
    """Collects findings; the same one on several hosts is one finding."""

    def __init__(self) -> None:
        self._items: dict[tuple[t.Any, ...], Finding] = {}

    def add(self, code: str, message: str, hosts: str | t.Iterable[str] = (), **fields: t.Any) -> None:
        level = fields.pop("level", CODES[code].level)
        item = Finding(code=code, level=level, message=message, **fields)
        item = self._items.setdefault(item.key, item)
        for host in [hosts] if isinstance(hosts, str) else hosts:
            if host not in item.hosts:
                item.hosts.append(host)

    def add_dict(self, finding: t.Mapping[str, t.Any]) -> None:
        """Take over a finding that was made elsewhere, on a host or in an earlier step."""
        known = {field.name for field in dataclasses.fields(Finding)}
        fields = {key: value for key, value in finding.items() if key in known and key != "accepted_risk"}
        code, message = fields.pop("code"), fields.pop("message")
        level = CODES[code].level if code in CODES else fields.get("level", ERROR)
        self.add(code, message, fields.pop("hosts", ()), **{**fields, "level": level})

    def sorted(self) -> list[Finding]:
        order = {code: number for number, code in enumerate(CODES)}
        return sorted(self._items.values(), key=lambda f: (f.level != ERROR, order.get(f.code, len(order)), f.variable or "", f.hosts))

    def codes(self) -> list[str]:
        return [finding.code for finding in self.sorted()]

    def __len__(self) -> int:
        return len(self._items)


# --- Showing values ----------------------------------------------------------------------------------------------------------------

SECRET_NAME = re.compile(r"_(?:password|passwd|passphrase|secret|secret_key|private_key|token)$|_leaf_key$")


def show(value: t.Any, secret: bool = False) -> str:
    """A value for a report: short, on one line, and never a secret."""
    if secret:
        if isinstance(value, str):
            return f"<secret, {len(value)} characters>"
        return f"<secret, {type_name(value)}>"
    if isinstance(value, bool):
        return "true" if value else "false"
    text = repr(str(value)) if isinstance(value, str) else str(plain(value))
    return text if len(text) <= 160 else text[:157] + "..."


def plain(value: t.Any) -> t.Any:
    """The same value as plain Python types, without Ansible's tags."""
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value)
    if isinstance(value, str):
        return str(value)
    if isinstance(value, t.Mapping):
        return {plain(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set)):
        return [plain(item) for item in value]
    return str(value)


def type_name(value: t.Any) -> str:
    for kind, name in ((bool, "bool"), (int, "int"), (float, "float"), (str, "str"), (t.Mapping, "dict"), (list, "list")):
        if isinstance(value, kind):
            return name
    return "null" if value is None else type(value).__name__


def number(value: t.Any, default: float) -> float:
    """A number, also where a variable does not have the type it should; that is reported elsewhere."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return default


def scrub(text: str | None, secrets: t.Iterable[str]) -> str | None:
    """Take secrets out of a text, for the case that one was built into another value."""
    if text:
        for secret in sorted((s for s in secrets if len(s) >= 6), key=len, reverse=True):
            text = text.replace(secret, "<secret>")
    return text


def quantity(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def listing(names: t.Iterable[str]) -> str:
    names = [str(name) for name in names]
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


# --- Variables against argument specs ------------------------------------------------------------------------------------------------

TYPE_WORDS = {
    "str": "a text",
    "int": "a whole number (int)",
    "float": "a number (float)",
    "bool": "true or false (bool)",
    "list": "a list",
    "dict": "a dictionary",
    "path": "a path",
    "raw": "any value",
    "bytes": "a size such as 512M",
    "bits": "a size in bits such as 1Mb",
    "json": "JSON",
    "jsonarg": "JSON",
}


@dataclasses.dataclass(frozen=True)
class Problem:
    """A variable that could not be resolved.

    C(undefined) names what it wanted; C(later) is set if a run itself provides that; C(direct) if the variable itself asks for it, and
    not only another one that it uses.
    """

    text: str
    undefined: tuple[str, ...] = ()
    later: bool = False
    direct: bool = True


UNDEFINED_PATTERNS = (re.compile(r"'([A-Za-z_][\w.]*)' is undefined"), re.compile(r"has no attribute '([A-Za-z_]\w*)'"))


def problem_from_error(text: str, later: t.Iterable[str] = (), source: str | None = None) -> Problem:
    """Read the error of a template. C(later) holds names and paths that exist only during a run, C(source) the template's text."""
    undefined: list[str] = []
    for pattern in UNDEFINED_PATTERNS:
        undefined += [name for name in pattern.findall(text) if name not in undefined]
    text = " ".join(text.split())
    unknown_yet = any(name in undefined or (len(name) > 1 and "/" in name and name in text) for name in later)
    direct = source is None or not undefined or any(name.rpartition(".")[2] in source for name in undefined)
    return Problem(text, tuple(undefined), unknown_yet, direct)


def accepted_by(spec: t.Mapping[str, t.Any]) -> str:
    """What an option accepts, in words."""
    kind = str(spec.get("type", "str"))
    words = TYPE_WORDS.get(kind, kind)
    if kind == "list" and spec.get("elements"):
        words += f" of which each element is {TYPE_WORDS.get(spec['elements'], spec['elements'])}"
    if spec.get("choices"):
        one_of = "one of " + ", ".join(show(choice).strip("'") for choice in spec["choices"])
        words = f"a list with any of {one_of[7:]}" if kind == "list" else one_of
    if spec.get("options"):
        keys = [f"{name} (required)" if sub.get("required") else name for name, sub in sorted(spec["options"].items())]
        words += " with " + ", ".join(keys)
    return words


def description_of(spec: t.Mapping[str, t.Any]) -> str:
    text = spec.get("description", "")
    text = str(text[0] if isinstance(text, (list, tuple)) and text else text or "")
    return re.sub(r"\b[A-Z]{1,3}\(([^)]*)\)", r"\1", text)


def has_nested_secret(spec: t.Mapping[str, t.Any]) -> bool:
    return any(sub.get("no_log") or has_nested_secret(sub) for sub in (spec.get("options") or {}).values())


def spec_secrets(options: t.Mapping[str, t.Mapping[str, t.Any]]) -> set[str]:
    return {name for name, spec in options.items() if spec.get("no_log")}


def check_value(findings: Findings, host: str, name: str, value: t.Any, spec: t.Mapping[str, t.Any], secret: bool) -> t.Any:
    """One variable against its entry in an argument spec; all that is wrong inside it is reported. Returns the value in its type."""
    hidden = secret or bool(spec.get("no_log")) or has_nested_secret(spec)
    kind = spec.get("type", "str")
    fields = {"variable": name, "value": show(value, hidden), "accepted": accepted_by(spec), "mend": f"Change {name} where the inventory sets it."}
    if value is None:
        if spec.get("required"):
            findings.add("VARIABLE_MISSING", f"{name} is empty (null).", host, **fields)
        return None
    if kind in ("list", "dict") and isinstance(value, str):
        # Ansible would read a text as a list or a dictionary here, but the role gets the text.
        what = "a text" if hidden else f"the text {show(value)}"
        findings.add("VARIABLE_TYPE", f"{name} is {what} and not a {TYPE_WORDS[kind][2:]}.", host, **fields)
        return value
    # The validator converts in place and takes no tagged or lazy containers: it gets a plain copy.
    entry = {key: item for key, item in spec.items() if key not in ("default", "required", "description", "version_added")}
    result = ArgumentSpecValidator({name: entry}).validate({name: plain(value)})
    for error in result.errors:
        code = "VARIABLE_TYPE" if type(error).__name__ in ("ArgumentTypeError", "ElementError", "SubParameterTypeError") else "VARIABLE_VALUE"
        if hidden:
            message = f"{name} does not have the accepted form."
        elif code == "VARIABLE_TYPE" and not spec.get("options") and kind != "list":
            message = f"{name} is {show(value)} ({type_name(value)})."
        else:
            message = f"{name}: {error.msg.rstrip('.')}."
        findings.add(code, message, host, **fields)
    return value if result.error_messages else result.validated_parameters[name]


def check_role_variables(
    findings: Findings,
    host: str,
    role: str,
    options: t.Mapping[str, t.Mapping[str, t.Any]],
    values: dict[str, t.Any],
    problems: t.Mapping[str, Problem],
    secrets: t.Container[str],
) -> set[str]:
    """All variables of a role on one host, which get the types they should have. Returns the names of required ones that are missing."""
    missing: set[str] = set()
    for name, spec in sorted(options.items()):
        secret = name in secrets or bool(spec.get("no_log"))
        if name in values:
            if secret and values[name] in (None, "") and spec.get("required"):
                missing.add(name)
            else:
                values[name] = check_value(findings, host, name, values[name], spec, secret)
        elif name not in problems and spec.get("required"):
            missing.add(name)
            if not secret:
                findings.add(
                    "VARIABLE_MISSING",
                    f"{name} is not defined. {description_of(spec)}",
                    host,
                    variable=name,
                    value="undefined",
                    accepted=accepted_by(spec),
                    mend=f"Set {name} in the inventory (group_vars/all, or for the group {role}).",
                )
    return missing


def check_problems(findings: Findings, host: str, problems: t.Mapping[str, Problem], missing: t.Container[str]) -> None:
    """Variables that could not be resolved, apart from those that follow from one that is reported as missing."""
    asked = {item for problem in problems.values() if problem.direct for item in problem.undefined}
    for name, problem in sorted(problems.items()):
        if problem.later or any(item in missing for item in problem.undefined):
            continue
        if not problem.direct and asked.issuperset(problem.undefined):
            continue
        if problem.undefined:
            wanted = listing(problem.undefined)
            message = f"{name} refers to {wanted}, which is not defined."
            mend = f"Define {wanted} for this host, or change {name}."
        else:
            message = f"{name} cannot be resolved: {problem.text}"
            mend = f"Correct the template of {name}."
        findings.add("VARIABLE_TEMPLATE", message, host, variable=name, value="<cannot be resolved>", accepted="a value that can be resolved", mend=mend)


def closest(name: str, known: t.Iterable[str]) -> str | None:
    found = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return found[0] if found else None


def check_unknown(
    findings: Findings, host: str, names: t.Iterable[str], known: t.Collection[str], roles: t.Iterable[str], show_value: t.Callable[[str], str]
) -> None:
    """Names that no role knows: an error with a role's prefix, a warning if almost a role's variable."""
    prefixes = tuple(f"{role}_" for role in roles)
    by_initial: dict[str, list[str]] = collections.defaultdict(list)
    for item in known:
        by_initial[item[:1]].append(item)
    for name in sorted(names):
        if name in known or name.startswith(("ansible_", "_")):
            continue
        if name.startswith(prefixes):
            guess = closest(name, known)
            findings.add(
                "VARIABLE_UNKNOWN",
                f"{name}: unknown, did you mean {guess}?" if guess else f"{name}: no role knows this variable.",
                host,
                variable=name,
                value=show_value(name),
                accepted=guess or "a variable of a role's meta/argument_specs.yml",
                mend=f"Rename {name} to {guess}, or remove it." if guess else f"Remove {name}, or give it a name without a role's prefix.",
            )
        elif "_" in name and len(name) >= 8:
            near = difflib.get_close_matches(name, by_initial.get(name[:1], ()), n=1, cutoff=0.9)
            if near:
                findings.add(
                    "VARIABLE_SIMILAR",
                    f"{name}: nothing uses it; did you mean {near[0]}?",
                    host,
                    variable=name,
                    value=show_value(name),
                    accepted=near[0],
                    mend=f"Rename {name} to {near[0]}, or choose a name that is less alike.",
                )


# --- Addresses and networks ----------------------------------------------------------------------------------------------------------


def as_address(value: t.Any) -> ipaddress.IPv4Address | None:
    """An IPv4 address: tiers, firewall and virtual address are made for these only."""
    try:
        return ipaddress.IPv4Address(str(value)) if isinstance(value, str) else None
    except ValueError:
        return None


def check_addresses(findings: Findings, hosts: Hosts, groups: Groups) -> None:
    owners: dict[t.Any, list[str]] = collections.defaultdict(list)
    for host, values in hosts.items():
        if "platform_address" not in values:
            continue
        address = as_address(values["platform_address"])
        if address is None or address.is_unspecified or address.is_multicast or address.is_loopback:
            findings.add(
                "ADDRESS_INVALID",
                f"The address of {host} is {show(values['platform_address'])}.",
                host,
                variable="platform_address",
                value=show(values["platform_address"]),
                accepted="an IPv4 address of the host that the other hosts reach",
                mend=f"Set ansible_host of {host} to its IP address, or platform_address where the controller reaches it under another one.",
            )
        else:
            owners[address].append(host)
    for address, names in owners.items():
        if len(names) > 1:
            findings.add(
                "ADDRESS_DUPLICATE",
                f"{listing(names)} have the same address {address}.",
                names,
                variable="platform_address",
                value=str(address),
                accepted="an address of its own for each host",
                mend="Correct ansible_host or platform_address of one of them.",
            )
    _check_vip(findings, hosts, groups, owners)
    _check_networks(findings, hosts, owners)


def _check_vip(findings: Findings, hosts: Hosts, groups: Groups, owners: t.Mapping[t.Any, list[str]]) -> None:
    edges = [host for host in groups.get("edge", ()) if host in hosts]
    for host, values in hosts.items():
        if "platform_vip" not in values or not values["platform_vip"]:
            continue
        vip = as_address(values["platform_vip"])
        fields = {"variable": "platform_vip", "value": show(values["platform_vip"])}
        if vip is None or vip.is_unspecified or vip.is_multicast or vip.is_loopback:
            mend = "Set platform_vip to a free address in the network of the edge hosts."
            findings.add("ADDRESS_INVALID", f"platform_vip is {show(values['platform_vip'])}.", host, accepted="an IPv4 address", mend=mend, **fields)
            continue
        if vip in owners:
            findings.add(
                "VIP_IS_HOST_ADDRESS",
                f"platform_vip {vip} is the address of {listing(owners[vip])}.",
                owners[vip],
                accepted="an address in the network of the edge hosts that no host has",
                mend="Choose a free address for platform_vip.",
                **fields,
            )
        if host in edges:
            address = as_address(values.get("platform_address"))
            if address is not None and not _near(vip, address):
                findings.add(
                    "VIP_OTHER_NETWORK",
                    f"platform_vip {vip} does not seem to be in the network of {host} ({address}); a virtual address only works in the same network.",
                    host,
                    accepted=f"an address near {address}",
                    mend="Check platform_vip and the addresses of the edge hosts.",
                    **fields,
                )


def _near(one: t.Any, other: t.Any) -> bool:
    return other in ipaddress.ip_network(f"{one}/22", strict=False)


def _check_networks(findings: Findings, hosts: Hosts, owners: t.Mapping[t.Any, list[str]]) -> None:
    for host, values in hosts.items():
        operations = values.get("platform_operations_networks")
        networks = []
        if isinstance(operations, (list, tuple)):
            if not operations:
                findings.add(
                    "OPERATIONS_NETWORKS_EMPTY",
                    "platform_operations_networks is empty: nobody reaches consoles and metrics.",
                    host,
                    variable="platform_operations_networks",
                    value="[]",
                    accepted="networks such as 192.0.2.0/27",
                    mend="List the networks of the operators and of the controller.",
                )
            for item in operations:
                networks.append(("platform_operations_networks", item, _network(findings, host, "platform_operations_networks", item)))
        if not values.get("platform_container_networks"):
            continue
        text = values["platform_container_networks"]
        pool = _network(findings, host, "platform_container_networks", text)
        if pool is None:
            continue
        used = [f"{address} ({listing(names)})" for address, names in owners.items() if address.version == pool.version and address in pool]
        vip = as_address(values.get("platform_vip"))
        if vip is not None and vip.version == pool.version and vip in pool:
            used.append(f"{vip} (platform_vip)")
        used += [f"{item} ({name})" for name, item, network in networks if network is not None and network.version == pool.version and network.overlaps(pool)]
        if used:
            findings.add(
                "NETWORK_OVERLAP",
                f"The containers' pool {pool} overlaps with {listing(used)}; what lies there could not be reached from a container.",
                host,
                variable="platform_container_networks",
                value=show(text),
                accepted="a network that nobody else uses",
                mend="Choose another private network, for example 198.19.0.0/17 or a free part of 10.0.0.0/8.",
            )


def _network(findings: Findings, host: str, name: str, value: t.Any) -> t.Any:
    try:
        return ipaddress.ip_network(str(value), strict=True)
    except ValueError:
        pass
    try:
        guess = str(ipaddress.ip_network(str(value), strict=False))
    except ValueError:
        guess = ""
    findings.add(
        "NETWORK_INVALID",
        f"{name}: {show(value)} is not a network" + (": it has bits set behind its prefix." if guess else "."),
        host,
        variable=name,
        value=show(value),
        accepted=guess or "CIDR form, for example 192.0.2.0/24",
        mend=f"Write {guess}." if guess else f"Correct {name}.",
    )
    return None


DOMAIN = re.compile(r"^(?=.{4,253}$)(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?$")


def check_names(findings: Findings, hosts: Hosts, is_time_zone: t.Callable[[str], bool] = lambda name: True) -> None:
    for host, values in hosts.items():
        domain = values.get("platform_domain")
        if isinstance(domain, str) and not DOMAIN.match(domain):
            findings.add(
                "DOMAIN_INVALID",
                f"platform_domain is {show(domain)}.",
                host,
                variable="platform_domain",
                value=show(domain),
                accepted="a host name in lower case with at least one dot, for example platform.example.org",
                mend="Set platform_domain to the name under which clients reach the platform.",
            )
        zone = values.get("platform_time_zone")
        if isinstance(zone, str) and not is_time_zone(zone):
            findings.add(
                "TIME_ZONE_UNKNOWN",
                f"platform_time_zone is {show(zone)}.",
                host,
                variable="platform_time_zone",
                value=show(zone),
                accepted="a name of the IANA data base, for example Etc/UTC or America/Sao_Paulo",
                mend="Correct platform_time_zone; timedatectl list-timezones shows the names.",
            )


# --- Zones ---------------------------------------------------------------------------------------------------------------------------


def zones_of(hosts: Hosts, members: t.Iterable[str]) -> dict[str, list[str]]:
    zones: dict[str, list[str]] = {}
    for host in members:
        zone = hosts.get(host, {}).get("platform_zone")
        if zone:
            zones.setdefault(str(zone), []).append(host)
    return zones


def check_zones(findings: Findings, hosts: Hosts) -> None:
    without = [host for host, values in hosts.items() if values.get("platform_zone") in (None, "")]
    with_zone = [host for host in hosts if host not in without]
    if with_zone and without:
        findings.add(
            "ZONE_MISSING",
            f"{listing(without)} have no zone, but {quantity(len(with_zone), 'other host')} do; nothing can be said about the loss of a zone.",
            without,
            variable="platform_zone",
            value="undefined",
            accepted="a zone for every host, or for none",
            mend="Set platform_zone for the hosts named.",
        )
    for host in with_zone:
        values = hosts[host]
        accepted = values.get("platform_zones") or []
        if isinstance(accepted, (list, tuple)) and accepted and values["platform_zone"] not in [str(item) for item in accepted]:
            names = [str(item) for item in accepted]
            findings.add(
                "ZONE_UNKNOWN",
                f"{host} is in zone {show(values['platform_zone'])}, which is not among platform_zones.",
                host,
                variable="platform_zone",
                value=show(values["platform_zone"]),
                accepted="one of " + ", ".join(names),
                mend=f"Correct platform_zone of {host}, or add the zone to platform_zones.",
            )


# --- Clusters: one rule a tier -------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Port:
    """A TCP port that a tier takes on its hosts: a fixed number, or that in the value (a number, or ``host:port``) of a variable."""

    number: int
    purpose: str
    variable: str | None = None

    def on(self, values: Values) -> int:
        try:
            return int(str(values[self.variable]).rpartition(":")[2]) if self.variable else self.number
        except (KeyError, TypeError, ValueError):
            return self.number


Rule = t.Callable[["Findings", str, "Tier", t.Sequence[str], "Hosts"], None]


@dataclasses.dataclass(frozen=True)
class Tier:
    """What the platform asks of a tier: how many members, its own rule, the ports it takes, the images and memory limits it uses."""

    minimum: int
    rule: Rule | None = None
    noun: str = "HOSTS"
    ports: tuple[Port, ...] = ()
    images: tuple[str, ...] = ()
    memory: tuple[str, ...] = ()
    why: str = "one of them may be lost or under maintenance at any time"
    # A platform without such a group is a platform without the tier.
    optional: bool = False


def check_members(findings: Findings, name: str, tier: Tier, members: t.Sequence[str], hosts: Hosts) -> None:
    """Enough members for the loss of one; after the loss of any zone one is left."""
    if len(members) < tier.minimum:
        findings.add(
            f"{name.upper()}_TOO_FEW_{tier.noun}",
            f"The cluster {name} has {quantity(len(members), tier.noun.lower().rstrip('s'))} ({listing(members)}): {tier.why}.",
            members,
            variable=f"group {name}",
            value=show(list(members)),
            accepted=f"{tier.minimum} or more {tier.noun.lower()}",
            mend=f"Add hosts to the group {name}, or accept the risk: platform_accept_risks: [{name.upper()}_TOO_FEW_{tier.noun}].",
        )
    elif tier.rule is None:
        zones = zones_of(hosts, members)
        if len(zones) == 1 and len(next(iter(zones.values()))) == len(members) and _several_zones(hosts):
            zone = next(iter(zones))
            findings.add(
                f"{name.upper()}_ZONE_LOSS",
                f"The cluster {name} does not survive the loss of zone {zone}: all of its members ({listing(members)}) are there.",
                members,
                variable="platform_zone",
                value=show(zone),
                accepted="members in two or more zones",
                mend=f"Spread the hosts of the group {name} over the zones.",
            )


def _several_zones(hosts: Hosts) -> bool:
    return len(zones_of(hosts, hosts)) > 1


def check_redis(findings: Findings, name: str, tier: Tier, members: t.Sequence[str], hosts: Hosts) -> None:
    count = len(members)
    majority = count // 2 + 1
    if count >= tier.minimum and count % 2 == 0:
        findings.add(
            "REDIS_EVEN",
            f"The cluster redis has {count} Sentinels: a split into two halves leaves none with the majority of {majority}, "
            f"and {count} survive no more losses than {count - 1}.",
            members,
            variable=f"group {name}",
            value=show(list(members)),
            accepted="an odd number, 3 or more",
            mend="Add or remove one host of the group redis.",
        )
    if count < tier.minimum:
        return
    zones = zones_of(hosts, members)
    if not _several_zones(hosts):
        return
    for zone, names in sorted(zones.items()):
        if count - len(names) < majority:
            findings.add(
                "REDIS_ZONE_LOSS",
                f"Redis does not survive the loss of zone {zone}: it holds {listing(names)}, {len(names)} of {count} Sentinels; a failover needs {majority}.",
                members,
                variable="platform_zone",
                value=show(zone),
                accepted=f"at most {count - majority} members of redis in one zone",
                mend=f"Move members of redis from zone {zone} to other zones.",
            )


def default_parity(drives: int) -> int:
    """MinIO's parity for an erasure set of so many drives, where the operator sets none."""
    if drives <= 1:
        return 0
    if drives <= 3:
        return 1
    if drives <= 5:
        return 2
    return 3 if drives <= 7 else 4


def erasure_set_size(nodes: int, drives: int) -> int | None:
    """Drives in an erasure set as MinIO chooses them for drives listed one by one: the largest size up to 16 that divides all."""
    sizes = [size for size in range(2, 17) if nodes * drives % size == 0]
    return max(sizes) if sizes and nodes * drives else None


@dataclasses.dataclass(frozen=True)
class Erasure:
    """Arithmetic of one MinIO cluster. C(sets) tells for each erasure set how many of its drives each node holds."""

    size: int
    parity: int
    sets: tuple[t.Mapping[str, int], ...]

    @property
    def data(self) -> int:
        return self.size - self.parity

    @property
    def write_quorum(self) -> int:
        return self.data + 1 if self.data == self.parity else self.data

    def left_without(self, lost: t.Collection[str]) -> int:
        """Drives that the worst set keeps when these nodes are gone."""
        return min(sum(count for node, count in members.items() if node not in lost) for members in self.sets)


def erasure(nodes: t.Sequence[str], drives: int, parity: int | None = None) -> Erasure | None:
    size = erasure_set_size(len(nodes), drives) if nodes and drives > 0 else None
    if size is None:
        return None
    # The role minio lists the first drive of each node, then the second of each; a set is a run of that list.
    order = [node for _drive in range(drives) for node in nodes]
    sets = tuple(collections.Counter(order[start : start + size]) for start in range(0, len(order), size))
    return Erasure(size, default_parity(size) if parity is None else parity, sets)


def minio_drives(values: Values) -> int | None:
    """Number of drives of a node: minio_drives is a list of directories or a number."""
    drives = values.get("minio_drives")
    if isinstance(drives, bool):
        return None
    if isinstance(drives, int):
        return drives
    if isinstance(drives, str) and drives.isdigit():
        return int(drives)
    if isinstance(drives, (list, tuple)):
        return len(drives)
    return None


def minio_parity(values: Values) -> int | None:
    """Parity that the operator chose, or none for MinIO's default."""
    value = values.get("minio_parity")
    text = str(value).upper().removeprefix("EC:") if value not in (None, "") else ""
    return int(text) if text.isdigit() else None


def check_minio(findings: Findings, name: str, tier: Tier, members: t.Sequence[str], hosts: Hosts) -> None:
    counts = {host: minio_drives(hosts[host]) for host in members if host in hosts}
    known = {host: count for host, count in counts.items() if count is not None}
    if not known or len(known) != len(members):
        return
    if len(set(known.values())) > 1:
        detail = ", ".join(f"{host} {count}" for host, count in sorted(known.items()))
        findings.add(
            "MINIO_DRIVES_UNEVEN",
            f"The nodes do not have the same number of drives ({detail}); MinIO spreads each erasure set evenly.",
            members,
            variable="minio_drives",
            value=detail,
            accepted="the same number of drives on each node",
            mend="Set minio_drives for the group minio and not for single hosts.",
        )
        return
    drives = next(iter(known.values()))
    total = len(members) * drives
    chosen = minio_parity(hosts[members[0]])
    plan = erasure(list(members), drives, chosen)
    if plan is None or not (4 <= plan.size <= 16):
        size = "no size" if plan is None else f"{plan.size} drives"
        findings.add(
            "MINIO_ERASURE_SET",
            f"{quantity(len(members), 'node')} with {quantity(drives, 'drive')} each give erasure sets of {size}.",
            members,
            variable="minio_drives",
            value=str(drives),
            accepted="nodes x drives that divide evenly into erasure sets of 4 to 16 drives, for example 4 x 2, 6 x 2 or 4 x 4",
            mend="Change the number of drives a node (minio_drives) or of hosts in the group minio.",
        )
        return
    if plan.parity * 2 > plan.size or plan.parity < 1:
        findings.add(
            "MINIO_PARITY",
            f"minio_parity is {plan.parity}, the erasure set has {plan.size} drives.",
            members,
            variable="minio_parity",
            value=str(plan.parity),
            accepted=f"1 to {plan.size // 2}; MinIO's default here is {default_parity(plan.size)}",
            mend="Correct minio_parity, or leave it out.",
        )
        return
    arithmetic = f"EC:{plan.parity} over sets of {plan.size} drives"
    left = {host: plan.left_without([host]) for host in members}
    fatal = [host for host in members if left[host] < plan.write_quorum]
    if fatal:
        findings.add(
            "MINIO_HOST_LOSS",
            f"Without {'any one of ' if len(fatal) > 1 else ''}{listing(fatal)} an erasure set keeps {min(left.values())} of {plan.size} drives; "
            f"writes need {plan.write_quorum} ({arithmetic}).",
            fatal,
            variable="group minio",
            value=f"{len(members)} nodes x {drives} drives",
            accepted="nodes and parity with which writes go on without any one host, for example 4 nodes x 2 drives",
            mend="Add hosts to the group minio so that a host holds a smaller part of each set, or raise minio_parity where it is set.",
        )
        return
    if not _several_zones(hosts):
        return
    for zone, names in sorted(zones_of(hosts, members).items()):
        kept = plan.left_without(names)
        if kept < plan.write_quorum:
            lost = plan.size - kept
            reads = "reads go on" if kept >= plan.data else f"reads need {plan.data}"
            of = f"{lost} of {plan.size} drives" + ("" if total == plan.size else " of an erasure set")
            findings.add(
                "MINIO_ZONE_LOSS",
                f"MinIO does not survive the loss of zone {zone} for writes: it holds {listing(names)}, {of}; "
                f"{kept} are left, writes need {plan.write_quorum}, {reads} ({arithmetic}).",
                members,
                variable="platform_zone",
                value=show(zone),
                accepted=f"at most {quantity(plan.size - plan.write_quorum, 'drive')} of an erasure set in one zone",
                mend=f"Spread the nodes evenly over three zones (for example 6 nodes x 2 drives), or move nodes out of zone {zone}.",
            )


# https://www.mongodb.com/docs/manual/reference/limits/#replica-sets
MONGODB_MEMBERS, MONGODB_VOTERS = 50, 7
# https://www.mongodb.com/docs/manual/core/security-internal-authentication/#keyfiles; a weak key is found as a weak secret is.
MONGODB_KEY = re.compile(r"^[A-Za-z0-9+/=]{6,1024}$")
# Part of the memory limit that the cache may take, and the least limit in MiB: the rest is for connections, sorts and the file system's cache.
MONGODB_CACHE_PART, MONGODB_LEAST = 0.6, 512


def check_mongodb(findings: Findings, name: str, tier: Tier, members: t.Sequence[str], hosts: Hosts) -> None:
    """A set that servers accept, with an odd number of votes, a majority after the loss of a zone, memory for more than the cache, good keys."""
    for host in members:
        _check_mongodb_memory(findings, host, hosts.get(host, {}))
    _check_mongodb_keys(findings, members, hosts)
    votes = {host: int(number(hosts.get(host, {}).get("mongodb_votes"), 1)) for host in members}
    voters = [host for host in members if votes[host]]
    if not _check_mongodb_set(findings, members, voters, hosts):
        return
    for host in voters:
        delay = number(hosts.get(host, {}).get("mongodb_delay"), 0)
        if delay:
            findings.add(
                "MONGODB_SLOW_VOTER",
                f"The member on {host} is {delay:.0f} s behind on purpose, and votes: while another voter is lost, majority writes may wait that long.",
                host,
                variable="mongodb_votes",
                value="1",
                accepted="0 for a delayed member",
                mend=f"Set mongodb_votes: 0 for {host}, and let another host vote in its place.",
            )
    count = len(voters)
    if count >= tier.minimum and count % 2 == 0:
        findings.add(
            "MONGODB_EVEN",
            f"{count} members of MongoDB vote: {count} survive no more losses than {count - 1}, and a split into two halves leaves none with the majority.",
            members,
            variable="mongodb_votes",
            value=show(voters),
            accepted="an odd number of voting members, 3 to 7",
            mend="Add or remove a host of the group mongodb, or set mongodb_votes: 0 for one.",
        )
    if count < min(tier.minimum, len(members)):
        findings.add(
            "MONGODB_TOO_FEW_MEMBERS",
            f"{quantity(count, 'member')} of MongoDB vote ({listing(voters)}): {tier.why}.",
            members,
            variable="mongodb_votes",
            value=show(voters),
            accepted=f"{tier.minimum} or more members that vote",
            mend="Set mongodb_votes: 1 for more hosts, or accept the risk: platform_accept_risks: [MONGODB_TOO_FEW_MEMBERS].",
        )
    if count < tier.minimum or not _several_zones(hosts):
        return
    majority = count // 2 + 1
    for zone, names in sorted(zones_of(hosts, voters).items()):
        if count - len(names) < majority:
            findings.add(
                "MONGODB_ZONE_LOSS",
                f"MongoDB does not survive the loss of zone {zone}: it holds {listing(names)}, {len(names)} of {count} votes; a primary needs {majority}.",
                members,
                variable="platform_zone",
                value=show(zone),
                accepted=f"at most {count - majority} voting members of mongodb in one zone",
                mend=f"Move members of mongodb from zone {zone} to other zones.",
            )


def _check_mongodb_set(findings: Findings, members: t.Sequence[str], voters: t.Sequence[str], hosts: Hosts) -> bool:
    """Whether servers accept the set."""
    problems: list[tuple[str, str, str, list[str]]] = []
    if len(members) > MONGODB_MEMBERS or len(voters) > MONGODB_VOTERS:
        accepted = f"at most {MONGODB_MEMBERS} members, of which {MONGODB_VOTERS} vote"
        problems.append((f"The set has {len(members)} members, of which {len(voters)} vote.", "mongodb_votes", accepted, list(members)))
    electable = False
    for host in members:
        values = hosts.get(host, {})
        priority = number(values.get("mongodb_priority"), 1)
        why = [
            word
            for word, holds in (
                ("hidden", values.get("mongodb_hidden") is True),
                ("delayed", number(values.get("mongodb_delay"), 0) > 0),
                ("without vote", host not in voters),
            )
            if holds
        ]
        electable |= priority > 0 and not why
        if priority and why:
            message = f"The member on {host} has priority {priority:g} and is {listing(why)}, so it must never be primary."
            problems.append((message, "mongodb_priority", "0 for such a member", [host]))
    if not electable:
        problems.append(("No member of MongoDB may become primary.", "mongodb_priority", "a priority above 0 for a member that votes", list(members)))
    names = sorted({str(hosts[host]["mongodb_set_name"]) for host in members if hosts.get(host, {}).get("mongodb_set_name")})
    if len(names) > 1:
        problems.append((f"The members of MongoDB name different sets ({listing(names)}).", "mongodb_set_name", "one name for all", list(members)))
    for message, variable, accepted, concerned in problems:
        value = listing(sorted({show(hosts.get(host, {}).get(variable)) for host in concerned}))
        mend = f"Correct {variable}, for the group mongodb or for single hosts."
        findings.add("MONGODB_SET", message, concerned, variable=variable, value=value, accepted=accepted, mend=mend)
    return not problems


def _check_mongodb_memory(findings: Findings, host: str, values: Values) -> None:
    limit = mebibytes(values.get("mongodb_memory_limit"))
    cache = number(values.get("mongodb_cache_gb"), 0) * 1024
    if limit and (limit < MONGODB_LEAST or cache > limit * MONGODB_CACHE_PART):
        findings.add(
            "MONGODB_CACHE",
            f"A cache of {cache:.0f} MiB leaves {limit - cache:.0f} MiB of the member's limit of {limit:.0f} MiB for connections, sorts and index builds.",
            host,
            variable="mongodb_memory_limit",
            value=show(values.get("mongodb_memory_limit")),
            accepted=f"{MONGODB_LEAST}m or more, of which the cache takes at most {MONGODB_CACHE_PART:.0%}",
            mend="Raise mongodb_memory_limit, and leave mongodb_cache_gb to its default.",
        )


def _check_mongodb_keys(findings: Findings, members: t.Sequence[str], hosts: Hosts) -> None:
    variants: dict[tuple[str, ...], list[str]] = {}
    for host in members:
        value = hosts.get(host, {}).get("mongodb_keyfile")
        if value in (None, ""):
            continue
        keys = tuple(str(key) for key in value) if isinstance(value, (list, tuple)) else (str(value),)
        variants.setdefault(keys, []).append(host)
    problems = [("The members of MongoDB have different keys: they would not let each other in.", list(members))] if len(variants) > 1 else []
    for keys, concerned in variants.items():
        if not keys or len(set(keys)) != len(keys):
            problems.append(("mongodb_keyfile is a list without a key, or with the same key twice.", concerned))
        for key in keys:
            reason = f"it has {len(key)} characters" if len(key) < SECRET_MINIMUMS["mongodb_keyfile"] else weakness("mongodb_keyfile", key)
            if not MONGODB_KEY.match(key):
                problems.append((f"A key of mongodb_keyfile ({len(key)} characters) is not made of 6 to 1024 characters of the base64 set.", concerned))
            elif reason:
                problems.append((f"A key of mongodb_keyfile is too weak: {reason}.", concerned))
    for message, concerned in problems:
        findings.add(
            "MONGODB_KEYFILE",
            message,
            concerned,
            variable="mongodb_keyfile",
            value="<secret>",
            accepted="32 to 1024 random characters of the base64 set (A-Z a-z 0-9 + / =) without white space, or a list of such keys, the same on all members",
            mend="Put a new key into the vault, for example from: openssl rand -base64 48",
        )


# Names of settings that only a cluster has (Operations manual, "Cluster settings"); Community would stop at them when it starts.
NEO4J_CLUSTER_SETTINGS = (
    "causal_clustering.",
    "dbms.cluster.",
    "dbms.routing.",
    "dbms.ssl.policy.cluster.",
    "initial.dbms.automatically_enable_free_servers",
    "initial.dbms.default_primaries_count",
    "initial.dbms.default_secondaries_count",
    "initial.server.",
    "server.cluster.",
    "server.discovery.",
    "server.routing.",
)
# MiB that the JVM takes beside heap and page cache at least: 130 were seen on a small server without load.
NEO4J_OVERHEAD = 192


def check_neo4j(findings: Findings, name: str, tier: Tier, members: t.Sequence[str], hosts: Hosts) -> None:
    """Edition and what it allows, a majority or an outbox, zones, memory."""
    known = [host for host in members if hosts.get(host, {}).get("neo4j_edition") in ("community", "enterprise")]
    editions = {host: str(hosts[host]["neo4j_edition"]) for host in known}
    if len(set(editions.values())) > 1:
        detail = ", ".join(f"{host} {edition}" for host, edition in sorted(editions.items()))
        findings.add(
            "NEO4J_EDITION",
            f"The members of Neo4j are of different editions ({detail}).",
            members,
            variable="neo4j_edition",
            value=detail,
            accepted="the same edition on each member",
            mend="Set neo4j_edition for the group neo4j and not for single hosts.",
        )
        return
    for host in members:
        _check_neo4j_memory(findings, host, hosts.get(host, {}))
    if not known:
        return
    if next(iter(editions.values())) == "community":
        _check_neo4j_community(findings, name, known, hosts)
    else:
        _check_neo4j_enterprise(findings, name, known, hosts)


def _check_neo4j_memory(findings: Findings, host: str, values: Values) -> None:
    limit, heap, pages = (number(values.get(f"neo4j_{part}_mib"), 0) for part in ("memory", "heap", "page_cache"))
    if limit and heap + pages + NEO4J_OVERHEAD > limit:
        findings.add(
            "NEO4J_MEMORY",
            f"Heap ({heap:.0f} MiB) and page cache ({pages:.0f} MiB) leave {limit - heap - pages:.0f} MiB of neo4j_memory_mib for the JVM itself, "
            f"which needs {NEO4J_OVERHEAD}; the kernel would end the server.",
            host,
            variable="neo4j_memory_mib",
            value=f"{limit:.0f}",
            accepted=f"{heap + pages + NEO4J_OVERHEAD:.0f} or more",
            mend="Raise neo4j_memory_mib and leave neo4j_heap_mib and neo4j_page_cache_mib to their defaults, or lower these.",
        )


def _check_neo4j_community(findings: Findings, name: str, members: t.Sequence[str], hosts: Hosts) -> None:
    for host in members:
        settings = hosts[host].get("neo4j_settings")
        wrong = [str(key) for key in settings if str(key).startswith(NEO4J_CLUSTER_SETTINGS)] if isinstance(settings, t.Mapping) else []
        for key in sorted(wrong):
            findings.add(
                "NEO4J_CLUSTER_SETTING",
                f"neo4j_settings has {key}, but the Community edition has no cluster.",
                host,
                variable=f"neo4j_settings.{key}",
                value=show(settings[key] if isinstance(settings, t.Mapping) else None),
                accepted="settings that Community knows",
                mend=f"Remove {key}, or set neo4j_edition: enterprise (which needs a licence).",
            )
    if len(members) == 1:
        findings.add(
            "NEO4J_SINGLE",
            f"Neo4j runs on {members[0]} alone: while it is restarted, some 15 seconds a time, what reads the graph answers 503. Changes are still accepted.",
            members,
            variable=f"group {name}",
            value=show(list(members)),
            accepted="2 or more members and the group mongodb",
            mend="Add a host to the group neo4j, or plan its outages.",
        )
        return
    without = [host for host in members if hosts[host].get("neo4j_applier") is False]
    if without:
        findings.add(
            "NEO4J_NO_OUTBOX",
            f"{listing(without)} of {len(members)} Community members have no applier: nothing keeps the members equal.",
            without,
            variable="neo4j_applier",
            value="false",
            accepted="a group mongodb, whose outbox an applier beside each member follows",
            mend="Add the group mongodb, or leave one host in the group neo4j.",
        )
    zones = zones_of(hosts, members)
    if len(zones) == 1 and _several_zones(hosts):
        _neo4j_zone(findings, members, next(iter(zones)), "all members are there", "members in two or more zones")


def _check_neo4j_enterprise(findings: Findings, name: str, members: t.Sequence[str], hosts: Hosts) -> None:
    unlicensed = [host for host in members if hosts[host].get("neo4j_accept_license") is not True]
    if unlicensed:
        findings.add(
            "NEO4J_LICENSE",
            "neo4j_edition is enterprise, and the licence agreement is not accepted.",
            unlicensed,
            variable="neo4j_accept_license",
            value=show(hosts[unlicensed[0]].get("neo4j_accept_license")),
            accepted="true, by whoever holds a licence",
            mend="Set neo4j_accept_license: true if you have a licence of Neo4j Enterprise, or neo4j_edition: community.",
        )
    count = len(members)
    if count < 3:
        findings.add(
            "NEO4J_TOO_FEW_NODES",
            f"The cluster neo4j has {quantity(count, 'primary') if count == 1 else f'{count} primaries'} ({listing(members)}): "
            "a majority must be left after the loss of one.",
            members,
            variable=f"group {name}",
            value=show(list(members)),
            accepted="3 or more nodes",
            mend="Add hosts to the group neo4j, or accept the risk: platform_accept_risks: [NEO4J_TOO_FEW_NODES].",
        )
        return
    if not _several_zones(hosts):
        return
    majority = count // 2 + 1
    for zone, names in sorted(zones_of(hosts, members).items()):
        if count - len(names) < majority:
            _neo4j_zone(
                findings,
                members,
                zone,
                f"it holds {listing(names)}, {len(names)} of {count} members, and {majority} are a majority",
                f"at most {count - majority} members of neo4j in one zone",
            )


def _neo4j_zone(findings: Findings, members: t.Sequence[str], zone: str, why: str, accepted: str) -> None:
    findings.add(
        "NEO4J_ZONE_LOSS",
        f"Neo4j does not survive the loss of zone {zone}: {why}.",
        members,
        variable="platform_zone",
        value=show(zone),
        accepted=accepted,
        mend="Spread the hosts of the group neo4j over the zones.",
    )


# Order is that of a converge. A new tier is one more row.
TIERS: dict[str, Tier] = {
    "minio": Tier(
        4,
        rule=check_minio,
        noun="NODES",
        ports=(Port(9000, "S3"), Port(9001, "console")),
        images=("minio",),
        memory=("minio_memory_limit",),
        why="with fewer than 4 the loss of one stops writes, or leaves them no drive to spare",
    ),
    "redis": Tier(
        3,
        rule=check_redis,
        noun="NODES",
        ports=(Port(6379, "cache"), Port(6380, "queue"), Port(26379, "Sentinel")),
        images=("redis",),
        memory=("redis_cache_memory_limit", "redis_queue_memory_limit", "redis_sentinel_memory_limit"),
        why="Sentinels need a majority after the loss of one to elect a new primary",
    ),
    "mongodb": Tier(
        3,
        rule=check_mongodb,
        noun="MEMBERS",
        ports=(Port(27017, "MongoDB"),),
        images=("mongodb",),
        memory=("mongodb_memory_limit",),
        why="a majority must be left after the loss of one to elect a primary and to acknowledge writes",
        optional=True,
    ),
    "neo4j": Tier(
        1,
        rule=check_neo4j,
        noun="NODES",
        ports=(Port(7687, "Bolt"), Port(7473, "HTTPS"), Port(9102, "metrics of the applier")),
        images=("neo4j", "api"),
        memory=("neo4j_memory_mib", "neo4j_applier_memory_mib"),
        optional=True,
    ),
    "api": Tier(2, ports=(Port(8001, "slot a"), Port(8002, "slot b")), images=("api",), memory=("api_memory_mib",)),
    "worker": Tier(2, images=("pipeline",), memory=("worker_memory_mib",)),
    "scheduler": Tier(2, images=("pipeline",), memory=("scheduler_memory_mib",)),
    "edge": Tier(
        2,
        ports=(Port(80, "HTTP"), Port(443, "HTTPS"), Port(9000, "S3 for the app hosts")),
        images=("frontend", "haproxy", "keepalived"),
        memory=("edge_nginx_memory_mib", "edge_haproxy_memory_mib", "edge_keepalived_memory_mib"),
        why="the virtual address needs a second host to move to",
    ),
}
SERVICES: dict[str, Tier] = {"registry": Tier(1, ports=(Port(5000, "image registry", "platform_registry"),), memory=("registry_memory_max",))}


def expected_tiers(groups: Groups) -> list[str]:
    """Services and tiers that an inventory must have, and the optional ones that it has."""
    return [name for name, tier in {**SERVICES, **TIERS}.items() if groups.get(name) or not tier.optional]


def check_groups(findings: Findings, groups: Groups, wanted: t.Iterable[str]) -> list[str]:
    """Groups that must exist and have hosts. Returns those that do."""
    good = []
    for name in wanted:
        if groups.get(name):
            good.append(name)
            continue
        others = [group for group in groups if group not in TIERS and group not in SERVICES and group not in ("all", "ungrouped")]
        guess = closest(name, others)
        exists = "is empty" if name in groups else "does not exist"
        findings.add(
            "GROUP_MISSING",
            f"The group {name} {exists}" + (f"; did you mean the group {guess}?" if guess and name not in groups else "."),
            (),
            variable=f"group {name}",
            value="no hosts",
            accepted=f"{(TIERS.get(name) or SERVICES[name]).minimum} or more hosts",
            mend=f"Rename the group {guess} to {name}." if guess and name not in groups else f"Add the group {name} with its hosts to the inventory.",
        )
    return good


def check_clusters(findings: Findings, groups: Groups, hosts: Hosts, tiers: t.Iterable[str]) -> None:
    for name in tiers:
        tier = TIERS.get(name) or SERVICES[name]
        members = list(groups.get(name, ()))
        if name not in TIERS or not members:
            continue
        check_members(findings, name, tier, members, hosts)
        if tier.rule is not None:
            tier.rule(findings, name, tier, members, hosts)


def ports_of(host: str, groups: Groups, values: Values, tiers: t.Iterable[str]) -> list[dict[str, t.Any]]:
    """Ports that the platform's tiers take on a host."""
    ports = []
    for name in tiers:
        if host in groups.get(name, ()):
            for port in (TIERS.get(name) or SERVICES[name]).ports:
                variable = port.variable if port.variable and port.variable in values else ""
                ports.append({"port": port.on(values), "tier": name, "purpose": port.purpose, "variable": variable})
    return ports


def check_ports(findings: Findings, groups: Groups, hosts: Hosts, tiers: t.Iterable[str]) -> None:
    tiers = list(tiers)
    for host, values in hosts.items():
        taken: dict[int, dict[str, t.Any]] = {}
        for port in ports_of(host, groups, values, tiers):
            other = taken.setdefault(port["port"], port)
            if other is port:
                continue
            names = [item["variable"] for item in (other, port) if item["variable"]]
            findings.add(
                "PORT_CONFLICT",
                f"{other['tier']} ({other['purpose']}) and {port['tier']} ({port['purpose']}) both want port {port['port']} on one host.",
                host,
                variable=" or ".join(names) or f"group {port['tier']}",
                value=str(port["port"]),
                accepted="a port of its own for each tier on a host",
                mend=f"Move one of the tiers to other hosts{', or set ' + ' or '.join(names) + ' to a free port' if names else ''}.",
            )


SIZE = re.compile(r"^\s*(\d+(?:\.\d+)?)\s*([kmgt]?)i?b?\s*$", re.IGNORECASE)


def mebibytes(value: t.Any) -> float | None:
    """A memory limit as Docker Compose writes it (512m, 1g, plain bytes) in MiB."""
    match = SIZE.match(str(value)) if isinstance(value, (str, int, float)) and not isinstance(value, bool) else None
    if not match:
        return None
    factor = {"": 1 / 1048576, "k": 1 / 1024, "m": 1, "g": 1024, "t": 1048576}[match.group(2).lower()]
    return float(match.group(1)) * factor


def memory_of(values: Values, tiers: t.Iterable[str]) -> dict[str, int]:
    """Memory limits of the members on a host in MiB, by variable."""
    limits = {}
    for tier in tiers:
        for name in (TIERS.get(tier) or SERVICES[tier]).memory:
            value = values.get(name)
            amount = mebibytes(f"{value}m" if name.endswith("_mib") and str(value).isdigit() else value)
            if amount:
                limits[name] = math.ceil(amount)
    return limits


# --- Images --------------------------------------------------------------------------------------------------------------------------

REFERENCE = re.compile(
    r"^(?P<registry>(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:]+\])(?::[0-9]{1,5})?)"
    r"/(?P<name>[a-z0-9]+(?:(?:\.|_{1,2}|-+|/)[a-z0-9]+)*)"
    r"(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}))?"
    r"(?:@(?P<digest>sha256:[0-9a-f]{64}))?$"
)
REFERENCE_FORM = "host[:port]/name@sha256:<64 hexadecimal digits>"


@dataclasses.dataclass(frozen=True)
class Image:
    """A parsed image reference."""

    registry: str
    name: str
    tag: str | None
    digest: str | None

    @property
    def version(self) -> str:
        return self.digest or self.tag or "latest"


def parse_image(reference: t.Any) -> Image | None:
    match = REFERENCE.match(reference) if isinstance(reference, str) else None
    if not match:
        return None
    registry = match.group("registry")
    if "." not in registry and ":" not in registry and registry != "localhost":
        return None
    return Image(registry, match.group("name"), match.group("tag"), match.group("digest"))


def check_images(findings: Findings, groups: Groups, hosts: Hosts, tiers: t.Iterable[str]) -> dict[str, Image]:
    """Form and completeness of platform_images. Returns the parsed ones, by the reference's text."""
    good: dict[str, Image] = {}
    tiers = list(tiers)
    for host, values in hosts.items():
        images = values.get("platform_images")
        if not isinstance(images, t.Mapping):
            continue
        needed = {image: name for name in tiers if host in groups.get(name, ()) for image in (TIERS.get(name) or SERVICES[name]).images}
        for wanted, tier in sorted(needed.items()):
            if not images.get(wanted):
                guess = closest(wanted, [key for key in images if key not in needed])
                findings.add(
                    "IMAGE_MISSING",
                    f"platform_images has no image {wanted}, which the tier {tier} runs." + (f" Did you mean its entry {guess}?" if guess else ""),
                    host,
                    variable=f"platform_images.{wanted}",
                    value="undefined",
                    accepted=REFERENCE_FORM,
                    mend=f"Add {wanted} to platform_images (group_vars/all/images.yml).",
                )
        for name, reference in sorted(images.items()):
            if not reference:
                continue
            fields = {"variable": f"platform_images.{name}", "value": show(reference), "accepted": REFERENCE_FORM}
            image = parse_image(reference)
            if image is None:
                mend = "Write the reference with the registry's host name, the image's name and its digest."
                findings.add("IMAGE_FORMAT", f"platform_images.{name} is not a full image reference.", host, mend=mend, **fields)
                continue
            if image.digest is None and values.get("platform_allow_unpinned_images") is not True:
                tag = f"the tag {image.tag}" if image.tag else "no tag and no digest"
                findings.add(
                    "IMAGE_UNPINNED",
                    f"platform_images.{name} has {tag}; what a tag names can change from one host to the next.",
                    host,
                    mend="Look the digest up (docker buildx imagetools inspect, or skopeo inspect) and write name@sha256:...; "
                    "for an experiment set platform_allow_unpinned_images: true.",
                    **fields,
                )
                continue
            good[str(reference)] = image
    return good


@dataclasses.dataclass(frozen=True)
class Presence:
    """Where an image was looked for: C(found) is none if nothing could be said."""

    found: bool | None
    reason: str = ""
    missing: bool = False


def source_for(image: Image, registry_images: t.Any) -> t.Mapping[str, t.Any] | None:
    """The entry of registry_images that fills the registry with this image."""
    for entry in registry_images if isinstance(registry_images, (list, tuple)) else ():
        if not isinstance(entry, t.Mapping) or entry.get("name") != image.name:
            continue
        digest = str(entry.get("digest") or "")
        if digest and not digest.startswith("sha256:"):
            digest = f"sha256:{digest}"
        if (image.digest and digest == image.digest) or (not image.digest and str(entry.get("tag", "latest")) == image.version):
            return entry
    return None


def digests_of_index(index: t.Any) -> set[str]:
    """Digests that an OCI layout's index.json names."""
    manifests = index.get("manifests", ()) if isinstance(index, t.Mapping) else ()
    return {str(item.get("digest")) for item in manifests if isinstance(item, t.Mapping)}


def check_presence(findings: Findings, image: Image, reference: str, variable: str, hosts: t.Iterable[str], source: Presence, registry: Presence) -> None:
    """An image must be in a source or in the registry. Nothing is said where neither could be asked."""
    if source.found or registry.found:
        return
    if source.found is None and registry.found is None:
        return
    reasons = [reason for reason in (source.reason, registry.reason) if reason]
    findings.add(
        "IMAGE_NOT_FOUND",
        f"The image {image.name} with {image.version[:19]}... cannot be had: {'; '.join(reasons)}."
        if image.digest
        else f"The image {image.name}:{image.version} cannot be had: {'; '.join(reasons)}.",
        hosts,
        variable=variable,
        value=show(reference),
        accepted="a digest that is in a source listed in registry_images, or already in the registry",
        mend=f"Correct {variable}, or build and list the image in registry_images, or push it to {image.registry}.",
    )


# --- Secrets -------------------------------------------------------------------------------------------------------------------------

SECRET_MINIMUM = 16
SECRET_MINIMUMS = {"platform_ca_passphrase": 24, "minio_root_password": 24, "api_secret_key": 32, "mongodb_keyfile": 32}
COMMON_WORDS = (
    "minioadmin",
    "administrator",
    "changethis",
    "change-me",
    "change_me",
    "changeme",
    "passphrase",
    "password",
    "passw0rd",
    "p@ssw0rd",
    "p4ssw0rd",
    "default",
    "example",
    "letmein",
    "welcome",
    "replace",
    "secret",
    "qwerty",
    "123456",
    "dragon",
    "admin",
    "redis",
    "minio",
    "mongodb",
    "neo4j",
    "root",
    "test",
    "user",
    "key",
)
MINIMUM_BITS = 48
MINIMUM_DISTINCT = 8
# The secrets of each tier; what the roles' argument specs mark no_log is added.
SECRETS: dict[str, tuple[str, ...]] = {
    "platform": ("platform_registry_password", "platform_ca_passphrase"),
    "minio": ("minio_root_password", "minio_api_secret_key", "minio_pipeline_secret_key"),
    "redis": ("redis_admin_password", "redis_api_password", "redis_pipeline_password", "redis_sentinel_password", "redis_replication_password"),
    "mongodb": ("mongodb_keyfile", "mongodb_admin_password", "mongodb_api_password", "mongodb_applier_password"),
    "neo4j": ("neo4j_password", "neo4j_api_password", "neo4j_applier_password"),
    "api": ("api_secret_key", "api_admin_password"),
    "edge": ("edge_vrrp_password",),
}


def all_secrets() -> list[str]:
    return [name for names in SECRETS.values() for name in names]


def minimum_length(name: str) -> int:
    return SECRET_MINIMUMS.get(name, SECRET_MINIMUM)


def shannon_bits(text: str) -> float:
    """Shannon entropy of a text's characters, times its length: a floor for variety, not a measure of how it was made."""
    counts = collections.Counter(text)
    return -sum(count * math.log2(count / len(text)) for count in counts.values()) if text else 0.0


# What a system takes at most: MinIO's secret keys, bcrypt in the registry's password file, VRRP's password. Sources: madmin's IsSecretKeyValid,
# htpasswd(1), keepalived.conf(5).
SECRET_MAXIMUMS = ((re.compile(r"^minio_.+_secret_key$"), 40), (re.compile(r"^platform_registry_password$"), 72))
# Characters that would end a value in the files of a system that has no way to quote them.
SECRET_FORBIDDEN = ((re.compile(r"^redis_"), '"\\'),)


def misfit(name: str, value: str) -> str | None:
    """Why the system that a strong secret is for could not take it, or none."""
    for pattern, maximum in SECRET_MAXIMUMS:
        if pattern.match(name) and len(value.encode()) > maximum:
            return f"has {len(value.encode())} bytes, and at most {maximum} are accepted"
    for pattern, characters in SECRET_FORBIDDEN:
        found = [character for character in characters if pattern.match(name) and character in value]
        if found:
            return f"has the character {found[0]} in it"
    return None


def weakness(name: str, value: str) -> str | None:
    """Why a secret is too weak, or none."""
    minimum = minimum_length(name)
    if len(value) < minimum:
        return f"it has {quantity(len(value), 'character')}"
    rest = value.lower()
    for word in COMMON_WORDS:
        rest = rest.replace(word, "")
    if len(rest) < len(value) and len(re.sub(r"[^a-z0-9]", "", rest)) < SECRET_MINIMUM * 2 // 3:
        return "it is made of common words"
    steps = [ord(after) - ord(before) for before, after in zip(value, value[1:], strict=False)]
    if sum(abs(step) <= 1 for step in steps) * 2 > len(steps):
        return "it is a sequence or a repetition"
    if len(set(value)) < MINIMUM_DISTINCT:
        return f"it has only {quantity(len(set(value)), 'different character')}"
    if shannon_bits(value) < MINIMUM_BITS:
        return "its characters have too little variety"
    return None


MAKE_SECRET = "ansible-playbook playbooks/secrets.yml -i <inventory> writes a vaulted group_vars/all/vault.yml with strong ones"


def missing_secret(findings: Findings, name: str, hosts: t.Iterable[str]) -> None:
    findings.add(
        "SECRET_MISSING",
        f"The secret {name} is not defined.",
        hosts,
        variable=name,
        value="undefined",
        accepted=f"a random value of {minimum_length(name)} or more characters",
        mend=f"Add {name} to group_vars/all/vault.yml (ansible-vault edit); if there is no vault yet, {MAKE_SECRET}.",
    )


def check_secrets(findings: Findings, hosts: Hosts, secrets: t.Iterable[str], own: t.Callable[[str, str], bool] = lambda host, name: True) -> None:
    """Strength and difference of the secrets that are there. C(own) says whether a value is given by the inventory (and not derived from another)."""
    by_value: dict[str, dict[str, list[str]]] = {}
    for name in sorted(set(secrets)):
        for host, values in hosts.items():
            value = values.get(name)
            if not isinstance(value, str) or not value or "-----BEGIN" in value or not own(host, name):
                continue
            fields = {
                "variable": name,
                "value": show(value, True),
                "accepted": f"{minimum_length(name)} or more random characters without white space",
                "mend": f"Put a new value into the vault, for example from: openssl rand -base64 {max(24, minimum_length(name))}",
            }
            if any(character.isspace() or not character.isprintable() for character in value):
                where = "begins or ends with white space" if value != value.strip() else "has white space or control characters in it"
                findings.add("SECRET_FORMAT", f"The secret {name} {where}.", host, **fields)
            elif misfit(name, value):
                findings.add("SECRET_FORMAT", f"The secret {name} {misfit(name, value)}.", host, **fields)
            reason = weakness(name, value)
            if reason:
                findings.add("SECRET_WEAK", f"The secret {name} is too weak: {reason}.", host, **fields)
            by_value.setdefault(value, {}).setdefault(name, []).append(host)
    for value, names in by_value.items():
        if len(names) > 1:
            first, *others = sorted(names)
            findings.add(
                "SECRET_REUSED",
                f"{listing([first, *others])} have the same value: who learns one has the other too.",
                [host for host in hosts if any(host in found for found in names.values())],
                variable=", ".join([first, *others]),
                value=show(value, True),
                accepted="a value of its own for each secret",
                mend=f"Put new values for {listing(others)} into the vault.",
            )


def check_access_keys(findings: Findings, hosts: Hosts) -> None:
    """User names at MinIO: what `mc admin user add` and the server accept."""
    for host, values in hosts.items():
        keys = {name: value for name, value in values.items() if name == "minio_root_user" or name.endswith("_minio_access_key")}
        users = values.get("minio_users")
        for number, user in enumerate(users if isinstance(users, (list, tuple)) else ()):
            if isinstance(user, t.Mapping) and "access_key" in user:
                keys[f"minio_users[{number}].access_key"] = user["access_key"]
        for name, value in sorted(keys.items()):
            if not isinstance(value, str) or (len(value) >= 3 and not set("=, \t\n") & set(value)):
                continue
            findings.add(
                "ACCESS_KEY_INVALID",
                f"{name} is {show(value)}.",
                host,
                variable=name,
                value=show(value),
                accepted="3 or more characters without '=', ',' and white space",
                mend=f"Correct {name}.",
            )


# --- The private CA ------------------------------------------------------------------------------------------------------------------

CA_SOON = datetime.timedelta(days=30)


def check_ca(
    findings: Findings, certificate: bytes, key: bytes | None, passphrase: str | None, now: datetime.datetime, directory: str, hosts: t.Iterable[str] = ()
) -> None:
    """The CA's certificate, and its key with the passphrase."""
    path = f"{directory}/ca.crt"
    fields: dict[str, t.Any] = {"variable": "platform_pki_dir", "value": show(path)}
    try:
        from cryptography import x509
        from cryptography.hazmat.primitives import serialization
    except ImportError:
        mend = "Install the requirements: pip install -r requirements.txt."
        findings.add("CA_UNREADABLE", "The Python package cryptography is not installed on the controller.", hosts, mend=mend, **fields)
        return
    renew = f"Move {directory} away and run site.yml again: the role tls makes a new CA and new certificates."
    try:
        cert = x509.load_pem_x509_certificate(certificate)
    except ValueError as error:
        findings.add("CA_UNREADABLE", f"{path} is not a certificate: {error}", hosts, accepted="a certificate in PEM form", mend=renew, **fields)
        return
    begin, end = cert.not_valid_before_utc, cert.not_valid_after_utc
    if now > end:
        message = f"The private CA's certificate expired on {end:%Y-%m-%d %H:%M} UTC."
        findings.add("CA_EXPIRED", message, hosts, accepted="a certificate that is valid now", mend=renew, **fields)
    elif now < begin:
        message = f"The private CA's certificate is valid only from {begin:%Y-%m-%d %H:%M} UTC; the controller's clock says {now:%Y-%m-%d %H:%M}."
        mend = "Set the controller's clock, or make a new CA."
        findings.add("CA_NOT_YET_VALID", message, hosts, accepted="a certificate that is valid now", mend=mend, **fields)
    elif end - now < CA_SOON:
        message = f"The private CA's certificate expires on {end:%Y-%m-%d} ({quantity((end - now).days, 'day')} left)."
        findings.add("CA_EXPIRES_SOON", message, hosts, accepted="30 or more days", mend=renew, **fields)
    if not _may_sign(x509, cert):
        message = f"{path} is not the certificate of a CA that may sign certificates."
        accepted = "basic constraints CA:TRUE and key usage keyCertSign"
        findings.add("CA_NOT_A_CA", message, hosts, accepted=accepted, mend=renew, **fields)
    if key is None:
        message = f"{directory}/ca.key is missing: certificates can be used, but none can be issued or renewed."
        mend = f"Restore ca.key from its backup. If it is lost: {renew}"
        findings.add("CA_KEY_MISSING", message, hosts, accepted="the CA's encrypted key beside its certificate", mend=mend, **fields)
        return
    fields["value"] = show(f"{directory}/ca.key")
    if b"ENCRYPTED" not in key:
        message = f"{directory}/ca.key is not encrypted."
        mend = f"Encrypt it with platform_ca_passphrase: openssl pkcs8 -topk8 -v2 aes-256-cbc -in {directory}/ca.key -out {directory}/ca.key.new, then rename."
        findings.add("CA_KEY_PLAIN", message, hosts, accepted="an encrypted PKCS#8 key in PEM form", mend=mend, **fields)
        return
    if not passphrase:
        return
    try:
        private = serialization.load_pem_private_key(key, passphrase.encode())
    except (ValueError, TypeError):
        message = f"platform_ca_passphrase does not open {directory}/ca.key."
        mend = "Put the passphrase that the CA was made with into the vault, or restore the key that belongs to this one."
        fields.update(variable="platform_ca_passphrase", value=show(passphrase, True))
        findings.add("CA_PASSPHRASE", message, hosts, accepted="the passphrase that the key was encrypted with", mend=mend, **fields)
        return
    form = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    if private.public_key().public_bytes(*form) != cert.public_key().public_bytes(*form):
        message = f"{directory}/ca.key does not belong to {path}."
        mend = "Restore both files from the same backup."
        findings.add("CA_KEY_MISMATCH", message, hosts, accepted="the key of the certificate", mend=mend, **fields)


def _may_sign(x509: t.Any, cert: t.Any) -> bool:
    try:
        if not cert.extensions.get_extension_for_class(x509.BasicConstraints).value.ca:
            return False
        return bool(cert.extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign)
    except x509.ExtensionNotFound as error:
        # A missing key usage restricts nothing, missing basic constraints make no CA.
        return bool(error.oid == x509.oid.ExtensionOID.KEY_USAGE)


# --- Hosts: what came back from preflight --------------------------------------------------------------------------------------------


def unreachable(findings: Findings, host: str, values: Values, text: str) -> None:
    address = values.get("ansible_host") or values.get("platform_address") or host
    user = values.get("ansible_user") or values.get("ansible_ssh_user") or "the current user"
    port = values.get("ansible_port") or values.get("ansible_ssh_port") or 22
    text = " ".join(str(text).split())
    lower = text.lower()
    if "permission denied" in lower or "authentication" in lower:
        mend = f"Put the controller's public key into the authorized_keys of {user}, or correct ansible_user and ansible_ssh_private_key_file."
    elif "host key" in lower or "identification has changed" in lower:
        mend = f"Compare the host's key with one you trust and add it to known_hosts (ssh-keyscan -p {port} {address})."
    elif "resolve" in lower or "not known" in lower:
        mend = f"Set ansible_host of {host} to an address, or make the name resolvable."
    elif "refused" in lower:
        mend = f"Start the SSH server of {host}, or correct ansible_port."
    else:
        mend = f"Check that {host} is up and that the controller gets through to port {port}: ssh -p {port} {address}."
    findings.add(
        "HOST_UNREACHABLE",
        f"{host} cannot be reached as {user} at {address}, port {port}: {text or 'no reason given'}",
        host,
        variable="ansible_host",
        value=f"{address}:{port}",
        accepted="a host that answers SSH with public key authentication",
        mend=mend,
    )


def check_preflight_result(findings: Findings, host: str, values: Values, result: t.Any) -> None:
    """Take over what a host said, or say why it said nothing."""
    if not isinstance(result, t.Mapping) or not result or result.get("skipped"):
        return
    if result.get("unreachable"):
        unreachable(findings, host, values, str(result.get("msg", "")))
    elif "findings" in result:
        for finding in result["findings"]:
            findings.add_dict({**finding, "hosts": finding.get("hosts") or [host]})
    else:
        parts = [str(result[name]) for name in ("msg", "module_stderr", "module_stdout", "exception") if result.get(name)]
        text = " ".join(" ".join(parts[:2] or ["no answer"]).split())
        if re.search(r"\bsudo|\bdoas\b|\bsu: |(?:Missing|Incorrect) \w+ password", " ".join(parts), re.IGNORECASE):
            findings.add(
                "BECOME_FAILED",
                f"The user on {host} cannot become root: {text[:400]}",
                host,
                variable="ansible_become",
                value="true",
                accepted="a user that may become root",
                mend="Give the user passwordless sudo, or put ansible_become_password into the vault.",
            )
            return
        findings.add(
            "PREFLIGHT_FAILED",
            f"The check of {host} could not run: {text[:400]}",
            host,
            variable="ansible_python_interpreter",
            value=show(values.get("ansible_python_interpreter", "/usr/bin/python3")),
            accepted="Python 3.9 or newer",
            mend="Install python3 on the host, or set ansible_python_interpreter.",
        )


# --- Accepted risks and the report ---------------------------------------------------------------------------------------------------


def check_risks(findings: Findings, hosts: Hosts) -> None:
    names = sorted({str(item) for values in hosts.values() for item in risks_of(values)})
    acceptable = [code for code, entry in CODES.items() if entry.acceptable]
    for name in names:
        if name in acceptable:
            continue
        guess = closest(name, acceptable)
        findings.add(
            "RISK_UNKNOWN",
            f"platform_accept_risks names {name}, " + ("which cannot be accepted." if name in CODES else "which is not the code of a finding."),
            [host for host, values in hosts.items() if name in risks_of(values)],
            variable="platform_accept_risks",
            value=show(name),
            accepted=", ".join(acceptable),
            mend=f"Did you mean {guess}?" if guess else f"Remove {name}.",
        )


def risks_of(values: Values) -> list[str]:
    risks = values.get("platform_accept_risks")
    return [str(item) for item in risks] if isinstance(risks, (list, tuple)) else []


def accept_risks(findings: t.Sequence[Finding], hosts: Hosts) -> list[Finding]:
    """Errors that the operator accepts for all hosts concerned become warnings."""
    result = []
    for finding in findings:
        concerned = [hosts[host] for host in finding.hosts if host in hosts] or list(hosts.values())
        accepted = bool(concerned) and all(finding.code in risks_of(values) for values in concerned)
        if finding.level == ERROR and finding.code in CODES and CODES[finding.code].acceptable and accepted:
            finding = dataclasses.replace(finding, level=WARNING, accepted_risk=True)
        result.append(finding)
    return sorted(result, key=lambda item: item.level != ERROR)


def count_levels(findings: t.Iterable[Finding]) -> tuple[int, int]:
    levels = collections.Counter(finding.level for finding in findings)
    return levels[ERROR], levels[WARNING]


def summary(findings: t.Sequence[Finding]) -> str:
    errors, warnings = count_levels(findings)
    return f"{quantity(errors, 'error')} and {quantity(warnings, 'warning')}"


def report(findings: t.Sequence[Finding], every_host: t.Collection[str] = (), title: str = "Validation") -> str:
    """The findings for a person, errors first."""
    lines = [f"{title}: {summary(findings)}."]
    for finding in findings:
        hosts = ""
        if finding.hosts:
            hosts = " on all hosts" if len(every_host) > 1 and set(finding.hosts) == set(every_host) else " on " + ", ".join(finding.hosts)
        risk = ", risk accepted" if finding.accepted_risk else ""
        lines += ["", f"{finding.level.upper()} {finding.code}{hosts}{risk}", f"  problem:  {finding.message}"]
        for label, text in (("variable", finding.variable), ("value", finding.value), ("accepted", finding.accepted), ("to mend", finding.mend)):
            if text:
                lines.append(f"  {label + ':':<9} {text}")
    return "\n".join(lines)
