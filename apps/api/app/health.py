# SPDX-License-Identifier: GPL-3.0-or-later
"""For the container's health check: `python3 -m app.health` asks this container's own /health."""

from __future__ import annotations

import http.client
import os
import ssl
import sys


def main() -> int:
    port = int(os.environ.get("API_PORT") or 8000)
    certificate = os.environ.get("TLS_CERT_FILE")
    connection: http.client.HTTPConnection
    if certificate:
        # the server must show the very certificate it was given; its names do not include the loopback address
        context = ssl.create_default_context(cafile=certificate)
        context.check_hostname = False
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=4, context=context)
    else:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=4)
    try:
        connection.request("GET", "/health")
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as exc:
        print(f"unhealthy: {type(exc).__name__}: {exc}")
        return 1
    finally:
        connection.close()
    if status != 200:
        print(f"unhealthy: /health answered {status}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
