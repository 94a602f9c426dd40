# SPDX-License-Identifier: GPL-3.0-or-later
"""Password hashes: scrypt$n$r$p$salt$hash, salt and hash in base64.

`python3 -m app.passwords` reads a password from standard input and prints its hash for API_USERS_FILE.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import sys

N, R, P = 1 << 14, 8, 1
_MEMORY = 64 << 20


def hash_password(password: str) -> str:
    salt = os.urandom(16)
    digest = hashlib.scrypt(password.encode(), salt=salt, n=N, r=R, p=P, maxmem=_MEMORY, dklen=32)
    return f"scrypt${N}${R}${P}${base64.b64encode(salt).decode()}${base64.b64encode(digest).decode()}"


def parse_hash(text: str) -> tuple[int, int, int, bytes, bytes]:
    parts = text.split("$")
    if len(parts) != 6 or parts[0] != "scrypt":
        raise ValueError("accepted: scrypt$n$r$p$salt$hash, as `python3 -m app.passwords` prints it")
    try:
        n, r, p = (int(part) for part in parts[1:4])
        salt, digest = (base64.b64decode(part, validate=True) for part in parts[4:])
    except (ValueError, binascii.Error):
        raise ValueError("numbers or base64 are malformed") from None
    if n < 1 << 14 or n & (n - 1) or r < 8 or p < 1 or len(salt) < 16 or len(digest) < 32:
        raise ValueError("too weak: at least n=16384, r=8, p=1, a salt of 16 and a hash of 32 bytes")
    if 128 * n * r > _MEMORY - (1 << 20) or p > 16:
        raise ValueError("too costly: n * r * 128 may be at most 63 MiB and p 16")
    return n, r, p, salt, digest


def verify(password: str, text: str) -> bool:
    n, r, p, salt, digest = parse_hash(text)
    found = hashlib.scrypt(password.encode(), salt=salt, n=n, r=r, p=p, maxmem=_MEMORY, dklen=len(digest))
    return hmac.compare_digest(found, digest)


def main() -> int:
    password = sys.stdin.readline().rstrip("\r\n")
    if len(password) < 12:
        print("the password on standard input is too short: at least 12 characters", file=sys.stderr)
        return 2
    print(hash_password(password))
    return 0


if __name__ == "__main__":
    sys.exit(main())
