"""encoder: a byte-level transformer that tells what kind of text a snippet is."""

import re
import zlib

import jax
import jax.numpy as jnp
import numpy as np

import text
import transformer
from common import Graph, adam, run, save, session, write_card, write_examples

LABELS = ["english", "python", "cython", "c++", "css", "csv"]
LAYERS, HEADS, HIDDEN, FEED_FORWARD, LONGEST = 2, 4, 128, 256, 64
STEPS, BATCH = 700, 64


def lines_of(label):
    """Yields the useful lines of each file, markup for another label removed."""
    if label == "english":
        for path in text.files(".py"):
            yield [s for _, doc in text.docstrings(path) for s in text.sentences(doc)]
        return
    suffixes = {"python": [".py"], "cython": [".pyx", ".pxd"], "c++": [".cpp", ".c", ".h"]}
    for suffix in suffixes.get(label, [f".{label}"]):
        for path in text.files(suffix):
            source = path.read_text()
            if label in ("python", "cython"):  # comments and docstrings are English
                source = re.sub(r'"""[\s\S]*?"""|#.*', "", source)
            if label in ("c++", "css"):
                source = re.sub(r"/\*[\s\S]*?\*/|//.*", "", source)
            yield [line.strip() for line in source.splitlines() if len(line.strip()) > 3]


def corpus():
    """{label: (training snippets, held-out snippets)}, each up to 64 bytes."""
    found = {}
    for label in LABELS:
        train, held = {}, {}
        for lines in lines_of(label):
            # Runs of 20 lines go to one side as a whole, so that neighbouring
            # (overlapping) snippets do not end up on both.
            for at in range(0, len(lines), 20):
                block = lines[at : at + 20]
                side = held if zlib.crc32("\n".join(block).encode()) % 5 == 0 else train
                for i in range(len(block)):
                    snippet = "\n".join(block[i : i + 3]).encode()[:LONGEST]
                    if len(snippet) >= 16:
                        side[snippet] = None
        found[label] = (list(train), [snippet for snippet in held if snippet not in train])
    return found


def tokens(snippets, length=LONGEST):
    """UTF-8 bytes as ids, 0 as padding; and the mask."""
    ids = np.zeros((len(snippets), length), np.int64)
    for row, snippet in enumerate(snippets):
        ids[row, : len(snippet)] = list(snippet)
    return ids, (ids > 0).astype(np.int64)


def batches(snippets, rng):
    """Equally many of each label, cut to random lengths of 16 to 64 bytes."""
    while True:
        labels = rng.integers(0, len(LABELS), BATCH)
        lengths = rng.integers(16, LONGEST + 1, BATCH)
        picked = [
            snippets[label][rng.integers(len(snippets[label]))][:length] for label, length in zip(labels, lengths)
        ]
        ids, mask = tokens(picked)
        yield ids.astype(np.int32), mask.astype(np.float32), labels.astype(np.int32)


def init(rng):
    def normal(*shape, scale):
        return (rng.standard_normal(shape) * scale).astype(np.float32)

    return {
        "bytes": normal(256, HIDDEN, scale=0.5),
        "positions": normal(LONGEST, HIDDEN, scale=0.1),
        "head.w": normal(HIDDEN, len(LABELS), scale=0.05),
        "head.b": np.zeros(len(LABELS), np.float32),
        "layers": transformer.init_layers(rng, LAYERS, HIDDEN, FEED_FORWARD),
    }


def forward(p, ids, mask):
    x = p["bytes"][ids] + p["positions"][: ids.shape[1]]
    x = transformer.forward(p["layers"], x, mask, LAYERS, HEADS)
    embedding = (x * mask[..., None]).sum(1) / jnp.maximum(mask.sum(1, keepdims=True), 1)
    return embedding @ p["head.w"] + p["head.b"], embedding


def loss(p, ids, mask, labels):
    logits = jax.nn.log_softmax(forward(p, ids, mask)[0])
    return -jnp.mean(jnp.take_along_axis(logits, labels[:, None], axis=1))


def to_onnx(p):
    graph = Graph("encoder")
    ids = graph.input("input_ids", "INT64", ["batch", "sequence"])
    mask = graph.input("attention_mask", "INT64", ["batch", "sequence"])
    for name in ("bytes", "positions", "head.w", "head.b"):
        graph.const(name, p[name])
    for name, value in [("zero", [0]), ("one", [1]), ("two", [2]), ("axes12", [1, 2])]:
        graph.const(name, np.array(value, np.int64))
    graph.const("lowest_id", np.int64(0))
    graph.const("highest_id", np.int64(255))
    graph.const("one_f", np.float32(1))
    graph.const("huge", np.float32(1e9))

    # Clipped, so that a bad id in one row cannot fail the whole batch.
    x = graph.op("Gather", "bytes", graph.op("Clip", ids, "lowest_id", "highest_id"), axis=0)
    # The first `sequence` positions. A sequence over 64 fails at the Add.
    length = graph.op("Slice", graph.op("Shape", ids), "one", "two")
    x = graph.op("Add", x, graph.op("Slice", "positions", "zero", length, "zero"))

    # Any non-zero mask value means "a real token".
    seen = graph.op("Cast", graph.op("Cast", mask, to=9), to=1)
    bias = graph.op("Mul", graph.op("Sub", seen, "one_f"), "huge")
    bias = graph.op("Unsqueeze", bias, "axes12")
    x = transformer.add_layers(graph, p["layers"], x, bias, LAYERS, HEADS)

    # Mean over the real tokens; a row without any gets zeros, not NaN.
    total = graph.op("ReduceSum", graph.op("Mul", x, graph.op("Unsqueeze", seen, "two")), "one", keepdims=0)
    count = graph.op("Max", graph.op("ReduceSum", seen, "one", keepdims=1), "one_f")
    logits = graph.output("logits", "FP32", ["batch", len(LABELS)])
    embedding = graph.op("Div", total, count, out=graph.output("embedding", "FP32", ["batch", HIDDEN]))
    graph.op("Gemm", embedding, "head.w", "head.b", out=logits)
    return graph.model("Kind of text in up to 64 UTF-8 bytes.")


def main():
    found = corpus()
    rng = np.random.default_rng(0)
    for label, (train, held) in found.items():
        print(f"  {label}: {len(train)} training, {len(held)} held-out snippets")
    params = adam(loss, init(rng), batches([found[label][0] for label in LABELS], rng), rate=1e-3, steps=STEPS)
    path = save(to_onnx(params), "encoder")

    # Held out: up to 300 of each label, whole and cut to 24 bytes.
    sess = session(path)
    sample, truth = [], []
    for i, label in enumerate(LABELS):
        held = found[label][1]
        chosen = [held[j] for j in rng.permutation(len(held))[:300]]
        sample += chosen
        truth += [i] * len(chosen)
    truth = np.array(truth)

    def answer(snippets, length=LONGEST):
        ids, mask = tokens(snippets, length)
        return run(sess, {"input_ids": ids, "attention_mask": mask})

    full = answer(sample)
    ids, mask = tokens(sample[:64])
    expected = forward(params, ids, mask.astype(np.float32))
    np.testing.assert_allclose(full["logits"][:64], expected[0], atol=1e-3)
    np.testing.assert_allclose(full["embedding"][:64], expected[1], atol=1e-3)
    right = full["logits"].argmax(1) == truth
    recall = [right[truth == i].mean() for i in range(len(LABELS))]
    short = answer([s[:24] for s in sample])["logits"].argmax(1) == truth
    # Padding must not matter: the 24-byte cut, without any padding.
    apart = np.abs(
        answer([s[:16] for s in sample], 16)["logits"] - answer([s[:16] for s in sample])["logits"]
    ).max()
    assert apart < 1e-4, apart
    print(
        f"encoder: held-out {np.mean(recall):.4f} (mean recall), {short.mean():.4f} at 24 bytes, "
        f"padding changes logits by {apart:.1e}"
    )

    def feeds(*snippets, length):
        ids, mask = tokens([s.encode() for s in snippets], length)
        return {"input_ids": ids, "attention_mask": mask}

    write_examples(
        path,
        {
            "one snippet, no padding": feeds("for i in range(10):", length=19),
            "three snippets, padded": feeds(
                "The quick brown fox jumps over it.", "static void swap(int *a, int *b) {", "margin: 0; color: #fff;",
                length=40,
            ),
            "longest sequence": feeds("cdef double[:, ::1] rows = np.zeros((n, m), dtype=np.float64)", length=64),
            "nothing but padding": feeds("", length=8),
        },
        tolerance=1e-4,
    )  # fmt: skip
    table = "\n".join(
        f"| {name} | {len(found[name][0])} | {len(found[name][1])} | {recall[i]:.3f} |" for i, name in enumerate(LABELS)
    )
    write_card(
        "encoder",
        f"""
# encoder

**Task.** Tell what kind of text a snippet of up to 64 bytes is: English prose,
Python, Cython, C++ (or C), CSS or CSV. Also gives an embedding of the snippet.

**Data and licence.** Files shipped inside scikit-learn 1.9.1 (BSD-3-Clause;
bundled third-party packages left out): docstring sentences, Python, Cython and
C/C++ sources without their comments, style sheets, data tables. Snippets are
one to three lines. Runs of 20 lines are held out as a whole, one in five;
snippets that also occur in training are dropped from the held-out side.

**Training.** Pre-norm transformer encoder: {LAYERS} layers, hidden {HIDDEN}, {HEADS} heads,
feed-forward {FEED_FORWARD} (ReLU), learned positions, masked mean pooling, linear head.
{STEPS} Adam steps of {BATCH} snippets in JAX, equally many of each label, cut to
random lengths of 16 to 64 bytes; peak rate 0.001, warm-up and cosine decay.
Script: `models/_train/encoder.py`.

**Metrics.** Mean held-out recall over labels {np.mean(recall):.3f}; accuracy on the same
snippets cut to 24 bytes {short.mean():.3f}. By label (at most 300 held-out snippets scored):

| label | training snippets | held-out snippets | held-out recall |
|---|---|---|---|
{table}

**Inputs.** `input_ids` INT64 `[-1, -1]`: UTF-8 bytes, 0 to 255 (others are
clipped), padded with 0. `attention_mask` INT64 `[-1, -1]`: 1 for a byte, 0 for
padding. At most 64 tokens; more is refused by the graph. Padding does not change
an answer (measured: {apart:.0e}).

**Outputs.** `logits` FP32 `[-1, {len(LABELS)}]` in the order of the table; `embedding` FP32
`[-1, {HIDDEN}]`, the mean over real tokens.

**Limits.** Learnt from one code base, so its style (names, line lengths) is
part of what was learnt. A line of plain Python inside a Cython file counts as
Cython, which bounds the recall of both. Other languages get one of the labels.
An all-padding row gets the head's bias.
""",
    )


if __name__ == "__main__":
    main()
