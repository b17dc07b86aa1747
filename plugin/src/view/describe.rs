//! Descriptions as `kubectl describe` prints them: `Name:  value`, sections indented by two.
//!
//! In come fields in order, out goes text in which the values of a block stand below each other.

use std::fmt::Write as _;

use super::plain;

/// A description under construction.
#[derive(Debug, Clone, Default)]
pub(crate) struct Description {
    lines: Vec<Line>,
}

#[derive(Debug, Clone)]
enum Line {
    Field {
        depth: usize,
        name: String,
        value: String,
    },
    Text {
        depth: usize,
        text: String,
    },
    Blank,
}

const NONE: &str = "<none>";

impl Description {
    /// `Name:  value`; an empty value is `<none>`.
    pub(crate) fn field(&mut self, name: &str, value: impl Into<String>) -> &mut Self {
        self.field_at(0, name, value)
    }

    /// A field of a section.
    pub(crate) fn inner(&mut self, name: &str, value: impl Into<String>) -> &mut Self {
        self.field_at(1, name, value)
    }

    fn field_at(&mut self, depth: usize, name: &str, value: impl Into<String>) -> &mut Self {
        let mut value = value.into();
        if value.is_empty() {
            NONE.clone_into(&mut value);
        }
        self.lines.push(Line::Field {
            depth,
            name: name.to_owned(),
            value,
        });
        self
    }

    /// A heading with lines below it, or `<none>` beside it.
    pub(crate) fn list(&mut self, name: &str, values: impl IntoIterator<Item = String>) -> &mut Self {
        let values: Vec<String> = values.into_iter().collect();
        if values.is_empty() {
            return self.field(name, "");
        }
        self.heading(name);
        self.lines
            .extend(values.into_iter().map(|text| Line::Text { depth: 1, text }));
        self
    }

    /// A list one level down, below a heading.
    pub(crate) fn nested_list(&mut self, name: &str, values: impl IntoIterator<Item = String>) -> &mut Self {
        self.lines.push(Line::Text {
            depth: 1,
            text: format!("{name}:"),
        });
        self.lines.extend(values.into_iter().map(|text| Line::Text {
            depth: 2,
            text: format!("- {text}"),
        }));
        self
    }

    /// Beside the heading stands the first value, below it the others, as kubectl prints labels.
    pub(crate) fn beside(&mut self, name: &str, values: impl IntoIterator<Item = String>) -> &mut Self {
        let mut values = values.into_iter();
        self.field(name, values.next().unwrap_or_default());
        for value in values {
            self.lines.push(Line::Field {
                depth: 0,
                name: String::new(),
                value,
            });
        }
        self
    }

    /// `Name:` alone; fields made with [`Self::inner`] follow.
    pub(crate) fn heading(&mut self, name: &str) -> &mut Self {
        self.lines.push(Line::Text {
            depth: 0,
            text: format!("{name}:"),
        });
        self
    }

    /// An empty line; the blocks before and after it are aligned on their own.
    pub(crate) fn blank(&mut self) -> &mut Self {
        self.lines.push(Line::Blank);
        self
    }

    /// The text.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        for block in self.lines.split(|line| matches!(line, Line::Blank)) {
            if !text.is_empty() {
                text.push('\n');
            }
            let width = block.iter().map(Line::name_width).max().unwrap_or_default();
            for line in block {
                line.write(width, &mut text);
            }
        }
        text
    }
}

impl Line {
    /// Columns up to the colon.
    fn name_width(&self) -> usize {
        match self {
            Self::Field { depth, name, .. } => depth * 2 + name.chars().count() + 1,
            Self::Text { .. } | Self::Blank => 0,
        }
    }

    fn write(&self, width: usize, text: &mut String) {
        // Writing to a String cannot fail.
        let _ = match self {
            Self::Field { depth, name, value } => {
                let name = if name.is_empty() {
                    String::new()
                } else {
                    format!("{}{name}:", "  ".repeat(*depth))
                };
                writeln!(text, "{name:<width$}  {}", plain(value))
            }
            Self::Text { depth, text: line } => writeln!(text, "{}{}", "  ".repeat(*depth), plain(line)),
            Self::Blank => Ok(()),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_a_block_stand_below_each_other() {
        let mut description = Description::default();
        description
            .field("Name", "nightly")
            .beside("Labels", ["a=b".to_owned(), "c=d".to_owned()])
            .field("Annotations", "")
            .blank()
            .heading("Namespaces")
            .inner("Included", "*")
            .list("Errors", Vec::new())
            .list("Warnings", ["one".to_owned(), "two\nlines".to_owned()]);
        let expected = "\
Name:         nightly
Labels:       a=b
              c=d
Annotations:  <none>

Namespaces:
  Included:  *
Errors:      <none>
Warnings:
  one
  two lines
";
        assert_eq!(description.text(), expected);
    }
}
