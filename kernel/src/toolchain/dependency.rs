use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Range;

use semver::VersionReq;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, IntoDeserializer, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A crate that cells depend on: the argument of `:dep`, in the syntax of a manifest.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Dependency {
    /// The name in cells; empty for a directory alone, whose crate is named by its manifest.
    pub name: String,
    /// The requirement on the crate.
    pub requirement: Requirement,
}

/// Crates that cells depend on, by name.
pub type Dependencies = BTreeMap<String, Requirement>;

/// A requirement on a dependency.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Requirement {
    /// The version, such as `1.2`; `None` allows any version.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "as_text")]
    pub version: Option<VersionReq>,
    /// The features to enable.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub features: BTreeSet<String>,
    /// `Some(false)` disables the default features.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_features: Option<bool>,
    /// The crate's own name, if it differs from the name in cells.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub package: Option<String>,
    /// A directory, relative to the notebook.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// A git repository.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub git: Option<String>,
    /// The commit in the repository.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rev: Option<String>,
    /// The branch in the repository; the lock records the commit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
    /// The tag in the repository.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
}

/// An error in a dependency.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{problem}; usage: `{}`", DependencyError::FORM)]
pub struct DependencyError {
    /// What is wrong.
    pub problem: String,
    /// Its place, in bytes of the text.
    pub range: Range<usize>,
}

impl DependencyError {
    /// The syntax of a dependency.
    pub const FORM: &str = ":dep name = \"1.2\"` or `:dep name = { version = \"1.2\", features = [\"a\"] }";

    fn new(problem: impl Into<String>, range: Range<usize>) -> Self {
        Self {
            problem: problem.into(),
            range,
        }
    }
}

impl Dependency {
    /// Parses `name`, `name = "1.2"`, `name = { version = "1.2", ... }`, or a directory: `../name`.
    pub fn parse(text: &str) -> Result<Self, DependencyError> {
        let whole = 0..text.len();
        if text.trim().is_empty() {
            return Err(DependencyError::new("missing crate name", whole));
        }
        let path = text.trim().trim_matches('"');
        if path.starts_with(['.', '/']) {
            return Ok(Self {
                name: String::new(),
                requirement: Requirement {
                    path: Some(path.to_owned()),
                    ..Requirement::default()
                },
            });
        }
        let mut read: Dependencies = match text.contains('=') {
            false => Dependencies::from([(text.trim().to_owned(), Requirement::default())]),
            true => toml::from_str(text).map_err(|error| {
                let problem = error.message().lines().next().unwrap_or_default();
                DependencyError::new(problem, error.span().unwrap_or(whole.clone()))
            })?,
        };
        let (name, requirement) = match (read.pop_first(), read.is_empty()) {
            (Some(one), true) => one,
            _ => return Err(DependencyError::new("expected exactly one crate", whole)),
        };
        let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        if !name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') || !name.chars().all(is_part) {
            return Err(DependencyError::new(format!("`{name}` is not a valid crate name"), whole));
        }
        requirement.check().map_err(|problem| DependencyError::new(problem, whole))?;
        Ok(Self { name, requirement })
    }
}

impl Requirement {
    /// Checks that the fields don't conflict.
    fn check(&self) -> Result<(), String> {
        let revisions = [("rev", &self.rev), ("branch", &self.branch), ("tag", &self.tag)];
        let mut given = revisions.iter().filter(|(_, value)| value.is_some()).map(|(name, _)| *name);
        match (given.next(), given.next()) {
            (Some(one), Some(other)) => Err(format!("`{one}` and `{other}` can't be combined")),
            (Some(one), None) if self.git.is_none() => Err(format!("`{one}` requires `git`")),
            _ if self.git.is_some() && self.path.is_some() => Err("`git` and `path` can't be combined".to_owned()),
            _ => Ok(()),
        }
    }

    /// Returns the crate's own name.
    pub fn package<'a>(&'a self, name: &'a str) -> &'a str {
        self.package.as_deref().unwrap_or(name)
    }

    /// Returns whether a version satisfies the requirement.
    pub fn allows(&self, version: &str) -> bool {
        let version = semver::Version::parse(version).ok();
        let wanted = self.version.as_ref();
        wanted.is_none_or(|wanted| version.is_some_and(|version| wanted.matches(&version)))
    }

    /// Returns the value in a manifest, with the directory `path` for a path dependency.
    pub(super) fn in_manifest(&self, path: Option<&str>) -> Result<toml::Value, toml::ser::Error> {
        let mut written = self.clone();
        written.path = path.map(str::to_owned);
        if written.version.is_none() && written.git.is_none() && written.path.is_none() {
            written.version = Some(VersionReq::STAR);
        }
        toml::Value::try_from(&written)
    }
}

/// The short form for messages: `regex = "1"`.
impl fmt::Display for Dependency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let only_version = Requirement {
            version: self.requirement.version.clone(),
            ..Requirement::default()
        };
        match &self.requirement.version {
            None if self.requirement == only_version => f.write_str(&self.name),
            Some(version) if self.requirement == only_version => {
                write!(f, "{} = \"{}\"", self.name, version.to_string().trim_start_matches('^'))
            }
            _ => write!(f, "{} = {{ ... }}", self.name),
        }
    }
}

fn as_text<S: Serializer>(version: &Option<VersionReq>, serializer: S) -> Result<S::Ok, S::Error> {
    version.as_ref().map(VersionReq::to_string).serialize(serializer)
}

/// A version in a manifest.
struct Version(VersionReq);

impl<'de> Deserialize<'de> for Version {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let parsed = VersionReq::parse(&text).map(Self);
        parsed.map_err(|error| D::Error::custom(format!("`{text}` is not a version: {error}")))
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Table {
    version: Option<Version>,
    #[serde(default)]
    features: BTreeSet<String>,
    #[serde(alias = "default_features")]
    default_features: Option<bool>,
    package: Option<String>,
    path: Option<String>,
    git: Option<String>,
    rev: Option<String>,
    branch: Option<String>,
    tag: Option<String>,
}

impl<'de> Deserialize<'de> for Requirement {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextOrTable;

        impl<'de> Visitor<'de> for TextOrTable {
            type Value = Requirement;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a version or a table")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Requirement, E> {
                let version = Version::deserialize(text.into_deserializer())?.0;
                Ok(Requirement {
                    version: Some(version).filter(|version| *version != VersionReq::STAR),
                    ..Requirement::default()
                })
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Requirement, A::Error> {
                let table = Table::deserialize(MapAccessDeserializer::new(map))?;
                Ok(Requirement {
                    version: table
                        .version
                        .map(|version| version.0)
                        .filter(|version| *version != VersionReq::STAR),
                    features: table.features,
                    default_features: table.default_features.filter(|on| !on),
                    package: table.package,
                    path: table.path,
                    git: table.git,
                    rev: table.rev,
                    branch: table.branch,
                    tag: table.tag,
                })
            }
        }

        deserializer.deserialize_any(TextOrTable)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(text: &str) -> String {
        let Dependency { name, requirement } = Dependency::parse(text).unwrap();
        let path = requirement.path.as_ref().map(|_| "sources/x");
        let value = requirement.in_manifest(path).unwrap();
        toml::to_string(&toml::Table::from_iter([(name, value)]))
            .unwrap()
            .trim_end()
            .to_owned()
    }

    #[test]
    fn parses_the_syntax_of_a_manifest() {
        assert_eq!(manifest("regex"), "[regex]\nversion = \"*\"");
        assert_eq!(manifest("regex=\"1.2\""), "[regex]\nversion = \"^1.2\"");
        assert_eq!(
            manifest("a = { version = \"=1.0.3\", features = [\"y\", \"x\"], default-features = false } # why"),
            "[a]\ndefault-features = false\nfeatures = [\"x\", \"y\"]\nversion = \"=1.0.3\""
        );
        assert_eq!(manifest("a = { path = \"../a\" }"), "[a]\npath = \"sources/x\"");
        assert_eq!(
            manifest("a = { version = \"1\", default_features = false }"),
            "[a]\ndefault-features = false\nversion = \"^1\""
        );
        let directory = Dependency::parse(" ../a ").unwrap();
        assert_eq!(
            (directory.name.as_str(), directory.requirement.path.as_deref()),
            ("", Some("../a"))
        );
        assert_eq!(
            manifest("b = { git = \"https://example.org/b\", rev = \"abc\", package = \"bee\" }"),
            "[b]\ngit = \"https://example.org/b\"\npackage = \"bee\"\nrev = \"abc\""
        );
    }

    #[test]
    fn displays_as_typed() {
        for text in ["regex", "regex = \"1.2\"", "regex = \"=1.2.3\""] {
            assert_eq!(Dependency::parse(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn errors_have_a_place() {
        let error = |text: &str| {
            let error = Dependency::parse(text).unwrap_err();
            (error.problem, text[error.range].to_owned())
        };
        let says = |text: &str, problem: &str, at: &str| {
            let (found, place) = error(text);
            assert!(found.contains(problem), "{text}: {found}");
            assert_eq!(place, at, "{text}: {found}");
        };
        says("", "missing crate name", "");
        says("a = { versio = \"1\" }", "unknown field `versio`", "versio");
        says("a = \"one\"", "`one` is not a version", "\"one\"");
        says("a = { version = \"1\"", "", "");
        says("a = \"1\"\nb = \"1\"", "exactly one crate", "a = \"1\"\nb = \"1\"");
        says("a b = \"1\"", "expected `=`", "");
        says("a = { rev = \"1\" }", "`rev` requires `git`", "a = { rev = \"1\" }");
        says("1a", "not a valid crate name", "1a");
    }

    #[test]
    fn equivalent_requirements_are_equal() {
        let parse = |text: &str| Dependency::parse(text).unwrap().requirement;
        assert_eq!(parse("a = { version = \"1\", default-features = true }"), parse("a = \"1\""));
        let json = serde_json::to_string(&parse("a = { version = \"1\", features = [\"x\"] }")).unwrap();
        assert_eq!(json, "{\"version\":\"^1\",\"features\":[\"x\"]}");
        assert_eq!(
            serde_json::from_str::<Requirement>(&json).unwrap(),
            parse("a = { version = \"1\", features = [\"x\"] }")
        );
    }
}
