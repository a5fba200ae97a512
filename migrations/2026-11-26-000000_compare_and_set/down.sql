ALTER TABLE progress
    DROP COLUMN owner, DROP COLUMN commits, DROP COLUMN updated_at,
    DROP COLUMN recency_leader_epoch, DROP COLUMN frequency_leader_epoch, DROP COLUMN monetary_leader_epoch,
    DROP COLUMN log_cut;
