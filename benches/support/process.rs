//! Resources of a process, from `/proc`.

use std::process::Child;

/// A process that is looked at from outside.
pub(crate) trait Process {
    fn id(&self) -> u32;

    fn read(&self, file: &str) -> String {
        std::fs::read_to_string(format!("/proc/{}/{file}", self.id())).unwrap()
    }

    /// The processor time that it has used, in seconds, in steps of a hundredth.
    fn processor(&self) -> f64 {
        let stat = self.read("stat");
        let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
        (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
    }

    /// The same to the nanosecond, of the threads that there are now.
    fn precise_processor(&self) -> f64 {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.id())).unwrap();
        // A thread may end meanwhile.
        let times = tasks.filter_map(|task| std::fs::read_to_string(task.unwrap().path().join("schedstat")).ok());
        times.map(|line| line.split(' ').next().unwrap().parse::<f64>().unwrap()).sum::<f64>() / 1e9
    }

    /// How many bytes it has had written to the disk.
    fn written(&self) -> u64 {
        field(&self.read("io"), "write_bytes")
    }

    /// How many bytes it has had read from the disk.
    fn read_from_disk(&self) -> u64 {
        field(&self.read("io"), "read_bytes")
    }

    /// A line of `/proc/<pid>/status` in KiB, in bytes.
    fn status(&self, name: &str) -> u64 {
        field(&self.read("status"), name) << 10
    }

    /// The memory it has.
    fn resident(&self) -> u64 {
        self.status("VmRSS")
    }

    /// The highest memory since the last reset.
    fn peak(&self) -> u64 {
        self.status("VmHWM")
    }

    /// Lets the peak begin at what is resident now.
    fn reset_peak(&self) {
        std::fs::write(format!("/proc/{}/clear_refs", self.id()), "5").unwrap();
    }
}

impl Process for Child {
    fn id(&self) -> u32 {
        self.id()
    }
}

fn field(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}
