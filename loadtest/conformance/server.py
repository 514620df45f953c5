"""Starts the real server on free loopback ports, over a copy of the sample models."""

import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]

# Above the 64 MiB that clients of other servers reckon with, so that larger
# messages can be tried; the limit itself is tried with a lying length.
MAX_BODY = 160 << 20

# A name that needs escaping in a URL, beside the sample models.
ODD_NAME = "odd näme+50%"


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    try:
        for s in sockets:
            s.bind(("127.0.0.1", 0))
        return [s.getsockname()[1] for s in sockets]
    finally:
        for s in sockets:
            s.close()


def copy_models(target):
    """Copies the sample models. Their latency targets are relaxed: what is
    tested here is the protocol, on machines that may be busy."""
    shutil.copytree(ROOT / "models", target, ignore=shutil.ignore_patterns("_*", ".*", "SHA256SUMS"))
    shutil.copytree(target / "identity_fp32", target / ODD_NAME)
    for config in target.glob("*/config.yaml"):
        config.write_text(re.sub(r"(?m)^slo:.*$", "slo: 30s", config.read_text()))


class Server:
    """A running server: `with Server() as s:` has s.http, s.grpc and s.ops."""

    def __enter__(self):
        self.work = pathlib.Path(tempfile.mkdtemp(prefix="sluice-conformance-"))
        copy_models(self.work / "models")
        self.http, self.grpc, self.ops = (f"127.0.0.1:{port}" for port in free_ports(3))
        self.log_path = self.work / "server.log"
        env = {k: v for k, v in os.environ.items() if not k.startswith("SLUICE_") or k == "SLUICE_ONNXRUNTIME"}
        env |= {
            "SLUICE_DATA_DIR": str(self.work / "data"),
            "SLUICE_MODEL_REPOSITORY": str(self.work / "models"),
            "SLUICE_MODEL_CONTROL": "explicit",
            "SLUICE_HTTP_ADDR": self.http,
            "SLUICE_GRPC_ADDR": self.grpc,
            "SLUICE_OPS_ADDR": self.ops,
            "SLUICE_HTTP_MAX_BODY": str(MAX_BODY),
            "SLUICE_GRPC_MAX_MESSAGE": str(MAX_BODY),
        }
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen([ROOT / "bin" / "api"], env=env, stdout=log, stderr=log, cwd=self.work)
        try:
            self._wait_until_ready(120)  # the runtime library may be downloaded first
        except BaseException:
            self.process.kill()
            self.process.wait()
            self.show_log()
            raise
        return self

    def __exit__(self, kind, *_):
        """Stops the server as an operator would; a bad end is a failure too."""
        self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(40)
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = f"none: still running 40 s after SIGTERM (killed: {self.process.wait()})"
        if code != 0:
            self.show_log()
            if kind is None:
                raise SystemExit(f"the server's exit status after SIGTERM is {code}, expected 0")
        shutil.rmtree(self.work)

    def _wait_until_ready(self, seconds):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self.process.poll() is not None:
                raise SystemExit(f"the server ended at start with status {self.process.returncode}")
            try:
                with urllib.request.urlopen(f"http://{self.http}/v2/health/ready", timeout=5) as answer:
                    if answer.status == 200:
                        return
            except (urllib.error.URLError, OSError):
                pass
            time.sleep(0.05)
        raise SystemExit(f"the server was not ready after {seconds} s")

    def show_log(self):
        lines = [line for line in self.log_path.read_text(errors="replace").splitlines() if '"info"' not in line]
        print("the server's last warnings and errors:", *lines[-20:], sep="\n  ")
