// What the machine did in the last minutes, from counters that only grow. Pure.
import type { Numbers } from './types';

export interface Sample {
  at: number;
  tokens: number;
  joules: number | null;
  cpu: number | null;
  gpu: number | null;
  watts: number | null;
  heat: number | null;
}

export interface Series {
  speed: (number | null)[];
  cpu: (number | null)[];
  gpu: (number | null)[];
  watts: (number | null)[];
  heat: (number | null)[];
}

const sum = (values: (number | null | undefined)[]): number | null => {
  const known = values.filter((value) => typeof value === 'number');
  return known.length === 0 ? null : known.reduce((all, value) => all + value, 0);
};

export function sample(at: number, numbers: Numbers, cpu: number | null): Sample {
  return {
    at,
    tokens: sum(numbers.lanes.map((lane) => lane.made_tokens)) ?? 0,
    joules: sum(Object.values(numbers.energy_joules)),
    cpu,
    gpu: numbers.gpus[0]?.busy_percent ?? null,
    watts: sum(numbers.gpus.map((gpu) => gpu.watts)),
    heat: numbers.gpus[0]?.celsius ?? null,
  };
}

/** One value between every two samples. The power is what the counters of energy say, else what the graphics chips say. */
export function series(samples: Sample[]): Series {
  const all: Series = { speed: [], cpu: [], gpu: [], watts: [], heat: [] };
  samples.forEach((now, index) => {
    const before = samples[index - 1];
    if (!before) return;
    const s = (now.at - before.at) / 1000;
    // A restart sets the counters back.
    const rate = (to: number, from: number) => (s > 0 && to >= from ? (to - from) / s : null);
    all.speed.push(rate(now.tokens, before.tokens));
    all.cpu.push(now.cpu);
    all.gpu.push(now.gpu);
    all.watts.push(now.joules !== null && before.joules !== null ? rate(now.joules, before.joules) : now.watts);
    all.heat.push(now.heat);
  });
  return all;
}

/** Whether a chart has anything to show. */
export const any = (values: (number | null)[]): boolean => values.some((value) => value !== null);
