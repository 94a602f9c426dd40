# SPDX-License-Identifier: GPL-3.0-or-later
"""Read environment variables, with every mistake reported at once and no secret ever echoed."""

from __future__ import annotations

import pathlib
import re
import typing as t

_TRUE = {"1", "true", "yes", "on"}
_FALSE = {"0", "false", "no", "off"}
_HOST_PORT = re.compile(r"^(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):([0-9]{1,5})$")


class Reader:
    """Typed access to a mapping; problems collect in `findings`."""

    def __init__(self, environ: t.Mapping[str, str]) -> None:
        self.environ = environ
        self.findings: list[str] = []

    def _raw(self, name: str) -> str | None:
        value = self.environ.get(name)
        return value if value not in (None, "") else None

    def text(self, name: str, default: str = "", *, required: bool = False) -> str:
        value = self._raw(name)
        if value is None:
            if required:
                self.findings.append(f"{name} is not set")
            return default
        return value

    def secret(self, name: str, *, required: bool = False) -> str:
        """The value of NAME, or the content of the file that NAME_FILE names."""
        path = self._raw(f"{name}_FILE")
        if path is not None:
            try:
                value = pathlib.Path(path).read_text(encoding="utf-8").strip()
            except (OSError, UnicodeDecodeError) as exc:
                reason = getattr(exc, "strerror", None) or "it is not UTF-8 text"
                self.findings.append(f"{name}_FILE: cannot read {path}: {reason}")
                return ""
            if not value:
                self.findings.append(f"{name}_FILE: {path} is empty")
            return value
        given = self._raw(name)
        if given is None and required:
            self.findings.append(f"neither {name} nor {name}_FILE is set")
        return given or ""

    def boolean(self, name: str, default: bool) -> bool:
        value = self._raw(name)
        if value is None:
            return default
        if value.lower() in _TRUE:
            return True
        if value.lower() in _FALSE:
            return False
        self.findings.append(f"{name}: {value!r} is not accepted; accepted: true, false")
        return default

    def integer(self, name: str, default: int, minimum: int, maximum: int) -> int:
        value = self._raw(name)
        if value is None:
            return default
        try:
            number = int(value)
        except ValueError:
            number = minimum - 1
        if not minimum <= number <= maximum:
            self.findings.append(f"{name}: {value!r} is not accepted; accepted: a whole number from {minimum} to {maximum}")
            return default
        return number

    def integers(self, name: str, default: tuple[int, ...], minimum: int, maximum: int) -> tuple[int, ...]:
        value = self._raw(name)
        if value is None:
            return default
        try:
            numbers = tuple(int(part) for part in value.split(","))
        except ValueError:
            numbers = ()
        if not numbers or any(not minimum <= number <= maximum for number in numbers):
            self.findings.append(f"{name}: {value!r} is not accepted; accepted: whole numbers from {minimum} to {maximum}, separated by commas")
            return default
        return numbers

    def choice(self, name: str, default: str, choices: t.Sequence[str]) -> str:
        value = self._raw(name)
        if value is None:
            return default
        if value not in choices:
            self.findings.append(f"{name}: {value!r} is not accepted; accepted: {', '.join(choices)}")
            return default
        return value

    def matching(self, name: str, default: str, pattern: str, accepted: str) -> str:
        value = self._raw(name)
        if value is None:
            return default
        if not re.fullmatch(pattern, value):
            self.findings.append(f"{name}: {value!r} is not accepted; accepted: {accepted}")
            return default
        return value

    def words(self, name: str, default: tuple[str, ...] = ()) -> tuple[str, ...]:
        value = self._raw(name)
        if value is None:
            return default
        return tuple(part.strip() for part in value.split(",") if part.strip())

    def address(self, name: str, default: str = "", *, required: bool = False) -> str:
        value = self.text(name, default, required=required)
        if value and not self._is_address(value):
            self.findings.append(f"{name}: {value!r} is not accepted; accepted: host:port")
            return default
        return value

    def addresses(self, name: str) -> tuple[tuple[str, int], ...]:
        found = []
        for word in self.words(name):
            if not self._is_address(word):
                self.findings.append(f"{name}: {word!r} is not accepted; accepted: host:port,host:port,...")
                continue
            host, _, port = word.rpartition(":")
            found.append((host.strip("[]"), int(port)))
        return tuple(found)

    @staticmethod
    def _is_address(value: str) -> bool:
        match = _HOST_PORT.match(value)
        return match is not None and 0 < int(match.group(2)) <= 65535

    def file(self, name: str) -> str | None:
        """The path in NAME, which must be readable."""
        path = self._raw(name)
        if path is None:
            return None
        try:
            with open(path, "rb"):
                pass
        except OSError as exc:
            self.findings.append(f"{name}: cannot read {path}: {exc.strerror}")
        return path
