# SPDX-License-Identifier: GPL-3.0-or-later
"""What a validation reads: roles, layouts, and a registry that answers over real TLS."""

from __future__ import annotations

import base64
import datetime
import http.server
import ipaddress
import json
import pathlib
import ssl
import threading
import typing as t
import urllib.error

import pytest

from ansible_collections.novacorrente.platform.plugins.plugin_utils import _validation as core
from ansible_collections.novacorrente.platform.plugins.plugin_utils import _validation_io as io

DIGEST = "sha256:" + "ab" * 32
OTHER = "sha256:" + "cd" * 32


def image(name: str = "redis", digest: str = DIGEST, registry: str = "192.0.2.20:5000") -> core.Image:
    return core.Image(registry, name, None, digest)


def test_roles_are_read_with_their_dependencies(tmp_path: pathlib.Path) -> None:
    for name in ("one", "two", "three"):
        (tmp_path / name / "meta").mkdir(parents=True)
    (tmp_path / "one/meta/argument_specs.yml").write_text("argument_specs: {main: {options: {one_a: {type: int}}}, other: {options: {one_b: {}}}}\n")
    (tmp_path / "one/meta/main.yml").write_text("dependencies: [{role: novacorrente.platform.two}, three]\n")
    (tmp_path / "one/templates/x").mkdir(parents=True)
    (tmp_path / "one/templates/x/secret.j2").write_text("{{ two_password }}\n")
    (tmp_path / "two/meta/argument_specs.yml").write_text("argument_specs: {main: {}}\n")
    roles = io.load_roles(str(tmp_path))
    assert sorted(roles) == ["one", "two"]
    assert set(roles["one"].options) == {"one_a", "one_b"}
    assert roles["one"].dependencies == ("two", "three")
    assert "two_password" in roles["one"].words and not roles["two"].words


def test_vaulted_files_are_told_apart(tmp_path: pathlib.Path) -> None:
    (tmp_path / "group_vars/all").mkdir(parents=True)
    (tmp_path / "host_vars").mkdir()
    (tmp_path / "group_vars/all/vault.yml").write_text("$ANSIBLE_VAULT;1.2;AES256;platform\n00\n")
    (tmp_path / "group_vars/all/vault.yml.example").write_text("a: b\n")
    (tmp_path / "host_vars/h.yml").write_text("a: b\n")
    files = io.inventory_files([str(tmp_path)])
    assert [pathlib.Path(path).name for path in files] == ["vault.yml", "h.yml"]
    assert [io.is_vaulted(path) for path in files] == [True, False]
    assert not io.is_vaulted(str(tmp_path / "none"))


def test_time_zones() -> None:
    assert io.is_time_zone("Etc/UTC")
    assert not io.is_time_zone("Mars/Olympus")
    assert not io.is_time_zone("../../etc/passwd")


def layout(path: pathlib.Path) -> str:
    path.mkdir(exist_ok=True)
    (path / "index.json").write_text(json.dumps({"manifests": [{"digest": DIGEST}]}))
    (path / "blobs/sha256").mkdir(parents=True)
    (path / "blobs/sha256" / OTHER[7:]).write_text("{}")
    return str(path)


def test_sources(tmp_path: pathlib.Path) -> None:
    path = layout(tmp_path / "layout")
    assert io.source_presence(image(), f"oci:{path}:latest").found is True
    assert io.source_presence(image(digest=OTHER), f"oci:{path}").found is True
    missing = io.source_presence(image(digest="sha256:" + "ee" * 32), f"oci:{path}:latest")
    assert missing.found is False and "does not hold this digest" in missing.reason
    assert "no OCI layout" in io.source_presence(image(), f"oci:{tmp_path}/none:latest").reason
    (tmp_path / "layout/index.json").write_text("{")
    assert "cannot be read" in io.source_presence(image(), f"oci:{path}").reason
    assert "does not exist" in io.source_presence(image(), f"docker-archive:{tmp_path}/none.tar").reason
    assert io.source_presence(image(), "docker://docker.io/library/redis@" + DIGEST).found is True


@pytest.mark.parametrize(("status", "found"), [(200, True), (404, False), (401, True), (500, True)])
def test_a_registry_that_is_copied_from_is_asked(monkeypatch, status, found):
    asked = []

    def open_url(url, **options):
        asked.append(url)
        if status != 200:
            raise urllib.error.HTTPError(url, status, "", {}, None)

    monkeypatch.setattr(io, "open_url", open_url)
    assert io.source_presence(image(), "docker://docker.io/redis", online=True).found is found
    assert asked == ["https://registry-1.docker.io/v2/library/redis/manifests/" + DIGEST]


def test_a_source_without_transport_is_named():
    assert "no transport" in io.source_presence(image(), "redis").reason


def certificate(directory: pathlib.Path) -> tuple[str, str]:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    now = datetime.datetime.now(datetime.UTC)
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "registry")])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
    builder = builder.not_valid_before(now - datetime.timedelta(days=1)).not_valid_after(now + datetime.timedelta(days=1))
    builder = builder.add_extension(x509.BasicConstraints(True, None), True)
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
    builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
    crt, pem = directory / "ca.crt", directory / "tls.key"
    crt.write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    pem.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
    return str(crt), str(pem)


class Registry(http.server.BaseHTTPRequestHandler):
    credentials = "Basic " + base64.b64encode(b"platform:correct").decode()

    def do_HEAD(self) -> None:
        if self.headers.get("Authorization") != self.credentials:
            code = 401
        elif "broken" in self.path:
            code = 500
        else:
            code = 200 if self.path == f"/v2/redis/manifests/{DIGEST}" and "oci.image.index" in self.headers["Accept"] else 404
        self.send_response(code)
        self.end_headers()

    def log_message(self, *args: t.Any) -> None:
        pass


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[tuple[str, str]]:
    crt, key = certificate(tmp_path_factory.mktemp("registry"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Registry) as server:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(crt, key)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_port}", crt
        server.shutdown()


@pytest.mark.parametrize(
    ("name", "digest", "password", "trusted", "found", "reason"),
    [
        ("redis", DIGEST, "correct", True, True, ""),
        ("redis", OTHER, "correct", True, False, "does not have it"),
        ("minio", DIGEST, "correct", True, False, "does not have it"),
        ("redis", DIGEST, "wrong", True, False, "refuses the user platform"),
        ("redis", DIGEST, None, True, False, "refuses the user"),
        ("broken", DIGEST, "correct", True, False, "answers HTTP 500"),
        ("redis", DIGEST, "correct", False, False, "does not answer"),
    ],
)
def test_the_registry_is_asked(registry: tuple[str, str], name: str, digest: str, password: str | None, trusted: bool, found: bool, reason: str) -> None:
    host, ca = registry
    access = io.RegistryAccess(host, "platform", password, ca if trusted else None)
    answer = io.registry_presence(image(name, digest, host), access)
    assert answer.found is found and reason in answer.reason
    assert not password or password not in answer.reason


def test_a_registry_that_is_not_there() -> None:
    images = [image(registry="127.0.0.1:9"), image("minio", registry="127.0.0.1:9")]
    answers = io.registry_presences([*images, images[0]], io.RegistryAccess("127.0.0.1:9", timeout=1))
    assert set(answers) == set(images)
    assert all(answer.found is False and "does not answer" in answer.reason for answer in answers.values())
    assert io.registry_presences([], io.RegistryAccess("x")) == {}


def test_credentials_are_for_the_own_registry_only(registry: tuple[str, str]) -> None:
    host, ca = registry
    answer = io.registry_presence(image(registry=host), io.RegistryAccess("192.0.2.20:5000", "platform", "correct", ca))
    assert answer.found is False
