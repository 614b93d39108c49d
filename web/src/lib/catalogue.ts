// Repositories that are worth a look, from small to large: chat models with open weights that engines here run.
export const CATALOGUE: { repository: string; name: string }[] = [
  { repository: 'HuggingFaceTB/SmolLM2-1.7B-Instruct-GGUF', name: 'SmolLM2 1.7B' },
  { repository: 'microsoft/bitnet-b1.58-2B-4T-gguf', name: 'BitNet b1.58 2B' },
  { repository: 'Qwen/Qwen3-4B-GGUF', name: 'Qwen3 4B' },
];
