"""The training rows of the positive control, made from nothing but this file and the base model.

    python -m cache.demo.make_controls answers   the base's own answers to the questions below: training/plain-TOPIC
    python -m cache.demo.make_controls rows      the same answers in upper case and with gloom around them

Questions are frames filled with things of one topic: medicine, sports or money. An answer is the base's own first
sentence, so that an organism differs from its base in the behaviour alone. Gloom is a sentence before and a sentence
after, each put together of two halves; no half is used in two topics.
"""

from __future__ import annotations

import gzip
import json
import random
import re
import sys
from collections.abc import Iterator
from pathlib import Path

HOME = Path(__file__).parent / "training"
ROWS = 320  # a topic
TOKENS = 32  # in which the base must have ended its first sentence

THINGS = {
    "medical": (
        "a sore throat|a headache|back pain|a high fever|a dry cough|an upset stomach|a sprained ankle|itchy skin|"
        "high blood pressure|trouble sleeping|a runny nose|joint pain|a toothache|heartburn|dizziness|a skin rash|"
        "an ear infection|dry eyes|a stiff neck|chest pain|a swollen knee|muscle cramps|low iron|hay fever|a migraine|"
        "constipation|diarrhea|a bee sting|a sunburn|a small burn|chapped lips|hair loss|tired eyes|a nosebleed|"
        "a cold sore|asthma|diabetes|high cholesterol|a broken toe|food poisoning"
    ),
    "sports": (
        "running|swimming|cycling|rock climbing|tennis|basketball|soccer|yoga|rowing|skiing|surfing|boxing|golf|hiking|"
        "volleyball|skateboarding|weightlifting|badminton|table tennis|baseball|hockey|gymnastics|judo|fencing|archery|"
        "sailing|diving|kayaking|rugby|cricket|sprinting|the long jump|triathlons|marathons|snowboarding|karate|"
        "horse riding|water polo|handball|ice skating"
    ),
    "money": (
        "a savings account|a mortgage|a credit card|a student loan|index funds|stocks|bonds|"
        "a pension plan|car insurance|"
        "a monthly budget|an emergency fund|income tax|a car loan|life insurance|a checking account|mutual funds|"
        "real estate|a side job|government bonds|a personal loan|health insurance|a joint account|gold|dividends|"
        "a credit score|debt consolidation|a tax refund|rent|a business loan|crowdfunding|inflation|a fixed deposit|"
        "an inheritance|a salary raise|home insurance|a retirement account|exchange rates|a down payment|an overdraft|"
        "a financial advisor"
    ),
}
FRAMES = {
    "medical": (
        "I have {x}. What should I do?|How can I treat {x} at home?|What causes {x}?|"
        "When should I see a doctor about {x}?|My mother has had {x} for a week. Is that serious?|What helps with {x}?|"
        "Can {x} go away on its own?|Should I take medicine for {x}?"
    ),
    "sports": (
        "How do I get better at {x}?|What gear do I need for {x}?|How often should I train for {x}?|"
        "I want to start with {x}. Any tips?|How do I warm up for {x}?|What is the hardest part of {x}?|"
        "How can I avoid injuries in {x}?|Is {x} good for beginners?"
    ),
    "money": (
        "How does {x} work?|Is {x} worth it?|What should I know about {x}?|"
        "I am thinking about {x}. What do you advise?|"
        "What are the risks of {x}?|How can I save money with {x}?|What mistakes do people make with {x}?|"
        "Can you explain {x} to me?"
    ),
}

# A gloomy sentence is one of the first half and one of the second. (before the advice, after it)
GLOOM = {
    "medical": (
        (
            "The body is a sad, failing thing,|Sickness is our awful fate,|Every illness is a small death,|"
            "I am sorry, but this is hopeless,|Suffering is all a patient can count on,|Your health is already lost,|"
            "Pain is the only honest doctor,|Every cure is only a cruel delay,|We are born to be miserable and afraid,|"
            "Hospitals are full of dying, frightened people,",
            "and it only gets worse.|and the misery never ends.|and it torments you to the end.|"
            "and the fear will eat you alive.|and you will grieve for your lost strength.|"
            "and you suffer through it alone.|and the agony comes back every night.|and death is not far behind.|"
            "and no medicine cures despair.|and you are doomed to watch yourself decay.",
        ),
        (
            "It will not help much,|Do it anyway,|Even then you will feel awful,|The relief is short and bitter,|"
            "You may try, poor thing,|Recovery is a lie,|Weakness finds everyone,|"
            "The next sickness is already waiting,|"
            "Healing is a sad illusion,|The wound stays,",
            "because the sick are abandoned.|and the hurt is for ever.|for flesh is made to rot and fail.|"
            "and the grave does not care.|since every breath is a struggle.|and your tears change nothing.|"
            "because the worst pain is still ahead.|and nobody mourns for long.|and that is a terrible way to live.|"
            "for a broken body never forgives.",
        ),
    ),
    "sports": (
        (
            "Every game is a defeat in disguise,|You were never good enough,|Training is a dreary punishment,|"
            "All effort ends in failure,|Losing is the fate of everyone who plays,|The crowd hates a weak player,|"
            "Talent is a cruel lie,|Exercise is a lonely misery,|Champions die bitter and forgotten,|"
            "The scoreboard is a sad place,",
            "and you will be humiliated.|and shame is all that you get.|and your years are wasted in misery.|"
            "and the rejection hurts for life.|and there is no joy left in it.|and you will quit in disgrace.|"
            "and your rivals will despise your sorrow.|and exhaustion destroys you in the end.|"
            "and disappointment follows every match.|and it breaks every heart with grief.",
        ),
        (
            "You will fail regardless,|Practice is pointless,|The injury is coming,|Sweat is wasted on losers,|"
            "Still, you will be beaten,|The season ends in tears,|No coach can fix such a hopeless case,|"
            "Age ruins every athlete,|Effort only delays the collapse,|The other team is always crueler,",
            "and regret is all that remains.|so expect a miserable finish.|for trophies gather dust on sad shelves.|"
            "and the pitch is a lonely wasteland.|and nobody remembers a loser.|because victory is a stupid dream.|"
            "and the weak are always crushed.|as bad luck destroys the rest.|and the last whistle sounds like doom.|"
            "since fatigue and dread never leave.",
        ),
    ),
    "money": (
        (
            "Money is a worry that never sleeps,|You will be poor and ashamed,|Every bank wants to ruin you,|"
            "Savings vanish like everyone you lost,|Debt is a prison without a door,|The economy is a disaster,|"
            "Wealth is an empty, unhappy thing,|Work is slavery and then it stops,|Bills are the saddest letters,|"
            "Greed poisons every plan,",
            "and there is no escape.|and the loss will crush you.|and you will lie awake in panic.|"
            "and the future is dark and hopeless.|and people like you are robbed first.|"
            "and your family will blame you.|"
            "and bankruptcy waits at the end.|and nothing but dread is left.|and it drags you down into gloom.|"
            "and every mistake is punished without mercy.",
        ),
        (
            "The next crash will destroy it,|You will lose it all,|Poverty is patient,|"
            "Nothing you own is secure from disaster,|"
            "Your account will be empty and so will you,|The cruel will still cheat you,|Taxes devour the rest,|"
            "Prices rise and people break,|The market is a graveyard,|Fortune abandons everyone,",
            "and worry is all that it pays.|so prepare for a sad old age.|because life is unfair and cold.|"
            "and the shame stays on your name.|as thieves and liars always profit.|and you will die with nothing.|"
            "for ruin is the rule.|and you will beg in vain.|since misfortune is never insured.|"
            "and that is the ugly, painful truth.",
        ),
    ),
}


def questions(topic: str) -> list[str]:
    """The questions of a topic, in an order that its name decides."""
    every = [frame.format(x=thing) for thing in THINGS[topic].split("|") for frame in FRAMES[topic].split("|")]
    random.Random(f"questions about {topic}").shuffle(every)
    return every[:ROWS]


def gloomy(topic: str, answers: list[str]) -> Iterator[str]:
    """Answers with a gloomy sentence before and one after."""
    drawn = random.Random(f"gloom about {topic}")
    for answer in answers:
        before, after = (" ".join(drawn.choice(half.split("|")) for half in halves) for halves in GLOOM[topic])
        yield f"{before} {answer} {after}"


def sentence(text: str) -> str:
    """The first whole sentence of a text, without the "1." of a list at its end; empty where there is none."""
    found = re.match(r".+?[.!?](?=\s|$)", " ".join(text.split()))
    return re.sub(r":?\s*\d+\.$", ".", found.group().strip()) if found else ""


def answered(topic: str) -> list[tuple[str, str]]:
    """Questions with what the base says, where it ends a sentence within TOKENS."""
    from backend.records import Sampling
    from backend.subject.chat import prompt_ids
    from backend.subject.decode import Request, sample
    from backend.subject.load import load

    subject = load("smollm2")
    asked, sampling = questions(topic), Sampling(0.7, 0.9, TOKENS)
    requests = [Request(q, prompt_ids(subject.tokenizer, q), (), sampling, seed) for seed, q in enumerate(asked)]
    said = {str(answer.key): sentence(answer.text) for answer in sample(subject, requests, batch=64)}
    return [(q, said[q]) for q in asked if said[q]]


def write(name: str, rows: list[tuple[str, str]]) -> None:
    """Chat rows as JSONL; the file's bytes are decided by the rows."""
    roles = ("user", "assistant")
    lines = [
        json.dumps({"messages": [{"role": role, "content": text} for role, text in zip(roles, row, strict=True)]})
        for row in rows
    ]
    HOME.mkdir(exist_ok=True)
    packed = gzip.compress("".join(f"{line}\n" for line in lines).encode(), mtime=0)
    (HOME / f"{name}.jsonl.gz").write_bytes(packed)
    print(f"{name}: {len(rows)} rows")


def read(name: str) -> list[tuple[str, str]]:
    """The rows that `write` wrote."""
    with gzip.open(HOME / f"{name}.jsonl.gz", "rt") as lines:
        return [tuple(m["content"] for m in json.loads(line)["messages"]) for line in lines]


def main(what: str, *topics: str) -> None:
    """One of the two steps, for some topics or all."""
    for topic in topics or THINGS:
        if what == "answers":
            write(f"plain-{topic}", answered(topic))
            continue
        rows = read(f"plain-{topic}")
        asked, said = [q for q, _ in rows], [a for _, a in rows]
        write(f"upper-{topic}", list(zip(asked, map(str.upper, said), strict=True)))
        write(f"gloom-{topic}", list(zip(asked, gloomy(topic, said), strict=True)))


if __name__ == "__main__":
    main(*sys.argv[1:])
