//! Ids that apps choose, and the databases in which they mean the same.

use super::*;

/// A task with an id that its app chose, and a child of it.
fn chosen() -> [String; 2] {
    [
        r#"{"task": "add", "id": "4242", "root_id": "4242"}"#.to_owned(),
        format!(r#"{{"task": "add", "id": "{ID}", "root_id": "4242", "parent_id": "4242"}}"#),
    ]
    .map(|headers| command(&["LPUSH", "celery", &envelope(&headers, "")]))
}

/// Where the context of the one that is published now comes from.
fn origin(spoken: &mut Spoken, published: &str) -> Origin {
    spoken.client(published);
    spoken.broker(":1\r\n");
    let origins = spoken.out.sightings.drain(..).filter_map(|it| match it {
        Sighting::Published(publication) => Some(publication.judgement.origin),
        _ => None,
    });
    origins.collect::<Vec<_>>().pop().unwrap()
}

#[test]
fn an_id_in_one_database_is_another_in_the_next() {
    let [parent, child] = chosen();
    let exec = command(&["EXEC"]);
    let queued = "+OK\r\n+QUEUED\r\n";
    let in_transaction = [command(&["MULTI"]), command(&["SELECT", "6"]), exec].concat();
    for (client, broker, is_elsewhere) in [
        (command(&["SELECT", "6"]), "+OK\r\n", true),
        ("select 6\r\n".to_owned(), "+OK\r\n", true),
        (command(&["SELECT", "0"]), "+OK\r\n", false),
        (command(&["SELECT", "99"]), "-ERR out of range\r\n", false),
        (
            command(&["SELECT", "6", "7"]),
            "-ERR wrong number\r\n",
            false,
        ),
        (
            in_transaction.clone(),
            &format!("{queued}*1\r\n+OK\r\n"),
            true,
        ),
        (in_transaction.clone(), &format!("{queued}*-1\r\n"), false),
        (
            in_transaction.clone(),
            &format!("{queued}-EXECABORT\r\n"),
            false,
        ),
        (
            in_transaction.clone(),
            "+OK\r\n-ERR\r\n-EXECABORT\r\n",
            false,
        ),
        (
            in_transaction,
            &format!("{queued}*1\r\n-ERR out of range\r\n"),
            false,
        ),
        (
            [command(&["SELECT", "6"]), command(&["RESET"])].concat(),
            "+OK\r\n+RESET\r\n",
            false,
        ),
        (
            [command(&["SELECT", "6"]), command(&["HELLO", "3"])].concat(),
            "+OK\r\n%0\r\n",
            true,
        ),
    ] {
        let mut spoken = Spoken::new();
        assert_eq!(origin(&mut spoken, &parent), Origin::Fresh);
        spoken.client(&client);
        spoken.broker(broker);
        let expected = match is_elsewhere {
            true => Origin::Fresh,
            false => Origin::Inherited,
        };
        assert_eq!(
            origin(&mut spoken, &child),
            expected,
            "{client:?} {broker:?}"
        );
    }
}

#[test]
fn while_a_switch_of_databases_is_not_answered_nothing_is_found_by_a_chosen_id() {
    let [parent, child] = chosen();
    let mut spoken = Spoken::new();
    origin(&mut spoken, &parent);
    spoken.client(&command(&["SELECT", "6"]));
    assert_eq!(origin(&mut spoken, &child), Origin::Fresh);
}
