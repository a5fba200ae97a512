# One image with both programs: docker run rfm-stream producer ..., docker run rfm-stream reader ...

FROM rust:1.95-bookworm AS build
# What pq-sys and openssl-sys link to; librdkafka and zstd are compiled from the crates.
# No versions: Debian's mirrors drop the old one with every security update.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends libpq-dev libssl-dev pkg-config zlib1g-dev \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
# The caches keep the crates and what was compiled of them from one build to the next; they are no part of a
# layer, so the programs are copied out in the same step.
RUN --mount=type=cache,target=/usr/local/cargo/registry,sharing=locked \
    --mount=type=cache,target=/src/target,sharing=locked \
    cargo build --release --locked --bins \
    && install -D -t /out target/release/producer target/release/reader

# The same Debian as above, for the same libraries.
FROM debian:bookworm-slim
# ca-certificates: TLS to Kafka and Postgres.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates libpq5 libssl3 zlib1g \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin rfm
COPY --from=build /out/ /usr/local/bin/
USER 10001
# A library that is missing here fails the build, not the first start.
RUN producer --version && reader --version
# No entrypoint: the program is PID 1, gets SIGTERM itself, and drains.
CMD ["reader"]
