//! The variables of OpenTelemetry that say how spans travel, and that have no key of ours.
//!
//! By the rules of OpenTelemetry, what is empty counts as not set, and what cannot be used is
//! warned of and is no reason not to start. A certificate that cannot be used is.

use std::io;
use std::time::Duration;

use hyper::HeaderMap;
use hyper::Uri;
use hyper::header::HeaderName;
use hyper::header::HeaderValue;
use percent_encoding::percent_decode_str;
use rustls::ClientConfig;
use thiserror::Error;
use url::Url;

use crate::config::OtlpProtocol;
use crate::config::Telemetry;
use crate::telemetry::otlp::tls;

/// What is exported. Each has an endpoint and variables of its own, which go before those
/// for all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::telemetry) enum Signal {
    Spans,
    Metrics,
}

/// Where spans or metrics go, and how; checked.
#[derive(Clone, Debug)]
pub(in crate::telemetry) struct Settings {
    pub(super) protocol: OtlpProtocol,
    /// With the path that is posted to, where the protocol has one.
    pub(super) endpoint: Url,
    /// Whether requests are compressed.
    pub(super) gzip: bool,
    /// What is sent along with each export; may be secret.
    pub(super) headers: HeaderMap,
    /// How long one export may take, with all its attempts.
    pub(super) deadline: Duration,
    /// Of use where the endpoint says `https`.
    pub(super) tls: ClientConfig,
    /// `OTEL_RESOURCE_ATTRIBUTES`.
    pub(super) resource_attributes: Vec<(String, String)>,
    pub(super) service_name: String,
    /// What was left aside.
    pub(in crate::telemetry) ignored: Vec<Unusable>,
}

/// What keeps telemetry from starting.
#[derive(Debug, Error)]
pub enum StartError {
    #[error(transparent)]
    Unusable(#[from] Unusable),
    #[error("the threads of telemetry cannot be started")]
    Threads(#[source] io::Error),
}

/// A setting that cannot be used. Says nothing of the value where that may be a secret.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{name}{}: {fault}; {remedy}", shown(.value.as_deref()))]
pub struct Unusable {
    /// The variable, or the key in the configuration.
    pub name: &'static str,
    /// `None` where it may be a secret, or there is none.
    pub value: Option<String>,
    pub fault: String,
    pub remedy: &'static str,
}

fn shown(value: Option<&str>) -> String {
    value.map_or_else(String::new, |value| format!(" = {value:?}"))
}

impl Settings {
    /// Reads the variables through `variable`, which is `None` for those that are not set.
    /// Files of certificates are read, nothing is connected to.
    pub(in crate::telemetry) fn read(
        signal: Signal,
        config: &Telemetry,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, Unusable> {
        let mut reading = Reading {
            signal,
            variable,
            ignored: Vec::new(),
        };
        let endpoint = reading.endpoint(config)?;
        let tls = match endpoint.scheme() {
            "https" => reading.tls()?,
            _ => tls::none(),
        };
        let gzip = reading.gzip();
        let headers = reading.headers();
        let resource_attributes = reading.resource_attributes();
        Ok(Self {
            protocol: config.protocol,
            endpoint,
            gzip,
            headers,
            deadline: config.export_timeout,
            tls,
            resource_attributes,
            service_name: config.service_name.clone(),
            ignored: reading.ignored,
        })
    }

    /// The endpoint, to be shown: without what may be a secret.
    pub(in crate::telemetry) fn endpoint(&self) -> String {
        let mut shown = self.endpoint_of_nobody();
        shown.set_query(None);
        shown.to_string()
    }

    /// The endpoint, to be asked: gRPC has no path of its own there.
    pub(super) fn uri(&self) -> Uri {
        let mut asked = self.endpoint_of_nobody();
        if self.protocol == OtlpProtocol::Grpc {
            asked.set_path("");
            asked.set_query(None);
        }
        asked.as_str().parse().expect("it was read as one")
    }

    /// Without a user and a password.
    fn endpoint_of_nobody(&self) -> Url {
        let mut endpoint = self.endpoint.clone();
        // Of a URL that has a host neither fails.
        let _ = endpoint.set_username("");
        let _ = endpoint.set_password(None);
        endpoint
    }
}

/// The variables, and what was left aside of them.
struct Reading<V> {
    signal: Signal,
    variable: V,
    ignored: Vec<Unusable>,
}

impl<V: Fn(&str) -> Option<String>> Reading<V> {
    /// What is empty counts as not set.
    fn variable(&self, name: &str) -> Option<String> {
        (self.variable)(name).filter(|value| !value.trim().is_empty())
    }

    /// The first of `names` that is set: the one for this signal goes before the one for all.
    fn first(&self, names: Names) -> Option<(&'static str, String)> {
        names
            .of(self.signal)
            .into_iter()
            .find_map(|name| Some((name, self.variable(name)?)))
    }

    /// The endpoint for this signal alone is used as it is; to the other one HTTP adds the
    /// signal's path.
    fn endpoint(&self, config: &Telemetry) -> Result<Url, Unusable> {
        let (own_name, own, path) = match self.signal {
            Signal::Spans => (
                names::TRACES_ENDPOINT,
                &config.traces_endpoint,
                "/v1/traces",
            ),
            Signal::Metrics => (
                names::METRICS_ENDPOINT,
                &config.metrics_endpoint,
                "/v1/metrics",
            ),
        };
        let (name, text, whole) = match (own, &config.endpoint) {
            (Some(text), _) => (own_name, &**text, true),
            (None, Some(text)) => (names::ENDPOINT, &**text, false),
            (None, None) => (names::ENDPOINT, default_endpoint(config.protocol), false),
        };
        let unusable = |fault| Unusable {
            name,
            value: Some(text.to_owned()),
            fault,
            remedy: ENDPOINT_REMEDY,
        };
        let text = self.with_scheme(text, config.protocol);
        let mut url = Url::parse(&text).map_err(|error| unusable(error.to_string()))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(unusable("is neither http nor https".to_owned()));
        }
        if config.protocol == OtlpProtocol::HttpProtobuf && !whole {
            let path = format!("{}{path}", url.path().trim_end_matches('/'));
            url.set_path(&path);
        }
        match url.as_str().parse::<Uri>() {
            Ok(_) => Ok(url),
            Err(error) => Err(unusable(error.to_string())),
        }
    }

    /// An endpoint may come without a scheme. For gRPC a variable says then whether to use
    /// TLS.
    fn with_scheme(&self, endpoint: &str, protocol: OtlpProtocol) -> String {
        if endpoint.contains("://") {
            return endpoint.to_owned();
        }
        let is_insecure = || {
            self.first(names::INSECURE)
                .is_some_and(|(_, value)| value.trim().eq_ignore_ascii_case("true"))
        };
        let scheme = match protocol {
            OtlpProtocol::Grpc if !is_insecure() => "https",
            OtlpProtocol::Grpc | OtlpProtocol::HttpProtobuf => "http",
        };
        format!("{scheme}://{endpoint}")
    }

    fn gzip(&mut self) -> bool {
        for name in names::COMPRESSION.of(self.signal) {
            let Some(value) = self.variable(name) else {
                continue;
            };
            match value.to_ascii_lowercase().as_str() {
                "gzip" => return true,
                "none" => return false,
                _ => self.ignored.push(Unusable {
                    name,
                    value: Some(value),
                    fault: "is not a compression that is known here".to_owned(),
                    remedy: "use gzip or none",
                }),
            }
        }
        false
    }

    fn headers(&mut self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let Some((name, value)) = self.first(names::HEADERS) else {
            return headers;
        };
        for (index, entry) in entries(&value).enumerate() {
            match header(entry) {
                Some((name, value)) => _ = headers.insert(name, value),
                None => self.ignored.push(Unusable {
                    name,
                    value: None,
                    fault: format!("entry {} is not a header", index + 1),
                    remedy: "use name=value,name=value with the values percent-encoded",
                }),
            }
        }
        headers
    }

    fn resource_attributes(&mut self) -> Vec<(String, String)> {
        let Some(value) = self.variable(names::RESOURCE_ATTRIBUTES) else {
            return Vec::new();
        };
        let attributes: Option<Vec<_>> = entries(&value).map(attribute).collect();
        attributes.unwrap_or_else(|| {
            self.ignored.push(Unusable {
                name: names::RESOURCE_ATTRIBUTES,
                value: Some(value),
                fault: "is not a list of attributes".to_owned(),
                remedy: "use key=value,key=value with the values percent-encoded",
            });
            Vec::new()
        })
    }

    fn tls(&self) -> Result<ClientConfig, Unusable> {
        let authority = self.first(names::CERTIFICATE);
        let certificate = self.first(names::CLIENT_CERTIFICATE);
        let key = self.first(names::CLIENT_KEY);
        tls::load(authority, certificate, key)
    }
}

fn default_endpoint(protocol: OtlpProtocol) -> &'static str {
    match protocol {
        OtlpProtocol::Grpc => "http://localhost:4317",
        OtlpProtocol::HttpProtobuf => "http://localhost:4318",
    }
}

/// The parts of a list; empty ones do not count.
fn entries(list: &str) -> impl Iterator<Item = &str> {
    list.split(',')
        .map(str::trim)
        .filter(|entry| !entry.is_empty())
}

fn header(entry: &str) -> Option<(HeaderName, HeaderValue)> {
    let (name, value) = entry.split_once('=')?;
    let value = percent_decode_str(value.trim()).decode_utf8().ok()?;
    let mut value = HeaderValue::from_str(&value)
        .ok()
        .filter(|it| !it.is_empty())?;
    value.set_sensitive(true);
    Some((name.trim().parse().ok()?, value))
}

fn attribute(entry: &str) -> Option<(String, String)> {
    let (key, value) = entry.split_once('=')?;
    let decoded = |text: &str| {
        let text = percent_decode_str(text.trim()).decode_utf8().ok()?;
        Some(text.into_owned())
    };
    let key = decoded(key).filter(|key| !key.is_empty())?;
    Some((key, decoded(value)?))
}

const ENDPOINT_REMEDY: &str = "use a URL such as http://collector:4318 or https://collector:4317";

/// What a variable is called for spans, for metrics, and for all.
#[derive(Clone, Copy)]
struct Names([&'static str; 3]);

impl Names {
    /// Those that say something of `signal`, the more specific one first.
    const fn of(self, signal: Signal) -> [&'static str; 2] {
        let [spans, metrics, all] = self.0;
        match signal {
            Signal::Spans => [spans, all],
            Signal::Metrics => [metrics, all],
        }
    }
}

/// The variables, as OpenTelemetry's exporter specification names them.
mod names {
    use super::Names;

    /// Keys of ours, with the variables behind them.
    pub(super) const ENDPOINT: &str = "telemetry.endpoint (OTEL_EXPORTER_OTLP_ENDPOINT)";
    pub(super) const TRACES_ENDPOINT: &str =
        "telemetry.traces_endpoint (OTEL_EXPORTER_OTLP_TRACES_ENDPOINT)";
    pub(super) const METRICS_ENDPOINT: &str =
        "telemetry.metrics_endpoint (OTEL_EXPORTER_OTLP_METRICS_ENDPOINT)";
    pub(super) const INSECURE: Names = Names([
        "OTEL_EXPORTER_OTLP_TRACES_INSECURE",
        "OTEL_EXPORTER_OTLP_METRICS_INSECURE",
        "OTEL_EXPORTER_OTLP_INSECURE",
    ]);
    pub(super) const HEADERS: Names = Names([
        "OTEL_EXPORTER_OTLP_TRACES_HEADERS",
        "OTEL_EXPORTER_OTLP_METRICS_HEADERS",
        "OTEL_EXPORTER_OTLP_HEADERS",
    ]);
    pub(super) const COMPRESSION: Names = Names([
        "OTEL_EXPORTER_OTLP_TRACES_COMPRESSION",
        "OTEL_EXPORTER_OTLP_METRICS_COMPRESSION",
        "OTEL_EXPORTER_OTLP_COMPRESSION",
    ]);
    pub(super) const CERTIFICATE: Names = Names([
        "OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE",
        "OTEL_EXPORTER_OTLP_METRICS_CERTIFICATE",
        "OTEL_EXPORTER_OTLP_CERTIFICATE",
    ]);
    pub(super) const CLIENT_CERTIFICATE: Names = Names([
        "OTEL_EXPORTER_OTLP_TRACES_CLIENT_CERTIFICATE",
        "OTEL_EXPORTER_OTLP_METRICS_CLIENT_CERTIFICATE",
        "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE",
    ]);
    pub(super) const CLIENT_KEY: Names = Names([
        "OTEL_EXPORTER_OTLP_TRACES_CLIENT_KEY",
        "OTEL_EXPORTER_OTLP_METRICS_CLIENT_KEY",
        "OTEL_EXPORTER_OTLP_CLIENT_KEY",
    ]);
    pub(super) const RESOURCE_ATTRIBUTES: &str = "OTEL_RESOURCE_ATTRIBUTES";
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRPC: OtlpProtocol = OtlpProtocol::Grpc;
    const HTTP: OtlpProtocol = OtlpProtocol::HttpProtobuf;

    fn config(protocol: OtlpProtocol, endpoint: Option<&str>) -> Telemetry {
        Telemetry {
            protocol,
            endpoint: endpoint.map(str::to_owned),
            ..Telemetry::default()
        }
    }

    fn value(variables: &[(&str, &str)], name: &str) -> Option<String> {
        let (_, value) = variables.iter().find(|(known, _)| *known == name)?;
        Some((*value).to_owned())
    }

    fn read(config: &Telemetry, variables: &[(&str, &str)]) -> Result<Settings, Unusable> {
        Settings::read(Signal::Spans, config, |name| value(variables, name))
    }

    #[test]
    fn the_endpoint_follows_the_specification() {
        let insecure = ("OTEL_EXPORTER_OTLP_INSECURE", "True");
        let secure = ("OTEL_EXPORTER_OTLP_TRACES_INSECURE", "false");
        for (protocol, endpoint, variables, expected) in [
            (GRPC, None, &[][..], "http://localhost:4317/"),
            (HTTP, None, &[], "http://localhost:4318/v1/traces"),
            (HTTP, Some("http://c:1"), &[], "http://c:1/v1/traces"),
            (HTTP, Some("http://c:1/a/"), &[], "http://c:1/a/v1/traces"),
            (HTTP, Some("c:1"), &[secure], "http://c:1/v1/traces"),
            (
                HTTP,
                Some("localhost:1"),
                &[],
                "http://localhost:1/v1/traces",
            ),
            (GRPC, Some("http://[::1]:1"), &[], "http://[::1]:1/"),
            (GRPC, Some("c:1"), &[], "https://c:1/"),
            (GRPC, Some("c:1"), &[insecure], "http://c:1/"),
            (GRPC, Some("c:1"), &[insecure, secure], "https://c:1/"),
            (GRPC, Some("https://c:1"), &[insecure], "https://c:1/"),
        ] {
            let reading = Reading {
                signal: Signal::Spans,
                variable: |name: &str| value(variables, name),
                ignored: Vec::new(),
            };
            let found = reading.endpoint(&config(protocol, endpoint)).unwrap();
            assert_eq!(found.as_str(), expected, "{endpoint:?} {variables:?}");
        }
    }

    #[test]
    fn the_endpoint_for_traces_goes_first_and_is_used_as_it_is() {
        let config = Telemetry {
            traces_endpoint: Some("http://t:2".to_owned()),
            ..config(HTTP, Some("http://c:1"))
        };
        assert_eq!(read(&config, &[]).unwrap().endpoint.as_str(), "http://t:2/");
    }

    #[test]
    fn metrics_have_an_endpoint_and_variables_of_their_own() {
        let variables = [
            ("OTEL_EXPORTER_OTLP_HEADERS", "api-key=all"),
            ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "api-key=spans"),
            ("OTEL_EXPORTER_OTLP_METRICS_HEADERS", "api-key=metrics"),
        ];
        for (metrics_endpoint, expected) in [
            (None, "http://c:1/v1/metrics"),
            (Some("http://m:2/".to_owned()), "http://m:2/"),
        ] {
            let config = Telemetry {
                traces_endpoint: Some("http://t:2".to_owned()),
                metrics_endpoint,
                ..config(HTTP, Some("http://c:1"))
            };
            let variable = |name: &str| value(&variables, name);
            let settings = Settings::read(Signal::Metrics, &config, variable).unwrap();
            assert_eq!(settings.endpoint.as_str(), expected);
            assert_eq!(settings.headers["api-key"], "metrics");
        }
    }

    #[test]
    fn an_endpoint_that_cannot_be_used_is_told() {
        let error = read(&config(HTTP, Some("ftp://collector:4318")), &[]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "telemetry.endpoint (OTEL_EXPORTER_OTLP_ENDPOINT) = \"ftp://collector:4318\": is \
             neither http nor https; use a URL such as http://collector:4318 or https://collector:4317"
        );
    }

    #[test]
    fn what_cannot_be_used_is_left_aside_and_told_with_its_remedy() {
        let settings = read(
            &config(HTTP, None),
            &[
                ("OTEL_EXPORTER_OTLP_COMPRESSION", "snappy"),
                ("OTEL_EXPORTER_OTLP_HEADERS", "a=b,Authorization: Bearer x"),
                ("OTEL_RESOURCE_ATTRIBUTES", "team"),
            ],
        )
        .unwrap();
        assert!(!settings.gzip);
        assert_eq!(settings.resource_attributes, []);
        let lines: Vec<String> = settings.ignored.iter().map(ToString::to_string).collect();
        assert_eq!(
            lines,
            [
                "OTEL_EXPORTER_OTLP_COMPRESSION = \"snappy\": is not a compression that is known \
                 here; use gzip or none",
                "OTEL_EXPORTER_OTLP_HEADERS: entry 2 is not a header; use name=value,name=value \
                 with the values percent-encoded",
                "OTEL_RESOURCE_ATTRIBUTES = \"team\": is not a list of attributes; use \
                 key=value,key=value with the values percent-encoded",
            ]
        );
    }

    #[test]
    fn compression_for_traces_goes_before_the_one_for_all() {
        for (generic, traces, gzip) in [
            ("", "", false),
            ("gzip", "", true),
            ("gzip", "none", false),
            ("gzip", "snappy", true),
            ("none", "GZIP", true),
        ] {
            let variables = [
                ("OTEL_EXPORTER_OTLP_COMPRESSION", generic),
                ("OTEL_EXPORTER_OTLP_TRACES_COMPRESSION", traces),
            ];
            let settings = read(&config(HTTP, None), &variables).unwrap();
            assert_eq!(settings.gzip, gzip);
        }
    }

    #[test]
    fn headers_are_decoded_and_what_is_none_is_left_out() {
        for (entry, expected) in [
            ("api-key=abc", Some(("api-key", "abc"))),
            (
                "Authorization=Basic%20YWJj==",
                Some(("authorization", "Basic YWJj==")),
            ),
            ("x = y ", Some(("x", "y"))),
            ("api-key", None),
            ("api-key=", None),
            ("=abc", None),
            ("api key=abc", None),
            ("api-key=a%0Ab", None),
            ("api-key=%FF", None),
        ] {
            let found = header(entry);
            let found = found
                .as_ref()
                .map(|(name, value)| (name.as_str(), value.to_str().unwrap()));
            assert_eq!(found, expected, "{entry}");
        }
    }

    #[test]
    fn headers_for_traces_go_before_those_for_all_unless_they_are_empty() {
        for (generic, traces, expected) in [
            ("a=b", "", &[("a", "b")][..]),
            ("a=b,c=d", "c=e,nonsense,f=g", &[("c", "e"), ("f", "g")]),
        ] {
            let variables = [
                ("OTEL_EXPORTER_OTLP_HEADERS", generic),
                ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", traces),
            ];
            let settings = read(&config(HTTP, None), &variables).unwrap();
            let found: Vec<_> = settings
                .headers
                .iter()
                .map(|(name, value)| (name.as_str(), value.to_str().unwrap()))
                .collect();
            assert_eq!(found, expected);
            assert!(settings.headers.values().all(HeaderValue::is_sensitive));
        }
    }

    #[test]
    fn certificates_that_cannot_be_used_are_told_by_variable_and_file() {
        let folder = std::env::temp_dir().join(format!("tracehop-settings-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let file = |name: &str, text: &str| {
            let path = folder.join(name);
            std::fs::write(&path, text).unwrap();
            path.to_str().unwrap().to_owned()
        };
        let signed = rcgen::generate_simple_self_signed(vec!["c".to_owned()]).unwrap();
        let other = rcgen::KeyPair::generate().unwrap();
        let certificate = file("certificate.pem", &signed.cert.pem());
        let key = file("key.pem", &signed.signing_key.serialize_pem());
        let other_key = file("other.pem", &other.serialize_pem());
        let empty = file("empty.pem", "");

        let authority = "OTEL_EXPORTER_OTLP_CERTIFICATE";
        let client_certificate = "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE";
        let client_key = "OTEL_EXPORTER_OTLP_TRACES_CLIENT_KEY";
        let fault = |variables: &[(&str, &str)]| match read(
            &config(GRPC, Some("https://c:1")),
            variables,
        ) {
            Ok(_) => None,
            Err(error) => Some(error.to_string()),
        };
        for (variables, named) in [
            (
                &[(authority, "/nowhere.pem")][..],
                "OTEL_EXPORTER_OTLP_CERTIFICATE = \"/nowhere.pem\": No such file",
            ),
            (&[(authority, &empty)], "has no certificate in it"),
            (
                &[(authority, &certificate), (client_key, &key)],
                "OTEL_EXPORTER_OTLP_TRACES_CLIENT_KEY",
            ),
            (
                &[
                    (authority, &certificate),
                    (client_certificate, &certificate),
                    (client_key, &other_key),
                ],
                "give the key that belongs to the certificate",
            ),
            (
                &[
                    (authority, &certificate),
                    (client_certificate, &certificate),
                    (client_key, &certificate),
                ],
                "give a file with a private key in PEM",
            ),
        ] {
            let fault = fault(variables).unwrap();
            assert!(fault.contains(named), "{fault}");
        }
        let usable = [
            (authority, &*certificate),
            (client_certificate, &certificate),
            (client_key, &key),
        ];
        assert_eq!(fault(&usable), None);
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
