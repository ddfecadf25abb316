use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::artifact::{create, media_type, read, read_text};
use crate::table::from_csv;
use crate::{Artifact, Context, CsvOptions, Result, Table};

/// Bytes.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Bytes(pub Vec<u8>);

/// UTF-8 text.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Text(pub String);

/// Comma-separated values with a header line, as text.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Csv(pub String);

/// A value of any serde type, stored as JSON.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Json<T>(pub T);

impl Bytes {
    /// Reads the bytes as a table: Parquet, Arrow or CSV, detected by content.
    pub fn table(&self) -> Result<Table> {
        static TABLES: AtomicUsize = AtomicUsize::new(0);
        let path = temporary(TABLES.fetch_add(1, Ordering::Relaxed));
        self.write_artifact(&path)?;
        let table = Table::read(&path);
        std::fs::remove_file(&path)?;
        table
    }
}

/// Returns the path of a temporary file.
#[cfg(target_os = "wasi")]
fn temporary(number: usize) -> PathBuf {
    PathBuf::from(format!("/tmp/table.{number}"))
}

/// Returns the path of a temporary file.
#[cfg(not(target_os = "wasi"))]
fn temporary(number: usize) -> PathBuf {
    std::env::temp_dir().join(format!("lockstep-table.{}.{number}", std::process::id()))
}

impl Csv {
    /// Parses the rows into a table, and infers the types of the columns. Empty fields and `NA` are nulls.
    pub fn table(&self) -> Result<Table> {
        self.table_with(&CsvOptions::default())
    }

    /// Like [`table`](Self::table), with another separator, other nulls or given types of columns.
    pub fn table_with(&self, options: &CsvOptions) -> Result<Table> {
        from_csv(self.0.as_bytes(), options)
    }

    /// Like [`table`](Self::table), but the fields equal to one of `nulls` are nulls.
    pub fn table_with_nulls(&self, nulls: &[&str]) -> Result<Table> {
        self.table_with(&CsvOptions::default().nulls(nulls))
    }

    /// Parses the rows into structs whose fields are columns.
    pub fn rows<T: DeserializeOwned>(&self) -> Result<Vec<T>> {
        let rows = csv::Reader::from_reader(self.0.as_bytes())
            .into_deserialize()
            .collect::<Result<_, _>>();
        rows.context("a row of the CSV does not fit")
    }

    /// Creates CSV from structs whose fields are columns.
    pub fn from_rows<T: Serialize>(rows: impl IntoIterator<Item = T>) -> Result<Self> {
        let mut writer = csv::Writer::from_writer(Vec::new());
        rows.into_iter().try_for_each(|row| writer.serialize(row))?;
        Ok(Self(String::from_utf8(writer.into_inner()?)?))
    }
}

impl Artifact for Bytes {
    const MEDIA_TYPE: &'static str = media_type::BYTES;

    fn read(path: &Path) -> Result<Self> {
        read(path).map(Self)
    }

    fn write_artifact(&self, path: &Path) -> Result<()> {
        create(path, |file| Ok(std::io::Write::write_all(file, self)?))
    }
}

impl<T: Serialize + DeserializeOwned> Artifact for Json<T> {
    const MEDIA_TYPE: &'static str = media_type::JSON;

    fn read(path: &Path) -> Result<Self> {
        let value = serde_json::from_slice(&read(path)?);
        Ok(Self(value.with_context(|| {
            format!("{} does not hold the JSON that was expected", path.display())
        })?))
    }

    fn write_artifact(&self, path: &Path) -> Result<()> {
        create(path, |file| Ok(serde_json::to_writer(file, &self.0)?))
    }
}

macro_rules! text {
    ($type:ident, $media_type:ident) => {
        impl Artifact for $type {
            const MEDIA_TYPE: &'static str = media_type::$media_type;

            fn read(path: &Path) -> Result<Self> {
                read_text(path).map(Self)
            }

            fn write_artifact(&self, path: &Path) -> Result<()> {
                create(path, |file| Ok(std::io::Write::write_all(file, self.0.as_bytes())?))
            }
        }

        impl From<&str> for $type {
            fn from(text: &str) -> Self {
                Self(text.into())
            }
        }

        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

text!(Text, TEXT);
text!(Csv, CSV);

macro_rules! wrapper {
    ($($type:ident $(<$generic:ident>)? of $inner:ty;)+) => {$(
        impl$(<$generic>)? Deref for $type$(<$generic>)? {
            type Target = $inner;

            fn deref(&self) -> &$inner {
                &self.0
            }
        }

        impl$(<$generic>)? DerefMut for $type$(<$generic>)? {
            fn deref_mut(&mut self) -> &mut $inner {
                &mut self.0
            }
        }

        impl$(<$generic>)? From<$inner> for $type$(<$generic>)? {
            fn from(inner: $inner) -> Self {
                Self(inner)
            }
        }
    )+};
}

wrapper! {
    Bytes of Vec<u8>;
    Text of String;
    Csv of String;
    Json<T> of T;
}
