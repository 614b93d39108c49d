"""What the benches of documents share: books of Debian, the program on a folder of its own, spans, scores, and an
environment of Python with what is only measured beside us."""
import json, math, os, pathlib, random, re, sqlite3, subprocess, sys, tempfile, time, urllib.parse, urllib.request

ROOT = pathlib.Path(__file__).resolve().parent.parent
CACHE = pathlib.Path(os.environ.get('XDG_CACHE_HOME', pathlib.Path.home() / '.cache')) / 'onebit'
EMBEDDER = CACHE / 'models/all-minilm-l6-v2'
QUESTIONS = ROOT / 'benches/data/debian-reference.tsv'

# Pinned, so that a figure can be made again.
PEERS = ['onnxruntime==1.32.0', 'onnx==1.23.2', 'numpy==2.4.6', 'tokenizers==0.23.3', 'safetensors==0.8.0',
         'sqlite-vec==0.1.9', 'langchain-core==1.8.3', 'langchain-text-splitters==1.1.3']


def interpreter():
    """This Python, or the system's where this one's SQLite loads no extensions: sqlite-vec is one."""
    return sys.executable if hasattr(sqlite3.Connection, 'enable_load_extension') else '/usr/bin/python3'


def with_peers():
    """Starts this script again inside the benches' own environment, which is made where it is missing."""
    home = CACHE / 'benches/documents'
    if pathlib.Path(sys.prefix).resolve() == home.resolve():
        return
    stamp = home / 'onebit-peers'
    if not stamp.is_file() or stamp.read_text() != '\n'.join(PEERS):
        subprocess.run([interpreter(), '-m', 'venv', '--clear', home], check=True)
        subprocess.run([home / 'bin/pip', 'install', '-q', '--disable-pip-version-check', *PEERS], check=True)
        stamp.write_text('\n'.join(PEERS))
    os.execv(home / 'bin/python', [home / 'bin/python', *sys.argv])


def book(package):
    """The unpacked files of a documentation package."""
    folder = CACHE / 'corpora' / package
    if not folder.is_dir():
        with tempfile.TemporaryDirectory() as work:
            os.chmod(work, 0o755)
            subprocess.run(['apt-get', 'download', '-q', package], cwd=work, check=True)
            (deb,) = pathlib.Path(work).glob('*.deb')
            folder.mkdir(parents=True)
            subprocess.run(['dpkg-deb', '-x', deb, folder], check=True)
    return folder


def chapters():
    return sorted((book('debian-reference-en') / 'usr/share/debian-reference').glob('ch*.en.html'))


def questions():
    """Pairs of a question and the words that answer it. Odd lines are for tuning, even ones are sealed."""
    return [tuple(line.split('\t')) for line in QUESTIONS.read_text().splitlines()]


class Appliance:
    """The program on a data folder of its own."""

    def __init__(self, binary, data):
        command = [binary, 'serve', '--listen', '127.0.0.1:0', '--data', data]
        environment = {**os.environ, 'ONEBIT_DOCUMENTS_EMBEDDER': str(EMBEDDER), 'ONEBIT_MODELS_BUILTIN': 'false'}
        began = time.perf_counter()
        self.process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        line = self.process.stdout.readline()
        self.start_s = time.perf_counter() - began
        self.root = 'http://' + line.split('http://')[1].strip()

    def ask(self, method, path, body=None, raw=None):
        data = raw if raw is not None else json.dumps(body).encode() if body is not None else None
        kind = 'application/octet-stream' if raw is not None else 'application/json'
        request = urllib.request.Request(self.root + path, data=data, method=method, headers={'content-type': kind})
        with urllib.request.urlopen(request, timeout=600) as answer:
            return json.load(answer)

    def add(self, name, raw):
        return self.ask('POST', '/api/documents/raw?name=' + urllib.parse.quote(name), raw=raw)['id']

    def wait(self, ids):
        for one in ids:
            while (status := self.ask('GET', f'/api/documents/{one}/status'))['is_active']:
                time.sleep(0.05)
            if status['indexing_status'] != 'complete':
                sys.exit(f"{status['filename']}: {status['last_error']}")

    def search(self, query, k=10, mode='hybrid'):
        return self.ask('POST', '/v1/search', {'query': query, 'k': k, 'mode': mode})

    def content(self, one):
        return self.ask('GET', f'/api/documents/{one}/content')

    def rss(self):
        """Megabytes of memory."""
        text = pathlib.Path(f'/proc/{self.process.pid}/status').read_text()
        return int(re.search(r'VmRSS:\s+(\d+)', text)[1]) / 1024

    def stop(self):
        self.process.terminate()
        self.process.wait()


def spans(texts, questions):
    """Where each answer stands: (document, start, end) in scalar values. Blanks of the text may be any white space."""
    found = []
    for question, span in questions:
        pattern = re.compile(r'\s+'.join(map(re.escape, span.split())))
        places = [(one, match.start(), match.end()) for one, text in texts.items() for match in pattern.finditer(text['content'])]
        if not places:
            sys.exit(f'no text holds the span of “{question}”: {span}')
        found.append(places)
    return found


def headings(texts):
    """Pairs made by the books themselves, in an order that is always the same: a heading asks, its section answers."""
    pairs = []
    for one, text in texts.items():
        heads = text['headings']
        for at, head in enumerate(heads):
            end = heads[at + 1]['start'] if at + 1 < len(heads) else text['length']
            title = re.sub(r'^[\d.]+\s*', '', head['title'])
            if end - head['start'] > 200 and len(title.split()) >= 2:
                pairs.append((title, [(one, head['start'], end)]))
    random.Random(7).shuffle(pairs)
    return pairs


HEADINGS_FOR_TUNING = 60


def score(asked, places, search):
    """nDCG@10, recall@5 and MRR of `search`, which gives (document, start, end) for a question, best first. A passage is
    relevant when it overlaps the span that answers; several may, and the first of them counts."""
    ndcg = recall = mrr = 0.0
    for question, wanted in zip(asked, places):
        hit = lambda d, s, e: any(d == document and s < past and first < e for document, first, past in wanted)
        rank = next((at for at, found in enumerate(search(question)[:10]) if hit(*found)), None)
        if rank is not None:
            ndcg += 1 / math.log2(rank + 2)
            recall += rank < 5
            mrr += 1 / (rank + 1)
    n = len(asked)
    return ndcg / n, recall / n, mrr / n


def table(title, pairs, ways):
    """Prints the scores of every way to search, a dictionary of functions."""
    width = max(map(len, ways))
    print(f'\n{title} ({len(pairs)})\n  {"":{width}} nDCG@10  recall@5     MRR')
    for name, search in ways.items():
        print('  {:{}} {:7.3f} {:9.3f} {:7.3f}'.format(name, width, *score([q for q, _ in pairs], [p for _, p in pairs], search)), flush=True)


def at(sorted_list, share):
    return sorted_list[min(len(sorted_list) - 1, int(len(sorted_list) * share))]
