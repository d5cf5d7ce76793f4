"""SIGKILL at thirty random moments: checkpoints stay intact, and the result is the same."""

from pathlib import Path

import pytest

from tests.helpers.commands import fingerprint, train_killed, train_losses


@pytest.mark.slow
def test_a_run_killed_thirty_times_matches_an_uninterrupted_one(
    thirteen: Path, tmp_path: Path
) -> None:
    flags = [
        "--n_layer=1",
        "--n_embd=16",
        "--batch_size=2",
        "--micro_batch_size=1",
        "--dropout=0.1",
    ]
    flags += [
        "--steps=90",
        "--eval_every=1",
        "--log_every=1",
        "--sample=False",
        f"--data={thirteen}",
    ]
    killed, straight = tmp_path / "killed", tmp_path / "straight"
    *kills, end = train_killed(30, *flags, f"--out={killed}")
    assert len(kills) == 30 and sum(kill["killed"] for kill in kills) >= 20
    assert len({max(kill["steps"]) for kill in kills}) >= 5  # it makes progress between kills
    for before, after in zip(kills, kills[1:], strict=False):
        assert not before["steps"] or max(after["steps"]) >= max(before["steps"])
        assert len(before["steps"]) < 2 or after["fewest"] >= 2  # at every moment
    assert end == {"status": 0}
    assert sorted(path.name for path in killed.glob(".step*")) == []
    assert train_killed(0, *flags, f"--out={straight}") == [{"status": 0}]
    assert fingerprint(killed / "last") == fingerprint(straight / "last")
    assert train_losses(killed) == train_losses(straight)
