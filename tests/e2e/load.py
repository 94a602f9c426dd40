# SPDX-License-Identifier: GPL-3.0-or-later
"""Requests to the API through the virtual address while something happens to the platform. None is repeated: what fails, fails for a user."""

from __future__ import annotations

import dataclasses
import json
import threading
import time
import typing as t
import uuid

import support


def token() -> str:
    """A token of the API's administrator."""
    body = json.dumps({"username": "admin", "password": support.secrets()["api_admin_password"]}).encode()
    code, _headers, answer = support.fetch("/api/v1/auth/token", {"Content-Type": "application/json"}, body)
    assert code == 200, answer
    return str(json.loads(answer)["access_token"])


def ask(token: str, method: str, path: str, body: t.Any = None) -> tuple[int, t.Any]:
    """One request. Status 0 stands for no answer."""
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    try:
        code, _headers, answer = support.fetch(path, headers, None if body is None else json.dumps(body).encode(), method, timeout=30)
    except OSError as exc:
        return 0, str(exc)
    return code, json.loads(answer or b"null") if code < 400 else answer.decode(errors="replace")[:300]


@dataclasses.dataclass
class Load:
    """A writer that grows a chain of linked insights, and a reader that asks for ``read_path``, until it is stopped.

    ``written`` counts the insights that were acknowledged, ``slowest`` is the time in seconds that the slowest request took.
    """

    token: str
    read_path: str = "/api/v1/insights/{middle}/neighbours?depth=2"
    prefix: str = dataclasses.field(default_factory=lambda: f"e2e-{uuid.uuid4().hex[:8]}")
    failures: list[str] = dataclasses.field(default_factory=list)
    written: int = 0
    reads: int = 0
    slowest: float = 0.0
    stop: threading.Event = dataclasses.field(default_factory=threading.Event)

    def name(self, number: int) -> str:
        return f"{self.prefix}-{number}"

    def put(self, method: str, path: str, body: t.Any = None) -> bool:
        begin = time.monotonic()
        code, answer = ask(self.token, method, path, body)
        self.slowest = max(self.slowest, time.monotonic() - begin)
        if code not in (200, 201):
            self.failures.append(f"{method} {path}: {code} {answer}")
        return code in (200, 201)

    def write(self) -> None:
        while not self.stop.wait(0.05):
            here = self.written
            good = self.put("PUT", f"/api/v1/insights/{self.name(here)}", {"title": f"number {here}", "tags": ["e2e"]})
            if here:
                good = good and self.put("PUT", f"/api/v1/insights/{self.name(here - 1)}/links/next/{self.name(here)}")
            self.written += good

    def read(self) -> None:
        while not self.stop.wait(0.05):
            self.put("GET", self.read_path.format(middle=self.name(max(0, self.written // 2))))
            self.reads += 1

    def __enter__(self) -> Load:
        self.threads = [threading.Thread(target=work) for work in (self.write, self.read)]
        self.threads[0].start()
        support.wait_for("the first insights", lambda: self.written >= 3 or bool(self.failures), 60)
        self.threads[1].start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self.stop.set()
        for thread in self.threads:
            thread.join(60)
