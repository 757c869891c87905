//! How values are spelled: the same in the file, in the environment and in flags.

use std::marker::PhantomData;
use std::path::PathBuf;
use std::time::Duration;

use hyper::Uri;
use rustls::pki_types::ServerName;
use tracing_subscriber::EnvFilter;
use url::Url;
use wildmatch::WildMatch;

use crate::config::InjectOn;
use crate::config::LogFormat;
use crate::config::Mode;
use crate::config::MovingAddress;
use crate::config::OnInvalid;
use crate::config::OnMissing;
use crate::config::OnValid;
use crate::config::OtlpProtocol;
use crate::config::Protocol;
use crate::trace::Ratio;
use crate::trace::Sampler;
use crate::trace::UnknownSampler;

/// One kind of value. What [`write`](Self::write) gives, [`read`](Self::read) takes.
pub(super) trait Spelling {
    type Value;
    /// What stands for no value where there may be none; see [`Optional`].
    const NONE: &'static str = "";
    /// Whether a file has an array of texts for it; see [`List`].
    const IS_LIST: bool = false;

    fn read(text: &str) -> Result<Self::Value, Fault>;
    fn write(value: &Self::Value) -> String;
}

/// Why a text is not a value. Neither part repeats the text: it may hold a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) wrong: String,
    pub(super) remedy: String,
}

impl Fault {
    pub(super) fn new(wrong: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            wrong: wrong.into(),
            remedy: remedy.into(),
        }
    }
}

/// A value that may be absent.
pub(super) struct Optional<S>(PhantomData<S>);

impl<S: Spelling> Spelling for Optional<S> {
    type Value = Option<S::Value>;

    fn read(text: &str) -> Result<Self::Value, Fault> {
        match text {
            text if text == S::NONE => Ok(None),
            text => S::read(text).map(Some),
        }
    }

    fn write(value: &Self::Value) -> String {
        value.as_ref().map_or_else(|| S::NONE.to_owned(), S::write)
    }
}

/// Any number of values, with commas in between.
pub(super) struct List<S>(PhantomData<S>);

impl<S: Spelling> Spelling for List<S> {
    type Value = Vec<S::Value>;
    const IS_LIST: bool = true;

    fn read(text: &str) -> Result<Self::Value, Fault> {
        match text.trim() {
            "" => Ok(Vec::new()),
            text => text.split(',').map(|one| S::read(one.trim())).collect(),
        }
    }

    fn write(value: &Self::Value) -> String {
        let texts: Vec<String> = value.iter().map(S::write).collect();
        texts.join(",")
    }
}

/// A type whose values have names.
pub(super) trait Words: Sized + PartialEq {
    fn words() -> Vec<(&'static str, Self)>;
}

/// One of a few words.
pub(super) struct Word<T>(PhantomData<T>);

impl<T: Words> Spelling for Word<T> {
    type Value = T;

    fn read(text: &str) -> Result<T, Fault> {
        let words = T::words();
        let names: Vec<&str> = words.iter().map(|(name, _)| *name).collect();
        words
            .into_iter()
            .find_map(|(name, value)| (name == text).then_some(value))
            .ok_or_else(|| {
                let mut remedy = format!("write {}", alternatives(&names));
                if let Some(name) = nearest(text, names) {
                    remedy = format!("did you mean \"{name}\"? {remedy}");
                }
                Fault::new("no such choice", remedy)
            })
    }

    fn write(value: &T) -> String {
        T::words()
            .into_iter()
            .find_map(|(name, named)| (named == *value).then(|| name.to_owned()))
            .unwrap_or_default()
    }
}

/// `"a", "b" or "c"`.
fn alternatives(names: &[&str]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("{name:?}")).collect();
    match quoted.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, others)) => format!("{} or {last}", others.join(", ")),
        None => String::new(),
    }
}

/// The candidate that `text` is most likely a misspelling of.
pub(super) fn nearest<'a>(
    text: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(text, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= candidate.len().max(3) / 3)
        .min()
        .map(|(_, candidate)| candidate)
}

impl Words for Protocol {
    fn words() -> Vec<(&'static str, Self)> {
        Self::ALL
            .iter()
            .map(|(protocol, word, _)| (*word, *protocol))
            .collect()
    }
}

impl Words for Mode {
    fn words() -> Vec<(&'static str, Self)> {
        vec![
            ("inject", Self::Inject),
            ("observe", Self::Observe),
            ("off", Self::Off),
        ]
    }
}

impl Words for InjectOn {
    fn words() -> Vec<(&'static str, Self)> {
        vec![
            ("publish", Self::Publish),
            ("delivery", Self::Delivery),
            ("both", Self::Both),
        ]
    }
}

impl Words for MovingAddress {
    fn words() -> Vec<(&'static str, Self)> {
        vec![
            ("auto", Self::Auto),
            ("remove", Self::Remove),
            ("pass", Self::Pass),
        ]
    }
}

impl Words for OnMissing {
    fn words() -> Vec<(&'static str, Self)> {
        vec![("add", Self::Add), ("pass", Self::Pass)]
    }
}

impl Words for OnValid {
    fn words() -> Vec<(&'static str, Self)> {
        vec![("keep", Self::Keep), ("restamp", Self::Restamp)]
    }
}

impl Words for OnInvalid {
    fn words() -> Vec<(&'static str, Self)> {
        vec![("replace", Self::Replace), ("pass", Self::Pass)]
    }
}

impl Words for OtlpProtocol {
    fn words() -> Vec<(&'static str, Self)> {
        vec![("http/protobuf", Self::HttpProtobuf), ("grpc", Self::Grpc)]
    }
}

impl Words for LogFormat {
    fn words() -> Vec<(&'static str, Self)> {
        vec![("text", Self::Text), ("json", Self::Json)]
    }
}

/// True or false.
pub(super) enum Truth {}

impl Spelling for Truth {
    type Value = bool;

    fn read(text: &str) -> Result<bool, Fault> {
        text.parse()
            .map_err(|_| Fault::new("neither true nor false", "write true or false"))
    }

    fn write(value: &bool) -> String {
        value.to_string()
    }
}

/// A number of things, at least one.
pub(super) enum Count {}

impl Spelling for Count {
    type Value = usize;

    fn read(text: &str) -> Result<usize, Fault> {
        match text.parse::<u64>().map(usize::try_from) {
            Ok(Ok(0)) => Err(Fault::new("zero", "write at least 1")),
            Ok(Ok(count @ ..=COUNT_MAX)) => Ok(count),
            Ok(_) => Err(Fault::new("too many", format!("write at most {COUNT_MAX}"))),
            Err(_) => Err(Fault::new(
                "not a whole number",
                "write digits alone, such as 1000",
            )),
        }
    }

    fn write(value: &usize) -> String {
        value.to_string()
    }
}

/// A number of bytes, at least one.
pub(super) enum Bytes {}

impl Spelling for Bytes {
    type Value = usize;

    fn read(text: &str) -> Result<usize, Fault> {
        let (number, unit) = split_unit(text);
        let bytes = BYTE_UNITS
            .iter()
            .find(|(name, _)| *name == unit)
            .and_then(|(_, size)| number.parse::<usize>().ok()?.checked_mul(*size));
        match bytes {
            Some(bytes @ 1..) => Ok(bytes),
            Some(0) => Err(Fault::new("zero", "write at least 1")),
            _ => Err(Fault::new(
                "not a size",
                "write a number of bytes or one with a unit (KiB, MiB, GiB), such as \"256KiB\"",
            )),
        }
    }

    fn write(value: &usize) -> String {
        let (unit, size) = BYTE_UNITS
            .iter()
            .rfind(|(_, size)| value.is_multiple_of(*size))
            .unwrap_or(&BYTE_UNITS[0]);
        format!("{}{unit}", value / size)
    }
}

/// A length of time that may be zero.
pub(super) enum Grace {}

impl Spelling for Grace {
    type Value = Duration;

    fn read(text: &str) -> Result<Duration, Fault> {
        let (number, unit) = split_unit(text);
        let millis = TIME_UNITS
            .iter()
            .find(|(name, _)| *name == unit)
            .and_then(|(_, millis)| number.parse::<u64>().ok()?.checked_mul(*millis))
            .ok_or_else(|| {
                Fault::new(
                    "not a length of time",
                    "write a number and a unit (ms, s, m, h), such as \"300ms\", \"5s\" or \"10m\"",
                )
            })?;
        match Duration::from_millis(millis) {
            time if time <= TIME_MAX => Ok(time),
            _ => Err(Fault::new("too long", "write at most \"8760h\", a year")),
        }
    }

    fn write(value: &Duration) -> String {
        let value = u64::try_from(value.as_millis()).unwrap_or(u64::MAX);
        let (unit, millis) = TIME_UNITS
            .iter()
            .rfind(|(_, millis)| value != 0 && value.is_multiple_of(*millis))
            .unwrap_or(&("s", 1_000));
        format!("{}{unit}", value / millis)
    }
}

/// A length of time above zero.
pub(super) enum Time {}

impl Spelling for Time {
    type Value = Duration;

    fn read(text: &str) -> Result<Duration, Fault> {
        match Grace::read(text)? {
            Duration::ZERO => Err(Fault::new("zero", "write at least \"1ms\"")),
            time => Ok(time),
        }
    }

    fn write(value: &Duration) -> String {
        Grace::write(value)
    }
}

/// The digits at the beginning, and what follows them.
fn split_unit(text: &str) -> (&str, &str) {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    (number, unit.trim_start_matches(' '))
}

/// A text that is not empty.
pub(super) enum Text {}

impl Spelling for Text {
    type Value = String;

    fn read(text: &str) -> Result<String, Fault> {
        match text.trim() {
            "" => Err(Fault::new("empty", "write a name")),
            text => Ok(text.to_owned()),
        }
    }

    fn write(value: &String) -> String {
        value.clone()
    }
}

/// The path of a file; whether it is there is another question.
pub(super) enum File {}

impl Spelling for File {
    type Value = PathBuf;

    fn read(text: &str) -> Result<PathBuf, Fault> {
        Ok(text.into())
    }

    fn write(value: &PathBuf) -> String {
        value.display().to_string()
    }
}

/// The name of a server, as certificates have it: of DNS, or an IP address.
pub(super) enum Name {}

impl Spelling for Name {
    type Value = ServerName<'static>;

    fn read(text: &str) -> Result<ServerName<'static>, Fault> {
        ServerName::try_from(text.to_owned()).map_err(|_| {
            Fault::new(
                "not a name that a certificate can be for",
                "write a name such as \"broker.example\", or an IP address, without a port",
            )
        })
    }

    fn write(value: &ServerName<'static>) -> String {
        value.to_str().into_owned()
    }
}

/// A pattern for names of queues or tasks.
pub(super) enum Pattern {}

impl Spelling for Pattern {
    type Value = WildMatch;

    fn read(text: &str) -> Result<WildMatch, Fault> {
        match text {
            "" => Err(Fault::new(
                "an empty pattern",
                "leave it out, or write \"*\" for every name",
            )),
            text => Ok(WildMatch::new(text)),
        }
    }

    fn write(value: &WildMatch) -> String {
        value.to_string()
    }
}

/// A log level, or a filter in the syntax of `RUST_LOG`.
pub(super) enum Level {}

impl Spelling for Level {
    type Value = String;

    fn read(text: &str) -> Result<String, Fault> {
        // A lone word that is no level would be taken for the name of a module.
        let misspelt = text
            .split(',')
            .map(str::trim)
            .find(|word| !word.contains(['=', '[']) && !is_level(word));
        if misspelt.is_none() && EnvFilter::builder().parse(text).is_ok() {
            return Ok(text.to_owned());
        }
        let levels = alternatives(&LEVELS);
        let filter = "or a filter such as \"info,tracehop=debug\"";
        Err(Fault::new(
            "not a level",
            match misspelt.and_then(|word| nearest(word, LEVELS)) {
                Some(level) => format!("did you mean \"{level}\"? write {levels}, {filter}"),
                None => format!("write {levels}, {filter}"),
            },
        ))
    }

    fn write(value: &String) -> String {
        value.clone()
    }
}

fn is_level(word: &str) -> bool {
    LEVELS.iter().any(|level| level.eq_ignore_ascii_case(word))
}

/// Where an OTLP receiver listens, as a URL; a bare `host:port` will do.
pub(super) enum Endpoint {}

impl Spelling for Endpoint {
    type Value = String;

    fn read(text: &str) -> Result<String, Fault> {
        let url = match text.split_once("://") {
            Some(("http" | "https", _)) => Url::parse(text).ok(),
            Some(_) => None,
            None => Url::parse(&format!("http://{text}")).ok(),
        };
        // Whoever connects there is stricter, about "http://${HOST}" for one.
        match url.filter(|url| url.as_str().parse::<Uri>().is_ok()) {
            None => Err(Fault::new(
                "not the URL of an OTLP receiver",
                "write an http or https URL, such as \"http://localhost:4318\"",
            )),
            // They would be ignored, and shown wherever the configuration is.
            Some(url) if !url.username().is_empty() || url.password().is_some() => Err(Fault::new(
                "has credentials in it",
                "leave them out and set the header they stand for in OTEL_EXPORTER_OTLP_HEADERS",
            )),
            Some(url) if url.query().is_some() || url.fragment().is_some() => Err(Fault::new(
                "has a query or a fragment in it",
                "leave it out; keys go into OTEL_EXPORTER_OTLP_HEADERS",
            )),
            Some(_) => Ok(text.to_owned()),
        }
    }

    fn write(value: &String) -> String {
        value.clone()
    }
}

/// Where a trace can be looked at, as a URL with a place for its id.
pub(super) enum TraceUrl {}

impl Spelling for TraceUrl {
    type Value = String;

    fn read(text: &str) -> Result<String, Fault> {
        let url = Url::parse(text).ok();
        match url.filter(|url| ["http", "https"].contains(&url.scheme())) {
            None => Err(Fault::new("not the URL of a page", TRACE_URL_REMEDY)),
            Some(url) if !url.username().is_empty() || url.password().is_some() => Err(Fault::new(
                "has credentials in it",
                "leave them out: whoever may see the admin page sees this URL",
            )),
            Some(_) if !text.contains(TRACE_ID) => Err(Fault::new(
                format!("without {TRACE_ID} in it"),
                TRACE_URL_REMEDY,
            )),
            Some(_) => Ok(text.to_owned()),
        }
    }

    fn write(value: &String) -> String {
        value.clone()
    }
}

/// A sampler as in `OTEL_TRACES_SAMPLER`, with its ratio behind a space.
pub(super) enum SamplerName {}

impl Spelling for SamplerName {
    type Value = Sampler;

    fn read(text: &str) -> Result<Sampler, Fault> {
        let (name, ratio) = match text.split_once(' ') {
            Some((name, ratio)) => (name, Some(ratio)),
            None => (text, None),
        };
        Sampler::parse(name, ratio).map_err(|error| match error {
            UnknownSampler::Name(name) => Fault::new(
                "no such sampler",
                match nearest(&name, SAMPLERS) {
                    Some(near) => {
                        format!("did you mean \"{near}\"? write {}", alternatives(&SAMPLERS))
                    }
                    None => format!("write {}", alternatives(&SAMPLERS)),
                },
            ),
            UnknownSampler::Ratio(_) => Fault::new(
                "not a ratio",
                "write a number from 0 to 1, as in \"parentbased_traceidratio 0.25\"",
            ),
        })
    }

    fn write(value: &Sampler) -> String {
        value.to_string()
    }
}

/// A share of all traces.
pub(super) enum Share {}

impl Spelling for Share {
    type Value = Ratio;

    fn read(text: &str) -> Result<Ratio, Fault> {
        Ratio::parse(text)
            .map_err(|_| Fault::new("not a ratio", "write a number from 0 to 1, such as 0.25"))
    }

    fn write(value: &Ratio) -> String {
        value.to_string()
    }
}

/// What stands for the id of a trace in its URL.
const TRACE_ID: &str = "{trace_id}";

const TRACE_URL_REMEDY: &str = "write an http or https URL with {trace_id} where the id belongs, \
     such as \"http://localhost:16686/trace/{trace_id}\"";

/// Enough for any machine, and far from where sums overflow.
const COUNT_MAX: usize = 1_000_000_000;

/// A year; far from where adding to a clock overflows.
const TIME_MAX: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// From small to large.
const BYTE_UNITS: [(&str, usize); 4] = [
    ("", 1),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
];

/// In milliseconds, from small to large.
const TIME_UNITS: [(&str, u64); 4] = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000)];

const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

const SAMPLERS: [&str; 6] = [
    "always_on",
    "always_off",
    "traceidratio",
    "parentbased_always_on",
    "parentbased_always_off",
    "parentbased_traceidratio",
];

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads each text; what is written for the value must read as the same again.
    fn read<S: Spelling>(text: &str) -> Result<S::Value, String>
    where
        S::Value: PartialEq + std::fmt::Debug,
    {
        let value = S::read(text).map_err(|fault| fault.wrong)?;
        let written = S::write(&value);
        assert_eq!(S::read(&written).as_ref(), Ok(&value), "{text} → {written}");
        Ok(value)
    }

    #[test]
    fn lengths_of_time_have_a_unit() {
        for (text, millis) in [
            ("300ms", 300),
            ("5s", 5_000),
            ("90s", 90_000),
            ("10 m", 600_000),
            ("8760h", 31_536_000_000),
            ("0s", 0),
        ] {
            assert_eq!(read::<Grace>(text), Ok(Duration::from_millis(millis)));
        }
        for text in [
            "",
            "5",
            "s",
            "-5s",
            "1.5s",
            "5d",
            "5s ",
            "18446744073709551615h",
        ] {
            assert_eq!(read::<Grace>(text), Err("not a length of time".to_owned()));
        }
        assert_eq!(read::<Grace>("8761h"), Err("too long".to_owned()));
        assert_eq!(read::<Time>("0ms"), Err("zero".to_owned()));
    }

    #[test]
    fn a_length_of_time_is_written_in_its_largest_unit() {
        for text in ["0s", "1ms", "1500ms", "90s", "1m", "25h"] {
            assert_eq!(Grace::write(&Grace::read(text).unwrap()), text);
        }
    }

    #[test]
    fn sizes_may_have_a_unit() {
        for (text, bytes) in [
            ("1", 1),
            ("1000", 1_000),
            ("256KiB", 262_144),
            ("1 MiB", 1_048_576),
            ("2GiB", 2_147_483_648),
        ] {
            assert_eq!(read::<Bytes>(text), Ok(bytes));
        }
        for text in [
            "",
            "KiB",
            "1kb",
            "1MB",
            "-1",
            "1.5MiB",
            "18446744073709551615GiB",
        ] {
            assert_eq!(read::<Bytes>(text), Err("not a size".to_owned()), "{text}");
        }
        assert_eq!(read::<Bytes>("0KiB"), Err("zero".to_owned()));
    }

    #[test]
    fn counts_are_whole_numbers_above_zero() {
        assert_eq!(read::<Count>("20000"), Ok(20_000));
        for (text, wrong) in [
            ("0", "zero"),
            ("1000000001", "too many"),
            ("-1", "not a whole number"),
            ("1e3", "not a whole number"),
        ] {
            assert_eq!(read::<Count>(text), Err(wrong.to_owned()));
        }
    }

    #[test]
    fn a_misspelt_word_is_recognised() {
        assert_eq!(read::<Word<OnValid>>("restamp"), Ok(OnValid::Restamp));
        for (text, remedy) in [
            (
                "restmap",
                "did you mean \"restamp\"? write \"keep\" or \"restamp\"",
            ),
            (
                "Keep",
                "did you mean \"keep\"? write \"keep\" or \"restamp\"",
            ),
            ("drop", "write \"keep\" or \"restamp\""),
        ] {
            assert_eq!(Word::<OnValid>::read(text).unwrap_err().remedy, remedy);
        }
    }

    #[test]
    fn every_word_is_written_as_it_is_read() {
        fn check<T: Words + std::fmt::Debug>() {
            for (word, value) in T::words() {
                assert_eq!(Word::<T>::write(&value), word);
                assert_eq!(Word::<T>::read(word), Ok(value));
            }
        }
        check::<Protocol>();
        check::<Mode>();
        check::<MovingAddress>();
        check::<InjectOn>();
        check::<OnMissing>();
        check::<OnValid>();
        check::<OnInvalid>();
        check::<OtlpProtocol>();
        check::<LogFormat>();
    }

    #[test]
    fn a_list_has_commas_in_between() {
        for (text, written) in [
            ("", ""),
            (" ", ""),
            ("celery", "celery"),
            ("shop.*, mail-? ,*", "shop.*,mail-?,*"),
        ] {
            let patterns = read::<List<Pattern>>(text).unwrap();
            assert_eq!(List::<Pattern>::write(&patterns), written);
        }
        for text in [",", "a,", "a,,b"] {
            let refused = read::<List<Pattern>>(text);
            assert_eq!(refused, Err("an empty pattern".to_owned()), "{text}");
        }
    }

    #[test]
    fn a_share_is_a_number_from_none_to_all() {
        for text in ["0", "0.001", "0.25", "1"] {
            assert_eq!(Share::write(&read::<Share>(text).unwrap()), text);
        }
        for text in ["", "-0.1", "1.5", "NaN", "25%"] {
            assert_eq!(read::<Share>(text), Err("not a ratio".to_owned()), "{text}");
        }
    }

    #[test]
    fn a_level_is_no_name_of_a_module() {
        for text in [
            "info",
            "WARN",
            "off",
            "info,tracehop::net=debug",
            "[session]=trace",
        ] {
            assert_eq!(read::<Level>(text), Ok(text.to_owned()));
        }
        for text in ["", "inof", "loud", "info,", "tracehop=loud"] {
            assert!(read::<Level>(text).is_err(), "{text}");
        }
    }

    #[test]
    fn an_endpoint_has_nothing_in_it_that_would_be_ignored() {
        for text in [
            "http://localhost:4318",
            "https://otlp.example/v1/traces",
            "collector:4317",
        ] {
            assert_eq!(read::<Endpoint>(text), Ok(text.to_owned()));
        }
        for text in [
            "ftp://collector",
            "http://",
            "collector:port",
            "http://${HOST}:4318",
            "https://user:secret@collector",
            "secret@collector:4317",
            "https://collector?key=secret",
        ] {
            assert!(read::<Endpoint>(text).is_err(), "{text}");
        }
        assert_eq!(read::<Optional<Endpoint>>(""), Ok(None));
    }

    #[test]
    fn a_sampler_has_its_ratio_behind_it() {
        for text in [
            "parentbased_always_on",
            "traceidratio 0.25",
            "parentbased_traceidratio 1",
        ] {
            let sampler = read::<SamplerName>(text).unwrap();
            assert_eq!(SamplerName::write(&sampler), text);
        }
        let fault = SamplerName::read("always_onn").unwrap_err();
        assert!(fault.remedy.starts_with("did you mean \"always_on\"?"));
        assert_eq!(
            read::<SamplerName>("traceidratio 2"),
            Err("not a ratio".to_owned())
        );
    }
}
