"""identity, identity_fp32, identity_bytes, identity_int8: what comes in goes out.

Not trained. They let tests check that every tensor type travels unharmed.
"""

import numpy as np

from common import DATATYPES, Graph, save, write_card, write_examples

SINGLE = {
    "identity_fp32": ("FP32", "input", "output"),
    "identity_bytes": ("BYTES", "text_input", "text_output"),
    "identity_int8": ("INT8", "input", "output"),
}


def values(datatype):
    """Two rows of values that careless conversions would damage."""
    dtype = DATATYPES[datatype][1]
    if datatype == "BOOL":
        rows = [[True, False], [False, False]]
    elif datatype == "BF16":  # bits: 1.0, -2.5, infinity, smallest subnormal
        rows = [[0x3F80, 0xC020], [0x7F80, 0x0001]]
    elif datatype == "BYTES":
        rows = [["", "naïve ☃ 𝄞", "two\nlines\t"], ["a" * 300, "\"quoted\" \\", " "]]
    elif np.issubdtype(dtype, np.integer):
        low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
        rows = [[low, high, 0], [1, high - 1, low + 1]]
    else:
        limits = np.finfo(dtype)
        rows = [[-0.0, limits.max, 0.1], [np.inf, limits.smallest_subnormal, -1.5]]
    return np.array(rows, dtype)


def main():
    graph = Graph("identity")
    for datatype in DATATYPES:
        low = datatype.lower()
        shape = ["batch", f"n_{low}"]
        x, y = graph.input(f"in_{low}", datatype, shape), graph.output(f"out_{low}", datatype, shape)
        graph.op("Identity", x, out=y)
    path = save(graph.model("Returns each input unchanged."), "identity")
    # Binary, because JSON has no FP16, BF16 or infinity.
    feeds = {f"in_{datatype.lower()}": values(datatype) for datatype in DATATYPES}
    one = {name: array[:1, :1] for name, array in feeds.items()}
    write_examples(path, {"two rows of every type": feeds, "one value of every type": one}, tolerance=0, binary=True)
    table = "\n".join(f"| `in_{d.lower()}` | `out_{d.lower()}` | {d} |" for d in DATATYPES)
    write_card(
        "identity",
        f"""
# identity

**Task.** A test fixture: returns each input unchanged, for every tensor type of
the Open Inference Protocol. Not trained, no data, nothing to measure.
Script: `models/_train/identity.py`.

**Inputs and outputs.** All inputs are required. Every shape is `[-1, -1]`: the
first dimension is the batch and the same for all, the second is free for each.

| input | output | type |
|---|---|---|
{table}

**Examples.** The cases in `examples.json` are marked `"binary": true`: each
tensor holds, under `data_base64`, its binary encoding of the protocol (raw
little-endian values; BYTES elements with a four-byte length in front), because
JSON can carry neither FP16, BF16 nor infinity.

**Limits.** Strings are UTF-8 text in the examples.
""",
    )

    for name, (datatype, x, y) in SINGLE.items():
        graph = Graph(name)
        graph.input(x, datatype, ["batch", "n"])
        graph.op("Identity", x, out=graph.output(y, datatype, ["batch", "n"]))
        path = save(graph.model("Returns its input unchanged."), name)
        array = values(datatype)
        if datatype == "FP32":  # no infinity in JSON
            array = np.array([[-0.0, 0.1, 16777216], [3.4028235e38, 1e-45, -1.5]], np.float32)
        write_examples(path, {"one value": {x: array[:1, 1:2]}, "two rows": {x: array}}, tolerance=0)
        write_card(
            name,
            f"""
# {name}

**Task.** A test fixture: returns its input unchanged. Not trained, no data,
nothing to measure. Script: `models/_train/identity.py`.

**Input.** `{x}` {datatype} `[-1, -1]`.

**Output.** `{y}` {datatype}, of the input's shape.

**Limits.** None beyond the type.
""",
        )


if __name__ == "__main__":
    main()
