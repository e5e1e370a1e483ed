// SPDX-License-Identifier: MIT
//! @TYPE@: a source that reads a small file again and again, such as a sensor's under /sys, and emits each time what stands
//! there.
mod semstreams;
use semstreams::{option, Component, Conf, Host, Loop, DURATION, EINVAL, ERROR, READS, REQUIRED, SOURCE, STRING, TELLS_PATHS};
use std::cell::Cell;
use std::fs::File;
use std::io::Read;
use std::time::{SystemTime, UNIX_EPOCH};

const READING_MAX: u64 = 4096; // bytes; what is longer is cut off

/// One instance: a pipeline may have several, so no globals.
struct Readings {
    host: Host,
    run_loop: Loop,
    path: String,
    interval_ns: u64,
    timer: Cell<u32>, // 0: none, as before start and while paused
}

impl Readings {
    fn read(&self) -> std::io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        File::open(&self.path)?.take(READING_MAX).read_to_end(&mut bytes)?;
        if bytes.last() == Some(&b'\n') {
            bytes.pop();
        }
        Ok(bytes)
    }

    fn emit(&self, reading: &[u8]) -> Result<(), i32> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |t| t.as_nanos() as u64);
        // One row, and memory of its own for the payload.
        let mut out = self.host.batch(None, 1, reading.len())?;
        out.push(reading, now);
        out.emit(0);
        Ok(())
    }
}

impl Component for Readings {
    // From this table the host checks the configuration, prints help and a JSON Schema.
    const OPTIONS: &'static [semstreams::ffi::Opt] = &[
        option(0, text!("path"), STRING, std::ptr::null(), text!("The file to read."), REQUIRED | READS, 0, 0),
        option(1, text!("interval"), DURATION, text!("1s"), text!("Time between two readings."), 0, 1_000_000, 86_400_000_000_000),
    ];

    fn create(host: Host, conf: Conf) -> Result<Self, i32> {
        Ok(Readings {
            host,
            run_loop: host.run_loop()?,
            path: conf.text("path").ok_or(EINVAL)?,
            interval_ns: conf.number("interval") as u64,
            timer: Cell::new(0),
        })
    }

    fn host(&self) -> Host {
        self.host
    }

    /// Reads at once, then every interval.
    fn start(&self) -> Result<(), i32> {
        if self.timer.get() == 0 {
            self.timer.set(self.run_loop.timer(self, 0, self.interval_ns)?);
        }
        Ok(())
    }

    fn stop(&self) {
        self.run_loop.cancel(self.timer.replace(0));
    }

    /// A queue downstream is full, so nothing is read.
    fn pause(&self) {
        self.stop();
    }

    fn resume(&self) {
        if let Err(code) = self.start() {
            self.host.log(ERROR, &format!("Cannot start a timer error={}", code));
        }
    }

    /// The end: nothing is held, and nothing more may be emitted.
    fn drain(&self) {
        self.stop();
    }

    fn timer(&self) {
        match self.read() {
            Ok(reading) => {
                self.host.set_degraded(None);
                // without memory, the next reading may find some
                let _ = self.emit(&reading);
            }
            // shown, and no reason to end
            Err(e) => self.host.set_degraded(Some(&format!("cannot read {}: {}", self.path, e))),
        }
    }
}

// READS has told the one path there is.
register!(Readings, SOURCE, "@TYPE@", "Reads a file again and again.", TELLS_PATHS);
