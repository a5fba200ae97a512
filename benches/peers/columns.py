"""Quintiles of columns, and the rows of `segments` in the format of Postgres's binary COPY.

The edges and codes equal those of pandas' `qcut`, bit for bit. A row is a record of a numpy dtype with big-endian
fields. Segment names differ in length, so each segment has its own dtype, and its rows are written together.
"""

import numpy as np

HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
TRAILER = b"\xff\xff"
# As in pandas 3: numpy's linspace, with 0.6 moved up by one ulp.
QUANTILES = (0.2, 0.4, 0.6000000000000002, 0.8)
GRID = (
    ("hibernating", "hibernating", "at_risk", "at_risk", "cant_lose"),
    ("hibernating", "hibernating", "at_risk", "at_risk", "cant_lose"),
    ("about_to_sleep", "about_to_sleep", "need_attention", "loyal_customers", "loyal_customers"),
    ("promising", "potential_loyalists", "potential_loyalists", "loyal_customers", "loyal_customers"),
    ("new_customers", "potential_loyalists", "potential_loyalists", "champions", "champions"),
)
NAMES = sorted({name for row in GRID for name in row})
# By recency score - 1 and frequency score - 1: the index in NAMES.
SEGMENT_OF = np.array([[NAMES.index(name) for name in row] for row in GRID], np.uint8)


def edges(column: np.ndarray) -> list[float]:
    """Minimum, four inner edges, maximum."""
    last = len(column) - 1
    places = [last * q for q in QUANTILES]
    ranks = sorted({0, last, *(min(int(place) + step, last) for place in places for step in (0, 1))})
    ordered = np.partition(column, ranks)
    inner = [between(ordered[int(p)], ordered[min(int(p) + 1, last)], p - int(p)) for p in places]
    return [float(ordered[0]), *inner, float(ordered[last])]


def between(a: float, b: float, t: float) -> float:
    return float(b - (b - a) * (1 - t) if t >= 0.5 else a + (b - a) * t)


def codes(column: np.ndarray, cut: list[float]) -> np.ndarray:
    """How many inner edges are below each value."""
    below = [(column > edge).view(np.uint8) for edge in cut[1:5]]
    return below[0] + below[1] + below[2] + below[3]


def record(name: str) -> np.dtype:
    fields = [("fields", ">i2")]
    for column, kind in (("batch_id", ">i8"), ("recency", ">f8"), ("frequency", ">f8"), ("monetary", ">f8")):
        fields += [(f"{column}_length", ">i4"), (column, kind)]
    fields += [("row_no_length", ">i4"), ("row_no", ">i4")]
    for score in ("recency_score", "frequency_score", "monetary_score"):
        fields += [(f"{score}_length", ">i4"), (score, ">i2")]
    fields += [("rf_length", ">i4"), ("rf_recency", "u1"), ("rf_frequency", "u1")]
    fields += [("segment_length", ">i4"), ("segment", f"S{len(name)}"), ("customer_id_length", ">i4")]
    return np.dtype(fields)


def blank(name: str) -> np.ndarray:
    """A record with the fields that all rows of a segment share."""
    row = np.zeros((), record(name))
    row["fields"], row["rf_length"], row["row_no_length"], row["customer_id_length"] = 11, 2, 4, -1
    for column in ("batch_id", "recency", "frequency", "monetary"):
        row[f"{column}_length"] = 8
    for score in ("recency_score", "frequency_score", "monetary_score"):
        row[f"{score}_length"] = 2
    row["segment_length"], row["segment"] = len(name), name.encode()
    return row


BLANKS = [blank(name) for name in NAMES]


def encode(ids: np.ndarray, row_numbers: np.ndarray, values: list[np.ndarray], scores: list[np.ndarray]) -> list[bytes]:
    """The rows of many batches, segment by segment."""
    recency, frequency, monetary = scores
    segment_of = SEGMENT_OF[recency - 1, frequency - 1]
    chunks = []
    for number, empty in enumerate(BLANKS):
        here = np.flatnonzero(segment_of == number)
        rows = np.full(len(here), empty)
        rows["batch_id"], rows["row_no"] = ids[here], row_numbers[here]
        for name, column in zip(("recency", "frequency", "monetary"), values):
            rows[name] = column[here]
        for name, column in zip(("recency_score", "frequency_score", "monetary_score"), scores):
            rows[name] = column[here]
        rows["rf_recency"], rows["rf_frequency"] = recency[here] + 48, frequency[here] + 48
        chunks.append(rows.tobytes())
    return chunks
