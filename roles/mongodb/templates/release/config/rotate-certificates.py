# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes this host's member take up renewed certificates without a restart: python3 rotate-certificates.py ADDRESS

Connections that are open keep the old certificate (https://www.mongodb.com/docs/manual/reference/command/rotateCertificates/). Logs in with the key file, as
the members do among themselves, and ends well only when a new connection has shown the new certificate.
"""

import pathlib
import re
import socket
import ssl
import sys

from pymongo import MongoClient
from pymongo.errors import OperationFailure, PyMongoError

PORT = 27017
RELEASE = pathlib.Path(__file__).resolve().parents[1]
LIVE = RELEASE.parents[1] / "live" / "tls"


def rotate(address: str) -> None:
    keys = [line[2:] for line in (RELEASE / "secrets" / "keyfile").read_text().splitlines()]
    for number, key in enumerate(keys, 1):
        client = MongoClient(
            address,
            PORT,
            directConnection=True,
            username="__system",
            password=key,
            authSource="local",
            authMechanism="SCRAM-SHA-256",
            tls=True,
            tlsCAFile=str(LIVE / "ca.crt"),
            serverSelectionTimeoutMS=10000,
        )
        try:
            client.admin.command("rotateCertificates", 1, message="renewed")
            return
        except OperationFailure as error:
            # Before a roll of the keys has come here, the server knows only one of them.
            if error.code != 18 or number == len(keys):
                raise
        finally:
            client.close()


def served(address: str) -> bytes:
    context = ssl.create_default_context(cafile=str(LIVE / "ca.crt"))
    with socket.create_connection((address, PORT), 10) as stream, context.wrap_socket(stream, server_hostname=address) as connection:
        return connection.getpeercert(binary_form=True) or b""


def main(address: str) -> int:
    text = (LIVE / "private" / "mongod.pem").read_text()
    leaf = re.search("-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", text, re.DOTALL)
    try:
        rotate(address)
        if leaf and served(address) == ssl.PEM_cert_to_DER_cert(leaf.group()):
            return 0
    except (PyMongoError, OSError) as error:
        print(f"{address}: {str(error).partition(', Timeout:')[0]}", file=sys.stderr)
        return 1
    print(f"{address}: the server does not show the certificate that is in {LIVE}/private/mongod.pem", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
