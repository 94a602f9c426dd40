# Copyright: (c) 2026, Nova Corrente platform team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Judge leaf certificates, is this one still what is wanted and if not why, and issue them.

Private to this collection.
"""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import ipaddress
import typing as t

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

CaKey: t.TypeAlias = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey

USAGES = {"serverAuth": ExtendedKeyUsageOID.SERVER_AUTH, "clientAuth": ExtendedKeyUsageOID.CLIENT_AUTH}


class CertificateError(Exception):
    """A certificate or what is wanted of it cannot be read; the message is meant for the operator."""


@dataclasses.dataclass(frozen=True)
class Wanted:
    """What a leaf certificate must state."""

    names: frozenset[str]
    addresses: frozenset[str]
    usages: frozenset[str]

    @classmethod
    def of(cls, names: t.Iterable[str], addresses: t.Iterable[str], usages: t.Iterable[str]) -> Wanted:
        try:
            ips = frozenset(str(ipaddress.ip_address(str(a))) for a in addresses)
        except ValueError as exc:
            raise CertificateError(f"addresses: {exc}; expected IP addresses.") from exc
        uses = frozenset(str(u) for u in usages)
        if uses - USAGES.keys():
            raise CertificateError(f"usages: {sorted(uses - USAGES.keys())} is unknown; expected some of {sorted(USAGES)}.")
        return cls(frozenset(str(n).lower() for n in names), ips, uses)


def load_first(pem: bytes, what: str) -> x509.Certificate:
    """The first certificate of a PEM text."""
    try:
        return x509.load_pem_x509_certificate(pem)
    except ValueError as exc:
        raise CertificateError(f"{what} is not a PEM certificate.") from exc


def stated(certificate: x509.Certificate) -> Wanted:
    """What a certificate states."""
    names: list[str] = []
    addresses: list[str] = []
    usages: list[str] = []
    for extension in certificate.extensions:
        if isinstance(extension.value, x509.SubjectAlternativeName):
            names = extension.value.get_values_for_type(x509.DNSName)
            addresses = [str(a) for a in extension.value.get_values_for_type(x509.IPAddress)]
        elif isinstance(extension.value, x509.ExtendedKeyUsage):
            usages = [word for word, oid in USAGES.items() if oid in extension.value]
    return Wanted.of(names, addresses, usages)


def days_left(certificate: x509.Certificate, now: datetime.datetime) -> float:
    """Days until a certificate ends; negative where it has."""
    return (certificate.not_valid_after_utc - now) / datetime.timedelta(days=1)


def issued_by(certificate: x509.Certificate, ca: x509.Certificate) -> bool:
    """Whether the CA signed the certificate."""
    try:
        certificate.verify_directly_issued_by(ca)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def reason_to_issue(pem: bytes | None, wanted: Wanted, ca: x509.Certificate, renew_days: float, now: datetime.datetime) -> str:
    """Why a leaf must be issued (anew); empty where the present one will do.

    ``pem`` is the content of the leaf's file: certificate and encrypted key. They share one file, written at once, so a
    certificate can't be there with the key of another.
    """
    if pem is None:
        return "there is none yet"
    if b"PRIVATE KEY-----" not in pem:
        return "its file holds no private key"
    try:
        certificate = load_first(pem, "the file")
    except CertificateError as exc:
        return str(exc)
    if not issued_by(certificate, ca):
        return "it was issued by another CA"
    found = stated(certificate)
    for what in ("names", "addresses", "usages"):
        if getattr(found, what) != getattr(wanted, what):
            return f"its {what} are {', '.join(sorted(getattr(found, what))) or 'none'}; wanted {', '.join(sorted(getattr(wanted, what)))}"
    left = days_left(certificate, now)
    if left < renew_days:
        return f"it has {left:.0f} days left, fewer than {renew_days:g}"
    return ""


def lifetime_days(identity: str, days: int, spread: int) -> int:
    """Lifetime of a leaf: ``days`` less up to ``spread``, told from its identity, so that not all of them end on one day."""
    if spread <= 0:
        return days
    return days - int.from_bytes(hashlib.sha256(identity.encode()).digest()[:4], "big") % (spread + 1)


def load_ca_key(pem: bytes, passphrase: str, ca: x509.Certificate) -> CaKey:
    """The CA's private key, which must be the one of the CA's certificate."""
    try:
        key = serialization.load_pem_private_key(pem, passphrase.encode())
    except (ValueError, TypeError) as exc:
        # The library's own message is left out: it may quote what it was given.
        raise CertificateError("the CA's key cannot be read with the passphrase given (platform_ca_passphrase).") from exc
    if not isinstance(key, (ec.EllipticCurvePrivateKey, rsa.RSAPrivateKey)):
        raise CertificateError("the CA's key is neither an EC nor an RSA key.")
    if key.public_key() != ca.public_key():
        raise CertificateError("the CA's key and the CA's certificate do not belong together.")
    return key


def issue(common_name: str, wanted: Wanted, ca: x509.Certificate, ca_key: CaKey, days: int, passphrase: str, now: datetime.datetime) -> bytes:
    """A leaf certificate and its encrypted key, as the PEM text that their common file holds."""
    key = ec.generate_private_key(ec.SECP256R1())
    ca_identifier = ca.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    names: list[x509.GeneralName] = [x509.DNSName(name) for name in sorted(wanted.names)]
    names += [x509.IPAddress(ipaddress.ip_address(address)) for address in sorted(wanted.addresses)]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name[:64])]))
        .issuer_name(ca.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        # An hour back, for hosts whose clocks are behind.
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(min(now + datetime.timedelta(days=days), ca.not_valid_after_utc))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(), critical=True)
        .add_extension(x509.ExtendedKeyUsage([USAGES[word] for word in sorted(wanted.usages)]), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(ca_identifier), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    encryption = serialization.BestAvailableEncryption(passphrase.encode())
    return certificate.public_bytes(serialization.Encoding.PEM) + key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)


def _key_usage() -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_encipherment=True,
        content_commitment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )


def describe(pem: bytes | None) -> str:
    """A certificate in a few lines, for a diff."""
    if pem is None:
        return ""
    try:
        certificate = load_first(pem, "the file")
    except CertificateError as exc:
        return f"{exc}\n"
    found = stated(certificate)
    rows = [f"{what}: {', '.join(sorted(getattr(found, what)))}" for what in ("names", "addresses", "usages")]
    return "\n".join([*rows, f"issuer: {certificate.issuer.rfc4514_string()}", f"ends: {certificate.not_valid_after_utc:%Y-%m-%d}"]) + "\n"
