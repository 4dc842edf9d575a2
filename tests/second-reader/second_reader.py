#!/usr/bin/env python3
"""A second reader of bundles, written from docs/format.md alone: where it had to guess, the document was mended.

    second_reader.py FINGERPRINT OUT BUNDLE [VOLUME ...]     checks all of it, writes its blobs and files below OUT
    second_reader.py --each FINGERPRINT BUNDLE [BUNDLE ...]  one line for each: `ok` or `refused` and why
    second_reader.py --parity PARITY FILE [FILE ...]         computes the recovery blocks of a parity file again

Python's standard library, and the programs openssl (3.0 or newer) and zstd. It is slow, and holds a whole volume in
memory. The numbers at the functions are the sections of the document.
"""

import base64
import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile


class Refused(Exception):
    """The bundle breaks a rule of the document."""


def need(holds, rule):
    if not holds:
        raise Refused(rule)


def sha256(data):
    return hashlib.sha256(data).hexdigest()


HEX = "[0-9a-f]{64}"
BLOCK = 512
GIB = 1 << 30


# 1. The archive

def header(name, size, executable):
    block = bytearray(512)

    def put(at, data):
        block[at:at + len(data)] = data
    put(0, name.encode())
    put(100, b"0000755\0" if executable else b"0000644\0")
    put(108, b"0000000\0" * 2)
    put(124, b"%011o\0" % size)
    put(136, b"00000000000\0")
    put(148, b" " * 8)
    put(156, b"0")
    put(257, b"ustar\0" b"00")
    put(148, b"%06o\0 " % sum(block))
    return bytes(block)


NAME = re.compile(r"(?!\.{1,2}(/|$))[A-Za-z0-9._+@=,-]+(/(?!\.{1,2}(/|$))[A-Za-z0-9._+@=,-]+)*")


class Member:
    def __init__(self, name, offset, size):
        self.name, self.offset, self.size = name, offset, size
        self.row = row_of(name)

    def end(self):
        return -(-(self.offset + self.size) // BLOCK) * BLOCK


def walk(data):
    """The members of an archive, in their order."""
    members, at = [], 0
    while True:
        need(at + BLOCK <= len(data), "the archive is cut short")
        block = data[at:at + BLOCK]
        if members and block == bytes(BLOCK):
            break
        name = block[:100].split(b"\0")[0].decode("ascii", "replace")
        need(NAME.fullmatch(name), f"no name of a member: {name!r}")
        need(re.fullmatch(rb"[0-7]{11}\0", block[124:136]), "no size")
        size = int(block[124:135], 8)
        member = Member(name, at + BLOCK, size)
        executable = name == "install.sh" or name.startswith("installer/")
        need(block == header(name, size, executable), f"the header of {name}")
        need(member.end() <= len(data), f"{name} is cut short")
        need(not any(data[at + BLOCK + size:member.end()]), f"the padding of {name}")
        need(size <= largest(member.row), f"{name} is too large")
        members.append(member)
        at = member.end()
    need(data[at:] == bytes(1024), "the end")
    return members


# 2. Members

ROWS = [re.compile(row) for row in (
    r"README\.txt", r"install\.sh", r"installer/(aarch64|x86_64)", r"meta/statement\.json",
    rf"meta/statement\.sig/{HEX}\.(p256|sm2|ed25519|room)", r"meta/statement\.dsse\.json",
    r"meta/root/(00[1-9]|0[1-9][0-9]|100)\.json",
    rf"meta/root/(00[1-9]|0[1-9][0-9]|100)\.sig/{HEX}\.(p256|sm2|ed25519)", rf"meta/keys/{HEX}\.pem",
    r"meta/SHA256SUMS", r"meta/index\.json", r"meta/profiles\.json", r"meta/plan\.lock", r"meta/provenance\.json",
    r"meta/requires\.json", r"meta/sbom\.cdx\.json", rf"meta/licenses/{HEX}\.txt", r"meta/volume\.json",
    r"oci-layout", r"index\.json", rf"blobs/sha256/{HEX}(\.zst|\.planes)?|parts/{HEX}/[0-9]{{5}}", r"fill/[0-9]{15}")]
(README, INSTALL, INSTALLER, STATEMENT, SIGNATURE, ENVELOPE, ROOT, ROOT_SIGNATURE, KEY, SUMS, INDEX, PROFILES, LOCK,
 PROVENANCE, REQUIRES, SBOM, LICENSE, VOLUME, OCI_LAYOUT, OCI_INDEX, CONTENT, FILLER) = range(len(ROWS))
ALWAYS = (README, INSTALL, STATEMENT, ENVELOPE, ROOT, SUMS, INDEX, PROFILES, LOCK, PROVENANCE)
PAYLOAD = (CONTENT, FILLER)


def row_of(name):
    for number, row in enumerate(ROWS):
        if row.fullmatch(name):
            return number
    raise Refused(f"no member is called {name}")


def largest(row):
    return {CONTENT: 8 * GIB - 1, FILLER: 3072, ROOT: 64 << 10, SIGNATURE: 512, ROOT_SIGNATURE: 512,
            LICENSE: 1 << 20}.get(row, 64 << 20)


def check_order(members):
    def place(member):
        name = member.name
        return member.row, re.sub("^(blobs/sha256/|parts/)", "", name) if member.row == CONTENT else name
    ordered = [member for member in members if member.row != FILLER]
    for before, after in zip(ordered, ordered[1:]):
        need(place(before) < place(after), f"{after.name} is out of order")
    licenses = [member.size for member in members if member.row == LICENSE]
    need(len(licenses) <= 4096 and sum(licenses) <= 64 << 20, "licence texts")
    for row in ALWAYS:
        need(any(member.row == row for member in members), f"no member of row {row}")


class Volume:
    def __init__(self, path):
        with open(path, "rb") as file:
            self.data = file.read()
        self.members = walk(self.data)
        check_order(self.members)
        self.number, self.of = 1, 1
        said = [member for member in self.members if member.row == VOLUME]
        if said:
            form = re.fullmatch(rb'{"format":1,"volume":([1-9][0-9]*),"volumes":([1-9][0-9]*)}\n', self.read(said[0].name))
            need(form, "meta/volume.json")
            self.number, self.of = int(form[1]), int(form[2])
            need(2 <= self.of <= 999 and self.number <= self.of, "meta/volume.json")

    def rows(self, *rows):
        return [member for member in self.members if member.row in rows]

    def bytes_of(self, member):
        return self.data[member.offset:member.offset + member.size]

    def read(self, name):
        for member in self.members:
            if member.name == name:
                return self.bytes_of(member)
        raise Refused(f"no {name}")

    def has(self, name):
        return any(member.name == name for member in self.members)


# 3. Trust

SCHEMES = {"ecdsa-p256-sha256": "p256", "sm2-sm3": "sm2", "ed25519": "ed25519"}
IDENTIFIERS = {
    "p256": bytes.fromhex("301306072a8648ce3d020106082a8648ce3d030107"),
    "sm2": bytes.fromhex("301306072a8648ce3d020106082a811ccf5501822d"),
    "ed25519": bytes.fromhex("300506032b6570"),
}
STATEMENT_TYPE = "application/vnd.in-toto+json"
ROOT_TYPE = "application/vnd.ferry.root+json"


def fields(value, always, sometimes=()):
    need(isinstance(value, dict) and set(always) <= set(value) <= set(always) | set(sometimes), f"fields of {value!r:.60}")


def once(pairs):
    need(len(dict(pairs)) == len(pairs), "a field twice")
    return dict(pairs)


class Root:
    def __init__(self, data):
        self.data, self.fingerprint = data, sha256(data)
        root = json.loads(data, object_pairs_hook=once)
        fields(root, ("format", "version", "threshold", "keys"), ("revoked", "require", "previous"))
        self.version, self.threshold = root["version"], root["threshold"]
        self.revoked, self.require = root.get("revoked", []), [SCHEMES[one] for one in root.get("require", [])]
        self.previous = root.get("previous", [])
        need(root["format"] == 1 and 1 <= self.version <= 100, "the version of a root")
        need(len(root["keys"]) <= 16 and len(self.revoked) <= 256, "too many keys")
        need(len(self.previous) == self.version - 1, "previous roots")
        self.keys = {}
        for key in root["keys"]:
            fields(key, ("keyid", "scheme", "pem"))
            lines = key["pem"].split("\n")
            need(lines[0] == "-----BEGIN PUBLIC KEY-----" and lines[-2:] == ["-----END PUBLIC KEY-----", ""], "PEM")
            need(all(len(line) == 64 for line in lines[1:-3]) and 1 <= len(lines[-3]) <= 64, "PEM")
            der = base64.b64decode("".join(lines[1:-2]), validate=True)
            need(sha256(der) == key["keyid"], "a key is not the one it names")
            algorithm = SCHEMES[key["scheme"]]
            need(der[2:].startswith(IDENTIFIERS[algorithm]), "a key of another kind")
            need(not self.keys or max(self.keys) < key["keyid"], "keys ascend")
            self.keys[key["keyid"]] = (algorithm, key["pem"])
        self.counting = sorted(set(self.keys) - set(self.revoked))
        need(1 <= self.threshold <= len(self.counting), "a threshold that nobody can meet")
        for algorithm in ["p256", *self.require]:
            need(any(self.keys[key][0] == algorithm for key in self.counting), f"no key for {algorithm}")

    def met_by(self, signers):
        counted = set(signers) & set(self.counting)
        algorithms = {self.keys[key][0] for key in counted}
        return len(counted) >= self.threshold and {"p256", *self.require} <= algorithms


def strict_der(signature):
    """Two positive numbers, each as short as it can be, and nothing else."""
    def number(rest):
        need(len(rest) >= 3 and rest[0] == 2 and 1 <= rest[1] <= 33, "DER")
        value, rest = rest[2:2 + rest[1]], rest[2 + rest[1]:]
        need(value[0] < 0x80 and (len(value) == 1 or value[0] or value[1] >= 0x80) and any(value), "DER")
        return rest
    need(len(signature) >= 8 and signature[0] == 0x30 and signature[1] == len(signature) - 2 < 0x80, "DER")
    need(number(number(signature[2:])) == b"", "DER")


def holds(algorithm, pem, kind, payload, signature):
    message = f"DSSEv1 {len(kind)} {kind} {len(payload)} ".encode() + payload
    if algorithm == "ed25519":
        need(len(signature) == 64, "a signature of another length")
    else:
        strict_der(signature)
    with tempfile.TemporaryDirectory() as folder:
        paths = [os.path.join(folder, name) for name in ("key", "message", "signature")]
        for path, data in zip(paths, (pem.encode(), message, signature)):
            with open(path, "wb") as file:
                file.write(data)
        how = {"p256": ["-digest", "sha256"], "ed25519": [],
               "sm2": ["-digest", "sm3", "-pkeyopt", "distid:1234567812345678"]}[algorithm]
        command = ["openssl", "pkeyutl", "-verify", "-pubin", "-inkey", paths[0], "-rawin", *how,
                   "-in", paths[1], "-sigfile", paths[2]]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0


def chain_of(volume, fingerprint):
    """The last root of the chain, once it is led to from the one with that fingerprint."""
    documents = [volume.bytes_of(member) for member in volume.rows(ROOT)]
    names = [member.name for member in volume.rows(ROOT)]
    need(names == [f"meta/root/{n + 1:03}.json" for n in range(len(names))], "a root is missing")
    fingerprints = [sha256(document) for document in documents]
    need(fingerprint in fingerprints, "the root is not trusted")
    trusted = fingerprints.index(fingerprint)
    root = Root(documents[trusted])
    need((root.version, root.previous) == (trusted + 1, prefixed(fingerprints[:trusted])), "the trusted root")
    signatures = {}
    for member in volume.rows(ROOT_SIGNATURE):
        version, key, algorithm = re.fullmatch(rf"meta/root/(\d+)\.sig/({HEX})\.(\w+)", member.name).groups()
        need(int(version) <= len(documents), "a signature of no root")
        signatures.setdefault(int(version), []).append((key, algorithm, volume.bytes_of(member)))
    for number in range(trusted + 1, len(documents)):
        mine = signatures.get(number + 1, [])
        by_old = signers_of(root, mine, documents[number])
        need(root.met_by(by_old), "a root is not signed by the one before")
        following = Root(documents[number])
        by_new = signers_of(following, mine, documents[number])
        need(following.met_by(by_new), "a root is not signed by itself")
        need({key for key, _, _ in mine} == by_old | by_new, "a root is signed by a stranger")
        need((following.version, following.previous) == (number + 1, prefixed(fingerprints[:number])), "the chain")
        need(set(root.revoked) <= set(following.revoked), "a revoked key came back")
        root = following
    return root


def prefixed(digests):
    return [f"sha256:{digest}" for digest in digests]


def signers_of(root, signatures, document):
    signers = set()
    for key, algorithm, signature in signatures:
        if key in root.keys:
            expected, pem = root.keys[key]
            need(algorithm == expected, "a signature by the name of another algorithm")
            need(holds(expected, pem, ROOT_TYPE, document, signature), "a signature of a root")
            signers.add(key)
    return signers


def signatures_of(volume, root, statement):
    """The signatures that are there, by key; every one of them holds. Rooms are what they must be."""
    held, seen = {}, set()
    for member in volume.rows(SIGNATURE):
        key, ending = member.name.rsplit("/", 1)[1].split(".")
        need(key in root.counting and key not in seen, f"{member.name} counts for nothing")
        seen.add(key)
        algorithm, pem = root.keys[key]
        data = volume.bytes_of(member)
        if ending == "room":
            need(len(data) == 512, "a room")
            if any(data):
                length = 64 if algorithm == "ed25519" else 2 + data[1]
                need(not any(data[length:]), "a room")
                need(holds(algorithm, pem, STATEMENT_TYPE, statement, data[:length]), "a room")
        else:
            need(ending == algorithm, "a signature by the name of another algorithm")
            need(holds(algorithm, pem, STATEMENT_TYPE, statement, data), "a signature of the statement")
            held[key] = data
    return held


def check_envelope(volume, root, statement, held):
    found, payload = volume.read("meta/statement.dsse.json"), base64.b64encode(statement).decode()
    start = f'{{"payload":"{payload}","payloadType":"{STATEMENT_TYPE}","signatures":['

    def entry(key, signature):
        return f'{{"keyid":"{key}","sig":"{base64.b64encode(signature).decode()}"}}'

    there = {key for key in root.counting if volume.has(f"meta/statement.sig/{key}.{root.keys[key][0]}")}
    rooms = {key for key in root.counting if volume.has(f"meta/statement.sig/{key}.room")}
    if not rooms and found == (start + ",".join(entry(key, held[key]) for key in sorted(there)) + "]}\n").encode():
        return
    need(there | rooms == set(root.counting), "no room for a signature")
    start = start.encode()
    start += b" " * (-(len(start) + 1) % 512) + b"\n"
    places = len(root.counting)
    need(len(found) == len(start) + 256 * places + 3, "the envelope")
    need(found.startswith(start) and found.endswith(b"]}\n"), "the envelope")
    for number, key in enumerate(root.counting):
        at = len(start) + 256 * number
        comma = "," if number + 1 < places else ""
        allowed = [(entry(key, signature) + comma).encode() for signature in (held.get(key, b""), b"")]
        need(found[at:at + 256] in [one.ljust(255) + b"\n" for one in allowed], "the envelope")


# 4. Statement and sums

def check_sums(volume, statement):
    """Returns the lines of the content."""
    fields(statement, ("_type", "subject", "predicateType", "predicate"))
    need(statement["_type"] == "https://in-toto.io/Statement/v1", "the statement's type")
    need(statement["predicateType"] == "https://slsa.dev/provenance/v1", "the statement's type")
    sums = volume.read("meta/SHA256SUMS")
    described = [member for member in volume.members
                 if member.row not in (STATEMENT, SIGNATURE, ENVELOPE, SUMS, VOLUME, *PAYLOAD)]
    digests = [(member.name, sha256(volume.bytes_of(member))) for member in described]
    expected = {name: digest for name, digest in [*digests, ("meta/SHA256SUMS", sha256(sums))]}
    stated = {}
    for subject in statement["subject"]:
        fields(subject, ("name", "digest"))
        fields(subject["digest"], ("sha256",))
        stated[subject["name"]] = subject["digest"]["sha256"]
    need(len(statement["subject"]) == len(stated) and stated == expected, "the subjects")
    own = "".join(f"{digest}  {name}\n" for name, digest in digests).encode()
    need(sums.startswith(own), "meta/SHA256SUMS")
    return sums[len(own):].decode().splitlines(keepends=True)


# 5. Index and content

CODECS = {"raw": "", "zstd": ".zst", "planes": ".planes"}
EMPTY = "sha256:" + sha256(b"")


def stored_members(blob):
    """Name, digest without its prefix, size, volume and offset of each member of a blob."""
    if blob.get("parts"):
        return [(part["member"], part["digest"][7:], part["size"], part["volume"], part["offset"]) for part in blob["parts"]]
    stored = blob.get("stored") or blob
    return [(blob["member"], stored["digest"][7:], stored["size"], blob["volume"], blob["offset"])]


def check_index(index, lines):
    piece_size, volumes = index["piece_size"], index.get("volumes", 1)
    need(index["format"] == 1 and piece_size in [1 << power for power in range(12, 31)], "the index")
    need(1 <= volumes <= 999 and index.get("align") in (None, 4096), "the index")
    expected, last = [], ""
    for blob in index["blobs"]:
        digest, size, codec = blob["digest"], blob["size"], blob["codec"]
        need(re.fullmatch("sha256:" + HEX, digest) and digest > last, "blobs ascend")
        last = digest
        pieces = blob["pieces"]
        need(len(pieces) == -(-size // piece_size), "as many pieces as the size asks for")
        need(pieces or digest == EMPTY, "an empty blob")
        need(len(pieces) != 1 or pieces[0] == digest, "a single piece")
        stored = blob.get("stored")
        need((stored is None) == (codec == "raw") and codec in CODECS, "a codec")
        chunks = [min(piece_size, size - n * piece_size) for n in range(len(pieces))]
        if stored:
            chunks = [frame["size"] for frame in stored["frames"]]
            need(len(chunks) == len(pieces) and sum(chunks) == stored["size"], "frames")
        hexa = digest[7:]
        if blob.get("parts"):
            parts, ends, at, volume = blob["parts"], {0}, 0, 1
            for chunk in chunks:
                at += chunk
                ends.add(at)
            at = 0
            for number, part in enumerate(parts):
                at += part["size"]
                need(part["member"] == f"parts/{hexa}/{number:05}" and part["size"] > 0 and at in ends, "a part")
                need(volume <= part["volume"] <= volumes, "volumes do not descend")
                volume = part["volume"]
            need(at == sum(chunks), "the parts are the blob")
            need(all(blob[field] == parts[0][field] for field in ("member", "volume", "offset")), "the first part")
        else:
            need(blob["member"] == f"blobs/sha256/{hexa}{CODECS[codec]}", "a blob's name")
            need(1 <= blob["volume"] <= volumes, "a blob's volume")
        expected += [f"{digest}  {name}\n" for name, digest, *_ in stored_members(blob)]
    need(lines == expected, "meta/SHA256SUMS and the index")


def check_places(volume, index):
    """A volume holds exactly what the index gives it, and fillers where they must be."""
    at = max(member.end() for member in volume.members if member.row not in PAYLOAD)
    members = iter(volume.rows(*PAYLOAD))
    for blob in index["blobs"]:
        aligned = index.get("align") and blob["codec"] == "raw" and blob["size"] >= 4096
        for name, _, size, number, offset in stored_members(blob):
            if number != volume.number:
                continue
            gap = -(at + BLOCK) % 4096 if aligned else 0
            if gap:
                filler = next(members, None)
                need(filler and filler.row == FILLER and filler.offset == at + BLOCK, "a filler is missing")
                need(filler.name == f"fill/{offset:015}" and filler.size == gap - BLOCK, "a filler")
                need(not any(volume.bytes_of(filler)), "a filler's bytes")
            member = next(members, None)
            need(member and member.name == name, f"{name} is missing")
            need((member.offset, member.size) == (offset, size) == (at + gap + BLOCK, size), f"the place of {name}")
            at = member.end()
    need(next(members, None) is None, "content that is not in the index")


def unpacked(data):
    done = subprocess.run(["zstd", "-dqc"], input=data, capture_output=True, check=False)
    need(done.returncode == 0, "a zstd frame")
    return done.stdout


def blob_of(blob, index, volumes):
    """The bytes of a blob, each piece checked."""
    stored = b""
    for name, digest, size, number, offset in stored_members(blob):
        data = volumes[number].data[offset:offset + size]
        need(sha256(data) == digest, f"{name} is damaged")
        stored += data
    if blob["codec"] == "raw":
        plain = stored
    else:
        plain, at = b"", 0
        for number, frame in enumerate(blob["stored"]["frames"]):
            packed, at = stored[at:at + frame["size"]], at + frame["size"]
            left = min(index["piece_size"], blob["size"] - number * index["piece_size"])
            if blob["codec"] == "zstd":
                need("sha256:" + sha256(packed) == frame["digest"], "a frame")
                plain += unpacked(packed)
            else:
                plain += planes(packed, frame["digest"], left)
    need(len(plain) == blob["size"], "a blob's size")
    for number, digest in enumerate(blob["pieces"]):
        piece = plain[number * index["piece_size"]:(number + 1) * index["piece_size"]]
        need("sha256:" + sha256(piece) == digest, "a piece is damaged")
    return plain


# 5.1 Images

def layout_of(images):
    entries, known = [], set()
    for image in images:
        full = f"{image['name']}:{image['tag']}" if image.get("tag") else f"{image['name']}@{image['root']['digest']}"
        entry = described(image["root"])
        if len(image["platforms"]) == 1:
            entry = described(image["platforms"][0]["manifest"])
            system, architecture, *variant = image["platforms"][0]["platform"].split("/")
            entry["platform"] = {"architecture": architecture, "os": system}
            if variant:
                entry["platform"]["variant"] = variant[0]
        entry["annotations"] = {"io.containerd.image.name": full, "org.opencontainers.image.ref.name": full}
        entries.append(entry)
        for attached in image.get("attached", []):
            pair = attached["manifest"]["digest"], attached.get("tag")
            if pair in known:
                continue
            known.add(pair)
            entry = described(attached["manifest"])
            if attached.get("artifact_type"):
                entry["artifactType"] = attached["artifact_type"]
            if attached.get("tag"):
                entry["annotations"] = {"org.opencontainers.image.ref.name": f"{image['name']}:{attached['tag']}"}
            entries.append(entry)
    index = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": entries}
    return json.dumps(index, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"


def described(blob):
    return {"mediaType": blob["media_type"], "digest": blob["digest"], "size": blob["size"]}


def check_images(volume, images):
    if images:
        need(volume.read("oci-layout") == b'{"imageLayoutVersion":"1.0.0"}\n', "oci-layout")
        need(volume.read("index.json") == layout_of(images), "index.json")
    else:
        need(not volume.rows(OCI_LAYOUT, OCI_INDEX), "an image layout without images")


# 6. Planes

def planes(frame, digest, size):
    count = -(-size // 262_144)
    head, at, plain = frame[:36 * count], 36 * count, b""
    need(len(head) == 36 * count and "sha256:" + sha256(head) == digest, "a head of planes")
    for number in range(count):
        entry = head[36 * number:36 * number + 36]
        length, whole = int.from_bytes(entry[:4], "little"), min(262_144, size - number * 262_144)
        block, at = frame[at:at + length], at + length
        need(length <= whole + 5399 and len(block) == length, "a block of planes")
        need(hashlib.sha256(block).digest() == entry[4:], "a block of planes")
        plain += plain_block(block, whole)
    need(at == len(frame), "a frame of planes")
    return plain


def plain_block(block, whole):
    def number(size):
        nonlocal block
        need(len(block) >= size, "a block of planes is cut short")
        value, block = int.from_bytes(block[:size], "little"), block[size:]
        return value
    runs = [(number(1), number(4)) for _ in range(number(2))]
    need(len(runs) <= 257 and sum(size for _, size in runs) == whole, "runs")
    need(all(width in (1, 2, 4) and size and size % width == 0 for width, size in runs), "a run")
    sizes = [[number(4) for _ in range(width)] for width, _ in runs]
    plain = b""
    for (width, size), stored in zip(runs, sizes):
        own = []
        for length in stored:
            count = size // width
            need(length <= min(count, len(block)), "a plane")
            plane, block = block[:length], block[length:]
            own.append(plane if length == count else unpacked(plane))
            need(len(own[-1]) == count, "a plane")
        if width == 1:
            plain += own[0]
            continue
        top = 8 * width - 1
        for parts in zip(*own):
            turned = int.from_bytes(bytes(parts), "little")
            plain += ((turned >> 1) | (turned & 1) << top).to_bytes(width, "little")
    need(block == b"", "bytes after the last plane")
    return plain


# 7. Volumes

def same_metadata(first, other):
    def compared(volume):
        return [(member.name, volume.bytes_of(member)) for member in volume.members
                if member.row not in (VOLUME, SIGNATURE, ENVELOPE, *PAYLOAD)]
    need(compared(first) == compared(other), "volumes of different bundles")


# Profiles, and what is installed

def places(profiles):
    """Every file of the profiles and the folder that it goes to."""
    for component in profiles["components"]:
        folder = {"model": "models", "dataset": "datasets"}[component["kind"]]
        for file in component["files"]:
            yield f"{folder}/{component['name']}", file
        for eula in component.get("eulas", []):
            yield f"eulas/{eula['name']}", eula["text"]
    for backend in profiles["backends"]:
        for file in backend["files"]:
            yield f"{backend['name']}/backend", file
        for file in (backend.get("python") or {}).get("wheels", []):
            yield f"{backend['name']}/wheels", file
        for eula in backend.get("eulas", []):
            yield f"eulas/{eula['name']}", eula["text"]
        for item in backend.get("host", []):
            signature, eula = item.get("signature") or {}, item.get("eula") or {}
            for file in (item["file"], signature.get("cms"), signature.get("crl"), signature.get("root"), eula.get("text")):
                if file:
                    yield f"{backend['name']}/host/{item['kind']}", file
    for packages in profiles.get("os_packages", []):
        for file in [package["file"] for package in packages["packages"]] + packages["metadata"]:
            yield f"os/{packages['name']}", file


def image_blobs(profiles):
    for image in profiles.get("images", []):
        yield image["root"]
        for one in image["platforms"]:
            yield from (one["manifest"], one["config"], *one["layers"])
        for attached in image.get("attached", []):
            yield from (attached["manifest"], *attached["blobs"])


def filled(text, values):
    def value(found):
        return values.get(found[1].strip(), found[0])
    # What is no placeholder gives its first two braces away, and the search goes on behind them.
    done, at = "", 0
    while (at_next := text.find("{{", at)) >= 0:
        end = text.find("}}", at_next + 2)
        key = text[at_next + 2:end].strip() if end >= 0 else None
        done += text[at:at_next]
        if key in values:
            done, at = done + values[key], end + 2
        else:
            done, at = done + "{{", at_next + 2
    return done + text[at:]


class Bundle:
    def __init__(self, fingerprint, paths):
        volumes = [Volume(path) for path in paths]
        first = volumes[0]
        root = chain_of(first, fingerprint)
        self.statement = first.read("meta/statement.json")
        held = signatures_of(first, root, self.statement)
        for other in volumes[1:]:
            same_metadata(first, other)
            held.update(signatures_of(other, root, self.statement))
        need(root.met_by(held), "not signed as the root asks")
        for volume in volumes:
            check_envelope(volume, root, self.statement, held)
        lines = check_sums(first, json.loads(self.statement, object_pairs_hook=once))
        self.index, self.profiles = [json.loads(first.read(f"meta/{name}.json")) for name in ("index", "profiles")]
        check_index(self.index, lines)
        need(sorted(volume.number for volume in volumes) == list(range(1, self.index.get("volumes", 1) + 1)), "volumes")
        need(all(volume.of == self.index.get("volumes", 1) for volume in volumes), "volumes")
        for volume in volumes:
            check_places(volume, self.index)
        self.volumes = {volume.number: volume for volume in volumes}
        requires = json.loads(first.read("meta/requires.json")) if first.has("meta/requires.json") else {"blobs": []}
        self.check_profiles(requires)
        check_images(first, self.profiles.get("images", []))
        self.blobs = {blob["digest"]: blob_of(blob, self.index, self.volumes) for blob in self.index["blobs"]}

    def check_profiles(self, requires):
        need(self.profiles["format"] == 1, "profiles")
        sizes = {blob["digest"]: blob["size"] for blob in [*requires["blobs"], *self.index["blobs"]]}
        raw = {blob["digest"]: blob["codec"] == "raw" for blob in self.index["blobs"]}
        for _, file in places(self.profiles):
            made = file.get("made_from")
            size = sizes.get(made["blob"] if made else file["digest"])
            need(size is not None and (made or size == file["size"]), f"the blob of {file['path']}")
        for blob in image_blobs(self.profiles):
            need(sizes.get(blob["digest"]) == blob["size"] and raw.get(blob["digest"], True), "the blob of an image")

    def extract(self, out):
        for digest, data in self.blobs.items():
            write(os.path.join(out, "blobs", digest[7:]), data)
        for folder, file in places(self.profiles):
            made = file.get("made_from")
            data = self.blobs.get(made["blob"] if made else file["digest"])
            if data is None:
                continue  # A delta leaves it out.
            if made:
                data = filled(data.decode(), made["fill"]).encode()
            need("sha256:" + sha256(data) == file["digest"] and len(data) == file["size"], f"{file['path']} as installed")
            write(os.path.join(out, "files", folder, file["path"]), data)


def write(path, data):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.write(data)


# 10. Parity

BASIS = [0x0001, 0xACCA, 0x3C0E, 0x163E, 0xC582, 0xED2E, 0x914C, 0x4012,
         0x6C98, 0x10D8, 0x6A72, 0xB900, 0xFDB8, 0xFB34, 0xFF38, 0x991E]


class Field:
    """GF(2^16): products by logarithms of the polynomials that the words stand for."""

    def __init__(self):
        polynomial = [0] * 65_536
        for word in range(1, 65_536):
            low = word & -word
            polynomial[word] = polynomial[word ^ low] ^ BASIS[low.bit_length() - 1]
        powers, value = [0] * 65_535, 1
        for power in range(65_535):
            powers[power], value = value, value << 1
            if value >> 16:
                value ^= 0x1002D
        word_of = {one: word for word, one in enumerate(polynomial)}
        self.word = [word_of[one] for one in powers]
        self.log = {word: power for power, word in enumerate(self.word)}

    def times(self, a, b):
        return self.word[(self.log[a] + self.log[b]) % 65_535] if a and b else 0

    def over(self, a, b):
        return self.word[(self.log[a] - self.log[b]) % 65_535] if a else 0

    def weights(self, points, at):
        """By how much each of the values at `points` counts in the value at `at`."""
        weights = []
        for mine in points:
            weight = 1
            for other in points:
                if other != mine:
                    weight = self.over(self.times(weight, at ^ other), mine ^ other)
            weights.append(weight)
        return weights


def factors(field, originals, recovery):
    """For each recovery shard, by how much each original counts in it."""
    def power(count):
        return 1 << (count - 1).bit_length()
    high = power(originals) > power(recovery) or power(originals) == power(recovery) and originals <= recovery
    size = power(recovery if high else originals)
    rows = []
    for number in range(recovery):
        if high:
            row = []
            for start in range(size, size + originals, size):
                row += field.weights(range(start, start + size), number)
        else:
            row = field.weights(range(size), size + number)
        rows.append(row[:originals])
    return rows


def describe(data):
    need(data.startswith(b"ferry-parity 1\n"), "no parity")
    digest, length, rest = data[15:].split(b"\n", 2)
    text = rest[:int(length)]
    need(sha256(text).encode() == digest and len(length) == 20, "a descriptor")
    size = -(-(15 + 65 + 21 + len(text)) // 4096) * 4096
    need(not any(data[15 + 65 + 21 + len(text):size]), "a descriptor")
    return json.loads(text), size


def check_parity(path, files):
    """Every recovery block is what the code makes of the files; a few words of each are computed."""
    with open(path, "rb") as file:
        data = file.read()
    description, head = describe(data)
    block, originals = description["block"], []
    named = {os.path.basename(one): one for one in files}
    for entry in description["files"]:
        with open(named[entry["name"]], "rb") as file:
            whole = file.read()
        need(len(whole) == entry["size"], entry["name"])
        for number, digest in enumerate(entry["blocks"]):
            one = whole[number * block:(number + 1) * block]
            need("sha256:" + sha256(one) == digest, f"block {number} of {entry['name']}")
            originals.append(one.ljust(block, b"\0"))
    field = Field()
    rows = factors(field, len(originals), description["recovery"])
    for number, digest in enumerate(description["blocks"]):
        made = data[head + number * block:head + (number + 1) * block]
        need("sha256:" + sha256(made) == digest, f"recovery block {number}")
        row = rows[description["first"] + number]
        for at in range(0, block, 64):
            word = at // 64 % 32

            def value(shard):
                return shard[at + word] | shard[at + 32 + word] << 8
            expected = 0
            for weight, original in zip(row, originals):
                expected ^= field.times(weight, value(original))
            need(value(made) == expected, f"recovery block {number} at byte {at + word}")
    need(data[head + len(description["blocks"]) * block:] == data[:head], "the second descriptor")


def main(arguments):
    if arguments[0] == "--parity":
        check_parity(arguments[1], arguments[2:])
        print("ok")
    elif arguments[0] == "--each":
        for path in arguments[2:]:
            try:
                print("ok", sha256(Bundle(arguments[1], [path]).statement))
            except (Refused, ValueError, LookupError, TypeError, AttributeError) as why:
                print("refused", type(why).__name__, why)
    else:
        bundle = Bundle(arguments[0], arguments[2:])
        bundle.extract(arguments[1])
        print("ok", sha256(bundle.statement))


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except Refused as why:
        sys.exit(f"refused: {why}")
