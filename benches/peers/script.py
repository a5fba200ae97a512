#!/usr/bin/env python3
"""Peer 1: the script that rfm-stream replaces: kafka-python, pandas, SQLAlchemy ORM.

Messages pair by order of arrival. Tied quintile edges end the script. --commit row commits per customer, as the
original does; --commit batch adds all rows of a batch and commits once. It guarantees nothing.
"""

import json
import sys
import time
import uuid

import arguments
import pandas as pd
from sqlalchemy import create_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from kafka import KafkaConsumer

SEGMENTS = {
    r"[1-2][1-2]": "hibernating",
    r"[1-2][3-4]": "at_risk",
    r"[1-2]5": "cant_lose",
    r"3[1-2]": "about_to_sleep",
    r"33": "need_attention",
    r"[3-4][4-5]": "loyal_customers",
    r"41": "promising",
    r"51": "new_customers",
    r"[4-5][2-3]": "potential_loyalists",
    r"5[4-5]": "champions",
}


class Base(DeclarativeBase):
    pass


class Segment(Base):
    __tablename__ = "segments"
    id: Mapped[int] = mapped_column(primary_key=True)
    recency: Mapped[float]
    frequency: Mapped[float]
    monetary: Mapped[float]
    recency_score: Mapped[int]
    frequency_score: Mapped[int]
    monetary_score: Mapped[int]
    rf_score: Mapped[str]
    segment: Mapped[str]


def main() -> int:
    flags = arguments.parse(__doc__, commit=("row", "batch"))
    engine = create_engine(flags.database_url.replace("postgres://", "postgresql+psycopg2://", 1))
    Base.metadata.create_all(engine)
    consumer = KafkaConsumer(
        *flags.topics,
        bootstrap_servers=flags.bootstrap_servers,
        group_id=f"script-{uuid.uuid4()}",  # each run starts at the beginning of the topics
        auto_offset_reset="earliest",
        max_partition_fetch_bytes=200_000_000,
        fetch_max_bytes=200_000_000,
    )
    waiting = {topic: [] for topic in flags.topics}
    metrics = dict(zip(flags.topics, arguments.METRICS))
    clock, stored, rows = None, 0, 0
    with Session(engine) as session:
        for message in consumer:
            clock = clock or arguments.Clock()
            waiting[message.topic].append(json.loads(message.value)[metrics[message.topic]])
            if all(waiting.values()):
                customers = score(*(waiting[topic].pop(0) for topic in flags.topics))
                store(session, customers, flags.commit)
                stored, rows = stored + 1, rows + len(customers)
                if stored == flags.batches:
                    break
    clock.report(time.time(), rows)
    consumer.close(autocommit=False)
    return 0


def score(recency: list[float], frequency: list[float], monetary: list[float]) -> pd.DataFrame:
    rfm = pd.DataFrame({"recency": recency, "frequency": frequency, "monetary": monetary})
    rfm["recency_score"] = pd.qcut(rfm["recency"], 5, labels=[5, 4, 3, 2, 1])
    rfm["frequency_score"] = pd.qcut(rfm["frequency"], 5, labels=[1, 2, 3, 4, 5])
    rfm["monetary_score"] = pd.qcut(rfm["monetary"], 5, labels=[1, 2, 3, 4, 5])
    rfm["rf_score"] = rfm["recency_score"].astype(str) + rfm["frequency_score"].astype(str)
    rfm["segment"] = rfm["rf_score"].replace({f"^{pattern}$": name for pattern, name in SEGMENTS.items()}, regex=True)
    return rfm


def store(session: Session, customers: pd.DataFrame, commit: str) -> None:
    if commit == "batch":
        session.add_all(Segment(**customer) for customer in customers.to_dict("records"))
        session.commit()
        return
    for customer in customers.to_dict("records"):
        session.add(Segment(**customer))
        session.commit()


if __name__ == "__main__":
    sys.exit(main())
