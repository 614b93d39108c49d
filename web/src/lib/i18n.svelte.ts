// Every word on the page comes from a catalogue in locales/. English is built in; the others load when chosen.
import en from '../locales/en.json';
import { settings } from './settings.svelte';

export type Key = keyof typeof en;
export type Catalogue = Record<Key, string>;

/** Languages by their own names. `rtl` turns the page around. */
export const LANGUAGES: { code: string; name: string; rtl?: true; load: () => Promise<{ default: Catalogue }> }[] = [
  { code: 'en', name: 'English', load: async () => ({ default: en }) },
  { code: 'de', name: 'Deutsch', load: () => import('../locales/de.json') },
  { code: 'es', name: 'Español', load: () => import('../locales/es.json') },
  { code: 'fr', name: 'Français', load: () => import('../locales/fr.json') },
  { code: 'zh', name: '简体中文', load: () => import('../locales/zh.json') },
  { code: 'ar', name: 'العربية', rtl: true, load: () => import('../locales/ar.json') },
];

let current = $state({ code: 'en', words: en as Catalogue });

/** The language in force, as a BCP 47 code. */
export const language = (): string => current.code;

/** Says `key` in the person's language; `{name}` is filled from `values`, `{n}` with grouped digits. */
export function t(key: Key, values: Record<string, string | number> = {}): string {
  const words = current.words[key];
  return words.replace(/\{(\w+)\}/g, (whole, name: string) => {
    const value = values[name];
    if (value === undefined) return whole;
    return typeof value === 'number' ? number(value) : value;
  });
}

export async function applyLanguage(): Promise<void> {
  const wanted = settings.language === 'auto' ? navigator.languages.map((code) => code.split('-')[0] ?? '') : [settings.language];
  const choice = wanted.map((code) => LANGUAGES.find((language) => language.code === code)).find(Boolean) ?? LANGUAGES[0];
  if (!choice) return;
  const words = (await choice.load()).default;
  current = { code: choice.code, words };
  document.documentElement.lang = choice.code;
  document.documentElement.dir = choice.rtl ? 'rtl' : 'ltr';
}

// Making a formatter costs a hundred times what using one does, and readings change every frame.
const formatters = new Map<string, Intl.NumberFormat>();

function format(value: number, options: Intl.NumberFormatOptions): string {
  const key = current.code + JSON.stringify(options);
  let formatter = formatters.get(key);
  if (!formatter) {
    formatter = new Intl.NumberFormat(current.code, options);
    formatters.set(key, formatter);
  }
  return formatter.format(value);
}

export const number = (value: number, digits = 0): string => format(value, { maximumFractionDigits: digits, minimumFractionDigits: digits });

/** A share of 1 in whole percent. */
export const percent = (share: number): string => format(share, { style: 'percent', maximumFractionDigits: 0 });

export const compact = (value: number): string => format(value, { notation: 'compact', maximumFractionDigits: 1 });

/** Bytes in the units that disks are sold in: 1 GB is 10^9. */
export function bytes(value: number): string {
  const units = ['byte', 'kilobyte', 'megabyte', 'gigabyte', 'terabyte'];
  const step = value < 1 ? 0 : Math.min(4, Math.floor(Math.log10(value) / 3));
  const scaled = value / 1000 ** step;
  return format(scaled, { style: 'unit', unit: units[step], maximumFractionDigits: scaled < 10 && step > 1 ? 1 : 0 });
}

/** A time as a person would say it: milliseconds below a second, then seconds. */
export function duration(ms: number): string {
  if (ms < 1000) return format(ms, { style: 'unit', unit: 'millisecond', unitDisplay: 'short', maximumFractionDigits: 0 });
  return format(ms / 1000, { style: 'unit', unit: 'second', unitDisplay: 'short', maximumFractionDigits: ms < 10_000 ? 1 : 0 });
}
