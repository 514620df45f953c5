"""A BentoML service: an endpoint for each model, and another that is batched
adaptively."""

import os
import sys
import typing

sys.path[:0] = [os.path.dirname(os.path.dirname(os.path.abspath(__file__)))]

import bentoml  # noqa: E402
import numpy as np  # noqa: E402

import models  # noqa: E402

Rows = typing.Annotated[np.ndarray, bentoml.validators.DType("float32")]


@bentoml.service(workers=models.WORKERS, traffic={"timeout": 60, "max_concurrency": 1024}, http={"host": "127.0.0.1", "port": models.PORT}, logging={"access": {"enabled": False}})
class Onnx:
    def __init__(self):
        self.models = {name: models.Model(name) for name in models.NAMES}
        for model in self.models.values():
            model.session  # noqa: B018

    @bentoml.api(route="/mid_mlp")
    def mid_mlp(self, input: Rows) -> np.ndarray:
        return self.models["mid_mlp"].run(input)

    @bentoml.api(route="/small_cnn")
    def small_cnn(self, input: Rows) -> np.ndarray:
        return self.models["small_cnn"].run(input)

    @bentoml.api(route="/transformer")
    def transformer(self, input: Rows) -> np.ndarray:
        return self.models["transformer"].run(input)

    @bentoml.api(route="/mid_mlp_batched", batchable=True, max_batch_size=64, max_latency_ms=1000)
    def mid_mlp_batched(self, input: Rows) -> np.ndarray:
        return self.models["mid_mlp"].run(input)

    @bentoml.api(route="/small_cnn_batched", batchable=True, max_batch_size=32, max_latency_ms=1000)
    def small_cnn_batched(self, input: Rows) -> np.ndarray:
        return self.models["small_cnn"].run(input)

    @bentoml.api(route="/transformer_batched", batchable=True, max_batch_size=32, max_latency_ms=1000)
    def transformer_batched(self, input: Rows) -> np.ndarray:
        return self.models["transformer"].run(input)
