"""What a sentence of nli/overlap asserts, by a small parser that knows nothing of its templates.

Facts are tuples: (agent, verb, patient), (agent, act), (noun, "is", adjective); what is only
supposed, doubted or alternative is one opaque fact. A sentence entails another if it asserts all
its facts.
"""

from collections.abc import Callable, Mapping

from mechprobe.tasks.cards import read_card
from mechprobe.tasks.templates import Row, read_words

Facts = frozenset

CARD = read_card("nli/overlap")
LISTS: Mapping[str, list[Row]] = read_words(CARD)


def words(*names: str) -> set[str]:
    return {row["word"] for name in names for row in LISTS[name]}


SYNONYM = {
    word: min(row["word"], row["synonym"])
    for name in LISTS
    for row in LISTS[name]
    if "synonym" in row
    for word in (row["word"], row["synonym"])
}
TWO_WORDS = sorted((w for w in words("prep", "if") if " " in w), key=len, reverse=True)


class Parser:
    """Recursive descent over the words of one sentence."""

    def __init__(self, sentence: str) -> None:
        for phrase in TWO_WORDS:
            sentence = sentence.replace(phrase, phrase.replace(" ", "_"))
        self.words = [*sentence.split(), "."]
        self.at = 0

    @property
    def word(self) -> str:
        return self.words[self.at].replace("_", " ")

    def next(self, expected: set[str] | None = None) -> str:
        word = self.word
        assert expected is None or word in expected, (self.words, self.at, expected)
        self.at += 1
        return SYNONYM.get(word, word)

    def sentence(self) -> Facts:
        facts = self.statement()
        while self.word != ".":
            if self.word == ",":
                self.next()
                joint = self.next({"and", "or", "but"})
                other = self.statement()
                facts = Facts({("or", facts, other)}) if joint == "or" else facts | other
            else:
                self.next(words("when"))
                facts |= self.statement()
        return facts

    def statement(self) -> Facts:
        if self.word in words("maybe"):
            self.next()
            return Facts({("maybe", self.statement())})
        if self.word in words("surely"):
            self.next()
            return self.statement()
        if self.word in words("if", "cond"):
            opener = self.next()
            return Facts({("if", opener, self.clause(), self.after_comma())})
        if self.word in words("when"):
            self.next()
            return self.clause() | self.after_comma()
        return self.clause()

    def after_comma(self) -> Facts:
        self.next({","})
        return self.statement()

    def clause(self) -> Facts:
        agents, facts = self.noun_phrase()
        facts |= self.predicate(agents)
        while self.word in ("and", "or"):
            joint = self.next()
            other = self.predicate(agents)
            last = frozenset(f for f in facts if f[0] in agents and len(f) == 2)
            facts = facts | other if joint == "and" else (facts - last) | {("or", last, other)}
        return Facts(facts)

    def predicate(self, agents: list[str]) -> Facts:
        word = self.next()
        if word in ("was", "were"):
            verb = self.next(words("verb"))
            self.next({"by"})
            others, facts = self.noun_phrase()
            return facts | {(o, verb, a) for o in others for a in agents}
        if word in words("opinion", "fact"):
            self.next({"that"})
            inside = self.statement()
            held = {(a, word, inside) for a in agents}
            return Facts(held) | (inside if word in words("fact") else Facts())
        if word in words("act"):
            return Facts((a, word) for a in agents)
        assert word in words("verb"), (self.words, word)
        patients, facts = self.noun_phrase()
        return facts | {(a, word, p) for a in agents for p in patients}

    def noun_phrase(self) -> tuple[list[str], Facts]:
        nouns, facts = [], Facts()
        while True:
            noun, about = self.noun()
            nouns.append(noun)
            facts |= about
            if self.word == "and" and self.words[self.at + 1] == "the":
                self.next()
            else:
                return nouns, facts

    def noun(self) -> tuple[str, Facts]:
        self.next({"the"})
        adjective = self.next() if self.word in words("adj") else None
        noun = self.next(words("noun"))
        facts = Facts({(noun, "is", adjective)} if adjective else ())
        if self.word in words("prep"):
            place = self.next()
            other, about = self.noun()
            facts |= about | {(noun, place, other)}
        if self.word in words("rel"):
            self.next()
            if self.word == "the":
                other, about = self.noun()
                facts |= about | {(other, self.next(words("verb")), noun)}
            else:
                facts |= self.predicate([noun])
        return noun, facts


def asserts(sentence: str) -> Facts:
    """The facts a sentence asserts."""
    parser = Parser(sentence)
    facts = parser.sentence()
    assert parser.word == "."
    return facts


def entails(premise: str, hypothesis: str, meaning: Callable[[str], Facts] = asserts) -> bool:
    """Whether the premise asserts every fact of the hypothesis."""
    return meaning(hypothesis) <= meaning(premise)
