# One image with both programs: docker run rfm-stream producer ..., docker run rfm-stream reader ...

FROM rust:1.95-bookworm AS build
# What pq-sys, openssl-sys, libz-sys and zstd-sys link to; librdkafka is compiled from its crate.
# No versions: Debian's mirrors drop the old one with every security update.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends libpq-dev libssl-dev libzstd-dev pkg-config zlib1g-dev \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
# The cache mounts keep the crates and their compiled code from one build to the next. They are not part of a layer,
# so this step also copies the programs out.
RUN --mount=type=cache,target=/usr/local/cargo/registry,sharing=locked \
    --mount=type=cache,target=/src/target,sharing=locked \
    cargo build --release --locked --bins \
    && install -D -t /out target/release/producer target/release/reader

# The same Debian as above, for the same libraries.
FROM debian:bookworm-slim
# ca-certificates: TLS to Kafka and Postgres.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates libpq5 libssl3 libzstd1 zlib1g \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin rfm
COPY --from=build /out/ /usr/local/bin/
USER 10001
# A library that is missing here fails the build, not the first start.
RUN producer --version && reader --version
# No entrypoint: the program is PID 1, gets SIGTERM itself, and drains.
CMD ["reader"]
