"""Shared by the tests: clients, tensors, and one face for both protocols."""

import os

import ml_dtypes
import numpy as np
import tritonclient.grpc as grpcclient
import tritonclient.http as httpclient
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

HTTP = os.environ["CONFORMANCE_HTTP"]
GRPC = os.environ["CONFORMANCE_GRPC"]
OPS = os.environ["CONFORMANCE_OPS"]

# Every datatype with the values that break careless codecs.
VALUES = {
    "bool": np.array([[True, False, True, True]]),
    "uint8": np.array([[0, 1, 127, 255]], np.uint8),
    "uint16": np.array([[0, 1, 256, 65535]], np.uint16),
    "uint32": np.array([[0, 1, 65536, 2**32 - 1]], np.uint32),
    "uint64": np.array([[0, 1, 2**53 + 1, 2**64 - 1]], np.uint64),
    "int8": np.array([[-128, -1, 0, 127]], np.int8),
    "int16": np.array([[-32768, -1, 0, 32767]], np.int16),
    "int32": np.array([[-(2**31), -1, 0, 2**31 - 1]], np.int32),
    "int64": np.array([[-(2**63), -(2**53) - 1, 0, 2**63 - 1]], np.int64),
    "fp16": np.array([[-0.0, 65504.0, np.nan, -np.inf]], np.float16),
    "bf16": np.array([[-0.0, 3.3895e38, np.nan, np.inf]], ml_dtypes.bfloat16),
    "fp32": np.array([[-0.0, 1e-45, np.nan, -np.inf]], np.float32),
    "fp64": np.array([[5e-324, 1.7976931348623157e308, np.nan, np.inf]]),
    "bytes": np.array([[b"", b"\x00\xff\xfe not UTF-8 \x80", "ü☃𝄞".encode(), b'"\\\n']], np.object_),
}
NO_JSON = {"fp16", "bf16"}  # the protocol's JSON form has no such numbers


def fp32(*rows):
    return np.array(rows, np.float32)


class Protocol:
    """One of the two protocols, under one set of names."""

    def __init__(self, name):
        self.name = name
        self.module = httpclient if name == "http" else grpcclient

    def connect(self, concurrency=1):
        if self.name == "http":
            return httpclient.InferenceServerClient(HTTP, concurrency=concurrency)
        return grpcclient.InferenceServerClient(GRPC)

    def input(self, name, array, datatype=None, **how):
        tensor = self.module.InferInput(name, list(array.shape), datatype or np_to_triton_dtype(array.dtype))
        tensor.set_data_from_numpy(array, **how)
        return tensor

    def output(self, name, **how):
        return self.module.InferRequestedOutput(name, **how)

    def identity(self, arrays=VALUES):
        """Inputs of the model that has one of every type."""
        return [self.input(f"in_{kind}", array) for kind, array in arrays.items()]

    def head(self, result):
        """The answer's description: a dict with id, model_name, outputs..."""
        return result.get_response() if self.name == "http" else result.get_response(as_json=True)

    def describe(self, answer):
        """A metadata answer as a dict, where gRPC's JSON spells int64 as text."""
        return answer if self.name == "http" else _numbers(answer)

    def ask(self, call, *args, **kw):
        if self.name == "grpc":
            kw["as_json"] = True
        return self.describe(call(*args, **kw))


def _numbers(value):
    if isinstance(value, dict):
        return {k: v if k in ("version", "versions", "name") else _numbers(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_numbers(v) for v in value]
    if isinstance(value, str) and value.lstrip("-").isdigit():
        return int(value)
    return value


def same(test, got, want, what=""):
    """Requires equal types, shapes and bits (NaN's payload included)."""
    test.assertEqual(list(got.shape), list(want.shape), what)
    if want.dtype == np.object_:
        test.assertEqual([bytes(v) for v in got.ravel()], [bytes(v) for v in want.ravel()], what)
        return
    test.assertEqual(got.dtype, want.dtype, what)
    test.assertEqual(got.tobytes(), want.tobytes(), what)


# How each protocol spells the kinds of failure.
STATUS = {
    "invalid": {"http": "400", "grpc": "StatusCode.INVALID_ARGUMENT"},
    "not_found": {"http": "404", "grpc": "StatusCode.NOT_FOUND"},
    "unavailable": {"http": "503", "grpc": "StatusCode.UNAVAILABLE"},
}


def refused(test, protocol, kind, texts, call, *args, **kw):
    """Requires that a call fails with the kind's status and all the texts."""
    with test.assertRaises(InferenceServerException) as caught:
        call(*args, **kw)
    error = caught.exception
    test.assertEqual(error.status(), STATUS[kind][protocol.name], error.message())
    for text in texts:
        test.assertIn(text, error.message())
