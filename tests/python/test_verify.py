#!/usr/bin/env python3
"""Tests that verify.py fails when it should. Each test stores one thing wrongly."""

import json
import math
import os
import unittest
from copy import deepcopy
from datetime import timedelta
from pathlib import Path

import except_all
import psycopg
import verify

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "rfm_cases.jsonl"
TOPICS = ["r", "f", "m"]


def messages(key: bytes | None, offset: int, columns: list[list[float]], **fields) -> list[verify.Message]:
    bodies = [json.dumps({metric: column, **fields}) for metric, column in zip(verify.METRICS, columns)]
    return [verify.Message(0, offset + i, 1000 + i, key, body.encode()) for i, body in enumerate(bodies)]


def stored_as(expected: verify.Expected) -> verify.Stored:
    """What a correct reader stores."""
    batches, rows = [], []
    for id, (place, batch) in enumerate(sorted(expected.batches.items()), start=7):
        batches.append((id, place, deepcopy(batch.columns())))
        rows += [(id, *row) for row in batch.rows()]
    dead = [
        (letter, (key, value, reason, verify.instant(ms))) for letter, (key, value, reason, ms) in expected.dead.items()
    ]
    return verify.Stored(batches, rows, dead, dict(expected.ends or {}))


class Differences(unittest.TestCase):
    def setUp(self) -> None:
        columns = [[float((7 * i + m) % 23) for i in range(20)] for m in range(3)]
        other = [[x * 1.1 + 1.0 for x in column] for column in columns]
        batches = [messages(b"a", 0, columns), messages(b"b", 10, other, customer_id=list(range(20)))]
        batches.append(messages(b"c", 20, [[1.0], [None], [2.0]]))
        topics = [[[batch[metric] for batch in batches]] for metric in range(3)]
        self.expected = verify.expect(topics, TOPICS, verify.Rules(max_customers=1000))
        self.expected.ends = {0: (21, 22, 23)}
        self.stored = stored_as(self.expected)
        self.assertEqual((len(self.expected.batches), self.expected.rows, len(self.expected.dead)), (2, 40, 3))

    def wrong(self, *parts: str) -> None:
        """There is exactly one difference, and it contains all `parts`."""
        [difference] = verify.compare(self.expected, self.stored)
        for part in parts:
            self.assertIn(part, difference)

    def change_row(self, index: int, column: str, value) -> None:
        row = list(self.stored.rows[index])
        row[1 + list(verify.ROW).index(column)] = value(row[1 + list(verify.ROW).index(column)])
        self.stored.rows[index] = tuple(row)

    def test_what_a_right_reader_stores_is_right(self) -> None:
        self.assertEqual(verify.compare(self.expected, self.stored), [])

    def test_a_wrong_score(self) -> None:
        self.change_row(25, "monetary_score", lambda score: score % 5 + 1)
        self.wrong("offsets 10 11 12", "1 rows differ", "monetary_score")

    def test_a_wrong_segment(self) -> None:
        self.change_row(3, "segment", lambda name: name + "s")
        self.wrong("offsets 0 1 2", "segment")

    def test_a_value_off_by_one_ulp(self) -> None:
        self.change_row(3, "frequency", lambda x: math.nextafter(x, math.inf))
        self.wrong("offsets 0 1 2", "frequency")

    def test_a_sum_that_is_not_close(self) -> None:
        sums = self.stored.batches[1][2]["rf_monetary"]
        cell = next(cell for cell, total in enumerate(sums) if total)
        sums[cell] *= 1 + 1e-13
        self.assertEqual(verify.compare(self.expected, self.stored), [])
        sums[cell] *= 1 + 1e-11
        self.wrong("offsets 10 11 12", "rf_monetary")

    def test_a_customer_in_another_cell(self) -> None:
        customers = self.stored.batches[0][2]["rf_customers"]
        cell = next(cell for cell, count in enumerate(customers) if count)
        customers[cell] -= 1
        customers[(cell + 1) % 25] += 1
        self.wrong("offsets 0 1 2", "rf_customers")

    def test_missing_sums(self) -> None:
        self.stored.batches[0][2].update(rf_recency=None, edges_from="quintiles")
        self.wrong("offsets 0 1 2", "rf_recency")

    def test_a_missing_customer_id(self) -> None:
        self.change_row(39, "customer_id", lambda _: None)
        self.wrong("customer_id")

    def test_the_sign_of_zero_is_nothing(self) -> None:
        index = next(i for i, row in enumerate(self.stored.rows) if row[2] == 0.0)
        self.change_row(index, "recency", lambda _: -0.0)
        self.assertEqual(verify.compare(self.expected, self.stored), [])

    def test_a_doubled_row(self) -> None:
        self.stored.rows.insert(4, self.stored.rows[4])
        self.wrong("1 rows more than once, first row_no 4")

    def test_a_missing_row(self) -> None:
        del self.stored.rows[39]
        self.wrong("1 rows missing, first row_no 19")

    def test_a_row_too_many(self) -> None:
        self.stored.rows.append((self.stored.rows[-1][0], 20, *self.stored.rows[-1][2:]))
        self.wrong("21 rows, not 20")

    def test_a_batch_without_rows(self) -> None:
        del self.stored.rows[20:]
        self.wrong("no rows in `segments`")

    def test_a_retracted_batch_has_no_rows(self) -> None:
        [id, *_] = self.stored.batches[0]
        self.stored.retracted = {id}
        self.wrong("although it was retracted")
        self.stored.rows = [row for row in self.stored.rows if row[0] != id]
        self.assertEqual(verify.compare(self.expected, self.stored), [])

    def test_rows_of_no_batch(self) -> None:
        self.stored.orphans = 1
        self.wrong("belong to no row of `batches`")

    def test_a_missing_batch(self) -> None:
        del self.stored.batches[1], self.stored.rows[20:]
        self.wrong("offsets 10 11 12", "not in `batches`")

    def test_a_doubled_batch(self) -> None:
        self.stored.batches.append((9, *self.stored.batches[1][1:]))
        self.stored.rows += [(9, *row[1:]) for row in self.stored.rows[20:]]
        self.wrong("2 times in `batches`")

    def test_a_wrong_pairing(self) -> None:
        [(first, _, a), (second, _, b)] = self.stored.batches
        self.stored.batches = [(first, (0, 0, 11, 2), a), (second, (0, 10, 1, 12), b)]
        differences = "\n".join(verify.compare(self.expected, self.stored))
        for part in ("offsets 0 1 2: not in", "offsets 10 11 12: not in", "offsets 0 11 2: in", "offsets 10 1 12: in"):
            self.assertIn(part, differences)

    def test_an_edge_off_by_one_ulp(self) -> None:
        edges = self.stored.batches[0][2]["frequency_edges"]
        edges[3] = math.nextafter(edges[3], math.inf)
        self.wrong("offsets 0 1 2", "frequency_edges")

    def test_a_wrong_column_of_a_batch(self) -> None:
        for name, value in (
            ("batch_key", "b"),
            ("population", ""),
            ("customers", 19),
            ("ties", "rank"),
            ("segment_map", "x"),
            ("edges_from", "batch:1"),
            ("as_of", self.stored.batches[0][2]["as_of"] + timedelta(milliseconds=1)),
        ):
            with self.subTest(name):
                self.stored = stored_as(self.expected)
                self.stored.batches[0][2][name] = value
                self.wrong(name)

    def test_a_missing_dead_letter(self) -> None:
        self.stored.dead.pop()
        self.wrong("not in `dead_letters` (not_finite)")

    def test_a_dead_letter_too_many(self) -> None:
        self.stored.dead.append((("r", 0, 0), (None, None, "empty", None)))
        self.wrong("nothing is wrong with it")

    def test_a_doubled_dead_letter(self) -> None:
        self.stored.dead.append(self.stored.dead[0])
        self.wrong("2 times in `dead_letters`")

    def test_another_reason_or_other_bytes(self) -> None:
        letter, (key, value, reason, produced_at) = self.stored.dead[0]
        for content, part in (
            ((key, value, "empty", produced_at), "reason empty, not not_finite"),
            ((key, value + b" ", reason, produced_at), "value"),
            ((None, value, reason, produced_at), "key"),
            ((key, value, reason, None), "produced_at"),
        ):
            self.stored.dead[0] = letter, content
            self.wrong(part)

    def test_progress_behind_the_end(self) -> None:
        self.stored.progress[0] = (21, 22, 22)
        self.wrong("partition 0: progress is (21, 22, 22), not (21, 22, 23)")


class Counting(unittest.TestCase):
    """EXCEPT ALL, on temporary tables of the same shape."""

    def setUp(self) -> None:
        # scripts/test sets the address; a test without a server would prove nothing.
        self.database = psycopg.connect(os.environ["RFM_TEST_POSTGRES"])
        self.addCleanup(self.database.close)
        place = {"id": "int8", "consumer_group": "text", **except_all.PLACE}
        for table, columns in (("batches", place), ("segments", {"batch_id": "int8", **verify.ROW})):
            names = ", ".join(f"{name} {kind}" for name, kind in columns.items())
            self.database.execute(f"CREATE TEMP TABLE {table} ({names})")
        self.batches = {(0, 0, 1, 2): verify.score(messages(None, 0, [[1.0, 2.0, 3.0]] * 3), verify.Rules())}
        self.database.execute("INSERT INTO batches VALUES (7, 'g', 0, 0, 1, 2), (8, 'other', 0, 0, 1, 2)")
        for row in self.batches[0, 0, 1, 2].rows():
            marks = ", ".join(["%s"] * (1 + len(row)))
            self.database.execute(f"INSERT INTO segments VALUES ({marks})", [7, *row])
            self.database.execute(f"INSERT INTO segments VALUES ({marks})", [8, *row])

    def counted(self, change: str) -> tuple[int, int, int]:
        self.database.execute(change)
        return except_all.count(self.database, "g", self.batches, verify.ROW)

    def test_right_rows_differ_in_nothing(self) -> None:
        self.assertEqual(self.counted("SELECT 1"), (0, 0, 0))

    def test_a_lost_row(self) -> None:
        self.assertEqual(self.counted("DELETE FROM segments WHERE batch_id = 7 AND row_no = 1"), (1, 0, 0))

    def test_a_doubled_row(self) -> None:
        again = "INSERT INTO segments SELECT * FROM segments WHERE batch_id = 7 AND row_no = 1"
        self.assertEqual(self.counted(again), (0, 1, 0))

    def test_a_wrong_row_is_a_lost_one_too(self) -> None:
        changed = "UPDATE segments SET monetary_score = 9 WHERE batch_id = 7 AND row_no = 1"
        self.assertEqual(self.counted(changed), (1, 0, 1))

    def test_a_row_without_a_batch(self) -> None:
        orphan = "INSERT INTO segments (batch_id, row_no) VALUES (9, 0)"
        self.assertEqual(self.counted(orphan), (0, 0, 1))


class Expectations(unittest.TestCase):
    def test_scores_equal_the_golden_ones(self) -> None:
        for line in GOLDEN.read_text().splitlines():
            case = json.loads(line)
            with self.subTest(case["name"]):
                batch = messages(None, 0, [case[metric] for metric in verify.METRICS])
                if "error" in case:
                    with self.assertRaisesRegex(verify.NotABatch, "^tied_edges$"):
                        verify.score(batch, verify.Rules(case["ties"]))
                    continue
                rows = verify.score(batch, verify.Rules(case["ties"])).rows()
                for name in list(verify.ROW)[1:9]:
                    self.assertEqual([row[list(verify.ROW).index(name)] for row in rows], case[name], name)

    def test_the_segments_are_those_of_pandas(self) -> None:
        rf = verify.pd.Series(list(verify.SEGMENT_OF))
        self.assertEqual(rf.replace(verify.SEGMENTS, regex=True).tolist(), list(verify.SEGMENT_OF.values()))

    def test_keys_pair_first_in_first_out(self) -> None:
        topics = [[verify.Message(0, offset, 0, key, None) for offset, key in enumerate(keys)] for keys in
                  ([b"a", b"b", b"a"], [b"b", b"a", b"a"], [b"a", None, b"b"])]  # fmt: skip
        batches, rest = verify.pair(topics, keyless_pair=False)
        self.assertEqual(sorted([m.offset for m in batch] for batch in batches), [[0, 1, 0], [1, 0, 2]])
        left = sorted((metric, message.offset, reason) for metric, message, reason in rest)
        self.assertEqual(left, [(0, 2, "unpaired"), (1, 2, "unpaired"), (2, 1, "no_key")])

    def test_reasons(self) -> None:
        good = {"recency": [1, 2], "frequency": [1, 2], "monetary": [1, 2]}
        for change, wanted in (
            ({"frequency": None}, "bad_field"),
            ({"frequency": [1, True]}, "bad_field"),
            ({"frequency": [1, None], "recency": []}, "not_finite"),
            ({"frequency": [1, 10**400]}, "not_finite"),
            ({"frequency": [-1.7e308, 1.7e308]}, "not_finite"),
            ({"frequency": [], "recency": [1]}, "empty"),
            ({"frequency": [1, 2, 3]}, "length_mismatch"),
            ({"customer_id": [1]}, "length_mismatch"),
            ({name: [1, 2, 3] for name in good}, "too_large"),
            ({"customer_id": [2**63, 1]}, "bad_customer_id"),
            ({"customer_id": ["\0", 1]}, "bad_customer_id"),
            ({"as_of": "2024-02-03", "population": 1}, "bad_as_of"),
            ({"population": None}, "bad_population"),
            ({"frequency": [1, 1]}, "tied_edges"),
        ):
            with self.subTest(change), self.assertRaises(verify.NotABatch) as caught:
                body = json.dumps({**good, **change}).encode()
                verify.score([verify.Message(0, 0, 0, None, body)] * 3, verify.Rules("reject", max_customers=2))
            self.assertEqual(str(caught.exception), wanted)
        for body in (None, b"", b"\xff", b"[]", b'{"recency": [1, 2]'):
            with self.subTest(body), self.assertRaisesRegex(verify.NotABatch, "malformed"):
                verify.score([verify.Message(0, 0, 0, None, body)] * 3, verify.Rules())

    def test_fixed_edges(self) -> None:
        rules = verify.Rules("reject", edges={"frequency": [1.0, 2.0, 2.0, 9.0]}, edges_from="batch:7")
        # Ties, and a difference that overflows, are no matter where edges are fixed.
        columns = [[1.0, 2.0, 3.0], [-1.7e308, 1.7e308, 2.0], [1.0, 2.0, 3.0]]
        batch = verify.score(messages(None, 0, columns), rules)
        self.assertEqual(batch.scores[1].tolist(), [1, 5, 2])
        self.assertEqual(batch.edges[1], [-1.7e308, 1.0, 2.0, 2.0, 9.0, 1.7e308])
        self.assertEqual(batch.columns()["edges_from"], "batch:7")
        with self.assertRaisesRegex(verify.NotABatch, "^tied_edges$"):
            verify.score(messages(None, 0, [[1.0, 1.0, 1.0]] * 3), rules)

    def test_rules_for_customer_ids(self) -> None:
        for ids, accepted in ((None, 1), (["a", "", "b"], 1), (["a", "a", "b"], 2), (["a", 7, "b"], 3)):
            fields = {"customer_id": ids} if ids else {}
            batch = messages(None, 0, [[1.0, 2.0, 3.0]] * 3, **fields)
            for rule in ("any", "required", "unique")[accepted:]:
                with self.subTest((ids, rule)), self.assertRaisesRegex(verify.NotABatch, "^bad_customer_id$"):
                    verify.score(batch, verify.Rules(customer_ids=rule))
            for rule in ("any", "required", "unique")[:accepted]:
                verify.score(batch, verify.Rules(customer_ids=rule))

    def test_the_optional_fields(self) -> None:
        first, *others = messages(b"\xff", 0, [[1.0, 2.0]] * 3)
        fields = {
            "recency": [1, 2],
            "customer_id": [-0, "é"],
            "as_of": "2024-02-03T04:05:06.5+01:00",
            "population": "x",
        }
        batch = verify.score([first._replace(value=json.dumps(fields).encode()), *others], verify.Rules())
        self.assertEqual((batch.key, batch.customer_ids, batch.population), (r"\xff", ["0", "é"], "x"))
        self.assertEqual(batch.as_of.isoformat(), "2024-02-03T04:05:06.500000+01:00")
        self.assertEqual(verify.score([first, *others], verify.Rules()).as_of, verify.instant(1000))


if __name__ == "__main__":
    unittest.main()
