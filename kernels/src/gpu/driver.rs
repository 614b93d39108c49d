//! What a backend must do: compile, load, allocate, copy, record, replay, wait. Knows nothing of operations.

use super::source::Source;
use std::time::Duration;

/// Memory on a device, by a number that its driver gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Buffer(pub u32);

/// A loaded kernel, by a number that its driver gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Kernel(pub u32);

/// Recorded work, by a number that its driver gave: one command buffer or graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Recording(pub u32);

/// Where memory lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// As near to the device as can be; written and read through copies.
    Device,
    /// Visible to the processor at all times.
    Host,
}

/// One kernel with what it works on.
#[derive(Clone, Debug)]
pub struct Launch {
    /// What runs.
    pub kernel: Kernel,
    /// Workgroups in each direction.
    pub grid: [u32; 3],
    /// Memory by binding.
    pub buffers: Vec<Buffer>,
    /// Numbers passed by value.
    pub args: Vec<u32>,
}

/// One step of recorded work; each sees what the steps before it wrote.
#[derive(Clone, Debug)]
pub enum Step {
    /// Runs a kernel.
    Launch(Launch),
    /// Copies bytes between buffers.
    Copy {
        /// Source and first byte.
        from: (Buffer, u64),
        /// Destination and first byte.
        to: (Buffer, u64),
        /// How many.
        bytes: u64,
    },
}

/// A device and the software that drives it: what compiled kernels and measured times belong to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// `vulkan`, `hip` or `cuda`.
    pub backend: &'static str,
    /// The device's own name.
    pub device: String,
    /// Units that workgroups are spread over; 0 where the device does not tell.
    pub units: u32,
    /// Driver, its version, and what else decides whether code from it can be kept.
    pub driver: String,
    /// What turns text into code, and its release.
    pub compiler: String,
    /// Whether the "device" is the processor in disguise.
    pub software: bool,
    /// Whether the device shares the machine's memory.
    pub shared_memory: bool,
    /// Bytes of the largest heap that the device computes from.
    pub memory_bytes: u64,
    /// Bytes that one kernel may see through one binding.
    pub binding_bytes_max: u64,
    /// Whether the device's multiply-add rounds once.
    pub fused: bool,
}

/// Why a device gives no result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GpuError {
    /// The loader or the vendor's library is not there.
    #[error(
        "{backend} is not installed: {reason}; {}",
        match *backend {
            "vulkan" => "install your distribution's Vulkan driver (Debian and Ubuntu: mesa-vulkan-drivers, Fedora: mesa-vulkan-drivers, Arch: vulkan-radeon)",
            "cuda" => "install NVIDIA's driver and libnvrtc; vulkan does without both",
            _ => "install ROCm's hip runtime and hiprtc; vulkan does without both",
        }
    )]
    Missing {
        /// Which backend.
        backend: &'static str,
        /// The system's words.
        reason: String,
    },
    /// The library is there and offers no device that can run the kernels.
    #[error("no usable gpu: {reason}")]
    NoDevice {
        /// What was found and why it does not do.
        reason: String,
    },
    /// Text that does not compile.
    #[error("kernel {op} does not compile: {log}")]
    Compile {
        /// The operation.
        op: String,
        /// The compiler's words.
        log: String,
    },
    /// A call that failed.
    #[error("{call} failed: {reason}")]
    Call {
        /// The call.
        call: &'static str,
        /// The driver's word.
        reason: String,
    },
    /// The device has no memory left.
    #[error(
        "the gpu has no room for {bytes} more bytes; unload a model, or set ternary.device = \"cpu\""
    )]
    Memory {
        /// Bytes asked for.
        bytes: u64,
    },
    /// A matrix or cache larger than one binding.
    #[error("{what} takes {bytes} bytes and this gpu lets a kernel see {max} at a time")]
    Binding {
        /// What is too large.
        what: &'static str,
        /// Its size.
        bytes: u64,
        /// The device's limit.
        max: u64,
    },
    /// The driver lost the device: a hang, a reset, or it was unplugged.
    #[error("the gpu was lost ({reason}); the model is loaded again at the next request")]
    Lost {
        /// What was going on.
        reason: &'static str,
    },
    /// A kernel whose numbers are not those of the definition.
    #[error("kernel {op} computes other numbers than its definition: {what}")]
    Wrong {
        /// The operation.
        op: String,
        /// Where and by how much.
        what: String,
    },
    /// A model that the device's kernels do not compute.
    #[error("not on the gpu: {0}")]
    Unsupported(String),
}

/// A device that runs kernels. Calls come from one thread at a time.
pub trait Driver: Send {
    /// Which device and software this is.
    fn identity(&self) -> &Identity;

    /// Turns text into code that [`Driver::load`] takes. Needs no device memory.
    ///
    /// # Errors
    /// [`GpuError::Compile`].
    fn compile(&self, source: &Source) -> Result<Vec<u8>, GpuError>;

    /// Makes a kernel of code that was compiled for this device.
    ///
    /// # Errors
    /// The driver refuses the code.
    fn load(&mut self, source: &Source, code: &[u8]) -> Result<Kernel, GpuError>;

    /// Takes memory, zeroed.
    ///
    /// # Errors
    /// [`GpuError::Memory`].
    fn alloc(&mut self, bytes: u64, place: Place) -> Result<Buffer, GpuError>;

    /// Gives memory back. No recording that uses it may be replayed afterwards.
    fn free(&mut self, buffer: Buffer);

    /// Copies bytes to a buffer; nothing recorded may be running.
    ///
    /// # Errors
    /// The copy fails or does not fit.
    fn write(&mut self, buffer: Buffer, at: u64, bytes: &[u8]) -> Result<(), GpuError>;

    /// Copies bytes from a buffer; nothing recorded may be running.
    ///
    /// # Errors
    /// The copy fails or does not fit.
    fn read(&mut self, buffer: Buffer, at: u64, bytes: &mut [u8]) -> Result<(), GpuError>;

    /// Records steps, to be replayed as often as wanted.
    ///
    /// # Errors
    /// The driver has no room for them.
    fn record(&mut self, steps: &[Step]) -> Result<Recording, GpuError>;

    /// Starts recorded work.
    ///
    /// # Errors
    /// [`GpuError::Lost`], or the driver refuses.
    fn replay(&mut self, recording: Recording) -> Result<(), GpuError>;

    /// Waits for all started work.
    ///
    /// # Errors
    /// [`GpuError::Lost`], also when the work does not end.
    fn sync(&mut self) -> Result<(), GpuError>;

    /// What the last replayed recording took on the device; `None` where the device cannot tell.
    fn elapsed(&mut self) -> Option<Duration>;

    /// Forgets recorded work.
    fn forget(&mut self, recording: Recording);

    /// Runs steps once and waits.
    ///
    /// # Errors
    /// As recording, replaying and waiting.
    fn run(&mut self, steps: &[Step]) -> Result<(), GpuError> {
        let recording = self.record(steps)?;
        let outcome = self.replay(recording).and_then(|()| self.sync());
        self.forget(recording);
        outcome
    }
}
