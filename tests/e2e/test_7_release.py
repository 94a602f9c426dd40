# SPDX-License-Identifier: GPL-3.0-or-later
"""The release module on a real host: stage, activate, reload, drift, refusal, going back, and what a killed run leaves."""

from __future__ import annotations

import json
import os
import pathlib

import pytest
import support

HOST = "ops1"
BASE = "/srv/platform-demo/demo"
PROJECT = "label=com.docker.compose.project=demo"
SECRET = "a-secret-only-this-test-knows"
HERE = pathlib.Path(__file__).parent


def demo(name: str, *args: str, ok: bool = True, **variables: object) -> dict[str, object]:
    values = {"demo_image": support.hostvars(HOST)["platform_images"]["redis"], "demo_secret": SECRET, **variables}
    run = support.playbook(
        f"release-{name}", "--diff", *args, "-e", json.dumps(values), playbook=str(HERE / "release.yml"), ANSIBLE_ROLES_PATH=str(HERE / "roles")
    )
    assert (run.code == 0) is ok, run.text[-3000:]
    assert SECRET not in run.text
    answers = [line.split("ANSWER ", 1)[1].rstrip('"') for line in run.text.splitlines() if "ANSWER " in line]
    answer = json.loads(answers[0].replace('\\"', '"').rstrip("'")) if answers else {}
    return {**answer, "changed": bool(run.changed()), "text": run.text}


def started() -> str:
    return support.ssh(HOST, "docker inspect --format '{{.State.StartedAt}}' demo-web-1").strip()


def current() -> str:
    return os.path.basename(support.ssh(HOST, f"readlink {BASE}/current").strip())


@pytest.fixture(scope="module", autouse=True)
def clean():
    def remove() -> None:
        support.ssh(
            HOST,
            f"docker ps -aq --filter {PROJECT} | xargs -r docker rm -f; docker network rm demo_default; rm -rf /srv/platform-demo; true",
        )

    remove()
    yield
    remove()


def test_check_mode_tells_the_truth_and_writes_nothing():
    answer = demo("check", "--check")
    assert answer["state"] == "new"
    assert answer["changed"]
    assert support.ssh(HOST, "ls -d /srv/platform-demo 2>/dev/null || true") == ""


def test_staging_starts_nothing():
    answer = demo("stage")
    assert (answer["state"], answer["changed"]) == ("new", True)
    assert support.ssh(HOST, f"docker ps -q --filter {PROJECT}") == ""
    assert not demo("stage-again")["changed"]


def test_an_active_release_is_current_and_left_alone():
    demo("activate", demo_state="active")
    first = started()
    answer = demo("activate-again", demo_state="active")
    assert (answer["state"], answer["changed"]) == ("current", False)
    assert started() == first
    assert support.ssh(HOST, f"stat -c '%a %u' {BASE}/current/secrets/password").strip() == "400 10099"
    assert support.ssh(HOST, f"ls {BASE}/current/config").split() == ["demo.conf"]


def test_live_files_are_taken_up_without_a_restart():
    first = started()
    answer = demo("live", demo_certificate="two", demo_state="active")
    assert answer["state"] == "reload"
    assert started() == first
    assert support.ssh(HOST, "docker exec demo-web-1 cat /live/tls/tls.crt").strip() == "certificate two"
    support.ssh(HOST, "docker exec demo-web-1 test -f /tmp/reloaded")


def test_a_reload_that_was_owed_is_repeated():
    support.ssh(HOST, f"docker exec demo-web-1 rm /tmp/reloaded; touch {BASE}/reload-pending")
    assert demo("owed", demo_certificate="two", demo_state="active")["state"] == "reload"
    support.ssh(HOST, "docker exec demo-web-1 test -f /tmp/reloaded")
    assert not demo("owed-again", demo_certificate="two", demo_state="active")["changed"]


def test_a_change_says_why_and_keeps_the_way_back():
    old = current()
    answer = demo("change", demo_setting="two", demo_certificate="two", demo_state="active")
    assert answer["state"] == "changed"
    assert "config/demo.conf: 2 lines" in answer["reasons"]
    assert current() == answer["release"] != old
    assert os.path.basename(support.ssh(HOST, f"readlink {BASE}/previous").strip()) == old


def test_a_run_killed_between_staging_and_switching_is_finished_by_the_next():
    demo("killed", demo_setting="three", demo_certificate="two")
    support.ssh(HOST, f"mkdir -p {BASE}/releases/.partial-0123456789abcdef/config")
    answer = demo("killed-again", demo_setting="three", demo_certificate="two", demo_state="active")
    assert answer["state"] == "changed"
    assert "three" in support.ssh(HOST, "docker exec demo-web-1 cat /config/demo.conf")


def test_a_release_that_was_tampered_with_is_mended():
    support.ssh(HOST, f"echo 'setting = mine' > {BASE}/current/config/demo.conf; chmod 0644 {BASE}/current/secrets/password")
    answer = demo("tampered", demo_setting="three", demo_certificate="two")
    assert answer["changed"]
    assert "three" in support.ssh(HOST, f"cat {BASE}/current/config/demo.conf")
    assert support.ssh(HOST, f"stat -c %a {BASE}/current/secrets/password").strip() == "400"
    assert not demo("tampered-again", demo_setting="three", demo_certificate="two")["changed"]


def test_a_release_refused_by_validation_changes_nothing():
    first, old = started(), current()
    answer = demo("refused", ok=False, demo_setting="four", demo_valid="something-else", demo_certificate="two", demo_state="active")
    assert "refused" in answer["text"]
    assert (started(), current()) == (first, old)


def test_an_image_that_does_not_exist_changes_nothing():
    first = started()
    image = support.hostvars(HOST)["platform_images"]["redis"].split("@")[0] + "@sha256:" + "0" * 64
    answer = demo("no-image", ok=False, demo_image=image, demo_certificate="two", demo_state="active")
    assert "cannot pull" in answer["text"]
    assert started() == first


@pytest.mark.parametrize("command", ["docker stop -t 0 demo-web-1", "docker rm -f demo-web-1"])
def test_a_member_that_was_stopped_by_hand_is_started_again(command):
    support.ssh(HOST, command)
    assert demo("stopped", demo_setting="three", demo_certificate="two", demo_state="active")["state"] == "new"
    assert support.ssh(HOST, f"docker ps -q --filter {PROJECT}").strip()


def test_a_release_that_never_gets_healthy_fails_and_can_be_taken_back():
    old = current()
    bad = {"demo_setting": "five", "demo_healthy_file": "/no/such/file", "demo_certificate": "two"}
    answer = demo("unhealthy", ok=False, demo_state="active", **bad)
    assert "did not become healthy" in answer["text"]
    demo("back", demo_state="reverted", **bad)
    assert current() == old
    assert "three" in support.ssh(HOST, "docker exec demo-web-1 cat /config/demo.conf")
    first = started()
    assert "changed=0" in demo("back-again", demo_state="reverted", **bad)["text"]
    assert (started(), current()) == (first, old)


def test_a_run_killed_after_its_switch_to_a_bad_release_is_taken_back_by_the_next():
    good = {"demo_setting": "three", "demo_certificate": "two"}
    demo("good", demo_state="active", **good)
    old = current()
    bad = {"demo_setting": "six", "demo_healthy_file": "/no/such/file", "demo_certificate": "two"}
    demo("bad-killed", ok=False, demo_state="active", **bad)
    assert current() != old
    answer = demo("bad-again", **bad)
    assert answer["state"] in ("changed", "new")
    demo("bad-back", demo_state="reverted", **bad)
    assert current() == old
    assert demo("good-again", demo_state="active", **good)["state"] in ("current", "drifted")


def test_another_user_is_refused_while_the_member_is_there():
    answer = demo("owner", ok=False, demo_owner="4711", demo_setting="three", demo_certificate="two")
    assert "owner: is '4711'" in answer["text"] and "accepted is" in answer["text"]


def test_live_files_that_the_server_refuses_are_taken_back():
    # The validation of the demo looks at the certificate, too.
    answer = demo("live-refused", ok=False, demo_setting="three", demo_certificate="broken", demo_state="active")
    assert "were refused by" in answer["text"] and "taken back" in answer["text"]
    assert support.ssh(HOST, "docker exec demo-web-1 cat /live/tls/tls.crt").count("broken") == 0
