"""The asyncio clients, over both protocols."""

import asyncio
import unittest

import numpy as np
import tritonclient.grpc.aio as grpcaio
import tritonclient.http.aio as httpaio
from clients import GRPC as GRPC_ADDRESS
from clients import HTTP as HTTP_ADDRESS
from clients import STATUS, VALUES, Protocol, fp32, same
from tritonclient.utils import InferenceServerException


class Aio:
    protocol: Protocol

    async def asyncSetUp(self):
        asyncio.get_running_loop().slow_callback_duration = 60  # busy machines are no news
        self.client = self.connect()
        self.addAsyncCleanup(self.client.close)

    def one(self, *values):
        return [self.protocol.input("input", fp32(values))]

    async def test_state_and_metadata(self):
        self.assertTrue(await self.client.is_server_live())
        self.assertTrue(await self.client.is_server_ready())
        self.assertTrue(await self.client.is_model_ready("iris"))
        self.assertFalse(await self.client.is_model_ready("no_such_model"))
        self.assertTrue(await self.client.get_server_metadata())
        self.assertTrue(await self.client.get_model_metadata("iris"))
        self.assertTrue(await self.client.get_model_config("iris"))
        self.assertTrue(await self.client.get_inference_statistics("iris"))
        self.assertTrue(await self.client.get_model_repository_index())

    async def test_every_datatype(self):
        result = await self.client.infer("identity", self.protocol.identity())
        for kind, array in VALUES.items():
            same(self, result.as_numpy(f"out_{kind}"), array, kind)

    async def test_every_row_back_to_its_caller(self):
        async def call(n):
            rows = fp32(*[[n, i] for i in range(1 + n % 5)])
            result = await self.client.infer("identity_fp32", [self.protocol.input("input", rows)], request_id=str(n))
            same(self, result.as_numpy("output"), rows, str(n))
            self.assertEqual(self.protocol.head(result)["id"], str(n))

        await asyncio.gather(*(call(n) for n in range(300)))

    async def test_errors(self):
        with self.assertRaises(InferenceServerException) as caught:
            await self.client.infer("no_such_model", self.one(1))
        self.assertIn("no_such_model", caught.exception.message())
        self.assertEqual(caught.exception.status(), STATUS["not_found"][self.protocol.name])

    async def test_cancelled_callers_harm_nobody(self):
        tasks = [asyncio.create_task(self.client.infer("identity_fp32", self.one(n))) for n in range(100)]
        await asyncio.sleep(0.005)
        for task in tasks[::2]:
            task.cancel()
        for n, outcome in enumerate(await asyncio.gather(*tasks, return_exceptions=True)):
            if isinstance(outcome, asyncio.CancelledError):
                self.assertEqual(n % 2, 0)
            else:
                self.assertNotIsInstance(outcome, BaseException)
                same(self, outcome.as_numpy("output"), fp32([n]), str(n))


class HTTP(Aio, unittest.IsolatedAsyncioTestCase):
    protocol = Protocol("http")

    def connect(self):
        return httpaio.InferenceServerClient(HTTP_ADDRESS, conn_limit=64)

    async def test_compression(self):
        x = np.tile(np.arange(64, dtype=np.float32), (8, 16))
        for there in (None, "gzip", "deflate"):
            for back in (None, "gzip", "deflate"):
                result = await self.client.infer(
                    "identity_fp32",
                    [self.protocol.input("input", x)],
                    request_compression_algorithm=there,
                    response_compression_algorithm=back,
                )
                same(self, result.as_numpy("output"), x, f"{there} there, {back} back")


class GRPC(Aio, unittest.IsolatedAsyncioTestCase):
    protocol = Protocol("grpc")

    def connect(self):
        return grpcaio.InferenceServerClient(GRPC_ADDRESS)

    async def test_stream(self):
        async def requests():
            for n in range(50):
                yield {"model_name": "identity_fp32", "inputs": self.one(n), "request_id": str(n)}
            yield {"model_name": "no_such_model", "inputs": self.one(0), "request_id": "bad"}

        seen, failed = set(), 0
        async for result, error in self.client.stream_infer(requests(), stream_timeout=60):
            if error is not None:
                self.assertIn("no_such_model", error.message())
                failed += 1
                continue
            n = int(result.get_response().id)
            same(self, result.as_numpy("output"), fp32([n]))
            seen.add(n)
        self.assertEqual((len(seen), failed), (50, 1))


if __name__ == "__main__":
    unittest.main()
