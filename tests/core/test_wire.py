"""The codec: what goes in comes out, what is malformed is refused, and the chain is a plain SHA-256."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np
import pytest
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as nps

from vfl.errors import WireError
from vfl.types import Envelope, Kind, Pool, Step
from vfl.wire import (
    HOPS_KEY,
    STEP_KEY,
    body_bytes,
    chain,
    decode,
    encode,
    header,
    mail,
    merge,
    parse_header,
    read_step,
    step_record,
)

DTYPES = [np.float32, np.float64, np.int64, np.uint8]
SHAPES = st.tuples(st.integers(0, 7), st.integers(1, 5))
LABELS = st.text(st.characters(blacklist_characters="/", blacklist_categories=["Cs"]), min_size=1, max_size=8)


def envelope(body: torch.Tensor, rows: torch.Tensor | None = None, **changed) -> Envelope:
    rows = torch.arange(len(body)) * 3 if rows is None else rows
    return replace(Envelope(5, Kind.GRADIENT, "advertiser", "publisher_1", rows, body), **changed)


def bodies(dtype):
    finite = {"allow_nan": False, "allow_infinity": False} if np.issubdtype(dtype, np.floating) else {}
    return nps.arrays(dtype, SHAPES, elements=nps.from_dtype(np.dtype(dtype), **finite)).map(torch.from_numpy)


def small(limit: float):
    return nps.arrays(np.float32, SHAPES, elements=st.floats(-limit, limit, width=32)).map(torch.from_numpy)


@settings(deadline=None)
@given(
    st.sampled_from(DTYPES).flatmap(bodies),
    st.integers(0, 10**18 - 1),
    st.sampled_from(Kind),
    LABELS,
    LABELS,
    st.booleans(),
)
def test_raw_is_bit_exact(body, step, kind, src, dst, bare):
    rows = torch.empty(0, dtype=torch.int64) if bare else torch.arange(len(body)).flip(0)
    sent = Envelope(step, kind, src, dst, rows, body)
    key, record = encode(sent, "raw")
    got = decode(key, record)
    assert (got.step, got.kind, got.src, got.dst) == (step, kind, src, dst)
    assert torch.equal(got.rows, rows)
    assert got.body.dtype == body.dtype
    assert got.body.shape == body.shape
    assert got.body.numpy().tobytes() == body.numpy().tobytes()
    assert body_bytes(record) == 4 * len(rows) + body.numel() * body.element_size()


@settings(deadline=None)
@given(small(65504))
def test_f16_rounds_as_half_precision_does(body):
    key, record = encode(envelope(body), "f16")
    got = decode(key, record).body
    assert got.dtype == torch.float32
    assert torch.equal(got, torch.from_numpy(body.numpy().astype(np.float16).astype(np.float32)))
    assert ((got - body).abs() <= 2**-11 * body.abs() + 2**-25).all()
    assert len(record["body"].data) == 2 * body.numel()


@settings(deadline=None)
@given(small(2.0**120))
def test_int8_is_within_half_a_step(body):
    key, record = encode(envelope(body), "int8")
    got = decode(key, record).body.double()
    step = max(body.abs().max().item() if body.numel() else 0.0, 1e-30) / 127
    assert ((got - body.double()).abs() <= step * (0.5 + 1e-4)).all()
    assert len(record["body"].data) == body.numel() + 4


@pytest.mark.parametrize("codec", ["f16", "int8"])
@pytest.mark.parametrize("dtype", [np.int64, np.float64, np.uint8])
def test_lossy_codecs_touch_only_float32(codec, dtype):
    body = torch.from_numpy(np.arange(12).reshape(4, 3).astype(dtype))
    key, record = encode(envelope(body), codec)
    assert record == encode(envelope(body), "raw")[1]
    assert torch.equal(decode(key, record).body, body)


@pytest.mark.parametrize("codec", ["raw", "f16", "int8"])
def test_zero_rows_travel(codec):
    got = decode(*encode(envelope(torch.empty(0, 3)), codec))
    assert got.body.shape == (0, 3)
    assert got.rows.shape == (0,)


def test_strides_and_graphs_do_not_matter():
    body = torch.randn(3, 4, requires_grad=True)
    turned = (body * 2).T
    assert torch.equal(decode(*encode(envelope(turned), "raw")).body, turned.detach())


@pytest.mark.parametrize("codec", ["raw", "f16", "int8"])
def test_what_is_sent_shares_no_memory_with_either_side(codec):
    body, rows = torch.ones(3, 2), torch.arange(3)
    key, record = encode(envelope(body, rows), codec)
    kept = record["body"].data
    body.fill_(7)
    rows.fill_(9)
    got = decode(key, record)
    assert torch.equal(got.body, torch.ones(3, 2))
    assert torch.equal(got.rows, torch.arange(3))
    assert not got.body.requires_grad
    got.body.fill_(8)
    got.rows.fill_(8)
    assert record["body"].data == kept
    assert torch.equal(decode(key, record).body, torch.ones(3, 2))


def test_other_dtypes_are_refused_where_they_are_sent():
    for dtype in (torch.float16, torch.bfloat16, torch.bool, torch.int32, torch.complex64):
        with pytest.raises(WireError, match="cannot send a body of"):
            encode(envelope(torch.zeros(2, 2, dtype=dtype)), "raw")


KEY = "gradient/advertiser/publisher_1/5"
GOOD_ROWS = {"dtype": "<i4", "shape": (2,), "stype": "vfl.raw.v1", "data": b"\0" * 8}
GOOD_BODY = {"dtype": "<f4", "shape": (2, 3), "stype": "vfl.raw.v1", "data": b"\0" * 24}
HUGE = 2**32
NAN, INF = np.float32("nan").tobytes(), np.float32("inf").tobytes()
F16, INT8 = {"stype": "vfl.f16.v1"}, {"stype": "vfl.int8.v1"}


def record(rows=None, body=None) -> ArrayRecord:
    return ArrayRecord({"rows": Array(**{**GOOD_ROWS, **(rows or {})}), "body": Array(**{**GOOD_BODY, **(body or {})})})


def test_the_record_that_the_refusals_below_change_is_good():
    assert decode(KEY, record()).body.shape == (2, 3)
    assert decode(KEY, record(body={**F16, "data": b"\0" * 12})).body.shape == (2, 3)
    assert decode(KEY, record(body={**INT8, "data": b"\0" * 10})).body.shape == (2, 3)


@pytest.mark.parametrize(
    "rows",
    [
        {"dtype": "<i8"},
        {"dtype": "<f4"},
        {"stype": "vfl.int8.v1"},
        {"stype": "numpy.ndarray"},
        {"shape": (2, 1)},
        {"shape": ()},
        {"shape": (3,)},
        {"shape": (1,)},
        {"shape": (-2,)},
        {"shape": (0,)},
        {"data": b""},
        {"data": b"\0" * 7},
        {"shape": (3,), "data": b"\0" * 12},
        {"shape": (1,), "data": b"\0" * 4},
        {"data": b"\xff" * 8},
    ],
)
def test_malformed_rows_are_refused(rows):
    with pytest.raises(WireError):
        decode(KEY, record(rows))


@pytest.mark.parametrize(
    "body",
    [
        {"stype": "vfl.raw.v2"},
        {"stype": "vfl.aead.v2/0/1"},
        {"stype": "numpy.ndarray"},
        {"dtype": ">f4"},
        {"dtype": "<f2"},
        {"dtype": "object"},
        {"dtype": ""},
        {"dtype": "<f8"},
        {"data": b"\0" * 23},
        {"data": b"\0" * 25},
        {"data": b""},
        {"shape": (6,)},
        {"shape": (2, 3, 1)},
        {"shape": ()},
        {"shape": (3, 2)},
        {"shape": (-2, -3)},
        {"shape": (2, -3)},
        {"shape": (HUGE, HUGE), "data": b""},
        {"shape": (2, 2**63), "data": b""},
        {"shape": (2**70, 0), "data": b""},
        {"data": NAN + b"\0" * 20},
        {"data": b"\0" * 20 + INF},
        {"data": INF + np.float32("-inf").tobytes() + b"\0" * 16},
        {**F16, "data": b"\0" * 24},
        {**F16, "dtype": "<i8", "data": b"\0" * 12},
        {**F16, "dtype": "junk", "data": b"\0" * 12},
        {**F16, "data": np.float16("inf").tobytes() * 6},
        {**INT8, "data": b"\0" * 6},
        {**INT8, "dtype": "|u1", "data": b"\0" * 10},
        {**INT8, "data": NAN + b"\1" * 6},
        {**INT8, "data": INF + b"\0" * 6},
        {**INT8, "data": np.float32(3.4e38).tobytes() + b"\x80" * 6},
    ],
)
def test_malformed_bodies_are_refused(body):
    with pytest.raises(WireError):
        decode(KEY, record(body=body))


@pytest.mark.parametrize(
    "key",
    [
        "",
        "gradient",
        "gradient/a/b",
        "gradient/a/b/5/6",
        "gradients/a/b/5",
        "GRADIENT/a/b/5",
        "gradient//b/5",
        "gradient/a//5",
        "gradient/a/b/",
        "gradient/a/b/-5",
        "gradient/a/b/+5",
        "gradient/a/b/5.0",
        "gradient/a/b/05",
        "gradient/a/b/ 5",
        "gradient/a/b/5\n",
        "gradient/a/b/\u0665",
        "gradient/a/b/" + "9" * 5000,
        "step",
    ],
)
def test_bad_headers_are_refused_wherever_they_are_read(key):
    with pytest.raises(WireError, match="allowed KIND/SRC/DST/STEP"):
        parse_header(key)
    with pytest.raises(WireError):
        decode(key, record())
    with pytest.raises(WireError):
        mail(RecordDict({key: record()}), "publisher_1")


@pytest.mark.parametrize("names", [(), ("rows",), ("body",), ("rows", "body", "labels"), ("rows", "Body")])
def test_foreign_arrays_are_refused(names):
    arrays = {name: Array(**(GOOD_ROWS if name == "rows" else GOOD_BODY)) for name in names}
    with pytest.raises(WireError, match="allowed exactly body and rows"):
        decode(KEY, ArrayRecord(arrays))


ARRAYS = st.builds(
    Array,
    dtype=st.sampled_from(["<f4", "<f8", "<i8", "|u1", "<i4", "<f2", "O", "float32", ""]),
    shape=st.lists(st.one_of(st.integers(-2, 4), st.integers(0, 2**64)), max_size=3).map(tuple),
    stype=st.sampled_from(["vfl.raw.v1", "vfl.f16.v1", "vfl.int8.v1", "vfl.aead.v2/0/1", "numpy.ndarray", ""]),
    data=st.binary(max_size=40),
)
FUZZED = st.fixed_dictionaries({}, optional=dict.fromkeys(("rows", "body", "other"), ARRAYS)).map(ArrayRecord)


@settings(max_examples=400, deadline=None)
@given(st.one_of(st.just(KEY), st.text(max_size=30)), FUZZED)
def test_decode_of_anything_gives_an_envelope_or_a_wire_error(key, fuzzed):
    try:
        got = decode(key, fuzzed)
    except WireError:
        return
    assert got.body.ndim == 2
    assert len(got.rows) in (0, len(got.body))


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_decode_of_nearly_good_records_is_sane(data):
    """Shapes and sizes that mostly fit, bytes that are anything: what is let through is finite and of its shape."""
    stype, dtype, size = data.draw(
        st.sampled_from(
            [("raw", "<f4", 4), ("raw", "<f8", 8), ("raw", "<i8", 8), ("f16", "<f4", 2), ("int8", "<f4", 1)]
        )
    )
    shape = data.draw(SHAPES)
    extra = 4 if stype == "int8" else 0
    count = shape[0] * shape[1] * size + extra
    fuzzed = record(
        {"shape": (shape[0],), "data": data.draw(st.binary(min_size=4 * shape[0], max_size=4 * shape[0]))},
        {
            "shape": shape,
            "dtype": dtype,
            "stype": f"vfl.{stype}.v1",
            "data": data.draw(st.binary(min_size=count, max_size=count)),
        },
    )
    try:
        got = decode(KEY, fuzzed)
    except WireError:
        return
    assert got.body.shape == shape
    assert torch.isfinite(got.body.double()).all()
    assert len(got.rows) == 0 or got.rows.min() >= 0


def test_half_precision_overflow_is_refused_where_it_arrives():
    key, sent = encode(envelope(torch.tensor([[65504.0, 65520.0]])), "f16")
    with pytest.raises(WireError, match="not finite"):
        decode(key, sent)


def test_large_values_whose_sum_is_not_finite_are_let_through():
    body = torch.full((2, 3), 3e38)
    assert torch.equal(decode(*encode(envelope(body), "raw")).body, body)


def independent(previous: bytes, key: str, sent: ArrayRecord) -> bytes:
    """The chain's definition, from the record's fields alone."""
    rows, body = sent["rows"], sent["body"]
    shape = f"({body.shape[0]}, {body.shape[1]})"
    text = f"{key}|({rows.shape[0]},)|{body.dtype}|{shape}|{body.stype}"
    return hashlib.sha256(previous + text.encode() + rows.data + body.data).digest()


@settings(deadline=None)
@given(st.sampled_from(["raw", "f16", "int8"]), st.lists(small(9), max_size=3))
def test_chain_equals_plain_sha256(codec, sent):
    ours = theirs = b""
    for step, body in enumerate(sent):
        key, encoded = encode(envelope(body, step=step), codec)
        ours, theirs = chain(ours, key, encoded), independent(theirs, key, encoded)
    assert ours == theirs


def test_chain_changes_with_every_bit():
    key, sent = encode(envelope(torch.randn(2, 3)), "raw")
    links = {
        chain(b"", key, sent),
        chain(b"\0", key, sent),
        chain(b"", key, encode(envelope(torch.ones(2, 3)), "f16")[1]),
    }
    changed = [*(key.replace(part, f"{part}x") for part in key.split("/")), key.replace("/5", "/6")]
    links |= {chain(b"", other, sent) for other in changed}
    links.add(chain(b"", key, record(body={"shape": (3, 2), "data": sent["body"].data})))
    links.add(chain(b"", key, record(body={"dtype": "<i8", "data": sent["body"].data})))
    flips = 0
    for part in ("rows", "body"):
        for bit in range(8 * len(sent[part].data)):
            data = bytearray(sent[part].data)
            data[bit // 8] ^= 1 << bit % 8
            arrays = {**sent, part: replaced(sent[part], bytes(data))}
            links.add(chain(b"", key, ArrayRecord(arrays)))
            flips += 1
    assert len(links) == 3 + len(changed) + 2 + flips


def replaced(array: Array, data: bytes) -> Array:
    return Array(dtype=array.dtype, shape=array.shape, stype=array.stype, data=data)


STEPS = st.builds(
    Step,
    index=st.integers(0, 10**9),
    phase=st.sampled_from(["train", "align", "valid"]),
    pool=st.sampled_from(Pool),
    epoch=st.integers(0, 100),
    start=st.integers(0, 10**9),
    size=st.integers(0, 10**6),
    shuffle=st.booleans(),
)


@settings(deadline=None)
@given(STEPS, st.lists(st.sampled_from(["forward", "own", "fuse"]), unique=True).map(tuple))
def test_step_headers_round_trip(step, hops):
    assert read_step(merge(step_record(step, hops), [])) == (step, hops)


GOOD_STEP = "7|train|train|0|0|64|1|500"


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {STEP_KEY: GOOD_STEP},
        {HOPS_KEY: "own"},
        {STEP_KEY: "", HOPS_KEY: ""},
        {STEP_KEY: f"{GOOD_STEP}|0", HOPS_KEY: ""},
        {STEP_KEY: GOOD_STEP.rpartition("|")[0], HOPS_KEY: ""},
        *(
            {STEP_KEY: GOOD_STEP.replace(was, now, 1), HOPS_KEY: ""}
            for was, now in [("7", "x"), ("7", "-7"), ("7", "7.5")]
        ),
        {STEP_KEY: "7|train|trial|0|0|64|1|500", HOPS_KEY: ""},
        {STEP_KEY: "7|train|train|-1|0|64|1|500", HOPS_KEY: ""},
        {STEP_KEY: "7|train|train|0|-64|64|1|500", HOPS_KEY: ""},
        {STEP_KEY: "7|train|train|0|0|-1|1|500", HOPS_KEY: ""},
        {STEP_KEY: "7|train|train|0|0|64|yes|500", HOPS_KEY: ""},
        {STEP_KEY: "7|train|train|0|0|64|1|-5", HOPS_KEY: ""},
        {STEP_KEY: "9" * 5000 + "|train|train|0|0|64|1|500", HOPS_KEY: ""},
        {STEP_KEY: 7, HOPS_KEY: ""},
        {STEP_KEY: [7, 8], HOPS_KEY: ""},
    ],
)
def test_bad_step_headers_are_refused(fields):
    with pytest.raises(WireError, match="no valid step header"):
        read_step(RecordDict({STEP_KEY: ConfigRecord(fields)}))


def test_the_step_header_that_the_refusals_change_is_good():
    content = RecordDict({STEP_KEY: ConfigRecord({STEP_KEY: GOOD_STEP, HOPS_KEY: "own|fuse"})})
    assert read_step(content) == (Step(7, "train", Pool.TRAIN, 0, 0, 64, shuffle=True, of=500), ("own", "fuse"))


def test_a_message_without_a_step_header_is_refused():
    with pytest.raises(WireError, match="no valid step header"):
        read_step(RecordDict())


def test_mail_is_sorted_by_addressee():
    keys = [header(Kind.GRADIENT, "advertiser", party, 5) for party in ("publisher_1", "publisher_2", "publisher_11")]
    content = merge(step_record(Step(5, "train", Pool.TRAIN)), [(key, record()) for key in keys])
    assert list(mail(content)) == keys
    assert list(mail(content, "publisher_1")) == keys[:1]
    assert list(mail(content, "advertiser")) == []
