//! The loader, the choice of a device, and the making and unmaking of Vulkan's objects.

use super::super::driver::{GpuError, Identity};
use super::{Loaded, Memory, PATIENCE, spirv};
use ash::{khr, vk};
use std::ffi::CStr;

/// Names a failed call.
pub(super) fn failed(call: &'static str) -> impl Fn(vk::Result) -> GpuError {
    move |result| match result {
        vk::Result::ERROR_DEVICE_LOST => GpuError::Lost { reason: call },
        other => GpuError::Call {
            call,
            reason: other.to_string(),
        },
    }
}

/// An open device with one compute queue. Dropping it closes device and instance.
pub(super) struct Device {
    /// Keeps the loader's library open.
    _entry: ash::Entry,
    instance: ash::Instance,
    pub(super) raw: ash::Device,
    pub(super) queue: vk::Queue,
    pub(super) family: u32,
    pub(super) tick_ns: f32,
    heaps: vk::PhysicalDeviceMemoryProperties,
    shared: bool,
    /// Whether pipelines keep what the driver's compiler counted.
    inspected: bool,
}

/// The loader and an instance of Vulkan 1.3.
fn instance() -> Result<(ash::Entry, ash::Instance), GpuError> {
    let missing = |reason: String| GpuError::Missing {
        backend: "vulkan",
        reason,
    };
    // SAFETY: opening runs the initialisers of the machine's own Vulkan loader.
    let entry = unsafe { ash::Entry::load() }.map_err(|e| missing(e.to_string()))?;
    let application = vk::ApplicationInfo::default()
        .application_name(c"onebit")
        .api_version(vk::API_VERSION_1_3);
    let info = vk::InstanceCreateInfo::default().application_info(&application);
    // SAFETY: the infos live across the call; the entry is kept as long as the instance.
    let instance = unsafe { entry.create_instance(&info, None) }
        .map_err(|e| missing(format!("vkCreateInstance: {e}")))?;
    Ok((entry, instance))
}

pub(super) fn list() -> Result<Vec<Identity>, GpuError> {
    let (_entry, instance) = instance()?;
    // SAFETY: the instance is alive until the end of this function, and is destroyed once.
    unsafe {
        let found = instance.enumerate_physical_devices();
        let list = found
            .unwrap_or_default()
            .into_iter()
            .map(|device| describe(&instance, device))
            .collect();
        instance.destroy_instance(None);
        Ok(list)
    }
}

/// What a device says of itself.
fn describe(instance: &ash::Instance, device: vk::PhysicalDevice) -> Identity {
    let mut v12 = vk::PhysicalDeviceVulkan12Properties::default();
    let mut all = vk::PhysicalDeviceProperties2::default().push_next(&mut v12);
    // SAFETY: the device came from this instance; both structs are what the call fills.
    let heaps = unsafe {
        instance.get_physical_device_properties2(device, &mut all);
        instance.get_physical_device_memory_properties(device)
    };
    let properties = all.properties;
    let text = |bytes: Result<&CStr, _>| {
        bytes.map_or_else(
            |_: std::ffi::FromBytesUntilNulError| String::new(),
            |text| text.to_string_lossy().into_owned(),
        )
    };
    let cache: String = super::super::source::hex(&properties.pipeline_cache_uuid);
    let local = heaps.memory_heaps[..heaps.memory_heap_count as usize]
        .iter()
        .filter(|heap| heap.flags.contains(vk::MemoryHeapFlags::DEVICE_LOCAL));
    Identity {
        backend: "vulkan",
        device: text(properties.device_name_as_c_str()),
        units: 0,
        driver: format!(
            "{} {} (driver {}, api {}.{}, cache {cache})",
            text(v12.driver_name_as_c_str()),
            text(v12.driver_info_as_c_str()),
            properties.driver_version,
            vk::api_version_major(properties.api_version),
            vk::api_version_minor(properties.api_version),
        ),
        compiler: spirv::COMPILER.to_owned(),
        software: properties.device_type == vk::PhysicalDeviceType::CPU,
        shared_memory: properties.device_type != vk::PhysicalDeviceType::DISCRETE_GPU,
        memory_bytes: local.map(|heap| heap.size).max().unwrap_or(0),
        binding_bytes_max: u64::from(properties.limits.max_storage_buffer_range),
        fused: false,
    }
}

impl Device {
    /// Opens the best device: software ones only when asked for, and then no others. One that is to be inspected must tell
    /// of what it compiles.
    pub(super) fn open(software: bool, inspected: bool) -> Result<(Device, Identity), GpuError> {
        let (entry, instance) = instance()?;
        match Device::choose(&instance, software, inspected) {
            Ok((raw, family, chosen, identity)) => {
                // SAFETY: the queue was asked for at creation; the physical device came from this instance.
                let (queue, properties, heaps) = unsafe {
                    (
                        raw.get_device_queue(family, 0),
                        instance.get_physical_device_properties(chosen),
                        instance.get_physical_device_memory_properties(chosen),
                    )
                };
                let device = Device {
                    _entry: entry,
                    instance,
                    raw,
                    queue,
                    family,
                    tick_ns: properties.limits.timestamp_period,
                    heaps,
                    shared: identity.shared_memory,
                    inspected,
                };
                Ok((device, identity))
            }
            Err(error) => {
                // SAFETY: nothing was made from the instance.
                unsafe { instance.destroy_instance(None) };
                Err(error)
            }
        }
    }

    fn choose(
        instance: &ash::Instance,
        software: bool,
        inspected: bool,
    ) -> Result<(ash::Device, u32, vk::PhysicalDevice, Identity), GpuError> {
        // SAFETY: the instance is alive.
        let found = unsafe { instance.enumerate_physical_devices() }
            .map_err(failed("vkEnumeratePhysicalDevices"))?;
        let mut candidates: Vec<_> = found
            .into_iter()
            .map(|device| (describe(instance, device), device))
            .collect();
        // A card with memory of its own first.
        candidates.sort_by_key(|(identity, _)| identity.shared_memory);
        let mut reasons = Vec::new();
        for (identity, device) in candidates {
            if identity.software != software {
                if identity.software {
                    reasons.push(format!(
                        "{} is the processor in disguise, slower than the engine on the processor itself",
                        identity.device
                    ));
                }
                continue;
            }
            match Device::create(instance, device, inspected) {
                Ok((raw, family)) => return Ok((raw, family, device, identity)),
                Err(why) => reasons.push(format!("{}: {why}", identity.device)),
            }
        }
        if reasons.is_empty() {
            let kind = if software { "software device" } else { "gpu" };
            reasons.push(format!("the vulkan loader offers no {kind}"));
        }
        Err(GpuError::NoDevice {
            reason: reasons.join("; "),
        })
    }

    fn create(
        instance: &ash::Instance,
        device: vk::PhysicalDevice,
        inspected: bool,
    ) -> Result<(ash::Device, u32), String> {
        let mut v13 = vk::PhysicalDeviceVulkan13Features::default();
        let mut features = vk::PhysicalDeviceFeatures2::default().push_next(&mut v13);
        // SAFETY: the device came from this instance; the structs are what the calls fill.
        let (properties, families) = unsafe {
            instance.get_physical_device_features2(device, &mut features);
            (
                instance.get_physical_device_properties(device),
                instance.get_physical_device_queue_family_properties(device),
            )
        };
        if properties.api_version < vk::API_VERSION_1_3 {
            return Err("its driver is older than vulkan 1.3; update it".to_owned());
        }
        if v13.shader_integer_dot_product == vk::FALSE {
            return Err("it has no integer dot products".to_owned());
        }
        let family = families
            .iter()
            .position(|f| f.queue_flags.contains(vk::QueueFlags::COMPUTE))
            .ok_or("it has no compute queue")? as u32;
        let priorities = [1.0];
        let queues = [vk::DeviceQueueCreateInfo::default()
            .queue_family_index(family)
            .queue_priorities(&priorities)];
        let mut wanted =
            vk::PhysicalDeviceVulkan13Features::default().shader_integer_dot_product(true);
        let extensions = [khr::pipeline_executable_properties::NAME.as_ptr()];
        let mut told = vk::PhysicalDevicePipelineExecutablePropertiesFeaturesKHR::default()
            .pipeline_executable_info(true);
        let mut info = vk::DeviceCreateInfo::default()
            .queue_create_infos(&queues)
            .push_next(&mut wanted);
        if inspected {
            info = info
                .enabled_extension_names(&extensions)
                .push_next(&mut told);
        }
        // SAFETY: the infos live across the call and ask for what the device said it has, and for an extension that it may
        // refuse.
        let raw = unsafe { instance.create_device(device, &info, None) }
            .map_err(|error| format!("vkCreateDevice: {error}"))?;
        Ok((raw, family))
    }

    /// The functions that tell of what was compiled, for a device that is inspected.
    pub(super) fn executables(&self) -> khr::pipeline_executable_properties::Device {
        khr::pipeline_executable_properties::Device::new(&self.instance, &self.raw)
    }

    /// A compute pipeline with its layouts.
    pub(super) fn pipeline(
        &self,
        words: &[u32],
        buffers: u32,
        args: u32,
    ) -> Result<Loaded, GpuError> {
        let bindings: Vec<_> = (0..buffers)
            .map(|binding| {
                vk::DescriptorSetLayoutBinding::default()
                    .binding(binding)
                    .descriptor_type(vk::DescriptorType::STORAGE_BUFFER)
                    .descriptor_count(1)
                    .stage_flags(vk::ShaderStageFlags::COMPUTE)
            })
            .collect();
        let set_info = vk::DescriptorSetLayoutCreateInfo::default().bindings(&bindings);
        let ranges = [vk::PushConstantRange::default()
            .stage_flags(vk::ShaderStageFlags::COMPUTE)
            .size(4 * args)];
        let module_info = vk::ShaderModuleCreateInfo::default().code(words);
        // SAFETY: infos live across the calls; the words are SPIR-V that naga wrote (a damaged cache entry is found
        // by its checksum before it comes here).
        unsafe {
            let module = self
                .raw
                .create_shader_module(&module_info, None)
                .map_err(failed("vkCreateShaderModule"))?;
            let set_layout = self
                .raw
                .create_descriptor_set_layout(&set_info, None)
                .map_err(failed("vkCreateDescriptorSetLayout"))?;
            let sets = [set_layout];
            let mut layout_info = vk::PipelineLayoutCreateInfo::default().set_layouts(&sets);
            if args > 0 {
                layout_info = layout_info.push_constant_ranges(&ranges);
            }
            let layout = self
                .raw
                .create_pipeline_layout(&layout_info, None)
                .map_err(failed("vkCreatePipelineLayout"))?;
            let stage = vk::PipelineShaderStageCreateInfo::default()
                .stage(vk::ShaderStageFlags::COMPUTE)
                .module(module)
                .name(c"main");
            let info = [vk::ComputePipelineCreateInfo::default()
                .flags(if self.inspected {
                    vk::PipelineCreateFlags::CAPTURE_STATISTICS_KHR
                } else {
                    vk::PipelineCreateFlags::empty()
                })
                .layout(layout)
                .stage(stage)];
            let pipelines =
                self.raw
                    .create_compute_pipelines(vk::PipelineCache::null(), &info, None);
            match pipelines {
                Ok(pipelines) => Ok(Loaded {
                    module,
                    set_layout,
                    layout,
                    pipeline: pipelines[0],
                }),
                Err((_, error)) => {
                    self.raw.destroy_pipeline_layout(layout, None);
                    self.raw.destroy_descriptor_set_layout(set_layout, None);
                    self.raw.destroy_shader_module(module, None);
                    Err(failed("vkCreateComputePipelines")(error))
                }
            }
        }
    }

    pub(super) fn unload(&self, kernel: &Loaded) {
        // SAFETY: nothing that uses the kernel is running (callers wait first).
        unsafe {
            self.raw.destroy_pipeline(kernel.pipeline, None);
            self.raw.destroy_pipeline_layout(kernel.layout, None);
            self.raw
                .destroy_descriptor_set_layout(kernel.set_layout, None);
            self.raw.destroy_shader_module(kernel.module, None);
        }
    }

    /// A buffer with memory of its own.
    pub(super) fn memory(&self, bytes: u64, host: bool) -> Result<Memory, GpuError> {
        let usage = vk::BufferUsageFlags::STORAGE_BUFFER
            | vk::BufferUsageFlags::TRANSFER_SRC
            | vk::BufferUsageFlags::TRANSFER_DST;
        let info = vk::BufferCreateInfo::default().size(bytes).usage(usage);
        let no_room = |error: vk::Result| match error {
            vk::Result::ERROR_OUT_OF_DEVICE_MEMORY
            | vk::Result::ERROR_OUT_OF_HOST_MEMORY
            | vk::Result::ERROR_TOO_MANY_OBJECTS => GpuError::Memory { bytes },
            other => failed("vkAllocateMemory")(other),
        };
        // SAFETY: infos live across the calls; memory is bound before anyone sees the buffer, and what fails is undone.
        unsafe {
            let buffer = self
                .raw
                .create_buffer(&info, None)
                .map_err(failed("vkCreateBuffer"))?;
            let needs = self.raw.get_buffer_memory_requirements(buffer);
            let Some(kind) = self.kind(needs.memory_type_bits, host) else {
                self.raw.destroy_buffer(buffer, None);
                return Err(GpuError::Memory { bytes });
            };
            let allocate = vk::MemoryAllocateInfo::default()
                .allocation_size(needs.size)
                .memory_type_index(kind);
            let memory = match self.raw.allocate_memory(&allocate, None) {
                Ok(memory) => memory,
                Err(error) => {
                    self.raw.destroy_buffer(buffer, None);
                    return Err(no_room(error));
                }
            };
            let bound = self
                .raw
                .bind_buffer_memory(buffer, memory, 0)
                .and_then(|()| {
                    if host {
                        let flags = vk::MemoryMapFlags::empty();
                        self.raw.map_memory(memory, 0, vk::WHOLE_SIZE, flags)
                    } else {
                        Ok(std::ptr::null_mut())
                    }
                });
            match bound {
                Ok(mapped) => Ok(Memory {
                    buffer,
                    memory,
                    bytes,
                    mapped: mapped as usize,
                }),
                Err(error) => {
                    self.raw.destroy_buffer(buffer, None);
                    self.raw.free_memory(memory, None);
                    Err(no_room(error))
                }
            }
        }
    }

    /// A memory type: for the processor visible, coherent and cached where there is such; for the device local.
    fn kind(&self, allowed: u32, host: bool) -> Option<u32> {
        use vk::MemoryPropertyFlags as Flags;
        let coherent = Flags::HOST_VISIBLE | Flags::HOST_COHERENT;
        let wishes: &[Flags] = if host {
            &[coherent | Flags::HOST_CACHED, coherent]
        } else if self.shared {
            &[Flags::DEVICE_LOCAL, Flags::empty()]
        } else {
            &[Flags::DEVICE_LOCAL]
        };
        let types = &self.heaps.memory_types[..self.heaps.memory_type_count as usize];
        wishes.iter().find_map(|wish| {
            let fits = |(i, kind): &(usize, &vk::MemoryType)| {
                allowed >> i & 1 == 1 && kind.property_flags.contains(*wish)
            };
            let found = types.iter().enumerate().find(fits);
            found.map(|(i, _)| i as u32)
        })
    }

    pub(super) fn release(&self, memory: &Memory) {
        // SAFETY: nothing that uses the buffer is running (callers wait first).
        unsafe {
            self.raw.destroy_buffer(memory.buffer, None);
            self.raw.free_memory(memory.memory, None);
        }
    }

    /// Zeroes a whole buffer and waits.
    pub(super) fn fill(
        &self,
        pool: vk::CommandPool,
        fence: vk::Fence,
        buffer: vk::Buffer,
    ) -> Result<(), GpuError> {
        let commands = self.commands(pool)?;
        // SAFETY: the command buffer is recorded, run and waited for in here; the buffer is alive.
        unsafe {
            let list = [commands];
            let submit = [vk::SubmitInfo::default().command_buffers(&list)];
            let outcome = self
                .raw
                .begin_command_buffer(commands, &vk::CommandBufferBeginInfo::default())
                .and_then(|()| {
                    self.raw
                        .cmd_fill_buffer(commands, buffer, 0, vk::WHOLE_SIZE, 0);
                    self.raw.end_command_buffer(commands)
                })
                .and_then(|()| self.raw.queue_submit(self.queue, &submit, fence))
                .and_then(|()| {
                    let patience = PATIENCE.as_nanos() as u64;
                    self.raw.wait_for_fences(&[fence], true, patience)
                })
                .and_then(|()| self.raw.reset_fences(&[fence]));
            self.raw.free_command_buffers(pool, &list);
            outcome.map_err(failed("vkCmdFillBuffer"))
        }
    }

    pub(super) fn commands(&self, pool: vk::CommandPool) -> Result<vk::CommandBuffer, GpuError> {
        let info = vk::CommandBufferAllocateInfo::default()
            .command_pool(pool)
            .command_buffer_count(1);
        // SAFETY: the pool is this device's.
        let list = unsafe { self.raw.allocate_command_buffers(&info) }
            .map_err(failed("vkAllocateCommandBuffers"))?;
        Ok(list[0])
    }

    pub(super) fn times(&self) -> Result<vk::QueryPool, GpuError> {
        let info = vk::QueryPoolCreateInfo::default()
            .query_type(vk::QueryType::TIMESTAMP)
            .query_count(2);
        // SAFETY: the info lives across the call.
        unsafe { self.raw.create_query_pool(&info, None) }.map_err(failed("vkCreateQueryPool"))
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        // SAFETY: the owner has destroyed everything made from the device.
        unsafe {
            self.raw.destroy_device(None);
            self.instance.destroy_instance(None);
        }
    }
}
