-- What people look at: sums per cell of the RF grid in `batches`, the segments of each map, and views and functions that
-- read them. They are in the schema of the tables and belong to their owner.
--
-- One statement, so that it is done whole or not at all however it is executed.
DO $migration$
DECLARE
    home  text := (SELECT quote_ident(nspname) FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
                   WHERE c.oid = 'batches'::regclass);
    owner text := (SELECT quote_ident(pg_get_userbyid(relowner)) FROM pg_class WHERE oid = 'batches'::regclass);
    of_maps  text := 'the segment of each of the 25 RF scores, for every segment map in batches.segment_map';
    of_moves text := 'how many customers went from which segment to which, between two batches, by customer_id. A null'
        ' from_segment: was not there; a null to_segment: is gone. Equal ids in a batch are told apart by their order of row_no.'
        ' An error if rows are gone or have no ids';
    taken text;
    place text;
    one   record;
BEGIN
    -- What users have under the names that are made below. What is left of ours is used again: whoever drops the tables to
    -- start over may leave it.
    SELECT string_agg(what, ', ') INTO taken FROM (
        SELECT pg_describe_object('pg_class'::regclass, oid, 0) AS what FROM pg_class
        WHERE relnamespace = home::regnamespace AND relname IN ('segment_maps', 'segment_maps_pkey',
            'batches_snapshots', 'snapshots', 'latest_snapshots', 'segment_summary', 'customer_segments')
            AND NOT (relname IN ('segment_maps', 'segment_maps_pkey') AND coalesce(
                obj_description(to_regclass(format('%s.segment_maps', home)), 'pg_class') = of_maps, false))
        UNION ALL
        SELECT pg_describe_object('pg_type'::regclass, oid, 0) FROM pg_type
        WHERE typnamespace = home::regnamespace AND typrelid = 0
            AND typname IN ('segment_maps', 'snapshots', 'latest_snapshots', 'segment_summary', 'customer_segments')
        UNION ALL
        SELECT pg_describe_object('pg_proc'::regclass, oid, 0) FROM pg_proc
        WHERE pronamespace = home::regnamespace AND (proname, proargtypes::regtype[]::text) IN (
            ('segment_moves', '[0:1]={bigint,bigint}'), ('customer_history', '[0:0]={text}'))
            AND obj_description(oid, 'pg_proc') IS DISTINCT FROM of_moves
        UNION ALL
        SELECT format('column %s of table batches', attname) FROM pg_attribute
        WHERE attrelid = 'batches'::regclass AND NOT attisdropped AND attname IN ('rf_customers', 'rf_recency',
            'rf_frequency', 'rf_monetary', 'edges_from', 'fixed_metrics')
    ) AS objects;
    IF taken IS NOT NULL THEN
        -- The reader knows these words: see `postgres/tables.rs`.
        RAISE EXCEPTION USING ERRCODE = 'duplicate_object', MESSAGE = format('names that are taken: %s', taken);
    END IF;

    EXECUTE format('ALTER TABLE %s.batches ADD COLUMN rf_customers int[], ADD COLUMN rf_recency float8[],
        ADD COLUMN rf_frequency float8[], ADD COLUMN rf_monetary float8[], ADD COLUMN edges_from text,
        ADD COLUMN fixed_metrics text[]', home);
    FOR one IN SELECT * FROM (VALUES
        ('rf_customers', 'how many customers there are in each of the 25 cells of the RF grid; element 5 * (recency_score - 1)'
            ' + frequency_score. Null: an earlier version stored the batch'),
        ('rf_recency', 'the sum of recency in each cell, as rf_customers. Null: a sum is not finite, or an earlier version'
            ' stored the batch'),
        ('rf_frequency', 'the sum of frequency in each cell, as rf_recency'),
        ('rf_monetary', 'the sum of monetary in each cell, as rf_recency'),
        ('edges_from', 'where the edges are from: ''quintiles'', the SHA-256 of the --edges file, or ''batch:ID''. Null: quintiles,'
            ' by an earlier version'),
        ('fixed_metrics', 'the metrics with edges from an --edges file: those that it names. Null: not from a file')
    ) AS comments (name, says) LOOP
        EXECUTE format('COMMENT ON COLUMN %s.batches.%I IS %L', home, one.name, one.says);
    END LOOP;

    -- The segment of each of the 25 scores, for every map that was used.
    EXECUTE format('CREATE TABLE IF NOT EXISTS %s.segment_maps (
        segment_map text NOT NULL, rf_score text NOT NULL, segment text NOT NULL, PRIMARY KEY (segment_map, rf_score))', home);
    EXECUTE format('COMMENT ON TABLE %s.segment_maps IS %L', home, of_maps);
    EXECUTE format('COMMENT ON COLUMN %s.segment_maps.segment_map IS ''as in batches: default, or the SHA-256 of the --segment-map file''', home);
    EXECUTE format('COMMENT ON COLUMN %s.segment_maps.rf_score IS ''recency score and frequency score, as in segments''', home);
    EXECUTE format('COMMENT ON COLUMN %s.segment_maps.segment IS ''the name of the segment''', home);
    EXECUTE format($insert$
        INSERT INTO %1$s.segment_maps (segment_map, rf_score, segment)
        SELECT 'default', score, CASE
            WHEN score ~ '^[1-2][1-2]$' THEN 'hibernating'
            WHEN score ~ '^[1-2][3-4]$' THEN 'at_risk'
            WHEN score ~ '^[1-2]5$' THEN 'cant_lose'
            WHEN score ~ '^3[1-2]$' THEN 'about_to_sleep'
            WHEN score ~ '^33$' THEN 'need_attention'
            WHEN score ~ '^[3-4][4-5]$' THEN 'loyal_customers'
            WHEN score ~ '^41$' THEN 'promising'
            WHEN score ~ '^51$' THEN 'new_customers'
            WHEN score ~ '^[4-5][2-3]$' THEN 'potential_loyalists'
            WHEN score ~ '^5[4-5]$' THEN 'champions' END
        FROM (SELECT concat(r, f) AS score FROM generate_series(1, 5) AS r, generate_series(1, 5) AS f) AS scores
        WHERE EXISTS (SELECT FROM %1$s.batches WHERE segment_map = 'default') ON CONFLICT DO NOTHING$insert$, home);

    -- Neither key nor population is in it: they may be longer than an index takes.
    EXECUTE format('CREATE INDEX batches_snapshots ON %s.batches (consumer_group, as_of, coalesce(hashtextextended(population, 0), 0),
        produced_at DESC NULLS LAST) WHERE retracted_at IS NULL', home);

    -- Which batch counts is asked batch by batch, so that conditions and LIMIT save the work for all others. (CASE, because
    -- the planner believes that a plain comparison of a key leaves one row, and then sorts everything.)
    EXECUTE format($define$
CREATE VIEW %1$s.snapshots AS
    SELECT b.consumer_group, b.population, b.as_of, b.id AS batch_id, b.produced_at, b.customers,
        b.expired_at IS NOT NULL AS expired,
        -- Of quintiles only: edges that somebody chose may equal the least or the greatest value.
        CASE WHEN b.edges_from LIKE 'batch:%%' THEN 0
            WHEN b.edges_from <> 'quintiles' AND b.fixed_metrics IS NULL THEN NULL ELSE
            CASE WHEN 'recency' = ANY (b.fixed_metrics) THEN 0 ELSE
                (b.recency_edges[1] = b.recency_edges[2])::int + (b.recency_edges[2] = b.recency_edges[3])::int
                + (b.recency_edges[3] = b.recency_edges[4])::int + (b.recency_edges[4] = b.recency_edges[5])::int
                + (b.recency_edges[5] = b.recency_edges[6])::int END
            + CASE WHEN 'frequency' = ANY (b.fixed_metrics) THEN 0 ELSE
                (b.frequency_edges[1] = b.frequency_edges[2])::int + (b.frequency_edges[2] = b.frequency_edges[3])::int
                + (b.frequency_edges[3] = b.frequency_edges[4])::int + (b.frequency_edges[4] = b.frequency_edges[5])::int
                + (b.frequency_edges[5] = b.frequency_edges[6])::int END
            + CASE WHEN 'monetary' = ANY (b.fixed_metrics) THEN 0 ELSE
                (b.monetary_edges[1] = b.monetary_edges[2])::int + (b.monetary_edges[2] = b.monetary_edges[3])::int
                + (b.monetary_edges[3] = b.monetary_edges[4])::int + (b.monetary_edges[4] = b.monetary_edges[5])::int
                + (b.monetary_edges[5] = b.monetary_edges[6])::int END
        END AS empty_quintiles,
        (SELECT p.id FROM %1$s.batches p
         WHERE p.consumer_group = b.consumer_group AND p.as_of < b.as_of AND p.population IS NOT DISTINCT FROM b.population
            AND coalesce(hashtextextended(p.population, 0), 0) = coalesce(hashtextextended(b.population, 0), 0)
            AND p.retracted_at IS NULL
         ORDER BY p.as_of DESC, p.produced_at DESC NULLS LAST, p.batch_key COLLATE "C" DESC NULLS LAST, p.partition DESC,
            p.recency_offset DESC LIMIT 1) AS previous_batch_id
    FROM %1$s.batches b
    WHERE b.retracted_at IS NULL AND CASE b.id WHEN (
        SELECT c.id FROM %1$s.batches c
        WHERE c.consumer_group = b.consumer_group AND c.as_of = b.as_of AND c.population IS NOT DISTINCT FROM b.population
            AND coalesce(hashtextextended(c.population, 0), 0) = coalesce(hashtextextended(b.population, 0), 0)
            AND c.retracted_at IS NULL
        ORDER BY c.produced_at DESC NULLS LAST, c.batch_key COLLATE "C" DESC NULLS LAST, c.partition DESC,
            c.recency_offset DESC LIMIT 1) THEN true ELSE false END
$define$, home);

    EXECUTE format($define$
CREATE VIEW %1$s.latest_snapshots AS
    SELECT s.consumer_group, s.population, s.as_of, s.batch_id, s.produced_at, s.customers, s.expired, s.empty_quintiles,
        s.previous_batch_id
    FROM (SELECT DISTINCT consumer_group, population FROM %1$s.batches WHERE retracted_at IS NULL AND expired_at IS NULL) AS b
    CROSS JOIN LATERAL (
        SELECT * FROM %1$s.snapshots n
        WHERE n.consumer_group = b.consumer_group AND n.population IS NOT DISTINCT FROM b.population AND NOT n.expired
        ORDER BY n.as_of DESC LIMIT 1) AS s
$define$, home);

    -- Per batch, its 25 cells become its segments. The sum of cells may be larger than a float8, and Postgres would end
    -- the whole query with an error: where a cell is huge, a 32nd of each is added.
    EXECUTE format($define$
CREATE VIEW %1$s.segment_summary AS
    SELECT b.id AS batch_id, b.consumer_group, b.population, b.as_of, s.segment, s.customers, s.share, s.mean_recency,
        s.mean_frequency, s.monetary, s.monetary_share
    FROM %1$s.batches b
    CROSS JOIN LATERAL (
        SELECT (SELECT max(abs(x)) > 1e300 FROM unnest(b.rf_recency) AS x) AS recency,
            (SELECT max(abs(x)) > 1e300 FROM unnest(b.rf_frequency) AS x) AS frequency,
            (SELECT max(abs(x)) > 1e300 FROM unnest(b.rf_monetary) AS x) AS monetary
        OFFSET 0
    ) AS huge
    CROSS JOIN LATERAL (
        SELECT segment, customers, customers / nullif(sum(customers) OVER (), 0)::float8 AS share,
            CASE WHEN customers = 0 THEN NULL
                WHEN huge.recency THEN CASE WHEN abs(recency / customers) <= 5.617791046444737e306 THEN recency / customers * 32 END
                WHEN abs(recency) <= customers * 1e-323 THEN 0
                ELSE recency / customers END AS mean_recency,
            CASE WHEN customers = 0 THEN NULL
                WHEN huge.frequency THEN CASE WHEN abs(frequency / customers) <= 5.617791046444737e306 THEN frequency / customers * 32 END
                WHEN abs(frequency) <= customers * 1e-323 THEN 0
                ELSE frequency / customers END AS mean_frequency,
            CASE WHEN huge.monetary THEN CASE WHEN abs(monetary) <= 5.617791046444737e306 THEN monetary * 32 END
                ELSE monetary END AS monetary,
            CASE WHEN total = 0 THEN NULL
                WHEN abs(total) >= 1 THEN CASE WHEN abs(monetary) <= abs(total) * 1e-323 THEN 0 ELSE monetary / total END
                WHEN abs(monetary) < abs(total) * 1e308 THEN monetary / total END AS monetary_share
        FROM (
            SELECT segment, customers, recency, frequency, monetary, sum(monetary) OVER () AS total
            FROM (
                SELECT m.segment, sum(b.rf_customers[cell]) AS customers,
                    sum(CASE WHEN NOT huge.recency THEN b.rf_recency[cell] WHEN abs(b.rf_recency[cell]) < 1 THEN 0
                        ELSE b.rf_recency[cell] / 32 END) AS recency,
                    sum(CASE WHEN NOT huge.frequency THEN b.rf_frequency[cell] WHEN abs(b.rf_frequency[cell]) < 1 THEN 0
                        ELSE b.rf_frequency[cell] / 32 END) AS frequency,
                    sum(CASE WHEN NOT huge.monetary THEN b.rf_monetary[cell] WHEN abs(b.rf_monetary[cell]) < 1 THEN 0
                        ELSE b.rf_monetary[cell] / 32 END) AS monetary
                FROM %1$s.segment_maps m
                CROSS JOIN LATERAL (SELECT 5 * (left(m.rf_score, 1)::int - 1) + right(m.rf_score, 1)::int AS cell) AS place
                WHERE m.segment_map = b.segment_map
                GROUP BY m.segment
            ) AS sums
        ) AS totals
    ) AS s
    WHERE b.retracted_at IS NULL
$define$, home);

    -- OFFSET 0 keeps the planner from joining `segments` as a whole: each snapshot reads the partition that it is in, and no
    -- other.
    EXECUTE format($define$
CREATE VIEW %1$s.customer_segments AS
    SELECT l.consumer_group, l.population, l.as_of, l.batch_id, s.customer_id, s.recency, s.frequency, s.monetary,
        s.recency_score, s.frequency_score, s.monetary_score, s.rf_score, s.segment
    FROM %1$s.latest_snapshots l
    CROSS JOIN LATERAL (SELECT * FROM %1$s.segments WHERE batch_id = l.batch_id OFFSET 0) AS s
$define$, home);

    -- The planner puts the statement in place of the call, so that conditions on consumer_group reach the snapshots.
    EXECUTE format($define$
CREATE FUNCTION %1$s.customer_history(customer_id text) RETURNS SETOF %1$s.customer_segments
    LANGUAGE sql STABLE AS $body$
    SELECT p.consumer_group, p.population, p.as_of, p.batch_id, s.customer_id, s.recency, s.frequency, s.monetary,
        s.recency_score, s.frequency_score, s.monetary_score, s.rf_score, s.segment
    FROM %1$s.snapshots p
    CROSS JOIN LATERAL (
        SELECT * FROM %1$s.segments g WHERE g.batch_id = p.batch_id AND g.customer_id = customer_history.customer_id OFFSET 0
    ) AS s
    WHERE NOT p.expired
    ORDER BY p.consumer_group, p.population, p.as_of
$body$ $define$, home);

    -- First every id is taken to stand once in each batch. If one does not, the join has more rows than the batches
    -- together, or does not account for each of their customers; LIMIT keeps an id that stands a million times in both
    -- from joining a million times a million rows. Then equal ids are numbered, which takes five times as long.
    -- (A FULL JOIN is never a nested loop, whatever the planner believes of the number of rows.)
    EXECUTE format($define$
CREATE OR REPLACE FUNCTION %1$s.segment_moves(from_batch bigint, to_batch bigint)
    RETURNS TABLE (from_segment text, to_segment text, customers bigint)
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET work_mem = '64MB'
    SET max_parallel_workers_per_gather = 0 SET jit = off AS $body$
#variable_conflict use_column
DECLARE
    sizes    int[];
    batch    record;
    numbered boolean := false;
    froms    text[];
    tos      text[];
    counts   bigint[];
    rows     bigint[];
    nameless boolean;
BEGIN
    FOR batch IN SELECT id, b.id IS NOT NULL AS is_there, b.expired_at, b.retracted_at, b.customers
        FROM unnest(ARRAY[from_batch, to_batch]) WITH ORDINALITY AS wanted (id, n)
        LEFT JOIN %1$s.batches b USING (id) ORDER BY n
    LOOP
        IF batch.is_there IS NOT TRUE OR batch.retracted_at IS NOT NULL OR batch.expired_at IS NOT NULL THEN
            RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state', MESSAGE = format(CASE
                WHEN batch.is_there IS NOT TRUE THEN 'there is no batch %%s'
                WHEN batch.retracted_at IS NOT NULL THEN 'the rows of batch %%s are gone: it was retracted'
                ELSE 'the rows of batch %%s are gone: they were older than --retain allows' END, coalesce(batch.id::text, 'NULL'));
        END IF;
        sizes := sizes || batch.customers;
    END LOOP;
    LOOP
        IF numbered THEN
            SELECT array_agg(f), array_agg(t), array_agg(n), ARRAY[sum(n) FILTER (WHERE f IS NOT NULL),
                sum(n) FILTER (WHERE t IS NOT NULL)], bool_or(no_id)
            INTO froms, tos, counts, rows, nameless FROM (
                SELECT f, t, count(*) AS n, a.customer_id IS NULL AND b.customer_id IS NULL AS no_id
                FROM (SELECT customer_id COLLATE "C" AS customer_id, segment AS f,
                        row_number() OVER (PARTITION BY customer_id COLLATE "C" ORDER BY row_no) AS nth
                    FROM %1$s.segments WHERE batch_id = from_batch) AS a
                FULL JOIN (SELECT customer_id COLLATE "C" AS customer_id, segment AS t,
                        row_number() OVER (PARTITION BY customer_id COLLATE "C" ORDER BY row_no) AS nth
                    FROM %1$s.segments WHERE batch_id = to_batch) AS b
                ON a.customer_id = b.customer_id AND a.nth = b.nth
                GROUP BY f, t, no_id) AS moves;
        ELSE
            SELECT array_agg(f), array_agg(t), array_agg(n), ARRAY[sum(n) FILTER (WHERE f IS NOT NULL),
                sum(n) FILTER (WHERE t IS NOT NULL)], bool_or(no_id)
            INTO froms, tos, counts, rows, nameless FROM (
                SELECT f, t, count(*) AS n, no_id
                FROM (SELECT f, t, a.customer_id IS NULL AND b.customer_id IS NULL AS no_id
                    FROM (SELECT customer_id COLLATE "C" AS customer_id, segment AS f
                        FROM %1$s.segments WHERE batch_id = from_batch) AS a
                    FULL JOIN (SELECT customer_id COLLATE "C" AS customer_id, segment AS t
                        FROM %1$s.segments WHERE batch_id = to_batch) AS b
                    ON a.customer_id = b.customer_id
                    LIMIT sizes[1]::bigint + sizes[2] + 1) AS pairs
                GROUP BY f, t, no_id) AS moves;
        END IF;
        EXIT WHEN numbered OR rows = sizes::bigint[];
        numbered := true;
    END LOOP;
    IF nameless THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
            MESSAGE = format('the customers of batch %%s or batch %%s have no ids', from_batch, to_batch);
    END IF;
    IF rows IS DISTINCT FROM sizes::bigint[] THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
            MESSAGE = format('rows of batch %%s or batch %%s are gone: somebody took them from the table segments',
                from_batch, to_batch);
    END IF;
    RETURN QUERY SELECT f, t, n FROM unnest(froms, tos, counts) AS moves (f, t, n) ORDER BY f, t;
END $body$ $define$, home);

    FOR one IN SELECT * FROM (VALUES
        ('VIEW %s.snapshots', 'the snapshots of each group and population: where several batches have the same as_of, the one that'
            ' counts. That is the one that was produced last, whatever the order in which they were stored'),
        ('COLUMN %s.snapshots.consumer_group', 'the group that stored the batch'),
        ('COLUMN %s.snapshots.population', 'whose customers these are; null: the sender does not say'),
        ('COLUMN %s.snapshots.as_of', 'the instant of the snapshot'),
        ('COLUMN %s.snapshots.batch_id', 'the batch that counts for this instant: batches.id'),
        ('COLUMN %s.snapshots.produced_at', 'the newest time of its three messages; null: as in batches'),
        ('COLUMN %s.snapshots.customers', 'how many customers it has'),
        ('COLUMN %s.snapshots.expired', 'whether --retain took its rows of segments away. Its sums are still there'),
        ('COLUMN %s.snapshots.empty_quintiles', 'how many pairs of neighbouring edges are equal: that many quintiles are'
            ' empty, because too many customers share a value. Of metrics cut by quintiles only; null: not known which those are'),
        ('COLUMN %s.snapshots.previous_batch_id', 'the batch of the snapshot before, of the same group and population; null: this is'
            ' the first'),
        ('VIEW %s.latest_snapshots', 'the newest snapshot of each group and population whose rows are in segments'),
        ('COLUMN %s.latest_snapshots.consumer_group', 'as in snapshots'),
        ('COLUMN %s.latest_snapshots.population', 'as in snapshots'),
        ('COLUMN %s.latest_snapshots.as_of', 'as in snapshots'),
        ('COLUMN %s.latest_snapshots.batch_id', 'as in snapshots'),
        ('COLUMN %s.latest_snapshots.produced_at', 'as in snapshots'),
        ('COLUMN %s.latest_snapshots.customers', 'as in snapshots'),
        ('COLUMN %s.latest_snapshots.expired', 'false'),
        ('COLUMN %s.latest_snapshots.empty_quintiles', 'as in snapshots'),
        ('COLUMN %s.latest_snapshots.previous_batch_id', 'as in snapshots'),
        ('VIEW %s.segment_summary', 'each segment of each batch that was not retracted, also segments without customers. It reads'
            ' the sums in batches, not the rows; batches of an earlier version have none'),
        ('COLUMN %s.segment_summary.batch_id', 'batches.id'),
        ('COLUMN %s.segment_summary.consumer_group', 'as in batches'),
        ('COLUMN %s.segment_summary.population', 'as in batches'),
        ('COLUMN %s.segment_summary.as_of', 'as in batches'),
        ('COLUMN %s.segment_summary.segment', 'a segment of the batch''s segment map'),
        ('COLUMN %s.segment_summary.customers', 'how many customers are in it; null: not known'),
        ('COLUMN %s.segment_summary.share', 'their part of all customers of the batch, from 0 to 1; null: not known'),
        ('COLUMN %s.segment_summary.mean_recency', 'the mean of their recency; null: no customers, or not known'),
        ('COLUMN %s.segment_summary.mean_frequency', 'the mean of their frequency; null: no customers, or not known'),
        ('COLUMN %s.segment_summary.monetary', 'the sum of their monetary; null: not known, or not finite'),
        ('COLUMN %s.segment_summary.monetary_share', 'its part of the sum of all customers of the batch. With refunds it may be below 0'
            ' or above 1; null: that sum is 0, or not known'),
        ('VIEW %s.customer_segments', 'the customers of the latest snapshots, with their values, scores and segments'),
        ('COLUMN %s.customer_segments.consumer_group', 'as in snapshots'),
        ('COLUMN %s.customer_segments.population', 'as in snapshots'),
        ('COLUMN %s.customer_segments.as_of', 'as in snapshots'),
        ('COLUMN %s.customer_segments.batch_id', 'as in snapshots'),
        ('COLUMN %s.customer_segments.customer_id', 'the customer; null: the sender gives no ids'),
        ('COLUMN %s.customer_segments.recency', 'as the sender gave it'),
        ('COLUMN %s.customer_segments.frequency', 'as the sender gave it'),
        ('COLUMN %s.customer_segments.monetary', 'as the sender gave it'),
        ('COLUMN %s.customer_segments.recency_score', 'from 1 to 5, which is the most recent'),
        ('COLUMN %s.customer_segments.frequency_score', 'from 1 to 5, which is the most frequent'),
        ('COLUMN %s.customer_segments.monetary_score', 'from 1 to 5, which is the most money'),
        ('COLUMN %s.customer_segments.rf_score', 'recency score and frequency score, such as 54'),
        ('COLUMN %s.customer_segments.segment', 'the segment of this RF score'),
        ('FUNCTION %s.segment_moves(bigint, bigint)', of_moves),
        ('FUNCTION %s.customer_history(text)', 'the rows of a customer in all snapshots whose rows are in segments, oldest first')
    ) AS comments (what, says) LOOP
        EXECUTE format('COMMENT ON ' || one.what || ' IS %L', home, one.says);
    END LOOP;

    -- They belong to the owner of the tables, whoever executes this.
    FOREACH place IN ARRAY ARRAY['TABLE %s.segment_maps', 'VIEW %s.snapshots', 'VIEW %s.latest_snapshots', 'VIEW %s.segment_summary',
        'VIEW %s.customer_segments', 'FUNCTION %s.segment_moves(bigint, bigint)', 'FUNCTION %s.customer_history(text)']
    LOOP
        EXECUTE format('ALTER ' || place || ' OWNER TO %s', home, owner);
    END LOOP;

    -- Who may read `batches` may read what comes from it alone; customers are for those who may read `segments`, too. Where
    -- policies hide rows, nobody is given anything: views read with the rights of their owner. A role that stores batches
    -- stores their maps.
    FOR one IN
        SELECT role, bool_or(what = 'batches SELECT') AND NOT policies AS reads,
            bool_or(what = 'batches SELECT') AND bool_or(what = 'segments SELECT') AND NOT policies AS reads_rows,
            bool_or(what = 'batches SELECT') AS reads_maps, bool_or(what = 'batches INSERT') AS writes
        FROM (
            SELECT CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END AS role,
                concat(c.relname, ' ', a.privilege_type) AS what
            FROM pg_class c, aclexplode(c.relacl) a
            WHERE c.oid IN ('batches'::regclass, 'segments'::regclass) AND a.grantee <> c.relowner) AS grants,
            (SELECT bool_or(relrowsecurity) AS policies FROM pg_class WHERE oid IN ('batches'::regclass, 'segments'::regclass)) AS rls
        GROUP BY role, policies
    LOOP
        IF one.reads_maps THEN
            EXECUTE format('GRANT SELECT ON %s.segment_maps TO %s', home, one.role);
        END IF;
        IF one.writes THEN
            EXECUTE format('GRANT INSERT ON %s.segment_maps TO %s', home, one.role);
        END IF;
        IF one.reads THEN
            EXECUTE format('GRANT SELECT ON %1$s.snapshots, %1$s.latest_snapshots, %1$s.segment_summary TO %2$s', home, one.role);
        END IF;
        IF one.reads_rows THEN
            EXECUTE format('GRANT SELECT ON %s.customer_segments TO %s', home, one.role);
            EXECUTE format('GRANT EXECUTE ON FUNCTION %1$s.segment_moves(bigint, bigint), %1$s.customer_history(text) TO %2$s',
                home, one.role);
        END IF;
    END LOOP;
END $migration$;
