# SPDX-License-Identifier: GPL-3.0-or-later
"""Bad input stops before the first change and names the variable, the value, and what is accepted."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import json
import shutil
import subprocess
import typing as t

import pytest
import support
import yaml

Edit = t.Callable[[dict[str, t.Any]], None]


@dataclasses.dataclass(frozen=True)
class Case:
    """One bad input: extra variables, an edit of hosts.yml, or a condition made on a host; and what its finding must name.

    Cases of one group do not touch the same thing: a single run has to find them all.
    """

    name: str
    group: int
    says: tuple[str, ...]
    variables: dict[str, t.Any] = dataclasses.field(default_factory=dict)
    hosts: Edit | None = None
    around: t.Callable[[], t.ContextManager[None]] | None = None
    files: t.Callable[[str], None] | None = None


def children(inventory: dict[str, t.Any]) -> dict[str, t.Any]:
    return dict(inventory["all"]["children"])


def unknown_zone(inventory: dict[str, t.Any]) -> None:
    children(inventory)["minio"]["hosts"]["data2"]["platform_zone"] = "z"


def two_minio_nodes(inventory: dict[str, t.Any]) -> None:
    for host in ("data3", "data4"):
        del children(inventory)["minio"]["hosts"][host]


def two_redis_members(inventory: dict[str, t.Any]) -> None:
    del children(inventory)["redis"]["hosts"]["data3"]


def no_edge(inventory: dict[str, t.Any]) -> None:
    children(inventory)["edge"]["hosts"] = {}


def half_zoned(inventory: dict[str, t.Any]) -> None:
    del children(inventory)["minio"]["hosts"]["data2"]["platform_zone"]


def an_unreachable_host(inventory: dict[str, t.Any]) -> None:
    children(inventory)["api"]["hosts"]["app9"] = {"ansible_host": "198.18.0.99", "platform_zone": "c"}


def an_address_twice(inventory: dict[str, t.Any]) -> None:
    children(inventory)["minio"]["hosts"]["data2"]["platform_address"] = support.address("data1")


@contextlib.contextmanager
def full_disk() -> t.Iterator[None]:
    """The platform's directory of one host lies on a small file system for the time of the run (seen by the host's root only)."""
    host = "app2"
    support.ssh(
        host,
        "mkdir -p /mnt/small && mount -t tmpfs -o size=8m tmpfs /mnt/small && mkdir /mnt/small/platform && fallocate -l 7M /mnt/small/fill",
    )
    try:
        yield
    finally:
        support.ssh(host, "umount /mnt/small; rmdir /mnt/small")


@contextlib.contextmanager
def port_taken() -> t.Iterator[None]:
    """Another program listens where the second slot of the API would."""
    host = "app2"
    support.ssh(host, "systemd-run --quiet --unit=squatter python3 -m http.server 8002")
    try:
        support.wait_for("the squatter listens", lambda: ":8002" in support.ssh(host, "ss -Hltn"), 10)
        yield
    finally:
        support.ssh(host, "systemctl stop squatter")


def expired_ca(inventory: str) -> None:
    """A CA that ended yesterday takes the place of the real one."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import Encoding

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "expired")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=30))
        .not_valid_after(now - datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    with open(f"{inventory}/pki/ca.crt", "wb") as stream:
        stream.write(certificate.public_bytes(Encoding.PEM))


def missing_secret(inventory: str) -> None:
    path = f"{inventory}/group_vars/all/vault.yml"
    plain = subprocess.run(
        [str(support.BIN / "ansible-vault"), "view", path], cwd=support.REPO, env=support.environment(), check=True, capture_output=True, text=True
    ).stdout
    values = yaml.safe_load(plain)
    del values["minio_root_password"]
    subprocess.run(
        [str(support.BIN / "ansible-vault"), "encrypt", "--encrypt-vault-id", "platform", "--output", path, "-"],
        cwd=support.REPO,
        env=support.environment(),
        check=True,
        capture_output=True,
        input=yaml.safe_dump(values),
        text=True,
    )


def no_such_image() -> dict[str, str]:
    images = dict(support.hostvars("data1")["platform_images"])
    images["redis"] = images["redis"].split("@")[0] + "@sha256:" + "0" * 64
    return images


def image_by_tag() -> dict[str, str]:
    images = dict(support.hostvars("data1")["platform_images"])
    images["redis"] = images["redis"].split("@")[0] + ":latest"
    return images


CASES = [
    Case("unknown_zone", 1, ("platform_zone", "'z'", "data2"), hosts=unknown_zone),
    Case("two_minio_nodes", 2, ("cluster minio", "fewer than 4"), hosts=two_minio_nodes),
    Case("two_redis_members", 1, ("redis", "3"), hosts=two_redis_members),
    Case("no_edge", 2, ("group edge", "empty"), hosts=no_edge),
    Case("some_hosts_without_zone", 2, ("platform_zone", "data2"), hosts=half_zoned),
    Case("unreachable_host", 1, ("app9", "198.18.0.99"), hosts=an_unreachable_host),
    Case("address_twice", 1, ("platform_address", "198.18.0.31", "data2"), hosts=an_address_twice),
    Case("missing_secret", 1, ("minio_root_password",), files=missing_secret),
    Case("weak_secret", 1, ("api_secret_key", "characters"), variables={"api_secret_key": "changeme"}),
    Case("wrong_type", 1, ("redis_max_clients", "'many'", "whole number"), variables={"redis_max_clients": "many"}),
    Case("misspelled_variable", 1, ("minio_drivs", "minio_drives"), variables={"minio_drivs": ["/x"]}),
    Case("image_that_does_not_exist", 2, ("platform_images", "redis", "0000"), variables={"@images": no_such_image}),
    Case("image_by_tag", 1, ("platform_images", "redis", "sha256"), variables={"@images": image_by_tag}),
    Case("vip_of_a_host", 1, ("platform_vip", "198.18.0.11"), variables={"platform_vip": "198.18.0.11"}),
    Case("vip_that_is_no_address", 2, ("platform_vip", "not-an-address"), variables={"platform_vip": "not-an-address"}),
    Case("expired_ca", 2, ("ca.crt", "expired"), files=expired_ca),
    Case("full_disk", 1, ("platform_root", "/mnt/small", "app2"), variables={"platform_root": "/mnt/small/platform"}, around=full_disk),
    Case("port_taken", 2, ("8002", "app2", "python3"), around=port_taken),
]


def state() -> dict[str, str]:
    """A digest of everything a run could change on the hosts."""
    command = (
        "find /srv/platform /etc -xdev -type f -not -path '*/data*' -printf '%p %T@ %m\\n' 2>/dev/null | grep -v '/edge/run/' | sort | sha256sum;"
        "docker ps -aq | xargs -r docker inspect --format '{{.Name}} {{.State.StartedAt}}' | sort | sha256sum"
    )
    return {host: support.ssh(host, command) for host in support.hosts()}


@pytest.fixture(scope="module")
def untouched() -> t.Iterator[None]:
    before = state()
    yield
    after = state()
    assert {host for host in before if before[host] != after[host]} == set(), "a run that was refused has changed these hosts"


def findings(text: str) -> list[str]:
    """What a run has reported as errors: one text each."""
    return [block for block in text.split("\n\n") if block.startswith("ERROR ")]


@pytest.mark.parametrize(
    "cases",
    [
        *[pytest.param([case for case in CASES if case.group == group], id=f"all_of_group_{group}") for group in sorted({case.group for case in CASES})],
        *[pytest.param([case], id=case.name, marks=pytest.mark.long) for case in CASES],
    ],
)
def test_bad_input_stops_before_the_first_change(cases, untouched):
    inventory = support.REPO / ".cache" / f"bad-{cases[0].name}"
    shutil.rmtree(inventory, ignore_errors=True)
    shutil.copytree(support.INVENTORY, inventory)
    content = yaml.safe_load((inventory / "hosts.yml").read_text())
    variables: dict[str, t.Any] = {}
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, inventory, ignore_errors=True)
        for case in cases:
            if case.hosts:
                case.hosts(content)
            if case.files:
                case.files(str(inventory))
            for name, value in case.variables.items():
                variables["platform_images" if name == "@images" else name] = value() if callable(value) else value
            if case.around:
                stack.enter_context(case.around())
        (inventory / "hosts.yml").write_text(yaml.safe_dump(content))
        run = support.playbook(f"bad-{cases[0].name}", *(["-e", json.dumps(variables)] if variables else []), inventory=inventory)
    assert run.code != 0, "the run was not refused"
    assert run.changed() == {}, run.text[-3000:]
    found = findings(run.text)
    missed = [case.name for case in cases if not any(all(word in finding for word in case.says) for finding in found)]
    assert missed == [], f"no finding names what is wrong: {run.text[-6000:]}"
    assert "Write the host's configuration" not in run.text, "the run went on after validation"
