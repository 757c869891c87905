//! What workers say of the runs of tasks: in results and in events.

use std::borrow::Cow;
use std::time::Duration;

use crate::celery::HeaderValue;
use crate::celery::TaskState;
use crate::celery::json::Key;
use crate::celery::json::Scan;
use crate::celery::json::Unreadable;
use crate::celery::json::Value;

/// One thing that a worker says of a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told<'a> {
    /// The task's id; `None` where the text does not give it, or not in the part that is
    /// there.
    pub id: Option<Cow<'a, str>>,
    pub state: TaskState,
    /// When that was by the worker's clock, in nanoseconds since the Unix epoch.
    pub at_nanos: Option<u64>,
    /// How long the run took, by the event of its success.
    pub runtime: Option<Duration>,
}

/// Reads a result as workers write it to a backend, in JSON. The beginning of one will do, as
/// long as it gives the state. `None`: it is none, or it does not end or begin a run.
#[must_use]
pub fn read_result(text: &[u8]) -> Option<Told<'_>> {
    let mut scan = Scan::new(text);
    if !scan.enter_object().ok()? {
        return None;
    }
    let mut state = None;
    let mut id = None;
    // As far as the text goes; of two members of one name the last one counts.
    while let Ok(Some((key, value))) = next_member(&mut scan) {
        if key.is("status") {
            state = value.text().and_then(|status| state_of(RESULTS, &status));
        } else if key.is("task_id") {
            id = id_of(&value);
        }
    }
    Some(Told {
        id,
        state: state?,
        at_nanos: None,
        runtime: None,
    })
}

/// Reads the body of an event message, in JSON: one event, or a list of them. Events that say
/// nothing of the run of a task are left out, and so is everything in a body that is none.
///
/// Of a list no more than the first 1000 events are read.
#[must_use]
pub fn read_events(body: &[u8]) -> Vec<Told<'_>> {
    events(body).unwrap_or_default()
}

fn events(body: &[u8]) -> Result<Vec<Told<'_>>, Unreadable> {
    let mut scan = Scan::new(body);
    let mut told = Vec::new();
    if scan.enter_array()? {
        let mut number = 0;
        while scan.next_item()? {
            number += 1;
            if number <= EVENTS_MAX {
                told.extend(event(&mut scan)?);
            }
        }
    } else {
        told.extend(event(&mut scan)?);
    }
    scan.end()?;
    Ok(told)
}

/// The event that is due, if it says something of the run of a task.
fn event<'a>(scan: &mut Scan<'a>) -> Result<Option<Told<'a>>, Unreadable> {
    if !scan.enter_object()? {
        scan.value()?;
        return Ok(None);
    }
    let mut state = None;
    let mut id = None;
    let mut at_nanos = None;
    let mut runtime = None;
    while let Some((key, value)) = next_member(scan)? {
        if key.is("type") {
            state = value.text().and_then(|kind| state_of(EVENTS, &kind));
        } else if key.is("uuid") {
            id = id_of(&value);
        } else if key.is("timestamp") {
            at_nanos = value.float().and_then(nanos);
        } else if key.is("runtime") {
            runtime = value
                .float()
                .and_then(|took| Duration::try_from_secs_f64(took).ok());
        }
    }
    let (Some(state), Some(_)) = (state, &id) else {
        return Ok(None);
    };
    Ok(Some(Told {
        id,
        state,
        at_nanos,
        runtime,
    }))
}

fn next_member<'a>(scan: &mut Scan<'a>) -> Result<Option<(Key<'a>, Value<'a>)>, Unreadable> {
    match scan.next_key()? {
        Some(key) => Ok(Some((key, scan.value()?))),
        None => Ok(None),
    }
}

fn id_of<'a>(value: &Value<'a>) -> Option<Cow<'a, str>> {
    HeaderValue::from(*value).into_written()
}

fn state_of(words: [(&str, TaskState); 6], said: &str) -> Option<TaskState> {
    words
        .into_iter()
        .find_map(|(word, state)| (word == said).then_some(state))
}

/// The moment that many seconds after the epoch.
fn nanos(seconds: f64) -> Option<u64> {
    let since_epoch = Duration::try_from_secs_f64(seconds).ok()?;
    u64::try_from(since_epoch.as_nanos()).ok()
}

/// What results call the states (`celery/states.py`). The others are neither the beginning
/// nor the end of a run: `PENDING` and `RECEIVED` come before it, what an app makes up, such
/// as `PROGRESS`, comes in it, and `IGNORED` is written by no worker.
const RESULTS: [(&str, TaskState); 6] = [
    ("STARTED", TaskState::Started),
    ("SUCCESS", TaskState::Succeeded),
    ("FAILURE", TaskState::Failed),
    ("RETRY", TaskState::Retried),
    ("REVOKED", TaskState::Revoked),
    ("REJECTED", TaskState::Rejected),
];

/// The events that tell the same
/// (<https://docs.celeryq.dev/en/stable/userguide/monitoring.html#task-events>).
const EVENTS: [(&str, TaskState); 6] = [
    ("task-started", TaskState::Started),
    ("task-succeeded", TaskState::Succeeded),
    ("task-failed", TaskState::Failed),
    ("task-retried", TaskState::Retried),
    ("task-revoked", TaskState::Revoked),
    ("task-rejected", TaskState::Rejected),
];

/// A worker bundles some two dozen (`celery/events/dispatcher.py`, `buffer_limit`).
const EVENTS_MAX: usize = 1000;

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    const ID: &str = "e4afcaa0-e9c7-450c-8b66-2ca99b408787";

    fn result(text: &str) -> Option<(Option<String>, TaskState)> {
        let told = read_result(text.as_bytes())?;
        assert_eq!(told.at_nanos, None);
        Some((told.id.map(Cow::into_owned), told.state))
    }

    /// What Celery 5.7 writes, to Redis and by `rpc://`.
    const STARTED: &str = r#"{"status": "STARTED", "result": {"pid": 682, "hostname": "w1@host1"}, "traceback": null, "children": [], "date_done": null, "task_id": "e4afcaa0-e9c7-450c-8b66-2ca99b408787"}"#;
    const FAILURE: &str = r#"{"status": "FAILURE", "result": {"exc_type": "ValueError", "exc_message": ["\"status\": \"SUCCESS\", {["], "exc_module": "builtins"}, "traceback": "Traceback (most recent call last):\n  File \"/srv/app/code/tasks.py\", line 44, in boom\n    note(self.request, 'boom'); raise ValueError('boom')\n", "children": [], "date_done": "2026-11-22T07:25:04.987818+00:00", "task_id": "e4afcaa0-e9c7-450c-8b66-2ca99b408787"}"#;

    #[test]
    fn every_state_that_begins_or_ends_a_run_is_known() {
        for (status, state) in [
            ("STARTED", Some(TaskState::Started)),
            ("SUCCESS", Some(TaskState::Succeeded)),
            ("FAILURE", Some(TaskState::Failed)),
            ("RETRY", Some(TaskState::Retried)),
            ("REVOKED", Some(TaskState::Revoked)),
            ("REJECTED", Some(TaskState::Rejected)),
            ("PENDING", None),
            ("RECEIVED", None),
            ("IGNORED", None),
            ("PROGRESS", None),
            ("success", None),
            ("", None),
        ] {
            let last = STARTED.replace("STARTED", status);
            let first = format!(r#"{{"task_id": "{ID}", "status": "{status}", "result": 1}}"#);
            for text in [last, first] {
                let expected = state.map(|state| (Some(ID.to_owned()), state));
                assert_eq!(result(&text), expected, "{text}");
            }
        }
    }

    #[test]
    fn of_a_result_the_beginning_will_do() {
        for text in [STARTED, FAILURE] {
            let state = result(text).unwrap().1;
            let has_state = text.find(", \"result").unwrap();
            let has_id = text.len() - 1;
            for end in 0..=text.len() {
                let expected =
                    (end >= has_state).then(|| ((end >= has_id).then(|| ID.to_owned()), state));
                assert_eq!(result(&text[..end]), expected, "{}", &text[..end]);
            }
        }
    }

    #[test]
    fn what_a_task_returns_does_not_speak_for_it() {
        for (text, expected) in [
            (
                r#"{"result": {"status": "SUCCESS", "task_id": "b"}, "status": "RETRY", "task_id": "a"}"#,
                Some((Some("a".to_owned()), TaskState::Retried)),
            ),
            (
                r#"{"result": "\"status\": \"SUCCESS\"", "task_id": "a"}"#,
                None,
            ),
            (r#"{"result": {"status": "SUCCESS""#, None),
            (r#"[{"status": "SUCCESS"}]"#, None),
            (r#""{\"status\": \"SUCCESS\"}""#, None),
            (r#"{"status": {"status": "SUCCESS"}}"#, None),
            (r#"{"status": ["SUCCESS"]}"#, None),
            (r#"{"status": 0}"#, None),
            (r#"{"Status": "SUCCESS"}"#, None),
        ] {
            assert_eq!(result(text), expected, "{text}");
        }
    }

    #[test]
    fn of_two_members_of_a_result_the_last_counts() {
        let text = r#"{"status": "SUCCESS", "task_id": "a", "status": "RETRY", "task_id": "b"}"#;
        let expected = Some((Some("b".to_owned()), TaskState::Retried));
        assert_eq!(result(text), expected);
        let text = r#"{"st\u0061tus": "RETR\u0059", "task_id": ""}"#;
        assert_eq!(result(text), Some((None, TaskState::Retried)));
    }

    fn told(id: &'static str, state: TaskState, at_nanos: Option<u64>) -> Told<'static> {
        Told {
            id: Some(id.into()),
            state,
            at_nanos,
            runtime: None,
        }
    }

    /// As a worker of Celery 5.7 bundles them.
    const BUNDLE: &str = r#"[{"hostname": "w1@host1", "utcoffset": 0.0, "pid": 6913, "clock": 1, "uuid": "e4afcaa0-e9c7-450c-8b66-2ca99b408787", "name": "tasks.add", "args": "(1, 1)", "kwargs": "{}", "root_id": "e4afcaa0-e9c7-450c-8b66-2ca99b408787", "parent_id": null, "retries": 0, "eta": null, "expires": null, "timestamp": 1795332884.1850724, "type": "task-received"}, {"hostname": "w1@host1", "utcoffset": 0.0, "pid": 6913, "clock": 2, "uuid": "e4afcaa0-e9c7-450c-8b66-2ca99b408787", "timestamp": 1795332884.5, "type": "task-started"}, {"hostname": "w1@host1", "utcoffset": 0.0, "pid": 6913, "clock": 3, "uuid": "e4afcaa0-e9c7-450c-8b66-2ca99b408787", "result": "2", "runtime": 0.008585472000049776, "timestamp": 1795332885.0, "type": "task-succeeded"}]"#;

    #[test]
    fn a_bundle_of_events_tells_of_the_runs_in_it() {
        assert_eq!(
            read_events(BUNDLE.as_bytes()),
            [
                told(ID, TaskState::Started, Some(1_795_332_884_500_000_000)),
                Told {
                    runtime: Some(Duration::from_nanos(8_585_472)),
                    ..told(ID, TaskState::Succeeded, Some(1_795_332_885_000_000_000))
                },
            ]
        );
    }

    #[test]
    fn events_that_are_cut_off_tell_nothing() {
        for end in 0..BUNDLE.len() {
            assert_eq!(read_events(&BUNDLE.as_bytes()[..end]), []);
        }
        let trailing = format!("{BUNDLE},");
        assert_eq!(read_events(trailing.as_bytes()), []);
    }

    #[test]
    fn an_event_needs_a_type_that_tells_of_a_run_and_an_id() {
        for (text, expected) in [
            (
                r#"{"type": "task-started", "uuid": "a"}"#,
                Some(TaskState::Started),
            ),
            (
                r#"{"uuid": "a", "type": "task-succeeded"}"#,
                Some(TaskState::Succeeded),
            ),
            (
                r#"{"uuid": "a", "type": "task-failed"}"#,
                Some(TaskState::Failed),
            ),
            (
                r#"{"uuid": "a", "type": "task-retried"}"#,
                Some(TaskState::Retried),
            ),
            (
                r#"{"uuid": "a", "type": "task-revoked"}"#,
                Some(TaskState::Revoked),
            ),
            (
                r#"{"uuid": "a", "type": "task-rejected"}"#,
                Some(TaskState::Rejected),
            ),
            (r#"{"uuid": "a", "type": "task-sent"}"#, None),
            (r#"{"uuid": "a", "type": "task-received"}"#, None),
            (r#"{"uuid": "a", "type": "task-custom"}"#, None),
            (r#"{"uuid": "a", "type": "worker-heartbeat"}"#, None),
            (r#"{"uuid": "", "type": "task-started"}"#, None),
            (r#"{"uuid": 1.5, "type": "task-started"}"#, None),
            (r#"{"uuid": "a", "type": null}"#, None),
            (r#"{"type": "task-started"}"#, None),
            (r#"{"uuid": "a"}"#, None),
            (r#"{"event": {"uuid": "a", "type": "task-started"}}"#, None),
            ("{}", None),
            ("null", None),
            ("", None),
        ] {
            let expected: Vec<_> = expected
                .map(|state| told("a", state, None))
                .into_iter()
                .collect();
            assert_eq!(read_events(text.as_bytes()), expected, "{text}");
            if !text.is_empty() {
                let list = format!("[1, {text}, [{text}]]");
                assert_eq!(read_events(list.as_bytes()), expected, "{list}");
            }
        }
    }

    #[test]
    fn only_a_moment_is_one() {
        for (written, expected) in [
            ("1795332884.25", Some(1_795_332_884_250_000_000)),
            ("1795332884", Some(1_795_332_884_000_000_000)),
            ("0", Some(0)),
            ("-1", None),
            ("1e300", None),
            ("1e400", None),
            ("NaN", None),
            ("\"1795332884\"", None),
            ("null", None),
        ] {
            let text =
                format!(r#"{{"uuid": "a", "type": "task-started", "timestamp": {written}}}"#);
            let expected = [told("a", TaskState::Started, expected)];
            assert_eq!(read_events(text.as_bytes()), expected, "{written}");
        }
    }

    #[test]
    fn an_id_may_be_a_number() {
        let event = read_events(br#"{"uuid": 4242, "type": "task-started"}"#);
        assert_eq!(event, [told("4242", TaskState::Started, None)]);
    }

    #[test]
    fn no_more_events_are_told_than_the_limit() {
        let event = r#"{"uuid": "a", "type": "task-started"}"#;
        let many = format!("[{}]", vec![event; EVENTS_MAX + 1].join(","));
        assert_eq!(read_events(many.as_bytes()).len(), EVENTS_MAX);
    }

    fn value() -> impl Strategy<Value = serde_json::Value> {
        let word = prop::sample::select(
            &[
                "STARTED",
                "SUCCESS",
                "RETRY",
                "PENDING",
                "task-started",
                "task-failed",
                "task-sent",
                "a",
                "",
                "\u{fc}\"\\\n",
            ][..],
        );
        let leaf = prop_oneof![
            6 => word.prop_map(|word| json!(word)),
            1 => Just(json!(null)),
            1 => any::<i32>().prop_map(|number| json!(number)),
            1 => (0..4_000_000_000_u32).prop_map(|number| json!(f64::from(number) + 0.5)),
        ];
        let name =
            prop::sample::select(&["status", "task_id", "result", "uuid", "type", "timestamp"][..]);
        leaf.prop_recursive(4, 40, 8, move |inner| {
            prop_oneof![
                1 => vec(inner.clone(), 0..4).prop_map(|items| json!(items)),
                3 => prop::collection::hash_map(name.clone(), inner, 0..7)
                    .prop_map(|members| json!(members)),
            ]
        })
    }

    /// What serde_json finds, in the plainest way.
    fn expected(
        object: &serde_json::Value,
        words: [(&str, TaskState); 6],
        [kind, id]: [&str; 2],
    ) -> Option<(Option<String>, TaskState)> {
        let text = |name| object.get(name).and_then(serde_json::Value::as_str);
        let number = object.get(id).and_then(serde_json::Value::as_i64);
        let id = text(id).filter(|id| !id.is_empty()).map(str::to_owned);
        let id = id.or_else(|| Some(number?.to_string()));
        Some((id, state_of(words, text(kind)?)?))
    }

    proptest! {
        #[test]
        fn results_say_what_serde_json_finds(value in value()) {
            let text = value.to_string();
            prop_assert_eq!(result(&text), expected(&value, RESULTS, ["status", "task_id"]));
            let text = format!("{value:#}");
            prop_assert_eq!(result(&text), expected(&value, RESULTS, ["status", "task_id"]));
        }

        #[test]
        fn events_say_what_serde_json_finds(value in value()) {
            let text = value.to_string();
            let found: Vec<_> = match &value {
                serde_json::Value::Array(events) => events.iter().collect(),
                event => vec![event],
            };
            let found: Vec<_> = found
                .into_iter()
                .filter_map(|event| {
                    let (id, state) = expected(event, EVENTS, ["type", "uuid"])?;
                    let at = event.get("timestamp").and_then(serde_json::Value::as_f64);
                    Some(Told {
                        id: Some(id?.into()),
                        state,
                        at_nanos: at.and_then(nanos),
                        runtime: None,
                    })
                })
                .collect();
            prop_assert_eq!(read_events(text.as_bytes()), found);
        }

        #[test]
        fn any_bytes_are_read_to_an_end(text in vec(any::<u8>(), 0..100)) {
            let _ = read_result(&text);
            let _ = read_events(&text);
        }

        #[test]
        fn a_damaged_result_is_read_to_an_end(
            place in any::<prop::sample::Index>(),
            byte in any::<u8>(),
        ) {
            for text in [FAILURE, BUNDLE] {
                let mut text = text.as_bytes().to_vec();
                *place.get_mut(&mut text) = byte;
                let _ = read_result(&text);
                let _ = read_events(&text);
            }
        }
    }
}
