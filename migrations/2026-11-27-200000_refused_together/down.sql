ALTER TABLE batches DROP COLUMN IF EXISTS retracted_at;
ALTER TABLE dead_letters DROP COLUMN refused_with;
