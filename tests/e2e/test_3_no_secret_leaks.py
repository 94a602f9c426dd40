# SPDX-License-Identifier: GPL-3.0-or-later
"""No secret in a log at -vvv, in `docker inspect`, in a process list, in an image, or in a host's journal."""

from __future__ import annotations

import base64
import contextlib
import functools
import hashlib
import io
import json
import mmap
import pathlib
import shutil
import subprocess
import tarfile
import typing as t
import urllib.parse

import pytest
import support

# A variable of each tier, whose other value is another release of it, the same to those who use the platform.
CHANGES: dict[str, dict[str, str | int]] = {
    "minio": {"minio_stale_upload_hours": 169},
    "redis": {"redis_cache_maxmemory": "255mb"},
    "mongodb": {"mongodb_slow_ms": 101},
    "neo4j": {"neo4j_tx_log_size": "17m"},
    "api": {"api_log_level": "debug"},
    "worker": {"worker_log_level": "debug"},
    "scheduler": {"scheduler_log_level": "debug"},
    "edge": {"edge_max_body_mib": 9},
}
# Looks at the processes of a machine until nobody reads it any more: ps is then refused its output.
WATCH = "while ps -eww -o args; do sleep 1; done"


def in_base64(value: bytes) -> set[bytes]:
    """What base64 makes of a value in the middle of something longer, for each place that its first byte can have among three."""
    forms = set()
    for before in range(3):
        text = base64.b64encode(bytes(before) + value)
        # Only the characters that all their bits have from the value.
        forms.add(text[(before * 8 + 5) // 6 : (before + len(value)) * 8 // 6])
    return forms


@functools.cache
def needles() -> dict[str, list[bytes]]:
    """Every secret of the lab in the forms in which it could leak."""
    found = {}
    for name, value in support.secrets().items():
        forms = {value.encode(), urllib.parse.quote(value, safe="").encode(), *in_base64(value.encode())}
        found[name] = sorted(form for form in forms if len(form) >= 12)
    assert len(found) >= 10, "the lab's vault holds fewer secrets than the platform needs"
    return found


def leaks(text: str | mmap.mmap) -> list[str]:
    """Names of the secrets that occur in a text or a file."""
    content = text.encode("utf-8", "replace") if isinstance(text, str) else text
    return [name for name, forms in needles().items() if any(content.find(form) >= 0 for form in forms)]


def test_the_search_finds_a_planted_secret():
    name, value = next(iter(support.secrets().items()))
    assert leaks(f"GET /?token={value}&x=1") == [name]
    for user in ("", "a:", "ab:", "abc:"):
        assert leaks("Authorization: Basic " + base64.b64encode(user.encode() + value.encode()).decode()) == [name]


@pytest.fixture(scope="module")
def converged_under_watch(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A converge at -vvv that changes every tier, with the process lists of all hosts and of this one meanwhile.

    The way back to the inventory's own values is that of test_6_interrupted.py, which kills it on the way.
    """
    folder = tmp_path_factory.mktemp("processes")
    before = support.releases()
    tiers = {tier for _host, tier in before}
    assert tiers <= set(CHANGES), "CHANGES has to name a variable of each tier"
    changes = {name: value for tier in tiers for name, value in CHANGES[tier].items()}
    commands = {"this machine": ["sh", "-c", WATCH], **{host: support.ssh_command(host, WATCH) for host in support.hosts()}}
    watchers = {}
    with contextlib.ExitStack() as stack:
        for where, command in commands.items():
            stream = stack.enter_context(open(folder / where, "wb"))
            watchers[where] = subprocess.Popen(command, cwd=support.REPO, stdin=subprocess.DEVNULL, stdout=stream, start_new_session=True)
            stack.callback(support.kill, watchers[where])
        # --diff would print what changed, secrets too if it could.
        run = support.playbook("verbose", "-vvv", "--diff", "-e", json.dumps(changes), timeout=1800, ANSIBLE_DISPLAY_ARGS_TO_STDOUT="1")
        assert run.code == 0, run.text[-3000:]
        assert [where for where, watcher in watchers.items() if watcher.poll() is not None] == [], "they were not watched to the end"
    after = support.releases()
    assert [member for member in before if before[member] & after.get(member, set())] == [], "their release was not changed"
    seen = {f"processes of {where}": (folder / where).read_text(errors="replace") for where in watchers}
    assert [where for where, text in seen.items() if "ps -eww -o args" not in text] == []
    assert "ansible-playbook" in seen["processes of this machine"]
    return {"log": run.text, **seen}


def test_no_secret_in_the_log_or_in_a_process_list(converged_under_watch):
    found = {where: leaks(text) for where, text in converged_under_watch.items()}
    assert {where: names for where, names in found.items() if names} == {}


def test_no_secret_in_docker_inspect():
    for host in support.hosts():
        assert leaks(json.dumps(support.containers(host))) == [], host


def test_no_secret_in_container_logs_or_the_journal():
    for host in support.hosts():
        logs = support.ssh(host, "docker ps -aq | xargs -r -n1 docker logs 2>&1; journalctl --no-pager -o cat", timeout=120)
        assert leaks(logs) == [], host


def test_secret_files_can_be_read_by_their_owner_only():
    for host in support.hosts():
        out = support.ssh(host, r"find /srv/platform \( -path '*/secrets/*' -o -name '*.key' \) -type f -perm /077 2>/dev/null || true")
        assert out.strip() == "", f"{host}: {out}"


def layers(source: str, folder: pathlib.Path) -> list[pathlib.Path]:
    """The layers of an image as plain tar archives in `folder`, whatever they are compressed with; its configuration and manifest lie there too."""
    copied = subprocess.run(
        ["skopeo", "copy", "--quiet", "--dest-decompress", source, f"dir:{folder}"], stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    assert copied.returncode == 0, copied.stderr
    manifest = json.loads((folder / "manifest.json").read_text())
    found = [folder / layer["digest"].removeprefix("sha256:") for layer in manifest["layers"]]
    for path in found:
        # Opened without decompression: a layer that is still compressed is an error.
        tarfile.open(path, "r:").close()
    return found


def leaks_of_file(path: pathlib.Path) -> list[str]:
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return leaks(content)


def test_the_search_finds_a_secret_in_a_compressed_layer(tmp_path):
    """In an image as tools/images.py publishes it: an OCI layout, its layers compressed with zstd."""
    name, value = next(iter(support.secrets().items()))
    plain = tmp_path / "plain"
    blobs = plain / "blobs" / "sha256"
    blobs.mkdir(parents=True)

    def blob(content: bytes, **fields: t.Any) -> dict[str, t.Any]:
        digest = hashlib.sha256(content).hexdigest()
        (blobs / digest).write_bytes(content)
        return {"digest": f"sha256:{digest}", "size": len(content), **fields}

    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        member = tarfile.TarInfo("etc/settings")
        member.size = len(value)
        tar.addfile(member, io.BytesIO(value.encode()))
    kind = "application/vnd.oci.image"
    layer = blob(archive.getvalue(), mediaType=f"{kind}.layer.v1.tar")
    about = {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": [layer["digest"]]}}
    config = blob(json.dumps(about).encode(), mediaType=f"{kind}.config.v1+json")
    manifest = blob(json.dumps({"schemaVersion": 2, "config": config, "layers": [layer]}).encode(), mediaType=f"{kind}.manifest.v1+json")
    manifest["annotations"] = {"org.opencontainers.image.ref.name": "plain"}
    (plain / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [manifest]}))
    (plain / "oci-layout").write_text(json.dumps({"imageLayoutVersion": "1.0.0"}))
    packed = tmp_path / "packed"
    subprocess.run(["skopeo", "copy", "--quiet", "--dest-compress-format=zstd", f"oci:{plain}:plain", f"oci:{packed}:packed"], check=True)
    named = json.loads((packed / "index.json").read_text())["manifests"][0]["digest"].removeprefix("sha256:")
    manifest = json.loads((packed / "blobs" / "sha256" / named).read_text())
    assert [layer["mediaType"] for layer in manifest["layers"]] == [f"{kind}.layer.v1.tar+zstd"], "the layer is not compressed"
    assert [leaks_of_file(path) for path in layers(f"oci:{packed}:packed", tmp_path / "opened")] == [[name]]


def test_no_secret_in_an_image(tmp_path):
    """All that is published: layers, decompressed, and what the manifest and the configuration (environment, history) say."""
    sources = {image["name"]: image["source"] for image in support.hostvars("ops1")["registry_images"]}
    assert set(sources) == set(support.hostvars("ops1")["platform_images"])
    searched: set[str] = set()
    for name, source in sources.items():
        folder = tmp_path / name
        assert layers(source, folder), f"{name} has no layer"
        for path in sorted(folder.iterdir()):
            # Images share the layers they are built on.
            if path.name == "manifest.json" or path.name not in searched:
                assert leaks_of_file(path) == [], f"{name}: {path.name}"
                searched.add(path.name)
        shutil.rmtree(folder)


def test_no_secret_in_the_repository():
    files = subprocess.run(["git", "ls-files", "-z"], cwd=support.REPO, capture_output=True, check=True).stdout.decode().split("\0")
    for name in filter(None, files):
        path = support.REPO / name
        if path.is_file():
            assert leaks(path.read_text(errors="replace")) == [], name
