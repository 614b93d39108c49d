"""Kokoro's graph without the one operation that runtimes other than its exporter's do not know.

    kokoro.py GRAPH.ONNX OUT.ONNX

FusedMatMul is a product whose first factor is turned around before: here both stand for themselves. Weights stay as they are.
"""

import sys

import onnx
from onnx import helper

source, out = sys.argv[1:]
model = onnx.load(source)
graph = model.graph
for node in list(graph.node):
    if node.op_type != "FusedMatMul":
        continue
    set_to = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    if set_to != {"alpha": 1.0, "transA": 1, "transB": 0, "transBatchA": 0, "transBatchB": 0}:
        sys.exit(f"{node.name} is fused in another way: {set_to}")
    at = list(graph.node).index(node)
    graph.node.remove(node)
    turned = node.name + "/turned"
    graph.node.insert(at, helper.make_node("Transpose", [node.input[0]], [turned], perm=[0, 2, 1]))
    graph.node.insert(at + 1, helper.make_node("MatMul", [turned, node.input[1]], list(node.output), name=node.name))
onnx.save(model, out)
