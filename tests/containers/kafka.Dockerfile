# Stands in for apache/kafka: the jars of scripts/kafka with Debian's Java, and the image's user, folders, volumes and
# start. `jars` is the folder that `scripts/kafka fetch` fills.
FROM debian:bookworm-slim
RUN apt-get update \
    && apt-get install -y --no-install-recommends openjdk-17-jre-headless \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 1000 --create-home appuser \
    && mkdir -p /opt/kafka/bin /opt/kafka/config /etc/kafka/docker /etc/kafka/secrets /mnt/shared/config \
        /var/lib/kafka/data \
    && chown -R appuser: /opt/kafka /etc/kafka /mnt/shared /var/lib/kafka
COPY --from=jars libs /opt/kafka/libs
COPY --from=jars log4j2.properties /opt/kafka/log4j2.properties
COPY run /etc/kafka/docker/run
COPY kafka-topics.sh /opt/kafka/bin/
USER appuser
VOLUME ["/etc/kafka/secrets", "/var/lib/kafka/data", "/mnt/shared/config"]
CMD ["/etc/kafka/docker/run"]
