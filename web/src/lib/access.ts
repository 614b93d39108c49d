// Who this browser is to the appliance: the session, coming in, devices and keys.
import { json, send } from './api';
import type { components } from './openapi';

type Schemas = components['schemas'];

export type Session = Schemas['get_onebit_session'];
export type Device = Schemas['get_onebit_devices']['devices'][number];
export type Key = Schemas['get_onebit_keys']['keys'][number];
export type Opened = Schemas['post_onebit_pairing'];

export interface Pairing {
  id: string;
  state: 'open' | 'waiting' | 'allowed' | 'done' | 'refused' | 'void' | 'expired';
  expires_in_ms: number;
  name?: string;
  address?: string;
  digits?: string;
}

export type Claimed = Schemas['post_onebit_pair'];

/** Symbols of the setup code; those of pairing have 8 or 26. */
const SETUP_SYMBOLS = 16;

export const bare = (code: string): string => code.replace(/[\s-]/g, '');
export const isSetup = (code: string): boolean => bare(code).length === SETUP_SYMBOLS;

export const session = (): Promise<Session> => json('GET', 'session');
export const signOut = async (): Promise<void> => void (await send('DELETE', 'session'));
export const setUp = async (code: string, name: string): Promise<void> => void (await send('POST', 'claim', { code, name }));
export const claim = (code: string, name: string): Promise<Claimed> => json('POST', 'pair', { code, name });
export const collect = async (claimed: Claimed): Promise<boolean> =>
  (await json<{ state: string }>('POST', `pair/${claimed.id}`, { secret: claimed.secret })).state === 'in';

export const openPairing = (scope: string): Promise<Opened> => json('POST', 'pairing', { scope });
export const pairing = async (id: string): Promise<Pairing | undefined> =>
  (await json<{ pairings: Pairing[] }>('GET', 'pairing')).pairings.find((one) => one.id === id);
export const decide = async (id: string, allow: boolean, digits: string): Promise<void> => void (await send('POST', `pairing/${id}`, { allow, digits }));

export const devices = async (): Promise<Device[]> => (await json<{ devices: Device[] }>('GET', 'devices')).devices;
export const revoke = async (id: string): Promise<void> => void (await send('DELETE', `devices/${id}`));
export const keys = async (): Promise<Key[]> => (await json<{ keys: Key[] }>('GET', 'keys')).keys;
export const addKey = async (name: string): Promise<string> => (await json<{ key: string }>('POST', 'keys', { name })).key;
export const removeKey = async (id: string): Promise<void> => void (await send('DELETE', `keys/${id}`));

interface Code {
  endpoint: string;
  settings: string;
  picture: { size: number; path: string } | null;
}

export interface Verdict {
  state: 'looking' | 'not_asked' | 'named' | 'public' | 'open' | 'carrier' | 'closed';
  endpoint: string | null;
}

/** A tunnel as it is shown once. */
export interface Tunnel {
  own_address: string;
  home: Code | null;
  anywhere: Code | null;
  verdict: Verdict;
}

export interface Mesh {
  enabled: boolean;
  failure: string | null;
  peers: { device: string; handshake_s: number | null }[];
}

export const mesh = (): Promise<Mesh> => json('GET', 'mesh');
export const addTunnel = (device: string): Promise<Tunnel> => json('POST', 'mesh/peers', { device });
export const removeTunnel = async (id: string): Promise<void> => void (await send('DELETE', `mesh/peers/${id}`));

export type Headscale = Schemas['get_onebit_headscale'];
export type Invitation = Schemas['post_onebit_headscale_invitations'];

export const headscale = (): Promise<Headscale> => json('GET', 'headscale');
export const invite = (user: string): Promise<Invitation> => json('POST', 'headscale/invitations', { user });
export const expireNode = async (id: string): Promise<void> => void (await send('DELETE', `headscale/nodes/${id}`));

/** A name for this device that its owner recognises in the list. */
export function deviceName(agent: string): string {
  const system = /iPhone|iPad|Android|Windows|Macintosh|CrOS|Linux/.exec(agent)?.[0] ?? '';
  const browser = /Firefox|Edg|OPR|Chrome|Safari/.exec(agent)?.[0] ?? '';
  const known: Record<string, string> = { Macintosh: 'Mac', CrOS: 'Chromebook', Edg: 'Edge', OPR: 'Opera' };
  return [system, browser].map((word) => known[word] ?? word).filter(Boolean).join(', ') || 'Browser';
}
