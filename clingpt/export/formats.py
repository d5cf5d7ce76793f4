"""A model written for other engines, each read back as its user would: what is returned is a step
of what stands on disk, to be compared with the model (clingpt/export/verify.py).

Of these formats only safetensors is safe to open from strangers: TorchScript and torch.export
archives hold programs, ONNX graphs can name other files.
"""

import logging
import shutil
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch

from clingpt.base.errors import CheckpointError, ConfigError
from clingpt.export.onnx_int8 import round_graph
from clingpt.export.onnx_runner import open_session
from clingpt.export.stateless import Inputs, Stateless, input_names, make_inputs, output_names
from clingpt.export.verify import Step
from clingpt.nn.checkpoint import is_adapter, load_model
from clingpt.nn.lora import ADAPTER, ADAPTER_CONFIG, ADAPTER_WEIGHTS
from model import GPT

Format = Literal["hf", "onnx", "torchscript", "torch_export", "adapter"]
Precision = Literal["float32", "float16", "bfloat16"]
ONNX, ONNX_WEIGHTS, ONNX_INT8 = "model.onnx", "model.onnx.data", "model_int8.onnx"
TORCHSCRIPT, TORCH_EXPORT = "model.ts", "model.pt2"
WHOLE = "past_sequence_length + sequence_length"  # optimum's name; what the exporter has for it:
SAME_AS_WHOLE = ("total_sequence_length", "sequence_length + past_sequence_length")


def example_inputs(model: GPT) -> Inputs:
    """Two rows of three past tokens and five new ones: no size is 0 or 1, or another one's."""
    shape = (2, model.config.n_head, 3, model.config.n_embd // model.config.n_head)
    past = tuple(torch.zeros(shape) for _ in range(2 * model.config.n_layer))
    return make_inputs(torch.zeros(2, 5, dtype=torch.int64), model.config, past)


def write_hf(model: GPT, folder: Path, *, precision: Precision) -> Step:
    """Weights in the Hub's layout, in 16 bits if asked for; the model then has the same ones."""
    model.to(getattr(torch, precision)).save_pretrained(folder)
    model.float()
    try:
        module = Stateless(GPT.from_pretrained(folder).eval())
    except ValueError as error:  # a weight beyond float16's largest number became infinite
        raise CheckpointError(f"{error} in {precision}; choose another --dtype") from None
    return lambda inputs: module(*inputs)


def write_adapter(source: Path, folder: Path) -> Step:
    """What LoRA trained, in PEFT's layout; read back, it is merged into its base."""
    adapter = source if is_adapter(source) else source / ADAPTER
    if not adapter.is_dir():
        raise CheckpointError(
            f"{source} has no adapter, its weights themselves were trained; give --format=hf, or "
            "train with --lora_rank=8"
        )
    for name in (ADAPTER_WEIGHTS, ADAPTER_CONFIG):
        shutil.copyfile(adapter / name, folder / name)
    module = Stateless(load_model(folder).model.eval())
    return lambda inputs: module(*inputs)


def write_torchscript(model: GPT, folder: Path) -> Step:
    """A traced module; PyTorch calls the format deprecated, and so does export.py."""
    with _quiet():
        traced = torch.jit.trace(  # type: ignore[no-untyped-call]
            Stateless(model), example_inputs(model), check_trace=False
        )
        torch.jit.save(traced, folder / TORCHSCRIPT)
        _forget_source_lines(folder / TORCHSCRIPT)
        found = torch.jit.load(folder / TORCHSCRIPT)  # type: ignore[no-untyped-call]
    return lambda inputs: found(*inputs)


def write_torch_export(model: GPT, folder: Path) -> Step:
    """An exported program for any number of rows, past and new tokens, one and none included."""
    from torch.export import Dim
    from torch.fx.experimental import _config as sizes

    most = model.config.block_size
    rows, new = Dim("rows", min=1), Dim("new", min=1, max=most)
    past, whole = Dim("past", min=0, max=most - 1), Dim("whole", min=1, max=most)
    layers = tuple({0: rows, 2: past} for _ in range(2 * model.config.n_layer))
    shapes = ({0: rows, 1: new}, {0: rows, 1: whole}, {0: rows, 1: new}, layers)
    # Without this the program holds guards that refuse a single new token.
    with _quiet(), sizes.patch(backed_size_oblivious=True):  # type: ignore[attr-defined]
        program = torch.export.export(
            Stateless(model), example_inputs(model), dynamic_shapes=shapes
        )
        for node in program.graph.nodes:
            node.meta.pop("stack_trace", None)  # it names files of this machine
        torch.export.save(program, folder / TORCH_EXPORT)
        found = torch.export.load(folder / TORCH_EXPORT).module()
    return lambda inputs: found(*inputs)


def write_onnx(model: GPT, folder: Path, *, facts: Mapping[str, str]) -> Step:
    """An ONNX graph with its weights beside it; `facts` go into its metadata."""
    onnx = import_onnx()
    with _quiet():
        program = torch.onnx.export(
            Stateless(model),
            example_inputs(model),
            dynamo=True,
            dynamic_shapes=_axes(model),
            verbose=False,
            input_names=input_names(model.config),
            output_names=output_names(model.config),
        )
    assert program is not None, "with dynamo=True there is a program"
    program.save(str(folder / ONNX), external_data=True)
    graph = onnx.load(str(folder / ONNX), load_external_data=False)
    _forget_where_it_was_made(graph)
    _name_axes(graph.graph)
    known = {**facts, "opset": str(graph.opset_import[0].version), "torch": torch.__version__}
    for key, value in sorted(known.items()):
        graph.metadata_props.add(key=key, value=value)
    (folder / ONNX).write_bytes(graph.SerializeToString(deterministic=True))
    onnx.checker.check_model(str(folder / ONNX))
    return onnx_step(folder / ONNX)


def write_onnx_int8(folder: Path) -> Step:
    """The same graph with weights of 8 bits; onnxruntime alone runs it."""
    onnx = import_onnx()
    graph = onnx.load(str(folder / ONNX), load_external_data=False)
    round_graph(graph, folder)
    (folder / ONNX_INT8).write_bytes(graph.SerializeToString(deterministic=True))
    return onnx_step(folder / ONNX_INT8)


def onnx_step(path: Path) -> Step:
    """A step by onnxruntime on the CPU."""
    session = open_session(path)
    names = [each.name for each in session.get_inputs()]

    def step(inputs: Inputs) -> list[torch.Tensor]:
        arrays = (tensor.numpy() for tensor in inputs)
        return [
            torch.from_numpy(x) for x in session.run(None, dict(zip(names, arrays, strict=True)))
        ]

    return step


def import_onnx() -> Any:
    """The package; ConfigError says how to get it and what goes with it."""
    try:
        import onnx
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ModuleNotFoundError as missing:
        raise ConfigError(
            f"the format needs the package {missing.name}; run: pip install -r "
            "requirements-export.txt"
        ) from None
    return onnx


def _axes(model: GPT) -> dict[str, Any]:
    """Optimum's names of what may change from call to call."""
    new = {0: "batch_size", 1: "sequence_length"}
    layer = {0: "batch_size", 2: "past_sequence_length"}
    return {
        "input_ids": new,
        "attention_mask": {0: "batch_size", 1: "total_sequence_length"},
        "position_ids": new,
        "past": tuple(layer for _ in range(2 * model.config.n_layer)),
    }


def _forget_source_lines(path: Path) -> None:
    """Write a TorchScript archive anew without the tables that name files of this machine.

    They only serve its error messages, which then point into the archive's own code.
    """
    whole = path.with_suffix(".whole")
    path.rename(whole)
    with zipfile.ZipFile(whole) as source, zipfile.ZipFile(path, "w") as kept:
        for entry in source.infolist():
            if not entry.filename.endswith(".debug_pkl"):
                kept.writestr(entry, source.read(entry))
    whole.unlink()


def _forget_where_it_was_made(graph: Any) -> None:
    """Drop the traces that name files of this machine: two exports are the same bytes."""
    parts = [graph.graph, *graph.functions]
    for part in parts:
        del part.metadata_props[:]
        for each in (*part.node, *part.value_info):
            del each.metadata_props[:]
            each.doc_string = ""
    for each in (*graph.graph.input, *graph.graph.output, *graph.graph.initializer):
        del each.metadata_props[:]
        each.doc_string = ""
    graph.doc_string = ""


def _name_axes(graph: Any) -> None:
    """One name for the length of past and new tokens together, wherever it stands."""
    for each in (*graph.input, *graph.output, *graph.value_info):
        for axis in each.type.tensor_type.shape.dim:
            if axis.dim_param in SAME_AS_WHOLE:
                axis.dim_param = WHOLE


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what exporters say of themselves; a failure still raises."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
