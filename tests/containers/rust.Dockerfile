# Stands in for rust:1.95-bookworm: the toolchain of this machine, and the part of buildpack-deps that a build needs.
# `toolchain` is the toolchain's folder, `certificates` the one with the authorities that this machine trusts.
FROM debian:bookworm-slim
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates g++ gcc libc6-dev make \
    && rm -rf /var/lib/apt/lists/*
COPY --from=certificates ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=toolchain bin /usr/local/rustup/bin
COPY --from=toolchain lib /usr/local/rustup/lib
ENV CARGO_HOME=/usr/local/cargo PATH=/usr/local/rustup/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
