// SPDX-License-Identifier: MIT
//! @TYPE@: a processor that passes on one event in so many, to thin out a sensor that is too fast.
mod semstreams;
use semstreams::{option, Batch, Component, Conf, Host, INT, PROCESSOR, TELLS_PATHS};
use std::cell::Cell;

/// One instance: a pipeline may have several, so no globals.
struct Thin {
    host: Host,
    every: i64,
    seen: Cell<i64>, // events since the last one passed on
}

impl Component for Thin {
    // From this table the host checks the configuration, prints help and a JSON Schema.
    const OPTIONS: &'static [semstreams::ffi::Opt] =
        &[option(0, text!("every"), INT, text!("10"), text!("Pass on one event in so many."), 0, 1, 1_000_000)];

    fn create(host: Host, conf: Conf) -> Result<Self, i32> {
        Ok(Thin { host, every: conf.number("every"), seen: Cell::new(0) })
    }

    fn host(&self) -> Host {
        self.host
    }

    fn process(&self, _port: u32, batch: &Batch) -> Result<(), i32> {
        let events = batch.events();
        // A child of batch: its rows point into the memory of that, so nothing is copied.
        let mut out = self.host.batch(Some(batch), events.len() as u32, 0)?;
        for i in 0..events.len() {
            self.seen.set(self.seen.get() + 1);
            if self.seen.get() == self.every {
                self.seen.set(0);
                out.pass(i);
            } // else neither emitted nor dropped: the host counts it as filtered
        }
        out.emit(0);
        Ok(())
    }
}

// It opens no files, which TELLS_PATHS says.
register!(Thin, PROCESSOR, "@TYPE@", "Passes on one event in so many.", TELLS_PATHS);
