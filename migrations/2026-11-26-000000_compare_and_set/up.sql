-- A commit moves progress only from exactly the epoch, the owner and the count of commits that its session
-- knows. Epochs repeat on a server that went back in time (a restore, a failover to a standby that lagged). A
-- random owner does not repeat, and the count tells two states under one owner apart.
ALTER TABLE progress
    ADD COLUMN owner      uuid,
    ADD COLUMN commits    bigint NOT NULL DEFAULT 0,
    ADD COLUMN updated_at timestamptz,
    ADD COLUMN recency_leader_epoch   int,
    ADD COLUMN frequency_leader_epoch int,
    ADD COLUMN monetary_leader_epoch  int,
    ADD COLUMN log_cut    text;
COMMENT ON COLUMN progress.owner IS 'random; a reader writes a new one when it takes the partition. Null: taken by an earlier version';
COMMENT ON COLUMN progress.commits IS 'how many transactions have moved this row; each adds one';
COMMENT ON COLUMN progress.updated_at IS 'when the row was last written; null: by an earlier version';
COMMENT ON COLUMN progress.recency_leader_epoch IS
    'a leader epoch in which the log had everything below recency_next, for Kafka to tell whether the log was cut; null: not known';
COMMENT ON COLUMN progress.frequency_leader_epoch IS 'the same of frequency_next';
COMMENT ON COLUMN progress.monetary_leader_epoch IS 'the same of monetary_next';
COMMENT ON COLUMN progress.log_cut IS
    'why the log is known to have lost messages that were stored, and reused their offsets; no reader takes the partition then';
