"""iris: a 4-16-3 multilayer perceptron, in two versions."""

import warnings

import numpy as np
from sklearn.datasets import load_iris
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import RepeatedStratifiedKFold, cross_val_score, train_test_split
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from common import Graph, run, save, session, write_card, write_examples

# Version 1 is stopped early on purpose: a plausible first release, so that
# moving traffic to version 2 changes something one can measure.
SETTINGS = {
    1: dict(solver="adam", learning_rate_init=0.01, max_iter=60, n_iter_no_change=1000),
    2: dict(solver="lbfgs", alpha=1.0, max_iter=2000),
}


def pipeline(version):
    return make_pipeline(StandardScaler(), MLPClassifier(hidden_layer_sizes=(16,), random_state=7, **SETTINGS[version]))


def to_onnx(fitted, version):
    scaler, mlp = fitted[0], fitted[1]
    # (x - mean) / scale is folded into the first layer, in double precision,
    # so that the graph stays exactly a 4-16-3 network on raw centimetres.
    w1 = mlp.coefs_[0] / scaler.scale_[:, None]
    b1 = mlp.intercepts_[0] - scaler.mean_ @ w1
    graph = Graph(f"iris_v{version}")
    x = graph.input("input", "FP32", ["batch", 4])
    for name, value in [("w1", w1), ("b1", b1), ("w2", mlp.coefs_[1]), ("b2", mlp.intercepts_[1])]:
        graph.const(name, value.astype(np.float32))
    hidden = graph.op("Relu", graph.op("Gemm", x, "w1", "b1"))
    logits = graph.op("Gemm", hidden, "w2", "b2")
    graph.op("Softmax", logits, out=graph.output("probabilities", "FP32", ["batch", 3]), axis=1)
    graph.op("ArgMax", logits, out=graph.output("label", "INT64", ["batch"]), axis=1, keepdims=0)
    return graph.model("Iris species from four measurements in centimetres.")


def main():
    warnings.simplefilter("ignore", ConvergenceWarning)  # version 1, see SETTINGS
    x, y = load_iris(return_X_y=True)
    x = x.astype(np.float32)
    train_x, test_x, train_y, test_y = train_test_split(x, y, test_size=0.3, stratify=y, random_state=0)
    held_out, crossed = {}, {}
    for version in SETTINGS:
        folds = RepeatedStratifiedKFold(n_splits=5, n_repeats=4, random_state=1)
        crossed[version] = cross_val_score(pipeline(version), x, y, cv=folds).mean()
        fitted = pipeline(version).fit(train_x, train_y)
        path = save(to_onnx(fitted, version), "iris", version)
        got = run(session(path), {"input": test_x})
        np.testing.assert_allclose(got["probabilities"], fitted.predict_proba(test_x), atol=1e-5)
        held_out[version] = np.mean(got["label"] == test_y)
        print(f"iris v{version}: held-out {held_out[version]:.4f}, cross-validated {crossed[version]:.4f}")

    write_examples(  # answered by version 2, the newest
        path,
        {
            "one setosa": {"input": x[:1]},
            "one of each species": {"input": x[[10, 60, 110]]},
            "held-out rows": {"input": test_x[:8]},
        },
    )
    write_card(
        "iris",
        f"""
# iris

**Task.** Classify an iris flower into one of three species from four
measurements. Exactly a 4-16-3 multilayer perceptron (131 parameters), so it
also serves as the smallest realistic benchmark model.

**Data and licence.** Fisher's iris data (1936), 150 rows, as shipped inside
scikit-learn (`load_iris`; distributed there under BSD-3-Clause, while UCI offers
its edition of the same data under CC BY 4.0). Split 70/30, stratified, seed 0:
105 training rows, 45 held-out rows.

**Training.** scikit-learn `MLPClassifier`, one hidden layer of 16 ReLU units.
Version 1: Adam, stopped after 60 epochs. Version 2: L-BFGS with weight decay
1.0, run to convergence. Standardisation is folded into the first layer, so the
graph takes raw centimetres. Script: `models/_train/iris.py`.

**Metrics.**

| version | held-out accuracy (45 rows) | 5-fold cross-validated accuracy, 4 repeats |
|---|---|---|
| 1 | {held_out[1]:.4f} | {crossed[1]:.4f} |
| 2 | {held_out[2]:.4f} | {crossed[2]:.4f} |

**Input.** `input` FP32 `[-1, 4]`: sepal length, sepal width, petal length,
petal width, in centimetres.

**Outputs.** `probabilities` FP32 `[-1, 3]` in the order setosa, versicolor,
virginica; `label` INT64 `[-1]`, the index of the largest.

**Labels.** `stable` is version 1, `candidate` is version 2. Both versions are
served. `examples.json` holds answers of version 2, the newest.

**Limits.** 150 flowers, collected before 1936. Anything that is not one of these
three species still gets one of the three names, often with high confidence.
With 45 held-out rows, one row is 2.2 points of accuracy.
""",
    )


if __name__ == "__main__":
    main()
