"""Signatures by which kinds of files are recognised, and advice for those that are not read."""

import re
from typing import NamedTuple


class Unreadable(NamedTuple):
    """A kind of file that is not read, for a message: "x.pdf is {name}; {advice}"."""

    name: str
    advice: str


TABLE = "open it in the program that wrote it and save it as .xlsx or .csv"
PROSE = "save its text as .txt"
UNPACK = "unpack it and pass the file or folder"
PANDAS = "load it in Python and save it with pandas' to_parquet or to_json(lines=True)"
WEB = "it may be a login or error page: download the file itself"
POINTER = "run git lfs pull to get the file itself"

UNREADABLE = {
    "xls": Unreadable("an old Excel workbook (.xls)", "save it as .xlsx or .csv"),
    "ole": Unreadable(
        "an old or password-protected Office file", "save it as .xlsx, .csv or .txt, unprotected"
    ),
    "ods": Unreadable("an OpenDocument spreadsheet (.ods)", "save it as .xlsx or .csv"),
    "odt": Unreadable("an OpenDocument text (.odt)", PROSE),
    "doc": Unreadable("an old Word document (.doc)", PROSE),
    "docx": Unreadable("a Word document (.docx)", PROSE),
    "pptx": Unreadable("a PowerPoint file (.pptx)", PROSE),
    "xlsb": Unreadable("a binary Excel workbook (.xlsb)", "save it as .xlsx or .csv"),
    "pdf": Unreadable("a PDF document", "extract its text, for instance with pdftotext, as .txt"),
    "zip": Unreadable("a zip archive", UNPACK),
    "tar": Unreadable("a tar archive", UNPACK),
    "gzip": Unreadable("compressed with gzip twice", "run gunzip on it once"),
    "7z": Unreadable("a 7-Zip archive", UNPACK),
    "rar": Unreadable("a RAR archive", UNPACK),
    "bz2": Unreadable("compressed with bzip2", "run bunzip2 on it, or compress it with gzip"),
    "xz": Unreadable("compressed with xz", "run unxz on it, or compress it with gzip"),
    "zst": Unreadable("compressed with zstd", "run unzstd on it, or compress it with gzip"),
    "pickle": Unreadable("a Python pickle, which can run any program when it is opened", PANDAS),
    "arrow": Unreadable("an Arrow or Feather file", PANDAS),
    "npy": Unreadable("a NumPy array", PANDAS),
    "hdf5": Unreadable("an HDF5 file", PANDAS),
    "sav": Unreadable("an SPSS file (.sav)", TABLE),
    "dta": Unreadable("a Stata file (.dta)", TABLE),
    "sas": Unreadable("a SAS file", TABLE),
    "rda": Unreadable("an R data file", "save it in R with write.csv(x, row.names = FALSE)"),
    "db": Unreadable("a SQLite database", "export the table as .csv"),
    "mdb": Unreadable("an Access database", "export the table as .csv"),
    "dicom": Unreadable("a DICOM file", "export the text of its report as .txt"),
    "image": Unreadable("an image", "only text can be read"),
    "html": Unreadable("a web page (HTML)", WEB),
    "xml": Unreadable("XML of an unknown kind", "convert it to JSON or .csv"),
    "nbib": Unreadable("MEDLINE's tagged text", "download the same records from PubMed as XML"),
    "ris": Unreadable("a list of references (RIS)", "download the same records from PubMed as XML"),
    "yaml": Unreadable("YAML", "save it as JSON or .csv"),
    "lfs": Unreadable("a Git LFS pointer, not the data", POINTER),
    "sql": Unreadable("a database dump in SQL", "load it and export the table as .csv"),
    "md": Unreadable("Markdown", "rename it to .txt if it is the text to train on"),
    "textgrid": Unreadable("a Praat TextGrid", PROSE),
}
# Endings of these kinds; most are the keys above.
ENDINGS = {
    **{f".{name}": name for name in UNREADABLE if name not in ("ole", "image", "lfs")},
    ".pkl": "pickle",
    ".feather": "arrow",
    ".npz": "npy",
    ".h5": "hdf5",
    ".sas7bdat": "sas",
    ".xpt": "sas",
    ".por": "sav",
    ".rds": "rda",
    ".rdata": "rda",
    ".sqlite": "db",
    ".sqlite3": "db",
    ".accdb": "mdb",
    ".dcm": "dicom",
    ".tgz": "tar",
    ".htm": "html",
    ".yml": "yaml",
    ".markdown": "md",
    **dict.fromkeys((".png", ".jpg", ".jpeg", ".gif", ".tif", ".tiff", ".bmp"), "image"),
}
MAGIC = (
    (0, b"PK\x03\x04", "zip"),
    (0, b"PK\x05\x06", "zip"),  # an empty one
    (0, b"PAR1", "parquet"),
    (0, b"\x1f\x8b", "gzip"),  # compressed twice
    (0, b"%PDF", "pdf"),
    (0, b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "ole"),
    (0, b"SQLite format 3\0", "db"),
    (0, b"ARROW1", "arrow"),
    (0, b"FEA1", "arrow"),
    (0, b"\xff\xff\xff\xff\x78", "arrow"),  # a stream
    (0, b"$FL2@(#)", "sav"),
    (0, b"$FL3@(#)", "sav"),
    (0, b"<stata_dta>", "dta"),
    (0, b"\x93NUMPY", "npy"),
    (0, b"\x89HDF\r\n\x1a\n", "hdf5"),
    (0, b"RDX", "rda"),
    (0, b"BZh", "bz2"),
    (0, b"\xfd7zXZ\0", "xz"),
    (0, b"\x28\xb5\x2f\xfd", "zst"),
    (0, b"7z\xbc\xaf\x27\x1c", "7z"),
    (0, b"Rar!\x1a\x07", "rar"),
    (0, b"\x89PNG\r\n", "image"),
    (0, b"\xff\xd8\xff", "image"),
    (0, b"GIF8", "image"),
    (4, b"Standard Jet DB", "mdb"),
    (4, b"Standard ACE DB", "mdb"),
    (128, b"DICM", "dicom"),
    (257, b"ustar", "tar"),
)
PICKLE = re.compile(rb"\x80[\x02-\x05]")
PARTS_OF_ZIP = {  # of an Office document -> its kind
    "xl/workbook.xml": "xlsx",
    "xl/workbook.bin": "xlsb",
    "word/document.xml": "docx",
    "ppt/presentation.xml": "pptx",
}
OPEN_DOCUMENT = {
    b"application/vnd.oasis.opendocument.spreadsheet": "ods",
    b"application/vnd.oasis.opendocument.text": "odt",
}
# The beginnings of texts.
HTML = re.compile(r"\s*(<!--.*?-->\s*)*<(!doctype html|html|head|body|table)\b", re.I | re.S)
LFS = "version https://git-lfs.github.com/spec/"
JSON = re.compile(r'\s*(\[\s*(\{|\]|$)|\{\s*("|\}|$))')
JSON_NOT_BY_LINE = re.compile(r"\s*(\[\s*(\{|\]|$)|\{[ \t\r]*(\n|$))")
TABLE_HEAD_BYTES = 64 << 10  # for several rows, some with long texts
TABLE_LINES = 20
NAME_CHARS = 40  # of a column
NAME = re.compile(r'"?[^\W\d][\w.-]{0,39}"?')  # of a column, in one word
