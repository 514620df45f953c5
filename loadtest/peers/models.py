"""The models on ONNX Runtime, alike for every peer: one thread for each run, as in
Sluice, and every model under two names, of which NAME_batched is batched."""

import os
import pathlib

import numpy as np
import onnxruntime

NAMES = ("mid_mlp", "small_cnn", "transformer")
MAX_BATCH = {"mid_mlp": 64, "small_cnn": 32, "transformer": 32}
SHAPE = {"mid_mlp": (784,), "small_cnn": (1, 28, 28), "transformer": (64, 128)}
# How long a server with a window may wait for company. All of them get the same.
WINDOW_MS = 5

PORT = int(os.environ["PEER_PORT"])
GRPC_PORT = int(os.environ["PEER_GRPC_PORT"])
WORKERS = int(os.environ["PEER_WORKERS"])
FOLDER = pathlib.Path(os.environ["PEER_MODELS"])


class Model:
    """A model that is loaded where it is first run: a session does not survive a fork."""

    def __init__(self, name):
        self.name = name
        self._session = None

    @property
    def session(self):
        if self._session is None:
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = 1
            options.inter_op_num_threads = 1
            options.add_session_config_entry("session.intra_op.allow_spinning", "0")
            path = FOLDER / self.name / "1" / "model.onnx"
            self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        return self._session

    def run(self, x):
        return self.session.run(None, {"input": np.ascontiguousarray(x, dtype=np.float32)})[0]
