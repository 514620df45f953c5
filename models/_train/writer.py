"""nextchar and writer: a recurrent network over characters, served step by step.

Both share the trained weights. nextchar is stateful: it takes one character at
a time. writer is generative: it takes a beginning and feeds itself.
"""

import zlib

import jax
import jax.numpy as jnp
import numpy as np
from onnx import helper

import text
from common import Graph, adam, run, save, session, write_card, write_examples

# The line end stands for the end of a sentence; what is not ASCII is left out.
CHARACTERS = ["\n"] + [chr(code) for code in range(32, 127)]
EMBEDDING, HIDDEN, STEPS, BATCH, LENGTH = 32, 128, 1500, 64, 96


def corpus():
    """Sentences for training and for testing, as arrays of indices."""
    train, held = {}, {}
    for path in text.files(".py"):
        for _, doc in text.docstrings(path):
            for sentence in text.sentences(doc):
                if sentence.isascii() and sentence.isprintable():
                    (held if zlib.crc32(sentence.encode()) % 10 == 0 else train)[sentence] = None
    index = {c: i for i, c in enumerate(CHARACTERS)}
    return [[np.array([index[c] for c in s + "\n"], np.int32) for s in side] for side in (train, held)]


def init(rng):
    def normal(*shape):
        return (rng.standard_normal(shape) / np.sqrt(shape[0])).astype(np.float32)

    n = len(CHARACTERS)
    return {
        "embedding": normal(n, EMBEDDING) * np.float32(np.sqrt(n)),
        "w": normal(EMBEDDING, 3 * HIDDEN), "r": normal(HIDDEN, 3 * HIDDEN),
        "wb": np.zeros(3 * HIDDEN, np.float32), "rb": np.zeros(3 * HIDDEN, np.float32),
        "out": normal(HIDDEN, n), "bias": np.zeros(n, np.float32),
    }  # fmt: skip


def cell(p, h, x):
    """One step of ONNX's GRU with linear_before_reset: gates in the order z, r, h."""
    a, b = jnp.asarray(p["embedding"])[x] @ p["w"] + p["wb"], h @ p["r"] + p["rb"]
    az, ar, ah = jnp.split(a, 3, axis=-1)
    bz, br, bh = jnp.split(b, 3, axis=-1)
    z = jax.nn.sigmoid(az + bz)
    return (1 - z) * jnp.tanh(ah + jax.nn.sigmoid(ar + br) * bh) + z * h


def logits(p, x):
    """Of x [rows, steps]: [steps, rows, characters]."""

    def step(h, column):
        h = cell(p, h, column)
        return h, h @ p["out"] + p["bias"]

    return jax.lax.scan(step, jnp.zeros((x.shape[0], HIDDEN)), x.T)[1]


def loss(p, x, y, mask):
    taken = jnp.take_along_axis(jax.nn.log_softmax(logits(p, x)), y.T[:, :, None], axis=2)[:, :, 0]
    return -jnp.sum(taken * mask.T) / jnp.sum(mask)


def rows(sentences):
    """Every character but the last, and the one behind each."""
    x = np.zeros((len(sentences), LENGTH), np.int32)
    y, mask = np.zeros_like(x), np.zeros(x.shape, np.float32)
    for row, s in enumerate(sentences):
        s = s[: LENGTH + 1]
        x[row, : len(s) - 1], y[row, : len(s) - 1], mask[row, : len(s) - 1] = s[:-1], s[1:], 1
    return x, y, mask


def batches(sentences, rng):
    while True:
        yield rows([sentences[i] for i in rng.integers(0, len(sentences), BATCH)])


def recurrence(graph, p, characters, steps):
    """The graph from characters and a state to the state and logits behind the last one."""
    for name in ("embedding", "out", "bias"):
        graph.const(name, p[name])
    graph.const("w", p["w"].T[None])
    graph.const("r", p["r"].T[None])
    graph.const("b", np.concatenate([p["wb"], p["rb"]])[None])
    graph.const("first", np.array([0], np.int64))
    ids = graph.op(
        "LabelEncoder", characters, keys_strings=CHARACTERS, values_int64s=list(range(len(CHARACTERS))),
        default_int64=CHARACTERS.index("?"), domain="ai.onnx.ml",
    )  # fmt: skip
    x = graph.op("Transpose", graph.op("Gather", "embedding", ids), perm=[1, 0, 2])
    h = graph.op("Unsqueeze", graph.input("hidden", "FP32", ["batch", HIDDEN]), "first")
    last = graph.op("GRU", x, "w", "r", "b", "", h, out="all_states", extra_outputs=["last_state"], hidden_size=HIDDEN, linear_before_reset=1)
    assert last == "all_states" and steps
    graph.op("Squeeze", "last_state", "first", out=graph.output("hidden_out", "FP32", ["batch", HIDDEN]))
    return graph.op("Gemm", "hidden_out", "out", "bias")


def finish(graph, doc):
    model = graph.model(doc)
    model.opset_import.append(helper.make_opsetid("ai.onnx.ml", 3))
    return model


def nextchar(p):
    graph = Graph("nextchar")
    graph.const("characters", np.array(CHARACTERS, object))
    scores = recurrence(graph, p, graph.input("char", "BYTES", ["batch", 1]), 1)
    best = graph.op("ArgMax", scores, axis=1, keepdims=1)
    graph.op("Gather", "characters", best, out=graph.output("next", "BYTES", ["batch", 1]))
    graph.op("Softmax", scores, out=graph.output("probabilities", "FP32", ["batch", len(CHARACTERS)]), axis=1)
    return finish(graph, "The next character of an English sentence, one character at a time.")


# Of the generator of Numerical Recipes' "even quicker" kind: modulus 2^31.
MULTIPLIER, INCREMENT, MODULUS = 1103515245, 12345, 1 << 31


def writer(p):
    graph = Graph("writer")
    for name, value in {"multiplier": MULTIPLIER, "increment": INCREMENT, "modulus": MODULUS, "last": len(CHARACTERS) - 1}.items():
        graph.const(name, np.array([[value]], np.int64))
    graph.const("coldest", np.array([[0.05]], np.float32))
    graph.const("whole", np.array([[MODULUS]], np.float32))
    graph.const("axis", np.array(1, np.int64))
    graph.const("axes", np.array([1], np.int64))
    graph.const("characters", np.array(CHARACTERS, object))
    scores = recurrence(graph, p, graph.input("text", "BYTES", ["batch", "length"]), LENGTH)
    temperature = graph.op("Max", graph.input("temperature", "FP32", ["batch", 1]), "coldest")
    chances = graph.op("Softmax", graph.op("Div", scores, temperature), axis=1)
    # The seed is an input that an output feeds: answers can be had again.
    seed = graph.op("Mod", graph.input("seed", "INT64", ["batch", 1]), "modulus")
    seed = graph.op("Mod", graph.op("Add", graph.op("Mul", seed, "multiplier"), "increment"), "modulus", out=graph.output("seed_out", "INT64", ["batch", 1]))
    drawn = graph.op("Div", graph.op("Cast", seed, to=1), "whole")
    below = graph.op("Cast", graph.op("LessOrEqual", graph.op("CumSum", chances, "axis"), drawn), to=7)
    choice = graph.op("Min", graph.op("ReduceSum", below, "axes", keepdims=1), "last")
    graph.op("Gather", "characters", graph.op("Squeeze", choice, "axes"), out="flat")
    graph.op("Unsqueeze", "flat", "axes", out=graph.output("next", "BYTES", ["batch", 1]))
    return finish(graph, "Writes on from the beginning of an English sentence, a character with each step.")


def spelled(*texts):
    return np.array([list(t) for t in texts], object)


def write(sess, beginning, temperature, seed, steps=200):
    """What the server does with the step loop of config.yaml."""
    written, hidden = beginning, np.zeros((1, HIDDEN), np.float32)
    feed, seed = spelled(beginning), np.array([[seed]], np.int64)
    for _ in range(steps):
        got = run(sess, {"text": feed, "temperature": np.array([[temperature]], np.float32), "seed": seed, "hidden": hidden})
        feed, seed, hidden = got["next"], got["seed_out"], got["hidden_out"]
        if feed[0, 0] == "\n":
            break
        written += feed[0, 0]
    return written


def type_in(sess, sentence):
    """How many characters behind the first are guessed, one step each."""
    hidden, right, last = np.zeros((1, HIDDEN), np.float32), 0, sentence[0]
    for c in sentence[1:] + "\n":
        got = run(sess, {"char": spelled(last), "hidden": hidden})
        hidden, last = got["hidden_out"], c
        right += got["next"][0, 0] == c
    return right


def main():
    train, held = corpus()
    rng = np.random.default_rng(0)
    params = adam(loss, init(rng), batches(train, rng), rate=4e-3, steps=STEPS)
    x, y, mask = rows(held)
    bits = float(loss(params, x, y, mask)) / np.log(2)
    right = float((np.asarray(logits(params, x)).argmax(2).T == y)[mask > 0].mean())
    counts = np.bincount(y[mask > 0].astype(int), minlength=len(CHARACTERS))
    base = float(-(counts / counts.sum() * np.log2(np.maximum(counts, 1) / counts.sum())).sum())
    print(f"nextchar: held-out {bits:.2f} bits a character (frequencies alone {base:.2f}), {right:.3f} guessed")

    path = save(nextchar(params), "nextchar")
    sess = session(path)
    sentence = "".join(CHARACTERS[i] for i in held[0][:-1])[:LENGTH]
    x, y, _ = rows([np.array([CHARACTERS.index(c) for c in sentence + "\n"])])
    direct = np.asarray(logits(params, x)).argmax(2).T
    assert type_in(sess, sentence) == (direct == y)[0, : len(sentence)].sum(), "ONNX and JAX disagree"
    state = rng.standard_normal((3, HIDDEN)).astype(np.float32) / 2
    write_examples(path, {
        "the first character": {"char": spelled("T"), "hidden": np.zeros((1, HIDDEN), np.float32)},
        "three states": {"char": spelled("a", "\n", "é"), "hidden": state},
    })  # fmt: skip

    path = save(writer(params), "writer")
    sess = session(path)
    samples = [write(sess, "The ", 0.5, seed) for seed in (1, 2, 3)]
    print("\n".join(samples))
    write_examples(path, {
        "a beginning": {"text": spelled("The "), "temperature": np.array([[0.5]], np.float32), "seed": np.array([[1]], np.int64), "hidden": np.zeros((1, HIDDEN), np.float32)},
        "three steps": {"text": spelled("a", "b", "é"), "temperature": np.array([[1], [0.5], [0]], np.float32), "seed": np.array([[7], [-1], [1 << 40]], np.int64), "hidden": state},
    })  # fmt: skip
    shared = f"""
**Data and licence.** Sentences of the docstrings shipped inside scikit-learn
1.9.1 (BSD-3-Clause), in printable ASCII. One in ten is held out, by its
checksum: {len(train)} training and {len(held)} held-out sentences.

**Training.** One GRU of {HIDDEN} units over {EMBEDDING}-dimensional embeddings of {len(CHARACTERS)} characters,
{STEPS} steps of Adam on {BATCH} sentences of up to {LENGTH} characters. Script:
`models/_train/writer.py`, which makes `nextchar` and `writer` of the same weights.

**Metrics.** Held-out {bits:.2f} bits a character (their frequencies alone: {base:.2f});
the best guess is right for {right:.0%} of the characters.
"""
    write_card("nextchar", f"""
# nextchar

**Task.** Guess the next character of an English sentence while it is typed: a
stateful model, one character with each step of a sequence.
{shared}
**Input.** `char` BYTES `[-1, 1]`: one character, the first of a sentence first.
What is not printable ASCII counts as `?`.

**Outputs.** `next` BYTES `[-1, 1]`, the best guess; `probabilities` FP32
`[-1, {len(CHARACTERS)}]`, of the line end and the characters from space to `~`.

**State.** `hidden` to `hidden_out` FP32 `[-1, {HIDDEN}]`, zeros at first. The server
carries it, so clients see neither.

**Limits.** A small model of one project's documentation.
""")  # fmt: skip
    write_card("writer", f"""
# writer

**Task.** Write on from the beginning of a sentence: a generative model, a
character with each step, until the line end.
{shared}
**Inputs.** `text` BYTES `[-1, -1]`: the beginning, a character in each element;
`temperature` FP32 `[-1, 1]`: how bold, 0.05 at least; `seed` INT64 `[-1, 1]`: the
same seed writes the same.

**Outputs.** `next` BYTES `[-1, 1]`, which the next step takes as `text`; `seed_out`
INT64 `[-1, 1]`, which it takes as `seed`.

**State.** `hidden` to `hidden_out` FP32 `[-1, {HIDDEN}]`, zeros at first, carried by the
server.

**Samples.** At temperature 0.5 and seeds 1 to 3:

{chr(10).join("> " + s + chr(10) for s in samples)}
**Limits.** A small model of one project's documentation: it spells, it does not
think.
""")  # fmt: skip


if __name__ == "__main__":
    main()
