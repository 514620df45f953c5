"""What clients are told when they are wrong, late, or too many."""

import unittest

import numpy as np
from clients import STATUS, Protocol, fp32, refused, same
from tritonclient.utils import InferenceServerException


class Errors:
    protocol: Protocol

    def setUp(self):
        self.client = self.protocol.connect()
        self.addCleanup(self.client.close)

    def refuse(self, kind, texts, model, inputs, **kw):
        refused(self, self.protocol, kind, texts, self.client.infer, model, inputs, **kw)
        # Whatever was wrong, the server and the model go on.
        result = self.client.infer("identity_fp32", [self.protocol.input("input", fp32([1]))])
        same(self, result.as_numpy("output"), fp32([1]))

    def test_unknown_model(self):
        self.refuse("not_found", ["unknown model", "'no_such_model'", "not found"], "no_such_model", [self.protocol.input("input", fp32([1]))])

    def test_unknown_version(self):
        with self.assertRaises(InferenceServerException) as caught:
            self.client.infer("iris", [self.protocol.input("input", fp32([1, 2, 3, 4]))], model_version="99")
        self.assertIn(caught.exception.status(), [STATUS[k][self.protocol.name] for k in ("not_found", "unavailable")])
        self.assertIn("'iris'", caught.exception.message())
        self.assertIn("99", caught.exception.message())

    def test_wrong_extent(self):
        self.refuse("invalid", ["unexpected shape for input 'input' for model 'iris'", "[-1,4]", "[1,3]"], "iris", [self.protocol.input("input", fp32([1, 2, 3]))])

    def test_wrong_rank(self):
        x = fp32([1, 2, 3, 4]).reshape(1, 2, 2)
        self.refuse("invalid", ["unexpected shape for input 'input'"], "iris", [self.protocol.input("input", x)])

    def test_wrong_datatype(self):
        x = np.array([[1, 2, 3, 4]], np.int32)
        self.refuse("invalid", ["inference input 'input' data-type is 'INT32', but model 'iris' expects 'FP32'"], "iris", [self.protocol.input("input", x)])

    def test_missing_input(self):
        x = np.ones((1, 4), np.int64)
        self.refuse("invalid", ["expected 2 inputs but got 1 inputs for model 'encoder'"], "encoder", [self.protocol.input("input_ids", x)])

    def test_no_input(self):
        self.refuse("invalid", ["expected 1 inputs but got 0 inputs for model 'iris'"], "iris", [])

    def test_unknown_input(self):
        self.refuse("invalid", ["'else'", "iris"], "iris", [self.protocol.input("else", fp32([1, 2, 3, 4]))])

    def test_an_input_twice(self):
        x = self.protocol.input("input", fp32([1, 2, 3, 4]))
        self.refuse("invalid", [], "iris", [x, x])

    def test_unknown_output(self):
        self.refuse(
            "invalid", ["'else'"], "iris", [self.protocol.input("input", fp32([1, 2, 3, 4]))], outputs=[self.protocol.output("else")]
        )

    def test_too_many_rows(self):
        self.refuse("invalid", ["batch-size must be <= 32 for 'identity_fp32'"], "identity_fp32", [self.protocol.input("input", np.zeros((33, 1), np.float32))])

    def test_inputs_of_different_rows(self):
        inputs = [self.protocol.input("input_ids", np.ones((2, 4), np.int64)), self.protocol.input("attention_mask", np.ones((3, 4), np.int64))]
        self.refuse("invalid", [], "encoder", inputs)

    def test_inputs_that_do_not_fit_together(self):
        # "seq" is one symbol of the model's signature.
        inputs = [self.protocol.input("input_ids", np.ones((1, 4), np.int64)), self.protocol.input("attention_mask", np.ones((1, 5), np.int64))]
        self.refuse("invalid", ["attention_mask"], "encoder", inputs)

    def test_the_request_is_named(self):
        with self.assertRaises(InferenceServerException) as caught:
            self.client.infer("iris", [self.protocol.input("input", fp32([1]))], request_id="order-66")
        self.assertIn("[request id: order-66]", caught.exception.message())

    def test_too_late_for_the_server(self):
        with self.assertRaises(InferenceServerException) as caught:
            self.client.infer("identity_fp32", [self.protocol.input("input", np.zeros((1, 1 << 20), np.float32))], timeout=1)
        self.assertEqual(caught.exception.status(), STATUS["unavailable"][self.protocol.name])

    def test_classification_of_text(self):
        x = np.array([["a"]], np.object_)
        self.refuse(
            "invalid", [], "identity_bytes", [self.protocol.input("text_input", x)], outputs=[self.protocol.output("text_output", class_count=1)]
        )


class HTTP(Errors, unittest.TestCase):
    protocol = Protocol("http")


class GRPC(Errors, unittest.TestCase):
    protocol = Protocol("grpc")

    def test_too_late_for_the_client(self):
        with self.assertRaises(InferenceServerException) as caught:
            self.client.infer("identity_fp32", [self.protocol.input("input", np.zeros((1, 1 << 20), np.float32))], client_timeout=1e-4)
        self.assertEqual(caught.exception.status(), "StatusCode.DEADLINE_EXCEEDED")
        result = self.client.infer("identity_fp32", [self.protocol.input("input", fp32([1]))], client_timeout=30)
        same(self, result.as_numpy("output"), fp32([1]))


if __name__ == "__main__":
    unittest.main()
