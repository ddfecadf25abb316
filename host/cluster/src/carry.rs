//! Execution of a plan in pods.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use lockstep_runtime::digest::Digest;
use lockstep_runtime::pipeline::{Carrier, Execution, ExpectedMemory, Plan, TaskError};
use lockstep_runtime::run::{Ran, Reuse, Run, Runtime};
use lockstep_runtime::sandbox::{Interrupt, Stream};
use lockstep_runtime::step::{Limits, OwnLimits};
use lockstep_view::error::{Error, Result};
use lockstep_view::needs::needs_of_plan;

use super::group::{Group, News};
use super::job::{JobTasks, Settings, job};
use super::{Cluster, follow};

/// A task with a larger expected memory gets a separate pod: 1 GiB.
const LARGE: u64 = 1 << 30;
/// Time to collect instances of a task that become ready together, to run them as one indexed Job.
const TOGETHER: Duration = Duration::from_millis(50);
/// Maximum time until a pod's record appears in the shared store.
const ARRIVAL: Duration = Duration::from_secs(180);

/// A plan that runs in pods.
pub struct Carried<'a> {
    cluster: &'a Cluster,
    runtime: &'a Runtime,
    plan: &'a Plan,
    digest: Digest,
    settings: &'a Settings,
    execution: &'a Execution,
    owner: OwnerReference,
    /// Expected memory of each task of the plan in bytes.
    memory: Vec<u64>,
    /// Indices of the plan's tasks, by name.
    places: HashMap<&'a str, usize>,
    /// Assignment of tasks to shared pods, if enabled.
    sharing: Option<Sharing>,
    /// Jobs of shared pods.
    shared: Mutex<BTreeMap<usize, Arc<Group>>>,
    /// Instances being collected for a Job, by task.
    gathering: Mutex<BTreeMap<String, Gathering>>,
}

/// Assignment of tasks to pods.
struct Sharing {
    /// Index of the pod of each task.
    pods: Vec<usize>,
    /// Tasks of each pod.
    tasks: Vec<BTreeSet<String>>,
}

/// Instances that are ready together.
#[derive(Default)]
struct Gathering {
    group: Arc<Group>,
    runs: Vec<(String, Run, OwnLimits)>,
}

impl<'a> Carried<'a> {
    /// Registers `plan` in the cluster.
    pub fn new(
        cluster: &'a Cluster,
        runtime: &'a Runtime,
        plan: &'a Plan,
        settings: &'a Settings,
        execution: &'a Execution,
    ) -> Result<Self> {
        let written = plan.write()?;
        let digest = runtime.store.put(written)?;
        runtime.store.share([digest])?;
        let owner = cluster.announce(&digest, &plan.name, settings)?;
        let mut expected = ExpectedMemory::new(runtime);
        let memory: Vec<u64> = plan.tasks().iter().map(|task| expected.of(task)).collect();
        let large = settings.memory.unwrap_or(LARGE);
        let sharing = settings.fused.then(|| Sharing::of(plan, |place| memory[place] > large));
        let places = plan.tasks().iter().enumerate();
        Ok(Self {
            cluster,
            runtime,
            plan,
            digest,
            settings,
            execution,
            owner,
            memory,
            places: places.map(|(place, task)| (task.name.as_str(), place)).collect(),
            sharing,
            shared: Mutex::default(),
            gathering: Mutex::default(),
        })
    }

    /// Returns the Job of `task`. Submits it for the first of its tasks.
    fn group(&self, task: &str, run: &Run, limits: &Limits) -> Result<Arc<Group>> {
        match self.pod(task) {
            Some((pod, tasks)) => self.together(pod, tasks),
            None => self.apart(task, run, limits),
        }
    }

    /// Returns the shared pod of `task`, and all its tasks.
    fn pod(&self, task: &str) -> Option<(usize, &BTreeSet<String>)> {
        let sharing = self.sharing.as_ref()?;
        let pod = sharing.pods[self.place(task)?];
        Some((pod, &sharing.tasks[pod]))
    }

    /// Returns the running shared Job that includes `task`.
    fn at_work(&self, task: &str) -> Option<Arc<Group>> {
        lock(&self.shared).get(&self.pod(task)?.0).cloned()
    }

    fn together(&self, pod: usize, tasks: &BTreeSet<String>) -> Result<Arc<Group>> {
        let mut shared = lock(&self.shared);
        if let Some(group) = shared.get(&pod) {
            return Ok(group.clone());
        }
        let part = self
            .plan
            .up_to(|task| tasks.contains(&task.name))
            .within(&self.execution.limits);
        let group = Arc::<Group>::default();
        self.submit(&part, &tasks.iter().cloned().collect::<Vec<_>>(), false, &group)?;
        shared.insert(pod, group.clone());
        Ok(group)
    }

    fn apart(&self, task: &str, run: &Run, limits: &Limits) -> Result<Arc<Group>> {
        let own = (task.to_owned(), run.clone(), OwnLimits::from(limits));
        let Some((of, _)) = task.split_once('[') else {
            let group = Arc::<Group>::default();
            self.submit(&Plan::of_runs(task, [own]), &[task.to_owned()], false, &group)?;
            return Ok(group);
        };
        let mut gathering = lock(&self.gathering);
        let gathered = gathering.entry(of.to_owned()).or_default();
        let (group, is_first) = (gathered.group.clone(), gathered.runs.is_empty());
        gathered.runs.push(own);
        drop(gathering);
        if is_first {
            std::thread::sleep(TOGETHER);
            let Gathering { mut runs, .. } = lock(&self.gathering).remove(of).unwrap_or_default();
            runs.sort_by(|a, b| a.0.cmp(&b.0));
            let names: Vec<String> = runs.iter().map(|(name, ..)| name.clone()).collect();
            let submitted = self.submit(&Plan::of_runs(of, runs), &names, names.len() > 1, &group);
            // the other instances wait for the same Job
            submitted.inspect_err(|error| group.end(Err(error.to_string())))?;
        }
        Ok(group)
    }

    /// Uploads the artifacts that `part` needs, and submits its Job.
    fn submit(&self, part: &Plan, tasks: &[String], indexed: bool, group: &Arc<Group>) -> Result<()> {
        let store = &self.runtime.store;
        let digest = store.put(part.write()?)?;
        let needs = needs_of_plan(store, part)?;
        store.share(needs.into_keys().chain([digest]))?;
        let places = || part.tasks().iter().filter_map(|task| self.place(&task.name));
        let needed = || places().map(|place| self.memory[place]);
        let most = needed().max().unwrap_or_default();
        // small tasks that share a pod run concurrently
        let memory = if indexed {
            most
        } else {
            most.max(needed().sum::<u64>().min(LARGE))
        };
        let work = JobTasks {
            plan: &self.digest,
            part: &digest,
            tasks,
            indexed,
            memory,
        };
        let job = job(self.settings, &self.owner, &work)?;
        let (jobs, pods) = (self.cluster.jobs(), self.cluster.pods());
        self.cluster.threads.block_on(self.cluster.submit(&job))?;
        let name = job.metadata.name.unwrap_or_default();
        self.cluster.threads.spawn(follow::follow(jobs, pods, name, group.clone()));
        Ok(())
    }

    /// Returns the index of a task, also for an instance of it.
    fn place(&self, task: &str) -> Option<usize> {
        let of = |name: &str| self.places.get(name).copied();
        of(task).or_else(|| of(task.rsplit_once('[')?.0))
    }

    /// Waits for a pod's record to appear in the shared store.
    fn land(&self, ran: Ran, interrupt: &Interrupt) -> Result<Ran, TaskError> {
        let start = Instant::now();
        loop {
            if self.runtime.record(&ran.digest)?.is_some() {
                return Ok(ran);
            }
            if start.elapsed() > ARRIVAL || interrupt.is_triggered() {
                let why = format!("record {} of a pod is missing in the shared store", ran.digest.short());
                return Err(TaskError::Elsewhere(why));
            }
            std::thread::sleep(Duration::from_millis(500));
        }
    }
}

impl Carrier for Carried<'_> {
    fn carry_out(
        &self,
        task: &str,
        run: &Run,
        limits: &Limits,
        interrupt: &Interrupt,
        log: &mut dyn FnMut(Stream, &[u8]),
    ) -> Result<Ran, TaskError> {
        let group = match self.at_work(task) {
            Some(group) => group,
            None => {
                if self.execution.reuse == Reuse::Records
                    && let Some(ran) = self.runtime.recall(run.key()?, limits)?
                {
                    self.runtime.replay_log(&ran.record, log)?;
                    return Ok(ran);
                }
                self.group(task, run, limits).map_err(elsewhere)?
            }
        };
        loop {
            match group.next(task) {
                News::Log(pieces) => pieces.iter().for_each(|(stream, bytes)| log(*stream, bytes)),
                News::Ran(ran) => return self.land(*ran, interrupt),
                News::Over(how) => {
                    // the log may be lost although the record exists
                    let found = self.runtime.lookup(run.key()?, limits)?;
                    let why = how.err().unwrap_or_else(|| "its Job ended without a record".to_owned());
                    return found.ok_or(TaskError::Elsewhere(why));
                }
                News::Nothing if interrupt.is_triggered() => {
                    return Err(TaskError::Elsewhere("detached; the Job continues in the cluster".to_owned()));
                }
                News::Nothing => {}
            }
        }
    }
}

fn elsewhere(error: Error) -> TaskError {
    TaskError::Elsewhere(error.to_string())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Sharing {
    /// Gives each large task a separate pod. Other tasks share one if they depend on the same large tasks. So when one of them is ready, all
    /// dependencies outside the pod are done.
    fn of(plan: &Plan, is_large: impl Fn(usize) -> bool) -> Self {
        let mut after: HashMap<&str, BTreeSet<&str>> = HashMap::new();
        let mut known: BTreeMap<(BTreeSet<&str>, Option<&str>), usize> = BTreeMap::new();
        let (mut pods, mut tasks) = (Vec::new(), Vec::new());
        for (place, task) in plan.tasks().iter().enumerate() {
            let name = task.name.as_str();
            let waits_for = task.waits_for().filter_map(|on| after.get(on));
            let mut large: BTreeSet<&str> = waits_for.flatten().copied().collect();
            let alone = is_large(place).then_some(name);
            let pod = *known.entry((large.clone(), alone)).or_insert_with(|| {
                tasks.push(BTreeSet::new());
                tasks.len() - 1
            });
            tasks[pod].insert(name.to_owned());
            pods.push(pod);
            large.extend(alone);
            after.insert(name, large);
        }
        Self { pods, tasks }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(tasks: &[(&str, &[&str])]) -> Plan {
        let module = Digest::of("module");
        let task = |(name, on): &(&str, &[&str])| {
            let wires: BTreeMap<_, _> = on
                .iter()
                .map(|on| {
                    (
                        on.to_string(),
                        serde_json::json!({ "from": { "output": { "task": on, "output": "o" } } }),
                    )
                })
                .collect();
            serde_json::json!({
                "name": name,
                "run": { "module": module, "entry": { "kind": "step", "name": "s", "parameters": {} }, "inputs": {}, "outputs": {}, "seed": 0 },
                "wires": wires,
            })
        };
        let json = serde_json::json!({ "version": 1, "name": "p", "tasks": tasks.iter().map(task).collect::<Vec<_>>() });
        Plan::read(json.to_string().as_bytes()).unwrap()
    }

    fn shared(tasks: &[(&str, &[&str])]) -> Vec<String> {
        let Sharing { pods, tasks } = Sharing::of(&plan(tasks), |place| tasks[place].0.starts_with("large"));
        pods.iter()
            .map(|pod| tasks[*pod].iter().cloned().collect::<Vec<_>>().join("+"))
            .collect()
    }

    #[test]
    fn small_tasks_share_one_pod() {
        assert_eq!(shared(&[("a", &[]), ("b", &["a"]), ("c", &["a"])]), ["a+b+c"; 3]);
    }

    #[test]
    fn a_large_task_has_a_pod_of_its_own_and_parts_those_before_and_after() {
        let tasks: &[(&str, &[&str])] = &[
            ("a", &[]),
            ("large", &["a"]),
            ("b", &["large"]),
            ("c", &["b", "a"]),
            ("d", &["a"]),
        ];
        assert_eq!(shared(tasks), ["a+d", "large", "b+c", "b+c", "a+d"]);
    }

    #[test]
    fn a_part_of_a_plan_has_all_that_leads_to_it() {
        let plan = plan(&[("a", &[]), ("b", &["a"]), ("c", &["b"]), ("d", &[])]);
        let part = plan.up_to(|task| task.name == "b").within(&Limits::default());
        let names: Vec<&str> = part.tasks().iter().map(|task| task.name.as_str()).collect();
        assert_eq!(names, ["a", "b"]);
        assert_eq!(part.tasks()[0].limits.memory, Some(Limits::default().memory));
    }
}
