//! What the doctor has found, line by line.

use std::io;
use std::io::Write;
use std::time::Duration;

use serde::Serialize;
use serde::Serializer;
use serde_json::Value;
use serde_json::json;

use crate::cli::output::Colour;
use crate::cli::output::Paint;
use crate::cli::output::column;

/// One thing that was looked at.
#[derive(Debug, Serialize)]
pub(super) struct Finding {
    pub(super) state: State,
    /// Where: a route, the collector, this system.
    pub(super) about: String,
    pub(super) what: String,
    #[serde(serialize_with = "as_map")]
    pub(super) figures: Vec<(&'static str, Value)>,
    pub(super) remedy: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum State {
    Ok,
    Warn,
    Fail,
}

impl Finding {
    pub(super) fn ok(what: impl Into<String>) -> Self {
        Self {
            state: State::Ok,
            about: String::new(),
            what: what.into(),
            figures: Vec::new(),
            remedy: None,
        }
    }

    pub(super) fn warn(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            state: State::Warn,
            remedy: Some(remedy.into()),
            ..Self::ok(what)
        }
    }

    pub(super) fn fail(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            state: State::Fail,
            remedy: Some(remedy.into()),
            ..Self::ok(what)
        }
    }

    /// With a figure, whose unit ends its name.
    pub(super) fn figure(mut self, name: &'static str, value: impl Into<Value>) -> Self {
        self.figures.push((name, value.into()));
        self
    }
}

/// Tells each finding as soon as it is made, or all of them at the end as JSON.
pub(super) struct Report {
    json: bool,
    paint: Paint,
    findings: Vec<Finding>,
}

impl Report {
    pub(super) fn new(json: bool) -> Self {
        Self {
            json,
            paint: Paint::for_stdout(),
            findings: Vec::new(),
        }
    }

    pub(super) fn tell(&mut self, about: &str, finding: Finding) -> io::Result<()> {
        let finding = Finding {
            about: about.to_owned(),
            ..finding
        };
        if !self.json {
            writeln!(io::stdout(), "{}", line(&finding, self.paint))?;
        }
        self.findings.push(finding);
        Ok(())
    }

    /// Whether nothing has failed.
    pub(super) fn close(self) -> io::Result<bool> {
        let is_well = self
            .findings
            .iter()
            .all(|finding| finding.state < State::Fail);
        if self.json {
            let document = json!({ "ok": is_well, "findings": self.findings });
            writeln!(io::stdout(), "{document}")?;
        }
        Ok(is_well)
    }
}

fn line(finding: &Finding, paint: Paint) -> String {
    let (word, colour) = match finding.state {
        State::Ok => ("ok", Colour::Good),
        State::Warn => ("warn", Colour::Doubtful),
        State::Fail => ("FAIL", Colour::Bad),
    };
    let figures: Vec<String> = finding.figures.iter().map(spell).collect();
    let mut line = format!(
        "{}  {}  {}",
        paint.paint(&column(word, 4), colour),
        column(&finding.about, finding.about.len().max(ABOUT_WIDTH)),
        finding.what
    );
    if !figures.is_empty() {
        line += &format!(" ({})", figures.join(", "));
    }
    if let Some(remedy) = &finding.remedy {
        line += &format!("; {remedy}");
    }
    line
}

/// A figure as people write it, the unit behind.
fn spell((name, value): &(&'static str, Value)) -> String {
    let value = match value {
        Value::String(text) => text.clone(),
        value => value.to_string(),
    };
    let (name, unit) = match name.rsplit_once('_') {
        Some((name, unit @ ("ms" | "s"))) => (name, format!(" {unit}")),
        _ => (*name, String::new()),
    };
    format!("{} {value}{unit}", name.replace('_', " "))
}

fn as_map<S: Serializer>(
    figures: &[(&'static str, Value)],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_map(figures.iter().map(|(name, value)| (name, value)))
}

/// For a figure: to a tenth.
pub(super) fn millis(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e4).round() / 10.0
}

const ABOUT_WIDTH: usize = 14;
