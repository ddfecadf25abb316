//! Notebook files (nbformat 4), as far as they are needed.
//! <https://nbformat.readthedocs.io/en/latest/format_description.html>

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// A notebook file.
#[derive(Clone, PartialEq, Debug, Default, Deserialize)]
pub struct Notebook {
    /// The cells, from top to bottom.
    #[serde(default)]
    pub cells: Vec<NotebookCell>,
    #[serde(default)]
    metadata: Metadata,
}

#[derive(Clone, PartialEq, Debug, Default, Deserialize)]
struct Metadata {
    #[serde(default)]
    kernelspec: Kernelspec,
}

#[derive(Clone, PartialEq, Debug, Default, Deserialize)]
struct Kernelspec {
    #[serde(default)]
    language: Option<String>,
}

/// A cell of any kind.
#[derive(Clone, PartialEq, Debug, Deserialize)]
pub struct NotebookCell {
    /// The id from the front end, since format 4.5.
    #[serde(default)]
    pub id: Option<String>,
    /// `code`, `markdown` or `raw`.
    #[serde(default)]
    pub cell_type: String,
    /// The text.
    #[serde(default, deserialize_with = "text")]
    pub source: String,
    /// The metadata.
    #[serde(default)]
    pub metadata: CellMetadata,
    /// The outputs.
    #[serde(default)]
    pub outputs: Vec<NotebookOutput>,
}

/// The metadata of a cell.
#[derive(Clone, PartialEq, Debug, Default, Deserialize)]
pub struct CellMetadata {
    /// The tags; `parameters` marks the cell whose variables can be set from outside.
    #[serde(default)]
    pub tags: Vec<String>,
}

/// An output. Text and errors have no data.
#[derive(Clone, PartialEq, Debug, Deserialize)]
pub struct NotebookOutput {
    /// Representations by media type.
    #[serde(default)]
    pub data: BTreeMap<String, Value>,
}

/// An error reading a notebook.
#[derive(Debug, thiserror::Error)]
pub enum NotebookError {
    /// The file can't be read.
    #[error("can't read {}: {source}", path.display())]
    Read {
        /// the file
        path: PathBuf,
        /// why not
        source: std::io::Error,
    },
    /// The file is not a notebook.
    #[error("{} is not a notebook: {source}\nhint: convert it to format 4 with `jupyter nbconvert --to notebook`", path.display())]
    Format {
        /// the file
        path: PathBuf,
        /// what is wrong with it
        source: serde_json::Error,
    },
}

impl Notebook {
    /// Reads the file at `path`.
    pub fn read(path: &Path) -> Result<Self, NotebookError> {
        let json = std::fs::read(path).map_err(|source| NotebookError::Read {
            path: path.to_owned(),
            source,
        })?;
        serde_json::from_slice(&json).map_err(|source| NotebookError::Format {
            path: path.to_owned(),
            source,
        })
    }

    /// Returns the language of its kernel, if declared.
    pub fn language(&self) -> Option<&str> {
        self.metadata.kernelspec.language.as_deref()
    }

    /// Returns the code cells, from top to bottom.
    pub fn code(&self) -> impl Iterator<Item = &NotebookCell> {
        self.cells.iter().filter(|cell| cell.cell_type == "code")
    }

    /// Returns the outputs of a media type, from top to bottom.
    pub fn data<'a>(&'a self, media_type: &'a str) -> impl Iterator<Item = &'a Value> {
        self.cells.iter().flat_map(move |cell| cell.data(media_type))
    }
}

impl NotebookCell {
    /// Returns the cell's outputs of a media type.
    pub fn data<'a>(&'a self, media_type: &'a str) -> impl DoubleEndedIterator<Item = &'a Value> {
        self.outputs.iter().filter_map(move |output| output.data.get(media_type))
    }
}

/// Deserializes a text or a list of its lines.
fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Text {
        Whole(String),
        Lines(Vec<String>),
    }
    Ok(match Text::deserialize(deserializer)? {
        Text::Whole(text) => text,
        Text::Lines(lines) => lines.concat(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_whole_or_in_lines_and_unknown_fields_are_ignored() {
        let json = r#"{
            "nbformat": 4, "metadata": { "kernelspec": { "name": "lockstep", "language": "rust" } },
            "cells": [
                { "cell_type": "markdown", "id": "a", "metadata": {}, "source": "text" },
                { "cell_type": "code", "source": ["let x = 1;\n", "x"], "outputs": [
                    { "output_type": "stream", "name": "stdout", "text": "" },
                    { "output_type": "execute_result", "data": { "a/b": 1 }, "metadata": {} }
                ] }
            ]
        }"#;
        let notebook: Notebook = serde_json::from_str(json).unwrap();
        assert_eq!(notebook.language(), Some("rust"));
        let sources: Vec<_> = notebook.code().map(|cell| cell.source.as_str()).collect();
        assert_eq!(sources, ["let x = 1;\nx"]);
        assert_eq!(notebook.data("a/b").collect::<Vec<_>>(), [&Value::from(1)]);
        assert_eq!(serde_json::from_str::<Notebook>("{}").unwrap(), Notebook::default());
    }
}
