# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import base64
import json
import ssl
import typing as t
import urllib.request

import checks
import pytest

if t.TYPE_CHECKING:
    from testinfra.host import Host

testinfra_hosts = ["ansible://registry"]

Value = t.Callable[[str], t.Any]


@pytest.fixture(scope="module")
def ca(host: Host, value: Value) -> str:
    """The CA's certificate on the host, where the role docker put it."""
    return f"/etc/docker/certs.d/{value('platform_registry')}/ca.crt"


def login(value: Value) -> dict[str, str]:
    word = base64.b64encode(f"{value('platform_registry_username')}:{value('platform_registry_password')}".encode()).decode()
    return {"Authorization": f"Basic {word}"}


def test_service_runs_and_starts_at_boot(host: Host) -> None:
    service = host.service("docker-registry")
    assert service.is_running
    assert service.is_enabled


def test_service_is_confined(host: Host) -> None:
    wanted = {"NoNewPrivileges": "yes", "ProtectSystem": "strict", "PrivateTmp": "yes", "User": "docker-registry"}
    out = host.check_output(f"systemctl show docker-registry --property {','.join(wanted)}")
    assert dict(line.split("=", 1) for line in out.splitlines()) == wanted


def test_refuses_strangers(host: Host, value: Value, ca: str) -> None:
    answer = checks.get(host, f"https://{value('platform_registry')}/v2/_catalog", ca)
    assert answer.status == 401


def test_refuses_a_wrong_password(host: Host, value: Value, ca: str) -> None:
    word = base64.b64encode(f"{value('platform_registry_username')}:wrong".encode()).decode()
    assert checks.get(host, f"https://{value('platform_registry')}/v2/", ca, {"Authorization": f"Basic {word}"}).status == 401


def test_refuses_old_tls(host: Host, value: Value) -> None:
    # At its usual security level the client would not even ask. The alert is the server's.
    answer = host.run(f"openssl s_client -connect {value('platform_registry')} -tls1_1 -cipher DEFAULT:@SECLEVEL=0 </dev/null 2>&1")
    assert "alert protocol version" in answer.stdout


def manifest(url: str, headers: dict[str, str], ca: str) -> dict[str, t.Any]:
    """A manifest, asked for from here: a password in a command on the host would be seen in its process list and journal."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=ssl.create_default_context(cafile=ca)))
    with opener.open(urllib.request.Request(url, headers=headers), timeout=10) as answer:
        return dict(json.load(answer))


def test_holds_every_image_of_the_platform(value: Value) -> None:
    accept = "application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json, application/vnd.oci.image.index.v1+json"
    for reference in value("platform_images").values():
        server, _slash, rest = reference.partition("/")
        if server != value("platform_registry"):
            continue
        repository, _at, digest = rest.partition("@")
        found = manifest(f"https://{server}/v2/{repository}/manifests/{digest}", {**login(value), "Accept": accept}, f"{value('platform_pki_dir')}/ca.crt")
        assert found["config"]["digest"], reference


def test_secrets_can_be_read_by_the_service_alone(host: Host) -> None:
    for name in ("tls.key", "htpasswd"):
        secret = host.file(f"/etc/docker/registry/{name}")
        assert (secret.user, secret.mode) == ("docker-registry", 0o400)


def test_settings_belong_to_root(host: Host) -> None:
    settings = host.file("/etc/docker/registry/config.yml")
    assert (settings.user, settings.mode & 0o022) == ("root", 0)
