use std::borrow::Cow;

/// Trace contexts in the spellings of other vendors, as text.
///
/// They stand in the flat headers, or in an object below the flat header `headers`, which
/// is where Sentry's and Datadog's own workers look for them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Foreign<'a> {
    fields: Vec<(Name, Cow<'a, str>)>,
}

/// What a header is called that carries another vendor's context, or a part of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Name {
    /// `traceparent` in the nested object.
    NestedTraceparent,
}

impl<'a> Foreign<'a> {
    /// What the header of that name says.
    #[must_use]
    pub fn get(&self, name: Name) -> Option<&str> {
        self.fields
            .iter()
            .find_map(|(known, text)| (*known == name).then_some(&**text))
    }

    /// Takes a header of the nested object.
    pub(super) fn take_nested(&mut self, name: &str, value: impl FnOnce() -> Option<Cow<'a, str>>) {
        if name == "traceparent" {
            self.fields
                .extend(value().map(|text| (Name::NestedTraceparent, text)));
        }
    }
}
