//! This module sends requests and takes the time of their answers.
//!
//! Closed loop: every connection sends its next request when the last is answered. Open loop:
//! requests are due at fixed moments whatever the server does, and their time counts from when they
//! were due, so that a server that stalls cannot hide it by getting fewer requests.
//!
//! Each thread runs its connections by itself, without handing work to another.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::connection::Connection;
use super::histogram::Histogram;
use super::workload::{Kind, Requests, Workload};
use crate::http::BaseUrl;

/// How long answers are waited for after the end.
const GRACE: Duration = Duration::from_secs(10);

/// How long after the end the last requests that are due may still be taken.
const LAST_CALL: Duration = Duration::from_millis(50);

/// The pause after a connection could not be made.
const RECONNECT_PAUSE: Duration = Duration::from_millis(20);

/// How the requests are sent.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    /// To whom, in turns of connections; at least one.
    pub(super) to: Vec<BaseUrl>,
    /// How many connections.
    pub(super) connections: usize,
    /// How many threads.
    pub(super) threads: usize,
    /// Requests a second; nothing: closed loop.
    pub(super) rate: Option<f64>,
    /// What is sent but not measured at the beginning.
    pub(super) warm_up: Duration,
    /// What is measured.
    pub(super) duration: Duration,
}

/// What was measured.
#[derive(Debug, Default)]
pub(super) struct Measured {
    /// The times of the requests that succeeded, by kind.
    pub(super) times: BTreeMap<Kind, Histogram>,
    /// The resources in them.
    pub(super) resources: u64,
    /// Answers that are no success, by their status.
    pub(super) refused: BTreeMap<u16, u64>,
    /// Requests whose connection broke.
    pub(super) broken: u64,
    /// Requests without an answer at the end.
    pub(super) unanswered: u64,
    /// Requests that were due and never sent: all connections were waiting.
    pub(super) unsent: u64,
}

impl Measured {
    fn merge(&mut self, other: Self) {
        for (kind, histogram) in other.times {
            self.times.entry(kind).or_default().merge(&histogram);
        }
        for (status, count) in other.refused {
            *self.refused.entry(status).or_default() += count;
        }
        self.resources += other.resources;
        self.broken += other.broken;
        self.unanswered += other.unanswered;
        self.unsent += other.unsent;
    }
}

/// When requests are due.
#[derive(Debug)]
struct Schedule {
    start: Instant,
    measured_from: Instant,
    end: Instant,
    arrivals: Option<Arrivals>,
}

/// The arrivals of an open loop: a ticket is given out when one is due.
#[derive(Debug)]
struct Arrivals {
    interval: Duration,
    tickets: Semaphore,
    taken: AtomicU64,
}

impl Schedule {
    fn new(plan: &Plan) -> Self {
        let start = Instant::now() + Duration::from_millis(50);
        let measured_from = start + plan.warm_up;
        let arrivals = plan.rate.map(|rate| Arrivals {
            interval: Duration::from_secs_f64(1.0 / rate),
            tickets: Semaphore::new(0),
            taken: AtomicU64::new(0),
        });
        Self { start, measured_from, end: measured_from + plan.duration, arrivals }
    }

    /// Waits until a request is due; when that was, or nothing at the end.
    async fn due(&self) -> Option<Instant> {
        let now = match &self.arrivals {
            None => Instant::now(),
            Some(arrivals) => {
                arrivals.tickets.acquire().await.ok()?.forget();
                let number = arrivals.taken.fetch_add(1, Ordering::Relaxed);
                self.start + arrivals.interval.mul_f64(number as f64)
            }
        };
        (now < self.end).then_some(now)
    }

    /// Gives out tickets as they become due, on a thread of its own: the clock of an event loop is
    /// too coarse. At the end come the requests that nobody took.
    fn give_out(&self, arrivals: &Arrivals) -> u64 {
        let mut given = 0_u64;
        loop {
            let due = self.start + arrivals.interval.mul_f64(given as f64);
            if due >= self.end {
                break;
            }
            let wait = due.saturating_duration_since(Instant::now());
            if !wait.is_zero() {
                std::thread::sleep(wait);
            }
            arrivals.tickets.add_permits(1);
            given += 1;
        }
        let left = || given.saturating_sub(arrivals.taken.load(Ordering::Relaxed));
        while Instant::now() < self.end || (left() > 0 && self.end.elapsed() < LAST_CALL) {
            std::thread::sleep(Duration::from_millis(1));
        }
        arrivals.tickets.close();
        left()
    }
}

/// Sends what the plan says.
pub(super) fn run(plan: &Plan, workload: &Arc<Workload>) -> anyhow::Result<Measured> {
    let schedule = Arc::new(Schedule::new(plan));
    let threads = plan.threads.clamp(1, plan.connections);
    std::thread::scope(|scope| {
        let spawned: Vec<_> = (0..threads)
            .map(|thread| {
                let numbers = (thread..plan.connections).step_by(threads);
                let requests: Vec<_> = numbers
                    .map(|number| {
                        let to = &plan.to[number % plan.to.len()];
                        (
                            to.authority().to_owned(),
                            Requests::new(workload.clone(), to, number as u64),
                        )
                    })
                    .collect();
                let schedule = schedule.clone();
                scope.spawn(move || connections(requests, &schedule))
            })
            .collect();
        let mut measured = Measured::default();
        if let Some(arrivals) = &schedule.arrivals {
            measured.unsent = schedule.give_out(arrivals);
        }
        for thread in spawned {
            measured
                .merge(thread.join().map_err(|_| anyhow!("a thread of the benchmark failed"))??);
        }
        Ok(measured)
    })
}

/// The connections of one thread.
fn connections(
    requests: Vec<(String, Requests)>,
    schedule: &Arc<Schedule>,
) -> anyhow::Result<Measured> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the benchmark")?;
    runtime.block_on(async {
        let tasks: Vec<_> = requests
            .into_iter()
            .map(|(authority, requests)| {
                tokio::spawn(connection(authority, requests, schedule.clone()))
            })
            .collect();
        let mut measured = Measured::default();
        for task in tasks {
            measured.merge(task.await.context("a connection of the benchmark failed")?);
        }
        Ok(measured)
    })
}

async fn connection(authority: String, requests: Requests, schedule: Arc<Schedule>) -> Measured {
    let mut sender = Sender { authority, requests, measured: Measured::default(), waiting: false };
    let deadline = schedule.end + GRACE;
    if tokio::time::timeout_at(deadline, sender.run(&schedule)).await.is_err() && sender.waiting {
        sender.measured.unanswered += 1;
    }
    sender.measured
}

/// One connection and what it has measured.
struct Sender {
    authority: String,
    requests: Requests,
    measured: Measured,
    /// Whether a request is on its way.
    waiting: bool,
}

impl Sender {
    async fn run(&mut self, schedule: &Schedule) {
        let mut open = Connection::open(&self.authority).await.ok();
        tokio::time::sleep_until(schedule.start).await;
        let mut times: [Option<Histogram>; Kind::ALL.len()] = Default::default();
        while let Some(due) = schedule.due().await {
            let counts = due >= schedule.measured_from;
            if open.is_none() {
                open = Connection::open(&self.authority).await.ok();
            }
            let Some(connection) = &mut open else {
                self.measured.broken += u64::from(counts);
                tokio::time::sleep(RECONNECT_PAUSE).await;
                continue;
            };
            let request = self.requests.next();
            self.waiting = true;
            let answer = connection.exchange(request.text).await;
            self.waiting = false;
            match answer {
                Ok((status, _)) if !counts || !(200..300).contains(&status) => {
                    if counts {
                        *self.measured.refused.entry(status).or_default() += 1;
                    }
                }
                Ok(_) => {
                    let times = times[request.kind as usize].get_or_insert_default();
                    times.add(due.elapsed());
                    self.measured.resources += request.resources;
                }
                Err(_) => self.measured.broken += u64::from(counts),
            }
            if !matches!(answer, Ok((_, true))) {
                open = None;
            }
        }
        for (kind, times) in Kind::ALL.into_iter().zip(times) {
            self.measured.times.extend(times.map(|times| (kind, times)));
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::super::workload::Records;
    use super::*;

    /// A server that answers every request after this pause; a stall once, after so many requests.
    async fn server(
        pause: Duration,
        stall: Option<(usize, Duration)>,
        status: &'static str,
    ) -> BaseUrl {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let mut request = [0; 4096];
                    for number in 0.. {
                        if !matches!(stream.read(&mut request).await, Ok(1..)) {
                            break;
                        }
                        match stall {
                            Some((at, stall)) if at == number => tokio::time::sleep(stall).await,
                            _ if !pause.is_zero() => tokio::time::sleep(pause).await,
                            _ => {}
                        }
                        let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 2\r\n\r\nok");
                        if stream.write_all(answer.as_bytes()).await.is_err() {
                            break;
                        }
                    }
                });
            }
        });
        url
    }

    async fn measure(plan: Plan) -> Measured {
        let records = Records { seed: 1, count: 10 };
        let workload = Arc::new(Workload::path("/{}", records));
        tokio::task::spawn_blocking(move || run(&plan, &workload)).await.unwrap().unwrap()
    }

    fn plan(to: BaseUrl) -> Plan {
        Plan {
            to: vec![to],
            connections: 1,
            threads: 1,
            rate: None,
            warm_up: Duration::ZERO,
            duration: Duration::from_millis(500),
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_closed_loop_waits_for_each_answer() {
        let to = server(Duration::from_millis(10), None, "200 OK").await;

        let measured = measure(Plan { connections: 4, threads: 2, ..plan(to) }).await;

        let times = &measured.times[&Kind::Get];
        assert!((60..=200).contains(&times.count()), "{}", times.count());
        assert!(times.quantile(0.5) >= Duration::from_millis(10));
        assert_eq!((measured.broken, measured.unanswered, measured.unsent), (0, 0, 0));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn an_open_loop_counts_from_when_a_request_was_due() {
        let stall = Duration::from_millis(300);
        let to = server(Duration::ZERO, Some((10, stall)), "200 OK").await;

        let measured = measure(Plan { rate: Some(200.0), ..plan(to) }).await;

        let times = &measured.times[&Kind::Get];
        assert!((95..=100).contains(&times.count()), "{}", times.count());
        assert!(times.max() >= stall);
        assert!(
            times.quantile(0.6) > Duration::from_millis(20),
            "those that waited tell of the stall"
        );
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn refusals_are_counted_by_status_and_requests_nobody_could_take_as_unsent() {
        let to = server(Duration::ZERO, None, "503 No").await;
        let measured = measure(plan(to)).await;
        assert!(measured.times.is_empty() && measured.refused[&503] > 100);

        let to = server(Duration::from_millis(100), None, "200 OK").await;
        let measured = measure(Plan { rate: Some(100.0), ..plan(to) }).await;
        assert!(measured.unsent >= 40, "{}", measured.unsent);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn nobody_there_is_told_as_broken_connections() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let to = format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap();
        drop(listener);
        let measured = measure(plan(to)).await;
        assert!(measured.times.is_empty() && measured.broken > 5);
    }
}
