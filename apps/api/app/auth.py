# SPDX-License-Identifier: GPL-3.0-or-later
"""Login, tokens and who may do what."""

from __future__ import annotations

import dataclasses
import logging
import time
import typing as t

import jwt
import redis.asyncio
from redis.exceptions import RedisError

from .passwords import hash_password, verify
from .problems import Problem
from .settings import Settings

log = logging.getLogger("app.auth")

ISSUER = "platform-api"


@dataclasses.dataclass(frozen=True)
class Identity:
    name: str
    roles: tuple[str, ...]


class Authority:
    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        # verified in place of an unknown user's hash, so that both take the same time
        self._decoy = hash_password("no user has this password")

    def authenticate(self, username: str, password: str) -> Identity | None:
        """Blocks for tens of milliseconds: call it in a worker thread."""
        user = self.settings.users.get(username)
        good = verify(password, user.password_hash if user else self._decoy)
        return Identity(user.name, user.roles) if user and good else None

    def issue(self, identity: Identity) -> str:
        now = int(time.time())
        claims = {"iss": ISSUER, "sub": identity.name, "roles": list(identity.roles), "iat": now, "exp": now + self.settings.token_ttl}
        return jwt.encode(claims, self.settings.secret_key, algorithm=self.settings.algorithm)

    def identify(self, token: str) -> Identity:
        try:
            claims = jwt.decode(
                token,
                self.settings.secret_key,
                algorithms=[self.settings.algorithm],
                issuer=ISSUER,
                leeway=10,  # hosts' clocks differ a little
                options={"require": ["exp", "iat", "sub", "iss"]},
            )
        except jwt.ExpiredSignatureError:
            raise unauthorized("The token has expired.", "invalid_token") from None
        except jwt.InvalidTokenError:
            raise unauthorized("The token is not valid.", "invalid_token") from None
        roles = claims.get("roles", [])
        return Identity(str(claims["sub"]), tuple(role for role in roles if isinstance(role, str)) if isinstance(roles, list) else ())

    def from_header(self, header: str | None) -> Identity | None:
        """None without a token; a token that is there must be good."""
        if not header:
            return None
        scheme, _, token = header.partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise unauthorized("Authorization: accepted: Bearer <token>.", "invalid_request")
        return self.identify(token.strip())


def unauthorized(detail: str, error: str | None = None) -> Problem:
    challenge = 'Bearer realm="platform"' + (f', error="{error}"' if error else "")
    return Problem(401, "unauthorized", detail, headers={"WWW-Authenticate": challenge})


def require_role(identity: Identity | None, role: str) -> Identity:
    if identity is None:
        raise unauthorized("This needs a token: POST /api/v1/auth/token.")
    if role not in identity.roles:
        raise Problem(403, "forbidden", f"This needs the role {role}.")
    return identity


class LoginLimit:
    """Attempts a minute from an address; counted in Redis for all members, in memory while Redis is away.

    User names are not counted: who knows one could keep its owner out (and a user's attempts from one address are that address's already).
    """

    def __init__(self, settings: Settings, connection: redis.asyncio.Redis | None) -> None:
        self.limit = settings.login_attempts
        self.connection = connection
        self._memory: dict[str, int] = {}
        self._window = 0

    async def check(self, address: str) -> None:
        if await self._count(address, int(time.time() // 60)) > self.limit:
            wait = str(60 - int(time.time()) % 60)
            raise Problem(429, "too-many-attempts", "Too many attempts to log in; try again later.", headers={"Retry-After": wait})

    async def _count(self, address: str, window: int) -> int:
        if self.connection is not None:
            key = f"cache:login:{address}:{window}"
            try:
                async with self.connection.pipeline(transaction=True) as pipe:
                    # redis-py's incr() sends INCRBY, which the access rules do not name
                    pipe.execute_command("INCR", key)
                    pipe.expire(key, 120)
                    results: list[t.Any] = await pipe.execute()
                return int(results[0])
            except RedisError as exc:
                log.warning("login attempts are counted in memory: %s", type(exc).__name__)
        if window != self._window:
            self._window = window
            self._memory.clear()
        if len(self._memory) > 10000:
            self._memory.clear()
        self._memory[address] = self._memory.get(address, 0) + 1
        return self._memory[address]
