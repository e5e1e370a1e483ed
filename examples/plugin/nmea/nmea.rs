// SPDX-License-Identifier: MIT
//! nmea: a processor that turns sentences of NMEA 0183 (GGA, RMC, VTG) into JSON.  One sentence an event; what is malformed
//! comes out of the output "error", sentences of other types are filtered.
mod refusals;
mod semstreams;
mod sentence;
use refusals::Refusals;
use semstreams::{option, Batch, Component, Conf, Host, BOOL, PROCESSOR, TELLS_PATHS};
use std::cell::RefCell;
use std::os::raw::c_char;

const PORT_JSON: u32 = 0;
const PORT_ERROR: u32 = 1;
/// The reason behind those of sentence::Fault.
const NO_MEMORY: u32 = 2;

/// One instance: a pipeline may have several, so no globals.
struct Nmea {
    host: Host,
    strict: bool,
    refusals: RefCell<Refusals>,
}

impl Component for Nmea {
    const OPTIONS: &'static [semstreams::ffi::Opt] =
        &[option(0, text!("checksum"), BOOL, text!("true"), text!("Refuse sentences without a checksum."), 0, 0, 0)];
    const OUTPUTS: &'static [*const c_char] = &[text!("json"), text!("error"), std::ptr::null()];
    const REASONS: &'static [*const c_char] =
        &[text!("malformed"), text!("bad_checksum"), text!("no_memory"), std::ptr::null()];

    fn create(host: Host, conf: Conf) -> Result<Self, i32> {
        let refusals = RefCell::new(Refusals::new(host, PORT_ERROR));
        Ok(Nmea { host, strict: conf.number("checksum") != 0, refusals })
    }

    fn host(&self) -> Host {
        self.host
    }

    fn process(&self, _port: u32, batch: &Batch) -> Result<(), i32> {
        let mut refusals = self.refusals.borrow_mut();
        refusals.clear(); // of a batch in which a panic came
        let refuses = refusals.used();
        let mut made = Vec::new();
        let mut dropped = [0u64; 2];
        for (i, event) in batch.events().iter().enumerate() {
            match sentence::decode(event.payload(), self.strict) {
                Ok(Some(json)) => made.push((i, json)),
                Ok(None) => (), // neither emitted nor dropped: the host counts it as filtered
                Err(fault) if refuses && refusals.add(batch, event, fault.name()) => (),
                Err(fault) => dropped[fault as usize] += 1,
            }
        }
        if let Err(code) = self.emit(batch, &made) {
            refusals.clear();
            return Err(code);
        }
        for (reason, &n) in dropped.iter().enumerate().filter(|(_, &n)| n > 0) {
            self.host.drop_events(reason as u32, n);
        }
        match refusals.emit(batch) {
            0 => (),
            lost => self.host.drop_events(NO_MEMORY, u64::from(lost)),
        }
        Ok(())
    }
}

impl Nmea {
    fn emit(&self, batch: &Batch, made: &[(usize, String)]) -> Result<(), i32> {
        if made.is_empty() {
            return Ok(());
        }
        let bytes = made.iter().map(|(_, json)| json.len()).sum();
        let mut out = self.host.batch(Some(batch), made.len() as u32, bytes)?;
        for (i, json) in made {
            out.replace(*i, json.as_bytes());
        }
        out.emit(PORT_JSON);
        Ok(())
    }
}

// It opens no files, which TELLS_PATHS says.
register!(Nmea, PROCESSOR, "nmea", "Turns sentences of NMEA 0183 into JSON.", TELLS_PATHS);
