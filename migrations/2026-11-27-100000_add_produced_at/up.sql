ALTER TABLE batches ADD COLUMN produced_at timestamptz;
COMMENT ON COLUMN batches.produced_at IS
    'the newest of the three message times; null: the messages have none, or an earlier version stored the batch';
