"""Tries every mutant that cargo-mutants names in the pure core and the hub's scheduler, with one build for all of them.

Each mutated function stands beside its original as `name__mN`, in a copy of the sources; the original calls the one whose
number stands in the environment as MUTANT. What does not compile is taken out and counted. A mutant is noticed when the unit
tests, the stories or the random lives fail, or do not end. Fails when one survives that docs/mutants.md does not list, or
the other way round. Arguments: the files to try (all of them without any).
"""

import collections
import concurrent.futures
import glob
import json
import os
import re
import shutil
import subprocess
import sys

TREE = "target/mutants"
ALL = sorted(
    file
    for pattern in ("src/machine/**/*.rs", "src/hub/scheduler/**/*.rs", "src/protocol/schema/*.rs")
    for file in glob.glob(pattern, recursive=True)
    if "/tests/" not in file
)
FILES = sys.argv[1:] or ALL
TIME_LIMIT_S = 60

SWITCH = """
/// The mutant to be.
#[doc(hidden)]
pub fn mutant() -> u32 {
    static CHOSEN: std::sync::OnceLock<u32> = std::sync::OnceLock::new();
    *CHOSEN.get_or_init(|| std::env::var("MUTANT").ok().and_then(|text| text.parse().ok()).unwrap_or(0))
}
"""


def copy_to(tree):
    """Copies what git tracks. The copy has a version of its own and no programs, or cargo would take what is built of it for
    this package's."""
    shutil.rmtree(tree, ignore_errors=True)
    for name in subprocess.run(["git", "ls-files"], check=True, capture_output=True, text=True).stdout.splitlines():
        os.makedirs(os.path.dirname(f"{tree}/{name}"), exist_ok=True)
        shutil.copy(name, f"{tree}/{name}")
    with open("Cargo.toml") as manifest:
        text = manifest.read()
    text = re.sub(r"^\[\[(bin|example)\]\]\n(.+\n)*", "", text, flags=re.MULTILINE)
    text = re.sub(r"^default-run = .*", "autobins = false", text, flags=re.MULTILINE)
    text = re.sub(r'^version = ".*"', 'version = "0.0.0-switched"', text, count=1, flags=re.MULTILINE)
    with open(f"{tree}/Cargo.toml", "w") as out:
        out.write(text)


def offset(lines, at):
    return sum(len(line) for line in lines[: at["line"] - 1]) + at["column"] - 1


def closing(text, start):
    depth = 0
    for index in range(start, len(text)):
        depth += {"(": 1, ")": -1}.get(text[index], 0)
        if depth == 0:
            return index
    raise ValueError(text)


def arguments(text):
    """The names of a function's arguments, and whether it has a receiver."""
    parts, depth, current = [], 0, ""
    for index, char in enumerate(text):
        if char in "(<[":
            depth += 1
        elif char in ")]" or (char == ">" and text[index - 1] != "-"):
            depth -= 1
        if char == "," and depth == 0:
            parts.append(current)
            current = ""
        else:
            current += char
    parts = [part.strip() for part in parts + [current] if part.strip()]
    named = [part.split(":")[0].strip().removeprefix("mut ") for part in parts]
    is_receiver = [re.fullmatch(r"(&\s*('\w+\s+)?)?(mut\s+)?self", part) for part in parts]
    return [name for name, receiver in zip(named, is_receiver) if not receiver], any(is_receiver)


def boxed(text):
    """A function that returns some iterator, so that another may stand in for it."""
    found = re.search(r"-> impl (Iterator<Item = [^{]*>) \{", text)
    if not found:
        return text
    body = text[found.end() : text.rindex("}")]
    head = text[: found.start()] + f"-> alloc::boxed::Box<dyn {found[1]} + '_> "
    return head + "{ alloc::boxed::Box::new({" + body + "}) }"


def dispatching(text, mutants, lines, begin):
    """The function with the mutants of it beside it: pieces of text, each with the number of its mutant."""
    path = mutants[0]["function"]["function_name"]
    name = path.split("::")[-1]
    of_a_trait = path.startswith("<impl")
    pieces, arms = [], ""
    names, receiver = [], False
    for mutant in mutants:
        begins, ends = (offset(lines, mutant["span"][side]) - begin for side in ("start", "end"))
        mutated = boxed(text[:begins] + f" {mutant['replacement']} " + text[ends:])
        head = re.search(rf"\bfn\s+{name}\b", mutated)
        opens = mutated.index("(", head.end())
        names, receiver = arguments(mutated[opens + 1 : closing(mutated, opens)])
        if of_a_trait:
            arms += f" {mutant['id']} => return {mutant['replacement']},"
            continue
        to = "self." if receiver else "Self::" if "::" in path else ""
        arms += f" {mutant['id']} => return {to}{name}__m{mutant['id']}({', '.join(names)}),"
        front = mutated[: head.start()].replace("const ", "")
        pieces.append(("\n", None))
        pieces.append((f"{front}fn {name}__m{mutant['id']}{mutated[head.end() :]}", mutant["id"]))
    original = boxed(text)
    head = re.search(rf"\bfn\s+{name}\b", original)
    opens = original.index("(", head.end())
    body = original.index("{", closing(original, opens)) + 1
    switch = f" match crate::mutant() {{{arms} _ => {{}} }}"
    original = original[: head.start()].replace("const ", "") + original[head.start() : body] + switch + original[body:]
    return [(original, None)] + pieces


def write(mutants, unviable):
    """Writes the sources with all mutants but the unviable, and answers whose each line is."""
    whose = {}
    for file in FILES:
        with open(file) as source:
            text = source.read()
        lines = text.splitlines(keepends=True)
        functions = collections.defaultdict(list)
        for mutant in mutants:
            if mutant["file"] == file and mutant["id"] not in unviable:
                span = mutant["function"]["span"]
                functions[offset(lines, span["start"]), offset(lines, span["end"])].append(mutant)
        pieces, last = [], 0
        for (begin, end), group in sorted(functions.items()):
            pieces.append((text[last:begin], None))
            pieces += dispatching(text[begin:end], group, lines, begin)
            last = end
        pieces.append((text[last:], None))
        line, ranges = 1, []
        for piece, number in pieces:
            ranges.append((line, line + piece.count("\n"), number))
            line += piece.count("\n")
        whose[file] = [entry for entry in ranges if entry[2]]
        with open(f"{TREE}/{file}", "w") as out:
            out.write("".join(piece for piece, _ in pieces))
    return whose


def build(mutants):
    """Builds the tests with all mutants that compile: the programs by name, and the numbers of those that do not."""
    unviable = set()
    while True:
        whose = write(mutants, unviable)
        command = "cargo test --no-run --message-format=json --lib --test scenarios"
        environment = os.environ | {"CARGO_TARGET_DIR": os.path.abspath("target")}
        ran = subprocess.run(command.split(), cwd=TREE, env=environment, capture_output=True, text=True)
        programs, bad, others = {}, set(), []
        for line in ran.stdout.splitlines():
            said = json.loads(line) if line.startswith("{") else {}
            if said.get("executable") and said["profile"]["test"]:
                programs[said["target"]["name"]] = said["executable"]
            if said.get("reason") == "compiler-message" and said["message"]["level"] == "error":
                spans = [(span["file_name"], span["line_start"]) for span in said["message"]["spans"]]
                hit = {n for name, at in spans for first, last, n in whose.get(name, []) if first <= at <= last}
                bad |= hit
                others += [] if hit else [said["message"]["rendered"]]
        if ran.returncode == 0:
            return programs, unviable
        if not bad:
            sys.exit("\n".join(others[:3]) + ran.stderr[-2000:])
        unviable |= bad


def notice(programs, file, number):
    """What the tests say of one mutant: cheap ones first."""
    lib, stories = programs["agentcom"], programs["scenarios"]
    if file.startswith("src/machine"):
        tests = [
            ([lib, "machine::", "--skip", "every_event_is_met", "--skip", "state_table::"], "60"),
            ([stories], "60"),
            ([lib, "machine::state_table::"], "60"),
            ([lib, "machine::tests::properties", "--skip", "every_event_is_met"], "1000"),
        ]
    else:
        tests = [([lib, "hub::", "protocol::schema", "--skip", "properties::"], "60"), ([lib, "hub::scheduler::tests::properties"], "400")]
    for command, lives in tests:
        environment = os.environ | {
            "MUTANT": str(number),
            "PROPTEST_CASES": lives,
            "PROPTEST_RNG_SEED": "20261124",
            "PROPTEST_MAX_SHRINK_ITERS": "0",
            "PROPTEST_DISABLE_FAILURE_PERSISTENCE": "1",
            "CARGO_MANIFEST_DIR": os.path.abspath(TREE),
        }
        try:
            ran = subprocess.run(command, cwd=TREE, env=environment, capture_output=True, timeout=TIME_LIMIT_S)
        except subprocess.TimeoutExpired:
            return "does not end"
        if ran.returncode:
            return "caught"
    return "survives"


def main():
    if unknown := [file for file in FILES if file not in ALL]:
        sys.exit(f"{', '.join(unknown)}: not tried here; one of {', '.join(ALL)}")
    listing = ["cargo", "mutants", "--list", "--json", *(word for file in FILES for word in ("-f", file))]
    mutants = json.loads(subprocess.run(listing, check=True, capture_output=True, text=True).stdout)
    for number, mutant in enumerate(mutants, 1):
        mutant["id"] = number
    copy_to(TREE)
    with open(f"{TREE}/src/lib.rs", "a") as lib:
        lib.write(SWITCH)
    programs, unviable = build(mutants)
    for file in ("src/machine/mod.rs", "src/hub/scheduler/tasks.rs"):
        if notice(programs, file, 0) != "survives":
            sys.exit(f"the tests fail without any mutant ({file})")
    with open("docs/mutants.md") as doc:
        listed = set(re.findall(r"^\| `(src/[^`]*)` \|", doc.read(), re.MULTILINE))
    listed = {name for name in listed if name.split(":")[0] in FILES}
    counts, survivors = collections.defaultdict(collections.Counter), set()

    def outcome_of(mutant):
        return "does not compile" if mutant["id"] in unviable else notice(programs, mutant["file"], mutant["id"])

    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        outcomes = list(pool.map(outcome_of, mutants))
    for mutant, outcome in zip(mutants, outcomes):
        counts[mutant["file"]][outcome] += 1
        if outcome == "survives":
            # Lines move; what is replaced, and in which function, does not.
            survivors.add(re.sub(r":\d+:\d+: ", ": ", mutant["name"]))
    for file, outcomes in counts.items():
        print(f"{file}: {sum(outcomes.values())} mutants, {dict(outcomes)}")
    for name in sorted(survivors - listed):
        print(f"SURVIVES, and docs/mutants.md does not say why it may: {name}")
    for name in sorted(listed - survivors):
        print(f"docs/mutants.md lists it, and it does not survive: {name}")
    return int(survivors != listed)


if __name__ == "__main__":
    sys.exit(main())
