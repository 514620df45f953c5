"""Many callers at once: each gets its own rows, whatever it shares a run with."""

import concurrent.futures
import json
import random
import threading
import unittest
import urllib.request

import numpy as np
from clients import HTTP as HTTP_ADDRESS
from clients import Protocol, fp32, same

THREADS, CALLS = 16, 40


def rows_of(caller, call):
    """Rows that no other call has, of a size that varies from call to call."""
    rng = random.Random(caller * 1000 + call)
    rows = rng.randint(1, 8)
    return np.array([[caller, call, row, rng.random()] for row in range(rows)], np.float32)


class Concurrency:
    protocol: Protocol

    def callers(self, work):
        with concurrent.futures.ThreadPoolExecutor(THREADS) as pool:
            for future in [pool.submit(work, n) for n in range(THREADS)]:
                future.result()

    def test_every_row_back_to_its_caller(self):
        def work(caller):
            client = self.protocol.connect()
            try:
                for call in range(CALLS):
                    rows = rows_of(caller, call)
                    name = f"{caller}-{call}"
                    result = client.infer("identity_fp32", [self.protocol.input("input", rows)], request_id=name)
                    same(self, result.as_numpy("output"), rows, name)
                    self.assertEqual(self.protocol.head(result)["id"], name)
            finally:
                client.close()

        self.callers(work)

    def test_different_shapes_and_models_at_once(self):
        x = fp32([5.1, 3.5, 1.4, 0.2], [6.5, 3.2, 5.1, 2.0])
        client = self.protocol.connect()
        alone = client.infer("iris", [self.protocol.input("input", x)]).as_numpy("probabilities")
        client.close()

        def work(caller):
            client = self.protocol.connect()
            try:
                for call in range(CALLS):
                    rng = random.Random(caller * 1000 + call)
                    if rng.random() < 0.3:
                        got = client.infer("iris", [self.protocol.input("input", x)]).as_numpy("probabilities")
                        np.testing.assert_allclose(got, alone, rtol=1e-5, atol=1e-7)
                        continue
                    text = [[f"{caller}/{call}/{i}".encode() * rng.randint(0, 9) for i in range(rng.randint(1, 5))]] * rng.randint(1, 4)
                    array = np.array(text, np.object_)
                    result = client.infer("identity_bytes", [self.protocol.input("text_input", array)])
                    same(self, result.as_numpy("text_output"), array, f"{caller}-{call}")
            finally:
                client.close()

        self.callers(work)

    def test_reload_loses_no_request(self):
        stop = threading.Event()
        answered = []

        def work(caller):
            client = self.protocol.connect()
            try:
                call = 0
                while not stop.is_set() and call < 4000:
                    rows = rows_of(caller, call)
                    same(self, client.infer("identity_int8", [self.protocol.input("input", rows.astype(np.int8))]).as_numpy("output"), rows.astype(np.int8))
                    call += 1
                answered.append(call)
            finally:
                client.close()

        def reload():
            client = self.protocol.connect()
            try:
                for _ in range(5):
                    client.load_model("identity_int8")
            finally:
                client.close()
                stop.set()

        with concurrent.futures.ThreadPoolExecutor(5) as pool:
            futures = [pool.submit(work, n) for n in range(4)] + [pool.submit(reload)]
            for future in futures:
                future.result()
        self.assertGreater(min(answered), 0)


class HTTP(Concurrency, unittest.TestCase):
    protocol = Protocol("http")

    def test_bad_neighbours(self):
        # Requests that fail beside requests that do not.
        def work(caller):
            client = self.protocol.connect()
            try:
                for call in range(CALLS):
                    if caller % 2:
                        bad = json.dumps({"inputs": [{"name": "input", "shape": [1, 2], "datatype": "FP32", "data": [1]}]})
                        request = urllib.request.Request(f"http://{HTTP_ADDRESS}/v2/models/identity_fp32/infer", bad.encode())
                        with self.assertRaises(urllib.error.HTTPError) as caught:
                            urllib.request.urlopen(request)
                        self.assertEqual(caught.exception.code, 400)
                        caught.exception.close()
                    else:
                        rows = rows_of(caller, call)
                        same(self, client.infer("identity_fp32", [self.protocol.input("input", rows)]).as_numpy("output"), rows)
            finally:
                client.close()

        self.callers(work)


class GRPC(Concurrency, unittest.TestCase):
    protocol = Protocol("grpc")


if __name__ == "__main__":
    unittest.main()
