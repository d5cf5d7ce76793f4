"""serve.py's /v1/completions and /v1/models, through OpenAI's client and plain requests.

Real processes on real sockets serve a random model. Their replies are compared with that same model
decoded here, one token after another.
"""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_type_hints

import openai
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types import Completion, EmbeddingCreateParams
from openai.types.chat.completion_create_params import (
    CompletionCreateParamsNonStreaming as ChatParamsNonStreaming,
)
from openai.types.completion_create_params import CompletionCreateParamsNonStreaming
from openai.types.responses.response_create_params import ResponseCreateParamsNonStreaming

from clingpt.decoding.engine import generate
from clingpt.decoding.sampling import Sampling
from clingpt.serving.errors import ApiError
from clingpt.serving.schemas import AnswerRequest, CompletionRequest
from clingpt.text.tokenizer import EOT, VOCAB_SIZE, Tokenizer
from model import GPT
from tests.helpers.servers import (
    CANARY,
    SCRIPTED,
    Answer,
    Server,
    complete,
    error_of,
    frames,
    official_client,
    serving,
)
from tests.serving.conftest import CONTEXT

TOKENIZER = Tokenizer.load()
PROMPTS = [f"Patient {n} had a fall of {n}.5 mmHg" + " again" * n for n in range(20)]
Say = Callable[..., None]


@pytest.fixture(scope="module")
def model(checkpoint: Path) -> GPT:
    return GPT.from_pretrained(checkpoint).eval()


@pytest.fixture(scope="module")
def server(checkpoint: Path) -> Iterator[Server]:
    with serving(checkpoint, "--rows=3", "--max_body_kb=64") as started:
        yield started


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[openai.OpenAI]:
    with official_client(server) as made:
        yield made


@pytest.fixture(scope="module")
def scripted(checkpoint: Path) -> Iterator[tuple[Server, Say]]:
    """A server whose model writes a given reply to every prompt that contains "Say it"."""
    folder = checkpoint.parent

    def say(reply: object) -> None:
        (folder / "script.json").write_text(json.dumps([["Say it", reply]]))

    with serving(checkpoint, program=SCRIPTED, SCRIPTED=str(folder)) as started:
        yield started, say


def choices_of(answer: Answer) -> list[Any]:
    """Return a response's choices; the chunks of a stream are joined."""
    if answer.headers["content-type"] == "application/json":
        choices: list[Any] = answer.json["choices"]
        return choices
    found: dict[int, Any] = {}
    for frame in frames(answer):
        for new in frame["choices"]:
            choice = found.setdefault(new["index"], new | {"text": "", "logprobs": None})
            assert choice["finish_reason"] in (None, new["finish_reason"]), (
                "the choice continued after its end"
            )
            choice["text"] += new["text"]
            choice["finish_reason"] = new["finish_reason"]
            if new["logprobs"] is not None:
                lists = choice["logprobs"] or {name: [] for name in new["logprobs"]}
                choice["logprobs"] = {k: lists[k] + more for k, more in new["logprobs"].items()}
    return [found[index] for index in sorted(found)]


@torch.no_grad()
def log_probs_TV(model: GPT, ids: list[int]) -> torch.Tensor:
    """Return the log-probabilities of each next token, from one forward without a cache."""
    logits: torch.Tensor = model(torch.tensor([ids]))[0]
    return logits.log_softmax(-1)


def greedy(model: GPT, prompt: list[int], n: int) -> list[int]:
    ids = list(prompt)
    for _ in range(n):
        ids.append(int(log_probs_TV(model, ids)[-1].argmax()))
    return ids[len(prompt) :]


def spelled(token: int) -> str:
    """Return a token as OpenAI spells it: its text, or the bytes of an incomplete character."""
    content = TOKENIZER.decode_bytes([token])
    try:
        return content.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in content)


# ------------------------------------------------------------------------------------------------
# Models


def test_models_lists_the_model_under_its_name(server: Server, client: openai.OpenAI) -> None:
    listed = server.ask("/v1/models").json
    [one] = listed["data"]
    assert (listed["object"], one["object"], one["owned_by"]) == ("list", "model", "clingpt")
    assert isinstance(one["created"], int) and one["context"] == CONTEXT
    assert one["precision"] == "float32" and one["threshold"] is None
    assert (one["tasks"], one["task_notes"], one["generated_data"]) == (None, {}, False)
    assert server.ask(f"/v1/models/{one['id']}").json == one
    [official] = client.models.list()
    assert official.id == client.models.retrieve(official.id).id == one["id"] == "tiny"
    reply = client.completions.create(model=official.id, prompt="Pain", max_tokens=1)
    assert reply.model == official.id


@pytest.mark.parametrize("name", ["gpt-4", "tiny/other", "Tiny"])
def test_unknown_model_is_not_found(name: str, client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as missing:
        client.models.retrieve(name)
    assert missing.value.code == "model_not_found" and "tiny" in missing.value.message
    with pytest.raises(openai.NotFoundError) as unknown:
        client.completions.create(model=name, prompt=CANARY)
    assert (unknown.value.code, unknown.value.param) == ("model_not_found", "model")
    assert CANARY not in unknown.value.message and name not in unknown.value.message


# ------------------------------------------------------------------------------------------------
# Completions


def test_completion_matches_greedy_decoding_of_the_model(client: openai.OpenAI, model: GPT) -> None:
    prompt = TOKENIZER.encode(PROMPTS[3])
    reply = client.completions.create(model="tiny", prompt=PROMPTS[3], max_tokens=5, temperature=0)
    [choice] = reply.choices
    assert choice.text == TOKENIZER.decode(greedy(model, prompt, 5))
    assert (choice.index, choice.finish_reason, choice.logprobs) == (0, "length", None)
    assert re.fullmatch(r"cmpl-\w{32}", reply.id) and reply.object == "text_completion"
    assert isinstance(reply.created, int) and reply.system_fingerprint
    assert reply.usage and reply.usage.completion_tokens == 5
    assert reply.usage.prompt_tokens == len(prompt)
    assert reply.usage.total_tokens == len(prompt) + 5
    # null selects OpenAI's default, like a missing field.
    body = {"prompt": PROMPTS[3], "max_tokens": None, "n": None, "seed": 5}
    default = client.post("/completions", body=body, cast_to=Completion)
    again = client.completions.create(model="tiny", prompt=PROMPTS[3], temperature=1, seed=5)
    assert default.choices == again.choices and again.usage
    assert again.usage.completion_tokens == 16


def test_stream_matches_the_complete_reply(client: openai.OpenAI) -> None:
    wanted: dict[str, Any] = {"model": "tiny", "max_tokens": 8, "temperature": 0}
    for half in (PROMPTS[:10], PROMPTS[10:]):
        whole = client.completions.create(prompt=half, **wanted)
        assert [choice.index for choice in whole.choices] == list(range(10))
        assert len({choice.text for choice in whole.choices}) > 5
        for prompt, choice in zip(half, whole.choices, strict=True):
            chunks = list(client.completions.create(prompt=prompt, stream=True, **wanted))
            assert "".join(chunk.choices[0].text for chunk in chunks) == choice.text
            ends = [chunk.choices[0].finish_reason for chunk in chunks]
            assert ends == [None] * (len(chunks) - 1) + ["length"] and len(chunks) == 8
            assert len({chunk.id for chunk in chunks}) == 1
            assert {chunk.object for chunk in chunks} == {"text_completion"}


def test_stream_of_several_choices_finishes_each(server: Server) -> None:
    wanted = {"prompt": PROMPTS[:3], "n": 2, "seed": 1, "max_tokens": 6, "logprobs": 2}
    whole, streamed = complete(server, **wanted), complete(server, **wanted, stream=True)
    assert choices_of(streamed) == choices_of(whole)
    ends = [c["index"] for f in frames(streamed) for c in f["choices"] if c["finish_reason"]]
    assert sorted(ends) == list(range(6))


def test_stream_uses_server_sent_events(server: Server) -> None:
    answer = complete(server, prompt="Pain", max_tokens=3, stream=True)
    assert answer.status == 200
    assert answer.headers["content-type"].partition(";")[0] == "text/event-stream"
    assert "no-cache" in answer.headers["cache-control"]
    assert answer.headers["x-accel-buffering"] == "no"
    assert re.fullmatch(rb"(data: \{[^\n]*\}\n\n){3}data: \[DONE\]\n\n", answer.body)
    assert not any("usage" in frame for frame in frames(answer))


def test_stream_ends_with_usage_on_request(client: openai.OpenAI) -> None:
    *chunks, last = client.completions.create(
        model="tiny",
        prompt=["Pain", "Pain fell"],
        n=2,
        max_tokens=4,
        stream=True,
        stream_options={"include_usage": True},
    )
    assert [chunk.usage for chunk in chunks] == [None] * len(chunks)
    assert "usage" in chunks[0].model_fields_set and last.choices == []
    prompt_tokens = len(TOKENIZER.encode("Pain")) + len(TOKENIZER.encode("Pain fell"))
    assert last.usage and last.usage.prompt_tokens == prompt_tokens
    assert last.usage.completion_tokens == 4 * 4
    assert last.usage.total_tokens == prompt_tokens + 16


def test_choices_differ_and_a_seed_reproduces_them(server: Server) -> None:
    def texts(**fields: Any) -> list[str]:
        return [
            c["text"] for c in choices_of(complete(server, prompt="Pain", max_tokens=12, **fields))
        ]

    first = texts(n=3, seed=42)
    assert len(set(first)) == 3
    assert texts(n=3, seed=42) == texts(n=3, seed=42, stream=True) == first
    assert texts(n=3, seed=43) != first
    assert texts(n=1, seed=42) == first[:1]
    assert texts() != texts()  # without a seed, each request samples differently


def test_prompt_may_be_text_or_ids_or_a_list_of_either(client: openai.OpenAI) -> None:
    first, second = TOKENIZER.encode("Pain fell"), TOKENIZER.encode("Nausea")
    kinds: list[Any] = ["Pain fell", ["Pain fell", "Nausea"], first, [first, second]]
    replies = [
        client.completions.create(model="tiny", prompt=kind, max_tokens=4, temperature=0)
        for kind in kinds
    ]
    texts = [[choice.text for choice in reply.choices] for reply in replies]
    assert list(map(len, texts)) == [1, 2, 1, 2] and texts[1][0] != texts[1][1]
    assert texts[0] == texts[2] == texts[1][:1] and texts[1] == texts[3]
    assert [reply.usage and reply.usage.prompt_tokens for reply in replies] == [2, 5, 2, 5]


def test_typed_end_of_text_is_text_and_an_empty_prompt_is_end_of_text(server: Server) -> None:
    usage = complete(server, prompt="a<|endoftext|>", max_tokens=1).json["usage"]
    assert usage["prompt_tokens"] == len(TOKENIZER.encode("a<|endoftext|>")) > 2
    [empty], [end] = (
        choices_of(complete(server, prompt=prompt, max_tokens=4, temperature=0, echo=False))
        for prompt in ("", [EOT])
    )
    assert empty == end


@pytest.mark.parametrize(
    "fields",
    [
        {"temperature": 2.5, "top_k": 1},
        {"temperature": 0.7, "top_k": 40},
        {"temperature": 1.5, "top_p": 0.3},
        {"temperature": 3.0, "min_p": 0.2},
        {"temperature": 0.0, "repetition_penalty": 10.0},
    ],
    ids=str,
)
def test_sampling_settings_match_the_command_line(
    fields: dict[str, Any], client: openai.OpenAI, model: GPT
) -> None:
    prompt = TOKENIZER.encode(PROMPTS[1])
    how = Sampling(max_new_tokens=24, seed=9, **fields)
    [expected] = generate(model, TOKENIZER, [prompt], how, context=CONTEXT)
    common: dict[str, Any] = {"model": "tiny", "prompt": prompt, "max_tokens": 24, "seed": 9}
    reply = client.completions.create(**common, extra_body=fields)
    assert reply.choices[0].text == expected.text
    plain = client.completions.create(**common, temperature=fields["temperature"])
    assert plain.choices[0].text != expected.text, "the setting has no effect here"


# ------------------------------------------------------------------------------------------------
# Log-probabilities and echo


@pytest.mark.parametrize("k", range(6))
def test_log_probabilities_match_the_model(k: int, server: Server, model: GPT) -> None:
    wanted: dict[str, Any] = {"prompt": PROMPTS[k], "max_tokens": 12, "seed": k, "logprobs": k}
    [choice] = choices_of(complete(server, **wanted, temperature=1.5))
    found, prompt = choice["logprobs"], TOKENIZER.encode(PROMPTS[k])
    assert {len(values) for values in found.values()} == {12}
    names = {spelled(token): token for token in range(VOCAB_SIZE)}
    ids = [names[token] for token in found["tokens"]]
    expected_TV = log_probs_TV(model, prompt + ids)[len(prompt) - 1 : -1]
    for log_probs_V, token, value, top in zip(
        expected_TV, ids, found["token_logprobs"], found["top_logprobs"], strict=True
    ):
        assert value == pytest.approx(float(log_probs_V[token]), abs=1e-4)
        best = log_probs_V.topk(k).indices.tolist()
        assert top == pytest.approx(
            {spelled(other): float(log_probs_V[other]) for other in {*best, token}}, abs=1e-4
        )
    assert choices_of(complete(server, **wanted, temperature=1.5, stream=True)) == [choice]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("logprobs", [None, 0, 3])
def test_echo_repeats_the_prompt(
    logprobs: int | None, stream: bool, server: Server, model: GPT
) -> None:
    prompt = TOKENIZER.encode(PROMPTS[2])
    wanted: dict[str, Any] = {"prompt": PROMPTS[2], "max_tokens": 4, "temperature": 0}
    [plain] = choices_of(complete(server, **wanted, logprobs=logprobs))
    [choice] = choices_of(complete(server, **wanted, logprobs=logprobs, echo=True, stream=stream))
    assert choice["text"] == PROMPTS[2] + plain["text"]
    if logprobs is None:
        assert choice["logprobs"] is None
        return
    found = choice["logprobs"]
    assert {len(values) for values in found.values()} == {len(prompt) + 4}
    assert "".join(found["tokens"]) == choice["text"]
    assert found["token_logprobs"][0] is found["top_logprobs"][0] is None
    expected_TV = log_probs_TV(model, prompt)
    for log_probs_V, token, value, top in zip(
        expected_TV,
        prompt[1:],
        found["token_logprobs"][1:],
        found["top_logprobs"][1:],
        strict=False,
    ):
        assert value == pytest.approx(float(log_probs_V[token]), abs=1e-4)
        best = {spelled(other) for other in log_probs_V.topk(logprobs).indices.tolist()}
        assert set(top) == best | {spelled(token)}
    assert found["token_logprobs"][len(prompt) :] == plain["logprobs"]["token_logprobs"]
    for token, offset in zip(found["tokens"], found["text_offset"], strict=True):
        assert choice["text"].startswith(token, offset)


# ------------------------------------------------------------------------------------------------
# Stop strings and characters of many tokens


@pytest.mark.parametrize(
    ("reply", "stop", "text"),
    [
        ("Pain fell. END It rose.", "END", "Pain fell. "),
        ("Pain fell. END It rose.", " E", "Pain fell."),
        ("Pain fell. END It rose.", "fell. END It", "Pain "),  # four and a half tokens
        ("aab aaab aaaab", ["aaaab"], "aab aaab "),  # two prefixes of it are emitted after all
        ("EN E EN END", "END", "EN E EN "),
        ("Pain fell. EN", "END", "Pain fell. EN"),  # the text ends with a prefix of it
        ("Pain fell.", ["rose", "fall", "END", "X"], "Pain fell."),
        ("one two three", ["three", "two", "wo t"], "one "),
        ("wo three", ["three", "o thr", "wo threex"], "w"),
        ("Schmerz 😀😀 fort", "😀 f", "Schmerz 😀"),
        ("END", "END", ""),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_text_ends_before_its_stop_string(
    reply: str, stop: object, text: str, stream: bool, scripted: tuple[Server, Say]
) -> None:
    server, say = scripted
    say(reply)
    answer = complete(server, prompt="Say it", max_tokens=99, stop=stop, stream=stream)
    [choice] = choices_of(answer)
    assert (choice["text"], choice["finish_reason"]) == (text, "stop")
    # Without the stop string the same prefix is emitted in full, so nothing was dropped above.
    say(reply[: len(text) + 2])
    n = len(TOKENIZER.encode(reply[: len(text) + 2]))
    cut = complete(server, prompt="Say it", max_tokens=n, stop="no such text", stream=stream)
    assert [c["text"] for c in choices_of(cut)] == [reply[: len(text) + 2]]
    assert choices_of(cut)[0]["finish_reason"] == "length"


def test_stop_string_across_tokens_is_found(server: Server) -> None:
    wanted: dict[str, Any] = {"prompt": PROMPTS[5], "max_tokens": 12, "temperature": 0}
    [whole] = choices_of(complete(server, **wanted, logprobs=0))
    [_, _, _, fifth, *_] = whole["logprobs"]["text_offset"][1:]
    stop = whole["text"][fifth - 2 : fifth + 2]  # the end of one token and the start of the next
    for stream in (False, True):
        [choice] = choices_of(complete(server, **wanted, stop=[stop], stream=stream))
        expected = whole["text"].partition(stop)[0]
        assert (choice["text"], choice["finish_reason"]) == (expected, "stop")


@settings(deadline=None, max_examples=25)
@given(
    st.lists(
        st.sampled_from(TOKENIZER.encode("é 😀 ≥ 漢字 👩‍⚕️ naïve µg")) | st.integers(0, EOT - 1),
        min_size=1,
        max_size=200,
    )
)
def test_streamed_characters_are_never_split(scripted: tuple[Server, Say], ids: list[int]) -> None:
    server, say = scripted
    say(ids)
    answer = complete(server, prompt="Say it", max_tokens=201, logprobs=0, stream=True)
    [choice] = choices_of(answer)
    [whole] = choices_of(complete(server, prompt="Say it", max_tokens=201, logprobs=0))
    assert choice == whole and choice["finish_reason"] == "stop"
    decoded = TOKENIZER.decode(ids)
    # Everything except a last character whose remaining bytes never arrived.
    assert choice["text"] == decoded or choice["text"] == decoded[:-1] and decoded[-1] == "\ufffd"
    found = choice["logprobs"]
    assert found["tokens"] == [spelled(token) for token in ids]
    for token, offset in zip(found["tokens"], found["text_offset"], strict=True):
        # An incomplete character before a token is resolved with it, and precedes its text.
        rest = choice["text"][offset:].lstrip("\ufffd")
        assert token.startswith("bytes:") or rest.startswith(token.lstrip("\ufffd"))


@pytest.mark.parametrize("stream", [False, True])
def test_zero_tokens_return_the_prompts_log_probabilities(
    stream: bool, server: Server, model: GPT
) -> None:
    """What evaluation harnesses send to score texts, which may fill the whole context."""
    texts = [TOKENIZER.encode(PROMPTS[4]), [7] * CONTEXT]
    wanted: dict[str, Any] = {"prompt": texts, "max_tokens": 0, "echo": True, "stream": stream}
    choices = choices_of(complete(server, **wanted, logprobs=1))
    for choice, ids in zip(choices, texts, strict=True):
        found = choice["logprobs"]
        assert choice["text"] == TOKENIZER.decode(ids) and choice["finish_reason"] == "length"
        assert {len(values) for values in found.values()} == {len(ids)}
        log_probs = log_probs_TV(model, ids)[:-1].gather(1, torch.tensor(ids)[1:, None])[:, 0]
        assert found["token_logprobs"][0] is None
        assert found["token_logprobs"][1:] == pytest.approx(log_probs.tolist(), abs=1e-4)
    if not stream:
        usage = complete(server, **wanted, logprobs=1).json["usage"]
        assert (usage["prompt_tokens"], usage["completion_tokens"]) == (sum(map(len, texts)), 0)
        [plain, _] = choices_of(complete(server, **wanted))
        assert (plain["text"], plain["logprobs"]) == (PROMPTS[4], None)


# ------------------------------------------------------------------------------------------------
# Refusals

TOO_LONG = [1] * CONTEXT
LIMITS = [
    ({"max_tokens": 0, "echo": False}, "max_tokens"),
    ({"max_tokens": 0, "echo": None}, "max_tokens"),
    ({"max_tokens": -1}, "max_tokens"),
    ({"max_tokens": "5"}, "max_tokens"),
    ({"max_tokens": CONTEXT}, "max_tokens"),
    ({"max_tokens": 10**9}, "max_tokens"),
    ({"prompt": TOO_LONG}, "prompt"),
    ({"prompt": ["Pain", " again" * CONTEXT]}, "prompt"),
    ({"prompt": "a" * 40_000}, "prompt"),
    ({"prompt": ["a"] * 17}, "prompt"),
    ({"prompt": [[1]] * 17}, "prompt"),
    ({"prompt": []}, "prompt"),
    ({"prompt": [[]]}, "prompt"),
    ({"prompt": [-1]}, "prompt"),
    ({"prompt": [[1], [VOCAB_SIZE]]}, "prompt"),
    ({"prompt": [CANARY, 1]}, "prompt"),
    ({"prompt": [True]}, "prompt"),
    ({"prompt": None}, "prompt"),
    ({"prompt": {CANARY: CANARY}}, "prompt"),
    ({"prompt": f"{CANARY} \ud800"}, "prompt"),
    ({"temperature": -1}, "temperature"),
    ({"temperature": 101}, "temperature"),
    ({"temperature": 1e-9}, "temperature"),
    ({"temperature": float("nan")}, "temperature"),
    ({"temperature": CANARY}, "temperature"),
    ({"top_p": 0}, "top_p"),
    ({"top_p": 2}, "top_p"),
    ({"top_k": 0}, "top_k"),
    ({"min_p": 1.5}, "min_p"),
    ({"repetition_penalty": 0}, "repetition_penalty"),
    ({"n": 0}, "n"),
    ({"n": 9}, "n"),
    ({"n": 1000}, "n"),
    ({"logprobs": 6}, "logprobs"),
    ({"logprobs": -1}, "logprobs"),
    ({"stop": ""}, "stop"),
    ({"stop": list("abcde")}, "stop"),
    ({"stop": ["a", ""]}, "stop"),
    ({"stop": "a" * 65}, "stop"),
    ({"seed": -1}, "seed"),
    ({"seed": 2**63}, "seed"),
    ({"stream_options": {"include_usage": True}}, "stream_options"),
    ({"stream": True, "stream_options": {"include_obfuscation": True}}, "include_obfuscation"),
    ({"best_of": 3}, "best_of"),
    ({"suffix": CANARY}, "suffix"),
    ({"presence_penalty": 0.5}, "presence_penalty"),
    ({"frequency_penalty": -0.5}, "frequency_penalty"),
    ({"logit_bias": {"50256": -100}}, "logit_bias"),
    ({"tools": [{"type": CANARY}]}, "tools"),
    ({"messages": [{"role": "user", "content": CANARY}]}, "messages"),
    ({"response_format": {"type": "json_object"}}, "response_format"),
]


@pytest.mark.parametrize(("fields", "named"), LIMITS, ids=[str(case)[:50] for case in LIMITS])
def test_invalid_fields_are_refused_by_name(
    fields: dict[str, Any], named: str, server: Server
) -> None:
    body = {"prompt": CANARY, "echo": True, "logprobs": 1} | fields
    error = error_of(complete(server, **body), 400)
    assert error["param"] == named and error["type"] == "invalid_request_error"
    # A stream is refused in the same way, before it starts.
    if named != "stream_options":
        assert error_of(complete(server, **body | {"stream": True}), 400) == error


def test_refusal_states_the_value_and_the_limit(server: Server) -> None:
    n = len(TOKENIZER.encode(CANARY))
    cases: list[tuple[dict[str, Any], list[str]]] = [
        ({"max_tokens": 255}, [f"{n} tokens", "255", "256"]),
        ({"prompt": [1] * 300}, ["300 tokens", "256"]),
        ({"n": 9}, ["8"]),
        ({"stop": list("abcde")}, ["4", "64"]),
        ({"prompt": ["a"] * 17}, ["16"]),
        ({"tools": []}, ["tools is not supported"]),
    ]
    for fields, words in cases:
        message = error_of(complete(server, **{"prompt": CANARY} | fields), 400)["message"]
        assert all(word in message for word in words), message
    assert complete(server, prompt=CANARY, max_tokens=CONTEXT - n).status == 200


def test_openai_client_raises_its_own_exceptions(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        client.completions.create(model="tiny", prompt="a", max_tokens=300)
    assert refused.value.code == "context_length_exceeded" and refused.value.param == "max_tokens"
    with pytest.raises(openai.BadRequestError) as unsupported:
        client.completions.create(model="tiny", prompt="a", best_of=2)
    assert unsupported.value.code == "unsupported_parameter"


@pytest.mark.parametrize(
    "fields",
    [
        {"n": 1, "best_of": 1, "logit_bias": {}, "suffix": "", "stop": [], "user": "me"},
        {"presence_penalty": 0, "frequency_penalty": 0.0, "temperature": 1, "top_p": 1, "seed": 0},
        {
            name: None
            for name in get_type_hints(CompletionCreateParamsNonStreaming)
            if name not in ("model", "prompt")
        },
        {"stream": True, "stream_options": {"include_usage": True, "include_obfuscation": False}},
        {"stream": True, "stream_options": {"include_usage": None}},
    ],
)
def test_neutral_values_of_openais_fields_are_accepted(
    fields: dict[str, Any], client: openai.OpenAI
) -> None:
    reply = client.completions.create(**{"max_tokens": 1} | fields, model="tiny", prompt="a")
    assert list(reply) if fields.get("stream") else reply.choices


def test_every_field_of_openais_apis_is_accepted_or_refused_by_name() -> None:
    """An error names only fields that are listed, since any other might be text from a report."""
    schemas = [
        CompletionCreateParamsNonStreaming,
        ChatParamsNonStreaming,
        ResponseCreateParamsNonStreaming,
        EmbeddingCreateParams,
    ]
    names = {name for schema in schemas for name in get_type_hints(schema)}
    assert len(names) > 50
    for request in (CompletionRequest, AnswerRequest):
        for name in names - set(request.model_fields):
            with pytest.raises(ApiError) as refused:
                request.model_validate({name: CANARY})
            assert refused.value.param == name
            assert refused.value.detail.startswith(f"{name} is not supported")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"max_completion_tokens": 5}, "max_completion_tokens is not supported; use max_tokens"),
        ({"max_new_tokens": 5}, "max_new_tokens is not supported; use max_tokens"),
        ({"messages": [CANARY]}, "messages is not supported; use prompt"),
        ({"top_logprobs": 2}, "top_logprobs is not supported; use logprobs"),
        ({"frequency_penalty": 1.5}, "frequency_penalty is not supported; use repetition_penalty"),
        ({"best_of": 3}, "best_of is not supported; use n"),
        ({"question": CANARY}, "question is not supported; use /v1/answer"),
        ({"ignore_eos": True}, "ignore_eos is not supported"),
        ({"max_token": 5}, "a field of the request is not supported; did you mean max_tokens?"),
        ({CANARY: 5}, "a field of the request is not supported; /docs lists the fields"),
        ({"x" * 60_000: 5}, "a field of the request is not supported; /docs lists the fields"),
    ],
    ids=lambda value: str(value)[:50],
)
def test_refusal_suggests_the_field_that_does_the_job(
    fields: dict[str, Any], message: str, server: Server
) -> None:
    error = error_of(complete(server, prompt=CANARY, **fields), 400)
    assert error["message"] == message and error["code"] == "unsupported_parameter"


CHAT: dict[str, Any] = {"model": "tiny", "messages": [{"role": "user", "content": CANARY}]}


def test_openais_other_apis_are_refused_with_what_to_use(
    client: openai.OpenAI, server: Server
) -> None:
    calls: list[tuple[str, Callable[[], object]]] = [
        ("no chat", lambda: client.chat.completions.create(**CHAT)),
        ("no chat", lambda: client.chat.completions.create(**CHAT, stream=True)),
        ("no chat", lambda: client.responses.create(model="tiny", input=CANARY)),
        ("no embeddings", lambda: client.embeddings.create(model="tiny", input=CANARY)),
        ("no moderations", lambda: client.moderations.create(input=CANARY)),
        ("no batch jobs", lambda: client.batches.retrieve("one")),
    ]
    for what, ask in calls:
        with pytest.raises(openai.NotFoundError) as missing:
            ask()
        message = missing.value.message
        assert f"this server has {what}; use /v1/completions" in message and "/v1/answer" in message
        assert CANARY not in message and missing.value.code == "unknown_url"
    chat = error_of(server.ask("/v1/chat/completions", CHAT), 404)
    for path in ("/v1/chat/completions/", "/chat/completions", "/v1/v1/chat/completions"):
        assert error_of(server.ask(path, CHAT), 404) == chat
    assert error_of(server.ask("/v1/chat/completions"), 404) == chat  # also by GET
    edits = error_of(server.ask("/v1/edits", {"input": CANARY}), 404)
    assert "this server has no edits; use /v1/completions" in edits["message"]


@pytest.mark.parametrize(
    ("path", "advice"),
    [
        ("/completions", "use /v1/completions (the base_url of OpenAI's client ends in /v1)"),
        ("/v1/completions/", "use /v1/completions "),
        ("/v1/v1/completions", "use /v1/completions "),
        ("/answer", "use /v1/answer "),
        ("/models/tiny", "use /v1/models "),
        ("/generate", "use /v1/completions to continue a text, or /v1/answer, /v1/summarize, "),
        ("/v1", "use /v1/completions to continue a text"),
    ],
)
def test_unknown_path_is_answered_with_the_route_to_use(
    path: str, advice: str, server: Server
) -> None:
    for body in (None, {"prompt": CANARY}):
        error = error_of(server.ask(path, body), 404)
        assert error["message"].startswith("route not found; ") and advice in error["message"]


@pytest.mark.parametrize(
    ("path", "body", "method"),
    [
        ("/v1/completions", None, "POST"),
        ("/v1/answer", None, "POST"),
        ("/v1/models", {}, "GET"),
        ("/docs-static/swagger-ui.css", {}, "GET, HEAD"),
    ],
)
def test_refused_method_is_answered_with_the_one_to_use(
    path: str, body: object, method: str, server: Server
) -> None:
    answer = server.ask(path, body)
    assert error_of(answer, 405)["message"] == f"method not allowed; use {method}"
    assert answer.headers["allow"] == method


RAW: list[tuple[str, dict[str, Any], int]] = [
    ("/v1/nothing", {}, 404),
    (f"/v1/{CANARY.split()[0]}/{CANARY.split()[1]}", {}, 404),
    ("/v1/completions/", {"body": {"prompt": CANARY}}, 404),
    ("/v1/models/nothing", {}, 404),
    ("/v1/completions", {}, 405),
    ("/v1/completions", {"body": {"prompt": CANARY}, "method": "PUT"}, 405),
    ("/v1/models", {"body": {}}, 405),
    ("/health", {"body": {}}, 405),
    ("/v1/completions", {"body": b'{"prompt": "xyzzy plugh"'}, 400),
    ("/v1/completions", {"body": b""}, 400),
    ("/v1/completions", {"body": b'["xyzzy plugh"]'}, 400),
    ("/v1/completions", {"body": b"null"}, 400),
    ("/v1/completions", {"body": b'{"prompt": "\xff"}'}, 400),
    ("/v1/completions", {"body": b'{"prompt": "xyzzy plugh", "xyzzy plugh": 1}'}, 400),
    ("/v1/completions", {"body": b"[" * 60_000}, 400),
    ("/v1/completions", {"body": b'{"prompt": "' + CANARY.encode() * 6000 + b'"}'}, 413),
]


@pytest.mark.parametrize(("path", "request_", "status"), RAW, ids=[str(x)[:60] for x in RAW])
def test_every_error_has_openais_shape(
    path: str, request_: dict[str, Any], status: int, server: Server
) -> None:
    answer = server.ask(path, **request_)
    error = error_of(answer, status)
    assert error["type"] == ("not_found_error" if status == 404 else "invalid_request_error")
    assert ("allow" in answer.headers) == (status == 405)


def test_refusals_leave_the_server_working(server: Server, model: GPT) -> None:
    # After all refusals above, the same process still decodes correctly and has logged no text.
    [choice] = choices_of(complete(server, prompt="Pain", max_tokens=6, temperature=0))
    assert choice["text"] == TOKENIZER.decode(greedy(model, TOKENIZER.encode("Pain"), 6))
    assert server.gauge("num_requests_running") == server.gauge("num_requests_waiting") == 0
    log = server.log.read_text()
    assert "error in request" not in log and CANARY not in log and "Pain" not in log
