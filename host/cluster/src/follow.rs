//! Watches a Job until its end, with its pods and their logs.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::{AsyncBufReadExt, StreamExt, TryStreamExt};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ContainerStateTerminated, Pod};
use kube::Api;
use kube::api::LogParams;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, watcher};
use tokio::task::JoinHandle;

use super::group::Group;
use super::job::CONTAINER;
use super::pod::{status, waiting};

/// Time to wait for the remaining logs after the end of a Job.
const REST: Duration = Duration::from_secs(20);
/// Delay before an interrupted log is requested again.
const AGAIN: Duration = Duration::from_millis(300);

/// Reports the events of `job` to `group` until it ends. Retries failed requests.
pub async fn follow(jobs: Api<Job>, pods: Api<Pod>, job: String, group: Arc<Group>) {
    let mut followed = Followed {
        pods: pods.clone(),
        group: group.clone(),
        logs: BTreeMap::new(),
        said: BTreeMap::new(),
    };
    let own = watcher::Config::default().labels(&format!("batch.kubernetes.io/job-name={job}"));
    let mut pods = watcher(pods, own).default_backoff().boxed();
    let own = watcher::Config::default().fields(&format!("metadata.name={job}"));
    let mut jobs = watcher(jobs, own).default_backoff().boxed();
    let (mut listed, mut is_told) = (true, false);
    let how = loop {
        tokio::select! {
            pod = pods.next() => match pod {
                Some(Ok(watcher::Event::Apply(pod) | watcher::Event::InitApply(pod))) => followed.pod(&pod),
                Some(Err(error)) if !is_told => if let Some(why) = refused(&error) {
                    is_told = true;
                    followed.group.note(format!("logs of job {job} are not shown: {why}"));
                },
                _ => {}
            },
            job = jobs.next() => match job {
                Some(Ok(watcher::Event::Init)) => listed = false,
                Some(Ok(watcher::Event::Apply(job) | watcher::Event::InitApply(job))) => {
                    listed = true;
                    if let Some(how) = ended(&job) {
                        break how;
                    }
                }
                Some(Ok(watcher::Event::InitDone)) if listed => {}
                Some(Ok(watcher::Event::Delete(_) | watcher::Event::InitDone)) => break Err("its Job was deleted".to_owned()),
                Some(Err(error)) => if let Some(why) = refused(&error) {
                    break Err(why);
                },
                None => break Err("the watch of its Job ended".to_owned()),
            },
        }
    };
    // handle a last pod event that arrives with the end of the Job
    if let Ok(Some(Ok(watcher::Event::Apply(pod)))) = tokio::time::timeout(AGAIN, pods.next()).await {
        followed.pod(&pod);
    }
    for (_, log) in std::mem::take(&mut followed.logs) {
        let _ = tokio::time::timeout(REST, log).await;
    }
    group.end(how);
}

/// Returns which permission is missing, if the cluster does not allow a watch. Other errors pass, and the watch is tried again.
fn refused(error: &watcher::Error) -> Option<String> {
    let status = match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status))
        | watcher::Error::WatchFailed(kube::Error::Api(status))
        | watcher::Error::WatchError(status) => status,
        _ => return None,
    };
    // the message has the verb, the resource and the namespace
    let hint = "the Role lockstep-run of deploy/kustomize has the required permissions";
    matches!(status.code, 401 | 403).then(|| format!("the cluster refused the request: {}; {hint}", status.message))
}

/// Returns the result of a Job, if it has ended.
pub fn ended(job: &Job) -> Option<Result<(), String>> {
    let conditions = job.status.as_ref()?.conditions.as_ref()?;
    conditions
        .iter()
        .filter(|condition| condition.status == "True")
        .find_map(|condition| match condition.type_.as_str() {
            "Complete" => Some(Ok(())),
            "Failed" => {
                let why = condition.message.clone().or_else(|| condition.reason.clone());
                Some(Err(format!("its Job failed: {}", why.unwrap_or_default())))
            }
            _ => None,
        })
}

struct Followed {
    pods: Api<Pod>,
    group: Arc<Group>,
    /// Readers of logs, by pod.
    logs: BTreeMap<String, JoinHandle<()>>,
    /// Last note about each pod.
    said: BTreeMap<String, String>,
}

impl Followed {
    fn pod(&mut self, pod: &Pod) {
        let Some(name) = pod.metadata.name.clone() else { return };
        if let Some(why) = waiting(pod, CONTAINER) {
            self.say(name, why);
            return;
        }
        let state = status(pod, CONTAINER).and_then(|status| status.state.as_ref());
        let Some(state) = state.filter(|state| state.waiting.is_none()) else {
            return;
        };
        if let Some(why) = state.terminated.as_ref().and_then(|ended| terminated(&name, ended)) {
            self.group.fail(why);
        }
        let (pods, group) = (self.pods.clone(), self.group.clone());
        self.logs
            .entry(name.clone())
            .or_insert_with(|| tokio::spawn(read_log(pods, name, group)));
    }

    fn say(&mut self, pod: String, why: String) {
        if self.said.get(&pod) != Some(&why) {
            self.group.note(format!("pod {pod} is waiting: {why}"));
            self.said.insert(pod, why);
        }
    }
}

/// Returns why a container failed, if it could not report that itself.
fn terminated(pod: &str, ended: &ContainerStateTerminated) -> Option<String> {
    let message = ended.message.as_deref().unwrap_or_default();
    match ended.reason.as_deref().unwrap_or_default() {
        _ if ended.exit_code == 0 => None,
        "OOMKilled" => Some(format!(
            "pod {pod} ran out of memory; raise `limits: {{ memory: ... }}` of the task, or --pod-memory"
        )),
        "Error" if message.is_empty() => None,
        reason => Some(format!("pod {pod} exited with {}: {reason}: {message}", ended.exit_code)),
    }
}

/// Reads a pod's log to its last line. Reads an interrupted log again from the start, and skips lines seen before.
async fn read_log(pods: Api<Pod>, name: String, group: Arc<Group>) {
    let follow = LogParams {
        container: Some(CONTAINER.to_owned()),
        follow: true,
        ..LogParams::default()
    };
    let mut seen = 0;
    loop {
        let before = pods.get_opt(&name).await;
        if let Ok(stream) = pods.log_stream(&name, &follow).await {
            let mut lines = stream.lines();
            let mut at = 0;
            while let Ok(Some(line)) = lines.try_next().await {
                at += 1;
                if at > seen {
                    seen = at;
                    if group.take(&line) {
                        return;
                    }
                }
            }
        }
        let is_over = match &before {
            Ok(Some(pod)) => status(pod, CONTAINER)
                .and_then(|status| status.state.as_ref())
                .is_some_and(|state| state.terminated.is_some()),
            Ok(None) => true,
            Err(_) => false,
        };
        if is_over {
            return;
        }
        tokio::time::sleep(AGAIN).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_watch_names_the_missing_permission() {
        let message = "jobs.batch is forbidden: User \"ann\" cannot watch resource \"jobs\" in API group \"batch\" in the namespace \"a\"";
        let status = |code| {
            Box::new(kube::core::Status {
                code,
                message: message.to_owned(),
                ..kube::core::Status::default()
            })
        };
        let why = refused(&watcher::Error::WatchStartFailed(kube::Error::Api(status(403)))).unwrap();
        assert!(why.contains(message) && why.contains("lockstep-run"), "{why}");
        assert!(refused(&watcher::Error::WatchError(status(403))).is_some());
        // an expired resource version, after which the watcher lists again
        assert_eq!(refused(&watcher::Error::WatchError(status(410))), None);
        assert_eq!(refused(&watcher::Error::NoResourceVersion), None);
    }
}
