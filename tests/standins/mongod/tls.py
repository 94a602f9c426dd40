# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, Nova Corrente platform team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""TLS of one server: for its clients, and as a client of other members."""

from __future__ import annotations

import ssl

from .config import Config, ConfigError


class Tls:
    """Two contexts from the files that the configuration names; `load` reads them again (rotateCertificates)."""

    def __init__(self, config: Config) -> None:
        self._config = config
        try:
            self.server, self.client = self._load()
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(f"Can not set up TLS: {error}") from None

    @property
    def required(self) -> bool:
        return bool(self._config.get("net.tls.mode") == "requireTLS")

    def _load(self) -> tuple[ssl.SSLContext, ssl.SSLContext]:
        get = self._config.get
        pem, ca = get("net.tls.certificateKeyFile"), get("net.tls.CAFile")
        server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server.load_cert_chain(pem)
        if ca:
            server.load_verify_locations(ca)
            lenient = get("net.tls.allowConnectionsWithoutCertificates", False)
            server.verify_mode = ssl.CERT_OPTIONAL if lenient else ssl.CERT_REQUIRED
        client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        client.load_cert_chain(get("net.tls.clusterFile") or pem)
        client.check_hostname = not get("net.tls.allowInvalidHostnames", False)
        if ca:
            client.load_verify_locations(ca)
        else:
            client.load_default_certs()
        return server, client

    def load(self) -> None:
        """Connections that exist keep what they have. Raises OSError, ssl.SSLError and changes nothing then."""
        self.server, self.client = self._load()
