# Stands in for postgres:18-trixie: the server's programs from Maven (`programs`: the folder of `scripts/postgres
# fetch 18`) with Debian's psql, and the image's user, folders, volume, variables and start.
FROM debian:bookworm-slim
RUN apt-get update \
    && apt-get install -y --no-install-recommends postgresql-client \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 999 --system --home-dir /var/lib/postgresql --shell /bin/bash postgres \
    && install -d -o postgres -m 1777 /var/lib/postgresql \
    && install -d -o postgres -m 3777 /var/run/postgresql
COPY --from=programs . /usr/lib/postgresql/18
COPY docker-entrypoint.sh /usr/local/bin/
ENV PGDATA=/var/lib/postgresql/18/docker PATH=/usr/lib/postgresql/18/bin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
VOLUME /var/lib/postgresql
ENTRYPOINT ["docker-entrypoint.sh"]
# "Fast": ends the sessions and writes everything to disk.
STOPSIGNAL SIGINT
CMD ["postgres"]
