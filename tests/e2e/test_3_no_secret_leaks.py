# SPDX-License-Identifier: GPL-3.0-or-later
"""No secret in a log at -vvv, in `docker inspect`, in a process list, in an image, or in a host's journal."""

from __future__ import annotations

import base64
import json
import pathlib
import subprocess
import tarfile
import threading
import urllib.parse

import pytest
import support

# How often processes are looked at on every host while the platform converges.
PROCESS_SAMPLES = 40


def needles() -> dict[str, list[str]]:
    """Every secret of the lab in the forms in which it could leak."""
    found = {}
    for name, value in support.secrets().items():
        forms = {value, urllib.parse.quote(value, safe=""), base64.b64encode(value.encode()).decode().rstrip("=")}
        found[name] = sorted(form for form in forms if len(form) >= 12)
    assert len(found) >= 10, "the lab's vault holds fewer secrets than the platform needs"
    return found


def leaks(text: str) -> list[str]:
    """Names of the secrets that occur in a text."""
    return [name for name, forms in needles().items() if any(form in text for form in forms)]


def test_the_search_finds_a_planted_secret():
    name, value = next(iter(support.secrets().items()))
    assert leaks(f"GET /?token={value}&x=1") == [name]
    assert leaks("Authorization: Basic " + base64.b64encode(value.encode()).decode()) == [name]


@pytest.fixture(scope="module")
def converged_under_watch() -> dict[str, str]:
    """A converge at -vvv that changes every tier, with the process lists of all hosts recorded meanwhile."""
    seen = {host: "" for host in support.hosts()}

    def watch(host: str) -> None:
        command = f"for i in $(seq {PROCESS_SAMPLES}); do ps -eww -o args; sleep 1; done"
        seen[host] = support.ssh(host, command, timeout=600)

    watchers = [threading.Thread(target=watch, args=(host,)) for host in seen]
    for watcher in watchers:
        watcher.start()
    # Another log level renders another release of the app tiers; --diff would print what changed, secrets too if it could.
    run = support.playbook("verbose", "-vvv", "--diff", "-e", "api_log_level=debug", "-e", "worker_log_level=debug", ANSIBLE_DISPLAY_ARGS_TO_STDOUT="1")
    for watcher in watchers:
        watcher.join()
    assert run.code == 0, run.text[-3000:]
    assert run.changed()
    back = support.playbook("verbose-back", "-vvv", "--diff")
    assert back.code == 0, back.text[-3000:]
    return {"log": run.text + back.text, **{f"processes of {host}": text for host, text in seen.items()}}


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


def test_no_secret_in_an_image(tmp_path):
    """The layers are read as files, decompressed."""
    sources = {image["name"]: image["source"] for image in support.hostvars("ops1")["registry_images"]}
    assert {"api", "pipeline", "frontend", "minio"} <= set(sources)
    for name in ("api", "pipeline", "frontend"):
        layout = pathlib.Path(sources[name].split(":", 1)[1].rsplit(":", 1)[0])
        for blob in sorted((layout / "blobs" / "sha256").iterdir()):
            if not tarfile.is_tarfile(blob):
                assert leaks(blob.read_text(errors="replace")) == [], f"{name}: {blob.name}"
                continue
            with tarfile.open(blob) as layer:
                for member in layer:
                    stream = layer.extractfile(member) if member.isfile() and member.size < 4 * 1024 * 1024 else None
                    if stream:
                        assert leaks(stream.read().decode("utf-8", "replace")) == [], f"{name}: {member.name}"


def test_no_secret_in_the_repository():
    files = subprocess.run(["git", "ls-files", "-z"], cwd=support.REPO, capture_output=True, check=True).stdout.decode().split("\0")
    for name in filter(None, files):
        path = support.REPO / name
        if path.is_file():
            assert leaks(path.read_text(errors="replace")) == [], name
