//! Results on stdout: text for people, or JSON with `--json`. Nothing else goes to stdout, and a reader that stops reading
//! (`tercet node | head -1`) is a typed error, not a panic.

use std::io::{self, Write as _};

use serde::Serialize;

use crate::error::CliError;

/// Where results go, and in which of the two forms.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    json: bool,
}

impl Output {
    pub(crate) fn new(json: bool) -> Self {
        Self { json }
    }

    /// Whether results are printed as JSON.
    pub(crate) const fn is_json(self) -> bool {
        self.json
    }

    /// Prints one result: `value` as one line of JSON, or what `text` makes of it.
    pub(crate) fn print<T: Serialize>(
        self,
        value: &T,
        text: impl FnOnce(&T) -> String,
    ) -> Result<(), CliError> {
        let mut line = if self.json {
            serde_json::to_string(value).map_err(CliError::Json)?
        } else {
            text(value)
        };
        if line.is_empty() {
            return Ok(());
        }
        line.push('\n');
        let mut stdout = io::stdout().lock();
        stdout
            .write_all(line.as_bytes())
            .and_then(|()| stdout.flush())
            .map_err(CliError::Stdout)
    }
}

/// Lines of `name value` with the values in one column.
#[derive(Debug, Default)]
pub(crate) struct Fields(Vec<(String, String)>);

impl Fields {
    pub(crate) fn add(
        &mut self,
        name: impl Into<String>,
        value: impl std::fmt::Display,
    ) -> &mut Self {
        self.0.push((name.into(), value.to_string()));
        self
    }

    /// Adds the field when there is a value.
    pub(crate) fn add_some<T: std::fmt::Display>(
        &mut self,
        name: &str,
        value: Option<T>,
    ) -> &mut Self {
        if let Some(value) = value {
            self.add(name, value);
        }
        self
    }

    pub(crate) fn render(&self) -> String {
        let width = self.0.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        let lines: Vec<String> = self
            .0
            .iter()
            .map(|(name, value)| format!("{name:width$}  {value}").trim_end().to_owned())
            .collect();
        lines.join("\n")
    }
}

/// So many nodes, in words.
pub(crate) fn nodes(count: usize) -> String {
    let what = if count == 1 { "node" } else { "nodes" };
    format!("{count} {what}")
}

#[cfg(test)]
mod tests {
    use super::{Fields, nodes};

    #[test]
    fn one_is_not_many() {
        assert_eq!([0, 1, 2].map(nodes), ["0 nodes", "1 node", "2 nodes"]);
    }

    #[test]
    fn fields_line_up() {
        let mut fields = Fields::default();
        fields
            .add("id", 7)
            .add_some("client", Some("x"))
            .add_some("none", None::<u8>)
            .add("head", "");
        assert_eq!(fields.render(), "id      7\nclient  x\nhead");
    }
}
