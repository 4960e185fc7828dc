"""Makes the demo's data, `llm_relabel/demo/banking20.jsonl`, from the published banking77 set.

    LLM_RELABEL_DATA=FOLDER python evals/make_demo_data.py [--check]

FOLDER holds `banking77/data.jsonl`: lines with `id`, `text` and the published `label`,
training split first. What is done, and nothing else:

1. Keep the 20 intents below: five groups whose members are mistaken for each other.
2. Keep the messages whose text hashes into the lower 66% (about 2,500). The hash is of the
   text alone, so exact duplicates stay together; text and order are those of the source.
3. `gold` is the published label, right or wrong. `label` is `gold`, except in 15% of the rows
   (those whose id hashes lowest), where it is one of the intents CONFUSABLE lists for `gold`,
   again chosen by hash.

Every draw is SHA-256 of the seed and the row's own text or id, so the file does not depend on
a random generator, a library version or the machine: running it again gives the same bytes.
`--check` compares with the committed file instead of writing it.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
from collections import Counter
from pathlib import Path

SEED = 0
KEEP = 0.66
FLIP = 0.15
TARGET = Path(__file__).resolve().parents[1] / "llm_relabel" / "demo" / "banking20.jsonl"

# intent -> the intents an annotator in a hurry would give instead. Declared by reading the
# messages, not measured by any model, so that no model of ours has an easier time with them.
CONFUSABLE: dict[str, tuple[str, ...]] = {
    "card_arrival": ("card_delivery_estimate",),
    "card_delivery_estimate": ("card_arrival",),
    "pending_transfer": (
        "transfer_timing",
        "transfer_not_received_by_recipient",
        "balance_not_updated_after_bank_transfer",
    ),
    "failed_transfer": ("declined_transfer", "pending_transfer"),
    "declined_transfer": ("failed_transfer", "declined_card_payment"),
    "transfer_not_received_by_recipient": (
        "pending_transfer",
        "transfer_timing",
        "balance_not_updated_after_bank_transfer",
    ),
    "transfer_timing": (
        "pending_transfer",
        "transfer_not_received_by_recipient",
        "balance_not_updated_after_bank_transfer",
    ),
    "balance_not_updated_after_bank_transfer": (
        "transfer_not_received_by_recipient",
        "transfer_timing",
        "pending_transfer",
    ),
    "pending_cash_withdrawal": ("declined_cash_withdrawal", "pending_card_payment"),
    "declined_cash_withdrawal": ("pending_cash_withdrawal", "declined_card_payment"),
    "cash_withdrawal_not_recognised": (
        "card_payment_not_recognised",
        "wrong_amount_of_cash_received",
    ),
    "wrong_amount_of_cash_received": (
        "cash_withdrawal_not_recognised",
        "cash_withdrawal_charge",
    ),
    "cash_withdrawal_charge": ("card_payment_fee_charged", "wrong_amount_of_cash_received"),
    "pending_card_payment": (
        "pending_transfer",
        "pending_cash_withdrawal",
        "declined_card_payment",
    ),
    "declined_card_payment": (
        "declined_cash_withdrawal",
        "declined_transfer",
        "pending_card_payment",
    ),
    "card_payment_not_recognised": ("cash_withdrawal_not_recognised", "card_payment_fee_charged"),
    "card_payment_fee_charged": ("cash_withdrawal_charge", "card_payment_not_recognised"),
    "pending_top_up": ("top_up_failed", "top_up_reverted", "pending_transfer"),
    "top_up_failed": ("pending_top_up", "top_up_reverted"),
    "top_up_reverted": ("top_up_failed", "pending_top_up"),
}


def draw(purpose: str, key: str) -> float:
    """A number in [0, 1) that depends on the seed, `purpose` and `key` only."""
    digest = hashlib.sha256(f"{SEED}\x1f{purpose}\x1f{key}".encode()).digest()
    return int.from_bytes(digest[:6], "big") / 2**48


def make(source: Path) -> bytes:
    """The bytes of the demo file, made from `source`."""
    rows = [json.loads(line) for line in source.read_text(encoding="utf-8").splitlines()]
    kept = [row for row in rows if row["label"] in CONFUSABLE and draw("keep", row["text"]) < KEEP]
    by_hash = sorted(kept, key=lambda row: draw("flip", row["id"]))
    flipped = {row["id"] for row in by_hash[: round(FLIP * len(kept))]}
    lines = []
    for row in kept:
        gold = row["label"]
        options = CONFUSABLE[gold]
        chosen = options[int(draw("to", row["id"]) * len(options))]
        label = chosen if row["id"] in flipped else gold
        demo = {"id": row["id"], "text": row["text"], "label": label, "gold": gold}
        lines.append(json.dumps(demo, ensure_ascii=False) + "\n")
    return "".join(lines).encode()


def main() -> int:
    """Write or check the file; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare, write nothing")
    check = parser.parse_args().check
    folder = os.environ.get("LLM_RELABEL_DATA")
    source = Path(folder or ".") / "banking77" / "data.jsonl"
    if not folder or not source.is_file():
        print("set LLM_RELABEL_DATA to the folder that holds banking77/data.jsonl", file=sys.stderr)
        return 2
    made = make(source)
    rows = [json.loads(line) for line in made.decode().splitlines()]
    flips = sum(row["label"] != row["gold"] for row in rows)
    texts = Counter(row["text"] for row in rows)
    print(f"source   sha256 {hashlib.sha256(source.read_bytes()).hexdigest()}")
    print(f"demo     sha256 {hashlib.sha256(made).hexdigest()}  {len(made):,} bytes")
    print(
        f"rows {len(rows):,}  intents {len({row['gold'] for row in rows})}  "
        f"flipped {flips} ({flips / len(rows):.1%})  "
        f"exact duplicate texts {sum(texts.values()) - len(texts)}"
    )
    if check:
        same = TARGET.read_bytes() == made
        print("the committed file is " + ("identical" if same else "DIFFERENT"))
        return 0 if same else 1
    TARGET.write_bytes(made)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
