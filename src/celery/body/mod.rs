//! The bodies of protocol-1 tasks, where everything stands that protocol 2 has in the headers.
//!
//! A body is read as far as a worker would: by the content type and the compression that
//! the message gives. What is in doubt is not a task.

mod fields;
mod json;
mod msgpack;
mod pickle;
#[cfg(test)]
mod samples;
mod yaml;

use std::borrow::Cow;
use std::io::Read;

use flate2::read::ZlibDecoder;

use crate::celery::Task;
use crate::celery::body::fields::Fields;

/// The task that a body describes, `None` if it is something else; or why it cannot be told,
/// which a worker may be able to.
///
/// `body` is what the serializer and the compression made, without any base64 around it; it
/// is inflated to `inflated_bytes_max` at most. Nothing in it is ever executed, and the work
/// is linear in its length.
pub fn read_protocol1(
    body: &[u8],
    content_type: &str,
    compression: Option<&str>,
    inflated_bytes_max: usize,
) -> Result<Option<Task<'static>>, &'static str> {
    let body = match compression {
        None => Cow::Borrowed(body),
        // Whatever it is called, it is zlib's format.
        Some("application/x-gzip" | "gzip" | "zlib") => {
            Cow::Owned(inflated(body, inflated_bytes_max)?)
        }
        Some(_) => return Err("unknown_compression"),
    };
    let mut fields = Fields::default();
    let read = match content_type {
        "application/json" => json::read(&body, &mut fields),
        "application/x-python-serialize" => pickle::read(&body, &mut fields),
        "application/x-msgpack" => msgpack::read(&body, &mut fields),
        "application/x-yaml" => yaml::read(&body, &mut fields),
        // A worker gets text, which is no task.
        "text/plain" | "" => Some(()),
        _ => return Err("unknown_content_type"),
    };
    read.ok_or("unreadable_body")?;
    Ok(fields.into_task().map(Task::into_owned))
}

fn inflated(body: &[u8], bytes_max: usize) -> Result<Vec<u8>, &'static str> {
    let mut inflated = Vec::new();
    // One more than is allowed, to tell the whole from a beginning.
    let limit = u64::try_from(bytes_max).unwrap_or(u64::MAX);
    ZlibDecoder::new(body)
        .take(limit.saturating_add(1))
        .read_to_end(&mut inflated)
        .map_err(|_| "unreadable_body")?;
    if inflated.len() > bytes_max {
        return Err("over_hold_limit");
    }
    Ok(inflated)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::ZlibEncoder;
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::celery::TaskProtocol;

    const SAMPLES: [(&str, &[u8]); 9] = [
        ("application/json", samples::JSON),
        ("application/x-yaml", samples::YAML),
        ("application/x-yaml", samples::YAML_FLOW),
        ("application/x-msgpack", samples::MSGPACK),
        ("application/x-python-serialize", samples::PICKLE_0),
        ("application/x-python-serialize", samples::PICKLE_2),
        ("application/x-python-serialize", samples::PICKLE_4),
        ("application/x-python-serialize", samples::PICKLE_OBJECTS),
        ("application/x-python-serialize", samples::PICKLE_PYTHON_2),
    ];

    fn sample_task() -> Task<'static> {
        Task {
            name: "tasks.add".into(),
            id: "50fbde83-f755-40e9-a1de-76192c8eca74".into(),
            root_id: None,
            parent_id: None,
            group: Some("0e0f1e6a-1111-4222-8333-444455556666".into()),
            eta: Some("2026-11-22T08:53:23.736583+00:00".into()),
            retries: 1,
            protocol: TaskProtocol::One,
            ..Task::default()
        }
    }

    fn read(content_type: &str, body: &[u8]) -> Option<Task<'static>> {
        read_protocol1(body, content_type, None, 0).ok().flatten()
    }

    fn deflated(body: &[u8]) -> Vec<u8> {
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(body).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn a_task_is_read_whatever_serialized_it() {
        for (content_type, body) in SAMPLES {
            assert_eq!(
                read(content_type, body),
                Some(sample_task()),
                "{content_type}"
            );
        }
    }

    #[test]
    fn a_task_is_read_from_a_compressed_body() {
        let compression = Some("application/x-gzip");
        let task = read_protocol1(samples::JSON_ZLIB, "application/json", compression, 1000);
        assert_eq!(task, Ok(Some(sample_task())));
        for (content_type, body) in SAMPLES {
            let task = read_protocol1(&deflated(body), content_type, compression, body.len());
            assert_eq!(task, Ok(Some(sample_task())), "{content_type}");
        }
    }

    #[test]
    fn a_body_that_inflates_beyond_the_limit_is_not_read() {
        let long = samples::JSON.len();
        for (body, limit, expected) in [
            (deflated(samples::JSON), long, Ok(Some(sample_task()))),
            (deflated(samples::JSON), long - 1, Err("over_hold_limit")),
            (deflated(&vec![b' '; 1 << 20]), 1000, Err("over_hold_limit")),
            (
                samples::JSON_ZLIB[..100].to_vec(),
                1000,
                Err("unreadable_body"),
            ),
            (samples::JSON.to_vec(), 1000, Err("unreadable_body")),
        ] {
            let task = read_protocol1(&body, "application/json", Some("zlib"), limit);
            assert_eq!(task, expected);
        }
    }

    #[test]
    fn what_a_worker_may_be_able_to_read_says_why_it_is_not_read_here() {
        for (content_type, compression, why) in [
            (
                "application/json",
                Some("application/x-bz2"),
                "unknown_compression",
            ),
            (
                "application/json",
                Some("application/zstd"),
                "unknown_compression",
            ),
            ("application/data", None, "unknown_content_type"),
            (
                "application/x-yaml; charset=utf-8",
                None,
                "unknown_content_type",
            ),
            ("application/x-python-serialize", None, "unreadable_body"),
        ] {
            let task = read_protocol1(samples::JSON, content_type, compression, 1000);
            assert_eq!(task, Err(why));
        }
    }

    #[test]
    fn what_is_read_to_its_end_and_is_something_else_has_no_reason() {
        for (content_type, body) in [
            ("text/plain", samples::JSON),
            ("", samples::JSON),
            ("application/json", b"[{}]"),
            ("application/json", b"null"),
            ("application/json", br#"{"task": "a", "args": []}"#),
            ("application/x-yaml", b"- a\n- b: 1\n"),
            ("application/x-yaml", b"[1]"),
            ("application/x-msgpack", b"\x91\xc0"),
            ("application/x-python-serialize", b"N."),
        ] {
            let task = read_protocol1(body, content_type, None, 1000);
            assert_eq!(task, Ok(None), "{content_type}");
        }
    }

    /// Each step of a chain stands in the callbacks of the one before.
    #[test]
    fn a_chain_is_read_however_many_steps_it_has() {
        for steps in [44, 1_000, 10_000] {
            let link = r#"[{"task": "a", "options": {"link": "#;
            let (links, ends) = (link.repeat(steps), "}}]".repeat(steps));
            let body = format!(
                r#"{{"callbacks": {links}null{ends}, "task": "a", "id": "1", "args": []}}"#
            );
            let task = read("application/json", body.as_bytes());
            assert_eq!(task.map(|task| task.id), Some("1".into()), "{steps}");
        }
    }

    #[test]
    fn an_id_may_be_a_number() {
        for (content_type, body) in [
            (
                "application/json",
                &br#"{"task": "a", "id": 42, "args": [], "group": 7}"#[..],
            ),
            (
                "application/x-yaml",
                b"task: a\nid: 42\nargs: []\ngroup: 7\n",
            ),
            (
                "application/x-msgpack",
                b"\x84\xa4task\xa1a\xa2id\x2a\xa4args\x90\xa5group\x07",
            ),
            (
                "application/x-python-serialize",
                b"}(\x8c\x04task\x8c\x01a\x8c\x02idK*\x8c\x04args]\x8c\x05groupK\x07u.",
            ),
        ] {
            let task = read(content_type, body).expect(content_type);
            assert_eq!((&*task.id, task.group.as_deref()), ("42", Some("7")));
        }
    }

    #[test]
    fn what_is_read_as_something_else_is_no_task() {
        for (content_type, body) in SAMPLES {
            for (other, _) in SAMPLES {
                // JSON is YAML as well.
                if content_type != other && (content_type, other) != (SAMPLES[0].0, SAMPLES[1].0) {
                    assert_eq!(read(other, body), None, "{content_type} as {other}");
                }
            }
        }
    }

    #[test]
    fn a_truncated_body_is_no_task() {
        for (content_type, body) in SAMPLES {
            // YAML has no end of its own.
            if content_type != "application/x-yaml" {
                for end in 0..body.len() {
                    assert_eq!(read(content_type, &body[..end]), None);
                }
            }
        }
    }

    #[test]
    fn other_things_are_no_task() {
        for body in [
            // Protocol 2.
            r#"[[2, 3], {}, {"callbacks": null, "errbacks": null, "chain": null, "chord": null}]"#,
            // A result.
            r#"{"status": "SUCCESS", "result": 5, "traceback": null, "children": [],
                "task_id": "67cf8238-3d2f-4093-a017-3996a7b665b7"}"#,
            // Events, singly and bundled.
            r#"{"hostname": "host1", "utcoffset": 0, "pid": 7, "clock": 12, "name": "tasks.add",
                "uuid": "67cf8238-3d2f-4093-a017-3996a7b665b7", "args": "(2, 3)", "kwargs": "{}",
                "retries": 0, "eta": null, "root_id": "67cf8238-3d2f-4093-a017-3996a7b665b7",
                "parent_id": null, "timestamp": 1795332409.5, "type": "task-received"}"#,
            r#"[{"uuid": "67cf8238-3d2f-4093-a017-3996a7b665b7", "type": "task-started"}]"#,
            // Remote control.
            r#"{"method": "ping", "arguments": {}, "destination": null, "pattern": null,
                "matcher": null, "ticket": "6ff7e83a", "reply_to": {"exchange":
                "reply.celery.pidbox", "routing_key": "cf14b49a"}}"#,
            r#"{"celery@host1": {"ok": "pong"}}"#,
            // Short of a task by one thing.
            r#"{"id": "a", "args": [], "kwargs": {}}"#,
            r#"{"task": "a", "args": [], "kwargs": {}}"#,
            r#"{"task": "a", "id": "b", "retries": 0}"#,
            r#"{"task": "a", "id": "", "args": []}"#,
            r#"{"task": "a", "id": 1.5, "args": []}"#,
            r#"{"task": null, "id": "b", "args": []}"#,
            r#"{"task": {"task": "a", "id": "b", "args": []}}"#,
            r#"{"task": "a", "id": "b", "args": []} {}"#,
            "",
            "null",
        ] {
            assert_eq!(read("application/json", body.as_bytes()), None, "{body}");
        }
    }

    #[test]
    fn a_producer_may_leave_out_what_has_a_default() {
        let body = br#"{"id": "1", "kwargs": {}, "task": "a", "taskset": "c", "retries": null}"#;
        let task = Task {
            name: "a".into(),
            id: "1".into(),
            group: Some("c".into()),
            protocol: TaskProtocol::One,
            ..Task::default()
        };
        assert_eq!(read("application/json", body), Some(task));
    }

    #[test]
    fn a_member_of_a_group_has_a_place() {
        let body = br#"{"task": "a", "id": "1", "args": [], "group": "c", "group_index": 4,
            "utc": true}"#;
        let task = read("application/json", body).unwrap();
        assert_eq!(
            (task.group.as_deref(), task.group_index),
            (Some("c"), Some(4))
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_to_an_end(
            body in vec(any::<u8>(), 0..200),
            (content_type, _) in prop::sample::select(&SAMPLES[..]),
            compression in prop_oneof![Just(None), Just(Some("zlib"))],
        ) {
            let _ = read_protocol1(&body, content_type, compression, 1000);
        }

        #[test]
        fn damaged_bodies_are_read_to_an_end(
            (content_type, body) in prop::sample::select(&SAMPLES[..]),
            damage in vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        ) {
            let mut body = body.to_vec();
            for (place, byte) in damage {
                *place.get_mut(&mut body) = byte;
            }
            let _ = read(content_type, &body);
        }
    }
}
