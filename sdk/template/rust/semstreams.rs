// SPDX-License-Identifier: MIT
//! The plugin ABI of semstreams for Rust, by hand: `ffi` has the structs of semstreams/plugin.h as far as they are used
//! here, the rest makes them safe.  Implement `Component` and name it in `register!`.  What callbacks mean, and when they
//! come, is said in plugin.h.  A panic never reaches the host: it is caught, logged, and becomes -EIO.
#![allow(dead_code)] // a plugin uses a part of it

use std::ffi::{c_void, CStr, CString};
use std::marker::PhantomData;
use std::os::raw::c_char;
use std::panic::{catch_unwind, AssertUnwindSafe};

pub const ENOENT: i32 = 2;
pub const EIO: i32 = 5;
pub const ENOMEM: i32 = 12;
pub const EINVAL: i32 = 22;

pub const SOURCE: u32 = 1;
pub const PROCESSOR: u32 = 2;
pub const SINK: u32 = 4;

/// Flags of a component.
pub const OWN_LOOP: u32 = 1;
pub const TELLS_PATHS: u32 = 2;
pub const FILES_ONLY: u32 = 4;

/// Types of options; their texts are C strings, which `text!` makes.
pub const STRING: u32 = 1;
pub const INT: u32 = 2;
pub const BOOL: u32 = 3;
pub const BYTES: u32 = 4;
pub const DURATION: u32 = 5;

/// Flags of an option.
pub const REQUIRED: u32 = 1;
pub const SECRET: u32 = 2;
pub const READS: u32 = 8;
pub const WRITES: u32 = 16;

pub const ERROR: i32 = 0;
pub const WARN: i32 = 10;
pub const INFO: i32 = 20;
pub const DEBUG: i32 = 30;

pub mod ffi {
    use super::{c_char, c_void};

    #[repr(C)]
    pub struct Event {
        pub data: *const u8,
        pub len: u32,
        pub flags: u16,
        pub attributes: u16,
        pub time_ns: u64,
        pub seq: u64,
    }

    #[repr(C)]
    pub struct Batch {
        pub struct_size: u32,
        pub count: u32,
        pub capacity: u32,
        pub footprint: u32,
        pub events: *mut Event,
        pub data: *mut u8,
        pub size: usize,
    }

    #[repr(C)]
    pub struct Opt {
        pub key: *const c_char,
        pub default_text: *const c_char,
        pub help: *const c_char,
        pub choices: *const *const c_char,
        pub schema: *const c_char,
        pub r#type: u32,
        pub flags: u32,
        pub offset: u32,
        pub reserved: u32,
        pub min: i64,
        pub max: i64,
    }

    #[repr(C)]
    pub struct Iface {
        pub vtbl: *const c_void,
        pub this: *mut c_void,
    }

    pub type OnHost<A> = unsafe extern "C" fn(*const Host, A);
    pub type Unused = *const c_void; // a function that is not used here
    #[repr(C)]
    pub struct Host {
        pub struct_size: u32,
        pub reserved: u32,
        pub r#impl: *mut c_void,
        pub id: *const c_char,
        pub log: unsafe extern "C" fn(*const Host, i32, *const c_char),
        pub config_error: unsafe extern "C" fn(*const Host, *const c_char, *const c_char),
        pub batch_new: unsafe extern "C" fn(*const Host, *mut Batch, u32, usize) -> *mut Batch,
        pub batch_ref: Unused,
        pub batch_unref: unsafe extern "C" fn(*mut Batch),
        pub emit: unsafe extern "C" fn(*const Host, u32, *mut Batch),
        pub drop: unsafe extern "C" fn(*const Host, u32, u64),
        pub done: Unused,
        pub input_ready: Unused,
        pub drained: Unused,
        pub track: Unused,
        pub position: Unused,
        pub token_ref: Unused,
        pub token_unref: Unused,
        pub set_health: OnHost<*const c_char>,
        pub metric_add: unsafe extern "C" fn(*const Host, u32, i64),
        pub metric_set: unsafe extern "C" fn(*const Host, u32, i64),
        pub query: unsafe extern "C" fn(*const Host, *const c_char, u32, *mut Iface) -> i32,
        pub set_degraded: OnHost<*const c_char>,
    }

    pub type OnTimer = unsafe extern "C" fn(*mut c_void);
    #[repr(C)]
    pub struct Loop {
        pub struct_size: u32,
        pub reserved: u32,
        pub timer: unsafe extern "C" fn(*mut c_void, u64, u64, OnTimer, *mut c_void, *mut u32) -> i32,
        pub fd: Unused,
        pub change: Unused,
        pub cancel: unsafe extern "C" fn(*mut c_void, u32),
        pub post: Unused,
        pub now: unsafe extern "C" fn(*mut c_void) -> u64,
    }

    pub type Call = unsafe extern "C" fn(*mut c_void);
    pub type Ask = unsafe extern "C" fn(*mut c_void) -> i32;
    pub type Process = unsafe extern "C" fn(*mut c_void, u32, *mut Batch) -> i32;
    #[repr(C)]
    pub struct Component {
        pub struct_size: u32,
        pub kind: u32,
        pub r#type: *const c_char,
        pub version: *const c_char,
        pub summary: *const c_char,
        pub license: *const c_char,
        pub options: *const Opt,
        pub option_size: u32,
        pub n_options: u32,
        pub metrics: *const c_void,
        pub metric_size: u32,
        pub n_metrics: u32,
        pub outputs: *const *const c_char,
        pub reasons: *const *const c_char,
        pub conf_size: usize,
        pub create: unsafe extern "C" fn(*const Host, *const c_void, *mut *mut c_void) -> i32,
        pub destroy: Call,
        pub start: Ask,
        pub stop: Call,
        pub process: Option<Process>,
        pub pause: Option<Call>,
        pub resume: Option<Call>,
        pub drain: Ask,
        pub acked: Unused,
        pub idle: Unused,
        pub extension: Unused,
        pub flags: u32,
        pub reserved: u32,
    }

    #[repr(C)]
    pub struct Entry {
        pub struct_size: u32,
        pub n_components: u32,
        pub components: *const *const Component,
    }

    // constants, which nobody changes
    unsafe impl Sync for Opt {}
    unsafe impl Sync for Component {}
    unsafe impl Sync for Entry {}
}

/// A text as the host reads it.
#[macro_export]
macro_rules! text {
    ($text:expr) => {
        concat!($text, "\0").as_ptr() as *const std::os::raw::c_char
    };
}

// ---- options ----------------------------------------------------------------------------------------------------------

/// A member of the conf struct, which is an array of these here: the option in row i is at i.
#[repr(C)]
#[derive(Clone, Copy)]
pub union Value {
    pub number: i64,
    pub text: *const c_char,
}

/// Row `i` of an option table; `default` NULL: none.  Both limits 0: none.
pub const fn option(i: usize, key: *const c_char, r#type: u32, default: *const c_char, help: *const c_char, flags: u32,
                    min: i64, max: i64) -> ffi::Opt {
    ffi::Opt {
        key,
        default_text: default,
        help,
        choices: std::ptr::null(),
        schema: std::ptr::null(),
        r#type,
        flags,
        offset: (i * std::mem::size_of::<Value>()) as u32,
        reserved: 0,
        min,
        max,
    }
}

/// What the configuration says, in create only: keep what you need.
pub struct Conf<'a> {
    values: *const Value,
    options: &'static [ffi::Opt],
    host: PhantomData<&'a ()>,
}

impl Conf<'_> {
    fn find(&self, key: &str, text: bool) -> Value {
        let is_it = |o: &&ffi::Opt| unsafe { CStr::from_ptr(o.key) }.to_bytes() == key.as_bytes();
        let option = self.options.iter().find(is_it).unwrap_or_else(|| panic!("there is no option {}", key));
        assert!((option.r#type == STRING) == text, "the option {} is of another type", key);
        unsafe { *self.values.add(option.offset as usize / std::mem::size_of::<Value>()) }
    }

    /// A number, a size, nanoseconds, or 0 and 1.
    pub fn number(&self, key: &str) -> i64 {
        unsafe { self.find(key, false).number }
    }

    /// A string; None: not set.
    pub fn text(&self, key: &str) -> Option<String> {
        let text = unsafe { self.find(key, true).text };
        (!text.is_null()).then(|| unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned())
    }
}

// ---- the host ---------------------------------------------------------------------------------------------------------

/// The host as one instance sees it: valid as long as the instance.
#[derive(Clone, Copy)]
pub struct Host(*const ffi::Host);

/// A text for the host; what stands behind a NUL is cut off.
fn c_text(text: &str) -> CString {
    let end = text.find('\0').unwrap_or(text.len());
    CString::new(&text[..end]).unwrap_or_default()
}

impl Host {
    /// For functions of the SDK's base library.
    pub fn raw(&self) -> *const ffi::Host {
        self.0
    }

    /// Count events that were given to process() as lost, for row reason of Component::REASONS.
    pub fn drop_events(&self, reason: u32, n: u64) {
        unsafe { ((*self.0).drop)(self.0, reason, n) }
    }

    pub fn log(&self, level: i32, text: &str) {
        unsafe { ((*self.0).log)(self.0, level, c_text(text).as_ptr()) }
    }

    /// In create: what stands at pointer is wrong, and why; return Err(EINVAL) then.
    pub fn config_error(&self, pointer: &str, text: &str) {
        unsafe { ((*self.0).config_error)(self.0, c_text(pointer).as_ptr(), c_text(text).as_ptr()) }
    }

    /// Why it works worse than it should; None: it works well again.
    pub fn set_degraded(&self, reason: Option<&str>) {
        let text = reason.map(c_text);
        unsafe { ((*self.0).set_degraded)(self.0, text.as_ref().map_or(std::ptr::null(), |t| t.as_ptr())) }
    }

    /// An empty batch with room for so many rows, and so many bytes for payloads of its own.
    pub fn batch<'a>(&self, parent: Option<&'a Batch>, rows: u32, bytes: usize) -> Result<NewBatch<'a>, i32> {
        let above = parent.map_or(std::ptr::null_mut(), |p| p.raw);
        let raw = unsafe { ((*self.0).batch_new)(self.0, above, rows, bytes) };
        if raw.is_null() {
            return Err(ENOMEM);
        }
        Ok(NewBatch { host: *self, raw, parent, used: 0 })
    }

    /// The loop that the instance lives on.
    pub fn run_loop(&self) -> Result<Loop, i32> {
        let mut found = ffi::Iface { vtbl: std::ptr::null(), this: std::ptr::null_mut() };
        let size = std::mem::size_of::<ffi::Loop>() as u32;
        let rc = unsafe { ((*self.0).query)(self.0, text!("semstreams.loop/1"), size, &mut found) };
        if rc < 0 {
            return Err(-rc);
        }
        Ok(Loop { table: found.vtbl as *const ffi::Loop, this: found.this })
    }
}

pub struct Loop {
    table: *const ffi::Loop,
    this: *mut c_void,
}

impl Loop {
    /// Call component.timer() after first_ns, then every every_ns; its id is for cancel().  To be called by a callback of
    /// this component, with itself.
    pub fn timer<C: Component>(&self, component: &C, first_ns: u64, every_ns: u64) -> Result<u32, i32> {
        let arg = component as *const C as *mut c_void;
        let mut id = 0;
        let rc = unsafe { ((*self.table).timer)(self.this, first_ns, every_ns, on_timer::<C>, arg, &mut id) };
        if rc < 0 { Err(-rc) } else { Ok(id) }
    }

    pub fn cancel(&self, id: u32) {
        unsafe { ((*self.table).cancel)(self.this, id) }
    }
}

// ---- batches ----------------------------------------------------------------------------------------------------------

/// A row of a batch.
#[repr(transparent)]
pub struct Event(ffi::Event);

impl Event {
    pub fn payload(&self) -> &[u8] {
        if self.0.len == 0 {
            return &[];
        }
        unsafe { std::slice::from_raw_parts(self.0.data, self.0.len as usize) }
    }

    /// When it was received, ns since 1970.
    pub fn time_ns(&self) -> u64 {
        self.0.time_ns
    }
}

/// A batch that came in; others read it, too.
pub struct Batch<'a> {
    raw: *mut ffi::Batch,
    call: PhantomData<&'a ()>,
}

impl Batch<'_> {
    /// For functions of the SDK's base library.
    pub fn raw(&self) -> *mut ffi::Batch {
        self.raw
    }

    pub fn events(&self) -> &[Event] {
        unsafe {
            match (*self.raw).count {
                0 => &[],
                n => std::slice::from_raw_parts((*self.raw).events as *const Event, n as usize),
            }
        }
    }
}

/// A batch that is being made.
pub struct NewBatch<'a> {
    host: Host,
    raw: *mut ffi::Batch,
    parent: Option<&'a Batch<'a>>,
    used: usize, // bytes of its own
}

impl NewBatch<'_> {
    fn add(&mut self, event: ffi::Event) {
        unsafe {
            assert!((*self.raw).count < (*self.raw).capacity, "the batch has no row left");
            (*self.raw).events.add((*self.raw).count as usize).write(event);
            (*self.raw).count += 1;
        }
    }

    /// Row i of the parent as it is, without copying its payload.
    pub fn pass(&mut self, i: usize) {
        let row = &self.parent.expect("the batch has no parent").events()[i].0;
        self.add(unsafe { std::ptr::read(row) });
    }

    /// A payload of its own, copied.
    pub fn push(&mut self, payload: &[u8], time_ns: u64) {
        let data = self.copy(payload);
        self.add(ffi::Event { data, len: payload.len() as u32, flags: 0, attributes: 0, time_ns, seq: 0 });
    }

    /// Row i of the parent with another payload, copied: its time, sequence and attributes stay.
    pub fn replace(&mut self, i: usize, payload: &[u8]) {
        let row = &self.parent.expect("the batch has no parent").events()[i].0;
        let data = self.copy(payload);
        self.add(ffi::Event { data, len: payload.len() as u32, ..unsafe { std::ptr::read(row) } });
    }

    fn copy(&mut self, payload: &[u8]) -> *const u8 {
        let data = unsafe {
            assert!(payload.len() <= (*self.raw).size - self.used, "the batch has no bytes left");
            (*self.raw).data.wrapping_add(self.used)
        };
        if !payload.is_empty() {
            unsafe { std::ptr::copy_nonoverlapping(payload.as_ptr(), data, payload.len()) };
        }
        self.used += payload.len();
        data
    }

    /// Send it to all that read that output; nothing, if it is empty.
    pub fn emit(self, port: u32) {
        unsafe {
            if (*self.raw).count > 0 {
                ((*self.host.0).emit)(self.host.0, port, self.raw);
            }
        }
    }
}

impl Drop for NewBatch<'_> {
    fn drop(&mut self) {
        unsafe { ((*self.host.0).batch_unref)(self.raw) }
    }
}

// ---- components -------------------------------------------------------------------------------------------------------

/// One instance.  No two threads are in it at once, but a callback may come while another one runs, as pause() during
/// emit(): so all of them get &self, and what changes is in Cell or RefCell.
pub trait Component: Sized {
    const OPTIONS: &'static [ffi::Opt];
    /// Names of the outputs, and reasons why events are dropped: texts with a NULL at the end; none: one output without name.
    const OUTPUTS: &'static [*const c_char] = &[];
    const REASONS: &'static [*const c_char] = &[];

    fn create(host: Host, conf: Conf) -> Result<Self, i32>;
    fn host(&self) -> Host;
    fn start(&self) -> Result<(), i32> {
        Ok(())
    }
    fn stop(&self) {}
    /// Ok: the component is finished with the batch.
    fn process(&self, _port: u32, _batch: &Batch) -> Result<(), i32> {
        Ok(())
    }
    fn pause(&self) {}
    fn resume(&self) {}
    /// Afterwards nothing is held any more.
    fn drain(&self) {}
    /// Of Loop::timer().
    fn timer(&self) {}
}

/// What a callback returns to the host; a panic is a line of the log (and, by Rust itself, of stderr).
fn guarded(host: Host, callback: &str, f: impl FnOnce() -> Result<(), i32>) -> i32 {
    match catch_unwind(AssertUnwindSafe(f)) {
        Ok(Ok(())) => 0,
        Ok(Err(code)) => -code,
        Err(payload) => {
            let text = payload.downcast_ref::<&str>().copied();
            let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("unknown");
            host.log(ERROR, &format!("Panic callback={} error={:?}", callback, text));
            std::mem::forget(payload); // dropping it could panic again
            -EIO
        }
    }
}

unsafe fn call<C: Component>(this: *mut c_void, callback: &str, f: impl FnOnce(&C) -> Result<(), i32>) -> i32 {
    let component = &*(this as *const C);
    guarded(component.host(), callback, || f(component))
}

unsafe extern "C" fn create<C: Component>(host: *const ffi::Host, conf: *const c_void, this: *mut *mut c_void) -> i32 {
    let host = Host(host);
    guarded(host, "create", || {
        let conf = Conf { values: conf as *const Value, options: C::OPTIONS, host: PhantomData };
        *this = Box::into_raw(Box::new(C::create(host, conf)?)) as *mut c_void;
        Ok(())
    })
}

unsafe extern "C" fn destroy<C: Component>(this: *mut c_void) {
    let host = (*(this as *const C)).host();
    guarded(host, "destroy", || {
        drop(Box::from_raw(this as *mut C));
        Ok(())
    });
}

unsafe extern "C" fn start<C: Component>(this: *mut c_void) -> i32 {
    call(this, "start", |c: &C| c.start())
}

unsafe extern "C" fn stop<C: Component>(this: *mut c_void) {
    call(this, "stop", |c: &C| Ok(c.stop()));
}

unsafe extern "C" fn process<C: Component>(this: *mut c_void, port: u32, batch: *mut ffi::Batch) -> i32 {
    call(this, "process", |c: &C| c.process(port, &Batch { raw: batch, call: PhantomData }))
}

unsafe extern "C" fn pause<C: Component>(this: *mut c_void) {
    call(this, "pause", |c: &C| Ok(c.pause()));
}

unsafe extern "C" fn resume<C: Component>(this: *mut c_void) {
    call(this, "resume", |c: &C| Ok(c.resume()));
}

unsafe extern "C" fn drain<C: Component>(this: *mut c_void) -> i32 {
    call(this, "drain", |c: &C| Ok(c.drain()))
}

unsafe extern "C" fn on_timer<C: Component>(this: *mut c_void) {
    call(this, "timer", |c: &C| Ok(c.timer()));
}

const fn list(texts: &'static [*const c_char]) -> *const *const c_char {
    if texts.is_empty() { std::ptr::null() } else { texts.as_ptr() }
}

/// What the host reads; for `register!`.
pub const fn component<C: Component>(kind: u32, r#type: *const c_char, summary: *const c_char, flags: u32) -> ffi::Component {
    ffi::Component {
        struct_size: std::mem::size_of::<ffi::Component>() as u32,
        kind,
        r#type,
        version: text!("0.1.0"),
        summary,
        license: text!("MIT"),
        options: C::OPTIONS.as_ptr(),
        option_size: std::mem::size_of::<ffi::Opt>() as u32,
        n_options: C::OPTIONS.len() as u32,
        metrics: std::ptr::null(),
        metric_size: 0,
        n_metrics: 0,
        outputs: list(C::OUTPUTS),
        reasons: list(C::REASONS),
        conf_size: C::OPTIONS.len() * std::mem::size_of::<Value>(),
        create: create::<C>,
        destroy: destroy::<C>,
        start: start::<C>,
        stop: stop::<C>,
        process: if kind == SOURCE { None } else { Some(process::<C>) },
        pause: if kind == SOURCE { Some(pause::<C>) } else { None },
        resume: if kind == SOURCE { Some(resume::<C>) } else { None },
        drain: drain::<C>,
        acked: std::ptr::null(),
        idle: std::ptr::null(),
        extension: std::ptr::null(),
        flags,
        reserved: 0,
    }
}

/// Export a component: `register!(Thin, PROCESSOR, "thin", "Passes on one event in so many.", TELLS_PATHS);`
#[macro_export]
macro_rules! register {
    ($component:ty, $kind:expr, $type:expr, $summary:expr, $flags:expr) => {
        static COMPONENT: semstreams::ffi::Component =
            semstreams::component::<$component>($kind, $crate::text!($type), $crate::text!($summary), $flags);
        #[repr(transparent)]
        struct List([*const semstreams::ffi::Component; 1]);
        unsafe impl Sync for List {}
        static LIST: List = List([&COMPONENT]);
        #[no_mangle]
        #[allow(non_upper_case_globals)]
        pub static semstreams_entry_v1: semstreams::ffi::Entry = semstreams::ffi::Entry {
            struct_size: std::mem::size_of::<semstreams::ffi::Entry>() as u32,
            n_components: 1,
            components: &LIST as *const List as *const *const semstreams::ffi::Component,
        };
    };
}

// ---- tests ------------------------------------------------------------------------------------------------------------

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt::Write;
    use std::mem::{size_of, MaybeUninit};

    fn size_at<T>(_: *const T) -> usize {
        size_of::<T>()
    }

    macro_rules! fields {
        ($out:ident, $name:literal, $type:ty, $($field:ident)*) => {
            $({
                let place = MaybeUninit::<$type>::uninit();
                let field = unsafe { std::ptr::addr_of!((*place.as_ptr()).$field) };
                let offset = field as usize - place.as_ptr() as usize;
                let name = stringify!($field).trim_start_matches("r#").replace("this", "self");
                writeln!($out, "{}.{} {} {}", $name, name, offset, size_at(field)).unwrap();
            })*
        };
    }

    /// Line by line what layout.c prints of the installed headers.
    #[test]
    fn structs_are_those_of_the_headers() {
        let mut ours = String::new();
        fields!(ours, "ss_event", ffi::Event, data len flags attributes time_ns seq);
        fields!(ours, "ss_batch", ffi::Batch, struct_size count capacity footprint events data size);
        fields!(ours, "ss_option", ffi::Opt, key default_text help choices schema r#type flags offset reserved min max);
        fields!(ours, "ss_iface", ffi::Iface, vtbl this);
        fields!(ours, "ss_host", ffi::Host, struct_size reserved r#impl id log config_error batch_new batch_ref batch_unref
                emit drop done input_ready drained track position token_ref token_unref set_health metric_add metric_set
                query set_degraded);
        fields!(ours, "ss_loop", ffi::Loop, struct_size reserved timer fd change cancel post now);
        fields!(ours, "ss_component", ffi::Component, struct_size kind r#type version summary license options option_size
                n_options metrics metric_size n_metrics outputs reasons conf_size create destroy start stop process pause
                resume drain acked idle extension flags reserved);
        fields!(ours, "ss_entry", ffi::Entry, struct_size n_components components);
        writeln!(ours, "ss_event {}", size_of::<ffi::Event>()).unwrap();
        assert_eq!(include_str!(env!("LAYOUT")), ours);
    }

    extern "C" fn swallow(_: *const ffi::Host, _: i32, text: *const c_char) {
        assert_eq!(unsafe { CStr::from_ptr(text) }.to_bytes(), br#"Panic callback=process error="on purpose""#);
    }

    /// A panic becomes an error, and a line of the log.
    #[test]
    fn panics_are_caught() {
        let mut host = MaybeUninit::<ffi::Host>::zeroed();
        unsafe { std::ptr::addr_of_mut!((*host.as_mut_ptr()).log).write(swallow) };
        std::panic::set_hook(Box::new(|_| ()));
        assert_eq!(guarded(Host(host.as_ptr()), "process", || panic!("on purpose")), -EIO);
        let _ = std::panic::take_hook();
        assert_eq!(guarded(Host(host.as_ptr()), "process", || Err(ENOMEM)), -ENOMEM);
    }
}
