#!/usr/bin/python
# Copyright: (c) 2026, Nova Corrente platform team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: registry_images
short_description: Make sure that a registry holds images by digest
version_added: 0.1.0
author:
  - Nova Corrente platform team (@novacorrente)
description:
  - Asks a container registry for the manifests of all images at once, and copies those that are missing with C(skopeo), digests preserved.
  - Meant to run on the controller, once, with C(delegate_to=localhost).
  - Credentials reach C(skopeo) in a temporary file of mode 0600, never in its arguments.
requirements:
  - skopeo (where an image is missing)
attributes:
  check_mode:
    support: full
    description: Nothing is copied. Where the registry does not answer yet, all images count as missing.
  diff_mode:
    support: full
    description: Shows the references of the images before and after.
  idempotent:
    support: full
    description: An image whose manifest the registry holds is not copied.
  platform:
    support: full
    platforms: posix
    description: The platforms the module runs on.
options:
  registry:
    description: Host and port of the registry.
    type: str
    required: true
  username:
    description: Name of a user that may push.
    type: str
    required: true
  password:
    description: The user's password.
    type: str
    required: true
  ca_certificate:
    description: Certificates in PEM form that the registry's own is checked with. Unset takes the system's.
    type: str
  images:
    description: The images.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Repository in the registry.
        type: str
        required: true
      tag:
        description: A tag for people to read; nothing pulls by it.
        type: str
        default: latest
      digest:
        description: Digest of the manifest, C(sha256:) and 64 hexadecimal digits.
        type: str
        required: true
      source:
        description: Where the image comes from, in skopeo's words, such as C(oci:/srv/images/redis) or C(docker://docker.io/library/redis@sha256:...).
        type: str
        required: true
  source_authfile:
    description: Credentials for the sources, a file in the form of C(containers-auth.json(5)).
    type: path
  skopeo:
    description: The program, a name or a path.
    type: str
    default: skopeo
  timeout:
    description: Seconds a question to the registry may take.
    type: int
    default: 15
  copy_timeout:
    description: Seconds the copying of one image may take.
    type: int
    default: 1800
"""

EXAMPLES = r"""
- name: Push the images that the registry lacks
  novacorrente.platform.registry_images:
    registry: 192.0.2.41:5000
    username: platform
    password: "{{ registry_password }}"
    ca_certificate: "{{ lookup('ansible.builtin.file', 'pki/ca.crt') }}"
    images:
      - name: redis
        tag: "8.2"
        digest: sha256:7d1b1d2f9d4d0f0f3b6b0f1a2c3d4e5f60718293a4b5c6d7e8f9001122334455
        source: docker://docker.io/library/redis@sha256:7d1b1d2f9d4d0f0f3b6b0f1a2c3d4e5f60718293a4b5c6d7e8f9001122334455
  delegate_to: localhost
  run_once: true
"""

RETURN = r"""
pushed:
  description: References of the images that were, or in check mode would be, copied.
  returned: always
  type: list
  elements: str
  sample: ["192.0.2.41:5000/redis@sha256:7d1b1d2f9d4d0f0f3b6b0f1a2c3d4e5f60718293a4b5c6d7e8f9001122334455"]
"""

import base64
import dataclasses
import functools
import http.client
import json
import os
import re
import shutil
import ssl
import subprocess
import tempfile
import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.novacorrente.platform.plugins.module_utils._parallel import together

DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
NAME = re.compile(r"[a-z0-9]+(?:[._/-]+[a-z0-9]+)*")
MANIFEST_TYPES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)


class RegistryError(Exception):
    """The registry, or an image, is not as it must be; the message is meant for the operator."""


@dataclasses.dataclass(frozen=True)
class Image:
    """An image that the registry must hold."""

    name: str
    tag: str
    digest: str
    source: str

    def reference(self, registry: str) -> str:
        return f"{registry}/{self.name}@{self.digest}"


def copy_command(skopeo: str, image: Image, registry: str, auth_file: str, cert_dir: str | None, source_authfile: str | None) -> list[str]:
    """The arguments of skopeo that copy one image with all its platforms."""
    command = [skopeo, "copy", "--quiet", "--all", "--preserve-digests", "--retry-times", "2", "--dest-authfile", auth_file]
    if cert_dir:
        command += ["--dest-cert-dir", cert_dir]
    if source_authfile:
        command += ["--src-authfile", source_authfile]
    return [*command, image.source, f"docker://{registry}/{image.name}:{image.tag}"]


class RegistryImages:
    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        params = module.params
        self.registry: str = params["registry"]
        self.ca: str | None = params["ca_certificate"]
        self.images = [Image(**row) for row in params["images"]]
        self.token = base64.b64encode(f"{params['username']}:{params['password']}".encode()).decode("ascii")
        for image in self.images:
            if not NAME.fullmatch(image.name):
                raise RegistryError(f"images: the name {image.name!r} is none a registry takes; expected lower case letters, digits and . _ - /.")
            if not DIGEST.fullmatch(image.digest):
                raise RegistryError(f"images: the digest of {image.name!r} is {image.digest!r}; expected 'sha256:' and 64 hexadecimal digits.")

    def run(self) -> dict[str, t.Any]:
        try:
            missing = self.missing()
        except OSError as exc:
            if not self.module.check_mode:
                raise RegistryError(f"The registry {self.registry} does not answer: {exc}. Does its firewall let this controller in?") from exc
            missing = list(self.images)
        if missing and not self.module.check_mode:
            self.copy(missing)
        held = [image.reference(self.registry) for image in self.images if image not in missing]
        pushed = [image.reference(self.registry) for image in missing]
        return {"changed": bool(pushed), "pushed": pushed, "diff": {"before": _lines(held), "after": _lines(held + pushed)}}

    def missing(self) -> list[Image]:
        """The images whose manifest the registry does not hold."""
        context = ssl.create_default_context(cadata=self.ca)
        held = together({image: functools.partial(self.holds, image, context) for image in self.images}, limit=8)
        return [image for image, there in held.items() if not there]

    def holds(self, image: Image, context: ssl.SSLContext) -> bool:
        connection = http.client.HTTPSConnection(self.registry, timeout=self.module.params["timeout"], context=context)
        try:
            headers = {"Accept": ", ".join(MANIFEST_TYPES), "Authorization": f"Basic {self.token}"}
            connection.request("HEAD", f"/v2/{image.name}/manifests/{image.digest}", headers=headers)
            status = connection.getresponse().status
        finally:
            connection.close()
        if status in (401, 403):
            raise RegistryError(f"The registry {self.registry} refuses the user {self.module.params['username']!r} (HTTP {status}); is the password right?")
        if status not in (200, 404):
            raise RegistryError(f"The registry {self.registry} answers HTTP {status} when asked for {image.name}@{image.digest}.")
        return status == 200

    def copy(self, images: list[Image]) -> None:
        skopeo = shutil.which(self.module.params["skopeo"])
        if skopeo is None:
            raise RegistryError(f"{self.module.params['skopeo']!r} is not on the controller; install the package skopeo to push images.")
        with tempfile.TemporaryDirectory(prefix="platform-registry-") as folder:
            auth_file = os.path.join(folder, "auth.json")
            with open(os.open(auth_file, os.O_WRONLY | os.O_CREAT, 0o600), "w", encoding="utf-8") as stream:
                json.dump({"auths": {self.registry: {"auth": self.token}}}, stream)
            cert_dir = None
            if self.ca:
                cert_dir = os.path.join(folder, "certs")
                os.mkdir(cert_dir)
                with open(os.path.join(cert_dir, "ca.crt"), "w", encoding="utf-8") as stream:
                    stream.write(self.ca)
            for image in images:
                self.copy_one(image, copy_command(skopeo, image, self.registry, auth_file, cert_dir, self.module.params["source_authfile"]))
        context = ssl.create_default_context(cadata=self.ca)
        for image in images:
            if not self.holds(image, context):
                raise RegistryError(
                    f"{image.source} was copied to {self.registry}/{image.name}:{image.tag}, but its digest is not {image.digest}. "
                    "Give the digest of what the source holds now, or the source that has this digest."
                )

    def copy_one(self, image: Image, command: list[str]) -> None:
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=self.module.params["copy_timeout"], check=False)
        except subprocess.TimeoutExpired as exc:
            raise RegistryError(f"Copying {image.source} took longer than {self.module.params['copy_timeout']} seconds.") from exc
        if done.returncode != 0:
            raise RegistryError(f"skopeo cannot copy {image.source} to {self.registry}/{image.name}:{image.tag}: {done.stderr.strip()}")


def _lines(references: list[str]) -> str:
    return "".join(f"{reference}\n" for reference in sorted(references))


def main() -> t.NoReturn:
    module = AnsibleModule(
        argument_spec={
            "registry": {"type": "str", "required": True},
            "username": {"type": "str", "required": True},
            "password": {"type": "str", "required": True, "no_log": True},
            "ca_certificate": {"type": "str"},
            "images": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "name": {"type": "str", "required": True},
                    "tag": {"type": "str", "default": "latest"},
                    "digest": {"type": "str", "required": True},
                    "source": {"type": "str", "required": True},
                },
            },
            "source_authfile": {"type": "path"},
            "skopeo": {"type": "str", "default": "skopeo"},
            "timeout": {"type": "int", "default": 15},
            "copy_timeout": {"type": "int", "default": 1800},
        },
        supports_check_mode=True,
    )
    try:
        result = RegistryImages(module).run()
    except RegistryError as exc:
        module.fail_json(msg=str(exc))
    module.exit_json(**result)


if __name__ == "__main__":
    main()
