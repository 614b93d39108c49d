// Whether a model would fit into memory, before it is fetched. Pure.

export type Fit = 'yes' | 'tight' | 'no';

// Beside its weights a model needs its cache and its working buffers; measured over the models that we run.
const BESIDE = 1.2;

/** `free` are bytes that are free now, `ours` those that loaded models would give back, `total` all of the machine. */
export function fit(file_bytes: number, memory: { total_bytes: number; available_bytes: number; used_by_models_bytes: number }): Fit {
  const needed = file_bytes * BESIDE;
  if (needed <= memory.available_bytes) return 'yes';
  return needed <= Math.min(memory.total_bytes, memory.available_bytes + memory.used_by_models_bytes) ? 'tight' : 'no';
}
