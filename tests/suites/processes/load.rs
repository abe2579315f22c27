//! Writers and readers that go on while things happen to the nodes.

use std::collections::BTreeMap;
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
use chartmesh_tests::writer::{Field, Run, Writer};
use tokio::task::JoinSet;
use tokio::time::sleep;

/// Over all regions.
const WRITERS: usize = 32;
const REGISTERS: usize = 24;
/// Clients that write at all nodes of a mesh of several regions, in registers of their own.
const ROVERS: usize = 4;
const SHARED: usize = 6;
/// A writer that has heard nothing for so long asks another node.
const PATIENCE: Duration = Duration::from_secs(2);
/// In a mesh a write may wait until its node is isolated.
const MESH_PATIENCE: Duration = Duration::from_secs(8);
/// How long a writer rests after a write.
const PACE: Duration = Duration::from_millis(40);
const BETWEEN_READS: Duration = Duration::from_millis(10);

/// Writers and readers at work.
pub(crate) struct Load {
    run: Run,
    /// What is written: in each region, and in all.
    fields: BTreeMap<String, Field>,
    shared: Field,
    lost_disks: Vec<(NodeName, Instant)>,
    restarts: Vec<(NodeName, Instant)>,
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
        Self::begin_at_pace(cluster, name, PACE)
    }

    /// The same, with writers that rest for so long after each write.
    pub(crate) fn begin_at_pace(cluster: &Cluster, name: &str, pause: Duration) -> Self {
        let begun = tokio::time::Instant::now();
        let run = Run {
            recorder: Recorder::default(),
            stop: Arc::new(AtomicBool::new(false)),
            now: Arc::new(move || begun.elapsed()),
            perseverance: Duration::from_secs(30),
            pause,
        };
        let regions = cluster.regions();
        let count = regions.len();
        let (rovers, shared) = if count > 1 { (ROVERS, SHARED) } else { (0, 0) };
        let field = |region: String| (region.clone(), Field::of(&region, REGISTERS / count));
        let mut load = Self {
            run,
            fields: regions.iter().cloned().map(field).collect(),
            shared: Field::nameless("shared", shared),
            lost_disks: Vec::new(),
            restarts: Vec::new(),
            reads: Arc::default(),
            tasks: JoinSet::new(),
        };
        for number in 0..WRITERS {
            let region = &regions[number % count];
            let field = load.fields[region].clone();
            load.write_at(cluster, &format!("{name}-{number}"), field, &cluster.members(region));
        }
        for number in 0..rovers {
            let (field, all) = (load.shared.clone(), (0..cluster.size()).collect::<Vec<_>>());
            load.write_at(cluster, &format!("{name}-rover-{number}"), field, &all);
        }
        for node in 0..cluster.size() {
            load.read_at(cluster, node);
        }
        load
    }

    /// Notes that a node has lost its disk now.
    pub(crate) fn disk_is_lost(&mut self, node: &NodeName) {
        self.lost_disks.push((node.clone(), self.now()));
        self.is_started_again(node);
    }

    /// Notes that a node is started again now: it may have to catch up with what it had shown.
    pub(crate) fn is_started_again(&mut self, node: &NodeName) {
        self.restarts.push((node.clone(), self.now()));
    }

    fn write_at(&mut self, cluster: &Cluster, name: &str, field: Field, nodes: &[usize]) {
        let patience = match self.fields.len() {
            1 => PATIENCE,
            _ => MESH_PATIENCE,
        };
        let way = |&node: &usize| {
            (cluster.name(node).clone(), cluster.client(node).with_patience(patience))
        };
        let (seed, ways) = (self.tasks.len() as u64, nodes.iter().map(way).collect());
        let writer = Writer::new(name, seed, self.run.clone(), field, ways);
        self.tasks.spawn(writer.go_on());
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

    /// Lets the writers and readers finish what they are doing.
    pub(crate) async fn rest(&mut self) {
        self.run.stop.store(true, Ordering::Relaxed);
        while let Some(ended) = self.tasks.join_next().await {
            ended.unwrap();
        }
    }

    /// Ends it and asserts that every invariant holds of what was seen.
    pub(crate) async fn end(self, cluster: &Cluster) -> (Vec<Operation>, Vec<Read>) {
        self.run.stop.store(true, Ordering::Relaxed);
        let reads = self.reads();
        self.tasks.join_all().await;
        look_for_names(&self.run, &self.fields, cluster).await;
        let fields = self.fields.values().chain([&self.shared]);
        let registers: Vec<Register> = fields.flat_map(|field| field.registers.clone()).collect();
        let patience = Duration::from_secs(30);
        let nodes = witness::testify(&mut cluster.clients(), &registers, patience).await.unwrap();
        let operations = self.run.recorder.operations();
        let evidence = Evidence {
            operations: operations.clone(),
            restarts: self.restarts,
            places: cluster.places(),
            shared: self.shared.registers.into_iter().collect(),
            lost_disks: self.lost_disks,
            epoch_ms: None,
            nodes,
        };
        let violations = invariants::violations(&evidence);
        assert!(violations.is_empty(), "{violations:#?}");
        (operations, reads)
    }

    fn read_at(&mut self, cluster: &Cluster, node: usize) {
        let name = cluster.name(node).clone();
        let mut client = cluster.client(node).with_patience(PATIENCE);
        let (run, reads) = (self.run.clone(), Arc::clone(&self.reads));
        let field = &self.fields[cluster.region(node)];
        let register = field.registers.first().expect("there are registers").clone();
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

/// Each name that anybody wanted stands once, at whatever node of its region it is looked for.
async fn look_for_names(run: &Run, fields: &BTreeMap<String, Field>, cluster: &Cluster) {
    let names = run.recorder.names();
    let run = Run { stop: Arc::default(), ..run.clone() };
    for (node, way) in cluster.clients().into_iter().enumerate() {
        let region = cluster.region(node);
        let (last, field) = (format!("last-{node}"), fields[region].clone());
        let mut writer = Writer::new(&last, 0, run.clone(), field, vec![way]);
        for name in names.iter().filter(|name| name.starts_with(&format!("{region}-"))) {
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
