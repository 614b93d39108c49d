// Reads server-sent events from text that arrives in arbitrary pieces. Pure: knows no network and no clock.

export interface ServerEvent {
  /** `message` where the server named none. */
  name: string;
  data: string;
  /** The last id that was sent, with this event or before it. */
  id: string;
}

/** Splits a stream into events. Feed it decoded text in any pieces; a half line waits for the rest. */
export class EventReader {
  #rest = '';
  #name = '';
  #data: string[] = [];
  #id = '';

  push(text: string): ServerEvent[] {
    const events: ServerEvent[] = [];
    const lines = (this.#rest + text).split('\n');
    this.#rest = lines.pop() ?? '';
    for (const raw of lines) {
      const line = raw.endsWith('\r') ? raw.slice(0, -1) : raw;
      if (line !== '') {
        this.#field(line);
        continue;
      }
      if (this.#data.length > 0) events.push({ name: this.#name || 'message', data: this.#data.join('\n'), id: this.#id });
      this.#name = '';
      this.#data = [];
    }
    return events;
  }

  #field(line: string): void {
    if (line.startsWith(':')) return;
    const colon = line.indexOf(':');
    const field = colon < 0 ? line : line.slice(0, colon);
    let value = colon < 0 ? '' : line.slice(colon + 1);
    if (value.startsWith(' ')) value = value.slice(1);
    if (field === 'data') this.#data.push(value);
    else if (field === 'event') this.#name = value;
    else if (field === 'id' && !value.includes('\0')) this.#id = value;
  }
}
