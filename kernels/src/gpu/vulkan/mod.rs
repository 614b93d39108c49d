//! Vulkan 1.3 through the machine's own loader, opened at run time.
//!
//! One queue, one thread. Each buffer has memory of its own, each recording a command buffer with a full barrier after
//! every step and a pair of time stamps around all of them.

mod device;
pub mod inspect;
mod spirv;

use super::driver::{Buffer, Driver, GpuError, Identity, Kernel, Launch, Place, Recording, Step};
use super::source::Source;
use ash::vk;
use device::{Device, failed};
use std::collections::HashMap;
use std::time::Duration;

/// Longest time that recorded work may run before the device counts as hung: a token of the largest model that fits
/// takes a second on the slowest device; the processor in disguise is another matter, and is why this is minutes.
const PATIENCE: Duration = Duration::from_secs(120);

/// Bytes copied to or from the device at a time.
const STAGING: u64 = 16 << 20;

/// Which kind of device is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// A GPU: one with memory of its own before one that shares the machine's.
    Gpu,
    /// The processor in disguise (lavapipe): for tests, and for owners who ask for it by name.
    Software,
}

/// The devices that the loader offers, usable or not.
///
/// # Errors
/// [`GpuError::Missing`] without a loader.
pub fn devices() -> Result<Vec<Identity>, GpuError> {
    device::list()
}

struct Memory {
    buffer: vk::Buffer,
    memory: vk::DeviceMemory,
    bytes: u64,
    /// Where the processor sees it, as an address; 0 where it does not.
    mapped: usize,
}

struct Loaded {
    module: vk::ShaderModule,
    set_layout: vk::DescriptorSetLayout,
    layout: vk::PipelineLayout,
    pipeline: vk::Pipeline,
}

struct Recorded {
    commands: vk::CommandBuffer,
    sets: Option<vk::DescriptorPool>,
    times: vk::QueryPool,
}

/// An open device.
pub struct Vulkan {
    device: Device,
    identity: Identity,
    commands: vk::CommandPool,
    fence: vk::Fence,
    running: bool,
    last: Option<Recording>,
    lost: bool,
    memories: HashMap<u32, Memory>,
    kernels: HashMap<u32, Loaded>,
    recordings: HashMap<u32, Recorded>,
    staging: Option<Buffer>,
    next: u32,
}

impl Vulkan {
    /// Opens the best device of a kind.
    ///
    /// # Errors
    /// [`GpuError::Missing`], [`GpuError::NoDevice`], or a call that fails.
    pub fn open(choice: Choice) -> Result<Vulkan, GpuError> {
        let (device, identity) = Device::open(choice == Choice::Software, false)?;
        let pool = vk::CommandPoolCreateInfo::default()
            .queue_family_index(device.family)
            .flags(vk::CommandPoolCreateFlags::RESET_COMMAND_BUFFER);
        // SAFETY: the device is alive; it outlives both objects, which `drop` destroys first.
        let (commands, fence) = unsafe {
            (
                device.raw.create_command_pool(&pool, None),
                device
                    .raw
                    .create_fence(&vk::FenceCreateInfo::default(), None),
            )
        };
        let mut vulkan = Vulkan {
            commands: commands.map_err(failed("vkCreateCommandPool"))?,
            fence: fence.map_err(failed("vkCreateFence"))?,
            device,
            identity,
            running: false,
            last: None,
            lost: false,
            memories: HashMap::new(),
            kernels: HashMap::new(),
            recordings: HashMap::new(),
            staging: None,
            next: 1,
        };
        vulkan.identity.fused = vulkan.rounds_once()?;
        Ok(vulkan)
    }

    /// Whether the device's multiply-add rounds once: (1 + 2^-12)² - (1 + 2^-11) is 2^-24 then, and 0 otherwise.
    fn rounds_once(&mut self) -> Result<bool, GpuError> {
        let source = Source {
            op: "probe",
            wgsl: vec![
                "@group(0) @binding(0) var<storage, read_write> x: array<f32>;\n\
                 @compute @workgroup_size(1) fn main() { x[3] = fma(x[0], x[1], x[2]); }\n",
            ],
            hip: vec![],
            defines: vec![],
            tables: vec![],
            buffers: 1,
            args: 0,
        };
        let code = self.compile(&source)?;
        let kernel = self.load(&source, &code)?;
        let buffer = self.alloc(16, Place::Host)?;
        let a = 1.0 + f32::powi(2.0, -12);
        let numbers = [a, a, -(1.0 + f32::powi(2.0, -11)), -1.0];
        let bytes: Vec<u8> = numbers.iter().flat_map(|n| n.to_le_bytes()).collect();
        self.write(buffer, 0, &bytes)?;
        self.run(&[Step::Launch(Launch {
            kernel,
            grid: [1, 1, 1],
            buffers: vec![buffer],
            args: vec![],
        })])?;
        let mut result = [0; 4];
        self.read(buffer, 12, &mut result)?;
        self.free(buffer);
        Ok(f32::from_le_bytes(result) == f32::powi(2.0, -24))
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

    fn check_range(memory: &Memory, at: u64, bytes: usize) -> Result<(), GpuError> {
        if at + bytes as u64 > memory.bytes {
            return Err(GpuError::Call {
                call: "copy",
                reason: format!("{bytes} bytes at {at} of {}", memory.bytes),
            });
        }
        Ok(())
    }

    fn staging(&mut self) -> Result<Buffer, GpuError> {
        match self.staging {
            Some(buffer) => Ok(buffer),
            None => {
                let buffer = self.alloc(STAGING, Place::Host)?;
                self.staging = Some(buffer);
                Ok(buffer)
            }
        }
    }

    fn outcome(
        &mut self,
        result: Result<(), vk::Result>,
        call: &'static str,
    ) -> Result<(), GpuError> {
        match result {
            Ok(()) => Ok(()),
            Err(vk::Result::ERROR_DEVICE_LOST) => {
                self.lost = true;
                Err(GpuError::Lost { reason: call })
            }
            Err(vk::Result::TIMEOUT) => {
                self.lost = true;
                Err(GpuError::Lost {
                    reason: "its work did not end",
                })
            }
            Err(error) => Err(failed(call)(error)),
        }
    }

    /// One descriptor set a launch, in a pool of the recording's own.
    fn sets(
        &self,
        launches: &[&Launch],
    ) -> Result<(Option<vk::DescriptorPool>, Vec<vk::DescriptorSet>), GpuError> {
        if launches.is_empty() {
            return Ok((None, Vec::new()));
        }
        let bindings: usize = launches.iter().map(|l| l.buffers.len()).sum();
        let sizes = [vk::DescriptorPoolSize::default()
            .ty(vk::DescriptorType::STORAGE_BUFFER)
            .descriptor_count(bindings as u32)];
        let info = vk::DescriptorPoolCreateInfo::default()
            .max_sets(launches.len() as u32)
            .pool_sizes(&sizes);
        let mut layouts = Vec::with_capacity(launches.len());
        for launch in launches {
            layouts.push(self.kernel(launch.kernel)?.set_layout);
        }
        // SAFETY: all handles were made by this device and are alive; infos live across the calls.
        unsafe {
            let raw = &self.device.raw;
            let pool = raw
                .create_descriptor_pool(&info, None)
                .map_err(failed("vkCreateDescriptorPool"))?;
            let allocate = vk::DescriptorSetAllocateInfo::default()
                .descriptor_pool(pool)
                .set_layouts(&layouts);
            let sets = match raw.allocate_descriptor_sets(&allocate) {
                Ok(sets) => sets,
                Err(error) => {
                    raw.destroy_descriptor_pool(pool, None);
                    return Err(failed("vkAllocateDescriptorSets")(error));
                }
            };
            for (launch, set) in launches.iter().zip(&sets) {
                for (i, buffer) in launch.buffers.iter().enumerate() {
                    let infos = [vk::DescriptorBufferInfo::default()
                        .buffer(self.memory(*buffer)?.buffer)
                        .range(vk::WHOLE_SIZE)];
                    let write = vk::WriteDescriptorSet::default()
                        .dst_set(*set)
                        .dst_binding(i as u32)
                        .descriptor_type(vk::DescriptorType::STORAGE_BUFFER)
                        .buffer_info(&infos);
                    raw.update_descriptor_sets(&[write], &[]);
                }
            }
            Ok((Some(pool), sets))
        }
    }

    fn kernel(&self, kernel: Kernel) -> Result<&Loaded, GpuError> {
        self.kernels.get(&kernel.0).ok_or(GpuError::Call {
            call: "kernel",
            reason: "it is not loaded".to_owned(),
        })
    }

    fn write_commands(
        &self,
        recorded: &Recorded,
        steps: &[Step],
        sets: &[vk::DescriptorSet],
    ) -> Result<(), GpuError> {
        let (raw, commands) = (&self.device.raw, recorded.commands);
        let everything = vk::PipelineStageFlags::COMPUTE_SHADER
            | vk::PipelineStageFlags::TRANSFER
            | vk::PipelineStageFlags::HOST;
        let barrier = [vk::MemoryBarrier::default()
            .src_access_mask(vk::AccessFlags::SHADER_WRITE | vk::AccessFlags::TRANSFER_WRITE)
            .dst_access_mask(
                vk::AccessFlags::SHADER_READ
                    | vk::AccessFlags::SHADER_WRITE
                    | vk::AccessFlags::TRANSFER_READ
                    | vk::AccessFlags::TRANSFER_WRITE
                    | vk::AccessFlags::HOST_READ,
            )];
        let mut sets = sets.iter();
        // SAFETY: the command buffer is in the recording state between begin and end; every handle is this device's
        // and alive; copies were checked against their buffers' sizes in `record`.
        unsafe {
            raw.begin_command_buffer(commands, &vk::CommandBufferBeginInfo::default())
                .map_err(failed("vkBeginCommandBuffer"))?;
            raw.cmd_reset_query_pool(commands, recorded.times, 0, 2);
            let stamp = vk::PipelineStageFlags::ALL_COMMANDS;
            raw.cmd_write_timestamp(commands, stamp, recorded.times, 0);
            for step in steps {
                match step {
                    Step::Launch(launch) => {
                        let kernel = self.kernel(launch.kernel)?;
                        let point = vk::PipelineBindPoint::COMPUTE;
                        raw.cmd_bind_pipeline(commands, point, kernel.pipeline);
                        let set = [*sets.next().unwrap_or(&vk::DescriptorSet::null())];
                        raw.cmd_bind_descriptor_sets(commands, point, kernel.layout, 0, &set, &[]);
                        if !launch.args.is_empty() {
                            let bytes: Vec<u8> =
                                launch.args.iter().flat_map(|a| a.to_le_bytes()).collect();
                            let stages = vk::ShaderStageFlags::COMPUTE;
                            raw.cmd_push_constants(commands, kernel.layout, stages, 0, &bytes);
                        }
                        let [x, y, z] = launch.grid;
                        raw.cmd_dispatch(commands, x, y, z);
                    }
                    Step::Copy { from, to, bytes } => {
                        let region = [vk::BufferCopy::default()
                            .src_offset(from.1)
                            .dst_offset(to.1)
                            .size(*bytes)];
                        let (source, target) =
                            (self.memory(from.0)?.buffer, self.memory(to.0)?.buffer);
                        raw.cmd_copy_buffer(commands, source, target, &region);
                    }
                }
                let none = vk::DependencyFlags::empty();
                raw.cmd_pipeline_barrier(
                    commands,
                    everything,
                    everything,
                    none,
                    &barrier,
                    &[],
                    &[],
                );
            }
            raw.cmd_write_timestamp(commands, stamp, recorded.times, 1);
            raw.end_command_buffer(commands)
                .map_err(failed("vkEndCommandBuffer"))
        }
    }

    fn destroy(&self, recorded: &Recorded) {
        // SAFETY: nothing is running (callers wait), and the handles are this device's.
        unsafe {
            let raw = &self.device.raw;
            raw.free_command_buffers(self.commands, &[recorded.commands]);
            if let Some(pool) = recorded.sets {
                raw.destroy_descriptor_pool(pool, None);
            }
            raw.destroy_query_pool(recorded.times, None);
        }
    }
}

impl Driver for Vulkan {
    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn compile(&self, source: &Source) -> Result<Vec<u8>, GpuError> {
        spirv::compile(source, self.identity.fused)
    }

    fn load(&mut self, source: &Source, code: &[u8]) -> Result<Kernel, GpuError> {
        let words: Vec<u32> = code
            .as_chunks::<4>()
            .0
            .iter()
            .map(|word| u32::from_le_bytes(*word))
            .collect();
        let loaded = self.device.pipeline(&words, source.buffers, source.args)?;
        let id = self.id();
        self.kernels.insert(id, loaded);
        Ok(Kernel(id))
    }

    fn alloc(&mut self, bytes: u64, place: Place) -> Result<Buffer, GpuError> {
        // An empty binding is not allowed.
        let bytes = bytes.max(16).next_multiple_of(16);
        if bytes > self.identity.binding_bytes_max {
            return Err(GpuError::Binding {
                what: "a buffer",
                bytes,
                max: self.identity.binding_bytes_max,
            });
        }
        self.sync()?;
        let memory = self.device.memory(bytes, place == Place::Host)?;
        let id = self.id();
        self.memories.insert(id, memory);
        let buffer = Buffer(id);
        let (handle, mapped) = {
            let memory = self.memory(buffer)?;
            (memory.buffer, memory.mapped)
        };
        if mapped != 0 {
            // SAFETY: the whole buffer is mapped and nobody else has it yet.
            unsafe { std::ptr::write_bytes(mapped as *mut u8, 0, bytes as usize) };
        } else {
            self.device.fill(self.commands, self.fence, handle)?;
        }
        Ok(buffer)
    }

    fn free(&mut self, buffer: Buffer) {
        if let Some(memory) = self.memories.remove(&buffer.0) {
            self.device.release(&memory);
        }
    }

    fn write(&mut self, buffer: Buffer, at: u64, bytes: &[u8]) -> Result<(), GpuError> {
        let memory = self.memory(buffer)?;
        Self::check_range(memory, at, bytes.len())?;
        if memory.mapped != 0 {
            let target = memory.mapped as *mut u8;
            // SAFETY: the range is inside the mapping (checked), and nothing recorded is running (the contract).
            unsafe {
                std::ptr::copy_nonoverlapping(bytes.as_ptr(), target.add(at as usize), bytes.len());
            }
            return Ok(());
        }
        let staging = self.staging()?;
        for (i, part) in bytes.chunks(STAGING as usize).enumerate() {
            self.write(staging, 0, part)?;
            self.run(&[Step::Copy {
                from: (staging, 0),
                to: (buffer, at + i as u64 * STAGING),
                bytes: part.len() as u64,
            }])?;
        }
        Ok(())
    }

    fn read(&mut self, buffer: Buffer, at: u64, bytes: &mut [u8]) -> Result<(), GpuError> {
        let memory = self.memory(buffer)?;
        Self::check_range(memory, at, bytes.len())?;
        if memory.mapped != 0 {
            let source = memory.mapped as *const u8;
            // SAFETY: the range is inside the mapping (checked), and nothing recorded is running (the contract).
            unsafe {
                std::ptr::copy_nonoverlapping(
                    source.add(at as usize),
                    bytes.as_mut_ptr(),
                    bytes.len(),
                );
            }
            return Ok(());
        }
        let staging = self.staging()?;
        for (i, part) in bytes.chunks_mut(STAGING as usize).enumerate() {
            self.run(&[Step::Copy {
                from: (buffer, at + i as u64 * STAGING),
                to: (staging, 0),
                bytes: part.len() as u64,
            }])?;
            self.read(staging, 0, part)?;
        }
        Ok(())
    }

    fn record(&mut self, steps: &[Step]) -> Result<Recording, GpuError> {
        let mut launches = Vec::new();
        for step in steps {
            match step {
                Step::Launch(launch) => launches.push(launch),
                Step::Copy { from, to, bytes } => {
                    Self::check_range(self.memory(from.0)?, from.1, *bytes as usize)?;
                    Self::check_range(self.memory(to.0)?, to.1, *bytes as usize)?;
                }
            }
        }
        let commands = self.device.commands(self.commands)?;
        let times = self.device.times()?;
        let (pool, sets) = self.sets(&launches)?;
        let recorded = Recorded {
            commands,
            sets: pool,
            times,
        };
        if let Err(error) = self.write_commands(&recorded, steps, &sets) {
            self.destroy(&recorded);
            return Err(error);
        }
        let id = self.id();
        self.recordings.insert(id, recorded);
        Ok(Recording(id))
    }

    fn replay(&mut self, recording: Recording) -> Result<(), GpuError> {
        self.sync()?;
        let commands = match self.recordings.get(&recording.0) {
            Some(recorded) => [recorded.commands],
            None => {
                return Err(GpuError::Call {
                    call: "replay",
                    reason: "the recording was forgotten".to_owned(),
                });
            }
        };
        let submit = [vk::SubmitInfo::default().command_buffers(&commands)];
        // SAFETY: the command buffer is complete and not running: `sync` has waited for all work before.
        let result = unsafe {
            self.device
                .raw
                .queue_submit(self.device.queue, &submit, self.fence)
        };
        self.outcome(result, "vkQueueSubmit")?;
        self.running = true;
        self.last = Some(recording);
        Ok(())
    }

    fn sync(&mut self) -> Result<(), GpuError> {
        if self.lost {
            return Err(GpuError::Lost {
                reason: "before this call",
            });
        }
        if !self.running {
            return Ok(());
        }
        let fences = [self.fence];
        // SAFETY: the fence is this device's and was given to the last submission.
        let result = unsafe {
            self.device
                .raw
                .wait_for_fences(&fences, true, PATIENCE.as_nanos() as u64)
        };
        self.outcome(result, "vkWaitForFences")?;
        self.running = false;
        // SAFETY: the fence has been waited for.
        let result = unsafe { self.device.raw.reset_fences(&fences) };
        self.outcome(result, "vkResetFences")
    }

    fn elapsed(&mut self) -> Option<Duration> {
        self.sync().ok()?;
        let recorded = self.recordings.get(&self.last?.0)?;
        let mut stamps = [0u64; 2];
        let flags = vk::QueryResultFlags::TYPE_64 | vk::QueryResultFlags::WAIT;
        // SAFETY: both stamps were written by the work that has just been waited for.
        unsafe {
            self.device
                .raw
                .get_query_pool_results(recorded.times, 0, &mut stamps, flags)
        }
        .ok()?;
        let ticks = stamps[1].wrapping_sub(stamps[0]) as f64;
        let nanoseconds = ticks * f64::from(self.device.tick_ns);
        (nanoseconds > 0.0).then(|| Duration::from_nanos(nanoseconds as u64))
    }

    fn forget(&mut self, recording: Recording) {
        // Work that does not end keeps its objects; the device is lost then anyway.
        if self.sync().is_ok()
            && let Some(recorded) = self.recordings.remove(&recording.0)
        {
            self.destroy(&recorded);
        }
    }
}

impl Drop for Vulkan {
    fn drop(&mut self) {
        // SAFETY: waiting may fail on a lost device; destroying is allowed then too.
        let _ = unsafe { self.device.raw.device_wait_idle() };
        for (_, recorded) in std::mem::take(&mut self.recordings) {
            self.destroy(&recorded);
        }
        for (_, memory) in std::mem::take(&mut self.memories) {
            self.device.release(&memory);
        }
        for (_, kernel) in std::mem::take(&mut self.kernels) {
            self.device.unload(&kernel);
        }
        // SAFETY: nothing uses them any more.
        unsafe {
            self.device.raw.destroy_fence(self.fence, None);
            self.device.raw.destroy_command_pool(self.commands, None);
        }
    }
}
