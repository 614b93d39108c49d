// What the appliance sends and takes, as docs/http-api.md has it. Times are unix milliseconds.

export type ModelState = 'absent' | 'ready' | 'loading' | 'loaded' | 'failed';

export interface Model {
  id: string;
  name: string;
  architecture: string;
  file_bytes: number;
  context_length: number;
  quantisation: string;
  state: ModelState;
  memory_bytes?: number | null;
  /** Answers being made, and requests that wait for a seat. */
  active?: number;
  waiting?: number;
  /** Whether it has a template for conversations. */
  chat?: boolean;
  error?: string | null;
}

/** A model on its way from the hub. */
export interface Download {
  id: string;
  model_name: string;
  status: 'downloading' | 'paused' | 'completed' | 'cancelled' | 'error';
  bytes_downloaded: number;
  bytes_total: number;
  error?: string;
}

/** One model that this machine is worth having. */
export interface StarterPart {
  role: 'chat' | 'embeddings' | 'hearing' | 'speaking';
  model: string;
  repository: string;
  licence: string;
  good_for: string;
  state: 'here' | 'missing' | 'coming' | 'failed' | 'blocked';
  note?: string;
  done_bytes: number;
  total_bytes: number;
}

/** All of them. */
export interface Starter {
  state: 'off' | 'offered' | 'dismissed' | 'fetching' | 'stopped' | 'complete';
  why?: string;
  parts: StarterPart[];
}

/** The quantisations of a repository. */
export interface Variants {
  checkpoint: string;
  suggested_name: string;
  variants: { name: string; size_bytes: number; files: string[] }[];
}

/** How a model is loaded. */
export interface ModelOptions {
  saved: Record<string, unknown>;
  effective: Record<string, unknown>;
}

/** How long a completion took, as llama-server tells it. */
export interface Timings {
  prompt_n: number;
  prompt_per_second: number | null;
  predicted_n: number;
  predicted_per_second: number | null;
}

/** Where a request would go now. */
export interface Explained {
  model: string;
  lane: string | null;
  reason: string;
  ranked: { lane: string; model: string; first_token_s: number | null; eta_s: number | null; joules: number | null; cost: number }[];
  refused: { lane: string; model: string; why: string }[];
}

/** What one lane has done since the start. */
export interface LaneNumbers {
  lane: string;
  active: number;
  requests: Record<string, number>;
  made_tokens: number;
  joules: number | null;
  first_token_s: { count: number; mean: number | null };
  between_tokens_s: { count: number; mean: number | null };
}

export interface Numbers {
  lanes: LaneNumbers[];
  gpus: { name: string; busy_percent: number | null; watts: number | null; celsius: number | null }[];
  energy_joules: Record<string, number>;
}

/** One thing that the check-up looked at. */
export interface Check {
  name: string;
  verdict: 'good' | 'advice' | 'problem' | string;
  found: string;
  wanted: string;
  why: string;
  fix: string | null;
}

/** Documents that are asked together. */
export interface Collection {
  id: string;
  name: string;
  documents: number;
}

export interface Chat {
  id: string;
  title: string;
  model: string | null;
  pinned: boolean;
  created_at: number;
  updated_at: number;
  /** The leaf that is shown; `null` while the chat is empty. */
  head?: string | null;
  /** Whether a turn of this chat runs now. */
  running?: boolean;
}

/** What the appliance calls a chat until its first question names it. */
export const UNTITLED = 'New chat';

export interface Stats {
  prompt_tokens: number;
  completion_tokens: number;
  ttft_ms: number;
  prefill_tps: number;
  decode_tps: number;
  finish_reason?: string | null;
}

export interface Message {
  id: string;
  parent_id: string | null;
  role: 'system' | 'user' | 'assistant' | 'tool';
  content: string;
  /** What the model thought before it answered, where it says so. */
  reasoning?: string | null;
  model: string | null;
  created_at: number;
  /** `null` while the answer is still being written. */
  finish_reason: string | null;
  stats: Stats | null;
  /** The passages that the answer was made from. */
  citations?: Citation[];
}

/** A passage of a document. Offsets count Unicode scalar values of the document's text. */
export interface Citation {
  number: number;
  document_id: string;
  filename: string;
  passage: number;
  page: number | null;
  headings: string[];
  start: number;
  end: number;
  score: number;
  text: string;
}

export interface Doc {
  id: string;
  filename: string;
  file_size: number;
  chunk_count: number;
  indexing_status: 'pending' | 'indexing' | 'complete' | 'failed' | 'cancelled' | 'missing';
  progress: number;
  error_kind: string | null;
  last_error: string | null;
  pages: number | null;
  /** The collections that it is in. */
  collections?: string[];
}

/** A part of a document's text. */
export interface DocText {
  content: string;
  start: number;
  end: number;
  length: number;
}

/** A turn that runs on the server, whoever started it. */
export interface RunningTurn {
  turn_id: string;
  assistant_message_id: string;
}

export interface ChatDetail {
  chat: Chat;
  messages: Message[];
  turns?: RunningTurn[];
  /** Whether these are all of its messages. */
  whole?: boolean;
  /** Collections or documents that the chat is answered from. */
  collections?: string[];
}

export interface TurnRequest {
  parent_id: string | null;
  /** With it, a new question under `parent_id`; without, another answer to the question `parent_id`. */
  content?: string;
  model: string;
  options?: TurnOptions;
}

export interface TurnOptions {
  temperature?: number;
  top_p?: number;
  max_tokens?: number;
  system?: string;
}

export interface Status {
  version: string;
  uptime_s: number;
  models: Model[] | string[];
  memory: { total_bytes: number; available_bytes: number; used_by_models_bytes: number };
  queue: { active: number; waiting: number };
}

export interface ErrorBody {
  message: string;
  type?: string | null;
  code?: string | null;
  param?: string | null;
}

/** One piece of OpenAI's `chat.completion.chunk`. */
export interface Chunk {
  choices?: { delta?: { content?: string | null; reasoning_content?: string | null }; finish_reason?: string | null }[];
  usage?: { prompt_tokens: number; completion_tokens: number } | null;
}
