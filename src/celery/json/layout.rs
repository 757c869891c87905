use std::ops::Range;

use smallvec::SmallVec;

use crate::celery::json::Kind;
use crate::celery::json::Scan;
use crate::celery::json::Value;

/// The way in which a program writes its texts: one after the other with the same members in
/// the same order, around other values.
///
/// A text that is written like those before is not parsed. What never differed is compared, and
/// only the values that do are read. What is found is the same all the same: a text that was
/// read without fault stays readable when an object stands in place of an object, an array of an
/// array and a scalar of a scalar, and nothing else in it changes its place or its meaning.
///
/// A `Part` says what a place is to whoever reads; `None` that it does not matter.
#[derive(Debug)]
pub struct Layout<Part> {
    /// A text without the values that differ.
    skeleton: Box<[u8]>,
    places: Box<[Place<Part>]>,
    /// How many more texts were written in another way than in this one of late.
    strangers: u32,
}

/// Where something stands in the skeleton.
#[derive(Debug)]
struct Place<Part> {
    part: Option<Part>,
    /// Empty where it differs.
    value: Range<u16>,
    container: Option<Kind>,
    differs: bool,
    escaped: bool,
    depth: u32,
}

/// What was found in a text that is read in full: values as a whole, one behind the other.
/// What is not found in it has to stay as it is.
#[derive(Debug)]
pub struct Draft<Part>(SmallVec<[Found<Part>; PLACES]>);

#[derive(Debug)]
struct Found<Part> {
    part: Option<Part>,
    value: Range<usize>,
    container: Option<Kind>,
    differs: bool,
    escaped: bool,
    depth: u32,
}

impl<Part> Draft<Part> {
    pub fn push(&mut self, part: Option<Part>, value: &Value<'_>) {
        // One too many is enough to tell that they are too many.
        if self.0.len() > PLACES_MAX {
            return;
        }
        self.0.push(Found {
            part,
            value: value.range(),
            container: container(value),
            differs: value.raw.len() > SAME_BYTES_MAX,
            escaped: value.is_escaped(),
            depth: value.depth(),
        });
    }
}

impl<Part> Default for Draft<Part> {
    fn default() -> Self {
        Self(SmallVec::new())
    }
}

impl<Part> Default for Layout<Part> {
    fn default() -> Self {
        Self {
            skeleton: Box::default(),
            places: Box::default(),
            strangers: 0,
        }
    }
}

impl<Part: Copy + PartialEq> Layout<Part> {
    /// The memory that it takes.
    pub fn kept_bytes(&self) -> usize {
        self.skeleton.len() + size_of_val(&*self.places)
    }

    /// Shows all that matters in `text` to `take`, in its order. `false`: it is written in
    /// another way, and what was shown means nothing.
    pub fn read<'a>(&mut self, text: &'a [u8], take: impl FnMut(Part, Value<'a>)) -> bool {
        let is_known = self.compare(text, take).is_some();
        if is_known {
            self.strangers = self.strangers.saturating_sub(1);
        }
        is_known
    }

    fn compare<'a>(&self, text: &'a [u8], mut take: impl FnMut(Part, Value<'a>)) -> Option<()> {
        let mut places = &*self.places;
        if places.is_empty() {
            return None;
        }
        // The same place, in the skeleton and in the text.
        let (mut from, mut at) = (0, 0);
        loop {
            let count = places.iter().position(|place| place.differs);
            let (same, next) = places.split_at_checked(count.unwrap_or(places.len()))?;
            let (next, behind) = next.split_first().unzip();
            let end = next.map_or(self.skeleton.len(), |next| next.value.start.into());
            let skeleton = self.skeleton.get(from..end)?;
            let rest = text.get(at..)?.strip_prefix(skeleton)?;
            for place in same {
                if let Some(part) = place.part {
                    let start = at + usize::from(place.value.start) - from;
                    let raw = text.get(start..start + place.value.len())?;
                    take(part, Value::new(start, raw, place.escaped, place.depth));
                }
            }
            let Some(place) = next else {
                return rest.is_empty().then_some(());
            };
            let value = Scan::value_at(text, text.len() - rest.len(), place.depth)?;
            if container(&value) != place.container {
                return None;
            }
            if let Some(part) = place.part {
                take(part, value);
            }
            (from, at) = (end, value.range().end);
            places = behind.unwrap_or_default();
        }
    }

    /// Learns from a text that was read without fault, and what was found in it.
    pub fn learn(&mut self, text: &[u8], mut draft: Draft<Part>) {
        if !self.mark_differences(text, &mut draft) && !self.places.is_empty() {
            self.strangers += 1;
            if self.strangers < STRANGERS_MAX {
                return;
            }
        }
        self.strangers = 0;
        if let Some(learned) = Self::of(text, &draft) {
            *self = learned;
        }
    }

    /// Marks what differs in this text, or differed in one before; `false` for a text that
    /// differs elsewhere.
    fn mark_differences(&self, text: &[u8], draft: &mut Draft<Part>) -> bool {
        if draft.0.len() != self.places.len() {
            return false;
        }
        let (mut from, mut at) = (0, 0);
        for (place, found) in self.places.iter().zip(&mut draft.0) {
            let value = usize::from(place.value.start)..usize::from(place.value.end);
            let is_same_before = place.part == found.part
                && place.container == found.container
                && self.skeleton.get(from..value.start) == text.get(at..found.value.start);
            (from, at) = (value.end, found.value.end);
            found.differs |=
                place.differs || self.skeleton.get(value) != text.get(found.value.clone());
            if !is_same_before {
                return false;
            }
        }
        self.skeleton.get(from..) == text.get(at..)
    }

    /// `None` where it would be too large.
    fn of(text: &[u8], draft: &Draft<Part>) -> Option<Self> {
        if draft.0.len() > PLACES_MAX {
            return None;
        }
        let mut skeleton = Vec::new();
        let mut keep = |piece: Range<usize>| {
            if skeleton.len() + piece.len() > SKELETON_BYTES_MAX {
                return None;
            }
            skeleton.extend_from_slice(text.get(piece)?);
            u16::try_from(skeleton.len()).ok()
        };
        let mut places = Vec::with_capacity(draft.0.len());
        let mut at = 0;
        for found in &draft.0 {
            let Range { start, end } = found.value;
            let kept = if found.differs { start } else { end };
            places.push(Place {
                part: found.part,
                value: keep(at..start)?..keep(start..kept)?,
                container: found.container,
                differs: found.differs,
                escaped: found.escaped,
                depth: found.depth,
            });
            at = end;
        }
        keep(at..text.len())?;
        Some(Self {
            skeleton: skeleton.into(),
            places: places.into(),
            strangers: 0,
        })
    }
}

/// Whether it is an object or an array, and which.
const fn container(value: &Value<'_>) -> Option<Kind> {
    match value.kind() {
        kind @ (Kind::Object | Kind::Array) => Some(kind),
        _ => None,
    }
}

/// As many as a task message of Celery has, and some more.
const PLACES: usize = 40;
/// A value that is longer is taken to differ each time.
const SAME_BYTES_MAX: usize = 256;
const SKELETON_BYTES_MAX: usize = 4 << 10;
const PLACES_MAX: usize = 128;
/// After so many more texts in another way it is the other way that is learned.
const STRANGERS_MAX: u32 = 8;

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::Index;
    use proptest::sample::select;

    use super::*;
    use crate::celery::json::NESTING_MAX;
    use crate::celery::json::Unreadable;

    /// How deep it stands, and its value.
    type Member<'a> = (u8, Value<'a>);

    /// All members, down to those of the objects in objects; what is called "c" is not entered,
    /// and what is called "x" does not matter.
    fn parsed(text: &[u8]) -> Result<(Vec<Member<'_>>, Draft<u8>), Unreadable> {
        let mut scan = Scan::new(text);
        let (mut members, mut draft) = (Vec::new(), Draft::default());
        let mut depth = 0;
        if !scan.enter_object()? {
            return Err(Unreadable);
        }
        loop {
            let Some(key) = scan.next_key()? else {
                if depth == 0 {
                    break;
                }
                depth -= 1;
                continue;
            };
            let value = if !key.is("c") && scan.enter_object()? {
                depth += 1;
                Value::nothing_at(scan.position())
            } else {
                scan.value()?
            };
            let part = (!key.is("x")).then_some(depth);
            draft.push(part, &value);
            members.extend(part.map(|part| (part, value)));
        }
        scan.end()?;
        Ok((members, draft))
    }

    fn read<'a>(layout: &mut Layout<u8>, text: &'a [u8]) -> Option<Vec<Member<'a>>> {
        let mut members = Vec::new();
        let is_known = layout.read(text, |part, value| members.push((part, value)));
        is_known.then_some(members)
    }

    /// Says whether the text was known before.
    fn learn(layout: &mut Layout<u8>, text: &str) -> bool {
        let known = read(layout, text.as_bytes());
        let (members, draft) = parsed(text.as_bytes()).unwrap();
        match known {
            Some(known) => assert_eq!(known, members),
            None => layout.learn(text.as_bytes(), draft),
        }
        read(layout, text.as_bytes()) == Some(members)
    }

    #[test]
    fn values_that_have_differed_may_be_any_of_their_kind() {
        let mut layout = Layout::default();
        assert_eq!(read(&mut layout, b""), None);
        assert!(learn(
            &mut layout,
            r#"{"a": "1", "b": {"c": null}, "d": [], "e": [1]}"#
        ));
        assert!(learn(
            &mut layout,
            r#"{"a": "2", "b": {"c": 1}, "d": [2], "e": [1]}"#
        ));
        for (text, is_known) in [
            (r#"{"a": "\"\\", "b": {"c": "c"}, "d": [], "e": [1]}"#, true),
            (
                r#"{"a":  true, "b": {"c": -1.5e3}, "d": [[{}]], "e": [1]}"#,
                true,
            ),
            (r#"{"a": {}, "b": {"c": 1}, "d": [], "e": [1]}"#, false),
            (r#"{"a": [], "b": {"c": 1}, "d": [], "e": [1]}"#, false),
            (r#"{"a": "2", "b": {"c": 1}, "d": {}, "e": [1]}"#, false),
            (r#"{"a": "2", "b": {"c": 1}, "d": 1, "e": [1]}"#, false),
            (r#"{"a": "2", "b": {"c": 1}, "d": [}, "e": [1]}"#, false),
            (r#"{"a": "2", "b": {"c": 1}, "d": [], "e": [2]}"#, false),
            (r#"{"a": "2", "b": 1, "d": [], "e": [1]}"#, false),
            (r#"{"a":"2", "b": {"c": 1}, "d": [], "e": [1]}"#, false),
            (r#"{"A": "2", "b": {"c": 1}, "d": [], "e": [1]}"#, false),
            (r#"{"a": "2", "b": {"c": 1}, "d": [], "e": [1]} "#, false),
            (r#"{"a": "2", "b": {"c": 1}, "d": [], "e": [1]"#, false),
            (r#"{"a": "2", "b": {"c": 01}, "d": [], "e": [1]}"#, false),
            (r#"{"a": "2", "b": {"c": }, "d": [], "e": [1]}"#, false),
            (
                "{\"a\": \"\n\", \"b\": {\"c\": 1}, \"d\": [], \"e\": [1]}",
                false,
            ),
            ("", false),
        ] {
            let members = read(&mut layout, text.as_bytes());
            assert_eq!(members.is_some(), is_known, "{text}");
            if is_known {
                assert_eq!(members, parsed(text.as_bytes()).ok().map(|it| it.0));
            }
        }
    }

    #[test]
    fn what_differs_is_nested_no_deeper_than_elsewhere() {
        let mut layout = Layout::default();
        let text = |depth| {
            format!(
                r#"{{"o": {{"a": {}{}}}}}"#,
                "[".repeat(depth),
                "]".repeat(depth)
            )
        };
        assert!(learn(&mut layout, &text(1)));
        assert!(learn(&mut layout, &text(2)));
        let deepest = NESTING_MAX as usize - 2;
        for (depth, is_readable) in [(deepest, true), (deepest + 1, false)] {
            let text = text(depth);
            assert_eq!(parsed(text.as_bytes()).is_ok(), is_readable);
            assert_eq!(read(&mut layout, text.as_bytes()).is_some(), is_readable);
        }
    }

    #[test]
    fn another_way_of_writing_is_learned_once_it_prevails() {
        let mut layout = Layout::default();
        let (one, other) = (r#"{"a": 1}"#, r#"{"b": 1}"#);
        assert!(learn(&mut layout, one));
        for _ in 0..20 {
            assert!(!learn(&mut layout, other));
            assert!(learn(&mut layout, one));
        }
        let learned_after = (1..).find(|_| learn(&mut layout, other));
        assert_eq!(learned_after, Some(STRANGERS_MAX));
        assert!(!learn(&mut layout, one));
    }

    #[test]
    fn what_is_too_large_is_not_learned() {
        let long = "x".repeat(SAME_BYTES_MAX + 1);
        let many = r#""a": 1, "#.repeat(PLACES_MAX);
        let large = format!(r#""{}": 1"#, "x".repeat(SKELETON_BYTES_MAX));
        for (text, is_learned) in [
            (format!(r#"{{{many}"b": 1}}"#), false),
            (format!("{{{large}}}"), false),
            (format!(r#"{{"a": "{long}", "b": ["{long}"]}}"#), true),
        ] {
            let mut layout = Layout::default();
            assert_eq!(learn(&mut layout, &text), is_learned, "{text}");
            assert!(layout.skeleton.len() <= SKELETON_BYTES_MAX);
        }
        let (_, draft) =
            parsed(format!("{{{}}}", many.repeat(9) + r#""b": 1"#).as_bytes()).unwrap();
        assert_eq!(draft.0.len(), PLACES_MAX + 1);
        let mut layout = Layout::default();
        assert!(learn(&mut layout, &format!(r#"{{"a": "{long}"}}"#)));
        assert!(read(&mut layout, br#"{"a": "b"}"#).is_some());
    }

    fn scalar() -> impl Strategy<Value = String> {
        prop_oneof![
            3 => "[a-c]{0,9}".prop_map(|text| format!("\"{text}\"")),
            1 => select(vec!["[]", "[1, {\"a\": []}]", "{\"b\": 2}"]).prop_map(str::to_owned),
            1 => select(vec!["null", "0", "-1.5e3", "true", "\"\\u00fc\\\"\"", "NaN", "\"\u{fc}\""])
                .prop_map(str::to_owned),
        ]
    }

    /// Texts of few kinds, with other scalars each.
    fn text() -> impl Strategy<Value = String> {
        let shapes = vec![
            r#"{"a": ?, "x": ?, "o": {"b": ?, "a": [?, 1]}, "c": ?}"#,
            r#"{"a": ?, "x": ?, "o": {"b": ?, "a": ?}, "c": ?}"#,
            r#"{"a": ?, "x": ?, "o": ?, "c": {}}"#,
            r#"{ "a":?,"o" : {"o": {"x": ?, "b": ?}, "a": ?} }"#,
        ];
        (select(shapes), vec(scalar(), 5)).prop_map(|(shape, scalars)| {
            let mut pieces = shape.split('?');
            let first = pieces.next().unwrap_or_default().to_owned();
            let rest = pieces.zip(scalars);
            rest.fold(first, |text, (piece, scalar)| text + &scalar + piece)
        })
    }

    proptest! {
        #[test]
        fn what_is_found_is_what_a_parser_finds(
            texts in vec((text(), any::<Index>(), proptest::option::weighted(0.3, any::<u8>())), 1..40),
        ) {
            let mut layout = Layout::default();
            for (text, place, byte) in texts {
                let mut text = text.into_bytes();
                if let Some(byte) = byte {
                    let place = place.index(text.len());
                    text[place] = byte;
                }
                let known = read(&mut layout, &text);
                match parsed(&text) {
                    Ok((members, draft)) => {
                        if let Some(known) = known {
                            prop_assert_eq!(known, members);
                        } else {
                            layout.learn(&text, draft);
                        }
                    }
                    Err(Unreadable) => prop_assert_eq!(known, None),
                }
            }
        }
    }
}
