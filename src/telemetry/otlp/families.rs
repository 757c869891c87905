//! Metrics as OTLP has them, made of what Prometheus would read.
//!
//! So there is one set of counters, and whoever adds one adds it for both. Names are made as
//! OpenTelemetry's rules for Prometheus say: units and `_total` are not part of them.

use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::metrics::v1::AggregationTemporality;
use opentelemetry_proto::tonic::metrics::v1::Exemplar;
use opentelemetry_proto::tonic::metrics::v1::Gauge;
use opentelemetry_proto::tonic::metrics::v1::Histogram;
use opentelemetry_proto::tonic::metrics::v1::HistogramDataPoint;
use opentelemetry_proto::tonic::metrics::v1::Metric;
use opentelemetry_proto::tonic::metrics::v1::NumberDataPoint;
use opentelemetry_proto::tonic::metrics::v1::Sum;
use opentelemetry_proto::tonic::metrics::v1::exemplar;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point;

use crate::telemetry::otlp::resource::attribute;
use crate::trace::Timestamp;
use crate::trace::TraceId;

/// Everything that is counted since `start`, as it is `now`. `openmetrics` is what our own
/// encoder has written; anything else in it is passed over.
pub(super) fn metrics(openmetrics: &str, start: Timestamp, now: Timestamp) -> Vec<Metric> {
    let times = (start.as_nanos(), now.as_nanos());
    let mut metrics = Vec::new();
    for line in openmetrics.lines() {
        if let Some(told) = line.strip_prefix("# HELP ") {
            let (name, help) = told.split_once(' ').unwrap_or((told, ""));
            metrics.push(Metric {
                name: name.to_owned(),
                description: help.to_owned(),
                ..Metric::default()
            });
            continue;
        }
        let Some(metric) = metrics.last_mut() else {
            continue;
        };
        if let Some(told) = line.strip_prefix("# TYPE ") {
            let (_, kind) = told.split_once(' ').unwrap_or_default();
            metric.data = Some(empty(kind));
        } else if let Some(told) = line.strip_prefix("# UNIT ") {
            let (_, unit) = told.split_once(' ').unwrap_or_default();
            take_unit(metric, unit);
        } else if let Some(sample) = Sample::read(line) {
            add(metric, sample, times);
        }
    }
    metrics
}

/// Splits off about half of `metrics`, or of the series of the only one; `None` where there is but one.
pub(super) fn split_off_half(metrics: &mut Vec<Metric>) -> Option<Vec<Metric>> {
    if let [metric] = &mut metrics[..] {
        return Some(vec![split_off_half_of(metric)?]);
    }
    (metrics.len() > 1).then(|| metrics.split_off(metrics.len() / 2))
}

fn split_off_half_of(metric: &mut Metric) -> Option<Metric> {
    fn half<Point>(points: &mut Vec<Point>) -> Option<Vec<Point>> {
        (points.len() > 1).then(|| points.split_off(points.len() / 2))
    }
    let data = match metric.data.as_mut()? {
        Data::Sum(sum) => Data::Sum(Sum {
            data_points: half(&mut sum.data_points)?,
            aggregation_temporality: sum.aggregation_temporality,
            is_monotonic: sum.is_monotonic,
        }),
        Data::Histogram(histogram) => Data::Histogram(Histogram {
            data_points: half(&mut histogram.data_points)?,
            aggregation_temporality: histogram.aggregation_temporality,
        }),
        Data::Gauge(gauge) => Data::Gauge(Gauge {
            data_points: half(&mut gauge.data_points)?,
        }),
        _ => return None,
    };
    Some(Metric {
        name: metric.name.clone(),
        description: metric.description.clone(),
        unit: metric.unit.clone(),
        data: Some(data),
        ..Metric::default()
    })
}

fn empty(kind: &str) -> Data {
    let temporality = AggregationTemporality::Cumulative.into();
    match kind {
        "counter" => Data::Sum(Sum {
            aggregation_temporality: temporality,
            is_monotonic: true,
            ..Sum::default()
        }),
        "histogram" => Data::Histogram(Histogram {
            aggregation_temporality: temporality,
            ..Histogram::default()
        }),
        _ => Data::Gauge(Gauge::default()),
    }
}

fn take_unit(metric: &mut Metric, unit: &str) {
    let name = metric.name.strip_suffix(unit);
    if let Some(name) = name.and_then(|name| name.strip_suffix('_')) {
        metric.name = name.to_owned();
    }
    metric.unit = match unit {
        "seconds" => "s",
        "bytes" => "By",
        other => other,
    }
    .to_owned();
}

fn add(metric: &mut Metric, sample: Sample<'_>, (start, now): (u64, u64)) {
    let point = |sample: Sample<'_>| NumberDataPoint {
        attributes: attributes(&sample.labels),
        start_time_unix_nano: start,
        time_unix_nano: now,
        value: Some(number(sample.value)),
        ..NumberDataPoint::default()
    };
    match &mut metric.data {
        Some(Data::Sum(sum)) => sum.data_points.push(point(sample)),
        Some(Data::Gauge(gauge)) => gauge.data_points.push(NumberDataPoint {
            start_time_unix_nano: 0,
            ..point(sample)
        }),
        Some(Data::Histogram(histogram)) => add_to_histogram(histogram, sample, (start, now)),
        _ => {}
    }
}

/// A histogram's sum comes first, then its count and its buckets, from the lowest on.
fn add_to_histogram(histogram: &mut Histogram, sample: Sample<'_>, (start, now): (u64, u64)) {
    if sample.name.ends_with("_sum") {
        histogram.data_points.push(HistogramDataPoint {
            attributes: attributes(&sample.labels),
            start_time_unix_nano: start,
            time_unix_nano: now,
            sum: sample.value.parse().ok(),
            ..HistogramDataPoint::default()
        });
        return;
    }
    let Some(point) = histogram.data_points.last_mut() else {
        return;
    };
    let count: u64 = sample.value.parse().unwrap_or(0);
    if sample.name.ends_with("_count") {
        point.count = count;
        return;
    }
    // Prometheus counts what is below a bound, OTLP what is between two.
    let below: u64 = point.bucket_counts.iter().sum();
    point.bucket_counts.push(count.saturating_sub(below));
    let bound = sample.labels.iter().find(|(key, _)| *key == "le");
    let bound: Option<f64> = bound.and_then(|(_, bound)| bound.parse().ok());
    point
        .explicit_bounds
        .extend(bound.filter(|bound| bound.is_finite()));
    if let Some((trace_id, value)) = sample.exemplar {
        point.exemplars.push(Exemplar {
            time_unix_nano: now,
            trace_id: trace_id.to_bytes().to_vec(),
            value: Some(exemplar::Value::AsDouble(value)),
            ..Exemplar::default()
        });
    }
}

fn number(text: &str) -> number_data_point::Value {
    match text.parse() {
        Ok(number) => number_data_point::Value::AsInt(number),
        Err(_) => number_data_point::Value::AsDouble(text.parse().unwrap_or(f64::NAN)),
    }
}

fn attributes(labels: &[(&str, String)]) -> Vec<KeyValue> {
    labels
        .iter()
        .filter(|(key, _)| *key != "le")
        .map(|(key, value)| attribute(key, value))
        .collect()
}

/// One line with a value.
struct Sample<'a> {
    name: &'a str,
    labels: Vec<(&'a str, String)>,
    value: &'a str,
    exemplar: Option<(TraceId, f64)>,
}

impl<'a> Sample<'a> {
    fn read(line: &'a str) -> Option<Self> {
        let end = line.find(['{', ' '])?;
        let (name, mut rest) = line.split_at(end);
        let mut labels = Vec::new();
        if let Some(inside) = rest.strip_prefix('{') {
            rest = inside;
            while !rest.starts_with('}') {
                let (key, quoted) = rest.split_once("=\"")?;
                let (value, after) = unquoted(quoted)?;
                labels.push((key, value));
                rest = after.strip_prefix(',').unwrap_or(after);
            }
            rest = rest.strip_prefix('}')?;
        }
        let rest = rest.strip_prefix(' ')?;
        let (value, exemplar) = match rest.split_once(" # {trace_id=\"") {
            Some((value, exemplar)) => (value, Self::exemplar(exemplar)),
            None => (rest, None),
        };
        Some(Self {
            name,
            labels,
            value,
            exemplar,
        })
    }

    fn exemplar(text: &str) -> Option<(TraceId, f64)> {
        let (trace_id, value) = text.split_once("\"} ")?;
        Some((TraceId::from_hex(trace_id)?, value.parse().ok()?))
    }
}

/// The value of a label up to the quote that ends it, and what comes after that.
fn unquoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, char)) = chars.next() {
        match char {
            '"' => return Some((value, text.get(at + 1..)?)),
            '\\' => match chars.next()?.1 {
                'n' => value.push('\n'),
                escaped => value.push(escaped),
            },
            plain => value.push(plain),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPENMETRICS: &str = "\
# HELP tracehop_dwell_seconds How long.
# TYPE tracehop_dwell_seconds histogram
# UNIT tracehop_dwell_seconds seconds
tracehop_dwell_seconds_sum{destination=\"a \\\"b\\\" \\\\ {c}, d\"} 4.5
tracehop_dwell_seconds_count{destination=\"a \\\"b\\\" \\\\ {c}, d\"} 4
tracehop_dwell_seconds_bucket{le=\"0.5\",destination=\"a \\\"b\\\" \\\\ {c}, d\"} 1
tracehop_dwell_seconds_bucket{le=\"1.0\",destination=\"a \\\"b\\\" \\\\ {c}, d\"} 3 # {trace_id=\"0af7651916cd43dd8448eb211c80319c\"} 0.75
tracehop_dwell_seconds_bucket{le=\"+Inf\",destination=\"a \\\"b\\\" \\\\ {c}, d\"} 4
# HELP tracehop_held_bytes Held.
# TYPE tracehop_held_bytes gauge
# UNIT tracehop_held_bytes bytes
tracehop_held_bytes 7
# HELP process_cpu_seconds Time.
# TYPE process_cpu_seconds counter
# UNIT process_cpu_seconds seconds
process_cpu_seconds_total 1.25
# HELP tracehop_build The version.
# TYPE tracehop_build info
tracehop_build_info{version=\"1\"} 1
# EOF
";

    #[test]
    fn what_prometheus_would_read_is_told_in_the_words_of_otlp() {
        let start = Timestamp::from_nanos(1);
        let found = metrics(OPENMETRICS, start, Timestamp::from_nanos(2));
        let names: Vec<_> = found
            .iter()
            .map(|metric| (&*metric.name, &*metric.unit))
            .collect();
        assert_eq!(
            names,
            [
                ("tracehop_dwell", "s"),
                ("tracehop_held", "By"),
                ("process_cpu", "s"),
                ("tracehop_build", ""),
            ]
        );
        let Some(Data::Histogram(dwell)) = &found[0].data else {
            panic!("{:?}", found[0]);
        };
        let point = &dwell.data_points[0];
        assert_eq!((point.sum, point.count), (Some(4.5), 4));
        assert_eq!(point.bucket_counts, [1, 2, 1]);
        assert_eq!(point.explicit_bounds, [0.5, 1.0]);
        assert_eq!((point.start_time_unix_nano, point.time_unix_nano), (1, 2));
        let destination = ("destination", r#"a "b" \ {c}, d"#.to_owned());
        assert_eq!(point.attributes, attributes(&[destination]));
        let trace_id = TraceId::from_hex("0af7651916cd43dd8448eb211c80319c").unwrap();
        assert_eq!(point.exemplars[0].trace_id, trace_id.to_bytes());
        let value = Some(exemplar::Value::AsDouble(0.75));
        assert_eq!(point.exemplars[0].value, value);

        let Some(Data::Gauge(held)) = &found[1].data else {
            panic!("{:?}", found[1]);
        };
        let value = Some(number_data_point::Value::AsInt(7));
        assert_eq!(held.data_points[0].value, value);
        let Some(Data::Sum(cpu)) = &found[2].data else {
            panic!("{:?}", found[2]);
        };
        assert!(cpu.is_monotonic);
        let value = Some(number_data_point::Value::AsDouble(1.25));
        assert_eq!(cpu.data_points[0].value, value);
    }
}
