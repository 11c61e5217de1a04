//! URLs as they may be shown.

/// What stands for what is not shown.
const HIDDEN: &str = "***";

/// The URLs of a comma list without what only their owner may know: user and password, and whatever follows
/// the host, for providers put their keys into path and query. What is no URL stays, but for `user:password`
/// before an `@`.
pub fn public_url(text: &str) -> String {
    text.split(',').map(one).collect::<Vec<_>>().join(",")
}

fn one(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else {
        let secret = text.rsplit_once('@').filter(|(before, _)| before.contains(':'));
        return secret.map_or_else(|| text.to_owned(), |(_, after)| format!("{HIDDEN}@{after}"));
    };
    let end = rest.find(['/', '?', '#', '\\']).unwrap_or(rest.len());
    let (authority, tail) = rest.split_at(end);
    let (user, host) = match authority.rsplit_once('@') {
        Some((_, host)) => ("***@", host),
        None => ("", authority),
    };
    // A password that is not encoded may look like anything.
    if tail.contains('@') || !is_host(host) {
        return format!("{scheme}://{HIDDEN}");
    }
    match tail {
        "" | "/" => format!("{scheme}://{user}{host}{tail}"),
        _ => format!("{scheme}://{user}{host}/{HIDDEN}"),
    }
}

fn is_host(text: &str) -> bool {
    let port = text.rsplit_once(':').filter(|(host, _)| !host.contains(':') || host.ends_with(']'));
    let port_is_number = port.is_none_or(|(_, port)| port.bytes().all(|b| b.is_ascii_digit()));
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b':' | b'[' | b']');
    port_is_number && text.bytes().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_shown_without_user_password_path_and_query() {
        for (text, shown) in [
            ("http://user:secret@host:1/x", "http://***@host:1/***"),
            ("https://host/v3/secret", "https://host/***"),
            ("https://host?key=secret", "https://host/***"),
            ("https://host#secret", "https://host/***"),
            ("http://user:se@cret@host", "http://***@host"),
            ("http://user:sec/ret@host/", "http://***"),
            ("http://user:secret/", "http://***"),
            ("user:secret@host", "***@host"),
            ("http://u:secret@a,http://b/secret", "http://***@a,http://b/***"),
            ("http://127.0.0.1:4600", "http://127.0.0.1:4600"),
            ("http://[::1]:4600/", "http://[::1]:4600/"),
            ("127.0.0.1:4600", "127.0.0.1:4600"),
            ("/srv/me@work/data", "/srv/me@work/data"),
            ("", ""),
        ] {
            assert_eq!(public_url(text), shown);
        }
    }
}
