//! What a child sees of our environment: an allow-list, then what its launch line adds, then the cookie.
//!
//! Everything else stays here; above all the credentials of model providers.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

/// The variable by which everything below a server is known, however far it ran.
pub(crate) const COOKIE: &str = "OSTLER_COOKIE";

const NAMES: &[&str] = &[
    // Who and where.
    "HOME",
    "LOGNAME",
    "PATH",
    "SHELL",
    "TERM",
    "USER",
    "LANG",
    "TZ",
    "TMPDIR",
    // Folders.
    "XDG_CACHE_HOME",
    "XDG_CONFIG_DIRS",
    "XDG_CONFIG_HOME",
    "XDG_DATA_DIRS",
    "XDG_DATA_HOME",
    "XDG_RUNTIME_DIR",
    "XDG_STATE_HOME",
    // The way out.
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "all_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "ALL_PROXY",
    // Whom to trust there.
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "NODE_EXTRA_CA_CERTS",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "NIX_SSL_CERT_FILE",
];

/// The environment of a child: what is allowed of `ours`, overridden by `added`, and the cookie.
pub(crate) fn of_child(
    ours: impl Iterator<Item = (OsString, OsString)>,
    added: Vec<(OsString, OsString)>,
    cookie: OsString,
) -> BTreeMap<OsString, OsString> {
    let mut variables: BTreeMap<OsString, OsString> = ours.filter(|(name, value)| is_allowed(name, value)).collect();
    variables.extend(added);
    variables.insert(COOKIE.into(), cookie);
    variables
}

/// A value that opens with `()` is a function exported by a shell: code, not data.
fn is_allowed(name: &OsStr, value: &OsStr) -> bool {
    let listed = NAMES.iter().any(|allowed| name == *allowed) || name.as_bytes().starts_with(b"LC_");
    listed && !value.as_bytes().starts_with(b"()")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(list: &[(&str, &str)]) -> Vec<(OsString, OsString)> {
        list.iter().map(|(name, value)| (name.into(), value.into())).collect()
    }

    #[test]
    fn a_child_sees_the_allowed_variables_its_own_and_the_cookie() {
        let ours = pairs(&[
            ("ANTHROPIC_API_KEY", "secret"),
            ("AWS_SECRET_ACCESS_KEY", "secret"),
            ("HOME", "/home/ada"),
            ("HTTPS_PROXY", "http://proxy"),
            ("LC_ALL", "C.UTF-8"),
            ("OSTLER_COOKIE", "of our own supervisor"),
            ("PATH", "/bin"),
            ("SHELL", "() { evil; }"),
        ]);
        let added = pairs(&[("PATH", "/opt/bin"), ("TOKEN", "t"), ("OSTLER_COOKIE", "forged")]);
        let expected = pairs(&[
            ("HOME", "/home/ada"),
            ("HTTPS_PROXY", "http://proxy"),
            ("LC_ALL", "C.UTF-8"),
            ("OSTLER_COOKIE", "ours"),
            ("PATH", "/opt/bin"),
            ("TOKEN", "t"),
        ]);
        let seen: Vec<_> = of_child(ours.into_iter(), added, "ours".into()).into_iter().collect();
        assert_eq!(seen, expected);
    }
}
