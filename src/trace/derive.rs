//! Ids that follow from the message, so that every replica finds the same ones.

use sha2::Digest;
use sha2::Sha256;
use uuid::Uuid;
use uuid::Variant;

use crate::trace::SpanId;
use crate::trace::TraceFlags;
use crate::trace::TraceId;

/// The trace that belongs to a workflow: the sixteen bytes of `id` where it is a UUID,
/// else the first sixteen of its SHA-256.
///
/// The random flag comes along only for a random UUID (version 4): its seven right-most
/// bytes are random, which is what the flag promises.
#[must_use]
pub fn derived_trace_id(id: &str) -> (TraceId, TraceFlags) {
    if let Ok(uuid) = Uuid::try_parse(id)
        && let Some(trace_id) = TraceId::new(uuid.into_bytes())
    {
        let random = uuid.get_version_num() == 4 && uuid.get_variant() == Variant::RFC4122;
        let flags = if random {
            TraceFlags::RANDOM
        } else {
            TraceFlags::default()
        };
        return (trace_id, flags);
    }
    (
        TraceId::nonzero(sha256(&[id.as_bytes()])),
        TraceFlags::default(),
    )
}

/// The span of one leg (`send`, `receive`, `process`) of one attempt of a task: the first
/// eight bytes of the SHA-256 of `leg:task_id:retries:replaced`.
///
/// `replaced` is Celery's `replaced_task_nesting`: a replaced task keeps its id and its
/// number of retries, and is an attempt of its own all the same.
#[must_use]
pub fn derived_span_id(leg: &str, task_id: &str, retries: u32, replaced: u32) -> SpanId {
    let mut digits = [itoa::Buffer::new(), itoa::Buffer::new()];
    let [retries_digits, replaced_digits] = &mut digits;
    SpanId::nonzero(sha256(&[
        leg.as_bytes(),
        b":",
        task_id.as_bytes(),
        b":",
        retries_digits.format(retries).as_bytes(),
        b":",
        replaced_digits.format(replaced).as_bytes(),
    ]))
}

/// A short key for an id of any length: the UUID itself, or a digest.
#[must_use]
pub fn key_of(id: &str) -> [u8; 16] {
    derived_trace_id(id).0.to_bytes()
}

/// The first `N` bytes of the SHA-256 of `parts`; `N` is at most 32.
fn sha256<const N: usize>(parts: &[&[u8]]) -> [u8; N] {
    let mut sha256 = Sha256::new();
    for part in parts {
        sha256.update(part);
    }
    let digest = sha256.finalize();
    std::array::from_fn(|index| digest.get(index).copied().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_random_uuid_is_the_trace_id_and_sets_the_random_flag() {
        let (trace_id, flags) = derived_trace_id("50fbde83-f755-40e9-a1de-76192c8eca74");
        assert_eq!(trace_id.to_string(), "50fbde83f75540e9a1de76192c8eca74");
        assert_eq!(flags, TraceFlags::RANDOM);
    }

    #[test]
    fn a_name_based_uuid_is_not_random() {
        let (trace_id, flags) = derived_trace_id("82426b08-5ac4-3734-ad40-af5e8ae2bbf9");
        assert_eq!(trace_id.to_string(), "82426b085ac43734ad40af5e8ae2bbf9");
        assert_eq!(flags, TraceFlags::default());
    }

    #[test]
    fn any_other_id_is_digested() {
        // printf 'nightly-report' | sha256sum
        let (trace_id, flags) = derived_trace_id("nightly-report");
        assert_eq!(trace_id.to_string(), "6743ba10a2b2c4879cf6af5c75140be7");
        assert_eq!(flags, TraceFlags::default());
    }

    #[test]
    fn the_nil_uuid_is_digested_too() {
        let (trace_id, _) = derived_trace_id("00000000-0000-0000-0000-000000000000");
        assert_eq!(trace_id.to_string(), "12b9377cbe7e5c94e8a70d9d23929523");
    }

    #[test]
    fn every_attempt_has_a_span_of_its_own() {
        let first = derived_span_id("send", "50fbde83-f755-40e9-a1de-76192c8eca74", 0, 0);
        assert_eq!(first.to_string(), "7833af78daa79777");
        for (retries, replaced) in [(1, 0), (0, 1)] {
            let other = derived_span_id(
                "send",
                "50fbde83-f755-40e9-a1de-76192c8eca74",
                retries,
                replaced,
            );
            assert_ne!(first, other);
        }
    }
}
