"""Byte-level BPEs other than GPT-2's: ids as in `tokenizers`, added tokens, ends of text."""

import json
import pickle
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import tokenizers
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import pre_tokenizers

from clingpt.base.errors import CheckpointError, DataError
from clingpt.text import tokenizer
from clingpt.text.tokenizer import EOT, EOT_TEXT, Tokenizer
from tests.helpers.vocabularies import CORPUS, saved, trained, write_json

GPT2 = Tokenizer.load()


def edit(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    content = json.loads(path.read_text("utf-8"))
    change(content)
    write_json(path, content)


# Ids


@cache
def pair_of_tokenizers(
    size: int, *, prefix_space: bool = False
) -> tuple[tokenizers.Tokenizer, Tokenizer]:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        made = trained(size, (EOT_TEXT, "<pad>"))
        made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix_space)
        return made, Tokenizer.load(saved(Path(folder), made))


TEXTS = st.text() | st.lists(
    st.sampled_from(
        [*" \n'aeims", " metformin", "HbA1c", "aaa", "µ", "患", "🩺", "'ll", "  ", "0.0"]
    )
).map("".join)


@settings(deadline=None, max_examples=300)
@given(text=TEXTS, size=st.sampled_from([259, 300, 500]))
def test_ids_equal_those_of_tokenizers(text: str, size: int) -> None:
    theirs, ours = pair_of_tokenizers(size)
    if EOT_TEXT not in text and "<pad>" not in text:
        assert ours.encode(text) == theirs.encode(text).ids
    assert ours.decode(ours.encode(text)) == text


@settings(deadline=None, max_examples=300)
@given(text=TEXTS, size=st.sampled_from([259, 300, 500]))
def test_a_space_is_put_before_texts_as_in_tokenizers(text: str, size: int) -> None:
    theirs, ours = pair_of_tokenizers(size, prefix_space=True)
    _, plain = pair_of_tokenizers(size)
    assert ours.prefix_space and not plain.prefix_space
    if EOT_TEXT not in text and "<pad>" not in text:
        assert ours.encode(text) == theirs.encode(text).ids
        assert ours.decode(ours.encode(text)) == theirs.decode(theirs.encode(text).ids)
    assert ours.encode(text, inside=True) == plain.encode(text)


def test_attributes_describe_the_vocabulary(tmp_path: Path) -> None:
    made = trained(300, ("<pad>", EOT_TEXT))
    ours = Tokenizer.load(saved(tmp_path, made))
    assert (ours.eot, ours.eot_text, ours.size, ours.unused) == (1, EOT_TEXT, 300, ())
    assert ours.added == {"<pad>": 0, EOT_TEXT: 1}
    assert ours.ids | ours.added == made.get_vocab()
    assert list(ours.ids.values()) == sorted(ours.ids.values())
    assert ours.name == "a byte-level BPE of 300 tokens"
    assert len(ours.merges) == 300 - 2 - 256
    assert ours.longest == max(len(ours.decode_bytes([each])) for each in range(ours.size))


def test_gpt2_has_the_same_attributes() -> None:
    assert (GPT2.eot, GPT2.eot_text, GPT2.size, GPT2.unused) == (EOT, EOT_TEXT, EOT + 1, ())
    assert GPT2.added == {EOT_TEXT: EOT} and GPT2.name == "GPT-2's tokenizer"
    assert list(GPT2.ids.values()) == list(range(EOT)) and len(GPT2.merges) == 50_000


@pytest.mark.parametrize("files", [("vocab.json", "merges.txt"), ("encoder.json", "vocab.bpe")])
def test_a_pair_of_files_is_as_good_as_a_tokenizer_json(
    tmp_path: Path, files: tuple[str, str]
) -> None:
    made = trained(300, ("<s>", "</s>", EOT_TEXT))
    whole = Tokenizer.load(saved(tmp_path / "whole", made))
    made.model.save(str(tmp_path))
    for old, new in zip(("vocab.json", "merges.txt"), files, strict=True):
        (tmp_path / old).rename(tmp_path / new)
    assert Tokenizer.load(tmp_path) is whole


def test_typed_added_tokens_stay_ordinary_text(tmp_path: Path) -> None:
    ours = Tokenizer.load(saved(tmp_path, trained(300, (EOT_TEXT, "<pad>"))))
    text = f"a <pad>{EOT_TEXT}"
    assert not {0, 1} & set(ours.encode(text))
    assert ours.decode(ours.encode(text)) == text
    assert ours.decode([1, 0]) == f"<pad>{EOT_TEXT}"


# Ends of text


@pytest.mark.parametrize(
    ("files", "eot", "ends"),
    [
        ({}, 2, (2,)),
        ({"config.json": {"eos_token_id": 0}}, 0, (0,)),
        ({"config.json": {"eos_token_id": 50256}}, 2, (2,)),  # transformers' default
        ({"config.json": {"eos_token_id": 299}}, 2, (2,)),  # an ordinary token
        ({"config.json": {"eos_token_id": [1, 0]}}, 1, (1, 0)),
        (
            {"config.json": {"eos_token_id": 0}, "generation_config.json": {"eos_token_id": 1}},
            1,
            (1,),
        ),
        ({"tokenizer_config.json": {"eos_token": "</s>"}}, 1, (1,)),
        ({"special_tokens_map.json": {"eos_token": {"content": "<s>"}}}, 0, (0,)),
        (
            {"config.json": {"eos_token_id": 1}, "tokenizer_config.json": {"eos_token": "<s>"}},
            1,
            (1,),
        ),
    ],
)
def test_the_end_of_text_is_the_checkpoints_own(
    tmp_path: Path, files: dict[str, Any], eot: int, ends: tuple[int, ...]
) -> None:
    folder = saved(tmp_path, trained(300, ("<s>", "</s>", EOT_TEXT)))
    for name, content in files.items():
        write_json(folder / name, content)
    ours = Tokenizer.load(folder)
    assert (ours.eot, ours.ends) == (eot, ends)
    assert ours.eot_text == ("<s>", "</s>", EOT_TEXT)[eot]


def test_a_vocabulary_without_an_end_of_text_is_refused(tmp_path: Path) -> None:
    folder = saved(tmp_path, trained(300, ("<s>",)))
    with pytest.raises(CheckpointError, match="names no end-of-text token of its vocabulary; set"):
        Tokenizer.load(folder)


# Added tokens


def with_pad(folder: Path, content: str = "[PAD]") -> Path:
    """GPT-2's tokenizer with a pad token, as transformers saves it."""
    GPT2.save(folder)
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    theirs.add_special_tokens({"pad_token": content})
    for path in folder.iterdir():
        path.unlink()
    theirs.save_pretrained(folder)
    return folder


def test_gpt2_with_a_pad_token_keeps_its_ids_and_fingerprint(tmp_path: Path) -> None:
    ours = Tokenizer.load(with_pad(tmp_path / "padded"))
    assert ours.added == {EOT_TEXT: EOT, "[PAD]": 50257}
    assert (ours.fingerprint, ours.name, ours.eot) == (GPT2.fingerprint, GPT2.name, EOT)
    assert ours.encode("[PAD] yes") == GPT2.encode("[PAD] yes")
    assert ours.decode([50257]) == "[PAD]"
    assert ours.fitting(50258, tmp_path) is ours
    assert ours.fitting(50257, tmp_path) is GPT2  # without a row, it is as if it were not there
    ours.save(tmp_path / "again")
    assert Tokenizer.load(tmp_path / "again") is ours


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("added_tokens.json", {"<|im_start|>": 50259, "<|im_end|>": 50258}),
        (
            "tokenizer_config.json",
            {
                "added_tokens_decoder": {
                    "50259": {"content": "<|im_start|>"},
                    "50258": {"content": "<|im_end|>"},
                }
            },
        ),
    ],
)
def test_added_tokens_are_read_from_every_file(tmp_path: Path, name: str, content: object) -> None:
    GPT2.save(tmp_path)
    write_json(tmp_path / name, content)
    ours = Tokenizer.load(tmp_path)
    assert list(ours.added.items())[1:] == [("<|im_end|>", 50258), ("<|im_start|>", 50259)]
    assert (ours.size, ours.unused) == (50260, (50257,))
    with pytest.raises(DataError, match="token id 50257 is not in the vocabulary"):
        ours.decode([50257])


def test_another_end_of_text_is_another_tokenizer(tmp_path: Path) -> None:
    folder = with_pad(tmp_path, "<|im_end|>")
    write_json(folder / "generation_config.json", {"eos_token_id": [50257, 50256]})
    ours = Tokenizer.load(folder)
    assert (ours.eot, ours.ends) == (50257, (50257, 50256))
    assert ours.fingerprint != GPT2.fingerprint


def test_ids_given_twice_are_refused(tmp_path: Path) -> None:
    GPT2.save(tmp_path)
    write_json(tmp_path / "added_tokens.json", {"<|a|>": 50257, "<|b|>": 50257})
    with pytest.raises(CheckpointError, match="several tokens have the id 50257"):
        Tokenizer.load(tmp_path)


# Tokens that nothing makes

FILLERS = [f"madeupword{n:04}" for n in range(3)] + [f"unused{n}" for n in range(12)]


def with_fillers(folder: Path, *fillers: str) -> tokenizers.Tokenizer:
    """Save vocab.json and merges.txt, with tokens at the end of the ids that no merge makes."""
    made = trained(300)
    folder.mkdir(exist_ok=True)
    made.model.save(str(folder))
    ids = made.get_vocab() | {token: 300 + n for n, token in enumerate(fillers)}
    write_json(folder / "vocab.json", ids)
    theirs = tokenizers.Tokenizer(
        tokenizers.models.BPE.from_file(str(folder / "vocab.json"), str(folder / "merges.txt"))
    )
    theirs.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    theirs.decoder = tokenizers.decoders.ByteLevel()
    return theirs


def test_tokens_that_fill_a_vocabulary_are_decoded_and_never_encoded(tmp_path: Path) -> None:
    theirs = with_fillers(tmp_path, *FILLERS, "患者", "Ġfiller")
    ours = Tokenizer.load(tmp_path)
    assert (ours.size, ours.unused) == (300 + len(FILLERS) + 2, ())
    text = "madeupword0001 unused11 患者 filler"
    assert ours.encode(text) == theirs.encode(text).ids and max(ours.encode(text)) < 300
    for id_ in range(300, ours.size):
        assert ours.decode([id_]) == theirs.decode([id_])
    assert ours.decode([300, ours.size - 1]) == "madeupword0000 filler"
    ours.save(tmp_path / "saved")
    assert Tokenizer.load(tmp_path / "saved") is ours
    again = transformers.AutoTokenizer.from_pretrained(tmp_path / "saved")
    assert again.encode(text) == ours.encode(text)
    plain = Tokenizer.load(saved(tmp_path / "plain", trained(300)))
    assert ours.fingerprint == plain.fingerprint  # no data can contain them


@pytest.mark.parametrize("n_merges", range(0, 43, 6))
def test_cut_merges_are_refused_wherever_they_are_cut(tmp_path: Path, n_merges: int) -> None:
    with_fillers(tmp_path, *FILLERS)
    lines = (tmp_path / "merges.txt").read_text("utf-8").splitlines()
    assert len(lines) == 44  # and a header
    (tmp_path / "merges.txt").write_text("\n".join(lines[: n_merges + 1]) + "\n", "utf-8")
    with pytest.raises(CheckpointError, match=r"merges.txt makes no .+, which it contains"):
        Tokenizer.load(tmp_path)


# Roles


@pytest.mark.parametrize("name", ["tokenizer_config.json", "special_tokens_map.json"])
def test_special_tokens_keep_their_roles(tmp_path: Path, name: str) -> None:
    """In a file of today, or in those of old versions of transformers."""
    folder = saved(tmp_path / "made", trained(300, ("<s>", "PAD", "</s>", "<m>")))
    roles = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "</s>"}
    roles |= {"pad_token": "PAD", "mask_token": "<m>", "cls_token": "<s>"}
    write_json(folder / name, {key: {"content": token} for key, token in roles.items()})
    ours = Tokenizer.load(folder)
    ours.save(tmp_path / "saved")
    assert Tokenizer.load(tmp_path / "saved") is ours
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "saved")
    assert {key: getattr(theirs, key) for key in roles} == roles
    assert len(theirs) == 300 and (ours.eot_text, ours.added["PAD"]) == ("</s>", 1)


def test_a_pad_token_keeps_its_role_as_long_as_it_has_a_row(tmp_path: Path) -> None:
    ours = Tokenizer.load(with_pad(tmp_path / "padded"))
    before = transformers.AutoTokenizer.from_pretrained(tmp_path / "padded")
    ours.save(tmp_path / "saved")
    after = transformers.AutoTokenizer.from_pretrained(tmp_path / "saved")
    assert before.special_tokens_map == after.special_tokens_map
    assert (after.pad_token, after.pad_token_id) == ("[PAD]", 50257)
    ours.fitting(50257, tmp_path).save(tmp_path / "fitting")
    assert transformers.AutoTokenizer.from_pretrained(tmp_path / "fitting").pad_token is None


# A space before texts


GPT2_CLASS = {"tokenizer_class": "GPT2Tokenizer"}
OTHER_CLASS = {"tokenizer_class": "TokenizersBackend"}


@pytest.mark.parametrize(
    ("in_file", "config", "expected"),
    [
        (True, None, True),
        (True, OTHER_CLASS, True),
        (True, OTHER_CLASS | {"add_prefix_space": False}, True),
        (False, OTHER_CLASS | {"add_prefix_space": True}, False),
        (True, GPT2_CLASS, False),
        (True, GPT2_CLASS | {"add_prefix_space": True}, True),
        (False, GPT2_CLASS | {"add_prefix_space": True}, True),
        (None, GPT2_CLASS | {"add_prefix_space": True}, True),
        (None, None, False),
    ],
)
def test_a_class_decides_which_file_says_whether_a_space_is_put_before_texts(
    tmp_path: Path, in_file: bool | None, config: dict[str, Any] | None, expected: bool
) -> None:
    made = trained(300)
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=bool(in_file))
    folder = saved(tmp_path / "made", made)
    if in_file is None:
        made.model.save(str(folder))
        (folder / "tokenizer.json").unlink()
    if config is not None:
        write_json(folder / "tokenizer_config.json", config)
        theirs = transformers.AutoTokenizer.from_pretrained(folder)
        assert theirs.encode("abc") == Tokenizer.load(folder).encode("abc")
    ours = Tokenizer.load(folder)
    assert ours.prefix_space is expected
    assert ours.encode("abc") == ours.encode(" abc" if expected else "abc", inside=True)
    ours.save(tmp_path / "saved")
    assert Tokenizer.load(tmp_path / "saved") is ours
    again = transformers.AutoTokenizer.from_pretrained(tmp_path / "saved")
    alone = tokenizers.Tokenizer.from_file(str(tmp_path / "saved" / "tokenizer.json"))
    assert again.encode("abc") == alone.encode("abc").ids == ours.encode("abc")
    plain = Tokenizer.load(saved(tmp_path / "plain", trained(300)))
    assert (ours.fingerprint == plain.fingerprint) is not expected


def test_a_tokenizer_is_the_same_in_a_worker_and_without_a_token_that_has_no_row(
    tmp_path: Path,
) -> None:
    made = trained(300)
    made.pre_tokenizer = pre_tokenizers.ByteLevel()
    made.add_special_tokens(["[PAD]"])
    folder = saved(tmp_path, made)
    write_json(folder / "tokenizer_config.json", {"pad_token": "[PAD]", "mask_token": EOT_TEXT})
    ours = Tokenizer.load(folder)
    assert pickle.loads(pickle.dumps(ours)) is ours
    fitting = ours.fitting(300, folder)
    assert (fitting.encode("abc"), fitting.fingerprint) == (ours.encode("abc"), ours.fingerprint)
    assert ours.roles == fitting.roles | {"pad_token": "[PAD]"} and "mask_token" in fitting.roles


# A vocabulary and a model


def test_a_model_with_too_few_rows_is_refused(tmp_path: Path) -> None:
    ours = Tokenizer.load(saved(tmp_path, trained(300)))
    message = (
        f"the model in {tmp_path} has 299 token embeddings, but its tokenizer, a byte-level BPE of "
        "300 tokens, has ids up to 299; restore"
    )
    with pytest.raises(CheckpointError, match=message):
        ours.fitting(299, tmp_path)
    assert ours.fitting(300, tmp_path) is ours.fitting(50304, tmp_path) is ours


@pytest.mark.parametrize("n_rows", [50257, 50304, 51200])
def test_a_folder_without_files_has_gpt2s_if_its_model_is_as_large(
    tmp_path: Path, n_rows: int
) -> None:
    write_json(tmp_path / "config.json", {"vocab_size": n_rows})
    assert Tokenizer.load(tmp_path) is GPT2


@pytest.mark.parametrize("n_rows", [28896, 50256, 52000])
def test_a_folder_without_files_and_of_another_size_is_refused(tmp_path: Path, n_rows: int) -> None:
    write_json(tmp_path / "config.json", {"vocab_size": n_rows})
    message = f"has no tokenizer files, and with {n_rows:,} token embeddings its model is not GPT-2"
    with pytest.raises(CheckpointError, match=message):
        Tokenizer.load(tmp_path)


# Saved files


@pytest.mark.parametrize("gone", [(), ("tokenizer.json",), ("vocab.json", "merges.txt")])
@pytest.mark.parametrize("special", [(EOT_TEXT,), ("<pad>", "</s>", "<|chat|>")])
def test_transformers_opens_saved_files(
    tmp_path: Path, special: tuple[str, ...], gone: tuple[str, ...]
) -> None:
    made = trained(300, special)
    folder = saved(tmp_path / "made", made)
    write_json(folder / "tokenizer_config.json", {"eos_token": special[-1]})
    ours = Tokenizer.load(folder)
    ours.save(tmp_path / "saved")
    for name in gone:
        (tmp_path / "saved" / name).unlink()
    assert Tokenizer.load(tmp_path / "saved") is ours
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "saved")
    assert (theirs.eos_token, theirs.eos_token_id, len(theirs)) == (special[-1], ours.eot, 300)
    assert theirs.get_vocab() == made.get_vocab()
    assert [theirs.encode(text) for text in CORPUS] == [ours.encode(text) for text in CORPUS]
    assert theirs.encode(f"a{special[-1]}")[-1] == ours.eot
    assert theirs.decode(ours.encode(CORPUS[2])) == CORPUS[2]


def test_gpt2_saved_with_added_tokens_opens_in_transformers(tmp_path: Path) -> None:
    ours = Tokenizer.load(with_pad(tmp_path / "padded"))
    ours.save(tmp_path / "saved")
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "saved")
    assert theirs.encode(f"a[PAD]{EOT_TEXT}") == [64, 50257, EOT]
    assert (theirs.eos_token_id, len(theirs)) == (EOT, 50258)


# What is refused


def set_in(*keys: str, to: Any) -> Callable[[dict[str, Any]], object]:
    def change(content: dict[str, Any]) -> None:
        for key in keys[:-1]:
            content = content[key]
        content[keys[-1]] = to

    return change


LLAMA_SPLIT = {
    "type": "Sequence",
    "pretokenizers": [
        {
            "type": "Split",
            "pattern": {"Regex": r"(?i:'s|'t)|\p{N}{1,3}"},
            "behavior": "Isolated",
            "invert": False,
        },
        {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False},
    ],
}


GPT2_SPLIT = {
    "type": "Split",
    "pattern": {"Regex": tokenizer.SPLITS[0]},
    "behavior": "Isolated",
    "invert": False,
}
PREFIX = {"type": "ByteLevel", "add_prefix_space": True, "use_regex": False}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (
            set_in("model", to={"type": "WordPiece", "vocab": {"a": 0, "##b": 1}}),
            "it is a WordPiece tokenizer of 2 tokens",
        ),
        (
            set_in("model", to={"type": "Unigram", "vocab": [["a", 0.0]]}),
            "it is a Unigram tokenizer of 1 tokens",
        ),
        (
            set_in("normalizer", to={"type": "NFC"}),
            "it is a BPE of 300 tokens with the normalizer NFC",
        ),
        (set_in("pre_tokenizer", to={"type": "Metaspace"}), "with the pre-tokenizer Metaspace"),
        (set_in("pre_tokenizer", to=None), "with the pre-tokenizer no pre-tokenizer"),
        (
            set_in("pre_tokenizer", to={"type": "Sequence", "pretokenizers": [GPT2_SPLIT, PREFIX]}),
            "that puts a space before every word (add_prefix_space)",
        ),
        (set_in("pre_tokenizer", "use_regex", to=False), "that does not split words"),
        (set_in("pre_tokenizer", to=LLAMA_SPLIT), "splits words in another way than GPT-2"),
        (set_in("model", "ignore_merges", to=True), "takes known words without merging them"),
        (set_in("model", "continuing_subword_prefix", to="##"), "with marks inside or at the end"),
    ],
)
def test_a_tokenizer_of_another_kind_is_refused_by_name(
    tmp_path: Path, change: Callable[[dict[str, Any]], object], reason: str
) -> None:
    folder = saved(tmp_path, trained(300))
    edit(folder / "tokenizer.json", change)
    with pytest.raises(CheckpointError, match=re.escape(reason)) as caught:
        Tokenizer.load(folder)
    assert str(caught.value).startswith(f"{folder / 'tokenizer.json'} cannot be used: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("vocab.txt", "[PAD]\n[UNK]\nthe\n", "it is a BERT tokenizer of 3 tokens"),
        ("tokenizer.model", "", "it is a SentencePiece tokenizer"),
        ("spiece.model", "", "it is a SentencePiece tokenizer"),
    ],
)
def test_files_of_other_tokenizers_are_refused_by_name(
    tmp_path: Path, name: str, content: str, reason: str
) -> None:
    (tmp_path / name).write_text(content)
    write_json(tmp_path / "config.json", {"vocab_size": 50257})
    with pytest.raises(
        CheckpointError, match=re.escape(f"{tmp_path / name} cannot be used: {reason}")
    ):
        Tokenizer.load(tmp_path)


@pytest.mark.parametrize("pattern", tokenizer.SPLITS)
def test_gpt2s_way_to_split_words_is_known_as_a_regex(tmp_path: Path, pattern: str) -> None:
    made = trained(300)
    plain = Tokenizer.load(saved(tmp_path / "plain", made))
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(tokenizers.Regex(pattern), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    assert Tokenizer.load(saved(tmp_path / "split", made)) is plain
    assert [made.encode(text).ids for text in CORPUS] == [plain.encode(text) for text in CORPUS]


def test_a_prefix_space_with_gpt2s_merges_is_ignored_as_before(tmp_path: Path) -> None:
    GPT2.save(tmp_path)
    edit(tmp_path / "tokenizer.json", set_in("pre_tokenizer", "add_prefix_space", to=True))
    edit(tmp_path / "tokenizer_config.json", set_in("add_prefix_space", to=True))
    assert Tokenizer.load(tmp_path) is GPT2


def test_merges_that_tiktoken_would_apply_differently_are_refused(tmp_path: Path) -> None:
    # "abc" is listed as (a, bc), but "ab" comes first: tokenizers leaves [ab, c], tiktoken "abc".
    letters = list(pre_tokenizers.ByteLevel.alphabet())
    vocab = {token: n for n, token in enumerate([*letters, "ab", "bc", "abc", EOT_TEXT])}
    write_json(tmp_path / "vocab.json", vocab)
    (tmp_path / "merges.txt").write_text("a b\nb c\na bc\n")
    message = re.escape("the merges before 'a bc' (number 3) do not make its parts")
    with pytest.raises(CheckpointError, match=message):
        Tokenizer.load(tmp_path)


def test_ids_above_16_bits_are_refused(tmp_path: Path) -> None:
    folder = saved(tmp_path, trained(300))
    write_json(tmp_path / "added_tokens.json", {"<|far|>": 2**16})
    with pytest.raises(
        CheckpointError, match="it has ids up to 65,536, but data are prepared with"
    ):
        Tokenizer.load(folder)
