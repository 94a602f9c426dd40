# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import datetime
import ipaddress
import pathlib
import typing as t

import checks
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

if t.TYPE_CHECKING:
    from testinfra.host import Host

testinfra_hosts = ["ansible://all"]

Value = t.Callable[[str], t.Any]


@pytest.fixture(scope="module")
def pki(value: Value) -> pathlib.Path:
    return pathlib.Path(value("platform_pki_dir"))


@pytest.fixture(scope="module")
def authority(pki: pathlib.Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate((pki / "ca.crt").read_bytes())


@pytest.fixture(scope="module")
def leaves(host: Host, pki: pathlib.Path) -> dict[str, bytes]:
    """The files of this host's certificates, by tier."""
    return {path.stem: path.read_bytes() for path in sorted((pki / "hosts" / checks.name(host)).glob("*.pem"))}


def test_every_tier_that_speaks_tls_has_a_certificate(leaves: dict[str, bytes], value: Value) -> None:
    wanted = {tier for tier in (*value("tls_tiers"), *value("tls_extra_tiers")) if tier in value("group_names")}
    assert set(leaves) >= wanted


def test_certificates_come_from_the_ca_and_are_not_about_to_expire(leaves: dict[str, bytes], authority: x509.Certificate, value: Value) -> None:
    soon = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=value("tls_renew_days") - 1)
    for tier, content in leaves.items():
        leaf = x509.load_pem_x509_certificate(content)
        leaf.verify_directly_issued_by(authority)
        assert leaf.not_valid_after_utc > soon, tier


def test_certificates_name_the_host_and_are_for_their_use_only(leaves: dict[str, bytes], value: Value) -> None:
    for tier, content in leaves.items():
        extensions = x509.load_pem_x509_certificate(content).extensions
        names = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert ipaddress.ip_address(value("platform_address")) in names.get_values_for_type(x509.IPAddress), tier
        assert extensions.get_extension_for_class(x509.BasicConstraints).value.ca is False
        assert extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign is False
        assert x509.oid.ExtendedKeyUsageOID.SERVER_AUTH in extensions.get_extension_for_class(x509.ExtendedKeyUsage).value


def test_keys_on_the_controller_are_encrypted(leaves: dict[str, bytes], pki: pathlib.Path) -> None:
    for content in [*leaves.values(), (pki / "ca.key").read_bytes()]:
        assert b"ENCRYPTED PRIVATE KEY" in content
        with pytest.raises(TypeError):
            serialization.load_pem_private_key(content[content.index(b"-----BEGIN ENCRYPTED") :], password=None)


def test_the_cas_key_stays_on_the_controller(host: Host, pki: pathlib.Path, value: Value) -> None:
    assert (pki / "ca.key").stat().st_mode & 0o077 == 0
    # The body of the encrypted key, a line of it that is in no other file.
    line = (pki / "ca.key").read_text().splitlines()[2]
    found = host.run("grep --recursive --files-with-matches --fixed-strings --regexp=%s %s /etc", line, value("platform_root"))
    assert found.stdout == ""
