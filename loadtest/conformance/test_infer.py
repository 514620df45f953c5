"""Inference with the synchronous and callback clients, over both protocols."""

import queue
import unittest

import numpy as np
from clients import NO_JSON, VALUES, Protocol, fp32, same


class Inference:
    """The cases; one subclass a protocol."""

    protocol: Protocol

    def setUp(self):
        self.client = self.protocol.connect(concurrency=4)
        self.addCleanup(self.client.close)

    def infer_identity(self, arrays, **kw):
        result = self.client.infer("identity", self.protocol.identity(arrays), **kw)
        for kind, array in arrays.items():
            same(self, result.as_numpy(f"out_{kind}"), array, kind)
        return result

    def test_every_datatype(self):
        self.infer_identity(VALUES)

    def test_many_rows(self):
        self.infer_identity({kind: np.repeat(array, 7, axis=0) for kind, array in VALUES.items()})

    def test_zero_elements(self):
        self.infer_identity({kind: array[:, :0] for kind, array in VALUES.items()})

    def test_zero_elements_of_several_rows(self):
        empty = np.zeros((3, 0), np.float32)
        result = self.client.infer("identity_fp32", [self.protocol.input("input", empty)])
        same(self, result.as_numpy("output"), empty)

    def test_a_real_model(self):
        x = fp32([5.1, 3.5, 1.4, 0.2], [6.5, 3.2, 5.1, 2.0])
        result = self.client.infer("iris", [self.protocol.input("input", x)])
        p, label = result.as_numpy("probabilities"), result.as_numpy("label")
        self.assertEqual(p.shape, (2, 3))
        np.testing.assert_allclose(p.sum(axis=1), 1, rtol=1e-5)
        self.assertEqual(label.tolist(), p.argmax(axis=1).tolist())
        self.assertEqual(label.tolist(), [0, 2])

    def test_text_in_text_out(self):
        x = np.array([["Random forests average many decision trees."], [""]], np.object_)
        result = self.client.infer("topic", [self.protocol.input("text_input", x)])
        self.assertEqual(result.as_numpy("label")[0, 0], b"trees")
        self.assertEqual(result.as_numpy("probabilities").shape, (2, 8))

    def test_varying_lengths(self):
        for length in (1, 7, 64):
            ids = np.full((2, length), 101, np.int64)
            mask = np.ones((2, length), np.int64)
            inputs = [self.protocol.input("input_ids", ids), self.protocol.input("attention_mask", mask)]
            result = self.client.infer("encoder", inputs)
            self.assertEqual(result.as_numpy("logits").shape, (2, 6))
            self.assertEqual(result.as_numpy("embedding").shape, (2, 128))

    def test_inputs_in_any_order(self):
        result = self.client.infer("identity", self.protocol.identity()[::-1])
        for kind, array in VALUES.items():
            same(self, result.as_numpy(f"out_{kind}"), array, kind)

    def test_outputs_as_asked(self):
        wanted = [self.protocol.output("out_int64"), self.protocol.output("out_bool")]
        result = self.client.infer("identity", self.protocol.identity(), outputs=wanted)
        head = self.protocol.head(result)
        self.assertEqual([o["name"] for o in head["outputs"]], ["out_int64", "out_bool"])
        self.assertIsNone(result.as_numpy("out_fp32"))
        same(self, result.as_numpy("out_bool"), VALUES["bool"])

    def test_classification(self):
        x = fp32([5.1, 3.5, 1.4, 0.2], [6.5, 3.2, 5.1, 2.0])
        for count, width in ((1, 1), (2, 2), (100, 3)):
            wanted = [self.protocol.output("probabilities", class_count=count)]
            result = self.client.infer("iris", [self.protocol.input("input", x)], outputs=wanted)
            classes = result.as_numpy("probabilities")
            self.assertEqual(classes.shape, (2, width))
            value, index, label = classes[0, 0].decode().split(":")
            self.assertEqual((index, label), ("0", "setosa"))
            self.assertGreater(float(value), 0.5)
            self.assertEqual(classes[1, 0].decode().split(":")[1:], ["2", "virginica"])
            for row in classes:
                values = [float(c.split(b":")[0]) for c in row]
                self.assertEqual(values, sorted(values, reverse=True))

    def test_classification_without_labels(self):
        wanted = [self.protocol.output("output", class_count=2)]
        result = self.client.infer("identity_fp32", [self.protocol.input("input", fp32([1, 3, 2]))], outputs=wanted)
        parts = [c.decode().split(":") for c in result.as_numpy("output")[0]]
        self.assertEqual([p[1] for p in parts], ["1", "2"])
        self.assertTrue(all(len(p) == 2 for p in parts), parts)

    def test_request_id_comes_back(self):
        for name in ("42", "ünïcode/..\"\\", "x" * 500):
            result = self.client.infer("identity_fp32", [self.protocol.input("input", fp32([1]))], request_id=name)
            self.assertEqual(self.protocol.head(result)["id"], name)

    def test_no_request_id_no_id(self):
        result = self.client.infer("identity_fp32", [self.protocol.input("input", fp32([1]))])
        self.assertFalse(self.protocol.head(result).get("id"))

    def test_versions(self):
        x = [self.protocol.input("input", fp32([5.9, 3.0, 4.2, 1.5]))]
        answers = {}
        for version in ("1", "2", ""):
            result = self.client.infer("iris", x, model_version=version)
            head = self.protocol.head(result)
            self.assertEqual(head["model_name"], "iris")
            self.assertIsInstance(head["model_version"], str)
            self.assertEqual(head["model_version"], version or "2")
            answers[version] = result.as_numpy("probabilities").tobytes()
        self.assertNotEqual(answers["1"], answers["2"])
        self.assertEqual(answers["2"], answers[""])

    def test_custom_parameters_are_accepted(self):
        kw = {"parameters": {"text": "x", "number": 7, "flag": True, "ratio": 0.5}, "priority": 1}
        result = self.client.infer("identity_fp32", [self.protocol.input("input", fp32([1, 2]))], **kw)
        same(self, result.as_numpy("output"), fp32([1, 2]))

    def test_time_enough(self):
        result = self.client.infer("identity_fp32", [self.protocol.input("input", fp32([1, 2]))], timeout=30_000_000)
        same(self, result.as_numpy("output"), fp32([1, 2]))

    def test_large_tensors(self):
        # Over 64 MiB, where default limits of the transports end.
        big = np.arange(18 << 20, dtype=np.float32).reshape(1, -1)
        result = self.client.infer("identity_fp32", [self.protocol.input("input", big)], timeout=60_000_000)
        same(self, result.as_numpy("output"), big)

    def test_callbacks_in_any_order(self):
        answers = self.collect(range(32))
        for number, result in answers.items():
            same(self, result.as_numpy("output"), fp32([number, -number]), str(number))


class HTTP(Inference, unittest.TestCase):
    protocol = Protocol("http")

    def collect(self, numbers):
        pending = {
            n: self.client.async_infer("identity_fp32", [self.protocol.input("input", fp32([n, -n]))], request_id=str(n))
            for n in numbers
        }
        return {n: request.get_result() for n, request in pending.items()}

    def test_json_tensors_both_ways(self):
        arrays = {k: v for k, v in VALUES.items() if k not in NO_JSON | {"bytes"}}
        for kind, array in arrays.items():
            if kind in ("fp32", "fp64"):
                array = np.nan_to_num(array, nan=1.5, posinf=2.5, neginf=-2.5)  # the client writes strict JSON
            inputs = self.protocol.identity(VALUES)
            for i, name in enumerate(VALUES):
                if name == kind:
                    inputs[i] = self.protocol.input(f"in_{kind}", array, binary_data=False)
            wanted = [self.protocol.output(f"out_{kind}", binary_data=False)]
            result = self.client.infer("identity", inputs, outputs=wanted)
            same(self, result.as_numpy(f"out_{kind}"), array, kind)
            self.assertNotIn("parameters", result.get_output(f"out_{kind}"))

    def test_json_text_both_ways(self):
        x = np.array([["", "ü☃𝄞", '"\\/\b\f\n\r\t', "\x7f \u2028"]], np.object_)
        inputs = [self.protocol.input("text_input", x, binary_data=False)]
        wanted = [self.protocol.output("text_output", binary_data=False)]
        result = self.client.infer("identity_bytes", inputs, outputs=wanted)
        self.assertEqual(result.as_numpy("text_output").tolist(), x.tolist())

    def test_mixed_json_and_binary_inputs(self):
        inputs = [
            self.protocol.input(f"in_{kind}", array, binary_data=kind in NO_JSON or i % 2 == 0 or array.dtype.kind in "fO")
            for i, (kind, array) in enumerate(VALUES.items())
        ]
        result = self.client.infer("identity", inputs)
        for kind, array in VALUES.items():
            same(self, result.as_numpy(f"out_{kind}"), array, kind)

    def test_compression(self):
        x = np.tile(np.arange(64, dtype=np.float32), (8, 16))
        for binary in (True, False):
            for there in (None, "gzip", "deflate"):
                for back in (None, "gzip", "deflate"):
                    result = self.client.infer(
                        "identity_fp32",
                        [self.protocol.input("input", x, binary_data=binary)],
                        outputs=[self.protocol.output("output", binary_data=binary)],
                        request_compression_algorithm=there,
                        response_compression_algorithm=back,
                    )
                    same(self, result.as_numpy("output"), x, f"binary {binary}, {there} there, {back} back")


class GRPC(Inference, unittest.TestCase):
    protocol = Protocol("grpc")

    def collect(self, numbers):
        done = queue.Queue()
        for n in numbers:
            self.client.async_infer(
                "identity_fp32",
                [self.protocol.input("input", fp32([n, -n]))],
                lambda result, error, n=n: done.put((n, result, error)),
                request_id=str(n),
            )
        answers = {}
        for _ in numbers:
            n, result, error = done.get(timeout=30)
            self.assertIsNone(error)
            answers[n] = result
        return answers

    def test_compression(self):
        x = np.tile(np.arange(64, dtype=np.float32), (8, 16))
        for algorithm in ("gzip", "deflate"):
            result = self.client.infer("identity_fp32", [self.protocol.input("input", x)], compression_algorithm=algorithm)
            same(self, result.as_numpy("output"), x, algorithm)

    def test_outputs_are_raw(self):
        result = self.client.infer("identity", self.protocol.identity())
        response = result.get_response()
        self.assertEqual(len(response.raw_output_contents), len(VALUES))
        self.assertEqual(len(response.outputs), len(VALUES))
        self.assertFalse(any(output.HasField("contents") for output in response.outputs))


if __name__ == "__main__":
    unittest.main()
