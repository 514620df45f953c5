"""Triton Inference Server, from PyTriton's wheel. That has the server and its Python
interface, not the ONNX Runtime backend: so the models run in Python processes
beside it, one for each core, behind Triton's HTTP, gRPC and dynamic batcher."""

import os
import sys

sys.path[:0] = [os.path.dirname(os.path.dirname(os.path.abspath(__file__)))]

import numpy as np  # noqa: E402
from pytriton.decorators import batch  # noqa: E402
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor  # noqa: E402
from pytriton.triton import Triton, TritonConfig  # noqa: E402

import models  # noqa: E402


def function(name):
    model = models.Model(name)

    @batch
    def infer(input):
        return [model.run(input)]

    return infer


if __name__ == "__main__":
    config = TritonConfig(
        http_address="127.0.0.1", http_port=models.PORT, grpc_port=models.GRPC_PORT, allow_metrics=False, log_verbose=0,
        http_thread_count=2,
    )  # fmt: skip
    with Triton(config=config) as triton:
        for name in models.NAMES:
            shape = models.SHAPE[name]
            for served, batcher in ((name, None), (f"{name}_batched", DynamicBatcher())):
                triton.bind(
                    model_name=served,
                    infer_func=[function(name) for _ in range(models.WORKERS)],
                    inputs=[Tensor(name="input", dtype=np.float32, shape=shape)],
                    outputs=[Tensor(name="output", dtype=np.float32, shape=(-1,))],
                    config=ModelConfig(batching=True, max_batch_size=models.MAX_BATCH[name], batcher=batcher),
                )
        triton.serve()
