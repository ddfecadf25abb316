//! Notebook files (nbformat 4): what is needed of them. <https://nbformat.readthedocs.io/en/latest/format_description.html>

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// A notebook as it is in its file.
#[derive(Clone, PartialEq, Debug, Default, Deserialize)]
pub struct Notebook {
    /// From top to bottom.
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
    /// The front end's id of it, since format 4.5.
    #[serde(default)]
    pub id: Option<String>,
    /// `code`, `markdown` or `raw`.
    #[serde(default)]
    pub cell_type: String,
    /// Its text.
    #[serde(default, deserialize_with = "text")]
    pub source: String,
    /// What front ends keep with it.
    #[serde(default)]
    pub metadata: CellMetadata,
    /// What was shown below it.
    #[serde(default)]
    pub outputs: Vec<NotebookOutput>,
}

/// What front ends keep with a cell.
#[derive(Clone, PartialEq, Debug, Default, Deserialize)]
pub struct CellMetadata {
    /// `parameters` marks the cell whose variables whoever runs the notebook may set.
    #[serde(default)]
    pub tags: Vec<String>,
}

/// An output; text and errors have no data.
#[derive(Clone, PartialEq, Debug, Deserialize)]
pub struct NotebookOutput {
    /// Representations by media type.
    #[serde(default)]
    pub data: BTreeMap<String, Value>,
}

/// Why a notebook can't be read.
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
    /// It is no notebook.
    #[error("{} is no notebook: {source}\nhint: notebooks of format 4 can be read; `jupyter nbconvert --to notebook` writes one", path.display())]
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

    /// The language of its kernel, if it says so.
    pub fn language(&self) -> Option<&str> {
        self.metadata.kernelspec.language.as_deref()
    }

    /// The code cells, from top to bottom.
    pub fn code(&self) -> impl Iterator<Item = &NotebookCell> {
        self.cells.iter().filter(|cell| cell.cell_type == "code")
    }

    /// What outputs hold in a media type, from top to bottom.
    pub fn data<'a>(&'a self, media_type: &'a str) -> impl Iterator<Item = &'a Value> {
        self.cells.iter().flat_map(move |cell| cell.data(media_type))
    }
}

impl NotebookCell {
    /// What its outputs hold in a media type.
    pub fn data<'a>(&'a self, media_type: &'a str) -> impl DoubleEndedIterator<Item = &'a Value> {
        self.outputs.iter().filter_map(move |output| output.data.get(media_type))
    }
}

/// A text, or its lines.
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
    fn texts_are_whole_or_in_lines_and_what_is_unknown_is_passed_over() {
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
