//! The filter flags as a checked [`Scope`].

use backup_plan::{
    resource_names::ResourceNames,
    scope::{OrderedResources, Scope},
    selector::OrSelector,
};

use super::{RequestError, fields};
use crate::arguments::{global::Global, scope::ScopeFlags};

/// `-n` adds to `--include-namespaces`; contradictions are refused here, unknown kinds once the kinds are known.
pub(super) fn parse(
    flags: ScopeFlags,
    ordered: Option<&str>,
    global: &Global,
) -> Result<Scope, RequestError> {
    let mut included_namespaces = global.namespace.clone();
    for word in flags.include_namespaces {
        if !included_namespaces.contains(&word) {
            included_namespaces.push(word);
        }
    }
    if global.all_namespaces && included_namespaces.iter().any(|word| word != "*") {
        return Err(RequestError::flag(
            "--include-namespaces",
            &included_namespaces.join(","),
            "--all-namespaces takes all of them; leave one of the two out",
        ));
    }
    let scope = Scope {
        included_namespaces,
        excluded_namespaces: flags.exclude_namespaces,
        included_resources: ResourceNames::new(flags.include_resources),
        excluded_resources: ResourceNames::new(flags.exclude_resources),
        include_cluster_resources: flags.include_cluster_resources,
        included_cluster_scoped: ResourceNames::new(flags.include_cluster_scoped_resources),
        excluded_cluster_scoped: ResourceNames::new(flags.exclude_cluster_scoped_resources),
        included_namespace_scoped: ResourceNames::new(flags.include_namespace_scoped_resources),
        excluded_namespace_scoped: ResourceNames::new(flags.exclude_namespace_scoped_resources),
        selector: fields::selector(global)?,
        or_selector: flags
            .or_selector
            .as_deref()
            .map(OrSelector::parse)
            .transpose()?
            .unwrap_or_default(),
        ordered: ordered
            .map(OrderedResources::parse)
            .transpose()?
            .unwrap_or_default(),
    };
    scope.check()?;
    Ok(scope)
}

/// The scope in words, for the first line of a run: `everything`, or what was asked for.
pub(crate) fn describe(scope: &Scope) -> String {
    if scope.is_everything() {
        return "everything".to_owned();
    }
    let lists: [(&str, &[String]); 8] = [
        ("namespaces", &scope.included_namespaces),
        ("without namespaces", &scope.excluded_namespaces),
        ("kinds", scope.included_resources.words()),
        ("without kinds", scope.excluded_resources.words()),
        ("cluster-scoped kinds", scope.included_cluster_scoped.words()),
        (
            "without cluster-scoped kinds",
            scope.excluded_cluster_scoped.words(),
        ),
        ("namespaced kinds", scope.included_namespace_scoped.words()),
        (
            "without namespaced kinds",
            scope.excluded_namespace_scoped.words(),
        ),
    ];
    let mut parts: Vec<String> = lists
        .into_iter()
        .filter(|(_, words)| !words.is_empty())
        .map(|(what, words)| format!("{what} {}", words.join(",")))
        .collect();
    match scope.include_cluster_resources {
        Some(true) => parts.push("all cluster-scoped objects".to_owned()),
        Some(false) => parts.push("no cluster-scoped objects".to_owned()),
        None => {}
    }
    if !scope.selector.is_empty() {
        parts.push(format!("labels {}", scope.selector));
    }
    if !scope.or_selector.is_empty() {
        parts.push(format!("labels {}", scope.or_selector));
    }
    parts.join("; ")
}

#[cfg(test)]
mod tests {
    use backup_plan::selector::Selector;

    use super::*;

    #[test]
    fn a_scope_in_words() {
        let table = [
            (Scope::default(), "everything"),
            (
                Scope {
                    included_namespaces: vec!["shop".into(), "db-*".into()],
                    selector: Selector::parse("app=web").unwrap(),
                    ..Scope::default()
                },
                "namespaces shop,db-*; labels app=web",
            ),
            (
                Scope {
                    excluded_resources: ResourceNames::new(["events"]),
                    include_cluster_resources: Some(false),
                    ..Scope::default()
                },
                "without kinds events; no cluster-scoped objects",
            ),
        ];
        for (scope, expected) in table {
            assert_eq!(describe(&scope), expected);
        }
    }
}
