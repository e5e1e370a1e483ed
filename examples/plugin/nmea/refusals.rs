// SPDX-License-Identifier: MIT
//! Events that are refused, by semstreams/base/refusal.h: functions of the SDK's base library, which is linked into the
//! plugin.
use crate::semstreams::{ffi, Batch, Event, Host};
use std::ffi::CString;
use std::os::raw::c_char;

/// struct ss_refusals: private to its functions, so only the size counts, which test_nmea.c compares.
#[repr(C, align(8))]
struct Raw([u64; 48]);

extern "C" {
    fn ss_refusals_init(refusals: *mut Raw, host: *const ffi::Host, port: u32);
    fn ss_refusals_done(refusals: *mut Raw);
    fn ss_refusals_clear(refusals: *mut Raw);
    fn ss_refusals_used(refusals: *const Raw) -> bool;
    fn ss_refusals_add(refusals: *mut Raw, batch: *const ffi::Batch, event: *const ffi::Event, reason: *const c_char,
                       error: i32, at: usize) -> i32;
    fn ss_refusals_emit(refusals: *mut Raw, batch: *mut ffi::Batch, lost: *mut u32) -> i64;
}

pub struct Refusals(Box<Raw>);

impl Refusals {
    /// In create: for that output.
    pub fn new(host: Host, port: u32) -> Self {
        let mut raw = Box::new(Raw([0; 48]));
        unsafe { ss_refusals_init(&mut *raw, host.raw(), port) };
        Refusals(raw)
    }

    /// Does anything read the output?
    pub fn used(&self) -> bool {
        unsafe { ss_refusals_used(&*self.0) }
    }

    /// Forget those of a batch that came to nothing.
    pub fn clear(&mut self) {
        unsafe { ss_refusals_clear(&mut *self.0) }
    }

    /// One more event of the batch.  false: out of memory, it is to be dropped.
    pub fn add(&mut self, batch: &Batch, event: &Event, reason: &str) -> bool {
        let reason = CString::new(reason).unwrap_or_default();
        let event = event as *const Event as *const ffi::Event; // which is transparent
        unsafe { ss_refusals_add(&mut *self.0, batch.raw(), event, reason.as_ptr(), 0, 0) == 0 }
    }

    /// Emit those of the batch.  How many were lost, as memory ran out.
    pub fn emit(&mut self, batch: &Batch) -> u32 {
        let mut lost = 0;
        unsafe { ss_refusals_emit(&mut *self.0, batch.raw(), &mut lost) };
        lost
    }
}

impl Drop for Refusals {
    fn drop(&mut self) {
        unsafe { ss_refusals_done(&mut *self.0) }
    }
}
