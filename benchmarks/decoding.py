"""Contenders that decode the same prompts with the same weights, and that score labels.

Each is built in a separate process from one Hugging Face folder. Only the contenders that need them
import `transformers` or a checkout of nanoGPT. A step returns the sum of the chosen token ids, or
of the log-probabilities, which shows whether contenders did the same work.
"""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.training import Placed, Step, nanogpt_model
from clingpt.base.files import written_whole
from clingpt.decoding.decoders import Quantize, make_decoder
from clingpt.decoding.engine import Decoder, Engine, answer_all, label_log_probs
from clingpt.decoding.sampling import Sampling
from clingpt.export import formats, gguf_file
from clingpt.export.llama_cpp import LlamaCpp
from clingpt.export.onnx_runner import Runner
from clingpt.nn.runtime import Runtime, start
from clingpt.text.tasks import label_ids
from clingpt.text.tokenizer import EOT, Tokenizer
from model import GPT

GGUF_KINDS: dict[str, gguf_file.Kind] = {  # of llama.cpp's contenders
    "llama.cpp": "F32",
    "llama.cpp-f16": "F16",
    "llama.cpp-q8_0": "Q8_0",
}
ONNX_FOLDER = "onnx"  # inside the folder of the weights


@dataclass(frozen=True, kw_only=True)
class DecodeJob(Placed):
    """The prompts and settings that all contenders share."""

    weights: Path  # a Hugging Face folder
    prompts: Sequence[Sequence[int]]
    new_tokens: int  # of each reply; its last token takes no further step
    threads: int = 0  # CPU threads; 0 uses all cores

    def limit_threads(self) -> None:
        """Let PyTorch use as many threads as the job says, in this process."""
        if self.threads:
            torch.set_num_threads(self.threads)


def our_decoder(job: DecodeJob, *, quantize: Quantize = "none") -> tuple[Runtime, Decoder]:
    """Return the decoder that sample.py uses."""
    rt = start(device=job.device, dtype=job.dtype)
    job.limit_threads()
    model = GPT.from_pretrained(job.weights).to(rt.device).eval()
    return rt, make_decoder(model, rt, quantize=quantize)


def ours(job: DecodeJob, *, new: int | None, quantize: Quantize = "none") -> Step:
    """Decode all prompts at once with our engine."""
    rt, decoder = our_decoder(job, quantize=quantize)
    sampling = Sampling(max_new_tokens=new or job.new_tokens, ignore_end=True)
    context = len(job.prompts[0]) + job.new_tokens
    engine = Engine(decoder, Tokenizer.load(), rows=len(job.prompts), context=context)

    def step() -> float:
        with rt.autocast():
            return sum(sum(reply.ids) for reply in answer_all(engine, job.prompts, sampling))

    return step


def transformers_model(job: DecodeJob) -> Any:
    """Load the weights into transformers' model: eager mode, PyTorch's fused attention."""
    from transformers import AutoModelForCausalLM, logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    job.limit_threads()
    rt = job.runtime()
    model: Any = AutoModelForCausalLM.from_pretrained(job.weights, dtype=rt.dtype)
    model.generation_config.eos_token_id = None  # all replies have the same length
    return model.to(rt.device).eval()


def transformers_generate(job: DecodeJob, *, new: int | None) -> Step:
    """Decode with transformers' generate: greedy, with its KV cache."""
    model = transformers_model(job)
    ids_BT = torch.tensor(job.prompts, device=job.device)

    @torch.no_grad()
    def step() -> float:
        found_BT = model.generate(
            ids_BT, attention_mask=torch.ones_like(ids_BT),
            max_new_tokens=new or job.new_tokens, do_sample=False, pad_token_id=EOT,
        )  # fmt: skip
        return float(found_BT[:, ids_BT.shape[1] :].sum())

    return step


def nanogpt_generate(job: DecodeJob, *, new: int | None) -> Step:
    """Decode with nanoGPT's generate: no cache; top_k=1 makes it greedy."""
    job.limit_threads()
    rt, source = job.runtime(), GPT.from_pretrained(job.weights)
    shape = source.config
    model = nanogpt_model(job.nanogpt, shape, shape.vocab_size)
    weights = {f"transformer.{name}": tensor for name, tensor in source.state_dict().items()}
    weights["transformer.wte.weight"] = weights["transformer.wte.weight"][: shape.vocab_size]
    weights["lm_head.weight"] = weights["transformer.wte.weight"]
    model.load_state_dict(weights)
    model = model.to(rt.device).eval()
    ids_BT = torch.tensor(job.prompts, device=job.device)

    def step() -> float:
        with rt.autocast():
            found_BT = model.generate(ids_BT, new or job.new_tokens, top_k=1)
        return float(found_BT[:, ids_BT.shape[1] :].sum())

    return step


def prepare_onnx(weights: Path) -> None:
    """Export the model to ONNX, in fp32 and int8."""
    model = GPT.from_pretrained(weights).eval()
    with written_whole(weights / ONNX_FOLDER) as folder:
        model.save_pretrained(folder, weights=False)
        Tokenizer.load().save(folder)
        formats.write_onnx(model, folder, facts={})
        formats.write_onnx_int8(folder)


def onnx_generate(job: DecodeJob, *, new: int | None, int8: bool = False) -> Step:
    """Decode all prompts at once with the ONNX runner."""
    runner = Runner(job.weights / ONNX_FOLDER, int8=int8, threads=job.threads)

    def step() -> float:
        found = runner.generate(job.prompts, max_new_tokens=new or job.new_tokens)
        return sum(sum(reply.ids) for reply in found)

    return step


def prepare_gguf(weights: Path, kinds: Iterable[gguf_file.Kind]) -> None:
    """Export the model to GGUF in some types."""
    model = GPT.from_pretrained(weights).eval()
    for kind in kinds:
        path = weights / gguf_file.file_name(kind)
        gguf_file.write(model, Tokenizer.load(), path, kind=kind, facts={})


def llama_cpp_generate(job: DecodeJob, *, new: int | None, kind: gguf_file.Kind) -> Step:
    """Decode all prompts at once with llama.cpp's server; the request itself takes 1 to 2 ms."""
    engine = LlamaCpp(
        job.weights / gguf_file.file_name(kind),
        threads=job.threads or torch.get_num_threads(),
        context=len(job.prompts[0]) + job.new_tokens,
        rows=len(job.prompts),
        exact=False,
    )
    clients = ThreadPoolExecutor(len(job.prompts))

    def ask(prompt: Sequence[int]) -> list[int]:
        return engine.reply(prompt, new_tokens=new or job.new_tokens, ignore_end=True)

    def step() -> float:
        return sum(sum(ids) for ids in clients.map(ask, job.prompts))

    return step


def our_labels(job: DecodeJob, *, quantize: Quantize = "none") -> Step:
    """Score yes, no and maybe as eval.py does."""
    rt, decoder = our_decoder(job, quantize=quantize)
    labels = label_ids(Tokenizer.load())

    def step() -> Tensor:
        with rt.autocast():
            return torch.tensor(label_log_probs(decoder, job.prompts, labels)).sum()

    return step


def transformers_labels(job: DecodeJob) -> Step:
    """Score labels with one forward per prompt and all logits, as most evaluations do."""
    model = transformers_model(job)
    tokens = [token for (token,) in label_ids(Tokenizer.load())]

    @torch.no_grad()
    def step() -> Tensor:
        total = torch.zeros(())
        for prompt in job.prompts:
            logits_V = model(torch.tensor([prompt], device=job.device)).logits[0, -1]
            total = total + logits_V[tokens].float().log_softmax(0).sum().cpu()
        return total

    return step


# `new` is the length of replies: 1 times only the prefill, None takes the job's new_tokens.
REPLIES: dict[str, Callable[..., Step]] = {
    "ours": ours,
    "ours-int8": partial(ours, quantize="int8"),
    "hf": transformers_generate,
    "onnx": onnx_generate,
    "onnx-int8": partial(onnx_generate, int8=True),
    **{name: partial(llama_cpp_generate, kind=kind) for name, kind in GGUF_KINDS.items()},
    "nanogpt": nanogpt_generate,
}
LABELS: dict[str, Callable[[DecodeJob], Step]] = {
    "ours": our_labels,
    "ours-int8": partial(our_labels, quantize="int8"),
    "hf": transformers_labels,
}
