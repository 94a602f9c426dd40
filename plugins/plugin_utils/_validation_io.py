# Copyright: (c) 2026, Nova Corrente platform team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a validation reads on the controller: argument specs, OCI layouts, the vault's names, the registry.

Private to this collection.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import json
import os
import re
import typing as t
import urllib.error
import urllib.parse
import zoneinfo

import yaml
from ansible.module_utils.urls import open_url

from ansible_collections.novacorrente.platform.plugins.plugin_utils._validation import Image, Presence, digests_of_index, parse_image

try:
    from yaml import CSafeLoader as Loader
except ImportError:
    from yaml import SafeLoader as Loader  # type: ignore[assignment]

VAULT_HEADER = b"$ANSIBLE_VAULT"
MANIFEST_TYPES = (
    "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, "
    "application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.docker.distribution.manifest.v2+json"
)


def read_yaml(path: str) -> t.Any:
    with open(path, encoding="utf-8") as stream:
        return yaml.load(stream, Loader=Loader)  # noqa: S506 -- a safe loader


@dataclasses.dataclass(frozen=True)
class Role:
    """What a role says about itself."""

    name: str
    path: str
    options: dict[str, dict[str, t.Any]]
    dependencies: tuple[str, ...]
    words: frozenset[str]


def load_roles(directory: str, collection: str = "novacorrente.platform") -> dict[str, Role]:
    """Roles of a collection that have argument specs; options of all entry points together."""
    roles = {}
    for name in sorted(os.listdir(directory)):
        path = os.path.join(directory, name)
        specs = os.path.join(path, "meta", "argument_specs.yml")
        if not os.path.isfile(specs):
            continue
        options: dict[str, dict[str, t.Any]] = {}
        for entry in (read_yaml(specs) or {}).get("argument_specs", {}).values():
            options.update(entry.get("options") or {})
        meta = os.path.join(path, "meta", "main.yml")
        dependencies = []
        for item in ((read_yaml(meta) or {}).get("dependencies") or []) if os.path.isfile(meta) else []:
            role = item if isinstance(item, str) else str(item.get("role") or item.get("name"))
            dependencies.append(role.removeprefix(f"{collection}."))
        roles[name] = Role(name, path, options, tuple(dependencies), _words(path))
    return roles


IDENTIFIER = re.compile(r"[A-Za-z_]\w+")


def _words(role: str) -> frozenset[str]:
    """All words in a role's templates, to see which variables of other roles it uses."""
    words: set[str] = set()
    for base, _folders, names in os.walk(os.path.join(role, "templates")):
        for name in names:
            if name.endswith(".j2"):
                with open(os.path.join(base, name), encoding="utf-8", errors="replace") as stream:
                    words.update(IDENTIFIER.findall(stream.read()))
    return frozenset(words)


def inventory_files(directories: t.Iterable[str]) -> list[str]:
    """Variable files beside an inventory, in group_vars and host_vars."""
    files = []
    for directory in directories:
        for kind in ("group_vars", "host_vars"):
            for base, _folders, names in os.walk(os.path.join(directory, kind)):
                files += [os.path.join(base, name) for name in sorted(names) if os.path.splitext(name)[1] in ("", ".yml", ".yaml", ".json")]
    return files


def is_vaulted(path: str) -> bool:
    try:
        with open(path, "rb") as stream:
            return stream.read(len(VAULT_HEADER)) == VAULT_HEADER
    except OSError:
        return False


def read_optional(path: str) -> bytes | None:
    try:
        with open(path, "rb") as stream:
            return stream.read()
    except FileNotFoundError:
        return None


def is_time_zone(name: str) -> bool:
    """Whether the controller's data base knows a time zone. Without a data base every name passes."""
    try:
        zoneinfo.ZoneInfo("Etc/UTC")
    except (zoneinfo.ZoneInfoNotFoundError, ValueError):
        return True
    try:
        zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        return False
    return True


def source_presence(image: Image, source: str, online: bool = False) -> Presence:
    """Look for an image in the place that the registry is filled from: on the controller's disk, or C(online) in another registry."""
    transport, separator, rest = source.partition(":")
    if not separator:
        return Presence(False, f"its source {source!r} has no transport (oci:, docker-archive: or docker://)")
    if transport == "oci":
        path = rest.split(":", 1)[0]
        try:
            with open(os.path.join(path, "index.json"), encoding="utf-8") as stream:
                index = json.load(stream)
        except FileNotFoundError:
            return Presence(False, f"there is no OCI layout at {path}")
        except (OSError, ValueError) as error:
            return Presence(False, f"the OCI layout at {path} cannot be read ({error})")
        if image.digest and image.digest not in digests_of_index(index):
            # The manifest of one platform inside an index is not named at the top, but its blob is there.
            blob = os.path.join(path, "blobs", *image.digest.split(":", 1))
            if not os.path.isfile(blob):
                return Presence(False, f"the OCI layout at {path} does not hold this digest")
        return Presence(True)
    if transport in ("docker-archive", "oci-archive", "dir"):
        path = rest.split(":", 1)[0]
        return Presence(True) if os.path.exists(path) else Presence(False, f"its source {path} does not exist")
    return remote_presence(image, rest) if online and transport == "docker" else Presence(True)


def remote_presence(image: Image, rest: str) -> Presence:
    """Ask another registry for an image. Only its clear no counts: the one who copies may have a login there that this check does not know."""
    match = parse_image(rest.lstrip("/"))
    if match is None:
        return Presence(True)
    hub = match.registry == "docker.io"
    name = f"library/{match.name}" if hub and "/" not in match.name else match.name
    there = Image("registry-1.docker.io" if hub else match.registry, name, match.tag, image.digest or match.digest)
    answer = registry_presence(there, RegistryAccess(""))
    return answer if answer.found is False and answer.missing else Presence(True)


@dataclasses.dataclass(frozen=True)
class RegistryAccess:
    """How the platform's own registry is asked; others are asked without credentials and with the system's CAs."""

    host: str
    username: str | None = None
    password: str | None = None
    ca_path: str | None = None
    timeout: float = 5


def registry_presence(image: Image, access: RegistryAccess) -> Presence:
    """Ask the registry for an image's manifest."""
    own = image.registry == access.host
    url = f"https://{image.registry}/v2/{image.name}/manifests/{image.version}"
    headers = {"Accept": MANIFEST_TYPES}
    options: dict[str, t.Any] = {"method": "HEAD", "timeout": access.timeout, "use_proxy": not own, "follow_redirects": "safe"}
    if own:
        options.update(ca_path=access.ca_path)
        if access.username and access.password:
            options.update(url_username=access.username, url_password=access.password, force_basic_auth=True)
    try:
        try:
            open_url(url, headers=headers, **options)
        except urllib.error.HTTPError as error:
            token = _token(error, access) if error.code == 401 and not own else None
            if token is None:
                raise
            open_url(url, headers={**headers, "Authorization": f"Bearer {token}"}, **options)
        return Presence(True)
    except urllib.error.HTTPError as error:
        if error.code == 404:
            return Presence(False, f"the registry {image.registry} does not have it", missing=True)
        if error.code in (401, 403):
            return Presence(False, f"the registry {image.registry} refuses the user {access.username if own else '(anonymous)'} (HTTP {error.code})")
        return Presence(False, f"the registry {image.registry} answers HTTP {error.code}")
    except Exception as error:  # open_url raises its own types for TLS and connection failures
        reason = getattr(error, "reason", None) or error
        return Presence(False, f"the registry {image.registry} does not answer ({reason})")


def _token(error: urllib.error.HTTPError, access: RegistryAccess) -> str | None:
    """An anonymous token, where a public registry asks for one."""
    challenge = error.headers.get("WWW-Authenticate", "")
    if not challenge.lower().startswith("bearer "):
        return None
    fields = dict(re.findall(r'(\w+)="([^"]*)"', challenge))
    if not fields.get("realm", "").startswith("https://"):
        return None
    query = urllib.parse.urlencode({key: fields[key] for key in ("service", "scope") if key in fields})
    answer = json.load(open_url(f"{fields['realm']}?{query}", timeout=access.timeout))
    token = answer.get("token") or answer.get("access_token")
    return str(token) if token else None


def registry_presences(images: t.Iterable[Image], access: RegistryAccess) -> dict[Image, Presence]:
    """Ask for many images at once."""
    images = list(dict.fromkeys(images))
    if not images:
        return {}
    with concurrent.futures.ThreadPoolExecutor(max_workers=min(8, len(images))) as pool:
        return dict(zip(images, pool.map(lambda image: registry_presence(image, access), images), strict=True))
