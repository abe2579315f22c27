//! This module shows how the nodes of a mesh are: `chartmesh status`.
//!
//! It begins with the verdict and what is wrong, what that means and what to do, because whoever looks
//! has been woken up. The tables come after that.

mod advice;
mod overview;
mod trouble;

use std::process::ExitCode;
use std::time::Duration;

use chartmesh_ops::Status;
use serde::Serialize;
use tokio::time::{MissedTickBehavior, interval};

use crate::mesh::{self, Mesh, Seen};
use crate::terminal::{self, Tone, paint};
use trouble::Trouble;

/// How often `--watch` looks.
const WATCH_EVERY: Duration = Duration::from_secs(1);

/// Show how the nodes of a mesh are: what is wrong, what it means, what to do; then every region and
/// node.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:
  chartmesh status                                  (the demo in ./demo-data)
  chartmesh status --watch
  chartmesh status --topology mesh.toml
  chartmesh status --to http://127.0.0.1:8080/fhir --json

Exit code 0: at least one node answers. 1: none does. 2: wrong usage.")]
pub(crate) struct Arguments {
    #[command(flatten)]
    mesh: mesh::Arguments,
    /// Print all that the nodes say, as JSON.
    #[arg(long)]
    json: bool,
    /// Look again every second, until it is interrupted.
    #[arg(long)]
    watch: bool,
}

/// The JSON result.
#[derive(Serialize)]
struct Document<'a> {
    troubles: &'a [Trouble],
    nodes: Vec<Entry<'a>>,
}

/// One node in the JSON result.
#[derive(Serialize)]
struct Entry<'a> {
    name: &'a str,
    fhir: String,
    reachable: bool,
    error: Option<&'a str>,
    status: Option<&'a Status>,
}

/// Runs the command. It fails only if no node answers: that one does not is what it is there to say.
pub(crate) async fn command(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let mesh = arguments.mesh.find()?;
    if arguments.watch {
        return watch(&mesh, arguments.json).await;
    }
    let seen = mesh.ask().await;
    if arguments.json {
        terminal::print_json(&document(&seen, &trouble::find(&seen)))?;
    } else {
        terminal::print(shown(&seen));
    }
    let answered = seen.iter().any(|seen| seen.status.is_ok());
    Ok(if answered { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Looks again and again, until nobody reads it any more.
async fn watch(mesh: &Mesh, json: bool) -> anyhow::Result<ExitCode> {
    let mut ticks = interval(WATCH_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let seen = mesh.ask().await;
        let drawn = if json {
            let document = serde_json::to_string(&document(&seen, &trouble::find(&seen)))?;
            terminal::redraw(document)
        } else {
            terminal::redraw(shown(&seen))
        };
        if drawn.is_err() {
            return Ok(ExitCode::SUCCESS);
        }
    }
}

fn document<'a>(seen: &'a [Seen], troubles: &'a [Trouble]) -> Document<'a> {
    let entry = |seen: &'a Seen| Entry {
        name: &seen.target.name,
        fhir: seen.target.fhir.to_string(),
        reachable: seen.status.is_ok(),
        error: seen.status.as_ref().err().map(String::as_str),
        status: seen.status.as_ref().ok(),
    };
    Document { troubles, nodes: seen.iter().map(entry).collect() }
}

/// What a person reads, in colours where they are seen.
fn shown(seen: &[Seen]) -> String {
    let text = report(seen);
    if terminal::in_colour() { coloured(&text) } else { text }
}

/// What a person reads.
fn report(seen: &[Seen]) -> String {
    let troubles = trouble::find(seen);
    let answering = seen.iter().filter(|seen| seen.status.is_ok()).count();
    let well =
        if troubles.iter().any(|trouble| trouble.grave) { "ATTENTION" } else { "All is well" };
    let mut text = format!("{well}: {answering} of {} nodes answer.\n", seen.len());
    for trouble in &troubles {
        let mark = if trouble.grave { '!' } else { '-' };
        text += &format!("  {mark} {}\n", trouble.what);
        for (word, sentence) in [("means", &trouble.means), ("do", &trouble.action)] {
            if !sentence.is_empty() {
                text += &format!("      {:7}{sentence}\n", format!("{word}:"));
            }
        }
    }
    for table in overview::tables(seen) {
        text += &format!("\n{table}\n");
    }
    text
}

/// The same text, with what matters in colours: it is laid out already.
fn coloured(text: &str) -> String {
    let words = [
        ("NO ANSWER", Tone::Bad),
        ("ISOLATED", Tone::Bad),
        ("NONE", Tone::Bad),
        ("starting", Tone::Fair),
    ];
    let line = |line: &str| {
        if line.starts_with("ATTENTION") || line.starts_with("  !") {
            paint(Tone::Bad, line)
        } else if line.starts_with("All is well") {
            paint(Tone::Good, line)
        } else if line.starts_with("      ") {
            line.to_owned()
        } else if line.starts_with("REGION")
            || line.starts_with("NODE")
            || line.starts_with("ALARM")
        {
            paint(Tone::Quiet, line)
        } else {
            let painted =
                |line: String, (word, tone): (&str, Tone)| line.replace(word, &paint(tone, word));
            words.into_iter().fold(line.to_owned(), painted)
        }
    };
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}

/// A number that is readable when it is long: 1,234,567.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.char_indices() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A time that is readable when it is long: 0.4 s, 37 s, 12 min, 3.5 h, 2 d.
fn span(seconds: f64) -> String {
    match seconds {
        ..9.95 => format!("{seconds:.1} s"),
        ..120.0 => format!("{seconds:.0} s"),
        ..7_200.0 => format!("{:.0} min", seconds / 60.0),
        ..172_800.0 => format!("{:.1} h", seconds / 3_600.0),
        _ => format!("{:.0} d", seconds / 86_400.0),
    }
}

#[cfg(test)]
mod tests {
    use chartmesh_ops::{Alarm, Pending, Silent, State};

    use super::*;
    use crate::mesh::sample;

    const NODES: [&str; 4] = ["central-1", "central-2", "pac-1", "pac-2"];

    fn well(node: &str) -> Status {
        let mut status = sample::status(node);
        status.horizon = vec![
            sample::feed("central.0000000000", 20, "c0"),
            sample::feed("pac.0000000000", 1_401, "a0"),
        ];
        let others = NODES.into_iter().filter(|other| *other != node);
        status.peers = others.map(|other| sample::peer(other, 101.3, 2.0)).collect();
        status
    }

    fn gone(node: &str) -> Seen {
        let error = "cannot reach 127.0.0.1:8082: Connection refused".to_owned();
        Seen { target: sample::target(node), status: Err(error) }
    }

    /// Without the spaces with which a table ends its lines.
    fn trimmed(text: &str) -> String {
        text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn says_that_all_is_well_when_it_is() {
        let seen: Vec<Seen> = NODES.map(|node| sample::seen(well(node))).into();

        insta::assert_snapshot!(trimmed(&report(&seen)));
    }

    #[test]
    fn begins_with_what_is_wrong_and_what_it_means() {
        let mut isolated = well("pac-2");
        isolated.state = State::Isolated;
        isolated.leader = None;
        isolated.conflicts = 2;
        isolated.horizon[1].seq = 1_390;
        let since = || "2026-11-21T20:00:01.204Z".to_owned();
        let text = |text: &str| text.to_owned();
        isolated.alarms.push(Alarm {
            code: text("isolated"),
            text: text("cut off"),
            since: since(),
        });
        for peer in &mut isolated.peers {
            peer.reachable = false;
        }
        isolated.pending.push(Pending {
            origin: text("pac-2.1111111111"),
            changes: 12,
            oldest: since(),
            copies: 1,
            oldest_age: 754.0,
        });
        let mut leader = well("pac-1");
        leader.silent.push(Silent { node: text("pac-2"), since: since(), age: 754.0 });
        leader.regions[0].age = Some(2_241.0);
        leader.alarms.push(Alarm {
            code: text("certificate-ends"),
            text: text("the certificate of pac-1 ends on 2026-12-01"),
            since: since(),
        });

        let seen =
            [gone("central-1"), gone("central-2"), sample::seen(leader), sample::seen(isolated)];

        insta::assert_snapshot!(trimmed(&report(&seen)));
    }

    #[test]
    fn a_region_without_a_majority_has_no_leader_and_says_what_its_nodes_do() {
        let mut alone = well("pac-2");
        alone.state = State::Isolated;
        alone.leader = None;
        let others = NODES[..2].iter().map(|node| sample::seen(well(node)));
        let seen: Vec<Seen> = others.chain([gone("pac-1"), sample::seen(alone)]).collect();

        let text = report(&seen);

        assert!(text.contains("! region pac has no majority: 1 of its 2 nodes answers"), "{text}");
        assert!(text.contains("NONE"), "{text}");
    }

    #[test]
    fn colours_change_nothing_but_colours() {
        let seen = [sample::seen(well("pac-1")), gone("pac-2")];

        let painted = coloured(&report(&seen));

        assert!(painted.contains("\x1b[1;31mNO ANSWER\x1b[0m"), "{painted}");
        let mut plain = painted;
        for code in ["\x1b[32m", "\x1b[33m", "\x1b[1;31m", "\x1b[2m", "\x1b[0m"] {
            plain = plain.replace(code, "");
        }
        assert!(plain.lines().eq(report(&seen).lines()), "{plain}");
    }

    #[test]
    fn long_numbers_are_grouped() {
        for (number, text) in [(0, "0"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(grouped(number), text);
        }
    }

    #[test]
    fn long_times_are_readable() {
        for (seconds, text) in [
            (0.42, "0.4 s"),
            (9.94, "9.9 s"),
            (9.96, "10 s"),
            (119.0, "119 s"),
            (754.0, "13 min"),
            (7_200.0, "2.0 h"),
            (200_000.0, "2 d"),
        ] {
            assert_eq!(span(seconds), text);
        }
    }
}
