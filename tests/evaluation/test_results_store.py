"""Items kept while a measurement goes on: none lost, none measured twice, whoever measured it."""

from dataclasses import replace
from pathlib import Path

import pytest

from clingpt.evaluation.results_store import Parts
from clingpt.nn import runtime
from clingpt.nn.runtime import Runtime

SETTINGS = {"split": "val", "texts": None}


@pytest.fixture
def rt() -> Runtime:
    return runtime.start(device="cpu")


def test_what_is_there_is_not_measured_again(tmp_path: Path, rt: Runtime) -> None:
    parts = Parts(tmp_path / "parts", SETTINGS, rt)
    assert parts.is_new and parts.todo("labels", 4) == [0, 1, 2, 3]
    parts.add("labels", [(2, {"label": "yes"}), (0, {"label": "µ\n"})])
    again = Parts(tmp_path / "parts", SETTINGS, rt)
    assert not again.is_new and again.n_done() == 2
    assert again.todo("labels", 4) == [1, 3] and again.todo("labels", 2) == [1]
    assert again.todo("answer", 2) == [0, 1]
    again.add("labels", [(1, {"label": "no"})])
    again.gather()
    assert list(again.items("labels")) == [
        {"n": 0, "label": "µ\n"},
        {"n": 1, "label": "no"},
        {"n": 2, "label": "yes"},
    ]
    assert list(again.items("answer")) == [] and again.names() == ["labels"]
    again.remove()
    assert not (tmp_path / "parts").exists()


def test_other_settings_begin_anew(tmp_path: Path, rt: Runtime) -> None:
    Parts(tmp_path / "parts", SETTINGS, rt).add("labels", [(0, {})])
    other = Parts(tmp_path / "parts", SETTINGS | {"split": "test"}, rt)
    assert other.is_new and other.todo("labels", 1) == [0]


@pytest.mark.parametrize("end", ['{"n": 2, "lab', "{}\n", "[2]\n", "no JSON\n", '{"n": "2"}\n'])
def test_a_broken_end_is_cut_off_and_measured_again(end: str, tmp_path: Path, rt: Runtime) -> None:
    parts = Parts(tmp_path / "parts", SETTINGS, rt)
    parts.add("text a.b.txt", [(0, {}), (1, {})])
    [path] = (tmp_path / "parts").glob("*.jsonl")
    path.write_text(path.read_text() + end)
    again = Parts(tmp_path / "parts", SETTINGS, rt)
    assert again.todo("text a.b.txt", 3) == [2]
    again.add("text a.b.txt", [(2, {"x": 1})])
    again.gather()
    assert [item["n"] for item in again.items("text a.b.txt")] == [0, 1, 2]


def test_many_processes_share_what_is_left(tmp_path: Path, rt: Runtime) -> None:
    """Their files are read by any other number of them."""
    Parts(tmp_path / "parts", SETTINGS, rt).add("labels", [(1, {})])
    ranks = [Parts(tmp_path / "parts", SETTINGS, replace(rt, rank=n)) for n in (0, 1)]
    shares = [[0, 3], [2, 4]]
    for parts, numbers in zip(ranks, shares, strict=True):
        parts.add("labels", ((n, {}) for n in numbers))
    alone = Parts(tmp_path / "parts", SETTINGS, rt)
    assert alone.todo("labels", 6) == [5] and len(list((tmp_path / "parts").glob("*.jsonl"))) == 2
    assert [item["n"] for item in alone.items("labels")] == [0, 1, 2, 3, 4]
