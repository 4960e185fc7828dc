"""Makes the data of `llm-relabel demo --task tagging`: our own sentences, with planted errors.

    python evals/make_tagging_demo.py

No permissive set of tagged sentences with real label errors is at hand, so these were written for
this package: short news about people, towns and firms that do not exist or have nothing to do with
what is said. Some names are a person's, a town's or a firm's, as the sentence has it. In one of
four sentences an error is planted: another type, other borders, a missing or an added entity. The
recorded judge is made too: it has nine of ten entities right. Nothing here measures anything but
that the program works; what real judges do is in `evals/tagging.py`.
"""

from __future__ import annotations

import json
import random
import re
from pathlib import Path

DEMO = Path(__file__).parent.parent / "llm_relabel" / "demo" / "tagging"
SEED, ROWS = 7, 360
TYPES = ("PER", "LOC", "ORG")
# Those in several lists are told apart by the sentence only.
NAMES = {
    "PER": [
        "Ada Wells", "Jordan", "Paris Amadi", "Tomas Lund", "Mei Chen", "Carter", "Lincoln Reyes",
        "Sofia Marsh", "Hudson", "Omar Haddad", "Florence Okoro", "Victoria", "Ines Duarte",
        "Marek Novak", "Chelsea", "Bennett", "Priya Nair", "Sydney Clark", "Ford", "Dorothea Kim",
    ],
    "LOC": [
        "Lincoln", "Florence", "Jordan", "Victoria", "Sydney", "Paris", "Hudson", "North Harbour",
        "Lake Orla", "Santa Mira", "Chelsea", "Elmstead", "Port Vell", "Carter Hill",
        "Upper Tarn", "Westbrook", "Odense", "Cape Lorne", "Marsh End", "Bergen",
    ],
    "ORG": [
        "Ford", "Hudson Foods", "Carter & Lund", "Bennett", "Orla Water", "Northline Rail",
        "Chelsea", "Wells Bank", "Tarn Energy", "Victoria Mills", "Mira Labs", "Harbour Union",
        "the Elmstead Trust", "Lincoln Paper", "Vell Shipping", "Okoro Brothers", "Radio Bergen",
        "the City Council", "Clark Motors", "Novak Group",
    ],
}  # fmt: skip
FRAMES = [
    "{PER} has lived in {LOC} since the spring .",
    "{ORG} will close its office in {LOC} , said {PER} on Monday .",
    "The mayor of {LOC} , {PER} , opened the new bridge .",
    "Shares of {ORG} fell after {PER} left the board .",
    "{PER} and {PER} met near {LOC} to talk about the strike .",
    "Trains between {LOC} and {LOC} were late again , {ORG} admitted .",
    '" We had no choice , " {PER} told {ORG} .',
    "It rained in {LOC} for nine days .",
    "{ORG} bought {ORG} for 40 million .",
    "Who is {PER} , and why does {ORG} pay her ?",
    "The storm passed {LOC} at noon and reached {LOC} by four .",
    "{PER} was born in {LOC} and studied in {LOC} .",
    "A spokesman for {ORG} would not comment .",
    "{PER} 's lawyer asked the court in {LOC} for more time .",
    "The dispute between {ORG} and {ORG} goes on , writes {PER} .",
    "Nobody was hurt , and the road is open again .",
    "The factory near {LOC} belongs to {ORG} .",
    "After ten years at {ORG} , {PER} moved to {LOC} .",
    "Prices rose by two per cent in March .",
    "{LOC} beat {LOC} by three goals to one .",
    "In {LOC} , {PER} sang for an hour .",
    "The union asked {ORG} to pay the drivers from {LOC} .",
    "{PER} called {PER} from the airport .",
    "Two towns , {LOC} and {LOC} , share one hospital .",
    '" {ORG} owes us an answer , " said {PER} , who farms outside {LOC} .',
    "The report was late , as it is every year .",
    "{PER} painted the harbour of {LOC} many times .",
    "Workers at {ORG} in {LOC} voted to stay out .",
    "Mr {PER} , 62 , leaves {ORG} in June .",
    "Tickets cost eight crowns at {ORG} and ten in {LOC} .",
]

Entity = tuple[int, int, str]


def sentence(rng: random.Random) -> tuple[list[str], list[Entity]]:
    """Words and their entities, in places of words."""
    words, spans = list[str](), list[Entity]()
    for part in re.split(r"\s+", rng.choice(FRAMES)):
        kind = re.fullmatch(r"\{(\w+)\}", part)
        own = re.split(" ", rng.choice(NAMES[kind[1]])) if kind else [part]
        if kind:
            spans.append((len(words), len(words) + len(own), kind[1]))
        words += own
    return words, spans


def damaged(words: list[str], spans: list[Entity], rng: random.Random) -> list[Entity]:
    """The entities with one error."""
    found = list(spans)
    ways = ["added"] if not spans else ["type", "type", "missing", "borders", "added"]
    way = rng.choice(ways)
    place = rng.randrange(len(found)) if found else 0
    if way == "missing":
        return found[:place] + found[place + 1 :]
    if way == "type":
        start, end, kind = found[place]
        found[place] = (start, end, rng.choice([other for other in TYPES if other != kind]))
        return found
    if way == "borders":
        start, end, kind = found[place]
        wider = (start, end + 1, kind) if end < len(words) and end - start == 1 else (
            start + 1, end, kind
        )  # fmt: skip
        if all(wider[1] <= a or wider[0] >= b for a, b, _ in found[:place] + found[place + 1 :]):
            found[place] = wider
        return found
    free = [n for n, word in enumerate(words) if word.isalpha()
            and all(n < a or n >= b for a, b, _ in found)]  # fmt: skip
    start = rng.choice(free)
    return sorted([*found, (start, start + 1, rng.choice(TYPES))])


def judged(spans: list[Entity], rng: random.Random) -> list[Entity]:
    """What the recorded judge says: nine of ten are right."""
    said = []
    for start, end, kind in spans:
        luck = rng.random()
        if luck < 0.9:
            said.append((start, end, kind))
        elif luck < 0.95:
            said.append((start, end, rng.choice([other for other in TYPES if other != kind])))
    return said


def tags(words: list[str], spans: list[Entity]) -> list[str]:
    found = ["O"] * len(words)
    for start, end, kind in spans:
        found[start:end] = [f"B-{kind}", *[f"I-{kind}"] * (end - start - 1)]
    return found


def main() -> None:
    rng = random.Random(SEED)
    rows, answers, seen = [], [], set[str]()
    while len(rows) < ROWS:
        words, spans = sentence(rng)
        if " ".join(words) in seen:
            continue
        seen.add(" ".join(words))
        label = damaged(words, spans, rng) if len(rows) % 4 == 1 else spans
        name = f"s{len(rows) + 1}"
        rows.append({"id": name, "tokens": words, "ner_tags": tags(words, label),
                     "gold": tags(words, spans)})  # fmt: skip
        answers.append({"id": name, "label": tags(words, judged(spans, rng))})
    for name, lines in (("sentences.jsonl", rows), ("recorded.jsonl", answers)):
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        (DEMO / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
