# SPDX-License-Identifier: GPL-3.0-or-later
"""Trees of files: packing, comparing, and writing so that nothing is half done."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.novacorrente.platform.plugins.module_utils import _tree
from ansible_collections.novacorrente.platform.plugins.module_utils._tree import TreeError, TreeFile

PATHS = st.lists(st.from_regex(r"[a-z0-9_.-]{1,8}", fullmatch=True).filter(lambda part: part not in (".", "..")), min_size=1, max_size=3).map("/".join)
FILES = st.lists(
    st.builds(TreeFile, path=PATHS, content=st.binary(max_size=200), mode=st.sampled_from(["0400", "0644"]), secret=st.booleans()),
    unique_by=lambda f: f.path,
    max_size=5,
)
ME = _tree.Owner(os.getuid(), os.getgid())


@given(FILES)
def test_a_payload_comes_back_as_it_was(files):
    assert _tree.decode_payload(_tree.encode_payload(files)) == files


@pytest.mark.parametrize("payload", ["", "not base64!", "aGVsbG8=", "eJyrBgABLAEe"])
def test_a_foreign_payload_is_refused(payload):
    with pytest.raises(TreeError, match="payload"):
        _tree.decode_payload(payload)


@pytest.mark.parametrize("path", ["", "/etc/passwd", "../x", "a/../../x"])
def test_paths_that_leave_the_tree_are_refused(path):
    with pytest.raises(TreeError, match="leaves the tree"):
        _tree.decode_payload(_tree.encode_payload([TreeFile(path, b"x")]))


@given(FILES, st.randoms())
def test_the_name_of_a_tree_does_not_depend_on_order(files, random):
    shuffled = list(files)
    random.shuffle(shuffled)
    assert _tree.tree_id(files) == _tree.tree_id(shuffled)


@pytest.mark.parametrize(
    "other",
    [TreeFile("a", b"2", "0444"), TreeFile("a", b"1", "0400"), TreeFile("b", b"1", "0444")],
    ids=["content", "mode", "path"],
)
def test_the_name_of_a_tree_follows_content_mode_and_path(other):
    assert _tree.tree_id([TreeFile("a", b"1", "0444")]) != _tree.tree_id([other])
    assert _tree.tree_id([other], ["10001"]) != _tree.tree_id([other], ["10002"])


def test_differences_name_what_differs(tmp_path):
    path = str(tmp_path / "x")
    item = TreeFile("x", b"one\n", "0640")
    assert _tree.differences(path, item, ME) == ["content", "mode", "owner"]
    _tree.write_file(path, item, ME)
    assert _tree.differences(path, item, ME) == []
    assert _tree.differences(path, TreeFile("x", b"two\n", "0640"), ME) == ["content"]
    assert _tree.differences(path, TreeFile("x", b"one\n", "0600"), ME) == ["mode"]
    assert _tree.differences(path, item, _tree.Owner(ME.uid + 1, ME.gid)) == ["owner"]


def test_a_symbolic_link_in_the_place_of_a_file_is_replaced_not_followed(tmp_path):
    target = tmp_path / "target"
    target.write_text("keep")
    (tmp_path / "x").symlink_to(target)
    item = TreeFile("x", b"new", "0644")
    assert "content" in _tree.differences(str(tmp_path / "x"), item, ME)
    _tree.write_file(str(tmp_path / "x"), item, ME)
    assert target.read_text() == "keep"
    assert (tmp_path / "x").read_bytes() == b"new"


def test_a_failed_write_leaves_the_old_file_and_no_litter(tmp_path, monkeypatch):
    path = tmp_path / "x"
    path.write_bytes(b"old")

    def full(_handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        _tree.write_file(str(path), TreeFile("x", b"new"), ME)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["x"]


def test_a_diff_shows_text_but_never_a_secret():
    shown = _tree.file_diff("/etc/x", b"old\n", TreeFile("x", b"new\n"))
    assert (shown["before"], shown["after"]) == ("old\n", "new\n")
    hidden = _tree.file_diff("/etc/x", b"old-secret\n", TreeFile("x", b"new-secret\n", "0400", True))
    assert "secret\n" not in (hidden["before"] + hidden["after"]).replace("(secret)\n", "")
    assert "changed" in hidden["after"]
    assert hidden["before"] != hidden["after"]


def test_a_large_or_binary_file_is_shown_by_its_digest():
    assert "sha256" in _tree.file_diff("x", b"\0\1", TreeFile("x", b"text"))["before"]


def test_directories_are_made_and_mended(tmp_path):
    path = str(tmp_path / "a" / "b")
    assert _tree.ensure_directory(path, 0o750, ME, check_mode=True)
    assert not os.path.exists(path)
    assert _tree.ensure_directory(path, 0o750, ME, check_mode=False)
    assert not _tree.ensure_directory(path, 0o750, ME, check_mode=False)
    os.chmod(path, 0o777)
    assert _tree.ensure_directory(path, 0o750, ME, check_mode=False)
    assert os.stat(path).st_mode & 0o777 == 0o750
    (tmp_path / "file").write_text("")
    with pytest.raises(TreeError, match="not a directory"):
        _tree.ensure_directory(str(tmp_path / "file"), 0o750, ME, check_mode=False)


@pytest.mark.parametrize(
    ("owner", "group", "expected"),
    [("0", "", (0, 0)), ("10001", "", (10001, 10001)), ("10001:10002", "", (10001, 10002)), ("root", "root", (0, 0)), ("root", "5", (0, 5))],
)
def test_owners_are_names_or_numbers(owner, group, expected):
    found = _tree.resolve_owner(owner, group)
    assert (found.uid, found.gid) == expected


@pytest.mark.parametrize(("owner", "group", "word"), [("nobody-such", "", "owner"), ("root", "none-such", "group")])
def test_unknown_owners_are_named(owner, group, word):
    with pytest.raises(TreeError, match=word):
        _tree.resolve_owner(owner, group)
