"""Makes every mistake of this folder in one build, and shows that the model check catches each.

A mistake is a patch on the pure core, with what it does, the exploration it shows in (`model::scopes`) and the property that
catches it. Each function that a patch changes stands beside the original as `name__mN`, in a copy of the sources; the original
calls the one whose number stands in the environment as MUTANT, as for the mutants. Fails when one is not caught, or by
another property than it says. Prints each mistake with the property that caught it.
"""

import concurrent.futures
import glob
import os
import re
import shutil
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "mutants"))
sys.argv = sys.argv[:1]
from together import SWITCH, arguments, boxed, closing, copy_to  # noqa: E402

TREE = "target/mistakes"
# A name that tells a mistake from the original, and code that it makes useless.
ALLOWED = "#![allow(non_snake_case, missing_docs, unreachable_code, unused)]\n"
FUNCTION = re.compile(r"^( *)((?:pub(?:\([a-z: ]+\))? )?(?:const )?)fn (\w+)", re.MULTILINE)


def head(path):
    """The lines before the patch."""
    with open(path) as patch:
        return dict(line.strip().split(": ", 1) for line in patch.read().split("\n\n")[0].splitlines())


def functions(text):
    """(name, begin, end) of each function, in order. A function ends where its closing brace has its own indentation."""
    found = []
    for start in FUNCTION.finditer(text):
        end = text.index(f"\n{start[1]}}}\n", start.end()) + len(start[1]) + 3
        found.append((start[3], start.start(), end))
    return found


def changed(old, new):
    """The functions that differ: (index among the old ones, text of the new one)."""
    before, after = functions(old), functions(new)
    if [name for name, _, _ in before] != [name for name, _, _ in after]:
        sys.exit("a mistake adds or removes a function: that cannot be switched")
    pairs = enumerate(zip(before, after))
    texts = [(index, old[b:e], new[nb:ne]) for index, ((_, b, e), (_, nb, ne)) in pairs]
    return [(index, mistaken) for index, right, mistaken in texts if right != mistaken]


def switching(text, variants):
    """The function with its mistaken variants beside it: (number, text) each."""
    name, beside, arms = FUNCTION.search(text)[3], "", ""
    in_impl = text.startswith(" ")
    for number, variant in variants:
        variant = boxed(variant)
        start = FUNCTION.search(variant)
        opens = variant.index("(", start.end())
        names, receiver = arguments(variant[opens + 1 : closing(variant, opens)])
        to = "self." if receiver else "Self::" if in_impl else ""
        arms += f" {number} => return {to}{name}__m{number}({', '.join(names)}),"
        front = variant[: start.end()].replace("const ", "")
        beside += f"\n{front}__m{number}{variant[start.end() :]}"
    text = boxed(text)
    start = FUNCTION.search(text)
    body = text.index("{", closing(text, text.index("(", start.end()))) + 1
    front = text[: start.end()].replace("const ", "")
    return f"{front}{text[start.end() : body]} match crate::mutant() {{{arms} _ => {{}} }}{text[body:]}{beside}"


def write(patches):
    """Writes the core with all mistakes beside the originals."""
    variants = {}
    for number, path in enumerate(patches, 1):
        subprocess.run(["git", "apply", "--directory", TREE, path], check=True)
        changes = subprocess.run(["git", "apply", "--numstat", path], check=True, capture_output=True, text=True)
        switched = 0
        for name in (line.split("\t")[2] for line in changes.stdout.splitlines()):
            with open(name) as old, open(f"{TREE}/{name}") as new:
                for index, mistaken in changed(old.read(), new.read()):
                    variants.setdefault(name, {}).setdefault(index, []).append((number, mistaken))
                    switched += 1
            shutil.copy(name, f"{TREE}/{name}")
        if not switched:
            sys.exit(f"{path} changes no function")
    for name, of_file in variants.items():
        with open(name) as source:
            text = source.read()
        for index, (_, begin, end) in reversed(list(enumerate(functions(text)))):
            if index in of_file:
                text = text[:begin] + switching(text[begin:end], of_file[index]) + text[end:]
        with open(f"{TREE}/{name}", "w") as out:
            out.write(text)


def build():
    """The model check, with every mistake in it."""
    command = (
        "cargo test --no-run --message-format=json-render-diagnostics --config profile.test.package.agentcom-sidecar.opt-level=2"
        " --no-default-features --features scheduler,codec --test model_check"
    )
    environment = os.environ | {"CARGO_TARGET_DIR": os.path.abspath("target")}
    ran = subprocess.run(command.split(), cwd=TREE, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return re.search(r'"name":"model_check".*"executable":"([^"]+)"', ran.stdout)[1]


def caught_by(program, number, scope):
    """The property that an exploration finds broken, and its last word."""
    environment = os.environ | {"MUTANT": str(number), "MODEL_SCOPE": scope, "RUST_BACKTRACE": "0"}
    command = [program, "every_property_holds", "--nocapture"]
    ran = subprocess.run(command, cwd=TREE, env=environment, capture_output=True, text=True, timeout=300)
    broken = re.search(r"^# BROKEN: (\w+):", ran.stdout + ran.stderr, re.MULTILINE)
    return broken[1] if broken else "nothing" if ran.returncode == 0 else "a failure without a story"


def main():
    patches = sorted(glob.glob("tests/mistakes/*.patch"))
    copy_to(TREE)
    with open("src/lib.rs") as lib, open(f"{TREE}/src/lib.rs", "w") as switched:
        switched.write(ALLOWED + lib.read() + SWITCH)
    write(patches)
    program = build()
    heads = [head(path) for path in patches]
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda entry: caught_by(program, *entry), enumerate((h["Shows in"] for h in heads), 1)))
    print("| mistake | caught by |\n|---|---|")
    failed = 0
    for entry, property_found in zip(heads, found):
        print(f"| {entry['What']} | `{property_found}` |")
        if property_found != entry["Caught by"]:
            print(f"FAILED: it says that {entry['Caught by']} catches it, in {entry['Shows in']!r}")
            failed += 1
    print(f"test result: {'FAILED' if failed else 'ok'}. {len(heads) - failed} passed; {failed} failed;")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
