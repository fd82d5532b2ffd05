//! The report, as a table or as JSON.

use std::fmt::Write as _;
use std::process::ExitCode;

use serde_json::{Value, json};

use super::support::median;
use super::{Done, Unit, Work};

pub(crate) struct Report {
    peer: Option<&'static str>,
    rows: Vec<Value>,
    missed: usize,
}

/// Medians of one server's rounds.
struct Medians {
    /// A second, in MB or in number.
    throughput: f64,
    /// Seconds of processor time for a GB, or microseconds for one.
    processor: f64,
    /// MiB that were read from the disk.
    disk: f64,
    /// KiB that were written to the disk for one.
    written: f64,
}

impl Medians {
    fn new(unit: Unit, done: &[Done]) -> Self {
        let (amount, cost) = match unit {
            Unit::Bytes => (1e-6, 1e9),
            Unit::Count => (1.0, 1e6),
        };
        Self {
            throughput: median(done.iter().map(|done| done.amount * amount / done.seconds)),
            processor: median(done.iter().map(|done| done.processor * cost / done.amount)),
            disk: median(done.iter().map(|done| done.disk)),
            written: median(done.iter().map(|done| done.written / done.amount)),
        }
    }
}

impl Report {
    pub(crate) fn new(peer: Option<&'static str>) -> Self {
        let columns = peer.map_or(String::new(), |peer| format!(", and {peer}, and the ratio"));
        println!(
            "coracle{columns}: throughput; processor time of the server; highest memory; bytes read from and written to the disk, if any"
        );
        Self { peer, rows: Vec::new(), missed: 0 }
    }

    pub(crate) fn add(&mut self, work: &Work, done: &[Vec<Done>], memory: &[f64]) {
        let medians: Vec<_> = done.iter().map(|done| Medians::new(work.unit, done)).collect();
        let (rate, cost) = match work.unit {
            Unit::Bytes => ("MB/s", "s/GB"),
            Unit::Count => ("/s", "µs"),
        };
        let own = &medians[0];
        let mut line = format!("{:20}", work.name);
        let mut row = json!({
            "name": work.name, "what": work.what,
            "throughput": own.throughput, "processor": own.processor, "peak_mib": memory[0],
            "disk_mib": own.disk, "written_kib": own.written,
        });
        match medians.get(1) {
            None => {
                let (throughput, processor, memory) = (own.throughput, own.processor, memory[0]);
                write!(line, "{throughput:>10.1} {rate}  {processor:>8.2} {cost}  {memory:>6.1} MiB").unwrap();
            }
            Some(peer) => {
                // Ratios of neighbouring rounds, because the machine may have other work.
                let ratio = |value: fn(&Done) -> f64| {
                    median(done[0].iter().zip(&done[1]).map(|(own, peer)| value(own) / value(peer)))
                };
                let throughput = ratio(|done| done.amount / done.seconds);
                let processor = ratio(|done| done.processor / done.amount);
                write!(
                    line,
                    "{:>10.1} {:>9.1} {rate:4} {throughput:>6.2}×  {:>8.2} {:>8.2} {cost} {processor:>5.2}×  {:>5.1} {:>5.1} MiB",
                    own.throughput, peer.throughput, own.processor, peer.processor, memory[0], memory[1]
                )
                .unwrap();
                let (least, most) = work.wanted;
                let missed = least.is_some_and(|least| throughput < least) || most.is_some_and(|most| processor > most);
                if self.peer == Some("docker-registry") && missed {
                    self.missed += 1;
                    write!(line, "  MISSED: wanted {}", wanted(work.wanted)).unwrap();
                }
                row["peer"] = json!({
                    "throughput": peer.throughput, "processor": peer.processor, "peak_mib": memory[1],
                    "disk_mib": peer.disk, "written_kib": peer.written,
                    "throughput_ratio": throughput, "processor_ratio": processor,
                });
            }
        }
        let disk: Vec<_> = medians.iter().map(|medians| format!("{:.0}", medians.disk)).collect();
        if medians.iter().any(|medians| medians.disk >= 1.0) {
            write!(line, "  read {} MiB", disk.join(" and ")).unwrap();
        }
        if work.unit == Unit::Count && medians.iter().any(|medians| medians.written >= 0.1) {
            let written: Vec<_> = medians.iter().map(|medians| format!("{:.1}", medians.written)).collect();
            write!(line, "  wrote {} KiB each", written.join(" and ")).unwrap();
        }
        println!("{line}");
        self.rows.push(row);
    }

    pub(crate) fn end(self) -> ExitCode {
        if let Ok(file) = std::env::var("SPEED_JSON") {
            std::fs::write(file, format!("{:#}\n", json!({ "peer": self.peer, "rows": self.rows }))).unwrap();
        }
        if self.missed == 0 {
            return ExitCode::SUCCESS;
        }
        println!("{} figures are missed", self.missed);
        ExitCode::FAILURE
    }
}

fn wanted((least, most): (Option<f64>, Option<f64>)) -> String {
    let least = least.map(|least| format!("{least}× or more"));
    let most = most.map(|most| format!("{most}× the processor time or less"));
    least.into_iter().chain(most).collect::<Vec<_>>().join(" for ")
}
