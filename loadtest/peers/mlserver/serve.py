"""MLServer with a custom runtime, as its documentation has it for a format that it
does not bring: parallel workers, and adaptive batching by model settings."""

import asyncio
import os
import sys

sys.path[:0] = [os.path.dirname(os.path.dirname(os.path.abspath(__file__)))]

from mlserver import MLModel, MLServer  # noqa: E402
from mlserver.codecs import NumpyCodec  # noqa: E402
from mlserver.settings import ModelSettings, Settings  # noqa: E402
from mlserver.types import InferenceResponse  # noqa: E402

import models  # noqa: E402


class Onnx(MLModel):
    async def load(self):
        self.model = models.Model(self.name.removesuffix("_batched"))
        self.model.session  # noqa: B018
        return True

    async def predict(self, payload):
        x = NumpyCodec.decode_input(payload.inputs[0])
        y = self.model.run(x)
        return InferenceResponse(model_name=self.name, outputs=[NumpyCodec.encode_output("output", y)])


async def main():
    settings = Settings(
        host="127.0.0.1", http_port=models.PORT, grpc_port=models.GRPC_PORT, metrics_endpoint=None,
        parallel_workers=models.WORKERS, debug=False, load_models_at_startup=False,
    )  # fmt: skip
    server = MLServer(settings)
    served = []
    for name in models.NAMES:
        served.append(ModelSettings(name=name, implementation=Onnx))
        served.append(
            ModelSettings(name=f"{name}_batched", implementation=Onnx, max_batch_size=models.MAX_BATCH[name], max_batch_time=models.WINDOW_MS / 1000)
        )
    await server.start(served)


if __name__ == "__main__":
    # The workers import the runtime by its module's name.
    from serve import main as named

    asyncio.run(named())
