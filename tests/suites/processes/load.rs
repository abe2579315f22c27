//! Writers and readers that go on while things happen to the nodes.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chartmesh_tests::cluster::Cluster;
use chartmesh_tests::history::{
    Evidence, Instant, NodeName, Operation, Recorder, Register, Told, Wish,
};
use chartmesh_tests::http::Ask;
use chartmesh_tests::invariants;
use chartmesh_tests::witness;
use chartmesh_tests::writer::{Run, Writer};
use tokio::task::JoinSet;
use tokio::time::sleep;

const WRITERS: u64 = 32;
const REGISTERS: usize = 24;
/// A writer that has heard nothing for so long asks another node.
const PATIENCE: Duration = Duration::from_secs(2);
const BETWEEN_READS: Duration = Duration::from_millis(10);

/// Writers and readers at work.
pub(crate) struct Load {
    run: Run,
    reads: Arc<Mutex<Vec<Read>>>,
    tasks: JoinSet<()>,
}

/// A read at one node.
#[derive(Clone, Debug)]
pub(crate) struct Read {
    pub(crate) node: NodeName,
    pub(crate) asked: Instant,
    pub(crate) answered: Instant,
    /// What was wrong with the answer, if anything.
    pub(crate) refused: Option<String>,
}

impl Load {
    /// Sets writers and one reader per node to work. Marks begin with `name`.
    pub(crate) fn begin(cluster: &Cluster, name: &str) -> Self {
        let begun = tokio::time::Instant::now();
        let run = Run {
            recorder: Recorder::default(),
            stop: Arc::new(AtomicBool::new(false)),
            now: Arc::new(move || begun.elapsed()),
            registers: REGISTERS,
            perseverance: Duration::from_secs(30),
            pause: Duration::from_millis(40),
        };
        let mut load = Self { run, reads: Arc::default(), tasks: JoinSet::new() };
        for number in 0..WRITERS {
            let ways = cluster.clients().into_iter();
            let ways = ways.map(|(name, client)| (name, client.with_patience(PATIENCE))).collect();
            let writer = Writer::new(&format!("{name}-{number}"), number, load.run.clone(), ways);
            load.tasks.spawn(writer.go_on());
        }
        for node in 0..cluster.size() {
            load.read_at(cluster, node);
        }
        load
    }

    /// The time since the load began.
    pub(crate) fn now(&self) -> Instant {
        (self.run.now)()
    }

    /// Waits until a write is accepted that was asked for after `instant`.
    pub(crate) async fn accepts_after(&self, instant: Instant) {
        while !self.operations().iter().any(|done| done.asked > instant && is_accepted_write(done))
        {
            sleep(Duration::from_millis(50)).await;
            assert!(
                self.now() - instant < Duration::from_secs(60),
                "no write is accepted any more"
            );
        }
    }

    pub(crate) fn operations(&self) -> Vec<Operation> {
        self.run.recorder.operations()
    }

    pub(crate) fn reads(&self) -> Vec<Read> {
        self.reads.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Ends it and asserts that every invariant holds of what was seen.
    pub(crate) async fn end(self, cluster: &Cluster) -> (Vec<Operation>, Vec<Read>) {
        self.run.stop.store(true, Ordering::Relaxed);
        let reads = self.reads();
        self.tasks.join_all().await;
        look_for_names(&self.run, cluster).await;
        let registers: Vec<Register> = self.run.registers().collect();
        let patience = Duration::from_secs(30);
        let nodes = witness::testify(&mut cluster.clients(), &registers, patience).await.unwrap();
        let operations = self.run.recorder.operations();
        let evidence = Evidence { operations: operations.clone(), restarts: Vec::new(), nodes };
        let violations = invariants::violations(&evidence);
        assert!(violations.is_empty(), "{violations:#?}");
        (operations, reads)
    }

    fn read_at(&mut self, cluster: &Cluster, node: usize) {
        let name = cluster.name(node).clone();
        let mut client = cluster.client(node).with_patience(PATIENCE);
        let (run, reads) = (self.run.clone(), Arc::clone(&self.reads));
        let register = run.registers().next().expect("there are registers");
        self.tasks.spawn(async move {
            while !run.stop.load(Ordering::Relaxed) {
                let asked = (run.now)();
                let refused = match client.ask(Ask::get(format!("/fhir/{}", register.0))).await {
                    Ok(answer) if matches!(answer.status.as_u16(), 200 | 404) => None,
                    Ok(answer) => Some(answer.status.to_string()),
                    Err(error) => Some(error.to_string()),
                };
                let read = Read { node: name.clone(), asked, answered: (run.now)(), refused };
                reads.lock().unwrap_or_else(PoisonError::into_inner).push(read);
                sleep(BETWEEN_READS).await;
            }
        });
    }
}

/// Each name that anybody wanted stands once, at whatever node it is looked for.
async fn look_for_names(run: &Run, cluster: &Cluster) {
    let names = run.recorder.names();
    let run = Run { stop: Arc::default(), ..run.clone() };
    for (node, way) in cluster.clients().into_iter().enumerate() {
        let mut writer = Writer::new(&format!("last-{node}"), 0, run.clone(), vec![way]);
        for name in &names {
            writer.fulfil(Wish::CreateOnce(name.clone())).await;
        }
    }
}

pub(crate) fn is_accepted_write(operation: &Operation) -> bool {
    matches!(operation.told(), Some(Told::Written(_) | Told::Stands { created: true, .. }))
}

/// The longest time without an accepted write, of all that begin before `until` and end after
/// `from`.
pub(crate) fn longest_silence(operations: &[Operation], from: Instant, until: Instant) -> Duration {
    let accepted = operations.iter().filter(|operation| is_accepted_write(operation));
    let mut instants: Vec<Instant> = accepted.map(Operation::deadline).collect();
    instants.sort();
    let silences = instants.windows(2).filter(|pair| pair[1] >= from && pair[0] <= until);
    silences.map(|pair| pair[1] - pair[0]).max().unwrap_or_default()
}
