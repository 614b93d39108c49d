"""Documents for distillation: Debian documentation packages -> clean text -> token ids (uint16).

usage: documents.py TEACHER.gguf UNPACKED_DIR OUT_DIR
UNPACKED_DIR holds one folder a package (`apt-get download NAME; dpkg -x NAME*.deb UNPACKED_DIR/NAME`).
Writes docs.train.u16, and the two held-out document sets held-docs.u16 (pieces of the same books, of those whose licence
allows passing excerpts on) and held-other.u16 (a source no piece of which is in training).
"""

import gzip
import hashlib
import html
import os
import random
import re
import sys
from multiprocessing import Pool

import numpy as np

import gguf
import tokenizer

# package -> most MB of cleaned text taken from it (None: all), so that no reference manual outweighs the prose.
SOURCES = {
    "anarchism": 3, "aptitude-doc-en": None, "apache2-doc": 3, "bash-doc": 1, "bind9-doc": 1, "debian-faq": None,
    "debian-handbook": None, "debian-policy": None, "debian-reference-en": None, "developers-reference": None,
    "dict-devil": None, "dict-foldoc": None, "dict-gcide": 16, "dict-wn": None, "doc-debian": None, "exim4-doc-html": 1.5,
    "fortunes": None, "gimp-help-en": 5, "git-doc": 3, "gnuplot-doc": 1, "harden-doc": None, "installation-guide-amd64": None,
    "libreoffice-help-en-us": 5, "lilypond-doc-html": 4, "linux-doc-6.1": 16, "maint-guide": None, "manpages": None,
    "manpages-dev": 3, "maxima-doc": 3, "miscfiles": 1, "octave-doc": 2, "perl-doc": 6, "postgresql-doc-15": 8,
    "python-django-doc": 8, "python-pandas-doc": 5, "python-scipy-doc": 6, "python-sqlalchemy-doc": 5, "python-sympy-doc": 4,
    "python3.11-doc": 10, "rust-doc": 9, "sqlite3-doc": 7, "zsh-doc": 2,
}
OTHER = "dict-jargon"  # the Jargon File, public domain: held out whole
# PSF licence, public domain, PostgreSQL licence, MIT or Apache-2.0: excerpts of these may be committed here.
EXCERPTS = {"python3.11-doc", "sqlite3-doc", "postgresql-doc-15", "rust-doc"}
HELD_BYTE = 5  # of 256: the share of pieces held out, by hash, so that a second run holds out the same ones
PIECE = 12_000  # characters: long files are cut so that no file dominates a shuffle
HELD_SEQUENCES, LENGTH = 64, 1024

LANGUAGE = re.compile(r"[/.](de|fr|es|it|ja|pt|ru|zh|ko|nl|pl|ca|cs|da|el|eu|fi|gl|hu|id|nb|nn|no|pa|ro|sv|tl|vi|ar|tr|uk|fa|sk|hr)([-_.][A-Za-z]+)?(/|\.)")
UNWANTED = re.compile(r"(changelog|copyright|/NEWS|/translations/|genindex|py-modindex|search|/src/|/implementors|/core/arch|simd|release-|toc\.html|/whatsnew/changelog|_modules/|/examples/)", re.I)
RUST_BOOKS = re.compile(r"/(book|reference|nomicon|rust-by-example|cargo|rustc|edition-guide|embedded-book|std)/")
PAGES = (".html", ".txt", ".rst", ".pod", ".md", ".dict", ".xhtml", ".htm", ".en")


def strip_html(text):
    text = re.sub(r"(?is)<(script|style|head|nav|svg|header|footer|form|button)\b.*?</\1>", " ", text)
    text = re.sub(r"(?s)<!--.*?-->", " ", text)
    text = re.sub(r"(?i)</?(p|div|li|ul|ol|h[1-6]|tr|table|pre|br|dt|dd|dl|blockquote|section|hr)\b[^>]*>", "\n", text)
    return html.unescape(re.sub(r"(?s)<[^>]+>", "", text))


def strip_roff(text):
    out = []
    for line in text.split("\n"):
        macro = re.match(r"^\.(SH|SS|TH|PP|P|LP|TP|IP|B|I|BR|BI|IR|RB) ?(.*)", line)
        if macro:
            name, rest = macro.group(1), macro.group(2).replace('"', "")
            if name in ("SH", "SS", "TH", "PP", "P", "LP", "TP", "IP"):
                out.append("\n" + rest)
            elif rest:
                out.append(rest)
        elif not line.startswith((".", "'\\\"")):
            out.append(line)
    text = re.sub(r"\\f[BIRPC]|\\&|\\c|\\%", "", "\n".join(out))
    return text.replace("\\-", "-").replace("\\e", "\\").replace("\\(aq", "'").replace("\\(bu", "*").replace("\\(em", "-")


def read(path):
    raw = gzip.open(path).read() if path.endswith((".gz", ".dz")) else open(path, "rb").read()
    text = raw.decode("utf-8", "replace")
    if text.count("\ufffd") > 20:
        return ""
    plain = re.sub(r"\.(gz|dz)$", "", path)
    if plain.endswith((".html", ".htm", ".xhtml")) or (plain.endswith(".en") and "<html" in text[:2000]):
        text = strip_html(text)
    elif re.search(r"/man/man\d", plain):
        text = strip_roff(text)
    for odd, even in (("\r", ""), ("\u00b6", ""), ("\u00a0", " "), ("\x08", ""), ("\uf0c1", "")):
        text = text.replace(odd, even)
    text = re.sub(r"[ \t]+", " ", text)
    return re.sub(r"\n{3,}", "\n\n", re.sub(r" ?\n ?", "\n", text)).strip()


def wanted(package, path):
    base = re.sub(r"\.(gz|dz)$", "", os.path.basename(path))
    if UNWANTED.search(path) or LANGUAGE.search(path):
        return False
    if package == "rust-doc" and not RUST_BOOKS.search(path):
        return False
    return base.endswith(PAGES) or bool(re.search(r"/man/man\d", path)) or (package in ("fortunes", "miscfiles") and "." not in base)


def own_words(package, text):
    """FOLDOC quotes the Jargon File, which is the held-out source: those entries go."""
    if package != "dict-foldoc":
        return text
    return "\n\n".join(p for p in re.split(r"\n\n(?=[^\s])", text) if "Jargon File" not in p)


def pieces(job):
    """All clean pieces of one package, repeated lines (navigation, licences) kept once."""
    package, folder, cap = job
    paths = sorted(os.path.join(d, f) for d, _, fs in os.walk(folder) for f in fs)
    paths = [p for p in paths if not os.path.islink(p) and wanted(package, p[len(folder):])]
    random.Random(package).shuffle(paths)
    out, total, seen = [], 0, set()
    for path in paths:
        lines = []
        for line in own_words(package, read(path)).split("\n"):
            if len(line) > 2 and line in seen:
                continue
            seen.add(line)
            lines.append(line)
        text = re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()
        head = text[:20_000]
        if len(text) < 300 or sum(c.isalpha() or c == " " for c in head) < 0.70 * len(head):
            continue
        out += [text[i : i + PIECE] for i in range(0, len(text), PIECE)]
        total += len(text)
        if cap is not None and total > cap * 1e6:
            break
    return package, out, total


def encode(bpe, texts):
    ids = []
    for i in range(0, len(texts), 2000):
        for coded in bpe.encode_batch(texts[i : i + 2000], add_special_tokens=False):
            ids.append(np.array(coded.ids + [tokenizer.END_OF_TEXT], dtype=np.uint16))
    return np.concatenate(ids)


def main(teacher, root, out):
    os.makedirs(out, exist_ok=True)
    bpe = tokenizer.build(gguf.Reader(teacher).meta)
    bpe.save(os.path.join(out, "tokenizer.json"))
    jobs = [(n, os.path.join(root, n), cap) for n, cap in {**SOURCES, OTHER: None}.items()]
    missing = [folder for _, folder, _ in jobs if not os.path.isdir(folder)]
    if missing:
        raise SystemExit(f"unpack these packages first: {missing}")
    train, held, other = [], [], []
    with Pool(2) as pool:
        for package, texts, total in pool.imap_unordered(pieces, sorted(jobs, key=lambda j: j[0] not in ("rust-doc", "linux-doc-6.1"))):
            print(f"{package:28s} {total / 1e6:7.2f} MB {len(texts):6d} pieces", flush=True)
            for text in texts:
                if package == OTHER:
                    other.append(text)
                elif hashlib.md5(text.encode()).digest()[0] >= HELD_BYTE:
                    train.append(text)
                elif package in EXCERPTS:
                    held.append(text)
    for name, texts in (("docs.train", train), ("held-docs", held), ("held-other", other)):
        random.Random(5).shuffle(texts)
        ids = encode(bpe, texts)
        if name != "docs.train":
            ids = ids[: HELD_SEQUENCES * LENGTH]
        ids.tofile(os.path.join(out, f"{name}.u16"))
        print(name, len(texts), "pieces,", ids.size, "tokens")


if __name__ == "__main__":
    main(*sys.argv[1:4])
