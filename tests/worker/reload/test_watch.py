"""A watched file: each change is told once, and only when it stands still."""

from __future__ import annotations

from pathlib import Path

from worker.errors import ConfigError
from worker.reload.watch import WatchedFile, found_at


def watched(path: Path) -> WatchedFile:
    path.write_bytes(b"one")
    return WatchedFile(path, found_at(path))


def test_a_change_is_told_once_and_only_when_two_looks_found_the_same(tmp_path: Path) -> None:
    file = watched(tmp_path / "routing.yaml")
    assert file.look() is None
    for half_written in (b"tw", b"two", b"two a"):
        (tmp_path / "routing.yaml").write_bytes(half_written)
        assert file.look() is None
    (tmp_path / "routing.yaml").write_bytes(b"two and a half")
    assert [found.content if found else None for found in (file.look(), file.look(), file.look())] == [
        None,
        b"two and a half",
        None,
    ]


def test_what_was_there_before_is_no_change(tmp_path: Path) -> None:
    file = watched(tmp_path / "routing.yaml")
    (tmp_path / "routing.yaml").write_bytes(b"two")
    assert file.look() is None
    (tmp_path / "routing.yaml").write_bytes(b"one")
    assert [file.look(), file.look()] == [None, None]


def test_a_replaced_file_and_a_replaced_link_are_changes(tmp_path: Path) -> None:
    file = watched(tmp_path / "routing.yaml")
    (tmp_path / "new").write_bytes(b"two")
    (tmp_path / "new").replace(tmp_path / "routing.yaml")
    assert [bool(file.look()), bool(file.look())] == [False, True]
    (tmp_path / "mounted").write_bytes(b"three")
    (tmp_path / "routing.yaml").unlink()
    (tmp_path / "routing.yaml").symlink_to(tmp_path / "mounted")
    assert [bool(file.look()), bool(file.look())] == [False, True]


def test_a_file_that_is_gone_is_told_once_and_found_again(tmp_path: Path) -> None:
    file = watched(tmp_path / "routing.yaml")
    (tmp_path / "routing.yaml").unlink()
    assert file.look() is None
    assert isinstance(file.look(), ConfigError)
    assert file.look() is None
    (tmp_path / "routing.yaml").write_bytes(b"one")
    assert [bool(file.look()), bool(file.look())] == [False, True]
