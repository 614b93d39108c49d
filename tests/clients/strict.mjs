// Answers against a client's own TypeScript types: what was taken is written out as literals and given to the compiler.
// ONEBIT_TEST_NODE_MODULES names the folder that holds the client and the compiler.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';

const modules = process.env.ONEBIT_TEST_NODE_MODULES;

/** A collection of answers by one package, imported as `imports` says. */
export function strict(name, imports) {
  const taken = [];
  return {
    /** Keeps an answer that must be of this type; gives it back. */
    take(type, value) {
      taken.push([type, value]);
      return value;
    },
    /** Compiles all of them; returns how many there were and prints of which types. */
    finish() {
      const lines = [
        imports,
        // A literal's type without the marks of a constant. Fields beyond the type are an appliance's own and allowed.
        'type Plain<T> = T extends readonly (infer U)[] ? Plain<U>[] : T extends object ? { -readonly [K in keyof T]: Plain<T[K]> } : T;',
        ...taken.flatMap(([type, value], at) => [
          `const raw${at} = ${JSON.stringify(value)} as const;`,
          `export const typed${at}: ${type} = null! as Plain<typeof raw${at}>;`,
        ]),
      ];
      const file = join(modules, '..', `strict-${name}.mts`);
      writeFileSync(file, `${lines.join('\n')}\n`);
      const options = '--noEmit --strict --skipLibCheck --target es2022 --module nodenext --pretty false'.split(' ');
      try {
        execFileSync(process.execPath, [join(modules, 'typescript/bin/tsc'), ...options, file], { encoding: 'utf8' });
      } catch (error) {
        assert.fail(`${file}: ${error.stdout}`);
      }
      const counts = new Map();
      for (const [type] of taken) counts.set(type, (counts.get(type) ?? 0) + 1);
      console.log(`typed: ${[...counts].map(([type, count]) => `${type} ×${count}`).join(', ')}`);
      return taken.length;
    },
  };
}
