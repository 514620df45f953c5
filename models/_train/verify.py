"""Checks the committed models: python models/_train/verify.py

Checksums, the ONNX checker, size, config.yaml, every example, and that a row's
answer depends neither on the other rows of its batch nor on padding.
"""

import hashlib
import json
import sys

sys.dont_write_bytecode = True

import numpy as np  # noqa: E402
import onnx  # noqa: E402
import yaml  # noqa: E402

from common import MODELS, ORT_TYPES, decode, run, session  # noqa: E402

ROOTS = [MODELS, MODELS.parent / "loadtest" / "models"]
CONFIG_KEYS = {
    "description", "max_batch_size", "slo", "labels", "version_policy", "outputs", "parameters", "sequence", "generate",
}  # fmt: skip


def same(got, want, tolerance, what):
    assert got.shape == want.shape, (what, got.shape, want.shape)
    if got.dtype == object or tolerance == 0:
        assert got.dtype == want.dtype and (got == want).all(), what
    else:
        np.testing.assert_allclose(got, want, rtol=tolerance, atol=tolerance, err_msg=what)


def check_checksums(root):
    listed = dict(reversed(line.split("  ")) for line in (root / "SHA256SUMS").read_text().splitlines())
    present = {p.relative_to(root).as_posix(): p for p in root.glob("[!_.]*/*/model.onnx")}
    assert set(listed) == set(present), set(listed) ^ set(present)
    for name, path in present.items():
        assert hashlib.sha256(path.read_bytes()).hexdigest() == listed[name], name
    return sorted(present.values())


def check_model(path):
    assert path.stat().st_size < 3_000_000, "too large"
    model = onnx.load(path, load_external_data=False)
    onnx.checker.check_model(model, full_check=True)
    assert model.ir_version <= 10
    versions = {"": 21, "ai.onnx.ml": 3}
    assert all(opset.version <= versions[opset.domain] for opset in model.opset_import)
    assert not any(tensor.external_data for tensor in model.graph.initializer)
    assert [n.name for n in model.graph.input], "no inputs"
    for value in [*model.graph.input, *model.graph.output]:
        assert value.type.tensor_type.shape.dim[0].dim_param == "batch", value.name


def check_config(directory, sess):
    config = yaml.safe_load((directory / "config.yaml").read_text())
    assert set(config) <= CONFIG_KEYS, set(config) - CONFIG_KEYS
    versions = {int(p.parent.name) for p in directory.glob("*/model.onnx")}
    assert set(config.get("labels", {}).values()) <= versions
    assert all(isinstance(v, str) for v in config.get("parameters", {}).values())
    shapes = {node.name: node.shape for node in sess.get_outputs()}
    inputs = {node.name: node for node in sess.get_inputs()}
    outputs = {node.name: node for node in sess.get_outputs()}
    loop = config.get("generate", {})
    for link in config.get("sequence", {}).get("state", []) + loop.get("feedback", []):
        assert inputs[link["input"]].type == outputs[link["output"]].type, link
    assert "end" not in loop or loop["end"]["output"] in outputs
    for output in config.get("outputs", []):
        assert len(output["labels"]) == shapes[output["name"]][-1], output["name"]


def check_examples(directory, sess):
    types = {node.name: ORT_TYPES[node.type] for node in [*sess.get_inputs(), *sess.get_outputs()]}
    cases = json.loads((directory / "examples.json").read_text())["cases"]
    for case in cases:
        what, tolerance = f"{directory.name}: {case['name']}", case["tolerance"]
        tensors = case["request"]["inputs"] + case["response"]["outputs"]
        assert all(types[t["name"]] == t["datatype"] for t in tensors), what
        feeds = {t["name"]: decode(t) for t in case["request"]["inputs"]}
        answers = run(sess, feeds)
        for tensor in case["response"]["outputs"]:
            same(answers[tensor["name"]], decode(tensor), tolerance, what)
        for row in range(len(next(iter(feeds.values())))):
            alone = run(sess, {name: array[row : row + 1] for name, array in feeds.items()})
            for name, array in alone.items():
                same(array, answers[name][row : row + 1], tolerance, f"{what}: row {row} alone")
        if "attention_mask" in feeds:
            room = 64 - feeds["attention_mask"].shape[1]
            padded = run(sess, {name: np.pad(array, [(0, 0), (0, room)]) for name, array in feeds.items()})
            for name, array in padded.items():
                same(array, answers[name], 1e-4, f"{what}: padded")
    return len(cases)


def main():
    for root in ROOTS:
        newest = {}
        for path in check_checksums(root):
            check_model(path)
            directory, version = path.parents[1], int(path.parent.name)
            if version >= newest.get(directory, (0, None))[0]:
                newest[directory] = version, path
        # Examples are answered by a model's newest version.
        for directory, (_, path) in newest.items():
            sess = session(path)
            check_config(directory, sess)
            count = check_examples(directory, sess)
            assert (directory / "README.md").exists()
            print(f"ok {directory.relative_to(MODELS.parent)}: {count} examples")


if __name__ == "__main__":
    main()
