//! Conversations of real Celery apps with a real Redis, said again through sessions.
//!
//! Beside each recording stands what is to be seen in it (`expected.txt`, and for recordings
//! in which the relay edited messages `expected-behind-relay.txt`, for a session behind it).
//! `UPDATE_EXPECTED=1` writes these tables anew: read the difference, line by line.

#[path = "support/captures.rs"]
mod captures;
#[path = "support/edits.rs"]
mod edits;
#[path = "support/laws.rs"]
mod laws;
#[path = "support/resp.rs"]
mod resp;

use std::fs;
use std::path::Path;
use std::rc::Rc;

use tracehop::config::Mode;
use tracehop::config::Policy;
use tracehop::hop::Publication;
use tracehop::hop::Verdict;
use tracehop::trace::w3c::format_traceparent;

use captures::Capture;
use captures::Place;
use captures::Replay;
use edits::assert_only_readdressed;
use edits::edits;
use laws::Cutting;
use laws::seen;

/// Every recording, and every place in it where a session may stand.
fn captures() -> Vec<(Rc<Capture>, Place)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/captures/redis");
    let mut captures = Vec::new();
    for capture in Capture::all(&folder).into_iter().map(Rc::new) {
        captures.push((Rc::clone(&capture), Place::Relay));
        if capture.is_edited {
            captures.push((capture, Place::Behind));
        }
    }
    captures
}

#[test]
fn what_happened_is_what_is_seen() {
    let mut wrong = Vec::new();
    for (capture, place) in captures() {
        let replay = capture.replay(place, Policy::default(), None);
        let found = format!("{}\n\n{}", capture.shows, replay.table());
        let file = capture.folder.join(match place {
            Place::Relay => "expected.txt",
            Place::Behind => "expected-behind-relay.txt",
        });
        if std::env::var_os("UPDATE_EXPECTED").is_some() {
            fs::write(&file, &found).expect("it can be written");
        }
        let expected = fs::read_to_string(&file).unwrap_or_default();
        if found != expected {
            wrong.push(format!(
                "{}\nexpected:\n{expected}\nfound:\n{found}",
                file.display()
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[test]
fn nothing_changes_but_the_context_of_messages() {
    for (capture, place) in captures() {
        let replay = capture.replay(place, Policy::default(), None);
        let seen = seen(&replay.sightings);
        for (number, said) in &replay.connections {
            let edits = edits(&said.by_client, &said.outcome.to_broker);
            assert_only_readdressed(&said.by_broker, &said.outcome.to_client);
            let written: Vec<&Publication> = seen
                .publications()
                .filter(|hop| hop.connection.session == *number && hop.verdict != Verdict::Kept)
                .collect();
            assert_eq!(
                edits.len(),
                written.len(),
                "{} connection {number}",
                capture.name
            );
            for (edit, hop) in edits.iter().zip(written) {
                let traceparent = format_traceparent(&hop.context);
                assert_eq!(edit.header("traceparent"), Some(traceparent.into()));
                assert_eq!(
                    edit.header("tracestate"),
                    Some(hop.tracestate.as_str().into())
                );
            }
        }
    }
}

#[test]
fn observing_changes_nothing() {
    let policy = Policy {
        mode: Mode::Observe,
        ..Policy::default()
    };
    for (capture, place) in captures() {
        for (number, said) in capture.replay(place, policy, None).connections {
            let same = said.by_client == said.outcome.to_broker
                && said.by_broker == said.outcome.to_client;
            assert!(same, "{} connection {number}", capture.name);
        }
    }
}

#[test]
fn it_does_not_matter_how_the_bytes_arrive() {
    for (capture, place) in captures() {
        let whole = capture.replay(place, Policy::default(), None);
        let same = |cut: Replay| assert!(whole == cut, "{}", capture.name);
        same(capture.replay(place, Policy::default(), Some(Cutting::Bytes)));
        for seed in 0..3 {
            same(capture.replay(place, Policy::default(), Some(Cutting::Random(seed))));
        }
    }
}
