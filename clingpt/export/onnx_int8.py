"""Quantise the matrix products of an ONNX graph to 8-bit weights, for onnxruntime's MatMulNBits.

Each row of a weight is divided into blocks with one scale each. Activations are rounded in blocks
as well, at each call, so a row of a batch does not depend on the other rows. The embedding, which
is also the head, is stored once. onnxruntime's dynamic quantisation does neither: it uses one range
for the whole batch, and leaves the head in fp32 because a Transpose node hides its weight.

Shape suffixes: O outputs (for the embedding: tokens), C channels.
"""

import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from clingpt.base.errors import ConfigError

DOMAIN = "com.microsoft"  # the domain of onnxruntime's own operators
BLOCK, MIN_BLOCK = 128, 16  # channels per scale; MatMulNBits supports no fewer than 16
LEVELS = 127  # on either side of zero, which is stored as 128
ROUND_ACTIVATIONS = 4  # the accuracy_level; lower ones unpack the weights at each call
WHOLE_ROWS = "whole_rows"  # name of the embedding's shape (O, C) for token look-up

Floats = NDArray[np.float32]
Node = Any  # onnx.NodeProto


class Weight(NamedTuple):
    """A product's weight: an onnx.TensorProto, and whether a node transposes it from (O, C)."""

    stored: Any
    is_transposed: bool

    @property
    def shape(self) -> tuple[int, int]:
        """The shape (O, C)."""
        first, second = self.stored.dims
        return (first, second) if self.is_transposed else (second, first)

    @property
    def rounded_name(self) -> str:
        return f"{self.stored.name}_int8"

    @property
    def scale_name(self) -> str:
        return f"{self.stored.name}_scale"


def round_graph(model: Any, folder: Path) -> None:
    """Replace the weights of an onnx.ModelProto, stored in a file in `folder`, with 8-bit ones."""
    from onnx import external_data_helper, helper, numpy_helper

    graph = model.graph
    found = find_weights(graph)
    embeddings = {each.stored.name: each for each in found.values() if each.is_transposed}
    nodes: list[Node] = []
    for node in graph.node:
        if node.op_type == "MatMul" and node.input[1] in found:
            nodes.append(product(node, found[node.input[1]]))
        elif node.op_type == "Gather" and node.input[0] in embeddings:
            nodes += look_up(node, embeddings[node.input[0]])
        elif node.output[0] not in found:
            nodes.append(node)
    gone = {*found, *embeddings}
    kept = [each for each in graph.initializer if each.name not in gone]
    kept.append(numpy_helper.from_array(np.array([0, -1]), WHOLE_ROWS))
    for each in found.values():
        weight = numpy_helper.to_array(each.stored, str(folder))
        rounded, scale = round_rows(weight if each.is_transposed else weight.T)
        kept.append(numpy_helper.from_array(rounded, each.rounded_name))
        kept.append(numpy_helper.from_array(scale, each.scale_name))
    known = [each for each in graph.value_info if each.name not in gone]
    fields = ((graph.node, nodes), (graph.initializer, kept), (graph.value_info, known))
    for field, values in fields:
        del field[:]
        field.extend(values)
    model.opset_import.append(helper.make_opsetid(DOMAIN, 1))
    external_data_helper.load_external_data_for_model(model, str(folder))


def find_weights(graph: Any) -> dict[str, Weight]:
    """Return the weights that are multiplied by, keyed by the name of the product's input."""
    stored, found = {each.name: each for each in graph.initializer}, {}
    for node in graph.node:
        if node.op_type == "Transpose" and node.input[0] in stored:
            found[node.output[0]] = Weight(stored[node.input[0]], is_transposed=True)
        elif node.op_type == "MatMul" and node.input[1] in stored:
            found[node.input[1]] = Weight(stored[node.input[1]], is_transposed=False)
    return found


def product(node: Node, weight: Weight) -> Node:
    """Return the MatMulNBits node that replaces a MatMul."""
    from onnx import helper

    n_rows, n_channels = weight.shape
    return helper.make_node(
        "MatMulNBits",
        [node.input[0], weight.rounded_name, weight.scale_name],
        node.output,
        domain=DOMAIN,
        N=n_rows,
        K=n_channels,
        bits=8,
        block_size=block_size(n_channels),
        accuracy_level=ROUND_ACTIVATIONS,
    )


def look_up(node: Node, weight: Weight) -> list[Node]:
    """Return the nodes that replace a Gather from the fp32 embedding."""
    from onnx import helper

    rows = f"{weight.rounded_name}_rows"
    return [
        helper.make_node("Reshape", [weight.rounded_name, WHOLE_ROWS], [rows]),
        helper.make_node(
            "GatherBlockQuantized",
            [rows, node.input[1], weight.scale_name],
            node.output,
            domain=DOMAIN,
            gather_axis=0,
            quantize_axis=1,
            bits=8,
            block_size=block_size(weight.shape[1]),
        ),
    ]


def round_rows(weight_OC: Floats) -> tuple[NDArray[np.uint8], Floats]:
    """Round weights to the nearest 8-bit values (O, blocks, block), with scales (O, blocks)."""
    n_rows, n_channels = weight_OC.shape
    blocks = weight_OC.reshape(n_rows, -1, block_size(n_channels))
    scale = np.abs(blocks).max(-1, keepdims=True) / np.float32(LEVELS)
    scale[scale == 0] = 1
    return (np.rint(blocks / scale) + (LEVELS + 1)).astype(np.uint8), scale[..., 0]


def block_size(n_channels: int) -> int:
    """Return the largest supported block size that divides the number of channels."""
    size = math.gcd(n_channels, BLOCK)
    if size < MIN_BLOCK:
        raise ConfigError(
            f"8-bit weights need a multiple of {MIN_BLOCK} channels, and a layer has "
            f"{n_channels}; add --int8=False"
        )
    return size
