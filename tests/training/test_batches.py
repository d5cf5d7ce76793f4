"""Division of rows among ranks and micro-batches, and prefetching."""

import math
import threading
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch

from clingpt.data.packing import Rows
from clingpt.nn.runtime import Runtime
from clingpt.training.batches import Feed, prefetched
from tests.helpers.models import rows_of_documents
from tests.helpers.patience import wait_for


@pytest.fixture
def rows(documents: list[tuple[list[int], int]]) -> Rows:
    return rows_of_documents(documents, 24)


def feeds(rows: Rows, n_ranks: int, micro_batch_size: int, *, compiled: bool) -> list[Feed]:
    cpu = torch.device("cpu")
    ranks = [Runtime(cpu, torch.float32, rank, n_ranks) for rank in range(n_ranks)]
    return [Feed(rows, rt, micro_batch_size, compiled) for rt in ranks]


@pytest.mark.parametrize("n_rows", [1, 2, 7, 8, 12])
@pytest.mark.parametrize("n_ranks", [1, 2, 3])
@pytest.mark.parametrize("micro_batch_size", [1, 2, 3, 99])
def test_the_ranks_share_a_steps_rows(
    rows: Rows, n_rows: int, n_ranks: int, micro_batch_size: int
) -> None:
    chosen = np.arange(12)[::-1][:n_rows]
    works = [feed.work(chosen) for feed in feeds(rows, n_ranks, micro_batch_size, compiled=True)]
    found = sorted(row for work in works for part in work.parts for row in part.tolist())
    assert found == sorted(chosen.tolist())
    shapes = {(len(work.batches), batch.ids_BT.shape) for work in works for batch in work.batches}
    assert len(shapes) == 1  # every rank has equally many micro-batches of the same shape
    [(n_parts, shape)] = shapes
    assert shape[0] <= micro_batch_size
    largest_share = math.ceil(n_rows / n_ranks)
    assert n_parts == math.ceil(largest_share / micro_batch_size)  # and no more than necessary


def test_an_uncompiled_cpu_model_gets_no_padding(rows: Rows) -> None:
    [feed] = feeds(rows, 1, 3, compiled=False)
    work = feed.work(np.arange(7))
    for batch, part in zip(work.batches, work.parts, strict=True):
        lengths = [int(rows.split.lengths[rows.examples(row)].sum()) for row in part]
        assert batch.ids_BT.shape == (1, sum(lengths))


@pytest.mark.parametrize("n_ranks", [1, 2, 5])
@pytest.mark.parametrize("micro_batch_size", [1, 5, 99])
def test_whole_split_yields_every_row_once(rows: Rows, n_ranks: int, micro_batch_size: int) -> None:
    ranks = feeds(rows, n_ranks, micro_batch_size, compiled=False)
    works = [list(feed.whole_split()) for feed in ranks]
    assert len({len(mine) for mine in works}) == 1
    assert all(len(work.batches) == 1 for mine in works for work in mine)
    found = [row for mine in works for work in mine for row in work.parts[0].tolist()]
    assert sorted(found) == list(range(12))


def test_prefetched_items_are_made_one_ahead_and_in_order() -> None:
    made: list[int] = []
    threads = set()

    def make(item: int) -> int:
        made.append(item)
        threads.add(threading.current_thread())
        return item * item

    results = prefetched(make, range(5))
    assert next(results) == 0
    wait_for(lambda: len(made) == 2)
    time.sleep(0.2)  # time to make a third one, if it did
    assert made == [0, 1]
    assert list(results) == [1, 4, 9, 16]
    assert made == [0, 1, 2, 3, 4]
    assert threading.main_thread() not in threads
    assert list(prefetched(make, [])) == []


def test_an_exception_in_the_prefetching_thread_is_raised() -> None:
    def make(item: int) -> float:
        return 1 / item

    results: Iterator[float] = prefetched(make, [2, 0, 1])
    assert next(results) == 0.5
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_closing_the_iterator_ends_the_thread(rows: Rows) -> None:
    before = threading.active_count()
    make: Callable[[int], int] = abs
    results = prefetched(make, range(1000))
    next(results)
    results.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before
