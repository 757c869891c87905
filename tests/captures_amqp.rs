//! Conversations of real Celery apps with a real RabbitMQ, said again through sessions.

#[path = "support/captures.rs"]
mod captures;
#[path = "support/amqp/edits.rs"]
mod edits;
#[path = "support/laws.rs"]
mod laws;
#[path = "support/amqp/wire.rs"]
mod wire;

const BROKER: &str = "rabbitmq";

#[test]
fn what_happened_is_what_is_seen() {
    captures::what_happened_is_what_is_seen(BROKER);
}

#[test]
fn nothing_changes_but_the_context_of_messages() {
    captures::nothing_changes_but_the_context_of_messages(BROKER);
}

#[test]
fn observing_changes_nothing() {
    captures::observing_changes_nothing(BROKER);
}

#[test]
fn it_does_not_matter_how_the_bytes_arrive() {
    captures::it_does_not_matter_how_the_bytes_arrive(BROKER);
}
