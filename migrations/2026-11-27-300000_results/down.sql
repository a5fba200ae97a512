DROP FUNCTION customer_history(text);
DROP FUNCTION segment_moves(bigint, bigint);
DROP VIEW customer_segments, segment_summary, latest_snapshots, snapshots;
DROP TABLE segment_maps;
DROP INDEX batches_snapshots;
ALTER TABLE batches
    DROP COLUMN rf_customers, DROP COLUMN rf_recency, DROP COLUMN rf_frequency, DROP COLUMN rf_monetary,
    DROP COLUMN edges_from, DROP COLUMN fixed_metrics;
