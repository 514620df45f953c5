"""A pre-norm transformer encoder, as a JAX function and as ONNX nodes.

Parameters are a flat dict; layer i has names starting with "l{i}.".
"""

import numpy as np


def init_layers(rng, layers, hidden, feed_forward):
    def dense(rows, columns):
        return (rng.standard_normal((rows, columns)) / np.sqrt(rows)).astype(np.float32)

    params = {"norm.g": np.ones(hidden, np.float32), "norm.b": np.zeros(hidden, np.float32)}
    for i in range(layers):
        for name, rows, columns in [
            ("q", hidden, hidden), ("k", hidden, hidden), ("v", hidden, hidden), ("o", hidden, hidden),
            ("up", hidden, feed_forward), ("down", feed_forward, hidden),
        ]:  # fmt: skip
            params[f"l{i}.{name}.w"] = dense(rows, columns)
            params[f"l{i}.{name}.b"] = np.zeros(columns, np.float32)
        for name in ("norm1", "norm2"):
            params[f"l{i}.{name}.g"] = np.ones(hidden, np.float32)
            params[f"l{i}.{name}.b"] = np.zeros(hidden, np.float32)
    return params


def forward(p, x, mask, layers, heads):
    """x [batch, seq, hidden], mask [batch, seq] of 0 and 1 -> same as x."""
    import jax
    import jax.numpy as jnp

    batch, seq, hidden = x.shape

    def norm(x, name):
        x = x - x.mean(-1, keepdims=True)
        return x / jnp.sqrt((x * x).mean(-1, keepdims=True) + 1e-5) * p[f"{name}.g"] + p[f"{name}.b"]

    def dense(x, name):
        return x @ p[f"{name}.w"] + p[f"{name}.b"]

    bias = (mask[:, None, None, :] - 1) * 1e9
    for i in range(layers):
        y = norm(x, f"l{i}.norm1")
        q, k, v = (
            dense(y, f"l{i}.{n}").reshape(batch, seq, heads, -1).transpose(0, 2, 1, 3) for n in ("q", "k", "v")
        )
        weights = jax.nn.softmax(q @ k.transpose(0, 1, 3, 2) / np.sqrt(hidden // heads) + bias)
        y = (weights @ v).transpose(0, 2, 1, 3).reshape(batch, seq, hidden)
        x = x + dense(y, f"l{i}.o")
        x = x + dense(jax.nn.relu(dense(norm(x, f"l{i}.norm2"), f"l{i}.up")), f"l{i}.down")
    return norm(x, "norm")


def add_layers(graph, params, x, bias, layers, heads):
    """The same as ONNX nodes. `bias` [batch, 1, 1, seq] is 0 where a token may
    be attended to and hugely negative elsewhere; None attends everywhere."""
    hidden = params["norm.g"].shape[0]
    size = hidden // heads
    graph.const("split_heads", np.array([0, 0, heads, size], np.int64))  # 0 keeps a dimension
    graph.const("join_heads", np.array([0, 0, hidden], np.int64))
    for name, value in params.items():
        # 1/sqrt(size) of the attention is folded into the query projection.
        scale = np.float32(1 / np.sqrt(size)) if ".q." in name else np.float32(1)
        graph.const(name, value * scale)

    def norm(x, name):
        return graph.op("LayerNormalization", x, f"{name}.g", f"{name}.b", axis=-1, epsilon=1e-5)

    def dense(x, name):
        return graph.op("Add", graph.op("MatMul", x, f"{name}.w"), f"{name}.b")

    def split(x, perm):
        return graph.op("Transpose", graph.op("Reshape", x, "split_heads"), perm=perm)

    for i in range(layers):
        y = norm(x, f"l{i}.norm1")
        q = split(dense(y, f"l{i}.q"), [0, 2, 1, 3])
        k = split(dense(y, f"l{i}.k"), [0, 2, 3, 1])
        v = split(dense(y, f"l{i}.v"), [0, 2, 1, 3])
        scores = graph.op("MatMul", q, k)
        if bias is not None:
            scores = graph.op("Add", scores, bias)
        y = graph.op("MatMul", graph.op("Softmax", scores, axis=-1), v)
        y = graph.op("Reshape", graph.op("Transpose", y, perm=[0, 2, 1, 3]), "join_heads")
        x = graph.op("Add", x, dense(y, f"l{i}.o"))
        y = graph.op("Relu", dense(norm(x, f"l{i}.norm2"), f"l{i}.up"))
        x = graph.op("Add", x, dense(y, f"l{i}.down"))
    return norm(x, "norm")
