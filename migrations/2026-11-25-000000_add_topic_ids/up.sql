-- A topic that is deleted and created anew has the same name and another id. Null where it is not known: the
-- group has progress of an earlier version, or the brokers are too old to have ids.
ALTER TABLE sources
    ADD COLUMN recency_topic_id   text,
    ADD COLUMN frequency_topic_id text,
    ADD COLUMN monetary_topic_id  text;
