"""Write a model in the formats of other engines, and load each as users of that engine would.

Every function returns a step function of the written model, which clingpt/export/verify.py compares
with the model. Of these formats only safetensors is safe to open from an untrusted source:
TorchScript and torch.export archives contain programs, and ONNX graphs can refer to other files.
"""

import io
import logging
import shutil
import warnings
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch

from clingpt.base.errors import CheckpointError
from clingpt.export.onnx_int8 import round_graph
from clingpt.export.onnx_runner import open_session
from clingpt.export.stateless import Inputs, Stateless, make_inputs
from clingpt.export.verify import Step
from clingpt.nn.checkpoint import is_adapter, load_model
from clingpt.nn.lora import ADAPTER, ADAPTER_CONFIG, ADAPTER_WEIGHTS
from model import GPT

Precision = Literal["float32", "float16", "bfloat16"]
ONNX, ONNX_WEIGHTS, ONNX_INT8 = "model.onnx", "model.onnx.data", "model_int8.onnx"
TORCHSCRIPT, TORCH_EXPORT = "model.ts", "model.pt2"
WHOLE = "past_sequence_length + sequence_length"  # optimum's name for the exporter's:
SAME_AS_WHOLE = ("total_sequence_length", "sequence_length + past_sequence_length")


def example_inputs(model: GPT) -> Inputs:
    """Return two rows of three past and five new tokens: all sizes differ, and none is 0 or 1.

    Exporters treat sizes of 0 or 1, or equal sizes, as constants.
    """
    shape = (2, model.config.n_head, 3, model.config.n_embd // model.config.n_head)
    past = tuple(torch.zeros(shape) for _ in range(2 * model.config.n_layer))
    return make_inputs(torch.zeros(2, 5, dtype=torch.int64), model.config, past)


def write_hf(model: GPT, folder: Path, *, precision: Precision, ends: Sequence[int]) -> Step:
    """Write weights in the Hub's layout and precision; `model` itself is rounded to them, too."""
    model.to(getattr(torch, precision)).save_pretrained(folder, ends=ends)
    model.float()
    try:
        return Stateless(GPT.from_pretrained(folder).eval())
    except ValueError as error:  # a weight beyond the range of float16 became infinite
        raise CheckpointError(f"{error} in {precision}; choose another --dtype") from None


def write_adapter(source: Path, folder: Path) -> Step:
    """Write a LoRA adapter in PEFT's layout; reading it back merges it into its base."""
    adapter = source if is_adapter(source) else source / ADAPTER
    if not adapter.is_dir():
        raise CheckpointError(
            f"{source} has no adapter, since all of its weights were trained; use --format=hf, or "
            "train with --lora_rank=8"
        )
    for name in (ADAPTER_WEIGHTS, ADAPTER_CONFIG):
        shutil.copyfile(adapter / name, folder / name)
    return Stateless(load_model(folder).model.eval())


def write_torchscript(model: GPT, folder: Path) -> Step:
    """Write a traced module, a format that PyTorch has deprecated."""
    with _quiet():
        traced = torch.jit.trace(  # type: ignore[no-untyped-call]
            Stateless(model), example_inputs(model), check_trace=False
        )
        with (folder / TORCHSCRIPT).open("wb") as file:  # see write_torch_export
            torch.jit.save(traced, file)
        _remove_debug_tables(folder / TORCHSCRIPT)
        found: Step = torch.jit.load(folder / TORCHSCRIPT)  # type: ignore[no-untyped-call]
    return found


def write_torch_export(model: GPT, folder: Path) -> Step:
    """Write a torch.export program for any number of rows, past tokens and new tokens."""
    from torch.export import Dim
    from torch.fx.experimental import _config as sizes

    most = model.config.block_size
    rows, new = Dim("rows", min=1), Dim("new", min=1, max=most)
    past, whole = Dim("past", min=0, max=most - 1), Dim("whole", min=1, max=most)
    layers = tuple({0: rows, 2: past} for _ in range(2 * model.config.n_layer))
    shapes = ({0: rows, 1: new}, {0: rows, 1: whole}, {0: rows, 1: new}, layers)
    # Without this patch, the program has guards that refuse a single new token.
    with _quiet(), sizes.patch(backed_size_oblivious=True):  # type: ignore[attr-defined]
        program = torch.export.export(
            Stateless(model), example_inputs(model), dynamic_shapes=shapes
        )
        for node in program.graph.nodes:
            node.meta.pop("stack_trace", None)  # contains paths of this machine
        # torch aborts the process if it writes to a full disk itself.
        packed = io.BytesIO()
        torch.export.save(program, packed)
        (folder / TORCH_EXPORT).write_bytes(packed.getbuffer())
        return torch.export.load(folder / TORCH_EXPORT).module()


def write_onnx(model: GPT, folder: Path, *, facts: Mapping[str, str]) -> Step:
    """Write an ONNX graph with its weights in a second file, and `facts` in its metadata."""
    onnx = import_onnx()
    # The names of tensors, and of the dimensions that vary from call to call, are optimum's.
    layers = [f"{n}.{kind}" for n in range(model.config.n_layer) for kind in ("key", "value")]
    new = {0: "batch_size", 1: "sequence_length"}
    past = {0: "batch_size", 2: "past_sequence_length"}
    axes: dict[str, Any] = {
        "input_ids": new,
        "attention_mask": {0: "batch_size", 1: "total_sequence_length"},
        "position_ids": new,
    }
    with _quiet():
        program = torch.onnx.export(
            Stateless(model),
            example_inputs(model),
            dynamo=True,
            dynamic_shapes=axes | {"past": (past,) * len(layers)},
            verbose=False,
            input_names=[*axes, *(f"past_key_values.{layer}" for layer in layers)],
            output_names=["logits", *(f"present.{layer}" for layer in layers)],
        )
    assert program is not None, "dynamo=True returns a program"
    program.save(str(folder / ONNX), external_data=True)
    graph = onnx.load(str(folder / ONNX), load_external_data=False)
    _remove_paths(graph)
    _name_axes(graph.graph)
    known = {**facts, "opset": str(graph.opset_import[0].version), "torch": torch.__version__}
    for key, value in sorted(known.items()):
        graph.metadata_props.add(key=key, value=value)
    (folder / ONNX).write_bytes(graph.SerializeToString(deterministic=True))
    onnx.checker.check_model(str(folder / ONNX))
    return onnx_step(folder / ONNX)


def write_onnx_int8(folder: Path) -> Step:
    """Write the same graph with 8-bit weights, which only onnxruntime can run."""
    onnx = import_onnx()
    graph = onnx.load(str(folder / ONNX), load_external_data=False)
    round_graph(graph, folder)
    (folder / ONNX_INT8).write_bytes(graph.SerializeToString(deterministic=True))
    return onnx_step(folder / ONNX_INT8)


def onnx_step(path: Path) -> Step:
    """Return a step that runs in onnxruntime on the CPU."""
    session = open_session(path)
    names = [each.name for each in session.get_inputs()]

    def step(*inputs: torch.Tensor) -> list[torch.Tensor]:
        feeds = {name: tensor.numpy() for name, tensor in zip(names, inputs, strict=True)}
        return [torch.from_numpy(array) for array in session.run(None, feeds)]

    return step


def import_onnx() -> Any:
    """Import onnx and the other packages that the exporter needs, before any work is done."""
    import onnx
    import onnxruntime  # noqa: F401
    import onnxscript  # noqa: F401

    return onnx


def _remove_debug_tables(path: Path) -> None:
    """Rewrite a TorchScript archive without the tables that contain paths of this machine.

    They serve only its error messages, which point into the archive's own code instead.
    """
    whole = path.with_suffix(".whole")
    path.rename(whole)
    with zipfile.ZipFile(whole) as source, zipfile.ZipFile(path, "w") as kept:
        for entry in source.infolist():
            if not entry.filename.endswith(".debug_pkl"):
                kept.writestr(entry, source.read(entry))
    whole.unlink()


def _remove_paths(graph: Any) -> None:
    """Remove stack traces with paths of this machine, so that exports are reproducible."""
    main = graph.graph
    parts = [*main.input, *main.output, *main.initializer]
    for scope in (main, *graph.functions):
        del scope.metadata_props[:]
        parts += (*scope.node, *scope.value_info)
    for part in parts:
        del part.metadata_props[:]
        part.doc_string = ""
    graph.doc_string = ""


def _name_axes(graph: Any) -> None:
    """Use one name for the length of past and new tokens together."""
    for each in (*graph.input, *graph.output, *graph.value_info):
        for axis in each.type.tensor_type.shape.dim:
            if axis.dim_param in SAME_AS_WHOLE:
                axis.dim_param = WHOLE


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporters' logs and warnings; failures still raise."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
