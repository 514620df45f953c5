"""Stateful models over sequences, and generative ones over streams."""

import itertools
import queue
import random
import unittest

import numpy as np
from clients import Protocol, fp32, refused, same

MODEL = "nextchar"
ids = itertools.count(random.randrange(1 << 40, 1 << 41))


def char(text):
    return np.array([[text.encode()]], np.object_)


class Stepper:
    """Steps a sequence over one of three ways to send requests."""

    def __init__(self, way):
        self.protocol = Protocol("http" if way == "http" else "grpc")
        self.client = self.protocol.connect()
        self.streams = way == "stream"
        self.done = queue.Queue()
        if self.streams:
            self.client.start_stream(lambda result, error: self.done.put((result, error)))

    def step(self, text, sequence, start=False, end=False):
        inputs = [self.protocol.input("char", char(text))]
        how = {"sequence_id": sequence, "sequence_start": start, "sequence_end": end}
        if not self.streams:
            result = self.client.infer(MODEL, inputs, **how)
        else:
            self.client.async_stream_infer(MODEL, inputs, **how)
            result, error = self.done.get(timeout=30)
            if error is not None:
                raise error
        return result.as_numpy("probabilities")

    def walk(self, text, sequence):
        """Steps through a text and returns what came of each character."""
        last = len(text) - 1
        return [self.step(c, sequence, i == 0, i == last) for i, c in enumerate(text)]

    def close(self):
        if self.streams:
            self.client.stop_stream()
        self.client.close()


class Sequences(unittest.TestCase):
    def stepper(self, way):
        s = Stepper(way)
        self.addCleanup(s.close)
        return s

    def test_every_way_carries_the_state(self):
        answers = {way: self.stepper(way).walk("the cat", next(ids)) for way in ("http", "grpc", "stream")}
        for way, got in answers.items():
            for one, other in zip(got, answers["http"]):
                np.testing.assert_allclose(one, other, atol=1e-5, err_msg=way)
        # The same character is another thing behind another text.
        first, second = answers["http"][0], answers["http"][6]
        self.assertGreater(float(np.abs(first - second).max()), 1e-3)

    def test_ids_may_be_texts(self):
        for way in ("http", "grpc", "stream"):
            s = self.stepper(way)
            want = s.walk("abc", next(ids))
            got = s.walk("abc", f"session/{next(ids)} ü")
            for one, other in zip(got, want):
                np.testing.assert_allclose(one, other, atol=1e-5, err_msg=way)

    def test_sequences_do_not_mix(self):
        texts = ["hello world", "what is it?", "zzzzzzzzzzz"]
        for way in ("http", "grpc", "stream"):
            s = self.stepper(way)
            alone = [s.walk(text, next(ids)) for text in texts]
            names = [next(ids) for _ in texts]
            for i in range(len(texts[0])):
                for text, name, want in zip(texts, names, alone):
                    got = s.step(text[i], name, i == 0, i == len(text) - 1)
                    np.testing.assert_allclose(got, want[i], atol=1e-5, err_msg=way)

    def test_a_sequence_crosses_the_protocols(self):
        http, grpc = self.stepper("http"), self.stepper("grpc")
        want = http.walk("abcd", next(ids))
        sequence = next(ids)
        got = [http.step("a", sequence, start=True), grpc.step("b", sequence), http.step("c", sequence), grpc.step("d", sequence, end=True)]
        for one, other in zip(got, want):
            np.testing.assert_allclose(one, other, atol=1e-5)

    def test_start_begins_anew(self):
        s = self.stepper("grpc")
        sequence = next(ids)
        first = s.step("a", sequence, start=True)
        s.step("b", sequence)
        same(self, s.step("a", sequence, start=True, end=True), first)

    def test_unknown_sequences_are_refused(self):
        for way in ("http", "grpc"):
            s = self.stepper(way)
            refused(self, s.protocol, "invalid", ["must specify the START flag"], s.step, "a", next(ids))
            ended = next(ids)
            s.walk("ab", ended)
            refused(self, s.protocol, "invalid", ["must specify the START flag"], s.step, "c", ended)

    def test_a_failed_step_changes_nothing(self):
        s = self.stepper("http")
        want = s.walk("abc", next(ids))
        sequence = next(ids)
        s.step("a", sequence, start=True)
        wrong = [s.protocol.input("char", fp32([1]))]
        refused(self, s.protocol, "invalid", ["char"], s.client.infer, MODEL, wrong, sequence_id=sequence)
        s.step("b", sequence)
        np.testing.assert_allclose(s.step("c", sequence, end=True), want[2], atol=1e-5)


class Generation(unittest.TestCase):
    """A generative model answers a request on a stream with many responses."""

    def generate(self, **parameters):
        protocol, done = Protocol("grpc"), queue.Queue()
        client = protocol.connect()
        self.addCleanup(client.close)
        client.start_stream(lambda result, error: done.put((result, error)))
        self.addCleanup(client.stop_stream)
        inputs = [
            protocol.input("text", np.array([[b"T", b"h", b"e", b" "]], np.object_)),
            protocol.input("temperature", fp32([0.5])),
            protocol.input("seed", np.array([[1]], np.int64)),
        ]
        client.async_stream_infer("writer", inputs, request_id="g", enable_empty_final_response=True, parameters=parameters)
        texts = []
        while True:
            result, error = done.get(timeout=30)
            self.assertIsNone(error)
            response = result.get_response()
            self.assertEqual(response.id, "g")
            if response.outputs:
                texts.append(result.as_numpy("next")[0, 0])
            if response.parameters["triton_final_response"].bool_param:
                return texts

    def test_steps_come_one_by_one_and_the_last_is_marked(self):
        short, long = self.generate(max_steps=3), self.generate(max_steps=12)
        self.assertEqual(len(short), 3)
        self.assertGreater(len(long), 3)
        self.assertEqual(long[:3], short, "the same seed writes the same text")
