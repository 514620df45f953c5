"""Shared by the training scripts: graph building, saving, examples, cards."""

import base64
import ctypes
import hashlib
import json
import pathlib

import numpy as np
import onnx
import onnx.utils
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

MODELS = pathlib.Path(__file__).resolve().parents[1]

# Open Inference Protocol datatype -> (ONNX element type, numpy type).
# BF16 has no numpy type: its bits travel as uint16.
DATATYPES = {
    "BOOL": (TensorProto.BOOL, np.bool_),
    "UINT8": (TensorProto.UINT8, np.uint8),
    "UINT16": (TensorProto.UINT16, np.uint16),
    "UINT32": (TensorProto.UINT32, np.uint32),
    "UINT64": (TensorProto.UINT64, np.uint64),
    "INT8": (TensorProto.INT8, np.int8),
    "INT16": (TensorProto.INT16, np.int16),
    "INT32": (TensorProto.INT32, np.int32),
    "INT64": (TensorProto.INT64, np.int64),
    "FP16": (TensorProto.FLOAT16, np.float16),
    "BF16": (TensorProto.BFLOAT16, np.uint16),
    "FP32": (TensorProto.FLOAT, np.float32),
    "FP64": (TensorProto.DOUBLE, np.float64),
    "BYTES": (TensorProto.STRING, np.object_),
}
ORT_TYPES = {
    "tensor(bool)": "BOOL", "tensor(uint8)": "UINT8", "tensor(uint16)": "UINT16",
    "tensor(uint32)": "UINT32", "tensor(uint64)": "UINT64", "tensor(int8)": "INT8",
    "tensor(int16)": "INT16", "tensor(int32)": "INT32", "tensor(int64)": "INT64",
    "tensor(float16)": "FP16", "tensor(bfloat16)": "BF16", "tensor(float)": "FP32",
    "tensor(double)": "FP64", "tensor(string)": "BYTES",
}  # fmt: skip


class Graph:
    """A thin layer over onnx.helper that names intermediate tensors."""

    def __init__(self, name):
        self.name, self.nodes, self.consts = name, [], []
        self.inputs, self.outputs = [], []

    def input(self, name, datatype, shape):
        self.inputs.append(helper.make_tensor_value_info(name, DATATYPES[datatype][0], shape))
        return name

    def output(self, name, datatype, shape):
        self.outputs.append(helper.make_tensor_value_info(name, DATATYPES[datatype][0], shape))
        return name

    def const(self, name, value):
        self.consts.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def op(self, kind, *inputs, out=None, extra_outputs=(), **attributes):
        """Adds a node and returns the name of its (first) output."""
        name = f"{kind.lower()}_{len(self.nodes)}"
        outputs = [out or name, *extra_outputs]
        self.nodes.append(helper.make_node(kind, list(inputs), outputs, name=name, **attributes))
        return outputs[0]

    def model(self, doc, opset=17, ir_version=8):
        graph = helper.make_graph(self.nodes, self.name, self.inputs, self.outputs, self.consts, doc_string=doc)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], producer_name="sluice-models")
        model.ir_version = ir_version
        return model


def save(model, name, version=1, root=MODELS):
    onnx.checker.check_model(model, full_check=True)
    path = root / name / str(version) / "model.onnx"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(model.SerializeToString(deterministic=True))
    return path


def session(path_or_bytes):
    options = ort.SessionOptions()
    # One thread: the models are tiny, and sums are then added in one order.
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    model = path_or_bytes if isinstance(path_or_bytes, bytes) else str(path_or_bytes)
    sess = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    sess.source = path_or_bytes
    return sess


def bf16_value(array):
    return ort.OrtValue.ortvalue_from_numpy_with_onnx_type(np.ascontiguousarray(array), TensorProto.BFLOAT16)


def run(sess, feeds):
    """Runs {input: array} and returns {output: array}; BF16 is uint16 bits."""
    bf16 = "tensor(bfloat16)"
    feeds = {n.name: bf16_value(feeds[n.name]) if n.type == bf16 else feeds[n.name] for n in sess.get_inputs()}
    names = [node.name for node in sess.get_outputs() if node.type != bf16]
    results = dict(zip(names, sess.run(names, feeds)))
    for node in sess.get_outputs():
        if node.type != bf16:
            continue
        # onnxruntime's Python side gives strings only as numpy arrays and BF16
        # never as one. So the BF16 path of `identity` is cut out and run alone.
        x = node.name.replace("out_", "in_")
        part = onnx.utils.Extractor(onnx.load(sess.source)).extract_model([x], [node.name])
        (value,) = session(part.SerializeToString()).run_with_ort_values([node.name], {x: feeds[x]})
        raw = ctypes.string_at(value.data_ptr(), 2 * int(np.prod(value.shape())))
        results[node.name] = np.frombuffer(raw, np.uint16).reshape(value.shape())
    return {node.name: results[node.name] for node in sess.get_outputs()}


def to_bytes(datatype, array):
    """The protocol's binary tensor encoding."""
    if datatype != "BYTES":
        return np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<"), copy=False).tobytes()
    parts = [text.encode() for text in array.ravel()]
    return b"".join(len(part).to_bytes(4, "little") + part for part in parts)


def from_bytes(datatype, raw, shape):
    if datatype != "BYTES":
        dtype = np.dtype(DATATYPES[datatype][1]).newbyteorder("<")
        return np.frombuffer(raw, dtype).reshape(shape).astype(dtype.newbyteorder("="))
    texts, at = [], 0
    while at < len(raw):
        size = int.from_bytes(raw[at : at + 4], "little")
        texts.append(raw[at + 4 : at + 4 + size].decode())
        at += 4 + size
    return np.array(texts, object).reshape(shape)


def encode(name, datatype, array, binary=False):
    tensor = {"name": name, "shape": list(array.shape), "datatype": datatype}
    if binary:
        tensor["data_base64"] = base64.b64encode(to_bytes(datatype, array)).decode()
    elif datatype == "FP32":
        # The shortest decimal that reads back as the same float32.
        tensor["data"] = [float(str(value)) for value in array.ravel()]
    else:
        tensor["data"] = array.ravel().tolist()
    return tensor


def decode(tensor):
    if "data_base64" in tensor:
        return from_bytes(tensor["datatype"], base64.b64decode(tensor["data_base64"]), tensor["shape"])
    return np.array(tensor["data"], DATATYPES[tensor["datatype"]][1]).reshape(tensor["shape"])


def write_examples(path, cases, tolerance=1e-5, binary=False):
    """Answers {case name: {input: array}} with the saved model `path` and
    writes examples.json beside its version directory."""
    sess, written = session(path), []
    for name, feeds in cases.items():
        answers = run(sess, feeds)
        case = {"name": name}
        if binary:
            case["binary"] = True
        case["request"] = {
            "inputs": [encode(node.name, ORT_TYPES[node.type], feeds[node.name], binary) for node in sess.get_inputs()]
        }
        case["response"] = {
            "outputs": [
                encode(node.name, ORT_TYPES[node.type], answers[node.name], binary) for node in sess.get_outputs()
            ]
        }
        case["tolerance"] = tolerance
        written.append(json.dumps(case, ensure_ascii=False))
    # One case a line: readable in a diff, and long tensors do not sprawl.
    body = '{"cases": [\n' + ",\n".join(written) + "\n]}\n"
    (path.parents[1] / "examples.json").write_text(body)


def write_card(name, text, root=MODELS):
    (root / name / "README.md").write_text(text.strip() + "\n")


def write_checksums(root=MODELS):
    lines = []
    for path in sorted(root.glob("[!_.]*/*/model.onnx")):
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        lines.append(f"{digest}  {path.relative_to(root).as_posix()}\n")
    (root / "SHA256SUMS").write_text("".join(lines))


def adam(loss, params, batches, rate, steps):
    """Minimises loss(params, *batch) with Adam and a cosine-decayed rate."""
    import jax
    import jax.numpy as jnp

    zeros = jax.tree.map(jnp.zeros_like, params)

    @jax.jit
    def step(i, params, mean, square, batch):
        value, grad = jax.value_and_grad(loss)(params, *batch)
        mean = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, mean, grad)
        square = jax.tree.map(lambda s, g: 0.999 * s + 0.001 * g * g, square, grad)
        warmup = jnp.minimum(1.0, (i + 1) / 50)
        now = rate * warmup * 0.5 * (1 + jnp.cos(jnp.pi * i / steps))

        def update(p, m, s):
            return p - now * (m / (1 - 0.9 ** (i + 1))) / (jnp.sqrt(s / (1 - 0.999 ** (i + 1))) + 1e-8)

        return value, jax.tree.map(update, params, mean, square), mean, square

    mean, square = zeros, zeros
    for i, batch in zip(range(steps), batches):
        value, params, mean, square = step(jnp.float32(i), params, mean, square, batch)
        if i % 100 == 99:
            print(f"  step {i + 1}/{steps} loss {float(value):.4f}", flush=True)
    return jax.tree.map(np.asarray, params)
