"""Read the offline files of Weights & Biases: protobuf records in LevelDB's log format."""

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

BLOCK = 32768  # bytes; a header never crosses the end of one
FULL, LAST = 1, 4  # kinds of fragments that end a record


def history(path: Path) -> list[dict[str, Any]]:
    """Return the rows that a run logged, each with its step."""
    from wandb.proto.wandb_internal_pb2 import Record

    rows = []
    for content in _records(path.read_bytes()):
        record = Record()
        record.ParseFromString(content)
        if record.WhichOneof("record_type") == "history":
            items = record.history.item
            row = {(x.key or ".".join(x.nested_key)): json.loads(x.value_json) for x in items}
            rows.append({"step": row.pop("_step", record.history.step.num), **row})
    return rows


def _records(content: bytes) -> Iterator[bytes]:
    at, record = 7, b""  # after the file's header
    while at + 7 <= len(content):
        if BLOCK - at % BLOCK < 7:
            at += BLOCK - at % BLOCK
            continue
        length, kind = struct.unpack_from("<HB", content, at + 4)  # after a checksum
        record += content[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (FULL, LAST):
            yield record
            record = b""
