"""digits: a small convolutional network on 8x8 grey images."""

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from common import Graph, adam, run, save, session, write_card, write_examples

STEPS, BATCH = 800, 128


def init(rng):
    def he(*shape, fan_in):
        return (rng.standard_normal(shape) * np.sqrt(2 / fan_in)).astype(np.float32)

    return {
        "k1": he(16, 1, 3, 3, fan_in=9), "c1": np.zeros(16, np.float32),
        "k2": he(32, 16, 3, 3, fan_in=144), "c2": np.zeros(32, np.float32),
        "w": he(512, 10, fan_in=512), "b": np.zeros(10, np.float32),
    }  # fmt: skip


def forward(p, x):
    for k, c in (("k1", "c1"), ("k2", "c2")):
        x = jax.lax.conv_general_dilated(x, p[k], (1, 1), "SAME", dimension_numbers=("NCHW", "OIHW", "NCHW"))
        x = jax.nn.relu(x + p[c][None, :, None, None])
    x = jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 1, 2, 2), (1, 1, 2, 2), "VALID")
    return x.reshape(x.shape[0], -1) @ p["w"] + p["b"]


def loss(p, x, y):
    return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(forward(p, x)), y[:, None], axis=1))


def batches(x, y, rng):
    while True:
        order = rng.permutation(len(x))
        for at in range(0, len(x) - BATCH + 1, BATCH):
            pick = order[at : at + BATCH]
            yield x[pick], y[pick]


def to_onnx(p):
    graph = Graph("digits")
    x = graph.input("image", "FP32", ["batch", 1, 8, 8])
    # Training divides pixels by 16; zero padding lets the first kernel do it.
    p = p | {"k1": p["k1"] / np.float32(16)}
    for name, value in p.items():
        graph.const(name, value)
    for k, c in (("k1", "c1"), ("k2", "c2")):
        x = graph.op("Relu", graph.op("Conv", x, k, c, kernel_shape=[3, 3], pads=[1, 1, 1, 1]))
    x = graph.op("Flatten", graph.op("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2]), axis=1)
    out = graph.output("probabilities", "FP32", ["batch", 10])
    graph.op("Softmax", graph.op("Gemm", x, "w", "b"), out=out, axis=1)
    return graph.model("Handwritten digit in an 8x8 image of values 0 to 16.")


def main():
    x, y = load_digits(return_X_y=True)
    x = x.astype(np.float32).reshape(-1, 1, 8, 8)
    train_x, test_x, train_y, test_y = train_test_split(x, y, test_size=0.25, stratify=y, random_state=0)
    rng = np.random.default_rng(0)
    params = adam(loss, init(rng), batches(train_x / 16, train_y, rng), rate=2e-3, steps=STEPS)
    path = save(to_onnx(params), "digits")
    got = run(session(path), {"image": test_x})["probabilities"]
    np.testing.assert_allclose(got, jax.nn.softmax(forward(params, test_x / 16)), atol=1e-5)
    accuracy = np.mean(got.argmax(1) == test_y)
    print(f"digits: held-out {accuracy:.4f} of {len(test_y)}")

    first = [int(np.flatnonzero(test_y == digit)[0]) for digit in range(10)]
    write_examples(
        path,
        {
            "one held-out three": {"image": test_x[first[3:4]]},
            "each digit once, held-out": {"image": test_x[first]},
            "blank image": {"image": np.zeros((1, 1, 8, 8), np.float32)},
        },
    )
    write_card(
        "digits",
        f"""
# digits

**Task.** Recognise a handwritten digit in an 8x8 grey image.

**Data and licence.** The test part of the UCI "Optical Recognition of
Handwritten Digits" data, 1797 images, as shipped inside scikit-learn
(`load_digits`; CC BY 4.0). Split 75/25, stratified, seed 0: {len(train_y)} training
images, {len(test_y)} held-out images.

**Training.** Two 3x3 convolutions (16 and 32 filters, ReLU), 2x2 max pooling, a
dense layer: 9,930 parameters. {STEPS} Adam steps of {BATCH} images in JAX, peak
rate 0.002, cosine decay. The division of pixels by 16 is folded into the first
kernel. Script: `models/_train/digits.py`.

**Metrics.** Held-out accuracy {accuracy:.4f}.

**Input.** `image` FP32 `[-1, 1, 8, 8]`, values 0 (paper) to 16 (ink).

**Output.** `probabilities` FP32 `[-1, 10]`, digits 0 to 9 in order.

**Limits.** Centred digits of 13 writers at 8x8 pixels only; training and
held-out images share writers. Larger, shifted, rotated or inverted images
need preprocessing. A blank image still gets an answer.
""",
    )


if __name__ == "__main__":
    main()
