use std::collections::BTreeMap;

use serde_json::Value;

use super::input::Bound;
use super::{PipelineError, Ports, Resolver, TaskContext};
use crate::pipeline::parts::{PartsError, is_list, numbered, parts};
use crate::pipeline::plan::{ForEach, instance};
use crate::pipeline::reference::only_name;
use crate::pipeline::yaml::Spanned;
use crate::pipeline::{Source, TaskOutput};
use crate::step::MediaType;

/// A parsed `for_each`: `{ depth: [2, 4] }`, `{ part: clean.rows, rows: 1000 }`.
struct Each<'a> {
    item: &'a str,
    over: &'a Value,
    rows: Option<u64>,
}

/// The item of one instance.
enum Item {
    Value(Value),
    Part(Bound),
}

impl Resolver<'_> {
    /// Adds the instances of a task with `for_each`, or the task itself if its parts are known only after another task has run. Its
    /// outputs are directories with one entry per instance.
    pub(super) fn each(&mut self, place: &TaskContext, at: &Spanned<BTreeMap<String, Value>>) -> Result<Ports, PipelineError> {
        let each = read(place, at)?;
        let over = match each.over {
            Value::String(text) if only_name(text).is_none() => self.input(place, &spanned(at, text))?,
            value => match place.fill(at, value)? {
                Value::Array(items) => return self.list(place, at, &each, items),
                Value::String(text) => self.input(place, &spanned(at, &text))?,
                other => {
                    return Err(place.error(
                        at,
                        format!("`for_each` iterates over a list, a task output or a file, not over {other}"),
                    ));
                }
            },
        };
        match &over.source {
            Source::Pinned(artifact) => {
                let found = parts(&self.runtime.store, artifact, each.rows).map_err(|e| place.error(at, e.to_string()))?;
                let part = |(name, artifact)| (name, Item::Part(Bound::pinned(artifact, over.file.clone())));
                self.instances(place, at, each.item, found.into_iter().map(part).collect())
            }
            Source::Gathered(outputs) if each.rows.is_none() => {
                let part = |(name, output): (&String, &TaskOutput)| {
                    (
                        name.clone(),
                        Item::Part(Bound::made(Source::Output(output.clone()), MediaType::default())),
                    )
                };
                self.instances(place, at, each.item, outputs.iter().map(part).collect())
            }
            Source::Output(output) => self.later(place, at, &each, output.clone(), &over.media_type),
            _ => Err(place.error(at, "`for_each` can't iterate over this input, or `rows` does not apply to it")),
        }
    }

    fn list(
        &mut self,
        place: &TaskContext,
        at: &Spanned<BTreeMap<String, Value>>,
        each: &Each,
        items: Vec<Value>,
    ) -> Result<Ports, PipelineError> {
        if each.rows.is_some() {
            return Err(place.error(at, "`rows` applies only to tables; a list is split into its items"));
        }
        let count = items.len();
        let items = items.into_iter().enumerate();
        let items = items
            .map(|(index, value)| (numbered(index, count), Item::Value(value)))
            .collect();
        self.instances(place, at, each.item, items)
    }

    fn instances(
        &mut self,
        place: &TaskContext,
        at: &Spanned<BTreeMap<String, Value>>,
        item: &str,
        items: Vec<(String, Item)>,
    ) -> Result<Ports, PipelineError> {
        let mut gathered: BTreeMap<String, BTreeMap<String, TaskOutput>> = BTreeMap::new();
        if items.is_empty() {
            return self.nothing(place, at);
        }
        for (part, of) in items {
            let mut one = TaskContext {
                full_name: instance(&place.full_name, &part),
                items: place.items.clone(),
                ..*place
            };
            match of {
                Item::Value(value) => drop(one.items.values.insert(item.to_owned(), value)),
                Item::Part(bound) => drop(one.items.parts.insert(item.to_owned(), bound)),
            }
            for (name, port) in self.task(&one)? {
                let Source::Output(output) = port.source else {
                    let message = format!(
                        "can't collect output `{name}`: it is already a directory of instances, or no task produces it"
                    );
                    return Err(place.error(at, message));
                };
                gathered.entry(name).or_default().insert(part.clone(), output);
            }
        }
        let directory = |outputs| Bound::made(Source::Gathered(outputs), MediaType::new(MediaType::DIRECTORY));
        Ok(gathered
            .into_iter()
            .map(|(name, outputs)| (name, directory(outputs)))
            .collect())
    }

    /// Adds a task without instances. Its outputs are empty directories.
    fn nothing(&mut self, place: &TaskContext, at: &Spanned<BTreeMap<String, Value>>) -> Result<Ports, PipelineError> {
        let names = self.output_names(place)?;
        let directory = self.runtime.store.put_together(&BTreeMap::new());
        let directory = directory.map_err(|e| place.error(at, e.to_string()))?;
        self.empty.push(place.full_name.clone());
        let port = |name| (name, Bound::pinned(directory.clone(), None));
        Ok(names.into_iter().map(port).collect())
    }

    /// Adds a task whose parts are known only after another task has run.
    fn later(
        &mut self,
        place: &TaskContext,
        at: &Spanned<BTreeMap<String, Value>>,
        each: &Each,
        over: TaskOutput,
        media_type: &MediaType,
    ) -> Result<Ports, PipelineError> {
        let is_table = media_type.as_str() == MediaType::TABLE;
        let is_list = is_list(media_type);
        let is_known = is_table || is_list || media_type.as_str() == MediaType::DIRECTORY;
        if !is_known && media_type.as_str() != MediaType::BYTES {
            let message = format!("`for_each` iterates over a list, a directory or a table, but {over} is {media_type}");
            return Err(place.error(at, message));
        }
        if each.rows.is_some() && is_known && !is_table {
            return Err(place.error(at, PartsError::Rows.to_string()));
        }
        if place.task.value.pipeline.is_some() {
            return Err(place.error(at, format!("a `pipeline` task can't iterate over a task output: add a `for_each` over {over} to each task of that pipeline")));
        }
        let mut one = TaskContext {
            full_name: place.full_name.clone(),
            items: place.items.clone(),
            ..*place
        };
        let part = match is_table || is_list {
            true => media_type.clone(),
            false => MediaType::default(),
        };
        one.items.parts.insert(each.item.to_owned(), Bound::made(Source::Part, part));
        let ports = self.task(&one)?;
        if let Some(task) = self.tasks.last_mut() {
            task.for_each = Some(ForEach { over, rows: each.rows });
        }
        let directory = |port: Bound| Bound::made(port.source, MediaType::new(MediaType::DIRECTORY));
        Ok(ports.into_iter().map(|(name, port)| (name, directory(port))).collect())
    }
}

fn read<'a>(place: &TaskContext, at: &'a Spanned<BTreeMap<String, Value>>) -> Result<Each<'a>, PipelineError> {
    let form = || {
        place.error(
            at,
            "invalid `for_each`: write `for_each: { item: [1, 2] }`, `{ part: task.output }` or `{ part: task.table, rows: 1000 }`",
        )
    };
    let (rows, mut items): (Vec<_>, Vec<_>) = match at.value.len() {
        1 => (Vec::new(), at.value.iter().collect()),
        _ => at.value.iter().partition(|(name, _)| *name == "rows"),
    };
    let (Some((item, over)), true) = (items.pop(), items.is_empty()) else {
        return Err(form());
    };
    let rows = match rows.first() {
        None => None,
        Some((_, rows)) => Some(rows.as_u64().filter(|rows| *rows > 0).ok_or_else(form)?),
    };
    Ok(Each { item, over, rows })
}

fn spanned<T>(at: &Spanned<T>, text: &str) -> Spanned<String> {
    Spanned {
        value: text.to_owned(),
        mark: at.mark,
    }
}
