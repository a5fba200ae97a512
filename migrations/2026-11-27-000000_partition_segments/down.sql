-- One table again. The rows of all windows but the first are copied.
DO $migration$
DECLARE
    part regclass;
BEGIN
    LOCK TABLE segments, batches IN ACCESS EXCLUSIVE MODE;
    CREATE TABLE segments_whole (LIKE segments INCLUDING ALL EXCLUDING INDEXES);
    FOR part IN SELECT inhrelid::regclass FROM pg_inherits WHERE inhparent = 'segments'::regclass ORDER BY inhrelid LOOP
        EXECUTE format('INSERT INTO segments_whole SELECT batch_id, recency, frequency, monetary, row_no, recency_score,
            frequency_score, monetary_score, rf_score, segment, customer_id FROM %s ORDER BY batch_id, row_no', part);
    END LOOP;
    DROP TABLE segments;
    ALTER TABLE segments_whole RENAME TO segments;
    CREATE INDEX segments_batch_id ON segments USING brin (batch_id);
    DROP TABLE segments_day;
    ALTER TABLE batches DROP COLUMN expired_at, DROP COLUMN retracted_at;
END $migration$;
DROP FUNCTION rfm_summarize_window, rfm_drop_window, rfm_hold_window, rfm_is_over, rfm_enter_window, rfm_window,
    rfm_prepare_window, rfm_partition_of_window, rfm_check_caller, rfm_copy_grants;
