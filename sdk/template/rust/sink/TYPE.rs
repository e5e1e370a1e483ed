// SPDX-License-Identifier: MIT
//! @TYPE@: a sink that appends each event to a file, as a line.
mod semstreams;
use semstreams::{option, Batch, Component, Conf, Host, EINVAL, EIO, ERROR, FILES_ONLY, REQUIRED, SINK, STRING, TELLS_PATHS, WRITES};
use std::cell::RefCell;
use std::fs::{File, OpenOptions};
use std::io::Write;

/// One instance: a pipeline may have several, so no globals.
struct Lines {
    host: Host,
    path: String,
    file: RefCell<Option<File>>,
}

impl Component for Lines {
    // From this table the host checks the configuration, prints help and a JSON Schema.
    const OPTIONS: &'static [semstreams::ffi::Opt] =
        &[option(0, text!("path"), STRING, std::ptr::null(), text!("The file to append to."), REQUIRED | WRITES, 0, 0)];

    fn create(host: Host, conf: Conf) -> Result<Self, i32> {
        Ok(Lines { host, path: conf.text("path").ok_or(EINVAL)?, file: RefCell::new(None) })
    }

    fn host(&self) -> Host {
        self.host
    }

    fn start(&self) -> Result<(), i32> {
        match OpenOptions::new().append(true).create(true).open(&self.path) {
            Ok(file) => {
                *self.file.borrow_mut() = Some(file);
                Ok(())
            }
            Err(e) => {
                self.host.log(ERROR, &format!("Cannot open the file path=\"{}\" error=\"{}\"", self.path, e));
                Err(e.raw_os_error().unwrap_or(EIO))
            }
        }
    }

    fn stop(&self) {
        *self.file.borrow_mut() = None;
    }

    /// All lines of a batch in one write: the cost is per batch, not per event.
    fn process(&self, _port: u32, batch: &Batch) -> Result<(), i32> {
        let mut text = Vec::new();
        for event in batch.events() {
            text.extend_from_slice(event.payload());
            text.push(b'\n');
        }
        let mut file = self.file.borrow_mut();
        // after an error the host counts the batch as dropped, and tells the source
        file.as_mut().ok_or(EIO)?.write_all(&text).map_err(|e| e.raw_os_error().unwrap_or(EIO))
    }
}

// WRITES has told the one path, and `semstreams test` may run it.
register!(Lines, SINK, "@TYPE@", "Appends events to a file.", TELLS_PATHS | FILES_ONLY);
