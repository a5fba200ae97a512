ALTER TABLE sources DROP COLUMN recency_topic_id, DROP COLUMN frequency_topic_id, DROP COLUMN monetary_topic_id;
