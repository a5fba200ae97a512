-- Which messages were refused together, so that they can be scored again together.
ALTER TABLE dead_letters ADD COLUMN refused_with bigint;
COMMENT ON COLUMN dead_letters.refused_with IS
    'the offset of the recency message of the batch with which it was refused; null: it was refused alone, or by an earlier version';

ALTER TABLE batches ADD COLUMN IF NOT EXISTS retracted_at timestamptz;
COMMENT ON COLUMN batches.retracted_at IS 'when `reader retract` took the rows away; null: it did not';
