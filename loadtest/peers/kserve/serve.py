"""KServe's Python server with a custom model. Its batcher is another program beside
it (the agent), so there is no batching here."""

import os
import sys

sys.path[:0] = [os.path.dirname(os.path.dirname(os.path.abspath(__file__)))]

import kserve  # noqa: E402
import kserve.protocol.rest.server as rest  # noqa: E402
from kserve.protocol.infer_type import InferOutput, InferResponse  # noqa: E402

import models  # noqa: E402


class Onnx(kserve.Model):
    def __init__(self, name):
        super().__init__(name)
        self.model = models.Model(name)
        self.ready = True

    async def get_input_types(self):
        return [{"name": "input", "datatype": "FP32", "shape": [-1, *models.SHAPE[self.name]]}]

    async def get_output_types(self):
        return [{"name": "output", "datatype": "FP32", "shape": [-1, -1]}]

    async def predict(self, payload, headers=None, response_headers=None):
        y = self.model.run(payload.inputs[0].as_numpy())
        output = InferOutput(name="output", shape=list(y.shape), datatype="FP32")
        output.set_data_from_numpy(y, binary_data=bool(payload.use_binary_outputs))
        return InferResponse(response_id=payload.id or "", model_name=self.name, infer_outputs=[output])


def here():
    """This machine only, which the server has no setting for."""
    config = rest.uvicorn.Config
    rest.uvicorn.Config = lambda *args, **kwargs: config(*args, **{**kwargs, "host": "127.0.0.1"})


if __name__ == "__main__":
    here()
    server = kserve.ModelServer(http_port=models.PORT, grpc_port=models.GRPC_PORT, workers=models.WORKERS, enable_grpc=False, access_log_format=None)
    server.start([Onnx(name) for name in models.NAMES])
