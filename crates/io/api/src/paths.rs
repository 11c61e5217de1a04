//! How a path may be spelled on its way to the upstream (contract: http, section 6).
//!
//! A path that climbs (`..`, also encoded) could leave the upstream's prefix, and is refused. One that means an
//! own route in another spelling (`//v1/duty`, `/v1/duty/`, `/v1/%64uty`) is not taken for the upstream's.

use crate::backend::Backend;
use crate::routes;

/// The own routes of both listeners.
#[derive(Debug, Clone)]
pub(crate) struct OwnPaths(Vec<Vec<String>>);

/// Why a path does not go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PathRefusal {
    /// It has a segment `.` or `..`.
    Climbs,
    /// It is an own route, spelled otherwise than this.
    Own(String),
}

impl OwnPaths {
    /// All there can be, whether they are on or not.
    pub fn of<B: Backend>() -> Self {
        let routes = routes::validator::<B>(true).into_iter().chain(routes::monitoring());
        Self::named(routes.map(|route| route.target.template))
    }

    pub fn named(paths: impl IntoIterator<Item: AsRef<str>>) -> Self {
        let owned = |path: &str| segments(path).iter().map(ToString::to_string).collect();
        Self(paths.into_iter().map(|path| owned(path.as_ref())).collect())
    }

    pub fn check(&self, path: &str) -> Result<(), PathRefusal> {
        let decoded = decode(path).replace('\\', "/");
        let segments = segments(&decoded);
        // Some servers take a segment up to `;`.
        if segments.iter().any(|segment| matches!(segment.split(';').next(), Some("." | ".."))) {
            return Err(PathRefusal::Climbs);
        }
        let plain = format!("/{}", segments.join("/"));
        if plain != path && self.0.iter().any(|own| is_like(own, &segments)) {
            return Err(PathRefusal::Own(plain));
        }
        Ok(())
    }
}

fn segments(path: &str) -> Vec<&str> {
    path.split('/').filter(|segment| !segment.is_empty()).collect()
}

fn is_like(own: &[String], segments: &[&str]) -> bool {
    own.len() == segments.len()
        && own.iter().zip(segments).all(|(own, segment)| own.starts_with('{') || own == segment)
}

/// Undoes percent-encoding once; what is none stays.
fn decode(path: &str) -> String {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let digit = |at: usize| after.get(at).and_then(|byte| char::from(*byte).to_digit(16));
        match (*first, digit(0), digit(1)) {
            (b'%', Some(high), Some(low)) => {
                bytes.push((high * 16 + low) as u8);
                rest = &after[2..];
            }
            (byte, _, _) => {
                bytes.push(byte);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_climbs_is_refused_however_it_is_spelled() {
        let own = OwnPaths::named(["/health", "/v1/duty", "/v1/tx/plain", "/v1/blocks/{height}"]);
        for climbs in [
            "/../admin",
            "/a/..",
            "/a/./b",
            "/%2e%2e/admin",
            "/%2E./admin",
            "/a/..%2fadmin",
            "/a\\..\\admin",
            "/a/%2e%2e%5cadmin",
            "/..;/admin",
            "/v1/./blocks/1",
        ] {
            assert_eq!(own.check(climbs), Err(PathRefusal::Climbs), "{climbs}");
        }
        for fine in [
            "/",
            "/a/b",
            "/...",
            "/a..b",
            "/.well-known/x",
            "/a%2fb",
            "/%252e%252e/x",
            "/100%",
            "/%zz",
            "/%c3",
        ] {
            assert_eq!(own.check(fine), Ok(()), "{fine}");
        }
    }

    #[test]
    fn an_own_route_in_another_spelling_is_not_the_upstreams() {
        let own = OwnPaths::named(["/health", "/v1/duty", "/v1/tx/plain", "/v1/blocks/{height}"]);
        for (other, plain) in [
            ("//v1/duty", "/v1/duty"),
            ("/v1/duty/", "/v1/duty"),
            ("/v1//blocks/7", "/v1/blocks/7"),
            ("/v1/blocks/7/", "/v1/blocks/7"),
            ("/v1/%64uty", "/v1/duty"),
            ("/%68ealth", "/health"),
        ] {
            assert_eq!(own.check(other), Err(PathRefusal::Own(plain.into())), "{other}");
        }
        for upstreams in
            ["//eth/v1/node/version", "/eth/v1/node/", "/V1/duty", "/v1/tx/plain", "/v1/duty/more"]
        {
            assert_eq!(own.check(upstreams), Ok(()), "{upstreams}");
        }
    }
}
