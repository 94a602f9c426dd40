# Copyright: (c) 2026, Nova Corrente platform team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Judging and issuing leaf certificates."""

from __future__ import annotations

import datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from ansible_collections.novacorrente.platform.plugins.plugin_utils import _certificates as core

NOW = datetime.datetime(2026, 11, 22, 12, tzinfo=datetime.UTC)
PASSPHRASE = "a passphrase of the tests"
WANTED = core.Wanted.of(["data1", "minio.example.org"], ["192.0.2.31", "2001:db8::1"], ["serverAuth", "clientAuth"])


def make_ca(days: float = 3650, now: datetime.datetime = NOW) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "CA of the tests")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return certificate, key


CA, CA_KEY = make_ca()


def leaf(wanted: core.Wanted = WANTED, days: int = 90) -> bytes:
    return core.issue("data1", wanted, CA, CA_KEY, days, PASSPHRASE, NOW)


def test_an_issued_leaf_is_what_was_wanted():
    pem = leaf()
    assert core.reason_to_issue(pem, WANTED, CA, 30, NOW) == ""
    certificate = core.load_first(pem, "leaf")
    assert core.stated(certificate) == WANTED
    assert core.issued_by(certificate, CA)
    assert core.days_left(certificate, NOW) == 90
    assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    assert usage.digital_signature and usage.key_encipherment and not usage.key_cert_sign


def test_the_key_is_the_certificates_own_and_encrypted():
    pem = leaf()
    assert b"ENCRYPTED PRIVATE KEY" in pem
    key = serialization.load_pem_private_key(pem[pem.index(b"-----BEGIN ENCRYPTED") :], PASSPHRASE.encode())
    assert key.public_key() == core.load_first(pem, "leaf").public_key()


@pytest.mark.parametrize(
    ("pem", "wanted", "later_days", "reason"),
    [
        (None, WANTED, 0, "there is none yet"),
        (b"", WANTED, 0, "holds no private key"),
        (b"-----BEGIN PRIVATE KEY-----", WANTED, 0, "not a PEM certificate"),
        (leaf(), core.Wanted.of(["data1"], ["192.0.2.31", "2001:db8::1"], ["serverAuth", "clientAuth"]), 0, "its names are"),
        (leaf(), core.Wanted.of(["data1", "minio.example.org"], [], ["serverAuth", "clientAuth"]), 0, "wanted"),
        (leaf(), core.Wanted.of(["data1", "minio.example.org"], ["192.0.2.31", "2001:db8::1"], ["serverAuth"]), 0, "its usages are"),
        (leaf(), WANTED, 61, "29 days left"),
        (leaf(), WANTED, 200, "days left"),
    ],
)
def test_why_a_leaf_is_due(pem: bytes | None, wanted: core.Wanted, later_days: int, reason: str):
    now = NOW + datetime.timedelta(days=later_days)
    assert reason in core.reason_to_issue(pem, wanted, CA, 30, now)


def test_a_leaf_of_another_ca_is_due_even_where_that_has_the_same_name():
    assert "another CA" in core.reason_to_issue(leaf(), WANTED, make_ca()[0], 30, NOW)


def test_a_leaf_never_outlives_its_ca():
    ca, key = make_ca(days=10)
    certificate = core.load_first(core.issue("x", WANTED, ca, key, 90, PASSPHRASE, NOW), "leaf")
    assert certificate.not_valid_after_utc == ca.not_valid_after_utc


def test_a_wrong_passphrase_and_a_foreign_key_are_told():
    pem = CA_KEY.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(PASSPHRASE.encode()))
    assert core.load_ca_key(pem, PASSPHRASE, CA).public_key() == CA.public_key()
    with pytest.raises(core.CertificateError, match="passphrase") as caught:
        core.load_ca_key(pem, "another secret", CA)
    assert "another secret" not in str(caught.value)
    with pytest.raises(core.CertificateError, match="do not belong together"):
        core.load_ca_key(pem, PASSPHRASE, make_ca()[0])


def test_lifetimes_are_spread_and_do_not_change():
    days = [core.lifetime_days(f"host{n}/minio.pem", 90, 20) for n in range(50)]
    assert min(days) >= 70 and max(days) <= 90 and len(set(days)) > 10
    assert days == [core.lifetime_days(f"host{n}/minio.pem", 90, 20) for n in range(50)]
    assert core.lifetime_days("x", 90, 0) == 90


@pytest.mark.parametrize(("addresses", "usages"), [(["data1"], ["serverAuth"]), (["192.0.2.1"], ["codeSigning"])])
def test_what_no_certificate_can_state_is_refused(addresses: list[str], usages: list[str]):
    with pytest.raises(core.CertificateError):
        core.Wanted.of(["x"], addresses, usages)


def test_a_description_holds_no_key():
    text = core.describe(leaf())
    assert "minio.example.org" in text and "KEY" not in text
    assert core.describe(None) == ""
