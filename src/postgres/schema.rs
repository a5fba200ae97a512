//! The tables as Diesel sees them. `migrations/` creates them, and its comments say what they mean.

diesel::table! {
    batches (id) {
        id -> BigInt,
        consumer_group -> Text,
        partition -> Integer,
        recency_offset -> BigInt,
        frequency_offset -> BigInt,
        monetary_offset -> BigInt,
        batch_key -> Nullable<Text>,
        population -> Nullable<Text>,
        as_of -> Timestamptz,
        customers -> Integer,
        ties -> Text,
        segment_map -> Text,
        recency_edges -> Array<Double>,
        frequency_edges -> Array<Double>,
        monetary_edges -> Array<Double>,
        stored_at -> Timestamptz,
        expired_at -> Nullable<Timestamptz>,
        produced_at -> Nullable<Timestamptz>,
        retracted_at -> Nullable<Timestamptz>,
        rf_customers -> Nullable<Array<Integer>>,
        rf_recency -> Nullable<Array<Double>>,
        rf_frequency -> Nullable<Array<Double>>,
        rf_monetary -> Nullable<Array<Double>>,
        edges_from -> Nullable<Text>,
        fixed_metrics -> Nullable<Array<Text>>,
    }
}

diesel::table! {
    // Diesel requires a key. The table has none in the database (see the migration).
    segments (batch_id, row_no) {
        batch_id -> BigInt,
        recency -> Double,
        frequency -> Double,
        monetary -> Double,
        row_no -> Integer,
        recency_score -> SmallInt,
        frequency_score -> SmallInt,
        monetary_score -> SmallInt,
        rf_score -> Text,
        segment -> Text,
        customer_id -> Nullable<Text>,
    }
}

diesel::table! {
    dead_letters (id) {
        id -> BigInt,
        consumer_group -> Text,
        topic -> Text,
        partition -> Integer,
        offset -> BigInt,
        key -> Nullable<Bytea>,
        value -> Nullable<Bytea>,
        reason -> Text,
        detail -> Text,
        produced_at -> Nullable<Timestamptz>,
        stored_at -> Timestamptz,
        refused_with -> Nullable<BigInt>,
    }
}

diesel::table! {
    progress (consumer_group, partition) {
        consumer_group -> Text,
        partition -> Integer,
        epoch -> BigInt,
        recency_next -> BigInt,
        frequency_next -> BigInt,
        monetary_next -> BigInt,
        owner -> Nullable<Uuid>,
        commits -> BigInt,
        updated_at -> Nullable<Timestamptz>,
        recency_leader_epoch -> Nullable<Integer>,
        frequency_leader_epoch -> Nullable<Integer>,
        monetary_leader_epoch -> Nullable<Integer>,
        log_cut -> Nullable<Text>,
    }
}

diesel::table! {
    sources (consumer_group) {
        consumer_group -> Text,
        cluster_id -> Text,
        recency_topic -> Text,
        frequency_topic -> Text,
        monetary_topic -> Text,
        recency_topic_id -> Nullable<Text>,
        frequency_topic_id -> Nullable<Text>,
        monetary_topic_id -> Nullable<Text>,
    }
}

diesel::table! {
    segment_maps (segment_map, rf_score) {
        segment_map -> Text,
        rf_score -> Text,
        segment -> Text,
    }
}
