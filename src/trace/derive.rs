//! Ids that follow from the message, so that every replica finds the same ones.

use sha2::Digest;
use sha2::Sha256;
use uuid::Uuid;
use uuid::Variant;

use crate::trace::SpanId;
use crate::trace::TraceId;

/// The trace that belongs to a workflow: the sixteen bytes of `id`, if that is unique by its
/// making, a UUID of version 4 or 7. `None`: an app chose it, and may choose it again.
///
/// Its seven right-most bytes are random, which is what the random flag promises.
#[must_use]
pub fn derived_trace_id(id: &str) -> Option<TraceId> {
    let uuid = uuid(id)?;
    let is_unique =
        matches!(uuid.get_version_num(), 4 | 7) && uuid.get_variant() == Variant::RFC4122;
    TraceId::new(uuid.into_bytes()).filter(|_| is_unique)
}

/// The span of one leg (`send`, `receive`, `process`) of one attempt of a task: the first
/// eight bytes of the SHA-256 of `leg:task_id:retries:replaced`.
///
/// `replaced` is Celery's `replaced_task_nesting`: a replaced task keeps its id and its
/// number of retries, and is an attempt of its own all the same.
#[must_use]
pub fn derived_span_id(leg: &str, task_id: &str, retries: u32, replaced: u32) -> SpanId {
    derived_ids(leg, task_id, retries, replaced).0
}

/// The same, and the next four bytes, which name the message itself where the leg is `send`.
#[must_use]
pub fn derived_ids(
    leg: &str,
    task_id: &str,
    retries: u32,
    replaced: u32,
) -> (SpanId, MessageDigest) {
    let mut digits = [itoa::Buffer::new(), itoa::Buffer::new()];
    let [retries_digits, replaced_digits] = &mut digits;
    let digest: [u8; 12] = sha256(&[
        leg.as_bytes(),
        b":",
        task_id.as_bytes(),
        b":",
        retries_digits.format(retries).as_bytes(),
        b":",
        replaced_digits.format(replaced).as_bytes(),
    ]);
    let [a, b, c, d, e, f, g, h, message @ ..] = digest;
    let span_id = SpanId::nonzero([a, b, c, d, e, f, g, h]);
    (span_id, MessageDigest(message))
}

/// Which message is meant: a task, and which attempt of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MessageDigest(pub [u8; 4]);

/// A short key for an id of any length: the UUID itself, or a digest.
#[must_use]
pub fn key_of(id: &str) -> [u8; 16] {
    uuid(id).map_or_else(|| sha256(&[id.as_bytes()]), Uuid::into_bytes)
}

/// A short key for an id that means something only within `scope`.
#[must_use]
pub fn key_within(scope: &[&[u8]], id: &str) -> [u8; 16] {
    let mut sha256 = Sha256::new();
    for part in scope {
        // Behind its length none can be taken for a part of the next.
        sha256.update(part.len().to_be_bytes());
        sha256.update(part);
    }
    sha256.update(id);
    first(sha256)
}

/// The UUID that is written in the usual form, or as hex digits alone.
fn uuid(text: &str) -> Option<Uuid> {
    matches!(text.len(), 32 | 36)
        .then(|| Uuid::try_parse(text).ok())
        .flatten()
}

/// The first `N` bytes of the SHA-256 of `parts`; `N` is at most 32.
fn sha256<const N: usize>(parts: &[&[u8]]) -> [u8; N] {
    let mut sha256 = Sha256::new();
    for part in parts {
        sha256.update(part);
    }
    first(sha256)
}

fn first<const N: usize>(sha256: Sha256) -> [u8; N] {
    let digest = sha256.finalize();
    std::array::from_fn(|index| digest.get(index).copied().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uuid_that_is_unique_by_its_making_is_the_trace_id() {
        for id in [
            "50fbde83-f755-40e9-a1de-76192c8eca74",
            "50FBDE83-F755-40E9-A1DE-76192C8ECA74",
            "50fbde83f75540e9a1de76192c8eca74",
        ] {
            let trace_id = derived_trace_id(id).map(|id| id.to_string());
            assert_eq!(
                trace_id.as_deref(),
                Some("50fbde83f75540e9a1de76192c8eca74")
            );
        }
        let version_7 = derived_trace_id("019af2c3-5d1e-7c40-8f6a-0b1c2d3e4f50");
        assert_eq!(
            version_7.map(|id| id.to_string()).as_deref(),
            Some("019af2c35d1e7c408f6a0b1c2d3e4f50")
        );
    }

    #[test]
    fn any_other_id_names_no_trace() {
        for id in [
            "",
            "nightly-report",
            "4242",
            // Made of a name, of the time and a host, of nothing, of no version.
            "82426b08-5ac4-3734-ad40-af5e8ae2bbf9",
            "886313e1-3b8a-5372-9b90-0c9aee199e5d",
            "c232ab00-9414-11ec-b3c8-9f6bdeced846",
            "00000000-0000-0000-0000-000000000000",
            "ffffffff-ffff-ffff-ffff-ffffffffffff",
            // Version 4 of another variant.
            "50fbde83-f755-40e9-01de-76192c8eca74",
            // In other spellings nobody makes them.
            "{50fbde83-f755-40e9-a1de-76192c8eca74}",
            "urn:uuid:50fbde83-f755-40e9-a1de-76192c8eca74",
            "50fbde83-f755-40e9-a1de-76192c8eca7g",
        ] {
            assert_eq!(derived_trace_id(id), None, "{id}");
        }
    }

    #[test]
    fn every_id_has_a_key_and_others_in_other_scopes() {
        let bytes = |id: &str| u128::from_be_bytes(key_of(id));
        assert_eq!(
            bytes("82426b08-5ac4-3734-ad40-af5e8ae2bbf9"),
            0x82426b085ac43734ad40af5e8ae2bbf9
        );
        // printf 'nightly-report' | sha256sum
        assert_eq!(bytes("nightly-report"), 0x6743ba10a2b2c4879cf6af5c75140be7);
        let keys = [
            key_within(&[b"a", b"bc"], "d"),
            key_within(&[b"ab", b"c"], "d"),
            key_within(&[b"a", b"b"], "cd"),
            key_of("d"),
        ];
        for (index, key) in keys.iter().enumerate() {
            assert!(!keys[..index].contains(key), "{index}");
        }
    }

    #[test]
    fn every_attempt_has_a_span_of_its_own() {
        let id = "50fbde83-f755-40e9-a1de-76192c8eca74";
        let (first, message) = derived_ids("send", id, 0, 0);
        // printf 'send:50fbde83-f755-40e9-a1de-76192c8eca74:0:0' | sha256sum
        assert_eq!(first.to_string(), "7833af78daa79777");
        assert_eq!(message, MessageDigest([0x38, 0x8d, 0xfe, 0x33]));
        for (retries, replaced) in [(1, 0), (0, 1)] {
            let (other, of_another) = derived_ids("send", id, retries, replaced);
            assert_ne!(first, other);
            assert_ne!(message, of_another);
        }
    }
}
