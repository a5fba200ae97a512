//! Whether the user may write under a transactional id, asked without using it.
//!
//! **Brokers look at the right first, then at the timeout of a transaction, and only then at the id.** So a
//! request with a timeout that no broker accepts is refused for the right or for the timeout, and changes
//! nothing: a producer that works under the id goes on.

use super::context::SenderContext;
use super::settings::{DEFAULTS, FIXED};
use super::{Sender, TRY};
use crate::kafka::{Connection, KafkaError, Right};
use rdkafka::error::RDKafkaErrorCode as Code;
use rdkafka::producer::{FutureProducer, Producer as _};

/// Longer than brokers accept, in milliseconds: 25 days. (The default of `transaction.max.timeout.ms` is 15 minutes;
/// librdkafka adds to its own number, so the greatest one would overflow.)
pub const UNACCEPTABLE_MS: i32 = i32::MAX - 10_000;

impl Sender {
    /// Checks that the user may write under a transactional id. **Not where `transaction.max.timeout.ms` of the
    /// brokers is [`UNACCEPTABLE_MS`] or more**: there the id would be taken from a producer that works.
    ///
    /// # Errors
    /// [`KafkaError::Refused`] if not; [`KafkaError::Transient`] if the brokers do not answer.
    pub fn check_right_on_id(connection: &Connection, transactional_id: &str) -> Result<(), KafkaError> {
        let mut config = connection.client_config(&DEFAULTS, &FIXED);
        config.set("transactional.id", transactional_id);
        config.set("transaction.timeout.ms", UNACCEPTABLE_MS.to_string());
        let producer: FutureProducer<SenderContext> = config.create_with_context(SenderContext::default())?;
        let Err(error) = producer.init_transactions(TRY) else { return Ok(()) };
        let fatal = producer.client().fatal_error();
        match fatal.as_ref().map(|(code, _)| *code).or(error.rdkafka_error_code()) {
            Some(Code::InvalidTransactionTimeout) => Ok(()),
            Some(Code::TransactionalIdAuthorizationFailed) => {
                Err(KafkaError::denied(Right::Write, &format!("the transactional id `{transactional_id}`")))
            }
            _ => Err(KafkaError::new(&error, fatal.as_ref().map(|(_, reason)| reason.as_str()))),
        }
    }
}
