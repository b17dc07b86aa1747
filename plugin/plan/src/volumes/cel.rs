//! Policies as one `MutatingAdmissionPolicy` with its binding: the annotator without a webhook, as far as CEL goes.
//!
//! In come the policies that are rendered together and the others of the cluster; out goes YAML that can be applied as it
//! is, with what it does not say as comments. CEL sees the pod and its namespace and nothing else, so a policy that asks for
//! facts of a claim is refused, and the exclusions of a policy that is not rendered with the others do not hold.
//!
//! What is rendered gives a pod the same annotation that [`super::Rules::decide`] gives it under the same policies; a
//! test holds both against a corpus of pods on a real API server. Later code may rely on equal input giving equal text.

mod expression;

use std::fmt::Write as _;

use velero_model::api::{BACKUP_VOLUMES, BACKUP_VOLUMES_EXCLUDES, PolicyAction, VOLUMES_LABEL};

use self::expression::quoted;
use super::{Policy, SYSTEM_NAMESPACES};

/// The version of `admissionregistration.k8s.io` to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// Kubernetes 1.36 and later.
    V1,
    /// Kubernetes 1.34 and 1.35, where it is switched on.
    V1beta1,
    /// Kubernetes 1.32 and 1.33, where it is switched on.
    V1alpha1,
}

impl Version {
    /// All of them, the newest first. What is written here has the same fields in each.
    pub const NEWEST_FIRST: [Self; 3] = [Self::V1, Self::V1beta1, Self::V1alpha1];

    /// The word in `apiVersion`.
    pub fn word(self) -> &'static str {
        match self {
            Self::V1 => "v1",
            Self::V1beta1 => "v1beta1",
            Self::V1alpha1 => "v1alpha1",
        }
    }
}

/// How to render.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// The version to write.
    pub version: Version,
    /// Namespaces to leave alone beside [`SYSTEM_NAMESPACES`]: Velero's and the suite's own.
    pub exempt_namespaces: Vec<String>,
}

/// YAML and what it does not say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rendered {
    /// Two YAML documents with comments.
    pub text: String,
    /// What the annotator does and this does not, a sentence each. They are comments of `text` too.
    pub limits: Vec<String>,
}

/// Why a policy cannot be rendered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CelRefusal {
    /// It asks for what only a claim knows.
    #[error(
        "policy {policy} cannot be written as an admission policy: volumes.{field} asks for {fact}, and CEL sees the pod \
         and its namespace alone; leave it out, or let the webhook do it"
    )]
    Fact {
        /// The policy.
        policy: String,
        /// The field of its volume rule.
        field: &'static str,
        /// What that is about.
        fact: &'static str,
    },
}

/// Renders policies together. `others` are the further policies of the cluster; what of them is missed is said.
///
/// # Errors
/// When a policy asks for facts that CEL cannot see, or is invalid.
pub fn render(policies: &[&Policy], others: &[&Policy], options: &Options) -> Result<Rendered, CelRefusal> {
    for policy in policies {
        refuse(policy)?;
    }
    let limits = limits(policies, others);
    let name = object_name(policies);
    let mut text = comments(policies, &limits);
    head(&mut text, &name, options);
    variables(&mut text, policies);
    mutation(&mut text);
    binding(&mut text, &name, options.version);
    Ok(Rendered { text, limits })
}

/// Refuses what CEL cannot see.
fn refuse(policy: &Policy) -> Result<(), CelRefusal> {
    let capacity = "the capacity of a claim";
    for (asks, field, fact) in [
        (
            !policy.storage_classes().is_empty(),
            "storageClasses",
            "the storage class of a claim",
        ),
        (policy.minimum_capacity().is_some(), "minimumCapacity", capacity),
        (policy.maximum_capacity().is_some(), "maximumCapacity", capacity),
    ] {
        if asks {
            return Err(CelRefusal::Fact {
                policy: policy.name().to_owned(),
                field,
                fact,
            });
        }
    }
    Ok(())
}

/// The longest name that an object may have.
const NAME_MAX: usize = 253;

fn object_name(policies: &[&Policy]) -> String {
    let names: Vec<&str> = policies.iter().map(|policy| policy.name()).collect();
    let name = format!("kubectl-backup-{}", names.join("."));
    if name.len() <= NAME_MAX {
        name
    } else {
        format!("kubectl-backup-{}-policies", policies.len())
    }
}

fn limits(policies: &[&Policy], others: &[&Policy]) -> Vec<String> {
    let mut limits = vec![
        "Claims are not looked at: one whose volume is a folder of the node is listed too; Velero skips it with a warning."
            .to_owned(),
        "Nobody is warned about unknown names, spaces in lists or volumes that only init containers mount.".to_owned(),
        "Which policy chose a volume is not recorded on the pod; there are no metrics and no status.".to_owned(),
    ];
    limits.push(
        "A pod with hundreds of volumes in dozens of containers is beyond what the API server spends on expressions, and \
         stays as it is."
            .to_owned(),
    );
    let is_excluding = |policy: &&&Policy| policy.action() == PolicyAction::Exclude;
    let excluding: Vec<&str> = others
        .iter()
        .filter(is_excluding)
        .map(|policy| policy.name())
        .collect();
    if policies
        .iter()
        .all(|policy| policy.action() == PolicyAction::Exclude)
    {
        limits.push(
            "Exclusions hold only for what is rendered together with them: no other admission policy and no webhook sees \
             these."
                .to_owned(),
        );
    } else if !excluding.is_empty() {
        limits.push(format!(
            "Exclusions of other policies do not hold here ({}); render them together with it.",
            excluding.join(", ")
        ));
    }
    limits
}

fn comments(policies: &[&Policy], limits: &[String]) -> String {
    let mut text = String::from("# The annotator of kubectl backup in CEL, for VolumeBackupPolicy\n");
    for policy in policies {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "#   {} (generation {})", policy.name(), policy.generation());
    }
    text.push_str("# Render it again when one of them changes. What the webhook does and this does not:\n");
    for limit in limits {
        let _ = writeln!(text, "# - {limit}");
    }
    text
}

fn head(text: &mut String, name: &str, options: &Options) {
    let exempt = options.exempt_namespaces.iter().map(String::as_str);
    let mut namespaces: Vec<&str> = SYSTEM_NAMESPACES.into_iter().chain(exempt).collect();
    namespaces.sort_unstable();
    namespaces.dedup();
    let namespaces = namespaces.join(", ");
    let version = options.version.word();
    let _ = write!(
        text,
        "\
apiVersion: admissionregistration.k8s.io/{version}
kind: MutatingAdmissionPolicy
metadata:
  name: {name}
spec:
  failurePolicy: Ignore
  reinvocationPolicy: IfNeeded
  matchConstraints:
    matchPolicy: Equivalent
    namespaceSelector:
      matchExpressions:
      - key: kubernetes.io/metadata.name
        operator: NotIn
        values: [{namespaces}]
    resourceRules:
    - apiGroups: [\"\"]
      apiVersions: [v1]
      operations: [CREATE]
      resources: [pods]
  matchConditions:
  - name: has-volumes
    expression: has(object.spec.volumes)
  - name: is-no-mirror-pod
    expression: |-
      !has(object.metadata.annotations) || !(\"kubernetes.io/config.mirror\" in object.metadata.annotations)
"
    );
}

/// A named CEL expression, as a block of text that needs no quoting.
fn variable(text: &mut String, name: &str, expression: &str) {
    let _ = writeln!(text, "  - name: {name}\n    expression: |-");
    block(text, expression);
}

fn block(text: &mut String, expression: &str) {
    for line in expression.lines() {
        let _ = writeln!(text, "      {line}");
    }
}

fn variables(text: &mut String, policies: &[&Policy]) {
    let listed = quoted(BACKUP_VOLUMES);
    text.push_str("  variables:\n");
    variable(
        text,
        "labels",
        "has(object.metadata.labels) ? object.metadata.labels : {}",
    );
    variable(
        text,
        "annotations",
        "has(object.metadata.annotations) ? object.metadata.annotations : {}",
    );
    variable(
        text,
        "namespaceLabels",
        "has(namespaceObject.metadata.labels) ? namespaceObject.metadata.labels : {}",
    );
    text.push_str("  # the label that decides: the pod's own, else that of its namespace\n");
    variable(text, "label", &expression::label(VOLUMES_LABEL));
    variable(text, "listed", &expression::list(BACKUP_VOLUMES));
    variable(text, "keptOut", &expression::list(BACKUP_VOLUMES_EXCLUDES));
    variable(
        text,
        "mounted",
        "object.spec.containers.map(c, has(c.volumeMounts) ? c.volumeMounts.map(m, m.name) : [])",
    );
    variable(
        text,
        "devices",
        "object.spec.containers.map(c, has(c.volumeDevices) ? c.volumeDevices.map(d, d.name) : [])",
    );
    for (position, policy) in policies.iter().enumerate() {
        let _ = writeln!(text, "  # whether policy {} speaks about the pod", policy.name());
        variable(text, &speaks(position), &expression::pod(policy));
    }
    text.push_str("  # the volumes to add, in the order of the pod\n");
    variable(text, "chosen", &chosen(policies));
    variable(
        text,
        "value",
        &format!(
            "(size(variables.listed) == 0 ? \"\" : variables.annotations[{listed}] + \",\")\n\
             + variables.chosen.join(\",\")"
        ),
    );
}

/// Name of the variable that says whether a policy speaks about the pod.
fn speaks(position: usize) -> String {
    format!("policy{}", position + 1)
}

/// The names that are added: what Velero would take, nothing excludes and something includes.
fn chosen(policies: &[&Policy]) -> String {
    let of = |action: PolicyAction| {
        let all = policies.iter().enumerate();
        all.filter(move |(_, policy)| policy.action() == action)
            .map(|(position, policy)| {
                format!("variables.{} && {}", speaks(position), expression::volume(policy))
            })
    };
    let label = format!("variables.label == \"include\" && {}", expression::IS_CLAIM);
    let including: Vec<String> = std::iter::once(label).chain(of(PolicyAction::Include)).collect();
    let mut terms = vec![
        "variables.mounted.exists(names, v.name in names)".to_owned(),
        "!variables.devices.exists(names, v.name in names)".to_owned(),
        "!v.name.startsWith(\"default-token\")".to_owned(),
        "!(v.name in variables.listed)".to_owned(),
        "!(v.name in variables.keptOut)".to_owned(),
    ];
    terms.extend(of(PolicyAction::Exclude).map(|excludes| format!("!({excludes})")));
    terms.push(format!("({})", including.join("\n    || ")));
    format!(
        "variables.label == \"exclude\" ? [] : object.spec.volumes.filter(v,\n  {}\n).map(v, v.name)",
        terms.join("\n  && ")
    )
}

fn mutation(text: &mut String) {
    let key = quoted(BACKUP_VOLUMES);
    let _ = writeln!(
        text,
        "  mutations:\n  - patchType: JSONPatch\n    jsonPatch:\n      expression: |-"
    );
    let expression = format!(
        "size(variables.chosen) == 0 ? [] :\n\
         has(object.metadata.annotations)\n\
         ? [JSONPatch{{op: \"add\", path: \"/metadata/annotations/\" + jsonpatch.escapeKey({key}), value: variables.value}}]\n\
         : [JSONPatch{{op: \"add\", path: \"/metadata/annotations\", value: {{{key}: variables.value}}}}]"
    );
    for line in expression.lines() {
        let _ = writeln!(text, "        {line}");
    }
}

fn binding(text: &mut String, name: &str, version: Version) {
    let version = version.word();
    let _ = write!(
        text,
        "\
---
apiVersion: admissionregistration.k8s.io/{version}
kind: MutatingAdmissionPolicyBinding
metadata:
  name: {name}
spec:
  policyName: {name}
"
    );
}

#[cfg(test)]
mod tests;
