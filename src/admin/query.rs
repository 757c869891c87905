//! What is asked for behind the `?`.

use std::str::FromStr;

use url::form_urlencoded;

use crate::admin::refusal::Refusal;

/// The parameters of a request, each to be taken once.
#[derive(Debug)]
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    pub(super) fn read(query: Option<&str>) -> Self {
        let pairs = form_urlencoded::parse(query.unwrap_or_default().as_bytes());
        Self(pairs.into_owned().collect())
    }

    /// The text of a parameter; one that is empty is as good as none.
    pub(super) fn text(&mut self, name: &str) -> Option<String> {
        let place = self.0.iter().position(|(known, _)| known == name)?;
        let (_, text) = self.0.swap_remove(place);
        (!text.is_empty()).then_some(text)
    }

    /// The value of a parameter; `remedy` says what it may be.
    pub(super) fn value<T: FromStr>(
        &mut self,
        name: &str,
        remedy: &str,
    ) -> Result<Option<T>, Refusal> {
        self.choice(name, |text| text.parse().ok(), remedy)
    }

    /// The same, as `read` reads it.
    pub(super) fn choice<T>(
        &mut self,
        name: &str,
        read: impl FnOnce(&str) -> Option<T>,
        remedy: &str,
    ) -> Result<Option<T>, Refusal> {
        let Some(text) = self.text(name) else {
            return Ok(None);
        };
        match read(&text) {
            Some(value) => Ok(Some(value)),
            None => Err(Refusal::of_request(format!(
                "{name}={}: {remedy}",
                shown(&text)
            ))),
        }
    }

    /// Refuses what nobody has taken; `known` are the names there are.
    pub(super) fn end(self, known: &str) -> Result<(), Refusal> {
        match self.0.first() {
            None => Ok(()),
            Some((name, _)) => Err(Refusal::of_request(format!(
                "there is no parameter {}, or it is given twice; there are {known}",
                shown(name)
            ))),
        }
    }
}

/// As much as one needs to know it again.
fn shown(text: &str) -> String {
    let head = text.chars().take(SHOWN_MAX);
    format!("{:?}", head.collect::<String>())
}

const SHOWN_MAX: usize = 60;
