-- A topic that is deleted and created again has the same name and another id. Null where the id is not known:
-- the group's progress is from an earlier version, or the brokers are too old to have ids.
ALTER TABLE sources
    ADD COLUMN recency_topic_id   text,
    ADD COLUMN frequency_topic_id text,
    ADD COLUMN monetary_topic_id  text;
