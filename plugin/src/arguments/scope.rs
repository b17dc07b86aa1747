//! What a backup or a restore covers, in Velero's words.

use clap::Args;

const SCOPE: &str = "What is covered (everything, if none of these is given)";

/// The filter flags of backup and restore.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct ScopeFlags {
    /// Namespaces to take; names or patterns such as shop-*.
    #[arg(long, value_name = "NAMESPACES", value_delimiter = ',', help_heading = SCOPE)]
    pub(crate) include_namespaces: Vec<String>,

    /// Namespaces to leave out; names or patterns.
    #[arg(long, value_name = "NAMESPACES", value_delimiter = ',', help_heading = SCOPE)]
    pub(crate) exclude_namespaces: Vec<String>,

    /// Kinds to take, such as deployments,secrets or widgets.example.org.
    #[arg(long, value_name = "KINDS", value_delimiter = ',', help_heading = SCOPE)]
    pub(crate) include_resources: Vec<String>,

    /// Kinds to leave out.
    #[arg(long, value_name = "KINDS", value_delimiter = ',', help_heading = SCOPE)]
    pub(crate) exclude_resources: Vec<String>,

    /// Take all cluster-scoped objects, or with =false none; by default those that belong to what is taken.
    #[arg(
        long,
        value_name = "true|false",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        hide_possible_values = true,
        help_heading = SCOPE
    )]
    pub(crate) include_cluster_resources: Option<bool>,

    /// Cluster-scoped kinds to take; cannot be combined with --include-resources and its family.
    #[arg(long, value_name = "KINDS", value_delimiter = ',', help_heading = SCOPE)]
    pub(crate) include_cluster_scoped_resources: Vec<String>,

    /// Cluster-scoped kinds to leave out.
    #[arg(long, value_name = "KINDS", value_delimiter = ',', help_heading = SCOPE)]
    pub(crate) exclude_cluster_scoped_resources: Vec<String>,

    /// Namespaced kinds to take.
    #[arg(long, value_name = "KINDS", value_delimiter = ',', help_heading = SCOPE)]
    pub(crate) include_namespace_scoped_resources: Vec<String>,

    /// Namespaced kinds to leave out.
    #[arg(long, value_name = "KINDS", value_delimiter = ',', help_heading = SCOPE)]
    pub(crate) exclude_namespace_scoped_resources: Vec<String>,

    /// Take what matches one of several selectors, such as "app=shop or app=cart".
    #[arg(long, value_name = "LABELS", conflicts_with = "selector", help_heading = SCOPE)]
    pub(crate) or_selector: Option<String>,
}

impl ScopeFlags {
    /// The flags as words of a command line.
    pub(crate) fn words(&self) -> Vec<String> {
        let lists = [
            ("include-namespaces", &self.include_namespaces),
            ("exclude-namespaces", &self.exclude_namespaces),
            ("include-resources", &self.include_resources),
            ("exclude-resources", &self.exclude_resources),
            (
                "include-cluster-scoped-resources",
                &self.include_cluster_scoped_resources,
            ),
            (
                "exclude-cluster-scoped-resources",
                &self.exclude_cluster_scoped_resources,
            ),
            (
                "include-namespace-scoped-resources",
                &self.include_namespace_scoped_resources,
            ),
            (
                "exclude-namespace-scoped-resources",
                &self.exclude_namespace_scoped_resources,
            ),
        ];
        let mut words: Vec<String> = lists
            .into_iter()
            .filter(|(_, values)| !values.is_empty())
            .map(|(flag, values)| format!("--{flag}={}", values.join(",")))
            .collect();
        words.extend(
            self.include_cluster_resources
                .map(|value| format!("--include-cluster-resources={value}")),
        );
        words.extend(
            self.or_selector
                .as_ref()
                .map(|value| format!("--or-selector={value}")),
        );
        words
    }
}
