"""A Ray Serve deployment that takes the requests of the Open Inference Protocol, JSON
and binary: so every peer but one gets the same bytes."""

import json
import os
import signal
import sys
import threading

HERE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path[:0] = [HERE]

import numpy as np  # noqa: E402
import ray  # noqa: E402
from ray import serve  # noqa: E402
from starlette.responses import Response  # noqa: E402

import models  # noqa: E402

WINDOW = models.WINDOW_MS / 1000
QUIET = {"enable_access_log": False}  # no line for each request, as for every peer


@serve.deployment(num_replicas=models.WORKERS, max_ongoing_requests=256, ray_actor_options={"num_cpus": 0}, logging_config=QUIET)
class Onnx:
    def __init__(self):
        self.models = {name: models.Model(name) for name in models.NAMES}
        for model in self.models.values():
            model.session  # noqa: B018
        self.batched = {"mid_mlp": self.mid_mlp, "small_cnn": self.small_cnn, "transformer": self.transformer}

    def together(self, name, rows):
        answers = self.models[name].run(np.concatenate(rows))
        return np.split(answers, np.cumsum([len(r) for r in rows])[:-1])

    @serve.batch(max_batch_size=64, batch_wait_timeout_s=WINDOW)
    async def mid_mlp(self, rows):
        return self.together("mid_mlp", rows)

    @serve.batch(max_batch_size=32, batch_wait_timeout_s=WINDOW)
    async def small_cnn(self, rows):
        return self.together("small_cnn", rows)

    @serve.batch(max_batch_size=32, batch_wait_timeout_s=WINDOW)
    async def transformer(self, rows):
        return self.together("transformer", rows)

    async def __call__(self, request):
        name = request.url.path.split("/")[3]
        body = await request.body()
        length = request.headers.get("inference-header-content-length")
        document = json.loads(body[: int(length)] if length else body)
        tensor = document["inputs"][0]
        if length:
            x = np.frombuffer(body, dtype=np.float32, offset=int(length)).reshape(tensor["shape"])
        else:
            x = np.array(tensor["data"], dtype=np.float32).reshape(tensor["shape"])
        if name.endswith("_batched"):
            y = await self.batched[name.removesuffix("_batched")](x)
        else:
            y = self.models[name].run(x)
        output = {"name": "output", "datatype": "FP32", "shape": list(y.shape)}
        if not length:
            output["data"] = y.ravel().tolist()
            return Response(json.dumps({"model_name": name, "outputs": [output]}), media_type="application/json")
        output["parameters"] = {"binary_data_size": y.nbytes}
        head = json.dumps({"model_name": name, "outputs": [output]}).encode()
        return Response(head + y.tobytes(), media_type="application/octet-stream", headers={"Inference-Header-Content-Length": str(len(head))})


if __name__ == "__main__":
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    ray.init(num_cpus=models.WORKERS, include_dashboard=False, log_to_driver=False, object_store_memory=128 << 20, runtime_env={"env_vars": {"PYTHONPATH": HERE}})
    serve.start(http_options={"host": "127.0.0.1", "port": models.PORT}, logging_config=QUIET)
    serve.run(Onnx.bind(), route_prefix="/")
    print("serving", flush=True)
    ended.wait()
    serve.shutdown()
    ray.shutdown()
