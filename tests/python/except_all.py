"""Lets Postgres compare the rows of `segments` with the expected ones: EXCEPT ALL, in both directions.

This is a second comparison, besides the one in verify.py. It uses no order and no batch ids, and it counts.
"""

import psycopg

PLACE = {"partition": "int4", "recency_offset": "int8", "frequency_offset": "int8", "monetary_offset": "int8"}


def count(database: psycopg.Connection, group: str, batches: dict, columns: dict[str, str]) -> tuple[int, int, int]:
    """Rows lost, doubled and wrong. `batches` are keyed by place; each has rows() in the order of `columns` (name: type)."""
    types = {**PLACE, **columns}
    with database.cursor() as cursor:
        cursor.execute("SET LOCAL work_mem = '64MB'")
        cursor.execute(f"CREATE TEMP TABLE expected ({', '.join(f'{name} {kind}' for name, kind in types.items())})")
        with cursor.copy("COPY expected FROM STDIN (FORMAT BINARY)") as copy:
            copy.set_types(list(types.values()))
            for place, batch in batches.items():
                for row in batch.rows():
                    copy.write_row((*place, *row))
        # A row without a batch belongs to no group, so it counts for every group.
        cursor.execute(
            f"""CREATE TEMP TABLE stored AS SELECT {", ".join(types)}
                FROM segments LEFT JOIN batches ON id = batch_id WHERE consumer_group = %s OR id IS NULL""",
            [group],
        )
        cursor.execute("CREATE TEMP TABLE surplus AS (TABLE stored EXCEPT ALL TABLE expected)")
        [lost] = cursor.execute("SELECT count(*) FROM (TABLE expected EXCEPT ALL TABLE stored) AS lost").fetchone()
        [surplus] = cursor.execute("SELECT count(*) FROM surplus").fetchone()
        [doubled] = cursor.execute(
            f"""SELECT count(*) FROM surplus AS s JOIN expected AS e USING ({", ".join(PLACE)}, row_no)
                WHERE s IS NOT DISTINCT FROM e"""
        ).fetchone()
    return lost, doubled, surplus - doubled
