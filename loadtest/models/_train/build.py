"""Builds the benchmark models: python loadtest/models/_train/build.py

Seeded random weights: only their shape, and so their cost, matters.
"""

import pathlib
import sys

sys.dont_write_bytecode = True
ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT.parents[1] / "models" / "_train"))

import numpy as np  # noqa: E402

import common  # noqa: E402
import transformer  # noqa: E402


def normal(rng, *shape, fan_in):
    return (rng.standard_normal(shape) * np.sqrt(2 / fan_in)).astype(np.float32)


def dense(graph, rng, x, rows, columns, name):
    graph.const(f"{name}.w", normal(rng, rows, columns, fan_in=rows))
    graph.const(f"{name}.b", normal(rng, columns, fan_in=columns))
    return graph.op("Gemm", x, f"{name}.w", f"{name}.b")


def mlp(name, sizes):
    rng = np.random.default_rng(1)
    graph = common.Graph(name)
    x = graph.input("input", "FP32", ["batch", sizes[0]])
    for i, (rows, columns) in enumerate(zip(sizes, sizes[1:])):
        if i:
            x = graph.op("Relu", x)
        x = dense(graph, rng, x, rows, columns, f"dense{i}")
    graph.op("Softmax", x, out=graph.output("output", "FP32", ["batch", sizes[-1]]), axis=1)
    return graph.model(f"Benchmark: multilayer perceptron {'-'.join(map(str, sizes))}, random weights.")


def small_cnn():
    rng = np.random.default_rng(2)
    graph = common.Graph("small_cnn")
    x = graph.input("input", "FP32", ["batch", 1, 28, 28])
    for i, (channels, filters) in enumerate([(1, 8), (8, 16)]):
        graph.const(f"conv{i}.w", normal(rng, filters, channels, 3, 3, fan_in=9 * channels))
        graph.const(f"conv{i}.b", normal(rng, filters, fan_in=filters))
        x = graph.op("Conv", x, f"conv{i}.w", f"conv{i}.b", kernel_shape=[3, 3], pads=[1, 1, 1, 1])
        x = graph.op("MaxPool", graph.op("Relu", x), kernel_shape=[2, 2], strides=[2, 2])
    x = dense(graph, rng, graph.op("Flatten", x, axis=1), 16 * 7 * 7, 10, "dense")
    graph.op("Softmax", x, out=graph.output("output", "FP32", ["batch", 10]), axis=1)
    return graph.model("Benchmark: small convolutional network, random weights.")


def encoder():
    rng = np.random.default_rng(3)
    graph = common.Graph("transformer")
    x = graph.input("input", "FP32", ["batch", 64, 128])
    params = transformer.init_layers(rng, layers=2, hidden=128, feed_forward=512)
    x = transformer.add_layers(graph, params, x, None, layers=2, heads=4)
    graph.op("ReduceMean", x, out=graph.output("output", "FP32", ["batch", 128]), axes=[1], keepdims=0)
    return graph.model("Benchmark: two-layer transformer encoder, mean pooled, random weights.")


def main():
    models = {
        "tiny_mlp": mlp("tiny_mlp", [4, 16, 3]),
        "mid_mlp": mlp("mid_mlp", [784, 512, 256, 10]),
        "small_cnn": small_cnn(),
        "transformer": encoder(),
    }
    rng = np.random.default_rng(4)
    for name, model in models.items():
        path = common.save(model, name, root=ROOT)
        shape = [d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim][1:]
        # One decimal keeps examples.json small.
        cases = {
            f"{rows} rows": {"input": rng.uniform(0, 1, (rows, *shape)).round(1).astype(np.float32)}
            for rows in ((1,) if name == "transformer" else (1, 3))
        }
        common.write_examples(path, cases, tolerance=1e-4)
        text = model.graph.doc_string
        common.write_card(
            name,
            f"""
# {name}

{text}
For load tests only: the answers mean nothing. Built by
`loadtest/models/_train/build.py`.

**Input.** `input` FP32 `{[-1, *shape]}`.

**Output.** `output` FP32 `[-1, {model.graph.output[0].type.tensor_type.shape.dim[1].dim_value}]`.

**Cost.** {sum(int(np.prod(t.dims)) for t in model.graph.initializer if t.data_type == 1):,} parameters.
""",
            root=ROOT,
        )
        print(f"{name}: {path.stat().st_size} bytes")
    common.write_checksums(ROOT)


if __name__ == "__main__":
    main()
