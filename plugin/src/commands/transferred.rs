//! What a download, an import or a copy came to.

use backup_engine::catalog::CopySummary;
use backup_plan::human;
use serde_json::{Value, json};

use crate::{
    arguments::global::OutputFormat,
    exit::Failure,
    view::{self, count, document},
};

/// Prints one result; `verb` says what was done and `target` where the bytes are now.
pub(crate) fn show(
    format: OutputFormat,
    verb: &str,
    target: &str,
    summary: &CopySummary,
) -> Result<(), Failure> {
    match format {
        OutputFormat::Json | OutputFormat::Yaml => {
            document::write(&mut view::out(), format, "Transfer", &result(target, summary))
        }
        OutputFormat::Name => Ok(view::print(&format!("backup/{}\n", summary.name))?),
        OutputFormat::Table | OutputFormat::Wide => Ok(view::print(&line(verb, target, summary))?),
    }
}

/// Says what did not come along.
pub(crate) fn warn(summary: &CopySummary) {
    for volume in &summary.volume_data_left {
        view::warn(&format!(
            "volume data stays where it is and is not part of this: {volume}"
        ));
    }
}

/// The result as fields of a document.
pub(crate) fn result(target: &str, summary: &CopySummary) -> Value {
    json!({
        "name": summary.name,
        "target": target,
        "files": summary.files,
        "bytes": summary.bytes,
        "verified": summary.verified,
        "volumeDataLeft": summary.volume_data_left,
    })
}

/// `backup/nightly copied to s3://b (9 files, 1.2MiB, every digest compared)`.
pub(crate) fn line(verb: &str, target: &str, summary: &CopySummary) -> String {
    let checked = if summary.verified {
        "every digest compared"
    } else {
        "sizes compared, Velero stores no digests"
    };
    let files = count(summary.files, "file");
    let text = format!(
        "backup/{} {verb} {target} ({files}, {}, {checked})",
        summary.name,
        human::bytes(summary.bytes)
    );
    format!("{}\n", view::plain(&text))
}

#[cfg(test)]
mod tests {
    use velero_model::name::BackupName;

    use super::*;

    #[test]
    fn a_line_says_what_was_compared() {
        let mut summary = CopySummary {
            name: BackupName::parse("nightly").unwrap(),
            files: 9,
            bytes: 1 << 20,
            verified: true,
            volume_data_left: Vec::new(),
        };
        assert_eq!(
            line("copied to", "s3://b", &summary),
            "backup/nightly copied to s3://b (9 files, 1MiB, every digest compared)\n"
        );
        summary.verified = false;
        assert!(line("copied to", "s3://b", &summary).contains("sizes compared"));
    }
}
