// What the mock says, by a word in the question. Real enough to look at: headings, lists, tables, code.

const PUMP = `A heat pump is a **fridge turned inside out**. A fridge takes warmth out of your food and drops it behind itself, into the kitchen. A heat pump takes warmth out of the *air outside* and drops it into your home.

But the air outside is cold! How can there be warmth in it? Cold air still holds plenty of heat; it is only spread thin. The pump gathers it in four steps:

1. **Soak up.** A special liquid, colder than the air outside, flows through pipes. Even winter air is warm next to it, so it heats up and turns into gas.
2. **Squeeze.** A compressor presses the gas together. Squeezed gas gets hot, like a bicycle pump after a flat tyre.
3. **Give away.** The hot gas runs through your radiators and warms the room.
4. **Let go.** A valve lets it spread out again. It turns cold, and the round trip starts over.

| Way to heat | Heat for 1 kWh of power |
|---|--:|
| Electric heater | 1 kWh |
| Heat pump, frosty day | 2.5 kWh |
| Heat pump, mild day | 4.5 kWh |

> It does not *make* heat. It **moves** it, and moving is easier than making.`;

const CODE = `Group files by size first; only files of equal size can be equal. Then hash what is left.

\`\`\`python
from collections import defaultdict
from hashlib import blake2b
from pathlib import Path


def duplicates(folder: Path) -> list[list[Path]]:
    """Groups of files under \`folder\` whose bytes are the same."""
    by_size = defaultdict(list)
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            by_size[path.stat().st_size].append(path)

    by_hash = defaultdict(list)
    for size, paths in by_size.items():
        if len(paths) < 2:
            continue  # a size that occurs once needs no hash
        for path in paths:
            with path.open("rb") as file:
                digest = blake2b(file.read(), digest_size=16).digest()
            by_hash[size, digest].append(path)

    return [paths for paths in by_hash.values() if len(paths) > 1]
\`\`\`

Two things to know:

- Reading whole files is fine below a gigabyte or so. For larger ones, feed \`blake2b\` in chunks.
- Hard links count as duplicates here. Compare \`st_ino\` if you want to leave them out.`;

const LONG = Array.from({ length: 40 }, (_, n) => `## Part ${n + 1}\n\nThis is paragraph ${n + 1} of a long answer, with *some* emphasis, \`code\` and a list.\n\n- first\n- second\n- third\n`).join('\n');

// About 4,000 pieces: prose, lists, tables and code by turns.
const ENDLESS = Array.from({ length: 14 }, (_, n) => `### Section ${n + 1}\n\n${PUMP}\n\n${CODE}`).join('\n\n');

const HOSTILE = `<img src="https://outside.invalid/x.png" onerror="alert(1)"> and <script>alert(2)</script>

![a picture](https://outside.invalid/y.png) [press](javascript:alert(3)) [data](data:text/html,hi)

| a | b |
|:-:|--:|
| <b>1</b> | 2 |`;

const ANSWERS = [
  [/endless/i, ENDLESS],
  [/heat pump/i, PUMP],
  [/python|duplicate/i, CODE],
  [/long/i, LONG],
  [/hostile/i, HOSTILE],
  [/think/i, 'Thirteen.'],
  [/empty/i, ''],
];

export const answer = (question, version) => {
  const text = ANSWERS.find(([pattern]) => pattern.test(question))?.[1] ?? `You wrote: ${question}\n\nThis is **version ${version}** of the answer.`;
  return text;
};

export const thoughts = (question) => (/think/i.test(question) ? 'The person wants a prime above eleven. Twelve is not prime. Thirteen is.' : '');

/** Cuts text into pieces as a tokenizer would: short, with the space in front. */
export const pieces = (text) => text.match(/\s?[^\s]{1,6}|\s+/g) ?? [];
