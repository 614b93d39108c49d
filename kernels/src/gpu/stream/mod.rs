//! AMD's HIP and NVIDIA's CUDA behind one driver: the same HIP texts, the same calls, two libraries.
//!
//! One stream, one thread. A recording is a graph. Where a device was lost, its context is thrown away with the driver, so
//! that the next one starts afresh. On NVIDIA each kernel may start while the one ahead of it ends: texts
//! fetch weights then, and wait before they touch what others wrote. Nothing of AMD's way runs in tests, for want of a
//! device, but all of it is the code that NVIDIA's way runs.

mod find;

use super::driver::{Buffer, Driver, GpuError, Identity, Kernel, Launch, Place, Recording, Step};
use super::hip;
use super::source::Source;
use find::Found;
pub use find::device;
pub use hip_sys::Vendor;
use hip_sys::{
    CallError, Context, Event, Function, GraphExec, LaunchAttribute, LaunchConfig, Module, Rtc,
    Runtime, Stream,
};
use std::collections::HashMap;
use std::ffi::{c_int, c_void};
use std::ptr;
use std::time::Duration;

/// The kernel attribute that lets launches ask for shared memory beyond 48 KB with what the text declares; both vendors' number.
const DYNAMIC_SHARED_MAX: c_int = 8;
/// A stream that does not wait for the default one.
const NON_BLOCKING: u32 = 1;
/// Recording refuses only calls of this thread that cannot be recorded.
const CAPTURE_THREAD: c_int = 1;
/// Statuses of both vendors that mean a full memory, and those after which the context is gone: the device is away (46),
/// a kernel that went wrong or hung (700 to 719), a context that was thrown away (201, 709).
const OUT_OF_MEMORY: i32 = 2;
const LOST: [i32; 9] = [46, 201, 700, 702, 709, 714, 715, 717, 719];

struct Loaded {
    module: Module,
    function: Function,
    threads: u32,
    shared_bytes: u32,
}

struct Memory {
    address: *mut c_void,
    bytes: u64,
}

/// An open device of one vendor.
pub struct StreamDriver {
    runtime: Runtime,
    compiler: Rtc,
    identity: Identity,
    architecture: String,
    context: Context,
    overlap: bool,
    stream: Stream,
    before: Event,
    after: Event,
    timed: bool,
    running: bool,
    lost: bool,
    memories: HashMap<u32, Memory>,
    kernels: HashMap<u32, Loaded>,
    recordings: HashMap<u32, GraphExec>,
    next: u32,
}

// SAFETY: the handles belong to the process' context of the device, not to a thread; calls come from one thread at a
// time (the trait's contract), and each makes the context current before it uses them.
unsafe impl Send for StreamDriver {}

fn failed(error: CallError) -> GpuError {
    match error {
        CallError::Failed { symbol, status, .. } if LOST.contains(&status) => {
            GpuError::Lost { reason: symbol }
        }
        CallError::Failed { symbol, .. } => GpuError::Call {
            call: symbol,
            reason: error.to_string(),
        },
        CallError::MissingSymbol { symbol, .. } => GpuError::Call {
            call: symbol,
            reason: error.to_string(),
        },
        CallError::ZeroByte { what } => GpuError::Call {
            call: "a call",
            reason: what.to_owned(),
        },
    }
}

impl StreamDriver {
    /// Opens the first device of a vendor.
    ///
    /// # Errors
    /// As [`device`], and no memory for a context.
    pub fn open(vendor: Vendor) -> Result<StreamDriver, GpuError> {
        let Found {
            runtime,
            compiler,
            identity,
            architecture,
        } = find::find(vendor)?;
        let mut context: Context = ptr::null_mut();
        // SAFETY: numbers and live pointers; the device exists.
        unsafe {
            match vendor {
                Vendor::Amd => runtime.set_device(0),
                Vendor::Nvidia => runtime
                    .primary_context_retain(&mut context, 0)
                    .and_then(|()| runtime.context_set_current(context)),
            }
        }
        .map_err(failed)?;
        let (mut stream, mut before, mut after) =
            (ptr::null_mut(), ptr::null_mut(), ptr::null_mut());
        // SAFETY: pointers to live handles that the calls fill.
        unsafe {
            runtime
                .stream_create_with_flags(&mut stream, NON_BLOCKING)
                .and_then(|()| runtime.event_create(&mut before, 0))
                .and_then(|()| runtime.event_create(&mut after, 0))
                .map_err(failed)?;
        }
        Ok(StreamDriver {
            overlap: vendor == Vendor::Nvidia,
            runtime,
            compiler,
            identity,
            architecture,
            context,
            stream,
            before,
            after,
            timed: false,
            running: false,
            lost: false,
            memories: HashMap::new(),
            kernels: HashMap::new(),
            recordings: HashMap::new(),
            next: 1,
        })
    }

    /// What code is compiled for: `sm_90`, `gfx1151`.
    pub fn architecture(&self) -> &str {
        &self.architecture
    }

    /// Whether kernels may start while the one ahead ends, from the next recording on.
    pub fn set_overlap(&mut self, overlap: bool) {
        self.overlap = overlap && self.runtime.vendor() == Vendor::Nvidia;
    }

    fn id(&mut self) -> u32 {
        self.next += 1;
        self.next
    }

    fn memory(&self, buffer: Buffer) -> Result<&Memory, GpuError> {
        self.memories.get(&buffer.0).ok_or(GpuError::Call {
            call: "buffer",
            reason: "it was freed".to_owned(),
        })
    }

    /// The address of a range of a buffer.
    fn range(&self, buffer: Buffer, at: u64, bytes: u64) -> Result<*mut c_void, GpuError> {
        let memory = self.memory(buffer)?;
        if at + bytes > memory.bytes {
            return Err(GpuError::Call {
                call: "copy",
                reason: format!("{bytes} bytes at {at} of {}", memory.bytes),
            });
        }
        Ok(memory.address.wrapping_byte_add(at as usize))
    }

    fn outcome<T>(&mut self, result: Result<T, CallError>) -> Result<T, GpuError> {
        result.map_err(|error| {
            let error = failed(error);
            self.lost |= matches!(error, GpuError::Lost { .. });
            error
        })
    }

    /// Says whether the device can be used, and makes it the calling thread's.
    fn alive(&self) -> Result<(), GpuError> {
        if self.lost {
            return Err(GpuError::Lost {
                reason: "before this call",
            });
        }
        // SAFETY: device 0 exists; the context is held by this driver for good.
        unsafe {
            match self.runtime.vendor() {
                Vendor::Amd => self.runtime.set_device(0),
                Vendor::Nvidia => self.runtime.context_set_current(self.context),
            }
        }
        .map_err(failed)
    }

    /// Queues one kernel.
    fn launch(&self, launch: &Launch) -> Result<(), GpuError> {
        let kernel = self.kernels.get(&launch.kernel.0).ok_or(GpuError::Call {
            call: "kernel",
            reason: "it is not loaded".to_owned(),
        })?;
        let mut addresses = Vec::with_capacity(launch.buffers.len());
        for buffer in &launch.buffers {
            addresses.push(self.memory(*buffer)?.address);
        }
        let mut numbers = launch.args.clone();
        let mut arguments: Vec<*mut c_void> = addresses
            .iter_mut()
            .map(|address| ptr::from_mut(address).cast())
            .chain(
                numbers
                    .iter_mut()
                    .map(|number| ptr::from_mut(number).cast()),
            )
            .collect();
        let ([x, y, z], none) = (launch.grid, ptr::null_mut());
        // SAFETY: the kernel is loaded; its text takes the buffers' addresses and then the numbers (checked by every
        // operation's own test), and both live across the call, which copies them.
        unsafe {
            if self.overlap {
                let attributes = [LaunchAttribute::OVERLAP];
                let config = LaunchConfig {
                    grid: [x, y, z],
                    block: [kernel.threads, 1, 1],
                    shared_bytes: kernel.shared_bytes,
                    stream: self.stream,
                    attributes: attributes.as_ptr(),
                    n_attributes: 1,
                };
                let (function, arguments) = (kernel.function, arguments.as_mut_ptr());
                self.runtime
                    .launch_kernel_ex(&config, function, arguments, none)
            } else {
                self.runtime.module_launch_kernel(
                    kernel.function,
                    x,
                    y,
                    z,
                    kernel.threads,
                    1,
                    1,
                    kernel.shared_bytes,
                    self.stream,
                    arguments.as_mut_ptr(),
                    none,
                )
            }
        }
        .map_err(failed)
    }

    fn queue(&self, steps: &[Step]) -> Result<(), GpuError> {
        for step in steps {
            match step {
                Step::Launch(launch) => self.launch(launch)?,
                Step::Copy { from, to, bytes } => {
                    let source = self.range(from.0, from.1, *bytes)?;
                    let target = self.range(to.0, to.1, *bytes)?;
                    // SAFETY: both ranges are inside live buffers of this device.
                    unsafe {
                        self.runtime
                            .memcpy_dtod_async(target, source, *bytes as usize, self.stream)
                    }
                    .map_err(failed)?;
                }
            }
        }
        Ok(())
    }
}

impl Driver for StreamDriver {
    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn compile(&self, source: &Source) -> Result<Vec<u8>, GpuError> {
        match self.runtime.vendor() {
            Vendor::Amd => hip::compile(&self.compiler, source, &self.architecture),
            Vendor::Nvidia => hip::compile_nvidia(&self.compiler, source, &self.architecture),
        }
    }

    fn load(&mut self, source: &Source, code: &[u8]) -> Result<Kernel, GpuError> {
        self.alive()?;
        let (mut module, mut function) = (ptr::null_mut(), ptr::null_mut());
        let shared_bytes = source.constant("SHARED_BYTES").unwrap_or(0);
        // SAFETY: the code came from this device's compiler (a damaged cache entry is found by its checksum before it
        // comes here) and names its own length; the entry's name is terminated.
        unsafe {
            let runtime = &self.runtime;
            runtime
                .module_load_data(&mut module, code.as_ptr().cast())
                .and_then(|()| {
                    let entry = hip::ENTRY.as_ptr();
                    runtime.module_get_function(&mut function, module, entry)
                })
                .and_then(|()| {
                    if shared_bytes == 0 {
                        return Ok(());
                    }
                    let bytes = shared_bytes as c_int;
                    runtime.func_set_attribute(function, DYNAMIC_SHARED_MAX, bytes)
                })
                .map_err(failed)?;
        }
        let id = self.id();
        self.kernels.insert(
            id,
            Loaded {
                module,
                function,
                threads: source.constant("NT").unwrap_or(super::ops::THREADS),
                shared_bytes,
            },
        );
        Ok(Kernel(id))
    }

    /// The place is not looked at: kernels read what the processor writes from the device's own memory, and each
    /// [`Driver::write`] and [`Driver::read`] is a copy.
    fn alloc(&mut self, bytes: u64, _place: Place) -> Result<Buffer, GpuError> {
        self.alive()?;
        let bytes = bytes.max(16).next_multiple_of(16);
        let mut address = ptr::null_mut();
        // SAFETY: a live pointer that the call fills.
        match unsafe { self.runtime.malloc(&mut address, bytes as usize) } {
            Err(CallError::Failed { status, .. }) if status == OUT_OF_MEMORY => {
                return Err(GpuError::Memory { bytes });
            }
            other => self.outcome(other)?,
        }
        // SAFETY: the range is the one just made.
        let zeroed = unsafe {
            self.runtime
                .memset_async(address, 0, bytes as usize, self.stream)
        };
        self.outcome(zeroed)?;
        let id = self.id();
        self.memories.insert(id, Memory { address, bytes });
        Ok(Buffer(id))
    }

    fn free(&mut self, buffer: Buffer) {
        let _ = self.alive();
        if let Some(memory) = self.memories.remove(&buffer.0) {
            // SAFETY: made by `alloc` and freed once; freeing waits for what is running.
            let _ = unsafe { self.runtime.free(memory.address) };
        }
    }

    fn write(&mut self, buffer: Buffer, at: u64, bytes: &[u8]) -> Result<(), GpuError> {
        self.alive()?;
        let target = self.range(buffer, at, bytes.len() as u64)?;
        let source = bytes.as_ptr().cast_mut().cast();
        // SAFETY: the range is inside a live buffer; the call only reads the bytes, and has copied them (or has the
        // device copy them from where the next call waits) when it returns.
        let copied = unsafe {
            self.runtime
                .memcpy_htod_async(target, source, bytes.len(), self.stream)
        };
        self.outcome(copied)?;
        if bytes.len() > SMALL_BYTES {
            self.running = true;
            self.sync()?;
        }
        Ok(())
    }

    fn read(&mut self, buffer: Buffer, at: u64, bytes: &mut [u8]) -> Result<(), GpuError> {
        self.alive()?;
        let source = self.range(buffer, at, bytes.len() as u64)?;
        // SAFETY: the range is inside a live buffer; the bytes live until the wait below is over.
        let copied = unsafe {
            self.runtime.memcpy_dtoh_async(
                bytes.as_mut_ptr().cast(),
                source,
                bytes.len(),
                self.stream,
            )
        };
        self.outcome(copied)?;
        self.running = true;
        self.sync()
    }

    fn record(&mut self, steps: &[Step]) -> Result<Recording, GpuError> {
        self.alive()?;
        let (mut graph, mut exec) = (ptr::null_mut(), ptr::null_mut());
        // SAFETY: the stream is this driver's own.
        let begun = unsafe {
            self.runtime
                .stream_begin_capture(self.stream, CAPTURE_THREAD)
        };
        self.outcome(begun)?;
        let queued = self.queue(steps);
        // SAFETY: the capture was begun above and is ended once, whatever happened in between; the graph is destroyed
        // once it has been made ready.
        let ended = unsafe { self.runtime.stream_end_capture(self.stream, &mut graph) };
        queued?;
        self.outcome(ended)?;
        // SAFETY: the graph is the one just ended.
        let ready = unsafe { self.runtime.graph_instantiate(&mut exec, graph, 0) };
        // SAFETY: made above, not used again.
        let _ = unsafe { self.runtime.graph_destroy(graph) };
        self.outcome(ready)?;
        let id = self.id();
        self.recordings.insert(id, exec);
        Ok(Recording(id))
    }

    fn replay(&mut self, recording: Recording) -> Result<(), GpuError> {
        self.alive()?;
        let exec = *self
            .recordings
            .get(&recording.0)
            .ok_or_else(|| GpuError::Call {
                call: "replay",
                reason: "the recording was forgotten".to_owned(),
            })?;
        // SAFETY: events, stream and recording are this driver's own and alive.
        let started = unsafe {
            let (runtime, stream) = (&self.runtime, self.stream);
            runtime
                .event_record(self.before, stream)
                .and_then(|()| runtime.graph_launch(exec, stream))
                .and_then(|()| runtime.event_record(self.after, stream))
        };
        self.outcome(started)?;
        self.running = true;
        self.timed = true;
        Ok(())
    }

    fn sync(&mut self) -> Result<(), GpuError> {
        self.alive()?;
        if self.running {
            // SAFETY: the stream is this driver's own.
            let waited = unsafe { self.runtime.stream_synchronize(self.stream) };
            self.outcome(waited)?;
            self.running = false;
        }
        Ok(())
    }

    fn elapsed(&mut self) -> Option<Duration> {
        self.sync().ok()?;
        let mut milliseconds = 0.0;
        // SAFETY: both events were recorded by a replay that has been waited for.
        let asked = self.timed.then(|| unsafe {
            self.runtime
                .event_elapsed_time(&mut milliseconds, self.before, self.after)
        })?;
        asked.ok()?;
        Some(Duration::from_secs_f64(f64::from(milliseconds) / 1e3))
    }

    fn forget(&mut self, recording: Recording) {
        if self.sync().is_ok()
            && let Some(exec) = self.recordings.remove(&recording.0)
        {
            // SAFETY: made by `record`, not running, destroyed once.
            let _ = unsafe { self.runtime.graph_exec_destroy(exec) };
        }
    }
}

/// Bytes that a driver copies aside before a queued write returns, by both vendors' word.
const SMALL_BYTES: usize = 64 << 10;

impl Drop for StreamDriver {
    fn drop(&mut self) {
        let _ = self.alive();
        // SAFETY: everything below was made by this driver and is ended once, after all work is over; on a lost
        // device the calls fail, which is all right.
        unsafe {
            let _ = self.runtime.stream_synchronize(self.stream);
            for (_, exec) in self.recordings.drain() {
                let _ = self.runtime.graph_exec_destroy(exec);
            }
            for (_, memory) in self.memories.drain() {
                let _ = self.runtime.free(memory.address);
            }
            for (_, kernel) in self.kernels.drain() {
                let _ = self.runtime.module_unload(kernel.module);
            }
            let _ = self.runtime.event_destroy(self.before);
            let _ = self.runtime.event_destroy(self.after);
            let _ = self.runtime.stream_destroy(self.stream);
            // A context keeps the error that it died of until it is thrown away, and the process shares it: whatever
            // else runs in it is dead too, and hears so at its next call.
            let _ = match (self.runtime.vendor(), self.lost) {
                (Vendor::Amd, true) => self.runtime.device_reset(),
                (Vendor::Amd, false) => Ok(()),
                (Vendor::Nvidia, true) => self.runtime.primary_context_reset(0),
                (Vendor::Nvidia, false) => self.runtime.primary_context_release(0),
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::ops::{THREADS, catalogue};

    /// A device of a vendor; where there is none, the reason must say what is missing.
    fn device(vendor: Vendor) -> Option<StreamDriver> {
        match StreamDriver::open(vendor) {
            Ok(driver) => Some(driver),
            Err(GpuError::Missing { backend, reason }) => {
                eprintln!("SKIPPED: no kernel was run through {backend}: {reason}");
                assert!(reason.contains("lib"), "{reason}");
                None
            }
            Err(GpuError::NoDevice { reason }) => {
                eprintln!("SKIPPED: no kernel was run: {reason}");
                assert!(!reason.is_empty());
                None
            }
            Err(error) => panic!("{error}"),
        }
    }

    #[test]
    fn every_operation_is_exact_wherever_there_is_a_device() {
        for vendor in [Vendor::Nvidia, Vendor::Amd] {
            let Some(mut driver) = device(vendor) else {
                continue;
            };
            for op in catalogue() {
                let source = op.source();
                let code = driver.compile(&source).unwrap();
                let kernel = driver.load(&source, &code).unwrap();
                let checked = op.case(1).check(&mut driver, &source.name(), kernel, true);
                checked.unwrap_or_else(|error| panic!("{error}"));
            }
        }
    }

    #[test]
    fn texts_that_name_no_threads_have_the_usual_number() {
        for op in catalogue() {
            let source = op.source();
            let threads = source.constant("NT").unwrap_or(THREADS);
            assert!(
                threads > 0 && threads <= 1024 && threads.is_multiple_of(32),
                "{op:?}"
            );
        }
    }

    #[test]
    fn a_full_memory_and_a_lost_device_are_told_apart_from_other_failures() {
        let error = |status| {
            failed(CallError::Failed {
                symbol: "cuStreamSynchronize",
                status,
                name: None,
            })
        };
        assert!(matches!(error(700), GpuError::Lost { .. }));
        assert!(matches!(error(1), GpuError::Call { .. }));
    }
}
