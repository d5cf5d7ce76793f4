"""Write prepared folders record by record."""

from collections.abc import Iterable

from clingpt.data.prepared import FolderWriter, Piece
from clingpt.text.records import Record
from clingpt.text.tasks import Example


def add_record(
    writer: FolderWriter, split: str, record: Record, examples: Iterable[tuple[str, Example]]
) -> None:
    """Append one record and its (task, example) pairs to a split."""
    piece = Piece(split)
    piece.add(record, examples)
    writer.append(piece)
