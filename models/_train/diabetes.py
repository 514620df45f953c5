"""diabetes: gradient-boosted trees for regression."""

import numpy as np
from onnx import helper
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType
from sklearn.datasets import load_diabetes
from sklearn.dummy import DummyRegressor
from sklearn.ensemble import GradientBoostingRegressor
from sklearn.metrics import mean_absolute_error, r2_score
from sklearn.model_selection import train_test_split

from common import run, save, session, write_card, write_examples


def main():
    # Unscaled: a caller has ages and blood pressures, not scikit-learn's
    # standardised columns. float32 before fitting, so that split thresholds
    # fall on the same side in the exported graph.
    x, y = load_diabetes(return_X_y=True, scaled=False)
    x = x.astype(np.float32)
    train_x, test_x, train_y, test_y = train_test_split(x, y, test_size=0.25, random_state=0)
    fitted = GradientBoostingRegressor(
        loss="squared_error", n_estimators=150, learning_rate=0.05, max_depth=2,
        subsample=0.7, min_samples_leaf=8, max_features=4, random_state=0,
    ).fit(train_x, train_y)  # fmt: skip

    model = to_onnx(
        fitted,
        initial_types=[("input", FloatTensorType([None, 10]))],
        target_opset={"": 17, "ai.onnx.ml": 3},
    )
    # skl2onnx lists the default domain twice, names the output "variable" and
    # leaves dimensions unnamed.
    del model.opset_import[:]
    model.opset_import.extend([helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 1)])
    old = model.graph.output[0].name
    for node in model.graph.node:
        node.output[:] = ["prediction" if name == old else name for name in node.output]
    model.graph.input[0].CopyFrom(helper.make_tensor_value_info("input", 1, ["batch", 10]))
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info("prediction", 1, ["batch", 1]))
    model.graph.name = "diabetes"
    path = save(model, "diabetes")
    got = run(session(path), {"input": test_x})["prediction"][:, 0]
    np.testing.assert_allclose(got, fitted.predict(test_x), rtol=1e-5)
    base = DummyRegressor().fit(train_x, train_y).predict(test_x)
    r2, error, base_error = r2_score(test_y, got), mean_absolute_error(test_y, got), mean_absolute_error(test_y, base)
    print(f"diabetes: held-out R2 {r2:.3f}, MAE {error:.1f} (constant guess {base_error:.1f})")

    # Predictions are in the hundreds: 1e-3 is one float32 rounding or so.
    write_examples(
        path,
        {"one held-out patient": {"input": test_x[:1]}, "five held-out patients": {"input": test_x[1:6]}},
        tolerance=1e-3,
    )
    write_card(
        "diabetes",
        f"""
# diabetes

**Task.** Predict a measure of diabetes progression one year after baseline
(about 25 to 346 in the data) from ten baseline values.

**Data and licence.** Efron, Hastie, Johnstone and Tibshirani, "Least Angle
Regression" (2004), 442 patients, as shipped inside scikit-learn
(`load_diabetes(scaled=False)`, distributed there under BSD-3-Clause). Split
75/25, seed 0: {len(train_y)} training rows, {len(test_y)} held-out rows.

**Training.** scikit-learn `GradientBoostingRegressor`, 150 trees of depth 2,
rate 0.05, row sampling 0.7; converted by skl2onnx to one `TreeEnsembleRegressor`
(ai.onnx.ml). Script: `models/_train/diabetes.py`.

**Metrics.** Held-out R2 {r2:.3f}, mean absolute error {error:.1f} (always guessing the
training mean: {base_error:.1f}).

**Input.** `input` FP32 `[-1, 10]`, unscaled, in this order: age in years, sex
(1 or 2), body mass index, mean blood pressure, total serum cholesterol (s1),
LDL (s2), HDL (s3), cholesterol/HDL ratio (s4), log of triglycerides (s5), blood
sugar (s6).

**Output.** `prediction` FP32 `[-1, 1]`.

**Limits.** A demonstration, not a medical device: 442 patients of one study,
and much of the variation is left unexplained. Trees do not extrapolate: values
outside the training range get the answer of the nearest leaf.
""",
    )


if __name__ == "__main__":
    main()
