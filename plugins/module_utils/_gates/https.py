# Copyright: (c) 2026, Nova Corrente platform team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One HTTP GET for gates: TLS always verified, every step bounded in time, one connection kept to each place, never an exception.

Private to this collection.
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import http.client
import ipaddress
import socket
import ssl
import time
import typing as t
import urllib.parse

from ansible_collections.novacorrente.platform.plugins.module_utils._gates.addresses import AddressError, split

# What kept an answer from being seen. Which of them is a fact about the other side, and which is only darkness, is for the gate to say.
REFUSED = "refused"  # the host answers, nothing listens
UNREACHABLE = "unreachable"  # no way to the host, or no sign of it
NO_ANSWER = "no_answer"  # connected, and then silence or a broken answer
TLS = "tls"  # the certificate or the handshake is not good
NAME = "name"  # the name cannot be resolved

MAX_BODY = 8 * 1024 * 1024


@dataclasses.dataclass(frozen=True)
class Place:
    """Where to ask. ``name`` is what the certificate must have, ``authority`` what is sent as Host, ``secure`` is False for http."""

    host: str
    port: int
    name: str
    authority: str
    secure: bool = True


@dataclasses.dataclass(frozen=True)
class Answer:
    """What came back. ``problem`` is empty where an answer was read whole, else one of the words above; ``error`` says it to a person."""

    status: int = 0
    headers: t.Mapping[str, str] = dataclasses.field(default_factory=dict)
    body: bytes = b""
    seconds: float = 0.0
    problem: str = ""
    error: str = ""


def place_of(url: str, address: str = "", server_name: str = "") -> tuple[Place, str]:
    """Where a URL is, and its path. ``address`` (HOST:PORT) is connected to in place of the URL's host, whose name is then asked for there.

    http is accepted on the loopback only: what leaves the machine is encrypted and verified. Raises AddressError.
    """
    parts = urllib.parse.urlsplit("")
    with contextlib.suppress(ValueError):
        parts = urllib.parse.urlsplit(url)
    if parts.scheme not in ("https", "http") or "@" in parts.netloc:
        raise AddressError("URL is not https://HOST[:PORT]/PATH, or holds a user.")
    named = split(parts.netloc, 0)
    secure = parts.scheme == "https"
    host, port = split(address or parts.netloc, 443 if secure else 80)
    if not secure and not is_loopback(host):
        raise AddressError(f"URL is {url!r}; http is accepted on the loopback only, use https.")
    name = server_name or named[0]
    bracketed = f"[{name}]" if ":" in name else name
    place = Place(host, port, name, f"{bracketed}:{named[1]}" if named[1] else bracketed, secure)
    return place, (parts.path or "/") + ("?" + parts.query if parts.query else "")


def is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def tls_context(ca_file: str | None) -> ssl.SSLContext:
    """Verifies against the authorities in ``ca_file``, else against the system's. Raises AddressError where the file cannot be used."""
    try:
        context = ssl.create_default_context(cafile=ca_file or None)
    except (OSError, ssl.SSLError) as exc:
        raise AddressError(f"ca_file is {ca_file!r}, and cannot be read as certificates in PEM form: {exc.__class__.__name__}.") from exc
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def basic(username: str, password: str) -> dict[str, str]:
    """The header of HTTP basic authentication, none without a user."""
    if not username:
        return {}
    return {"Authorization": "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()}


class Client:
    """Asks one place, over one connection that is kept. Not for several threads at a time."""

    def __init__(self, place: Place, context: ssl.SSLContext, timeout: float, headers: t.Mapping[str, str] | None = None) -> None:
        self.place = place
        self.context = context
        self.timeout = timeout
        self.headers = {
            "Host": place.authority,
            "User-Agent": "novacorrente-gate",
            "Accept": "application/json, */*;q=0.5",
            **(headers or {}),
        }
        self._connection: http.client.HTTPConnection | None = None

    def get(self, path: str, keep: bool = True) -> Answer:
        """The answer to GET ``path``. ``keep=False`` closes the connection, so that a load balancer chooses anew the next time."""
        kept = self._connection is not None
        answer = self._get(path)
        # A connection that was idle may have been closed by then, which says nothing about the server. Silence does.
        if kept and answer.problem and answer.seconds < self.timeout / 2:
            answer = self._get(path)
        if not keep:
            self.close()
        return answer

    def _get(self, path: str) -> Answer:
        begin = time.monotonic()
        deadline = begin + self.timeout
        try:
            connection = self._connection or self._connect()
            begin = time.monotonic()
            connection.request("GET", path, headers=self.headers)
            response = connection.getresponse()
            body = self._read(response, deadline)
            if response.will_close:
                self.close()
            headers = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, headers, body, time.monotonic() - begin)
        except (OSError, http.client.HTTPException, ValueError) as exc:
            problem, error = explain(exc, self._connection is not None, self.timeout)
            self.close()
            return Answer(problem=problem, error=error, seconds=time.monotonic() - begin)

    def _connect(self) -> http.client.HTTPConnection:
        connection = http.client.HTTPConnection(self.place.host, self.place.port, timeout=self.timeout)
        connection.auto_open = 0  # it would open anew without TLS
        connection.connect()
        self._connection = connection
        if self.place.secure:
            # http.client would verify against the address; the name in the certificate may be another.
            connection.sock = self.context.wrap_socket(connection.sock, server_hostname=self.place.name)
        return connection

    @staticmethod
    def _read(response: http.client.HTTPResponse, deadline: float) -> bytes:
        parts: list[bytes] = []
        size = 0
        while True:
            part = response.read1(65536)
            if not part:
                response.close()  # else the connection would not take another request
                return b"".join(parts)
            parts.append(part)
            size += len(part)
            if size > MAX_BODY:
                raise ValueError("the answer is too long")
            if time.monotonic() > deadline:
                raise socket.timeout("the answer takes too long")

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def explain(exc: Exception, connected: bool, timeout: float) -> tuple[str, str]:
    """One of the words above, and a sentence without secrets."""
    if isinstance(exc, ssl.SSLCertVerificationError):
        return TLS, f"its certificate is not good: {exc.verify_message}"
    if isinstance(exc, ssl.SSLError) and not isinstance(exc, (ssl.SSLEOFError, ssl.SSLZeroReturnError)):
        return TLS, f"no TLS with it: {exc.reason or exc.__class__.__name__}"
    if isinstance(exc, socket.gaierror):
        return NAME, "its name cannot be resolved"
    if isinstance(exc, ConnectionRefusedError):
        return REFUSED, "nothing listens there"
    if not connected:
        if isinstance(exc, socket.timeout):
            return UNREACHABLE, f"no connection within {timeout:g} s"
        return UNREACHABLE, f"no connection: {getattr(exc, 'strerror', None) or exc.__class__.__name__}"
    if isinstance(exc, socket.timeout):
        return NO_ANSWER, f"no answer within {timeout:g} s"
    return NO_ANSWER, f"the connection broke: {exc.__class__.__name__}"
