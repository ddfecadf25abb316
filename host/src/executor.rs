//! Executes runs and plans: here, on a host or in a cluster.

use lockstep_client::Remote;
use lockstep_cluster::{Carried, Cluster, Settings};
use lockstep_runtime::digest::Digest;
use lockstep_runtime::pipeline::{End, Event, Executed, Execution, Plan, execute, execute_by};
use lockstep_runtime::run::{Ran, Run, Runtime};
use lockstep_runtime::sandbox::{Interrupt, Stream};
use lockstep_runtime::step::Artifact;
use lockstep_view::error::{Error, Kind, Result};
use lockstep_view::logs::Logs;

/// Where runs are executed.
pub enum Backend {
    /// In this process.
    Here,
    /// On a host, which `--host` names.
    Host(Remote),
    /// In pods.
    Cluster(Cluster, Box<Settings>),
}

/// Executes runs and plans.
pub struct Executor<'a> {
    pub backend: Backend,
    pub runtime: &'a Runtime,
    pub execution: Execution,
    pub interrupt: &'a Interrupt,
}

impl Executor<'_> {
    /// Executes `run`, and shows its output.
    pub fn run(&self, run: &Run, json: bool) -> Result<Ran> {
        let Self {
            runtime,
            execution,
            interrupt,
            ..
        } = self;
        if let Backend::Cluster(..) = &self.backend {
            return self.run_in_cluster(run, json);
        }
        let title = run.entry.title();
        let mut logs = Logs::of_run(json);
        logs.start(&title);
        let mut log = |stream: Stream, bytes: &[u8]| logs.write(&title, stream, bytes);
        let (reuse, limits) = (execution.reuse, &execution.limits);
        let ran = match &self.backend {
            Backend::Host(remote) => remote.run(&runtime.store, run, reuse, limits, interrupt, &mut log),
            _ => runtime.run(run, reuse, limits, interrupt, &mut log).map_err(Error::from),
        };
        logs.finish(&title);
        ran
    }

    /// Executes a run in a cluster, as the only task of a plan.
    fn run_in_cluster(&self, run: &Run, json: bool) -> Result<Ran> {
        let plan = Plan::of_run(&run.entry.title(), run.clone());
        let executed = self.plan(&plan, Logs::of_tasks(&plan.name, 1, json), true)?;
        match executed.tasks.into_iter().next().map(|done| done.end) {
            Some(End::Ran(ran)) => {
                self.forget(&plan.digest()?);
                Ok(*ran)
            }
            Some(End::Error(error)) => Err(error.into()),
            Some(End::Skipped(_) | End::Empty | End::NotStarted) | None => Err(detached(&plan.digest()?)),
        }
    }

    /// Executes `plan` and shows its progress in `logs`, and the output of its tasks if `told`.
    pub fn plan(&self, plan: &Plan, mut logs: Logs, told: bool) -> Result<Executed> {
        let mut on = |event: Event| match event {
            Event::Started { task } => logs.start(task),
            Event::Expanded { task, count } => logs.expand(task, count),
            Event::Log { .. } | Event::Retrying { .. } if !told => {}
            Event::Log { task, stream, bytes } => logs.write(task, stream, bytes),
            Event::Retrying { task, because, left } => {
                logs.note(&format!("{task} {because}; retrying, at most {left} times"));
            }
            Event::Finished { done } => {
                logs.finish(&done.task);
                logs.advance();
            }
        };
        let executed = self.watched(plan, &mut on);
        logs.end();
        executed
    }

    /// Executes `plan`, and calls `on` with each event.
    pub fn watched(&self, plan: &Plan, on: &mut (dyn FnMut(Event) + Send)) -> Result<Executed> {
        let Self {
            runtime,
            execution,
            interrupt,
            ..
        } = self;
        match &self.backend {
            Backend::Here => Ok(execute(runtime, plan, execution, interrupt, on)?),
            Backend::Host(remote) => remote.execute(&runtime.store, plan, execution, interrupt, on),
            Backend::Cluster(cluster, settings) => {
                let carried = Carried::new(cluster, runtime, plan, settings, execution)?;
                Ok(execute_by(Some(&carried), runtime, plan, execution, interrupt, on)?)
            }
        }
    }

    /// Completes a plan's execution that ended with `ended`. In a cluster, deletes the Jobs of a plan that succeeded, and reports that
    /// an interrupted one continues.
    pub fn complete(&self, plan: &Plan, ended: Result<()>) -> Result<()> {
        let Backend::Cluster(..) = &self.backend else {
            return ended;
        };
        let digest = plan.digest()?;
        match ended {
            Err(_) if self.interrupt.is_triggered() => Err(detached(&digest)),
            Err(error) => Err(error),
            Ok(()) => {
                self.forget(&digest);
                Ok(())
            }
        }
    }

    /// Fetches an artifact that a host has, and the local store lacks.
    pub fn fetch(&self, artifact: &Artifact) -> Result<()> {
        match &self.backend {
            Backend::Host(remote) => remote.take(&self.runtime.store, artifact),
            Backend::Here | Backend::Cluster(..) => Ok(()),
        }
    }

    /// Deletes the Jobs of a plan. A failure is only reported: the results are complete.
    fn forget(&self, plan: &Digest) {
        if let Backend::Cluster(cluster, _) = &self.backend
            && let Err(error) = cluster.delete(plan)
        {
            anstream::eprintln!("can't delete the Jobs of plan {}: {}", plan.short(), error.message());
        }
    }
}

/// Returns the error for a plan that the cluster continues after an interrupt.
fn detached(plan: &Digest) -> Error {
    let short = plan.short();
    Error::new(Kind::Interrupted, "detached: started tasks continue in the cluster").hint(format_args!(
        "`lockstep attach {short}` reattaches, `lockstep attach {short} --cancel` cancels it"
    ))
}
