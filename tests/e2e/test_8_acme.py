# SPDX-License-Identifier: GPL-3.0-or-later
"""The edge gets a public certificate by ACME, from pebble on this machine, and shows it without a restart."""

from __future__ import annotations

import datetime
import ipaddress
import json
import os
import pathlib
import shutil
import ssl
import subprocess
import typing as t
import urllib.request

import pytest
import support
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

TOOLS = support.REPO / ".cache" / "bin"
MODULES = ["github.com/letsencrypt/pebble/v2/cmd/pebble@v2.10.1", "github.com/letsencrypt/pebble/v2/cmd/pebble-challtestsrv@v2.10.1"]
DIRECTORY = "https://127.0.0.1:14000/dir"
MANAGEMENT = "https://127.0.0.1:15000"


def go_image() -> str:
    """The base with which the lab's images were compiled, official or of the lab's own making."""
    names = subprocess.run(["docker", "images", "--format", "{{.Repository}}:{{.Tag}}"], capture_output=True, text=True, check=True).stdout.split()
    return next(name for name in names if name.rsplit("/", 1)[-1] == "golang:1.24-trixie")


def build() -> None:
    """pebble and its name server, from Go modules: by this machine's Go, or by the one in the images' base."""
    if all((TOOLS / name).exists() for name in ("pebble", "pebble-challtestsrv")):
        return
    TOOLS.mkdir(parents=True, exist_ok=True)
    for module in MODULES:
        if shutil.which("go"):
            subprocess.run(["go", "install", module], env={**os.environ, "GOBIN": str(TOOLS), "CGO_ENABLED": "0"}, check=True, timeout=600)
        else:
            mount = ["--volume", f"{TOOLS}:/out", "--env", "GOBIN=/out", "--env", "CGO_ENABLED=0"]
            subprocess.run(["docker", "run", "--rm", "--network", "host", *mount, go_image(), "go", "install", module], check=True, timeout=600)


def server_certificate(folder: pathlib.Path) -> None:
    """What pebble itself shows: self-signed, for 127.0.0.1."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "pebble of the tests")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "server.crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    encoded = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "server.key").write_bytes(encoded)


@pytest.fixture
def pebble(tmp_path: pathlib.Path) -> t.Iterator[pathlib.Path]:
    """A running ACME server that finds every name at the VIP; the directory with its certificate."""
    build()
    server_certificate(tmp_path)
    settings = {
        "listenAddress": "127.0.0.1:14000",
        "managementListenAddress": "127.0.0.1:15000",
        "certificate": str(tmp_path / "server.crt"),
        "privateKey": str(tmp_path / "server.key"),
        "httpPort": 80,
        "tlsPort": 443,
    }
    (tmp_path / "pebble.json").write_text(json.dumps({"pebble": settings}))
    names = [
        str(TOOLS / "pebble-challtestsrv"),
        "-dnsserver",
        "127.0.0.1:8053",
        "-management",
        "127.0.0.1:8055",
        "-defaultIPv4",
        support.vip(),
        "-defaultIPv6",
        "",
        "-http01",
        "",
        "-https01",
        "",
        "-tlsalpn01",
        "",
        "-doh",
        "",
    ]
    server = [str(TOOLS / "pebble"), "-config", str(tmp_path / "pebble.json"), "-dnsserver", "127.0.0.1:8053"]
    support.OUTPUT.mkdir(parents=True, exist_ok=True)
    with open(support.OUTPUT / "pebble.log", "wb") as log:
        started = [subprocess.Popen(argv, stdout=log, stderr=log, env={**os.environ, "PEBBLE_VA_NOSLEEP": "1"}) for argv in (names, server)]
        try:
            support.wait_for("pebble", lambda: ask(DIRECTORY, tmp_path) != b"", 20)
            yield tmp_path
        finally:
            for process in started:
                process.terminate()
                process.wait(10)


@pytest.fixture
def private_again() -> t.Iterator[None]:
    """Gives the edge the certificate of the private CA back."""
    yield
    shutil.rmtree(support.INVENTORY / "pki" / "acme", ignore_errors=True)
    assert support.playbook("acme-undone", "-e", "tier=edge", playbook="playbooks/tier.yml").code == 0


def ask(url: str, folder: pathlib.Path) -> bytes:
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=ssl.create_default_context(cafile=str(folder / "server.crt")))
    )
    with opener.open(url, timeout=5) as answer:
        return t.cast(bytes, answer.read())


@pytest.mark.long
def test_the_edge_shows_a_public_certificate(pebble: pathlib.Path, private_again: None) -> None:
    before = {name: when for name, when in support.started_at().items() if name.startswith("edge")}
    options = ["--limit", "edge", "-e", f"tls_acme_directory={DIRECTORY}", "-e", "tls_acme_terms_agreed=true", "-e", f"tls_acme_ca_path={pebble}/server.crt"]

    first = support.playbook("acme", *options, playbook="playbooks/certificates.yml")
    assert first.code == 0, first.text[-3000:]

    (pebble / "root.pem").write_bytes(ask(f"{MANAGEMENT}/roots/0", pebble))
    shown = ssl.get_server_certificate((support.vip(), 443))
    names = x509.load_pem_x509_certificate(shown.encode()).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == [support.domain()]
    verified = subprocess.run(
        [
            "openssl",
            "s_client",
            "-connect",
            f"{support.vip()}:443",
            "-servername",
            support.domain(),
            "-verify_return_error",
            "-verify_hostname",
            support.domain(),
            "-CAfile",
            str(pebble / "root.pem"),
        ],
        input="",
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert verified.returncode == 0, verified.stderr
    assert {name: when for name, when in support.started_at().items() if name.startswith("edge")} == before, "a container was restarted"

    kept = (support.INVENTORY / "pki" / "acme" / "platform.pem").read_text()
    assert "ENCRYPTED PRIVATE KEY" in kept
    assert support.ssh("edge1", "ls /srv/platform/edge/live/acme") == "", "an answer to the challenge was left"

    second = support.playbook("acme-again", *options, playbook="playbooks/certificates.yml")
    assert second.code == 0, second.text[-3000:]
    assert second.changed() == {}
