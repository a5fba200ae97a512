ALTER TABLE batches DROP COLUMN produced_at;
