use super::*;
use crate::message::Reason;
use crate::metric::PerMetric;
use proptest::prelude::*;
use std::collections::BTreeSet;

const TIMEOUT: Duration = Duration::from_secs(20);
const LATER: Duration = Duration::from_secs(100);

fn held(alone: bool) -> Pairing {
    let mut pairing = Pairing::new(TIMEOUT);
    pairing.take(Taken { partition: 0, progress: Default::default() }, alone);
    pairing
}

fn message(metric: Metric, offset: i64, key: Option<&str>, timestamp: i64) -> Message {
    let key = key.map(|key| key.as_bytes().to_vec());
    Message { metric, partition: 0, offset, timestamp: Some(timestamp), key, value: None }
}

fn keyed(metric: Metric, offset: i64, key: &str) -> Message {
    message(metric, offset, Some(key), 0)
}

/// The offsets of the batches that became whole.
fn batches(pairing: &mut Pairing) -> Vec<[i64; 3]> {
    let batches = std::mem::take(&mut pairing.outbox.batches);
    batches.iter().map(|batch| batch.messages.as_ref().map(|message| message.offset).into_array()).collect()
}

/// Metric, offset and reason of the messages given up.
fn given_up(pairing: &mut Pairing) -> Vec<(Metric, i64, Reason)> {
    let letters = std::mem::take(&mut pairing.outbox.dead_letters);
    letters.iter().map(|l| (l.message.metric, l.message.offset, l.problem.reason)).collect()
}

/// Answers every question for a high watermark with the topic's position: everything was read.
fn read_to_the_end(pairing: &mut Pairing, now: Duration) {
    for at in pairing.watermarks_wanted(now) {
        let position = pairing.lanes[&at.partition].progress[at.metric].position();
        pairing.on_watermark(at, now, Some(position));
    }
}

fn of(metric: Metric) -> TopicPartition {
    TopicPartition { metric, partition: 0 }
}

use Metric::{Frequency, Monetary, Recency};

#[test]
fn a_batch_is_whole_when_its_third_message_comes() {
    let mut pairing = held(false);
    pairing.push(keyed(Monetary, 5, "a"), Duration::ZERO);
    pairing.push(keyed(Recency, 7, "a"), Duration::ZERO);
    assert!(batches(&mut pairing).is_empty());
    pairing.push(keyed(Frequency, 9, "a"), Duration::ZERO);
    assert_eq!(batches(&mut pairing), [[7, 9, 5]]);
    assert_eq!(pairing.progress(0), Some([7, 9, 5].into()), "read, but not settled");
}

#[test]
fn a_key_used_again_pairs_first_in_first_out() {
    let mut pairing = held(false);
    for (metric, offset) in
        [(Recency, 0), (Recency, 1), (Monetary, 0), (Frequency, 0), (Frequency, 1), (Monetary, 1)]
    {
        pairing.push(keyed(metric, offset, "a"), Duration::ZERO);
    }
    assert_eq!(batches(&mut pairing), [[0, 0, 0], [1, 1, 1]]);
}

#[test]
fn an_empty_key_and_no_key_are_different_keys() {
    let mut pairing = held(true);
    pairing.push(keyed(Recency, 0, ""), Duration::ZERO);
    pairing.push(message(Frequency, 0, None, 0), Duration::ZERO);
    pairing.push(keyed(Monetary, 0, ""), Duration::ZERO);
    assert!(batches(&mut pairing).is_empty());
    pairing.push(keyed(Frequency, 1, ""), Duration::ZERO);
    assert_eq!(batches(&mut pairing), [[0, 1, 0]]);
}

#[test]
fn without_a_key_several_partitions_are_refused() {
    let mut pairing = held(false);
    assert_eq!(pairing.push(message(Recency, 3, None, 0), Duration::ZERO), Read::New);
    assert_eq!(given_up(&mut pairing), [(Recency, 3, Reason::NoKey)]);
}

#[test]
fn without_a_key_messages_far_apart_do_not_pair() {
    let mut pairing = held(true);
    // A recency message whose partners were lost, then a whole batch a minute later.
    pairing.push(message(Recency, 0, None, 0), Duration::ZERO);
    for (metric, offset) in [(Recency, 1), (Frequency, 0), (Monetary, 0)] {
        pairing.push(message(metric, offset, None, 60_000), Duration::ZERO);
    }
    assert_eq!(given_up(&mut pairing), [(Recency, 0, Reason::Unpaired)]);
    assert_eq!(batches(&mut pairing), [[1, 0, 0]]);
}

#[test]
fn without_a_key_messages_exactly_the_timeout_apart_pair() {
    let mut pairing = held(true);
    for (metric, time) in [(Recency, 0), (Frequency, 20_000), (Monetary, 10_000)] {
        pairing.push(message(metric, 0, None, time), Duration::ZERO);
    }
    assert_eq!(batches(&mut pairing), [[0, 0, 0]]);
}

#[test]
fn a_message_is_given_up_only_when_its_partners_are_known_to_be_missing() {
    let mut pairing = held(false);
    pairing.push(keyed(Recency, 0, "a"), Duration::ZERO);
    pairing.push(keyed(Frequency, 0, "a"), Duration::ZERO);

    assert!(pairing.watermarks_wanted(TIMEOUT - Duration::from_millis(1)).is_empty(), "not overdue yet");
    let asked = pairing.watermarks_wanted(TIMEOUT);
    assert!(asked.contains(&of(Monetary)));
    assert!(pairing.watermarks_wanted(LATER).is_empty(), "asked once");
    for at in asked {
        pairing.on_watermark(at, TIMEOUT, Some(if at.metric == Monetary { 10 } else { 1 }));
    }
    pairing.expire(LATER);
    assert!(given_up(&mut pairing).is_empty(), "monetary has ten messages and none was read");

    pairing.read_up_to(of(Monetary), 9, None);
    pairing.expire(LATER);
    assert!(given_up(&mut pairing).is_empty(), "one message below the watermark is left");

    pairing.read_up_to(of(Monetary), 10, None);
    pairing.expire(LATER);
    let letters = pairing.take_outbox().dead_letters;
    assert_eq!(letters.len(), 2);
    for letter in letters {
        assert_eq!(letter.problem.reason, Reason::Unpaired);
        assert_eq!(
            letter.problem.detail,
            "no message with its key came on this partition of monetary within 20s"
        );
    }
}

#[test]
fn a_watermark_asked_for_before_a_message_was_due_does_not_count_for_it() {
    let mut pairing = held(false);
    pairing.push(keyed(Recency, 0, "a"), Duration::ZERO);
    read_to_the_end(&mut pairing, TIMEOUT);
    pairing.push(keyed(Recency, 1, "b"), Duration::from_secs(1));
    pairing.expire(LATER);
    assert_eq!(given_up(&mut pairing), [(Recency, 0, Reason::Unpaired)]);
    read_to_the_end(&mut pairing, LATER);
    pairing.expire(LATER);
    assert_eq!(given_up(&mut pairing), [(Recency, 1, Reason::Unpaired)]);
}

#[test]
fn a_broker_that_does_not_answer_is_asked_again() {
    let mut pairing = held(false);
    pairing.push(keyed(Recency, 0, "a"), Duration::ZERO);
    for at in pairing.watermarks_wanted(LATER) {
        pairing.on_watermark(at, LATER, None);
    }
    pairing.expire(LATER);
    assert!(given_up(&mut pairing).is_empty());
    assert_eq!(pairing.watermarks_wanted(LATER).len(), 3);
}

#[test]
fn an_answer_that_an_earlier_owner_waited_for_does_not_count() {
    let mut pairing = held(false);
    pairing.push(keyed(Recency, 0, "a"), Duration::ZERO);
    let asked_before = pairing.watermarks_wanted(TIMEOUT);
    // The partition goes and comes back; everything is read again, and its partners are written meanwhile.
    let mut pairing = held(false);
    pairing.push(keyed(Recency, 0, "a"), TIMEOUT);
    pairing.watermarks_wanted(2 * TIMEOUT);
    for at in asked_before {
        pairing.on_watermark(at, TIMEOUT, Some(0));
    }
    pairing.expire(LATER);
    assert!(given_up(&mut pairing).is_empty(), "the end of now is not known yet");
}

#[test]
fn a_partner_that_comes_late_but_before_the_watermark_is_paired() {
    let mut pairing = held(false);
    pairing.push(keyed(Recency, 0, "a"), Duration::ZERO);
    pairing.push(keyed(Frequency, 0, "a"), Duration::ZERO);
    for at in pairing.watermarks_wanted(TIMEOUT) {
        pairing.on_watermark(at, TIMEOUT, Some(5));
    }
    pairing.push(keyed(Monetary, 4, "a"), LATER);
    pairing.expire(LATER);
    assert_eq!(batches(&mut pairing), [[0, 0, 4]]);
    assert!(given_up(&mut pairing).is_empty());
}

#[test]
fn what_is_settled_or_not_held_is_dropped() {
    let mut pairing = Pairing::new(TIMEOUT);
    assert_eq!(pairing.push(keyed(Recency, 0, "a"), Duration::ZERO), Read::Passed, "no partition is held");
    let settled =
        Progress::resume(3, BTreeMap::from([(5, Some("a".to_owned())), (7, Some("b".to_owned()))]), None);
    let progress = PerMetric { recency: settled, ..PerMetric::default() };
    pairing.take(Taken { partition: 0, progress }, false);
    assert_eq!(pairing.push(keyed(Recency, 2, "a"), Duration::ZERO), Read::Passed, "below progress");
    assert_eq!(pairing.push(keyed(Recency, 5, "a"), Duration::ZERO), Read::Passed, "settled above progress");
    assert_eq!(pairing.push(keyed(Recency, 6, "a"), Duration::ZERO), Read::New);
    assert_eq!(pairing.push(keyed(Recency, 7, "a"), Duration::ZERO), Read::Replaced, "`b` was settled there");
}

#[test]
fn the_oldest_message_makes_room() {
    let mut pairing = held(false);
    pairing.push(keyed(Recency, 0, "a"), Duration::ZERO);
    pairing.push(keyed(Frequency, 0, "b"), Duration::from_secs(1));
    assert_eq!(pairing.oldest_lacks(), Some((0, vec![Frequency, Monetary])));
    assert!(pairing.evict_oldest());
    assert_eq!(given_up(&mut pairing), [(Recency, 0, Reason::Unpaired)]);
    assert_eq!(pairing.oldest_lacks(), Some((0, vec![Recency, Monetary])));
    assert!(pairing.evict_oldest());
    assert!(!pairing.evict_oldest(), "nothing waits any more");
}

/// The details of the messages given up, in the order of the offsets.
fn details(pairing: &mut Pairing) -> Vec<String> {
    let mut letters = std::mem::take(&mut pairing.outbox.dead_letters);
    letters.sort_by_key(|letter| letter.message.offset);
    letters.into_iter().map(|letter| letter.problem.detail).collect()
}

/// Partitions 0 to 2, and a message of the key `a` on each of these: (topic, partition, when it was read).
/// The offsets count them.
fn spread(messages: &[(Metric, i32, u64)]) -> Pairing {
    let mut pairing = held(false);
    (1..3).for_each(|partition| pairing.take(Taken { partition, progress: Default::default() }, false));
    for (&(metric, partition, read), offset) in messages.iter().zip(0..) {
        let message = Message { partition, ..keyed(metric, offset, "a") };
        pairing.push(message, Duration::from_secs(read));
    }
    pairing
}

#[test]
fn a_key_on_different_partitions_is_said_of_each_of_its_messages() {
    let mut pairing = spread(&[(Recency, 2, 0), (Frequency, 0, 1), (Monetary, 0, 1)]);
    read_to_the_end(&mut pairing, LATER);
    pairing.expire(LATER);
    let details = details(&mut pairing);
    let [of_recency, of_frequency, of_monetary] = &details[..] else { panic!("{details:?}") };
    assert!(
        of_recency.contains("this partition of frequency or monetary within 20s; one came on partition 0")
    );
    assert!(
        of_recency.contains("partition 0 of frequency and partition 0 of monetary, so the senders"),
        "{of_recency}"
    );
    for detail in [of_frequency, of_monetary] {
        assert!(
            detail.contains("this partition of recency within 20s; one came on partition 2 of recency"),
            "{detail}"
        );
        assert!(detail.contains("partitioner=murmur2_random"), "{detail}");
    }
}

#[test]
fn a_key_that_was_given_up_on_another_partition_before_is_remembered() {
    let mut pairing = spread(&[(Recency, 2, 0)]);
    read_to_the_end(&mut pairing, LATER);
    pairing.expire(LATER);
    assert!(!details(&mut pairing)[0].contains("one came"), "nothing is known of it yet");
    pairing.push(Message { partition: 1, ..keyed(Monetary, 0, "a") }, LATER);
    let much_later = LATER + TIMEOUT;
    read_to_the_end(&mut pairing, much_later);
    pairing.expire(much_later);
    assert!(details(&mut pairing)[0].contains("one came on partition 2 of recency, so"));
}

#[test]
fn a_full_budget_names_other_partitions_too() {
    let mut pairing = spread(&[(Recency, 2, 0), (Frequency, 0, 1)]);
    assert!(pairing.evict_oldest() && pairing.evict_oldest());
    let details = details(&mut pairing);
    assert!(
        details[0].contains("--buffer-bytes was full") && details[0].contains("partition 0 of frequency, so")
    );
    assert!(details[1].contains("partition 2 of recency, so"), "it was just given up: {}", details[1]);
}

#[test]
fn the_same_key_on_several_partitions_is_no_matter_while_each_has_all_three() {
    let mut pairing = spread(&[(Recency, 0, 0), (Recency, 1, 0), (Frequency, 0, 0), (Frequency, 1, 0)]);
    (0..2).for_each(|partition| {
        pairing.push(Message { partition, ..keyed(Monetary, 9, "a") }, Duration::ZERO);
    });
    assert_eq!(batches(&mut pairing).len(), 2);
    pairing.push(Message { partition: 2, ..keyed(Recency, 7, "a") }, Duration::ZERO);
    read_to_the_end(&mut pairing, LATER);
    pairing.expire(LATER);
    assert_eq!(
        details(&mut pairing),
        ["no message with its key came on this partition of frequency or monetary within 20s"]
    );
}

/// Messages of `keys` batches, some keys lost in a topic: per topic, the keys in order.
fn topics() -> impl Strategy<Value = [Vec<u8>; 3]> {
    let topic = prop::collection::vec(0u8..12, 0..25);
    [topic.clone(), topic.clone(), topic]
}

/// All batches and all messages given up, whatever the order in which the topics are read.
fn read_in_order(topics: &[Vec<u8>; 3], order: &[u8]) -> (BTreeSet<[i64; 3]>, BTreeSet<(Metric, i64)>) {
    let mut pairing = held(false);
    let mut next = [0usize; 3];
    let rest = [0u8, 1, 2].iter().cycle().copied().take(3 * 25);
    for topic in order.iter().copied().chain(rest) {
        let (metric, at) = (Metric::ALL[usize::from(topic)], next[usize::from(topic)]);
        if let Some(key) = topics[usize::from(topic)].get(at) {
            pairing.push(keyed(metric, at as i64, &key.to_string()), Duration::ZERO);
            next[usize::from(topic)] += 1;
        }
    }
    // Each round gives up the heads of the keys; those behind them are heads in the next.
    while pairing.oldest_lacks().is_some() {
        read_to_the_end(&mut pairing, LATER);
        pairing.expire(LATER);
    }
    let lost = given_up(&mut pairing).into_iter().map(|(metric, offset, _)| (metric, offset)).collect();
    (batches(&mut pairing).into_iter().collect(), lost)
}

proptest! {
    #[test]
    fn any_interleaving_gives_the_same_batches(
        topics in topics(), one in prop::collection::vec(0u8..3, 0..75), two in prop::collection::vec(0u8..3, 0..75),
    ) {
        prop_assert_eq!(read_in_order(&topics, &one), read_in_order(&topics, &two));
    }

    #[test]
    fn every_message_is_in_one_batch_or_given_up(topics in topics(), order in prop::collection::vec(0u8..3, 0..75)) {
        let (batches, lost) = read_in_order(&topics, &order);
        let mut seen = lost.clone();
        for batch in &batches {
            let keys: BTreeSet<u8> = batch.iter().zip(&topics).map(|(&at, topic)| topic[at as usize]).collect();
            prop_assert_eq!(keys.len(), 1, "a batch has one key");
            for (metric, &offset) in Metric::ALL.iter().zip(batch) {
                prop_assert!(seen.insert((*metric, offset)), "in two places");
            }
        }
        prop_assert_eq!(seen.len(), topics.iter().map(Vec::len).sum::<usize>());
    }

    #[test]
    fn partners_are_named_exactly_where_they_were_given_up(
        places in prop::collection::vec((0usize..3, 0i32..3), 1..9),
    ) {
        // One key; whatever does not become whole is given up at the same moment.
        let messages: Vec<_> = places.iter().map(|&(topic, partition)| (Metric::ALL[topic], partition, 0)).collect();
        let mut pairing = spread(&messages);
        pairing.take_outbox();
        let waiting: BTreeSet<(Metric, i32)> = pairing.lanes.iter().flat_map(|(&partition, lane)| {
            let key = Some(b"a".as_slice().into());
            Metric::ALL.into_iter().filter(move |&m| lane.has_waiting(&key, m)).map(move |m| (m, partition))
        }).collect();
        read_to_the_end(&mut pairing, LATER);
        pairing.expire(LATER);
        for letter in pairing.take_outbox().dead_letters {
            let of = letter.message.partition;
            for metric in Metric::ALL {
                let lacks = !waiting.contains(&(metric, of));
                let elsewhere = waiting.iter().any(|&(m, partition)| m == metric && partition != of);
                let named = letter.problem.detail.contains(&format!(" of {metric}, so"))
                    || letter.problem.detail.contains(&format!(" of {metric} and"));
                prop_assert_eq!(named, lacks && elsewhere, "{}", letter.problem.detail);
            }
        }
    }
}
