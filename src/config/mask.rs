//! Hiding credentials before a text is shown.

/// The text without what may be a secret in a URL: whatever stands before an `@`, a query,
/// and a port that is not a number (a password whose host was forgotten looks like one).
///
/// Works on a whole line as well as on the beginning of one, so that the place of the rest
/// can be told from the length of what comes before.
pub(super) fn mask(text: &str) -> String {
    let secret_end = text.rfind('@');
    let scheme_end = text.find("://").map(|scheme| scheme + "://".len());
    let Some(start) = scheme_end.or_else(|| secret_end.map(|_| quoted_start(text))) else {
        return text.to_owned();
    };
    let (head, tail) = text.split_at(start);
    let (hidden, url) = match tail.rsplit_once('@') {
        Some((_, url)) => (HIDDEN_BEFORE, url),
        None => ("", tail),
    };
    let url_end = url.find(['"', '\'', ' ', '\t']).unwrap_or(url.len());
    let (url, rest) = url.split_at(url_end);
    let shown: Vec<String> = url.split(';').map(without_secrets).collect();
    format!("{head}{hidden}{}{rest}", shown.join(";"))
}

/// Where the first quoted text begins; the beginning where there is none.
fn quoted_start(text: &str) -> usize {
    text.find(['"', '\'']).map_or(0, |quote| quote + 1)
}

fn without_secrets(url: &str) -> String {
    let (scheme, url) = match url.split_once("://") {
        Some((scheme, url)) => (format!("{scheme}://"), url),
        None => (String::new(), url),
    };
    let (url, query) = match url.split_once('?') {
        Some((url, _)) => (url, "?***"),
        None => (url, ""),
    };
    let (address, path) = url.split_at(url.find('/').unwrap_or(url.len()));
    match address.split_once(':') {
        Some((host, port))
            if !host.starts_with('[') && !port.bytes().all(|byte| byte.is_ascii_digit()) =>
        {
            // The path may be the rest of it.
            format!("{scheme}{host}:***")
        }
        _ => format!("{scheme}{address}{path}{query}"),
    }
}

const HIDDEN_BEFORE: &str = "***@";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_secret_is_shown() {
        for text in [
            "",
            "level = \"info\"",
            "upstream = \"redis://[::1]:6379/0;redis://valkey:6380\" # one: two",
            "redis://10.0.0.1",
            "http://collector:4318/v1/traces",
        ] {
            assert_eq!(mask(text), text);
        }
    }

    #[test]
    fn what_may_be_a_secret_is_hidden() {
        for (text, masked) in [
            ("redis://u:secret@host:1", "redis://***@host:1"),
            ("redis://:se@cret@host/0", "redis://***@host/0"),
            ("redis://:se/c;ret@host", "redis://***@host"),
            ("u:secret@host:1", "***@host:1"),
            ("key = \"u:secret@host\"", "key = \"***@host\""),
            ("key = 'redis://:secret@h' # a", "key = 'redis://***@h' # a"),
            ("redis://a:secret@h;redis://b:secret@i", "redis://***@i"),
            ("redis://h/0?password=secret", "redis://h/0?***"),
            ("redis://:secret", "redis://:***"),
            ("redis://u:secret/0", "redis://u:***"),
            ("redis://h:1;redis://u:sec;x", "redis://h:1;redis://u:***;x"),
        ] {
            assert_eq!(mask(text), masked);
        }
    }
}
