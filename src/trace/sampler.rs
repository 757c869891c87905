use std::fmt;

use opentelemetry::trace::SpanKind;
use opentelemetry::trace::TraceId as SdkTraceId;
use opentelemetry_sdk::trace::Sampler as Sdk;
use opentelemetry_sdk::trace::SamplingDecision;
use opentelemetry_sdk::trace::ShouldSample;
use thiserror::Error;

use crate::trace::TraceId;

/// Which traces are recorded, in the terms of `OTEL_TRACES_SAMPLER`.
///
/// The decision follows from the trace id alone, so every replica takes the same one.
#[derive(Clone, Debug)]
pub struct Sampler {
    root: Sdk,
    parent_based: bool,
}

/// A share of all traces, from none (0) to all (1). Which ones follows from the trace id
/// alone.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ratio(f64);

impl Ratio {
    pub const ALL: Self = Self(1.0);

    /// Reads a number from 0 to 1.
    pub fn parse(text: &str) -> Result<Self, UnknownSampler> {
        match text.parse::<f64>() {
            Ok(ratio) if (0.0..=1.0).contains(&ratio) => Ok(Self(ratio)),
            _ => Err(UnknownSampler::Ratio(text.to_owned())),
        }
    }

    /// Whether this trace belongs to it.
    #[must_use]
    pub fn covers(self, trace_id: TraceId) -> bool {
        is_sampled(&Sdk::TraceIdRatioBased(self.0), trace_id)
    }
}

impl fmt::Display for Ratio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A sampler that OpenTelemetry does not define, or a ratio that is none.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum UnknownSampler {
    #[error("{0:?} is not a sampler")]
    Name(String),
    #[error("{0:?} is not a ratio from 0 to 1")]
    Ratio(String),
}

impl Sampler {
    /// Reads the values of `OTEL_TRACES_SAMPLER` and `OTEL_TRACES_SAMPLER_ARG`.
    pub fn parse(name: &str, argument: Option<&str>) -> Result<Self, UnknownSampler> {
        let (root, parent_based) = match name.strip_prefix("parentbased_") {
            Some(root) => (root, true),
            None => (name, false),
        };
        let root = match root {
            "always_on" => Sdk::AlwaysOn,
            "always_off" => Sdk::AlwaysOff,
            "traceidratio" => Sdk::TraceIdRatioBased(parse_ratio(argument)?),
            _ => return Err(UnknownSampler::Name(name.to_owned())),
        };
        Ok(Self { root, parent_based })
    }

    /// Whether a hop is recorded. `parent` tells whether its parent was, if it has one.
    #[must_use]
    pub fn samples(&self, parent: Option<bool>, trace_id: TraceId) -> bool {
        if self.parent_based
            && let Some(sampled) = parent
        {
            return sampled;
        }
        is_sampled(&self.root, trace_id)
    }
}

fn is_sampled(root: &Sdk, trace_id: TraceId) -> bool {
    match root {
        Sdk::AlwaysOn => return true,
        Sdk::TraceIdRatioBased(1.0..) => return true,
        Sdk::AlwaysOff => return false,
        _ => {}
    }
    let id = SdkTraceId::from_bytes(trace_id.to_bytes());
    let answer = root.should_sample(None, id, "", &SpanKind::Producer, &[], &[]);
    answer.decision == SamplingDecision::RecordAndSample
}

/// Compared by what they are called.
impl PartialEq for Sampler {
    fn eq(&self, other: &Self) -> bool {
        self.to_string() == other.to_string()
    }
}

impl fmt::Display for Sampler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.parent_based {
            f.write_str("parentbased_")?;
        }
        match &self.root {
            Sdk::AlwaysOn => f.write_str("always_on"),
            Sdk::AlwaysOff => f.write_str("always_off"),
            Sdk::TraceIdRatioBased(ratio) => write!(f, "traceidratio {ratio}"),
            other => write!(f, "{other:?}"),
        }
    }
}

/// `parentbased_always_on`, the default of OpenTelemetry.
impl Default for Sampler {
    fn default() -> Self {
        Self {
            root: Sdk::AlwaysOn,
            parent_based: true,
        }
    }
}

fn parse_ratio(argument: Option<&str>) -> Result<f64, UnknownSampler> {
    let Some(text) = argument.map(str::trim).filter(|text| !text.is_empty()) else {
        return Ok(1.0);
    };
    Ratio::parse(text).map(|ratio| ratio.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::IdSource;

    #[test]
    fn a_parent_decides_where_the_sampler_is_parent_based() {
        let id = IdSource::seeded(1).trace_id();
        let sampler = Sampler::parse("parentbased_always_off", None).unwrap();
        assert!(sampler.samples(Some(true), id));
        assert!(!sampler.samples(Some(false), id));
        assert!(!sampler.samples(None, id));
        let sampler = Sampler::parse("always_off", None).unwrap();
        assert!(!sampler.samples(Some(true), id));
    }

    #[test]
    fn a_ratio_keeps_its_share_and_the_same_one_each_time() {
        let sampler = Sampler::parse("parentbased_traceidratio", Some("0.25")).unwrap();
        let mut ids = IdSource::seeded(7);
        let ids: Vec<TraceId> = (0..10_000).map(|_| ids.trace_id()).collect();
        let kept: Vec<bool> = ids.iter().map(|id| sampler.samples(None, *id)).collect();
        let share = kept.iter().filter(|kept| **kept).count();
        assert!((2_300..2_700).contains(&share), "{share} of 10000");
        let again: Vec<bool> = ids.iter().map(|id| sampler.samples(None, *id)).collect();
        assert_eq!(kept, again);
    }

    #[test]
    fn what_is_not_a_sampler_is_refused() {
        for (name, argument) in [
            ("sometimes", None),
            ("parentbased_", None),
            ("traceidratio", Some("1.5")),
            ("traceidratio", Some("NaN")),
            ("traceidratio", Some("half")),
        ] {
            assert!(
                Sampler::parse(name, argument).is_err(),
                "{name} {argument:?}"
            );
        }
    }
}
