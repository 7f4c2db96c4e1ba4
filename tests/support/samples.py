"""The samples that tests write and expect to read: plain values, the same in every process."""

import numpy as np

# Every dtype that a shard may hold, by the field of "Arrays" that has it.
DTYPES = {
    "f2": "<f2",
    "f4": "<f4",
    "f8": "<f8",
    "i1": "|i1",
    "i2": "<i2",
    "i4": "<i4",
    "i8": "<i8",
    "u1": "|u1",
    "u2": "<u2",
    "u4": "<u4",
    "u8": "<u8",
    "flags": "|b1",
    "waves": "<c16",
}
SHAPES = [(4,), (2, 3), (), (0,), (1, 2, 2)]


def array(dtype, shape, seed):
    numbers = np.random.default_rng(seed).integers(0, 100, size=shape)
    return np.asarray(numbers).astype(dtype)


def scalars(i):
    return {
        "text": ["", "plain", "naïve 数 🚀", "x" * 300, 'quote " and \n newline'][i % 5],
        "number": [0, -1, 2**63 - 1, -(2**63), 2**64 - 1][i % 5],
        "ratio": [0.0, -0.5, 1e300, float("inf"), 3.14][i % 5],
        "flag": i % 2 == 0,
        "raw": bytes(range(i % 7)),
        "tags": ["t"] * (i % 3),
        "table": [[i, i + 1], [], [i]],
        "maybe_text": None if i % 2 else "there",
        "maybe_number": i if i % 3 else None,
    }


def arrays(i):
    return {
        field: array(dtype, SHAPES[(i + place) % len(SHAPES)], i)
        for place, (field, dtype) in enumerate(DTYPES.items())
    }


def maybe_array(i):
    return {"label": i, "maybe": array("<f4", (3,), i) if i % 2 else None}


KINDS = {"Scalars": scalars, "Arrays": arrays, "MaybeArray": maybe_array}


def expected(kind, count):
    return [KINDS[kind](i) for i in range(count)]


def equal(got, wanted):
    """Values alike, arrays by dtype, shape and every element."""
    if isinstance(wanted, np.ndarray):
        return (
            isinstance(got, np.ndarray)
            and got.dtype == wanted.dtype
            and got.shape == wanted.shape
            and got.tobytes() == wanted.tobytes()
        )
    return type(got) is type(wanted) and got == wanted


def check(got, wanted):
    assert len(got) == len(wanted), (len(got), len(wanted))
    for place, (sample, want) in enumerate(zip(got, wanted, strict=True)):
        assert sample.keys() == want.keys(), place
        for field, value in want.items():
            assert equal(sample[field], value), (place, field, sample[field], value)
