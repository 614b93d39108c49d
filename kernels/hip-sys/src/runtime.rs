//! `libamdhip64`, and `libcuda` for its twin: devices, memory, modules, launches, streams, events and graphs.

use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::fmt;

use crate::load::{self, LoadError};
use crate::table::table;
use crate::{
    CallError, Context, DevicePointer, Event, Function, Graph, GraphExec, Module, Stream, Vendor,
};

/// File names of the runtime, newest first after the unversioned one. Debian ships only versioned ones.
pub const RUNTIME_NAMES: &[&str] = &[
    "libamdhip64.so",
    "libamdhip64.so.7",
    "libamdhip64.so.6",
    "libamdhip64.so.5",
];

/// File names of NVIDIA's driver library; it comes with the kernel driver.
pub const CUDA_NAMES: &[&str] = &["libcuda.so.1", "libcuda.so"];

/// `CUlaunchConfig`: a launch with attributes. Fixed since CUDA 11.8.
#[repr(C)]
#[derive(Debug)]
pub struct LaunchConfig {
    /// Blocks in each direction.
    pub grid: [c_uint; 3],
    /// Threads of a block in each direction.
    pub block: [c_uint; 3],
    /// Bytes of shared memory beyond what the kernel declares.
    pub shared_bytes: c_uint,
    /// Where it is queued.
    pub stream: Stream,
    /// Its attributes.
    pub attributes: *const LaunchAttribute,
    /// How many.
    pub n_attributes: c_uint,
}

/// `CUlaunchAttribute`: a number that says which, and a value of 64 bytes.
#[repr(C, align(8))]
#[derive(Debug, Clone, Copy)]
pub struct LaunchAttribute {
    /// Which.
    pub id: c_int,
    padding: c_int,
    /// Its value; a switch is 0 or 1 in the first number.
    pub value: [c_int; 16],
}

impl LaunchAttribute {
    /// `CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION`, on: the kernel may start before the one ahead of it in
    /// its stream has ended, and waits for it where its text says so.
    pub const OVERLAP: LaunchAttribute = LaunchAttribute {
        id: 6,
        padding: 0,
        value: [1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    };
}

table! {
    /// The HIP runtime's functions, or CUDA's of the same arguments. Having one says that the library is there, not that a GPU is.
    pub struct Runtime {
        /// Starts the runtime; status 100 when there is no GPU it can use.
        init = "hipInit" | "cuInit"(flags: c_uint);
        /// Writes the runtime's version number.
        runtime_get_version = "hipRuntimeGetVersion" | "cuDriverGetVersion"(version: *mut c_int);
        /// Writes the number of usable devices.
        get_device_count = "hipGetDeviceCount" | "cuDeviceGetCount"(count: *mut c_int);
        /// Makes a device the calling thread's current one.
        set_device = "hipSetDevice" | ""(device: c_int);
        /// NVIDIA only: opens the context that a device's users share.
        primary_context_retain = "" | "cuDevicePrimaryCtxRetain"(context: *mut Context, device: c_int);
        /// NVIDIA only: gives such a context back; it ends with its last user.
        primary_context_release = "" | "cuDevicePrimaryCtxRelease_v2"(device: c_int);
        /// NVIDIA only: throws such a context away with everything in it, whoever uses it.
        primary_context_reset = "" | "cuDevicePrimaryCtxReset_v2"(device: c_int);
        /// AMD only: throws everything on the current device away.
        device_reset = "hipDeviceReset" | ""();
        /// NVIDIA only: makes a context the calling thread's current one.
        context_set_current = "" | "cuCtxSetCurrent"(context: Context);
        /// Writes one number about a device.
        device_get_attribute = "hipDeviceGetAttribute" | "cuDeviceGetAttribute"(value: *mut c_int, attribute: c_int, device: c_int);
        /// Writes a device's marketing name, terminated, into `length` bytes.
        device_get_name = "hipDeviceGetName" | "cuDeviceGetName"(name: *mut c_char, length: c_int, device: c_int);
        /// Writes a device's PCI address, terminated, into `length` bytes.
        device_get_pci_bus_id = "hipDeviceGetPCIBusId" | "cuDeviceGetPCIBusId"(address: *mut c_char, length: c_int, device: c_int);
        /// Writes a device's memory in bytes.
        device_total_mem = "hipDeviceTotalMem" | "cuDeviceTotalMem_v2"(bytes: *mut usize, device: c_int);
        /// Writes the current device's free and total memory in bytes.
        mem_get_info = "hipMemGetInfo" | "cuMemGetInfo_v2"(free: *mut usize, total: *mut usize);
        /// Waits for everything on the current device.
        device_synchronize = "hipDeviceSynchronize" | "cuCtxSynchronize"();
        /// Returns and clears the calling thread's last error.
        get_last_error = "hipGetLastError" | ""();

        /// Allocates device memory.
        malloc = "hipMalloc" | "cuMemAlloc_v2"(pointer: *mut DevicePointer, bytes: usize);
        /// Frees device memory.
        free = "hipFree" | "cuMemFree_v2"(pointer: DevicePointer);
        /// Allocates page-locked host memory that the device can reach.
        host_malloc = "hipHostMalloc" | "cuMemHostAlloc"(pointer: *mut *mut c_void, bytes: usize, flags: c_uint);
        /// Frees page-locked host memory.
        host_free = "hipHostFree" | "cuMemFreeHost"(pointer: *mut c_void);
        /// Page-locks existing host memory, so that weights are read where they are mapped.
        host_register = "hipHostRegister" | "cuMemHostRegister_v2"(pointer: *mut c_void, bytes: usize, flags: c_uint);
        /// Ends a [`host_register`](Self::host_register).
        host_unregister = "hipHostUnregister" | "cuMemHostUnregister"(pointer: *mut c_void);
        /// Writes the device's address of page-locked host memory.
        host_get_device_pointer = "hipHostGetDevicePointer" | "cuMemHostGetDevicePointer_v2"(device: *mut DevicePointer, host: *mut c_void, flags: c_uint);
        /// Copies host to device and waits.
        memcpy_htod = "hipMemcpyHtoD" | "cuMemcpyHtoD_v2"(to: DevicePointer, from: *mut c_void, bytes: usize);
        /// Copies device to host and waits.
        memcpy_dtoh = "hipMemcpyDtoH" | "cuMemcpyDtoH_v2"(to: *mut c_void, from: DevicePointer, bytes: usize);
        /// Copies within a device.
        memcpy_dtod = "hipMemcpyDtoD" | "cuMemcpyDtoD_v2"(to: DevicePointer, from: DevicePointer, bytes: usize);
        /// Queues a copy from host to device.
        memcpy_htod_async = "hipMemcpyHtoDAsync" | "cuMemcpyHtoDAsync_v2"(to: DevicePointer, from: *mut c_void, bytes: usize, stream: Stream);
        /// Queues a copy from device to host.
        memcpy_dtoh_async = "hipMemcpyDtoHAsync" | "cuMemcpyDtoHAsync_v2"(to: *mut c_void, from: DevicePointer, bytes: usize, stream: Stream);
        /// Queues a copy within a device.
        memcpy_dtod_async = "hipMemcpyDtoDAsync" | "cuMemcpyDtoDAsync_v2"(to: DevicePointer, from: DevicePointer, bytes: usize, stream: Stream);
        /// Queues setting every byte to `value`.
        memset_async = "hipMemsetAsync" | "cuMemsetD8Async"(to: DevicePointer, value: c_int, bytes: usize, stream: Stream);

        /// Loads a code object from memory.
        module_load_data = "hipModuleLoadData" | "cuModuleLoadData"(module: *mut Module, image: *const c_void);
        /// Unloads a code object.
        module_unload = "hipModuleUnload" | "cuModuleUnload"(module: Module);
        /// Finds a kernel by its terminated name.
        module_get_function = "hipModuleGetFunction" | "cuModuleGetFunction"(function: *mut Function, module: Module, name: *const c_char);
        /// Queues a kernel: grid in blocks, block in threads, arguments as an array of pointers to them.
        module_launch_kernel = "hipModuleLaunchKernel" | "cuLaunchKernel"(
            function: Function,
            grid_x: c_uint, grid_y: c_uint, grid_z: c_uint,
            block_x: c_uint, block_y: c_uint, block_z: c_uint,
            shared_bytes: c_uint, stream: Stream, arguments: *mut *mut c_void, extra: *mut *mut c_void,
        );
        /// NVIDIA only: queues a kernel with what the vendor added to launches, such as [`LaunchAttribute::OVERLAP`].
        launch_kernel_ex = "" | "cuLaunchKernelEx"(
            launch: *const LaunchConfig, function: Function, arguments: *mut *mut c_void, extra: *mut *mut c_void,
        );
        /// Changes one number about a kernel (shared memory that launches may ask for).
        func_set_attribute = "hipFuncSetAttribute" | "cuFuncSetAttribute"(function: Function, attribute: c_int, value: c_int);
        /// Writes one number about a kernel (registers, scratch bytes).
        func_get_attribute = "hipFuncGetAttribute" | "cuFuncGetAttribute"(value: *mut c_int, attribute: c_int, function: Function);
        /// Writes how many blocks of a kernel fit one compute unit.
        occupancy = "hipModuleOccupancyMaxActiveBlocksPerMultiprocessor" | "cuOccupancyMaxActiveBlocksPerMultiprocessor"(
            blocks: *mut c_int, function: Function, block_threads: c_int, shared_bytes: usize,
        );

        /// Makes a stream; flag 1 does not wait for the default stream.
        stream_create_with_flags = "hipStreamCreateWithFlags" | "cuStreamCreate"(stream: *mut Stream, flags: c_uint);
        /// Ends a stream.
        stream_destroy = "hipStreamDestroy" | "cuStreamDestroy_v2"(stream: Stream);
        /// Waits for a stream.
        stream_synchronize = "hipStreamSynchronize" | "cuStreamSynchronize"(stream: Stream);
        /// Makes later work of a stream wait for an event.
        stream_wait_event = "hipStreamWaitEvent" | "cuStreamWaitEvent"(stream: Stream, event: Event, flags: c_uint);
        /// Makes an event; flag 0 is one that can be timed.
        event_create = "hipEventCreateWithFlags" | "cuEventCreate"(event: *mut Event, flags: c_uint);
        /// Ends an event.
        event_destroy = "hipEventDestroy" | "cuEventDestroy_v2"(event: Event);
        /// Puts an event into a stream.
        event_record = "hipEventRecord" | "cuEventRecord"(event: Event, stream: Stream);
        /// Waits for an event.
        event_synchronize = "hipEventSynchronize" | "cuEventSynchronize"(event: Event);
        /// Writes the milliseconds between two events.
        event_elapsed_time = "hipEventElapsedTime" | "cuEventElapsedTime"(milliseconds: *mut f32, start: Event, stop: Event);

        /// Starts recording a stream's work instead of running it.
        stream_begin_capture = "hipStreamBeginCapture" | "cuStreamBeginCapture_v2"(stream: Stream, mode: c_int);
        /// Ends the recording.
        stream_end_capture = "hipStreamEndCapture" | "cuStreamEndCapture"(stream: Stream, graph: *mut Graph);
        /// Makes a recording ready to launch.
        graph_instantiate = "hipGraphInstantiateWithFlags" | "cuGraphInstantiateWithFlags"(exec: *mut GraphExec, graph: Graph, flags: u64);
        /// Queues a recording.
        graph_launch = "hipGraphLaunch" | "cuGraphLaunch"(exec: GraphExec, stream: Stream);
        /// Ends a ready recording.
        graph_exec_destroy = "hipGraphExecDestroy" | "cuGraphExecDestroy"(exec: GraphExec);
        /// Ends a recording.
        graph_destroy = "hipGraphDestroy" | "cuGraphDestroy"(graph: Graph);
    }
}

/// The numbers of `hipDeviceAttribute_t` that kept their meaning from ROCm 5 on.
///
/// The CUDA-compatible block of the enum starts at 0 and is in alphabetical order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i32)]
pub enum DeviceAttribute {
    /// Peak engine clock in kHz.
    ClockRateKhz = 5,
    /// 1 when the GPU shares the host's memory.
    Integrated = 16,
    /// Bytes of the last-level cache on the GPU.
    L2CacheBytes = 19,
    /// Most threads in a block.
    MaxThreadsPerBlock = 56,
    /// Most bytes of shared memory (LDS) a block may have.
    MaxSharedMemoryPerBlock = 74,
    /// Compute units (work-group processors count two).
    MultiprocessorCount = 63,
    /// Threads in a wave: 32 on RDNA, 64 on CDNA.
    WarpSize = 87,
}

/// A HIP release, as `hipRuntimeGetVersion` packs it: `major * 10^7 + minor * 10^5 + patch`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// ROCm's major release: 5, 6, 7.
    pub major: u32,
    /// ROCm's minor release.
    pub minor: u32,
    /// AMD's build number.
    pub patch: u32,
}

impl Version {
    fn unpack(packed: c_int) -> Self {
        let packed = packed.unsigned_abs();
        Self {
            major: packed / 10_000_000,
            minor: packed / 100_000 % 100,
            patch: packed % 100_000,
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

/// Longest device name or PCI address HIP writes, its terminator included.
const TEXT_BYTES: usize = 256;

impl Runtime {
    /// Loads the runtime from the usual names.
    ///
    /// # Errors
    /// [`LoadError`] when it is not installed or does not load.
    pub fn load() -> Result<Self, LoadError> {
        Self::load_from(RUNTIME_NAMES)
    }

    /// Loads the runtime from the first of `names` that opens (a path or a linker name).
    ///
    /// # Errors
    /// [`LoadError`] when none opens.
    pub fn load_from(names: &[&str]) -> Result<Self, LoadError> {
        Ok(Self::from_opened(
            load::open(names)?,
            Vendor::Amd,
            "hipGetErrorName",
        ))
    }

    /// Loads NVIDIA's twin from the usual names.
    ///
    /// # Errors
    /// [`LoadError`] when it is not installed or does not load.
    pub fn load_cuda() -> Result<Self, LoadError> {
        // Its function for a status' name takes other arguments.
        Ok(Self::from_opened(
            load::open(CUDA_NAMES)?,
            Vendor::Nvidia,
            "",
        ))
    }

    /// The runtime's release. Needs no GPU.
    ///
    /// # Errors
    /// [`CallError`] when the function is missing or fails.
    pub fn version(&self) -> Result<Version, CallError> {
        let mut packed = 0;
        // SAFETY: the pointer is to a live integer.
        unsafe { self.runtime_get_version(&mut packed) }?;
        Ok(Version::unpack(packed))
    }

    /// How many GPUs the runtime can use; none is 0, not an error.
    ///
    /// # Errors
    /// [`CallError`] for every failure but "no device".
    pub fn device_count(&self) -> Result<u32, CallError> {
        let mut count = 0;
        // SAFETY: the pointer is to a live integer.
        match unsafe { self.get_device_count(&mut count) } {
            Ok(()) => Ok(count.unsigned_abs()),
            Err(CallError::Failed {
                status: crate::ERROR_NO_DEVICE,
                ..
            }) => Ok(0),
            Err(error) => Err(error),
        }
    }

    /// One number about a device.
    ///
    /// # Errors
    /// [`CallError`] when the device or the attribute is unknown.
    pub fn device_attribute(
        &self,
        device: u32,
        attribute: DeviceAttribute,
    ) -> Result<i32, CallError> {
        let mut value = 0;
        // SAFETY: the pointer is to a live integer; the other two are numbers that HIP checks.
        unsafe { self.device_get_attribute(&mut value, attribute as c_int, device as c_int) }?;
        Ok(value)
    }

    /// A device's marketing name.
    ///
    /// # Errors
    /// [`CallError`] when the device is unknown.
    pub fn device_name(&self, device: u32) -> Result<String, CallError> {
        let mut text = [0 as c_char; TEXT_BYTES];
        // SAFETY: the buffer is live and its length is given.
        unsafe { self.device_get_name(text.as_mut_ptr(), TEXT_BYTES as c_int, device as c_int) }?;
        Ok(text_of(&mut text))
    }

    /// A device's PCI address, e.g. `0000:c5:00.0`, in lower case as sysfs writes it.
    ///
    /// # Errors
    /// [`CallError`] when the device is unknown.
    pub fn device_pci_address(&self, device: u32) -> Result<String, CallError> {
        let mut text = [0 as c_char; TEXT_BYTES];
        // SAFETY: the buffer is live and its length is given.
        unsafe {
            self.device_get_pci_bus_id(text.as_mut_ptr(), TEXT_BYTES as c_int, device as c_int)
        }?;
        Ok(text_of(&mut text).to_ascii_lowercase())
    }
}

fn text_of(buffer: &mut [c_char; TEXT_BYTES]) -> String {
    buffer[TEXT_BYTES - 1] = 0;
    // SAFETY: the last byte was just made the terminator.
    unsafe { CStr::from_ptr(buffer.as_ptr()) }
        .to_string_lossy()
        .into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_unpack_as_rocm_packs_them() {
        assert_eq!(Version::unpack(60_443_483).to_string(), "6.4.43483");
        assert_eq!(Version::unpack(50_221_153).to_string(), "5.2.21153");
        assert!(Version::unpack(70_051_831) > Version::unpack(60_443_483));
    }
}
