//! What each revision of MCP says and lacks, as data. Who decides for one is `lifecycle`.

/// How a session begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Era {
    /// `initialize`, then a session that both sides remember.
    Legacy,
    /// `server/discover`, then requests that carry all about themselves.
    Modern,
}

/// Something that only some revisions have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Feature {
    /// The method `ping`, in both directions.
    Ping,
    /// `subscriptions/listen` instead of notifications that come unasked.
    Listen,
    /// Every request names revision, capabilities and client in its `_meta`.
    RequestMeta,
    /// Results say what they are in `resultType`.
    ResultType,
    /// The server may send requests of its own.
    ServerRequests,
    /// The server may send several messages as one array.
    Batches,
}

/// One revision.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Revision {
    /// Its name: a date.
    pub(crate) name: &'static str,
    /// How its sessions begin.
    pub(crate) era: Era,
    features: &'static [Feature],
}

const LEGACY: &[Feature] = &[Feature::Ping, Feature::ServerRequests];

/// All that we speak, oldest first.
pub(crate) static ALL: [Revision; 5] = [
    Revision { name: "2024-11-05", era: Era::Legacy, features: LEGACY },
    Revision {
        name: "2025-03-26",
        era: Era::Legacy,
        features: &[Feature::Ping, Feature::ServerRequests, Feature::Batches],
    },
    Revision { name: "2025-06-18", era: Era::Legacy, features: LEGACY },
    Revision { name: "2025-11-25", era: Era::Legacy, features: LEGACY },
    Revision {
        name: "2026-07-28",
        era: Era::Modern,
        features: &[Feature::Listen, Feature::RequestMeta, Feature::ResultType],
    },
];

/// The revision that `initialize` asks for: the newest that has it.
pub(crate) static NEWEST_LEGACY: &Revision = &ALL[3];

/// The revision that the probe speaks.
pub(crate) static NEWEST_MODERN: &Revision = &ALL[4];

impl Revision {
    /// The revision of this name, if we speak it.
    pub(crate) fn find(name: &str) -> Option<&'static Self> {
        ALL.iter().find(|revision| revision.name == name)
    }

    /// The newest that we share with a server that speaks `supported`.
    pub(crate) fn newest_of<'a>(supported: impl IntoIterator<Item = &'a str>) -> Option<&'static Self> {
        supported.into_iter().filter_map(Self::find).max_by_key(|revision| revision.name)
    }

    /// Whether it has this.
    pub(crate) fn has(&self, feature: Feature) -> bool {
        self.features.contains(&feature)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_named_revisions_are_the_newest_of_their_eras() {
        assert_eq!(ALL.iter().rfind(|revision| revision.era == Era::Legacy), Some(NEWEST_LEGACY));
        assert_eq!(ALL.iter().rfind(|revision| revision.era == Era::Modern), Some(NEWEST_MODERN));
        assert!(ALL.is_sorted_by_key(|revision| revision.name));
    }

    #[test]
    fn the_newest_shared_revision_is_chosen() {
        let newest = |names: &[&str]| Revision::newest_of(names.iter().copied()).map(|revision| revision.name);
        assert_eq!(newest(&["2026-07-28", "2025-06-18"]), Some("2026-07-28"));
        assert_eq!(newest(&["2024-11-05", "2025-06-18", "2031-01-01"]), Some("2025-06-18"));
        assert_eq!(newest(&["2031-01-01"]), None);
    }

    #[test]
    fn a_modern_revision_has_no_ping_and_no_requests_of_the_server() {
        assert!(!NEWEST_MODERN.has(Feature::Ping) && !NEWEST_MODERN.has(Feature::ServerRequests));
        assert!(NEWEST_LEGACY.has(Feature::Ping) && !NEWEST_LEGACY.has(Feature::ResultType));
    }

    #[test]
    fn one_revision_alone_has_batches() {
        let with: Vec<_> = ALL.iter().filter(|revision| revision.has(Feature::Batches)).collect();
        assert_eq!(with, [&ALL[1]]);
    }
}
