use std::fmt;

use thiserror::Error;

use crate::trace::TraceId;

/// Which traces are recorded, in the terms of `OTEL_TRACES_SAMPLER`.
///
/// The decision follows from the trace id alone, so every replica takes the same one.
#[derive(Clone, Debug, PartialEq)]
pub struct Sampler {
    root: Root,
    parent_based: bool,
}

/// Decides where nobody has before.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Root {
    AlwaysOn,
    AlwaysOff,
    TraceIdRatio(Ratio),
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

    /// Whether this trace belongs to it: whether the seven right-most bytes of its id, which
    /// are the random ones (W3C Trace Context level 2), reach the threshold that leaves the
    /// rest out (OpenTelemetry's `TraceIdRatioBased`). The byte before them is not looked at:
    /// in a UUID, by which most traces here are named, two bits of it are fixed.
    #[must_use]
    pub fn covers(self, trace_id: TraceId) -> bool {
        const ALL: u64 = 1 << 56;
        let random = u128::from_be_bytes(trace_id.to_bytes()) as u64 % ALL;
        let threshold = (1.0 - self.0) * ALL as f64;
        random >= threshold as u64
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
            "always_on" => Root::AlwaysOn,
            "always_off" => Root::AlwaysOff,
            "traceidratio" => Root::TraceIdRatio(parse_ratio(argument)?),
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
        match self.root {
            Root::AlwaysOn => true,
            Root::AlwaysOff => false,
            Root::TraceIdRatio(ratio) => ratio.covers(trace_id),
        }
    }
}

impl fmt::Display for Sampler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.parent_based {
            f.write_str("parentbased_")?;
        }
        match self.root {
            Root::AlwaysOn => f.write_str("always_on"),
            Root::AlwaysOff => f.write_str("always_off"),
            Root::TraceIdRatio(ratio) => write!(f, "traceidratio {ratio}"),
        }
    }
}

/// `parentbased_always_on`, the default of OpenTelemetry.
impl Default for Sampler {
    fn default() -> Self {
        Self {
            root: Root::AlwaysOn,
            parent_based: true,
        }
    }
}

fn parse_ratio(argument: Option<&str>) -> Result<Ratio, UnknownSampler> {
    match argument.map(str::trim).filter(|text| !text.is_empty()) {
        Some(text) => Ratio::parse(text),
        None => Ok(Ratio::ALL),
    }
}

#[cfg(test)]
mod tests {
    use uuid::Builder;

    use super::*;
    use crate::trace::IdSource;
    use crate::trace::derived_trace_id;

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
        let mut ids = IdSource::seeded(7);
        let random: Vec<TraceId> = (0..10_000).map(|_| ids.trace_id()).collect();
        // The ids of most tasks, and so of their traces.
        let uuids = random.iter().map(|id| {
            let uuid = Builder::from_random_bytes(id.to_bytes()).into_uuid();
            derived_trace_id(&uuid.to_string()).unwrap()
        });
        for ids in [uuids.collect(), random.clone()] {
            for (ratio, share) in [("0.1", 1_000), ("0.25", 2_500), ("0.9", 9_000)] {
                let sampler = Sampler::parse("parentbased_traceidratio", Some(ratio)).unwrap();
                let keeps = |id: &&TraceId| sampler.samples(None, **id);
                let kept: Vec<&TraceId> = ids.iter().filter(keeps).collect();
                assert!(
                    kept.len().abs_diff(share) < 200,
                    "{} at {ratio}",
                    kept.len()
                );
                assert_eq!(ids.iter().filter(keeps).collect::<Vec<_>>(), kept);
            }
        }
    }

    #[test]
    fn all_is_all_and_none_is_none() {
        let [low, high] = [1, u128::MAX].map(|id| TraceId::nonzero(id.to_be_bytes()));
        for (ratio, all) in [("1", true), ("0", false)] {
            let ratio = Ratio::parse(ratio).unwrap();
            assert_eq!([ratio.covers(low), ratio.covers(high)], [all, all]);
        }
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
