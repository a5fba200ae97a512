DROP TABLE sources, progress, dead_letters, segments, batches;
