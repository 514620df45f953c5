"""Metadata, configuration, statistics, repository: what tools read at start."""

import json
import pathlib
import unittest
import urllib.parse
import urllib.request

from clients import HTTP as HTTP_ADDRESS
from clients import OPS, STATUS, Protocol, fp32, refused, same
from server import ODD_NAME
from tritonclient.utils import InferenceServerException

MODELS = pathlib.Path(__file__).resolve().parents[2] / "models"
GROUPS = ("success", "fail", "queue", "compute_input", "compute_infer", "compute_output", "cache_hit", "cache_miss")


class Control:
    protocol: Protocol

    def setUp(self):
        self.client = self.protocol.connect()
        self.addCleanup(self.client.close)

    def ask(self, method, *args, **kw):
        return self.protocol.ask(getattr(self.client, method), *args, **kw)

    def infer(self, model, x, **kw):
        return self.client.infer(model, [self.protocol.input("input", x)], **kw)

    def config(self, *args):
        answer = self.ask("get_model_config", *args)
        return answer.get("config", answer)

    def test_health(self):
        self.assertTrue(self.client.is_server_live())
        self.assertTrue(self.client.is_server_ready())
        self.assertTrue(self.client.is_model_ready("iris"))
        self.assertTrue(self.client.is_model_ready("iris", "1"))
        self.assertFalse(self.client.is_model_ready("iris", "77"))
        self.assertFalse(self.client.is_model_ready("no_such_model"))

    def test_server_metadata(self):
        metadata = self.ask("get_server_metadata")
        self.assertTrue(metadata["name"])
        self.assertTrue(metadata["version"])
        offered = set(metadata["extensions"])
        needed = {"classification", "model_repository", "model_configuration", "binary_tensor_data", "parameters", "statistics"}
        self.assertLessEqual(needed, offered)
        self.assertFalse(offered & {"system_shared_memory", "cuda_shared_memory", "trace", "logging"}, "not implemented")

    def test_model_metadata(self):
        metadata = self.ask("get_model_metadata", "iris")
        self.assertEqual(metadata["name"], "iris")
        self.assertEqual(sorted(metadata["versions"]), ["1", "2"])
        self.assertEqual(metadata["platform"], "onnxruntime_onnx")
        self.assertEqual(metadata["inputs"], [{"name": "input", "datatype": "FP32", "shape": [-1, 4]}])
        outputs = {o["name"]: (o["datatype"], o["shape"]) for o in metadata["outputs"]}
        self.assertEqual(outputs, {"probabilities": ("FP32", [-1, 3]), "label": ("INT64", [-1])})

    def test_metadata_of_a_version(self):
        self.assertEqual(self.ask("get_model_metadata", "iris", "1")["versions"], ["1"])

    def test_metadata_of_every_model(self):
        for entry in self.index():
            if entry["state"] != "READY":
                continue
            metadata = self.ask("get_model_metadata", entry["name"], entry["version"])
            config = self.config(entry["name"], entry["version"])
            batches = int(config.get("max_batch_size", 0)) > 0
            for port in metadata["inputs"] + metadata["outputs"]:
                self.assertTrue(port["datatype"])
                if batches:
                    self.assertEqual(port["shape"][0], -1, entry)

    def test_config(self):
        config = self.config("iris")
        self.assertEqual(config["name"], "iris")
        self.assertEqual(config["max_batch_size"], 64)
        self.assertEqual([(i["name"], i["data_type"], i["dims"]) for i in config["input"]], [("input", "TYPE_FP32", [4])])
        metadata = {o["name"] for o in self.ask("get_model_metadata", "iris")["outputs"]}
        self.assertLessEqual({o["name"] for o in config["output"]}, metadata)
        text = self.config("identity_bytes")
        self.assertEqual(text["input"][0]["data_type"], "TYPE_STRING")

    def statistics(self, *args):
        return self.ask("get_inference_statistics", *args)["model_stats"]

    def counts(self, model, version):
        (stats,) = self.statistics(model, version)
        inference = stats["inference_stats"]
        group = {g: int(inference.get(g, {}).get("count", 0)) for g in GROUPS}
        return group, int(stats.get("inference_count", 0)), int(stats.get("execution_count", 0))

    def test_statistics_grow(self):
        before, rows, runs = self.counts("diabetes", "1")
        for size in (1, 3):
            self.infer("diabetes", fp32(*[[50, 1, 25, 100, 150, 100, 40, 4, 4.5, 90]] * size))
        with self.assertRaises(InferenceServerException):
            self.infer("diabetes", fp32([1, 2]))
        after, rows_after, runs_after = self.counts("diabetes", "1")
        self.assertEqual(rows_after - rows, 4)
        self.assertEqual(runs_after - runs, 2)
        for group in ("success", "queue", "compute_input", "compute_infer", "compute_output"):
            self.assertEqual(after[group] - before[group], 2, group)
        self.assertEqual(after["fail"] - before["fail"], 1)
        self.assertEqual((after["cache_hit"], after["cache_miss"]), (0, 0))
        (stats,) = self.statistics("diabetes", "1")
        sizes = {int(b["batch_size"]) for b in stats["batch_stats"]}
        self.assertLessEqual({1, 3}, sizes)

    def test_statistics_of_everything(self):
        self.assertGreaterEqual({(s["name"], s["version"]) for s in self.statistics()}, {("iris", "1"), ("iris", "2"), ("digits", "1")})
        self.assertEqual({s["version"] for s in self.statistics("iris")}, {"1", "2"})

    def test_unknown_models(self):
        for method in ("get_model_metadata", "get_model_config", "get_inference_statistics"):
            with self.assertRaises(InferenceServerException, msg=method) as caught:
                self.ask(method, "no_such_model")
            self.assertIn("no_such_model", caught.exception.message())
        refused(self, self.protocol, "not_found", ["'no_such_model'"], self.ask, "get_model_metadata", "no_such_model")
        refused(self, self.protocol, "invalid", ["'no_such_model'"], self.ask, "get_inference_statistics", "no_such_model")

    def index(self):
        answer = self.ask("get_model_repository_index")
        return answer if isinstance(answer, list) else answer["models"]

    def test_index(self):
        state = {(e["name"], e.get("version")): e.get("state") for e in self.index()}
        self.assertEqual(state["iris", "1"], "READY")
        self.assertEqual(state["iris", "2"], "READY")
        self.assertEqual(state[ODD_NAME, "1"], "READY")

    def test_unload_and_load(self):
        name = ODD_NAME
        self.assertTrue(self.client.is_model_ready(name))
        same(self, self.infer(name, fp32([1, 2])).as_numpy("output"), fp32([1, 2]))
        self.client.unload_model(name)
        self.assertFalse(self.client.is_model_ready(name))
        with self.assertRaises(InferenceServerException) as caught:
            self.infer(name, fp32([1]))
        self.assertIn(caught.exception.status(), (STATUS["not_found"][self.protocol.name], STATUS["unavailable"][self.protocol.name]))
        states = {e["name"]: e.get("state") for e in self.index()}
        self.assertIn(states.get(name), (None, "UNAVAILABLE", "UNKNOWN"))
        self.client.load_model(name)
        self.assertTrue(self.client.is_model_ready(name))
        same(self, self.infer(name, fp32([3])).as_numpy("output"), fp32([3]))

    def test_reload_while_loaded(self):
        self.client.load_model("identity_int8")
        self.assertTrue(self.client.is_model_ready("identity_int8"))

    def test_load_with_another_config(self):
        config = self.config(ODD_NAME)
        self.assertEqual(config["max_batch_size"], 32)
        self.client.load_model(ODD_NAME, config=json.dumps({"name": ODD_NAME, "backend": "onnxruntime", "max_batch_size": 4}))
        self.addCleanup(self.client.load_model, ODD_NAME)
        self.assertEqual(self.config(ODD_NAME)["max_batch_size"], 4)
        refused(self, self.protocol, "invalid", ["batch-size must be <= 4"], self.infer, ODD_NAME, fp32(*[[1]] * 5))

    def test_load_from_the_request(self):
        content = (MODELS / "identity_fp32" / "1" / "model.onnx").read_bytes()
        name = f"uploaded_{self.protocol.name}"
        self.client.load_model(name, config="{}", files={"file:7/model.onnx": content})
        self.assertTrue(self.client.is_model_ready(name, "7"))
        same(self, self.infer(name, fp32([7])).as_numpy("output"), fp32([7]))
        self.client.unload_model(name)
        self.assertFalse(self.client.is_model_ready(name))

    def test_hostile_load_is_refused(self):
        for content in (b"", b"not a model", b"\x08\x08" + b"\xff" * 100):
            with self.assertRaises(InferenceServerException) as caught:
                self.client.load_model("hostile", config="{}", files={"file:1/model.onnx": content})
            self.assertTrue(caught.exception.message())
        with self.assertRaises(InferenceServerException):
            self.client.load_model("hostile", config="{}", files={"file:../../1/model.onnx": b"x"})
        with self.assertRaises(InferenceServerException):
            self.client.load_model("iris", config="{not json")
        self.assertFalse(self.client.is_model_ready("hostile"))
        self.assertTrue(self.client.is_model_ready("iris"))
        # Or one bad upload would take a server out of its load balancer.
        self.assertTrue(self.client.is_server_ready())

    def test_loading_what_is_not_there(self):
        with self.assertRaises(InferenceServerException) as caught:
            self.client.load_model("no_such_model")
        self.assertIn("no_such_model", caught.exception.message())


class HTTP(Control, unittest.TestCase):
    protocol = Protocol("http")

    def test_statistics_have_every_group(self):
        # Tools index these without looking whether they are there.
        for stats in self.statistics():
            for key in ("name", "version", "last_inference", "inference_count", "execution_count", "batch_stats"):
                self.assertIn(key, stats)
            for group in GROUPS:
                self.assertIsInstance(stats["inference_stats"][group]["count"], int)
                self.assertIsInstance(stats["inference_stats"][group]["ns"], int)

    def test_index_of_ready_models(self):
        body = json.dumps({"ready": True}).encode()
        with urllib.request.urlopen(urllib.request.Request(f"http://{HTTP_ADDRESS}/v2/repository/index", body)) as answer:
            self.assertTrue(all(entry["state"] == "READY" for entry in json.load(answer)))

    def test_metrics_by_the_names_that_dashboards_know(self):
        self.infer("identity_fp32", fp32([1]))
        with urllib.request.urlopen(f"http://{OPS}/metrics") as answer:
            text = answer.read().decode()
        for name in (
            "nv_inference_request_success", "nv_inference_request_failure", "nv_inference_count", "nv_inference_exec_count",
            "nv_inference_request_duration_us", "nv_inference_queue_duration_us", "nv_inference_compute_infer_duration_us",
        ):  # fmt: skip
            self.assertIn(f"\n{name}{{", text)
        self.assertIn('model="identity_fp32"', text)

    def test_names_that_need_escaping(self):
        path = urllib.parse.quote(ODD_NAME, safe="")
        with urllib.request.urlopen(f"http://{HTTP_ADDRESS}/v2/models/{path}") as answer:
            self.assertEqual(json.load(answer)["name"], ODD_NAME)


class GRPC(Control, unittest.TestCase):
    protocol = Protocol("grpc")


if __name__ == "__main__":
    unittest.main()
