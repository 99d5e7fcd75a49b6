//! Who may import whom: the rooms, their neighbours and what stays outside each.
//!
//! Direct dependencies are checked, of every kind. A room without a row here is a violation: a new room is a decision.

use cargo_metadata::DependencyKind;

use super::Violation;

/// One row of the map.
pub(super) struct Room {
    /// The crate.
    pub(super) name: &'static str,
    /// Rooms that it may import.
    inside: &'static [&'static str],
    /// Foreign crates that it may import; `None` where only `never` counts.
    outside: Option<&'static [&'static str]>,
    /// Foreign crates that it never imports, not even in its tests.
    never: &'static [&'static str],
}

/// Crates that any room may import in its tests, unless its `never` says otherwise.
const TEST_TOOLS: &[&str] = &["insta", "metrics-util", "proptest", "tempfile", "tokio"];

/// The map. `ostler` alone wires the rooms together.
pub(super) const ROOMS: &[Room] = &[
    Room {
        name: "ostler-core",
        inside: &[],
        outside: Some(&["serde", "serde_json", "thiserror"]),
        never: &["tokio", "ractor", "tracing", "metrics", "fastrand", "rand"],
    },
    Room {
        name: "ostler-policy",
        inside: &["ostler-core"],
        outside: Some(&["backoff"]),
        never: &["tokio", "ractor", "tracing", "metrics", "fastrand", "rand"],
    },
    Room {
        name: "ostler-telemetry",
        inside: &["ostler-core"],
        outside: Some(&["metrics", "tracing"]),
        never: &["tokio", "ractor", "axum"],
    },
    Room {
        name: "ostler-process",
        inside: &["ostler-core", "ostler-telemetry"],
        outside: None,
        never: &["ractor", "rmcp", "reqwest", "axum", "metrics", "backoff"],
    },
    Room {
        name: "ostler-store",
        inside: &["ostler-core", "ostler-telemetry"],
        outside: Some(&["rusqlite", "serde", "serde_json", "thiserror", "tracing"]),
        never: &["tokio", "ractor", "axum", "metrics"],
    },
    Room {
        name: "ostler-mcp",
        inside: &["ostler-core", "ostler-process", "ostler-telemetry"],
        outside: None,
        never: &["ractor", "axum", "metrics", "backoff", "nix"],
    },
    Room {
        name: "ostler-runtime",
        inside: &["ostler-core", "ostler-policy", "ostler-telemetry"],
        outside: None,
        never: &["rmcp", "reqwest", "axum", "rusqlite", "metrics", "backoff", "nix"],
    },
    Room {
        name: "ostler-chat",
        inside: &["ostler-core", "ostler-telemetry"],
        outside: None,
        never: &["rmcp", "axum", "rusqlite", "metrics", "backoff", "nix"],
    },
    Room {
        name: "ostler",
        inside: &[
            "ostler-chat",
            "ostler-core",
            "ostler-mcp",
            "ostler-policy",
            "ostler-process",
            "ostler-runtime",
            "ostler-store",
            "ostler-telemetry",
        ],
        outside: None,
        never: &["rusqlite", "backoff"],
    },
];

/// Members that may import everything: they are not part of the product.
const FREE: &[&str] = &["ostler-tests", "xtask"];

/// What is read of a member.
pub(super) struct Package {
    name: String,
    dependencies: Vec<Dependency>,
}

struct Dependency {
    name: String,
    is_room: bool,
    is_for_tests: bool,
    uses_default_features: bool,
    features: Vec<String>,
}

impl From<&cargo_metadata::Package> for Package {
    fn from(package: &cargo_metadata::Package) -> Self {
        let dependencies = package.dependencies.iter().map(|dependency| Dependency {
            name: dependency.name.clone(),
            is_room: dependency.path.is_some(),
            is_for_tests: dependency.kind == DependencyKind::Development,
            uses_default_features: dependency.uses_default_features,
            features: dependency.features.clone(),
        });
        Self { name: package.name.to_string(), dependencies: dependencies.collect() }
    }
}

/// Compares the members with the map.
pub(super) fn check(packages: &[Package]) -> Vec<Violation> {
    let mut violations = Vec::new();
    for room in ROOMS {
        if !packages.iter().any(|package| package.name == room.name) {
            violations.push(Violation::new(room.name, "is on the map of tidy, but no member of the workspace"));
        }
    }
    for package in packages {
        for dependency in &package.dependencies {
            violations.extend(check_ractor(package, dependency));
        }
        if FREE.contains(&package.name.as_str()) {
            continue;
        }
        let Some(room) = ROOMS.iter().find(|room| room.name == package.name) else {
            violations.push(Violation::new(&package.name, "is not on the map of tidy"));
            continue;
        };
        for dependency in &package.dependencies {
            if let Some(why) = room.refuses(dependency) {
                violations.push(Violation::new(&package.name, format!("may not import {}: {why}", dependency.name)));
            }
        }
    }
    violations
}

impl Room {
    fn refuses(&self, dependency: &Dependency) -> Option<&'static str> {
        let name = dependency.name.as_str();
        if self.never.contains(&name) {
            return Some("it is on the list of what never comes in");
        }
        if dependency.is_room {
            return (!self.inside.contains(&name)).then_some("no arrow leads there");
        }
        if dependency.is_for_tests && TEST_TOOLS.contains(&name) {
            return None;
        }
        match self.outside {
            Some(allowed) if !allowed.contains(&name) => Some("the room has a closed list of foreign crates"),
            Some(_) | None => None,
        }
    }
}

/// Default features of ractor bring names and clusters, which this house does without.
fn check_ractor(package: &Package, dependency: &Dependency) -> Option<Violation> {
    let is_fine =
        dependency.name != "ractor" || (!dependency.uses_default_features && dependency.features == ["tokio_runtime"]);
    (!is_fine)
        .then(|| Violation::new(&package.name, "ractor has exactly the feature tokio_runtime and no default ones"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dependency(name: &str) -> Dependency {
        Dependency {
            name: name.to_owned(),
            is_room: name.starts_with("ostler"),
            is_for_tests: false,
            uses_default_features: false,
            features: if name == "ractor" { vec!["tokio_runtime".to_owned()] } else { Vec::new() },
        }
    }

    fn full_house() -> Vec<Package> {
        ROOMS.iter().map(|room| Package { name: room.name.to_owned(), dependencies: Vec::new() }).collect()
    }

    fn with(name: &str, dependency: Dependency) -> Vec<Violation> {
        let mut house = full_house();
        let package = house.iter_mut().find(|package| package.name == name).expect("the room exists");
        package.dependencies.push(dependency);
        check(&house)
    }

    #[test]
    fn an_arrow_of_the_map_is_open_and_every_other_is_shut() {
        let check = |from: &str, to: &str, is_open: bool| {
            assert_eq!(with(from, dependency(to)).is_empty(), is_open, "{from} -> {to}");
        };
        for room in ROOMS {
            check("ostler", room.name, room.name != "ostler");
            check(room.name, "ostler", false);
            check("ostler-core", room.name, false);
            check(room.name, "ostler-core", room.name != "ostler-core");
        }
        check("ostler-policy", "backoff", true);
        check("ostler-policy", "tokio", false);
        check("ostler-policy", "serde", false);
        check("ostler-telemetry", "metrics", true);
        check("ostler-telemetry", "axum", false);
        check("ostler-process", "ostler-mcp", false);
        check("ostler-process", "nix", true);
        check("ostler-mcp", "ostler-process", true);
        check("ostler-mcp", "ostler-runtime", false);
        check("ostler-mcp", "ractor", false);
        check("ostler-store", "rusqlite", true);
        check("ostler-store", "tokio", false);
        check("ostler-runtime", "ostler-store", false);
        check("ostler-process", "ostler-store", false);
        check("ostler-runtime", "ractor", true);
        check("ostler-runtime", "ostler-mcp", false);
        check("ostler-runtime", "ostler-process", false);
        check("ostler-runtime", "reqwest", false);
        check("ostler-chat", "ostler-runtime", false);
        check("ostler-chat", "reqwest", true);
        check("ostler-chat", "rmcp", false);
    }

    #[test]
    fn tests_of_a_room_may_use_test_tools_and_still_keep_its_walls() {
        let for_tests = |name: &str| Dependency { is_for_tests: true, ..dependency(name) };
        assert_eq!(with("ostler-core", for_tests("proptest")), []);
        assert_ne!(with("ostler-core", dependency("proptest")), []);
        assert_ne!(with("ostler-policy", for_tests("tokio")), []);
        assert_ne!(with("ostler-runtime", for_tests("ostler-mcp")), []);
    }

    #[test]
    fn a_room_without_a_row_is_noticed_and_so_is_a_row_without_a_room() {
        let mut house = full_house();
        assert_eq!(check(&house), []);
        house.push(Package { name: "ostler-attic".to_owned(), dependencies: Vec::new() });
        assert_eq!(check(&house), [Violation::new("ostler-attic", "is not on the map of tidy")]);
        assert_eq!(check(&full_house()[1..]).len(), 1);
    }

    #[test]
    fn ractor_has_one_feature_everywhere() {
        assert_ne!(with("ostler", Dependency { uses_default_features: true, ..dependency("ractor") }), []);
        let clustered = vec!["tokio_runtime".to_owned(), "cluster".to_owned()];
        assert_ne!(with("ostler", Dependency { features: clustered, ..dependency("ractor") }), []);
        let mut house = full_house();
        let dependencies = vec![Dependency { features: Vec::new(), ..dependency("ractor") }];
        house.push(Package { name: "ostler-tests".to_owned(), dependencies });
        assert_eq!(check(&house).len(), 1);
    }
}
