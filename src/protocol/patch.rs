use std::ops::Range;

use bytes::BytesMut;

/// What changes in the bytes that a reader was shown: pieces of them are replaced, and the
/// rest leaves as it came.
#[derive(Debug, Default)]
pub(super) struct Patch {
    /// What is written, one piece after the other.
    text: Vec<u8>,
    edits: Vec<Edit>,
}

#[derive(Debug)]
struct Edit {
    /// What is replaced; empty where something is inserted.
    place: Range<usize>,
    /// Where in the text that stands which replaces it.
    text: Range<usize>,
}

impl Patch {
    /// What `write` writes leaves in place of these bytes. Places do not overlap, and come in
    /// any order; of several insertions in one place the first stands first.
    pub(super) fn replace(&mut self, place: Range<usize>, write: impl FnOnce(&mut Vec<u8>)) {
        let start = self.text.len();
        write(&mut self.text);
        let text = start..self.text.len();
        self.edits.push(Edit { place, text });
    }

    /// Turns places in a part of the bytes into places in the whole: it begins there.
    pub(super) fn move_behind(&mut self, start: usize) {
        for Edit { place, .. } in &mut self.edits {
            *place = place.start + start..place.end + start;
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.edits.is_empty()
    }

    pub(super) fn clear(&mut self) {
        self.text.clear();
        self.text.shrink_to(KEPT_BYTES_MAX);
        self.edits.clear();
    }

    /// How long `length` bytes get by it.
    pub(super) fn patched_length(&self, length: usize) -> usize {
        let removed: usize = self.edits.iter().map(|edit| edit.place.len()).sum();
        (length + self.text.len()).saturating_sub(removed)
    }

    /// Writes to `to` what leaves in place of `bytes`, and is empty again.
    pub(super) fn apply(&mut self, bytes: &[u8], to: &mut BytesMut) {
        let place = |edit: &Edit| (edit.place.start, edit.place.end);
        self.edits.sort_by_key(place);
        let mut from = 0;
        for Edit { place, text } in self.edits.drain(..) {
            to.extend_from_slice(bytes.get(from..place.start).unwrap_or_default());
            to.extend_from_slice(self.text.get(text).unwrap_or_default());
            from = place.end;
        }
        to.extend_from_slice(bytes.get(from..).unwrap_or_default());
        self.clear();
    }
}

/// The room that an idle session keeps for its next patch.
const KEPT_BYTES_MAX: usize = 4 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    fn patched(patch: &mut Patch, bytes: &[u8]) -> String {
        let length = patch.patched_length(bytes.len());
        let mut to = BytesMut::new();
        patch.apply(bytes, &mut to);
        assert_eq!(to.len(), length);
        String::from_utf8(to.to_vec()).unwrap()
    }

    #[test]
    fn pieces_are_replaced_and_the_rest_stays() {
        let mut patch = Patch::default();
        let write = |text: &'static [u8]| move |out: &mut Vec<u8>| out.extend_from_slice(text);
        patch.replace(3..5, write(b"[three]"));
        patch.replace(1..1, write(b"<"));
        patch.replace(1..1, write(b">"));
        patch.move_behind(1);
        patch.replace(0..1, write(b""));
        assert!(!patch.is_empty());
        assert_eq!(patched(&mut patch, b"01234567"), "1<>23[three]67");
        assert!(patch.is_empty());
        assert_eq!(patched(&mut patch, b"0123"), "0123");
        patch.replace(4..4, write(b"4"));
        patch.replace(0..1, write(b"o"));
        patch.replace(0..0, write(b"n"));
        assert_eq!(patched(&mut patch, b"0123"), "no1234");
        patch.replace(0..1, write(b"x"));
        patch.clear();
        assert_eq!(patched(&mut patch, b"0123"), "0123");
    }
}
