# Copyright: (c) 2026, Nova Corrente platform team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A tree of files: packing it for the way to the host, comparing it with the disk, writing it so that a power cut loses nothing.

Private to this collection.
"""

from __future__ import annotations

import base64
import dataclasses
import difflib
import grp
import hashlib
import json
import os
import pwd
import stat
import tempfile
import typing as t
import zlib

MAX_DIFF_BYTES = 64 * 1024


class TreeError(Exception):
    """Something about the tree or the disk is not as it must be; the message is meant for the operator."""


@dataclasses.dataclass(frozen=True)
class TreeFile:
    """One file: path relative to the tree's root, content, octal mode as text, and whether its content may be shown."""

    path: str
    content: bytes
    mode: str = "0644"
    secret: bool = False

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.content).hexdigest()


@dataclasses.dataclass(frozen=True)
class Owner:
    """Numeric owner of files."""

    uid: int
    gid: int


def is_secret(mode: str) -> bool:
    """Whether a file of this mode is a secret: nobody but its owner may read it."""
    return not int(mode, 8) & 0o044


def encode_payload(files: t.Iterable[TreeFile]) -> str:
    """Pack files into one ASCII string; the inverse of :func:`decode_payload`."""
    rows = [[f.path, f.mode, f.secret, base64.b64encode(f.content).decode("ascii")] for f in files]
    return base64.b64encode(zlib.compress(json.dumps(rows).encode("utf-8"))).decode("ascii")


def decode_payload(payload: str) -> list[TreeFile]:
    """Unpack a string made by :func:`encode_payload`. Raises TreeError on anything else and on paths that leave the tree."""
    try:
        rows = json.loads(zlib.decompress(base64.b64decode(payload)))
        files = [TreeFile(path, base64.b64decode(content), mode, secret) for path, mode, secret, content in rows]
    except (ValueError, TypeError, zlib.error) as exc:
        raise TreeError(f"payload: expected what the action plugin packs, found something else ({type(exc).__name__}).") from exc
    for item in files:
        check_relative(item.path)
    return files


def check_relative(path: str) -> None:
    """Raise TreeError unless the path stays inside the tree."""
    if not path or path.startswith("/") or ".." in path.split("/"):
        raise TreeError(f"path: {path!r} leaves the tree; expected a relative path without '..'.")


def tree_id(files: t.Iterable[TreeFile], extra: t.Iterable[str] = ()) -> str:
    """Name of a tree: hash over path, mode and content of all files, and over ``extra`` (whatever else makes it differ)."""
    digest = hashlib.sha256()
    for item in sorted(files, key=lambda f: f.path):
        digest.update(f"{item.path}\0{item.mode}\0{item.digest}\n".encode())
    for line in extra:
        digest.update(f"\0{line}\n".encode())
    return digest.hexdigest()[:16]


def resolve_owner(owner: str, group: str = "") -> Owner:
    """``owner`` as ``name``, ``uid`` or ``uid:gid``; ``group`` as name or number. Raises TreeError for unknown names."""
    user, _sep, rest = owner.partition(":")
    group = group or rest
    try:
        uid = int(user) if user.isdigit() else pwd.getpwnam(user).pw_uid
    except KeyError as exc:
        raise TreeError(f"owner: there is no user {user!r} on this host.") from exc
    if not group:
        return Owner(uid, uid)
    try:
        return Owner(uid, int(group) if group.isdigit() else grp.getgrnam(group).gr_gid)
    except KeyError as exc:
        raise TreeError(f"group: there is no group {group!r} on this host.") from exc


def read_file(path: str) -> bytes | None:
    """Content of a regular file, None where there is none."""
    try:
        if not stat.S_ISREG(os.lstat(path).st_mode):
            return None
        with open(path, "rb") as stream:
            return stream.read()
    except (FileNotFoundError, NotADirectoryError):
        return None


def differences(path: str, item: TreeFile, owner: Owner | None) -> list[str]:
    """What of ``content``, ``mode``, ``owner`` differs on disk; all three where the file is missing."""
    try:
        status = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return ["content", "mode", "owner"]
    if not stat.S_ISREG(status.st_mode):
        return ["content", "mode", "owner"]
    found = []
    if read_file(path) != item.content:
        found.append("content")
    if stat.S_IMODE(status.st_mode) != int(item.mode, 8):
        found.append("mode")
    if owner is not None and (status.st_uid, status.st_gid) != (owner.uid, owner.gid):
        found.append("owner")
    return found


def file_diff(path: str, before: bytes | None, item: TreeFile) -> dict[str, str]:
    """An entry for the module's ``diff``; the content of secret files is never part of it."""
    entry = {"before_header": path, "after_header": path}
    if item.secret:
        same = before == item.content
        return {**entry, "before": "(secret)\n", "after": "(secret)\n" if same else "(secret, changed)\n"}
    return {**entry, "before": _printable(before or b""), "after": _printable(item.content)}


def changed_lines(before: bytes, after: bytes) -> int:
    """How many lines were added or removed between two texts."""
    rows = difflib.ndiff(_printable(before).splitlines(), _printable(after).splitlines())
    return sum(1 for row in rows if row[:2] in ("+ ", "- "))


def ensure_directory(path: str, mode: int, owner: Owner | None, check_mode: bool) -> bool:
    """Make a directory (and its parents, 0755) or mend its mode and owner. Returns whether anything differs."""
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        if not check_mode:
            os.makedirs(path, 0o755, exist_ok=True)
            _set_attributes(path, mode, owner)
        return True
    if not stat.S_ISDIR(status.st_mode):
        raise TreeError(f"directories: {path!r} exists and is not a directory.")
    differs = stat.S_IMODE(status.st_mode) != mode or (owner is not None and (status.st_uid, status.st_gid) != (owner.uid, owner.gid))
    if differs and not check_mode:
        _set_attributes(path, mode, owner)
    return differs


def write_temporary(path: str, item: TreeFile, owner: Owner | None) -> str:
    """Write the content to a temporary file beside its place, synced to disk, attributes set. Returns its name."""
    folder = os.path.dirname(path)
    os.makedirs(folder, 0o755, exist_ok=True)
    handle, temporary = tempfile.mkstemp(prefix=".platform-", dir=folder)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(item.content)
            stream.flush()
            os.fsync(stream.fileno())
        _set_attributes(temporary, int(item.mode, 8), owner)
    except OSError:
        os.unlink(temporary)
        raise
    return temporary


def commit_temporary(temporary: str, path: str) -> None:
    """Put a file written by :func:`write_temporary` in its place; afterwards either the old or the new one is there."""
    os.rename(temporary, path)
    sync_directory(os.path.dirname(path))


def write_file(path: str, item: TreeFile, owner: Owner | None) -> None:
    """Write one file atomically."""
    commit_temporary(write_temporary(path, item, owner), path)


def sync_directory(path: str) -> None:
    """Make renames in a directory durable."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def list_files(base: str) -> list[str]:
    """Paths of all files under a directory, relative to it."""
    return sorted(os.path.relpath(os.path.join(folder, name), base) for folder, _dirs, names in os.walk(base) for name in names)


def _set_attributes(path: str, mode: int, owner: Owner | None) -> None:
    if owner is not None:
        os.chown(path, owner.uid, owner.gid)
    os.chmod(path, mode)


def _printable(content: bytes) -> str:
    if len(content) > MAX_DIFF_BYTES or b"\0" in content:
        return f"(binary or large file, {len(content)} bytes, sha256 {hashlib.sha256(content).hexdigest()})\n"
    return content.decode("utf-8", "replace")
