"""The benchmarks of rfm-stream, on a real Kafka and a real Postgres. See scripts/bench and docs/benchmarks.md."""
