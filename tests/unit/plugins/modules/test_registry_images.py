# Copyright: (c) 2026, Nova Corrente platform team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Asking a registry for manifests. A small TLS server stands in for it; the copying is shown by the lab."""

from __future__ import annotations

import base64
import datetime
import http.server
import ipaddress
import pathlib
import ssl
import threading
import types
import typing as t

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from ansible_collections.novacorrente.platform.plugins.modules.registry_images import Image, RegistryError, RegistryImages, copy_command

HELD, MISSING, BROKEN = (f"sha256:{letter * 64}" for letter in "abc")
ANSWERS = {HELD: 200, MISSING: 404, BROKEN: 500}


class Handler(http.server.BaseHTTPRequestHandler):
    def do_HEAD(self) -> None:
        right = self.headers["Authorization"] == "Basic " + base64.b64encode(b"platform:right").decode()
        self.send_response(ANSWERS[self.path.rpartition("/")[2]] if right else 401)
        self.end_headers()

    def log_message(self, *args: t.Any) -> None:
        pass


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[tuple[str, str]]:
    """Host and port of a registry, and the certificate it shows."""
    folder: pathlib.Path = tmp_path_factory.mktemp("registry")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "registry of the tests")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "both.pem").write_bytes(pem + private)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "both.pem")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"127.0.0.1:{server.server_address[1]}", pem.decode()
    server.shutdown()
    server.server_close()


def images(registry: tuple[str, str], *digests: str, check_mode: bool = False, **params: t.Any) -> RegistryImages:
    rows = [{"name": f"image{number}", "tag": "1", "digest": digest, "source": "oci:/nowhere"} for number, digest in enumerate(digests)]
    values = {"registry": registry[0], "username": "platform", "password": "right", "ca_certificate": registry[1], "images": rows, "timeout": 5}
    values.update(source_authfile=None, skopeo="no-such-skopeo", copy_timeout=5)
    return RegistryImages(types.SimpleNamespace(params={**values, **params}, check_mode=check_mode))


def test_images_that_are_held_are_not_copied(registry: tuple[str, str]):
    assert images(registry, HELD, HELD).run()["changed"] is False


def test_check_mode_tells_what_is_missing(registry: tuple[str, str]):
    result = images(registry, HELD, MISSING, check_mode=True).run()
    assert result["changed"] and result["pushed"] == [f"{registry[0]}/image1@{MISSING}"]


def test_a_missing_image_needs_skopeo(registry: tuple[str, str]):
    with pytest.raises(RegistryError, match="install the package skopeo"):
        images(registry, MISSING).run()


def test_a_failing_skopeo_is_quoted(registry: tuple[str, str]):
    with pytest.raises(RegistryError, match="skopeo cannot copy oci:/nowhere"):
        images(registry, MISSING, skopeo="false").run()


def test_another_digest_than_the_one_given_is_told(registry: tuple[str, str]):
    with pytest.raises(RegistryError, match="its digest is not sha256:bbb"):
        images(registry, MISSING, skopeo="true").run()


@pytest.mark.parametrize(("digests", "params", "message"), [((BROKEN,), {}, "HTTP 500"), ((HELD,), {"password": "wrong"}, "is the password right")])
def test_answers_of_another_kind_are_errors(registry: tuple[str, str], digests: tuple[str, ...], params: dict[str, str], message: str):
    with pytest.raises(RegistryError, match=message) as caught:
        images(registry, *digests, **params).run()
    assert "wrong" not in str(caught.value)


def test_a_registry_that_is_not_there_counts_as_empty_in_check_mode_only(registry: tuple[str, str]):
    assert images(("127.0.0.1:1", registry[1]), HELD, check_mode=True).run()["changed"]
    with pytest.raises(RegistryError, match="does not answer"):
        images(("127.0.0.1:1", registry[1]), HELD).run()


@pytest.mark.parametrize("row", [{"digest": "sha256:abc"}, {"name": "Upper"}])
def test_images_of_a_wrong_form_are_refused(registry: tuple[str, str], row: dict[str, str]):
    with pytest.raises(RegistryError, match="images: the"):
        images(registry, images=[{"name": "x", "tag": "1", "digest": HELD, "source": "oci:/x", **row}])


def test_no_credential_is_among_the_arguments():
    command = copy_command("/usr/bin/skopeo", Image("redis", "8", HELD, "oci:/x"), "r:5000", "/tmp/auth.json", "/tmp/certs", None)
    assert command[-2:] == ["oci:/x", "docker://r:5000/redis:8"]
    assert "--dest-creds" not in " ".join(command) and "--dest-authfile" in command
