//! How an episode ends: something happens to its topics that must stop the reader. Another group stores what
//! is left.

use crate::kafka::{create_topics, delete_all_records, delete_topics};
use crate::load::{Load, Report};
use crate::topics::stored_by_another_group;
use rand::RngExt as _;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;

#[derive(Clone, Copy, Debug)]
pub enum Ending {
    /// Nothing more happens.
    Quiet,
    /// A topic is deleted and created again, with other batches.
    TopicCreatedAgain,
    /// Retention removes what no reader has read.
    Retention,
}

impl Ending {
    pub fn drawn(random: &mut StdRng) -> Self {
        *[Ending::Quiet, Ending::TopicCreatedAgain, Ending::Retention].choose(random).unwrap()
    }

    /// What the ending does. No reader may run, and everything must be stored.
    pub fn happens_to(self, load: &mut Load, partitions: usize, random: &mut StdRng) -> Report {
        eprintln!("{}: ends: {self:?}", load.world.name);
        let (world, stored) = (&load.world, load.stored());
        let topic = &world.topics[random.random_range(0..3)];
        let more = || world.produce(&["--batches", "40", "--interval", "0"]);
        let words = match self {
            Ending::Quiet => return Report::default(),
            Ending::TopicCreatedAgain => {
                let topic = std::slice::from_ref(topic);
                delete_topics(&world.kafka, topic);
                create_topics(&world.kafka, topic, partitions as i32);
                more();
                "created again"
            }
            Ending::Retention => {
                more();
                (0..partitions).for_each(|p| delete_all_records(&world.kafka, topic, p as i32));
                "is not in the log"
            }
        };
        world.reader(&[]).fails(1, words);
        assert_eq!(load.stored(), stored, "{}: nothing is stored by one that stops", world.name);
        stored_by_another_group(&mut load.world)
    }
}
