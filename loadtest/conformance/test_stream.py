"""gRPC streams: ModelStreamInfer, with the callback client and by hand."""

import queue
import unittest

import grpc
import numpy as np
from clients import GRPC, Protocol, fp32, same
from tritonclient.grpc import service_pb2, service_pb2_grpc

protocol = Protocol("grpc")


def request(number, model="identity_fp32", **fields):
    array = fp32([number, number + 0.5])
    message = service_pb2.ModelInferRequest(model_name=model, id=str(number), **fields)
    message.inputs.add(name="input", datatype="FP32", shape=[1, 2])
    message.raw_input_contents.append(array.tobytes())
    return message


class CallbackStream(unittest.TestCase):
    def setUp(self):
        self.client = protocol.connect()
        self.addCleanup(self.client.close)
        self.done = queue.Queue()

    def send(self, number, model="identity_fp32", **kw):
        inputs = [protocol.input("input", fp32([number, -number]))]
        self.client.async_stream_infer(model, inputs, request_id=str(number), **kw)

    def receive(self):
        return self.done.get(timeout=30)

    def open(self, **kw):
        self.client.start_stream(lambda result, error: self.done.put((result, error)), **kw)
        self.addCleanup(self.client.stop_stream)

    def test_every_request_is_answered_once(self):
        self.open()
        for n in range(200):
            self.send(n)
        seen = set()
        for _ in range(200):
            result, error = self.receive()
            self.assertIsNone(error)
            response = result.get_response()
            n = int(response.id)
            same(self, result.as_numpy("output"), fp32([n, -n]))
            self.assertTrue(response.parameters["triton_final_response"].bool_param)
            seen.add(n)
        self.assertEqual(len(seen), 200)

    def test_an_error_leaves_the_stream_open(self):
        self.open()
        self.send(1)
        self.assertIsNone(self.receive()[1])
        self.send(2, model="no_such_model")
        result, error = self.receive()
        self.assertIsNotNone(error)
        self.assertIn("no_such_model", error.message())
        self.send(3)
        result, error = self.receive()
        self.assertIsNone(error)
        self.assertEqual(result.get_response().id, "3")

    def test_compressed(self):
        for algorithm in ("gzip", "deflate"):
            self.open(compression_algorithm=algorithm)
            self.send(1)
            result, error = self.receive()
            self.assertIsNone(error)
            same(self, result.as_numpy("output"), fp32([1, -1]))
            self.client.stop_stream()


class RawStream(unittest.TestCase):
    def setUp(self):
        self.channel = grpc.insecure_channel(GRPC)
        self.addCleanup(self.channel.close)
        self.stub = service_pb2_grpc.GRPCInferenceServiceStub(self.channel)

    def stream(self, *requests, **kw):
        return list(self.stub.ModelStreamInfer(iter(requests), timeout=30, **kw))

    def test_no_request_no_answer(self):
        self.assertEqual(self.stream(), [])

    def test_failures_say_which_request(self):
        answers = self.stream(request(1), request(2, model="missing"), request(3))
        by_id = {a.infer_response.id: a for a in answers}
        self.assertEqual(set(by_id), {"1", "2", "3"})
        self.assertIn("missing", by_id["2"].error_message)
        self.assertEqual(by_id["2"].infer_response.model_name, "missing")
        for good in ("1", "3"):
            self.assertEqual(by_id[good].error_message, "")
            self.assertEqual(len(by_id[good].infer_response.raw_output_contents), 1)

    def test_wrong_requests_of_every_kind_leave_it_open(self):
        short = request(1)
        short.raw_input_contents[0] = b"abc"
        nameless = request(2)
        nameless.inputs[0].name = "else"
        empty = service_pb2.ModelInferRequest(id="3", model_name="identity_fp32")
        huge = request(4)
        huge.inputs[0].shape[:] = [2**62, 2**62]
        answers = self.stream(short, nameless, empty, huge, request(5))
        self.assertEqual(len(answers), 5)
        by_id = {a.infer_response.id: a.error_message for a in answers}
        self.assertEqual(by_id.pop("5"), "")
        for number, text in by_id.items():
            self.assertNotEqual(text, "", number)

    def test_a_client_may_ask_for_a_status_instead(self):
        with self.assertRaises(grpc.RpcError) as caught:
            self.stream(request(1, model="missing"), metadata=[("triton_grpc_error", "true")])
        self.assertEqual(caught.exception.code(), grpc.StatusCode.NOT_FOUND)

    def test_a_final_empty_response_on_request(self):
        # Only a model with several answers to a request sends one more; every
        # stream ends each request with a final one either way.
        message = request(1)
        message.parameters["triton_enable_empty_final_response"].bool_param = True
        answers = self.stream(message)
        finals = [a.infer_response.parameters["triton_final_response"].bool_param for a in answers]
        self.assertEqual(finals.count(True), 1)
        self.assertTrue(finals[-1])
        self.assertEqual(answers[0].infer_response.raw_output_contents[0], fp32([1, 1.5]).tobytes())

    def test_a_cancelled_stream_harms_nobody(self):
        call = self.stub.ModelStreamInfer(iter([request(n) for n in range(500)]), timeout=30)
        next(call)
        call.cancel()
        answer = self.stub.ModelInfer(request(9), timeout=30)
        self.assertEqual(answer.id, "9")


class RawCalls(unittest.TestCase):
    """What the Python client never sends but others do."""

    def setUp(self):
        self.channel = grpc.insecure_channel(GRPC)
        self.addCleanup(self.channel.close)
        self.stub = service_pb2_grpc.GRPCInferenceServiceStub(self.channel)

    def fails(self, code, texts, message):
        with self.assertRaises(grpc.RpcError) as caught:
            self.stub.ModelInfer(message, timeout=30)
        self.assertEqual(caught.exception.code(), code, caught.exception.details())
        for text in texts:
            self.assertIn(text, caught.exception.details())

    def typed(self, model, name, datatype, field, values, shape=None):
        message = service_pb2.ModelInferRequest(model_name=model)
        tensor = message.inputs.add(name=name, datatype=datatype, shape=shape or [1, len(values)])
        getattr(tensor.contents, field).extend(values)
        return message

    def test_typed_contents(self):
        answer = self.stub.ModelInfer(self.typed("identity_int8", "input", "INT8", "int_contents", [-128, 0, 127]))
        self.assertEqual(answer.raw_output_contents[0], np.array([-128, 0, 127], np.int8).tobytes())
        answer = self.stub.ModelInfer(self.typed("identity_fp32", "input", "FP32", "fp32_contents", [1.5, float("inf")]))
        self.assertEqual(answer.raw_output_contents[0], fp32([1.5, np.inf]).tobytes())
        answer = self.stub.ModelInfer(self.typed("identity_bytes", "text_input", "BYTES", "bytes_contents", [b"\xff", b""]))
        self.assertEqual(answer.raw_output_contents[0], b"\x01\x00\x00\x00\xff\x00\x00\x00\x00")

    def test_every_typed_field(self):
        fields = {
            "bool": "bool_contents", "uint8": "uint_contents", "uint16": "uint_contents", "uint32": "uint_contents",
            "uint64": "uint64_contents", "int8": "int_contents", "int16": "int_contents", "int32": "int_contents",
            "int64": "int64_contents", "fp32": "fp32_contents", "fp64": "fp64_contents", "bytes": "bytes_contents",
        }  # fmt: skip
        message = service_pb2.ModelInferRequest(model_name="identity")
        for kind, field in fields.items():
            tensor = message.inputs.add(name=f"in_{kind}", datatype=kind.upper(), shape=[1, 1])
            getattr(tensor.contents, field).append(b"1" if kind == "bytes" else 1)
        message.inputs.add(name="in_fp16", datatype="FP16", shape=[1, 1])
        message.inputs.add(name="in_bf16", datatype="BF16", shape=[1, 1])
        # Half floats have no typed field, and the two forms do not mix.
        self.fails(grpc.StatusCode.INVALID_ARGUMENT, ["in_fp16"], message)

    def test_values_out_of_range(self):
        self.fails(grpc.StatusCode.INVALID_ARGUMENT, ["input"], self.typed("identity_int8", "input", "INT8", "int_contents", [128]))

    def test_wrong_typed_contents(self):
        self.fails(
            grpc.StatusCode.INVALID_ARGUMENT, ["input"], self.typed("identity_fp32", "input", "FP32", "fp32_contents", [1, 2], [1, 3])
        )
        self.fails(grpc.StatusCode.INVALID_ARGUMENT, ["input"], self.typed("identity_fp32", "input", "FP32", "int_contents", [1, 2]))

    def test_both_forms_at_once(self):
        message = self.typed("identity_fp32", "input", "FP32", "fp32_contents", [1, 2])
        message.raw_input_contents.append(fp32([1, 2]).tobytes())
        self.fails(grpc.StatusCode.INVALID_ARGUMENT, ["input"], message)

    def test_wrong_number_of_raw_contents(self):
        message = request(1)
        message.raw_input_contents.append(b"more")
        self.fails(grpc.StatusCode.INVALID_ARGUMENT, [], message)

    def test_malformed_bytes(self):
        for raw in (b"\x01", b"\x05\x00\x00\x00abc", b"\xff\xff\xff\xffabc", b"\x01\x00\x00\x00ab"):
            message = service_pb2.ModelInferRequest(model_name="identity_bytes")
            message.inputs.add(name="text_input", datatype="BYTES", shape=[1, 1])
            message.raw_input_contents.append(raw)
            self.fails(grpc.StatusCode.INVALID_ARGUMENT, ["text_input"], message)

    def test_integer_priority_of_either_sign(self):
        message = request(1)
        message.parameters["priority"].int64_param = 1
        message.parameters["timeout"].int64_param = 30_000_000
        self.assertEqual(self.stub.ModelInfer(message).id, "1")

    def test_health_service(self):
        check = self.channel.unary_unary("/grpc.health.v1.Health/Check", lambda b: b, lambda b: b)
        self.assertEqual(check(b"", timeout=10), b"\x08\x01")  # status: SERVING

    def test_the_other_field_number_of_load(self):
        # KServe's message has the model's name in field 1, which is the
        # repository's name in Triton's.
        self.stub.RepositoryModelLoad(service_pb2.RepositoryModelLoadRequest(repository_name="identity_int8"), timeout=60)

    def test_shared_memory_is_not_offered(self):
        with self.assertRaises(grpc.RpcError) as caught:
            self.stub.SystemSharedMemoryRegister(service_pb2.SystemSharedMemoryRegisterRequest(name="x", key="/x", byte_size=8), timeout=10)
        self.assertEqual(caught.exception.code(), grpc.StatusCode.UNIMPLEMENTED)

    def test_a_message_over_the_limit(self):
        message = request(1)
        message.raw_input_contents[0] = bytes(161 << 20)
        with self.assertRaises(grpc.RpcError) as caught:
            self.stub.ModelInfer(message, timeout=60)
        self.assertEqual(caught.exception.code(), grpc.StatusCode.RESOURCE_EXHAUSTED)


if __name__ == "__main__":
    unittest.main()
