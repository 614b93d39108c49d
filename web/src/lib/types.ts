// What the appliance sends and takes, by the names that the page says. The shapes themselves are generated from its own
// description of its routes. Times are unix milliseconds.
import type { components } from './openapi';

type Schemas = components['schemas'];

export type Model = Schemas['ModelView'];
/** A model on its way from the hub. */
export type Download = Schemas['get_v1_downloads'][number];
/** The models that this machine is worth having. */
export type Starter = Schemas['StarterView'];
export type StarterPart = Starter['parts'][number];
/** The quantisations of a repository. */
export type Variants = Schemas['get_v1_pull_variants'];
/** A repository that a search found. */
export type Found = Schemas['HubModelView'];
/** The newest signed release. */
export type Update = Schemas['UpdateView'];
/** Where a request would go now. */
export type Explained = Schemas['get_v1_route_explain'];
export type Numbers = Schemas['get_stats'];
/** What one lane has done since the start. */
export type LaneNumbers = Numbers['lanes'][number];
/** One thing that the check-up looked at. */
export type Check = Schemas['CheckView'];
/** Documents that are asked together. */
export type Collection = Schemas['get_onebit_collections']['collections'][number];
export type Chat = Schemas['ChatView'];
export type Message = Schemas['MessageView'];
/** A message of a saved chat, which another program may have written. */
export type Saved = Open<Schemas['ImportedMessage'], 'citations' | 'shown'>;
/** A passage of a document. Offsets count Unicode scalar values of the document's text. */
export type Citation = Schemas['CitationView'];
export type Doc = Schemas['get_api_documents']['documents'][number];
/** A part of a document's text. */
export type DocText = Schemas['get_api_documents_id_content'];
export type ChatDetail = Schemas['ChatTreeView'];
export type Status = Schemas['StatusView'];
/** One piece of OpenAI's `chat.completion.chunk`. */
export type Chunk = Schemas['post_onebit_chats_id_turns_piece'];
export type TurnStarted = Schemas['TurnStarted'];
export type TurnWaits = Schemas['TurnWaits'];
export type Notice = Schemas['Notice'];

/** What the generator takes for always there has a value of its own where it is left out. */
type Open<T, K extends keyof T> = Omit<T, K> & Partial<Pick<T, K>>;
/** With content, a new question under `parent_id`; without, another answer to the question `parent_id`. */
export type TurnRequest = Open<Schemas['TurnBody'], 'pictures'>;

/** What the appliance calls a chat until its first question names it. */
export const UNTITLED = 'New chat';

/** How long a completion took, as llama-server tells it. */
export interface Timings {
  prompt_n: number;
  prompt_per_second: number | null;
  predicted_n: number;
  predicted_per_second: number | null;
}

/** How a model is loaded: Lemonade's options, of any name. */
export interface ModelOptions {
  saved: Record<string, unknown>;
  effective: Record<string, unknown>;
}

export interface ErrorBody {
  message: string;
  type?: string | null;
  code?: string | null;
  param?: string | null;
}
