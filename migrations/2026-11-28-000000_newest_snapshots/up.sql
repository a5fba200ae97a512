-- The newest snapshots are found by the index, whatever the populations are called, and whether a query names the group or not.
-- The views have the columns and rows that they had.
--
-- One statement, so that it is done whole or not at all however it is executed.
DO $migration$
DECLARE
    home text := (SELECT quote_ident(nspname) FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
                  WHERE c.oid = 'batches'::regclass);
    -- What users have set, such as security_invoker: a view that is replaced loses it.
    options text := (SELECT string_agg(format('ALTER VIEW %s SET (%s)', c.oid::regclass, array_to_string(c.reloptions, ', ')), '; ')
                     FROM pg_class c JOIN pg_class b ON b.oid = 'batches'::regclass AND b.relnamespace = c.relnamespace
                     WHERE c.relkind = 'v' AND c.relname IN ('snapshots', 'latest_snapshots') AND c.reloptions IS NOT NULL);
BEGIN
    EXECUTE format('DROP INDEX IF EXISTS %s.batches_snapshots', home);
    -- Time comes first: who asks for the newest ones need not name a group. Neither key nor population is in it: they may be
    -- longer than an index takes.
    EXECUTE format('CREATE INDEX batches_snapshots ON %s.batches (as_of, consumer_group, coalesce(hashtextextended(population, 0), 0),
        produced_at DESC NULLS LAST) WHERE retracted_at IS NULL', home);

    -- CASE around populations, as around ids: the planner believes that hardly any row has the population of another row, and
    -- then sorts all rows of the group, which are often those of no population.
    EXECUTE format($define$
CREATE OR REPLACE VIEW %1$s.snapshots AS
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
         WHERE p.consumer_group = b.consumer_group AND p.as_of < b.as_of
            AND CASE WHEN p.population IS DISTINCT FROM b.population THEN false ELSE true END
            AND coalesce(hashtextextended(p.population, 0), 0) = coalesce(hashtextextended(b.population, 0), 0)
            AND p.retracted_at IS NULL
         ORDER BY p.as_of DESC, p.produced_at DESC NULLS LAST, p.batch_key COLLATE "C" DESC NULLS LAST, p.partition DESC,
            p.recency_offset DESC LIMIT 1) AS previous_batch_id
    FROM %1$s.batches b
    WHERE b.retracted_at IS NULL AND CASE b.id WHEN (
        SELECT c.id FROM %1$s.batches c
        WHERE c.consumer_group = b.consumer_group AND c.as_of = b.as_of
            AND CASE WHEN c.population IS DISTINCT FROM b.population THEN false ELSE true END
            AND coalesce(hashtextextended(c.population, 0), 0) = coalesce(hashtextextended(b.population, 0), 0)
            AND c.retracted_at IS NULL
        ORDER BY c.produced_at DESC NULLS LAST, c.batch_key COLLATE "C" DESC NULLS LAST, c.partition DESC,
            c.recency_offset DESC LIMIT 1) THEN true ELSE false END
$define$, home);

    -- Each population from its own newest time on: one that ended long ago need not pass all that came since.
    EXECUTE format($define$
CREATE OR REPLACE VIEW %1$s.latest_snapshots AS
    SELECT s.consumer_group, s.population, s.as_of, s.batch_id, s.produced_at, s.customers, s.expired, s.empty_quintiles,
        s.previous_batch_id
    FROM (SELECT consumer_group, population, max(as_of) AS newest FROM %1$s.batches
          WHERE retracted_at IS NULL AND expired_at IS NULL GROUP BY consumer_group, population) AS b
    CROSS JOIN LATERAL (
        SELECT * FROM %1$s.snapshots n
        WHERE n.consumer_group = b.consumer_group AND n.as_of <= b.newest
            AND coalesce(hashtextextended(n.population, 0), 0) = coalesce(hashtextextended(b.population, 0), 0)
            AND CASE WHEN n.population IS DISTINCT FROM b.population THEN false ELSE true END AND NOT n.expired
        ORDER BY n.as_of DESC LIMIT 1) AS s
$define$, home);

    IF options IS NOT NULL THEN
        EXECUTE options;
    END IF;
END $migration$;
