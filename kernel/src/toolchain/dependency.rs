use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Range;

use semver::VersionReq;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, IntoDeserializer, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A crate that cells want to use: what `:dep` says, with the words of a manifest.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Dependency {
    /// The name that cells have for it.
    pub name: String,
    /// Which crate that is.
    pub requirement: Requirement,
}

/// Crates that cells want to use, by name.
pub type Dependencies = BTreeMap<String, Requirement>;

/// What a dependency has to be.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Requirement {
    /// `1.2`; any version where it is absent.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "as_text")]
    pub version: Option<VersionReq>,
    /// Features that are switched on.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub features: BTreeSet<String>,
    /// False where the features that are on by default are left off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_features: Option<bool>,
    /// The crate's own name, where cells have another for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub package: Option<String>,
    /// A directory, relative to the notebook.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// A git repository.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub git: Option<String>,
    /// The commit there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rev: Option<String>,
    /// The branch there; the lock says which commit that was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
    /// The tag there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
}

/// Why a dependency can't be read.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{problem}: write it as `{}`", DependencyError::FORM)]
pub struct DependencyError {
    /// What is wrong.
    pub problem: String,
    /// Where, in bytes of the text.
    pub range: Range<usize>,
}

impl DependencyError {
    /// How a dependency is written.
    pub const FORM: &str = ":dep name = \"1.2\"` or `:dep name = { version = \"1.2\", features = [\"a\"] }";

    fn new(problem: impl Into<String>, range: Range<usize>) -> Self {
        Self {
            problem: problem.into(),
            range,
        }
    }
}

impl Dependency {
    /// Reads `name`, `name = "1.2"` or `name = { version = "1.2", ... }`.
    pub fn parse(text: &str) -> Result<Self, DependencyError> {
        let whole = 0..text.len();
        if text.trim().is_empty() {
            return Err(DependencyError::new("there is no crate", whole));
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
            _ => return Err(DependencyError::new("there is more than one crate", whole)),
        };
        let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        if !name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') || !name.chars().all(is_part) {
            return Err(DependencyError::new(format!("`{name}` can't be the name of a crate"), whole));
        }
        requirement.check().map_err(|problem| DependencyError::new(problem, whole))?;
        Ok(Self { name, requirement })
    }
}

impl Requirement {
    /// What is wrong with what it says together.
    fn check(&self) -> Result<(), String> {
        let revisions = [("rev", &self.rev), ("branch", &self.branch), ("tag", &self.tag)];
        let mut given = revisions.iter().filter(|(_, value)| value.is_some()).map(|(name, _)| *name);
        match (given.next(), given.next()) {
            (Some(one), Some(other)) => Err(format!("there is both `{one}` and `{other}`")),
            (Some(one), None) if self.git.is_none() => Err(format!("there is `{one}` and no `git`")),
            _ if self.git.is_some() && self.path.is_some() => Err("there is both `git` and `path`".to_owned()),
            _ => Ok(()),
        }
    }

    /// The crate's own name.
    pub fn package<'a>(&'a self, name: &'a str) -> &'a str {
        self.package.as_deref().unwrap_or(name)
    }

    /// Whether this version will do.
    pub fn allows(&self, version: &str) -> bool {
        let version = semver::Version::parse(version).ok();
        let wanted = self.version.as_ref();
        wanted.is_none_or(|wanted| version.is_some_and(|version| wanted.matches(&version)))
    }

    /// The value in a manifest, with the directory `path` if it is one.
    pub(super) fn in_manifest(&self, path: Option<&str>) -> Result<toml::Value, toml::ser::Error> {
        let mut written = self.clone();
        written.path = path.map(str::to_owned);
        if written.version.is_none() && written.git.is_none() && written.path.is_none() {
            written.version = Some(VersionReq::STAR);
        }
        toml::Value::try_from(&written)
    }
}

/// As it was typed, for people: `regex = "1"`.
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
        parsed.map_err(|error| D::Error::custom(format!("`{text}` is no version: {error}")))
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Table {
    version: Option<Version>,
    #[serde(default)]
    features: BTreeSet<String>,
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
    fn reads_what_a_manifest_can_say() {
        assert_eq!(manifest("regex"), "[regex]\nversion = \"*\"");
        assert_eq!(manifest("regex=\"1.2\""), "[regex]\nversion = \"^1.2\"");
        assert_eq!(
            manifest("a = { version = \"=1.0.3\", features = [\"y\", \"x\"], default-features = false } # why"),
            "[a]\ndefault-features = false\nfeatures = [\"x\", \"y\"]\nversion = \"=1.0.3\""
        );
        assert_eq!(manifest("a = { path = \"../a\" }"), "[a]\npath = \"sources/x\"");
        assert_eq!(
            manifest("b = { git = \"https://example.org/b\", rev = \"abc\", package = \"bee\" }"),
            "[b]\ngit = \"https://example.org/b\"\npackage = \"bee\"\nrev = \"abc\""
        );
    }

    #[test]
    fn says_the_same_as_it_was_typed() {
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
        says("", "there is no crate", "");
        says("a = { versio = \"1\" }", "unknown field `versio`", "versio");
        says("a = \"one\"", "`one` is no version", "\"one\"");
        says("a = { version = \"1\"", "", "");
        says("a = \"1\"\nb = \"1\"", "more than one crate", "a = \"1\"\nb = \"1\"");
        says("a b = \"1\"", "expected `=`", "");
        says("a = { rev = \"1\" }", "`rev` and no `git`", "a = { rev = \"1\" }");
        says("1a", "can't be the name", "1a");
    }

    #[test]
    fn equal_requirements_are_kept_equal() {
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
