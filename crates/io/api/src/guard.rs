//! Requests that are not taken, whatever they ask (contract: http, section 1).
//!
//! Neither token nor TLS stands before the routes, and an operator's browser runs pages of strangers. Such a
//! page can send requests here, and a name whose owner lets it point to this machine makes the page and the
//! node one site (DNS rebinding). So:
//!
//! | rule | refusal |
//! |---|---|
//! | the target is a path: no `CONNECT`, no `*` | 405 |
//! | it has not passed this node before, on its way through the proxy | 508 |
//! | one `Host` that names somebody; none only in HTTP/1.0, which no browser speaks | 400 |
//! | a listener on loopback is asked under a name of its own | 421 |
//! | a page that asks is the listener's own, except about health and metrics | 403 |
//! | what changes state is said to be JSON, or JSON lines where a route takes them, which a page of another site may not say unasked | 415 |
//!
//! A name is a listener's own when it is an IP address, which nobody can point elsewhere, `localhost`, or one
//! of `--api.hosts`.

use crate::reply::Refusal;
use crate::routes::{BodyKind, Kind, Target};
use http::header::{CONTENT_TYPE, HOST, HeaderName, ORIGIN, VIA};
use http::uri::{Authority, Scheme, Uri};
use http::{HeaderMap, Method, Request, StatusCode, Version};
use std::hash::{BuildHasher as _, RandomState};
use std::net::IpAddr;

const JSON: &str = "application/json";
const LINES: &str = "application/x-ndjson";
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const SEC_FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");

/// The rules, with the names of `--api.hosts`.
#[derive(Debug, Clone)]
pub(crate) struct Guard {
    hosts: Vec<String>,
    /// What this node calls itself in `Via`; another one each time it starts.
    pseudonym: String,
}

impl Guard {
    pub fn new(hosts: &[String]) -> Self {
        let pseudonym = format!("aequa-{:016x}", RandomState::new().hash_one(std::process::id()));
        Self { hosts: hosts.to_vec(), pseudonym }
    }

    /// The mark of this node, for requests that go on (RFC 9110, section 7.6.3).
    pub fn via(&self) -> String {
        format!("1.1 {}", self.pseudonym)
    }

    /// Whether a request that came to a listener, on loopback or not, may go on to `target`.
    pub fn check<B>(&self, request: &Request<B>, target: &Target, on_loopback: bool) -> Result<(), Refusal> {
        if request.method() == Method::CONNECT || request.uri().path() == "*" {
            return Err(wrong_method("the request target must be a path"));
        }
        if self.has_passed(request.headers()) {
            let message = "the upstream leads back to this node";
            return Err(Refusal::new(StatusCode::LOOP_DETECTED, "LOOP_DETECTED", message));
        }
        let host = host(request)?;
        if let Some(host) = host.as_ref().filter(|host| on_loopback && !self.is_own(host.host())) {
            let message = format!("Host: {} is no name of this listener; --api.hosts adds one", host.host());
            return Err(Refusal::new(StatusCode::MISDIRECTED_REQUEST, "MISDIRECTED", message));
        }
        let page = self.page(request.headers(), host.as_ref());
        if page == Page::Foreign && target.kind != Kind::Probe {
            let message = "Origin: pages of other sites may not ask this node";
            return Err(Refusal::new(StatusCode::FORBIDDEN, "FOREIGN_ORIGIN", message));
        }
        // `/health` takes whatever it is asked.
        let is_read = target.kind != Kind::Proxied && &*target.template != "/health";
        if is_read && request.method() == Method::POST && !target.body.is_said(request.headers(), page) {
            let message = format!("Content-Type: must be {}", target.body.types().join(" or "));
            return Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "BAD_CONTENT_TYPE", message));
        }
        Ok(())
    }

    fn has_passed(&self, headers: &HeaderMap) -> bool {
        let hops = headers.get_all(VIA).iter().filter_map(|value| value.to_str().ok());
        let mut names = hops.flat_map(|hops| hops.split(',')).filter_map(|hop| hop.split_whitespace().nth(1));
        names.any(|name| name == self.pseudonym)
    }

    fn is_own(&self, name: &str) -> bool {
        let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
        let name = name.strip_suffix('.').unwrap_or(name);
        bare.parse::<IpAddr>().is_ok()
            || name.eq_ignore_ascii_case("localhost")
            || self.hosts.iter().any(|host| host.eq_ignore_ascii_case(name))
    }

    fn page(&self, headers: &HeaderMap, host: Option<&Authority>) -> Page {
        let mut origins = headers.get_all(ORIGIN).iter();
        match (origins.next(), origins.next()) {
            (None, _) if is_of_another_site(headers) => Page::Foreign,
            (None, _) => Page::None,
            (Some(origin), None) => {
                let origin = origin.to_str().ok().and_then(|origin| origin.parse::<Uri>().ok());
                let own = origin
                    .zip(host)
                    .is_some_and(|(origin, host)| is_same_site(&origin, host) && self.is_own(host.host()));
                if own { Page::Own } else { Page::Foreign }
            }
            (Some(_), Some(_)) => Page::Foreign,
        }
    }
}

/// Which page a browser asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Page {
    None,
    Own,
    Foreign,
}

/// The refusal of a method.
pub(crate) fn wrong_method(message: &str) -> Refusal {
    Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "METHOD_NOT_ALLOWED", message)
}

/// Who is asked: the target itself when it names somebody (RFC 9112, section 3.2.2), else `Host`.
fn host<B>(request: &Request<B>) -> Result<Option<Authority>, Refusal> {
    let bad = |message: &str| Refusal::bad("BAD_HOST", message);
    let mut hosts = request.headers().get_all(HOST).iter();
    let host = match (hosts.next(), hosts.next()) {
        (None, _) if request.version() <= Version::HTTP_10 => return Ok(None),
        (None, _) => return Err(bad("Host: is missing")),
        (Some(_), Some(_)) => return Err(bad("Host: is given twice")),
        (Some(host), None) => host.to_str().ok().and_then(|host| host.parse::<Authority>().ok()),
    };
    let named = |host: &Authority| !host.host().is_empty() && !host.as_str().contains('@');
    let host = host.filter(named).ok_or_else(|| bad("Host: must be a name or an address"))?;
    match request.uri().authority() {
        None => Ok(Some(host)),
        Some(target) if named(target) => Ok(Some(target.clone())),
        Some(_) => Err(bad("the request target must name a host and no user")),
    }
}

/// Scheme and port may be written or not; a proxy that ends TLS makes the page `https` and us `http`.
fn is_same_site(origin: &Uri, host: &Authority) -> bool {
    let default_port = match origin.scheme() {
        Some(scheme) if *scheme == Scheme::HTTP => 80,
        Some(scheme) if *scheme == Scheme::HTTPS => 443,
        _ => return false,
    };
    let port = |authority: &Authority| authority.port_u16().unwrap_or(default_port);
    origin
        .authority()
        .is_some_and(|origin| origin.host().eq_ignore_ascii_case(host.host()) && port(origin) == port(host))
}

/// What a browser says of requests that carry no `Origin`: images and scripts of another site's page. Following
/// a link is no such request.
fn is_of_another_site(headers: &HeaderMap) -> bool {
    let says = |name: &HeaderName, words: &[&str]| {
        headers.get(name).is_some_and(|value| words.iter().any(|word| value == word))
    };
    says(&SEC_FETCH_SITE, &["cross-site", "same-site"]) && !says(&SEC_FETCH_MODE, &["navigate"])
}

impl BodyKind {
    /// What such a body may be called.
    fn types(self) -> &'static [&'static str] {
        match self {
            BodyKind::Json => &[JSON],
            BodyKind::JsonOrLines => &[JSON, LINES],
        }
    }

    /// Whether the headers call it so, with or without parameters: JSON is UTF-8 whatever `charset` says. The
    /// original's clients say nothing, and are believed unless they are pages.
    fn is_said(self, headers: &HeaderMap, page: Page) -> bool {
        let is_one = |essence: &str| self.types().iter().any(|name| essence.eq_ignore_ascii_case(name));
        let mut types = content_types(headers).peekable();
        if types.peek().is_none() { page == Page::None } else { types.all(is_one) }
    }
}

/// Whether a body is said to be JSON line by line.
pub(crate) fn is_lines(headers: &HeaderMap) -> bool {
    content_types(headers).any(|essence| essence.eq_ignore_ascii_case(LINES))
}

fn content_types(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let values = headers.get_all(CONTENT_TYPE).iter().map(|value| value.to_str().unwrap_or_default());
    values.map(|value| value.split(';').next().unwrap_or_default().trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(route: Option<&str>) -> Target {
        let kind = match route {
            None => Kind::Proxied,
            Some("/health" | "/livez" | "/readyz" | "/metrics") => Kind::Probe,
            Some(_) => Kind::Work,
        };
        let body = if route == Some("/v1/txs") { BodyKind::JsonOrLines } else { BodyKind::Json };
        Target { template: route.unwrap_or("proxy").into(), kind, body }
    }

    fn answer(head: &str, headers: &[(&str, &str)], route: Option<&str>, on_loopback: bool) -> u16 {
        let (method, uri) = head.split_once(' ').unwrap();
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let guard = Guard::new(&["Node.Example".into()]);
        match guard.check(&request.body(()).unwrap(), &target(route), on_loopback) {
            Ok(()) => 200,
            Err(refusal) => refusal.status.as_u16(),
        }
    }

    #[test]
    fn a_listener_on_loopback_answers_to_addresses_localhost_and_its_own_names() {
        let get =
            |host: &str, on_loopback| answer("GET /status", &[("Host", host)], Some("/status"), on_loopback);
        for own in [
            "127.0.0.1:4600",
            "10.1.2.3",
            "[::1]:4600",
            "LocalHost:1",
            "localhost.",
            "node.example",
            "NODE.EXAMPLE:9",
        ] {
            assert_eq!(get(own, true), 200, "{own}");
        }
        for foreign in
            ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "xnode.example", "1.2.3"]
        {
            assert_eq!((get(foreign, true), get(foreign, false)), (421, 200), "{foreign}");
        }
        for bad in ["", ":80", "a b", "user@localhost", "a/b"] {
            assert_eq!((get(bad, true), get(bad, false)), (400, 400), "{bad}");
        }
        let absolute =
            |target: &str| answer(&format!("GET {target}"), &[("Host", "localhost")], Some("/status"), true);
        assert_eq!(absolute("http://evil.example/status"), 421);
        assert_eq!(absolute("http://127.0.0.1/status"), 200);
        assert_eq!(absolute("http://u@127.0.0.1/status"), 400);
    }

    #[test]
    fn a_request_names_one_host_unless_it_is_of_http_1_0() {
        assert_eq!(answer("GET /status", &[], Some("/status"), true), 400);
        let twice = [("Host", "localhost"), ("Host", "localhost")];
        assert_eq!(answer("GET /status", &twice, Some("/status"), false), 400);
        let old = Request::builder().version(Version::HTTP_10).uri("/health").body(()).unwrap();
        assert!(Guard::new(&[]).check(&old, &target(Some("/health")), true).is_ok());
    }

    #[test]
    fn a_target_that_is_no_path_is_refused() {
        let host = [("Host", "localhost")];
        assert_eq!(answer("CONNECT localhost:80", &host, None, true), 405);
        assert_eq!(answer("OPTIONS *", &host, None, true), 405);
    }

    #[test]
    fn what_has_passed_this_node_is_a_loop_and_what_passed_others_is_none() {
        let (guard, other) = (Guard::new(&[]), Guard::new(&[]));
        let passed = |via: &[&str]| {
            let mut request = Request::builder().uri("/x").header("Host", "localhost");
            for hops in via {
                request = request.header("Via", *hops);
            }
            let checked = guard.check(&request.body(()).unwrap(), &target(None), true);
            checked.map_err(|refusal| refusal.status.as_u16())
        };
        let (own, others) = (guard.via(), other.via());
        assert_ne!(own, others);
        assert_eq!((passed(&[&others]), passed(&["1.0 fred, 1.1 p.example.net"])), (Ok(()), Ok(())));
        for via in [&[own.as_str()][..], &[&others, &own], &[&format!("{others}, {own}, 1.0 fred (x)")]] {
            assert_eq!(passed(via), Err(508), "{via:?}");
        }
    }

    #[test]
    fn a_page_of_another_site_may_ask_about_health_and_metrics_only() {
        let with = |origin: &str, route| {
            answer("GET /x", &[("Host", "127.0.0.1:4600"), ("Origin", origin)], route, true)
        };
        for foreign in [
            "https://evil.example",
            "null",
            "",
            "http://127.0.0.1",
            "http://127.0.0.1:4601",
            "http://localhost:4600",
            "127.0.0.1:4600",
            "chrome-extension://127.0.0.1:4600",
        ] {
            for closed in [None, Some("/status"), Some("/v1/duty"), Some("/openapi.json")] {
                assert_eq!(with(foreign, closed), 403, "{foreign} {closed:?}");
            }
            for open in ["/health", "/livez", "/readyz", "/metrics"] {
                assert_eq!(with(foreign, Some(open)), 200, "{foreign} {open}");
            }
        }
        assert_eq!(with("http://127.0.0.1:4600", Some("/status")), 200);
        let two = [("Host", "localhost"), ("Origin", "http://localhost"), ("Origin", "http://localhost")];
        assert_eq!(answer("GET /x", &two, None, true), 403);
    }

    #[test]
    fn a_page_behind_a_proxy_that_ends_tls_is_the_listeners_own_under_a_name_it_was_given() {
        let from = |name: &str, on_loopback| {
            let origin = format!("https://{name}");
            answer("GET /x", &[("Host", name), ("Origin", &origin)], Some("/status"), on_loopback)
        };
        assert_eq!((from("node.example", true), from("node.example", false)), (200, 200));
        assert_eq!((from("node.example:443", true), from("rebound.example", false)), (200, 403));
    }

    #[test]
    fn an_image_of_another_sites_page_is_refused_and_a_link_is_followed() {
        let site = |site: &str, mode: &str| {
            let headers = [("Host", "localhost"), ("Sec-Fetch-Site", site), ("Sec-Fetch-Mode", mode)];
            answer("GET /x", &headers, None, true)
        };
        assert_eq!((site("cross-site", "no-cors"), site("same-site", "no-cors")), (403, 403));
        assert_eq!((site("cross-site", "navigate"), site("none", "navigate")), (200, 200));
        assert_eq!(site("same-origin", "cors"), 200);
    }

    #[test]
    fn what_changes_state_must_be_said_to_be_json_unless_nothing_is_said_and_no_page_asks() {
        let post = |types: &[&str], origin: &[&str], route| {
            let types = types.iter().map(|text| ("Content-Type", *text));
            let origin = origin.iter().map(|text| ("Origin", *text));
            let headers: Vec<_> = types.chain(origin).chain([("Host", "localhost")]).collect();
            answer("POST /x", &headers, route, true)
        };
        let (duty, txs) = (Some("/v1/duty"), Some("/v1/txs"));
        let own = ["http://localhost"];
        for json in
            ["application/json", "Application/JSON", "application/json; charset=utf-8", "application/json;x"]
        {
            assert_eq!((post(&[json], &[], duty), post(&[json], &own, duty)), (200, 200), "{json}");
        }
        for other in [
            "text/plain",
            "text/plain; application/json",
            "text/plain;charset=UTF-8",
            "application/x-www-form-urlencoded",
            "multipart/form-data; boundary=application/json",
            "application/jsonp",
            "",
        ] {
            assert_eq!((post(&[other], &[], duty), post(&[other], &own, duty)), (415, 415), "{other}");
        }
        assert_eq!(post(&["application/json", "text/plain"], &[], duty), 415);
        for lines in ["application/x-ndjson", "Application/X-NDJSON; charset=utf-8"] {
            assert_eq!((post(&[lines], &[], duty), post(&[lines], &own, duty)), (415, 415), "{lines}");
            assert_eq!((post(&[lines], &[], txs), post(&[lines], &own, txs)), (200, 200), "{lines}");
        }
        assert_eq!(post(&["application/json"], &own, txs), 200);
        assert_eq!((post(&["text/plain"], &[], txs), post(&[], &[], txs)), (415, 200));
        assert_eq!((post(&[], &[], duty), post(&[], &own, duty)), (200, 415));
        assert_eq!(
            (post(&["text/plain"], &[], None), post(&["text/plain"], &[], Some("/health"))),
            (200, 200)
        );
    }
}
