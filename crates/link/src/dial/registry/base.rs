//! The base URL of a registry, and which URLs may be used with it. Pure: texts in, URLs or the reason against them out.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use url::{Host, Url};

/// What stays as it is inside one path segment (RFC 3986, `pchar`), so that ordinary ids look as stock sends them.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b'!')
    .remove(b'$')
    .remove(b'&')
    .remove(b'\'')
    .remove(b'(')
    .remove(b')')
    .remove(b'*')
    .remove(b'+')
    .remove(b',')
    .remove(b';')
    .remove(b'=')
    .remove(b':')
    .remove(b'@');

/// A checked base URL: http or https, with a host, without anything that does not belong there.
#[derive(Clone, Debug)]
pub(super) struct Base {
    text: String,
    url: Url,
    insecure: bool,
}

impl Base {
    /// `text` without white space around it and without trailing slashes; none if nothing is left.
    pub(super) fn normalise(text: &str) -> Option<&str> {
        Some(text.trim().trim_end_matches('/')).filter(|text| !text.is_empty())
    }

    /// Checks a normalised text.
    pub(super) fn parse(text: &str, insecure: bool) -> Result<Self, String> {
        let url = Url::parse(text).map_err(|error| format!("the base URL is invalid: {error}"))?;
        if url.scheme() != "http" && url.scheme() != "https" {
            return Err(format!("the base URL must begin with http:// or https://, not {}:", url.scheme()));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err("the base URL must not hold a user name or a password".to_owned());
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err("the base URL must not have a query or a fragment".to_owned());
        }
        if url.scheme() == "http" && !is_loopback(&url) && !insecure {
            let host = url.host_str().unwrap_or_default();
            return Err(format!(
                "plain http to {host} would show the token to the network: use https, or allow it with --insecure-http"
            ));
        }
        Ok(Self { text: text.to_owned(), url, insecure })
    }

    /// `{base}/{before}/{segment}/{after}`, with `segment` as one path segment, whatever it holds.
    pub(super) fn endpoint(&self, before: &str, segment: &str, after: &str) -> Result<Url, String> {
        if segment == "." || segment == ".." {
            return Err(format!("executor id `{segment}` cannot be part of a URL"));
        }
        let segment = utf8_percent_encode(segment, SEGMENT);
        Url::parse(&format!("{}/{before}/{segment}/{after}", self.text))
            .map_err(|error| format!("the base URL is invalid: {error}"))
    }

    /// `{base}/{before}/{segments}`, each of `segments` as one path segment, whatever it holds.
    pub(super) fn beneath(&self, before: &str, segments: &[&str]) -> Result<Url, String> {
        let mut text = format!("{}/{before}", self.text);
        for segment in segments {
            if matches!(*segment, "" | "." | "..") {
                return Err(format!("`{segment}` cannot be part of a URL"));
            }
            text.push('/');
            text.extend(utf8_percent_encode(segment, SEGMENT));
        }
        Url::parse(&text).map_err(|error| format!("the base URL is invalid: {error}"))
    }

    /// Whether `url` is of the same origin: scheme, host and port.
    pub(super) fn is_origin_of(&self, url: &Url) -> bool {
        self.url.origin() == url.origin()
    }

    /// Whether the whole way stays on this machine.
    pub(super) fn is_loopback(&self) -> bool {
        is_loopback(&self.url)
    }

    /// Whether it is plain http.
    pub(super) fn is_plain(&self) -> bool {
        self.url.scheme() == "http"
    }

    /// Checks the address in a reply. It is a ticket, so the reason against it does not show it.
    pub(super) fn check_ticket(&self, ticket: &str) -> Result<(), String> {
        let url = Url::parse(ticket).map_err(|_| "its url is no URL".to_owned())?;
        match url.scheme() {
            "wss" | "ws" if url.host().is_none() => Err("its url has no host".to_owned()),
            "ws" if !is_loopback(&url) && !self.insecure => {
                Err("its url is a plain ws:// to another machine, which only --insecure-http allows".to_owned())
            }
            "wss" | "ws" => Ok(()),
            _ => Err("its url is neither ws:// nor wss://".to_owned()),
        }
    }
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback() || ip.to_ipv4_mapped().is_some_and(|ip| ip.is_loopback()),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base(text: &str) -> Base {
        Base::parse(Base::normalise(text).unwrap(), false).unwrap()
    }

    #[test]
    fn white_space_and_slashes_around_it_do_not_matter() {
        let endpoint = |text: &str| base(text).endpoint("cloud/executor", "exec-7", "register").unwrap().to_string();
        for text in ["http://127.0.0.1:7", " http://127.0.0.1:7/\n", "http://127.0.0.1:7////"] {
            assert_eq!(endpoint(text), "http://127.0.0.1:7/cloud/executor/exec-7/register");
        }
        assert_eq!(endpoint("https://h/a/b/"), "https://h/a/b/cloud/executor/exec-7/register");
        for blank in ["", "  ", " // "] {
            assert!(Base::normalise(blank).is_none());
        }
    }

    #[test]
    fn an_id_is_one_segment_whatever_it_holds() {
        let endpoint = |id: &str| base("https://h").endpoint("e", id, "r").map(|url| url.path().to_owned());
        for (id, segment) in [
            ("me@host+1", "me@host+1"),
            ("a/b", "a%2Fb"),
            ("a b?c#d", "a%20b%3Fc%23d"),
            ("..%2e", "..%252e"),
            ("ä", "%C3%A4"),
        ] {
            assert_eq!(endpoint(id), Ok(format!("/e/{segment}/r")));
        }
        for id in [".", ".."] {
            assert_eq!(endpoint(id), Err(format!("executor id `{id}` cannot be part of a URL")));
        }
    }

    #[test]
    fn plain_http_stays_on_this_machine_unless_allowed() {
        for local in
            ["http://127.0.0.1:1", "http://127.9.9.9", "http://[::1]:1", "http://localhost", "https://example.com"]
        {
            assert!(Base::parse(local, false).is_ok(), "{local}");
        }
        for far in ["http://10.0.0.1", "http://example.com", "http://localhost.example.com", "http://0.0.0.0"] {
            assert!(Base::parse(far, false).unwrap_err().contains("--insecure-http"), "{far}");
            assert!(Base::parse(far, true).is_ok(), "{far}");
        }
        for bad in ["nonsense", "ftp://h", "https://u:p@h", "https://h?x=1", "https://h#x", "https://"] {
            let error = Base::parse(bad, true).unwrap_err();
            assert!(!error.contains("u:p"), "{error}");
        }
    }

    #[test]
    fn a_ticket_is_a_websocket_and_no_downgrade() {
        let strict = base("https://example.com");
        for good in ["wss://r.example.com/x?sig=1", "ws://127.0.0.1:8/x", "ws://[::1]/"] {
            assert_eq!(strict.check_ticket(good), Ok(()), "{good}");
        }
        for bad in ["", "x", "http://h/?sig=s3cret", "ws://10.0.0.1/?sig=s3cret", "unix:///run?sig=s3cret", "ws:"] {
            assert!(!strict.check_ticket(bad).unwrap_err().contains("s3cret"), "{bad}");
        }
        assert_eq!(Base::parse("http://10.0.0.1", true).unwrap().check_ticket("ws://10.0.0.1/"), Ok(()));
    }
}
