"""One derivation, two realisers: examples of the paper, and both read back to the derivation."""

import pytest

from mechprobe.errors import InputError
from mechprobe.tasks.abstraction.derivation import Word, clauses_of, depth_of
from mechprobe.tasks.abstraction.parse import SentenceReader

EXAMPLES = [  # words of abstraction/mini; structures of An et al. (2023)
    ("A rose was helped by a dog .", "HELP ( DOG , ROSE , NONE )"),
    ("Emma gave Ann a cake .", "GIVE ( EMMA , CAKE , ANN )"),
    ("A cup rolled .", "ROLL ( NONE , CUP , NONE )"),
    ("The girl slept .", "SLEEP ( GIRL , NONE , NONE )"),
    ("The girl ate .", "EAT ( GIRL , NONE , NONE )"),
    ("The cup was given to Tom .", "GIVE ( NONE , CUP , TOM )"),
    ("Tom was given the cup by a girl .", "GIVE ( GIRL , CUP , TOM )"),
    ("Mia sent the ring on a shelf to Noah .", "SEND ( MIA , ON ( RING , SHELF ) , NOAH )"),
    (
        "The boy on a mat in the room smiled .",
        "SMILE ( ON ( BOY , IN ( MAT , ROOM ) ) , NONE , NONE )",
    ),
    ("The girl wanted to run .", "WANT ( GIRL , NONE , NONE ) XCOMP RUN ( GIRL , NONE , NONE )"),
    (
        "The dog in a bag tried to eat .",
        "TRY ( IN ( DOG , BAG ) , NONE , NONE ) XCOMP EAT ( IN ( DOG , BAG ) , NONE , NONE )",
    ),
    (
        "Liam said that a cat hoped that the ball broke .",
        "SAY ( LIAM , NONE , NONE ) CCOMP HOPE ( CAT , NONE , NONE ) CCOMP BREAK ( NONE , BALL , "
        "NONE )",
    ),
    (
        "Ann thought that Tom hoped to sleep .",
        "THINK ( ANN , NONE , NONE ) CCOMP HOPE ( TOM , NONE , NONE ) XCOMP SLEEP ( TOM , NONE , "
        "NONE )",
    ),
]


@pytest.fixture(scope="module")
def reader(mini_language):
    language, _ = mini_language
    return SentenceReader(language.frames, language.lexicon, language.spelling)


@pytest.mark.parametrize(("sentence", "target"), EXAMPLES)
def test_a_sentence_has_one_derivation_that_gives_sentence_and_target(
    reader, mini_language, sentence, target
):
    language, _ = mini_language
    source = ("Form", "one:", *sentence.split())
    (tree,) = reader.read(source)
    assert language.source(tree) == source
    assert language.target(tree) == tuple(target.split())
    assert reader.read_pair(source, tuple(target.split())) == tree


def test_every_sentence_reads_back_to_its_derivation_alone(reader, mini_language):
    language, trees = mini_language
    assert {frame for tree in trees for frame in (c.frame for c in clauses_of(tree))} == set(
        language.frames
    )
    for tree in trees:
        assert reader.read(language.source(tree)) == [tree]


def test_every_target_reads_back_to_the_meaning_of_its_derivation(mini_language, read_back):
    language, trees = mini_language
    assert {depth_of(tree) for tree in trees} == {0, 1, 2, 4}
    for tree in trees:
        assert read_back.read_target(language.target(tree)) == read_back.meaning_of(tree)


def test_single_words_stand_for_themselves(reader, mini_language):
    language, _ = mini_language
    for word, written in (("see", "see"), ("cup", "cup"), ("ann", "Ann")):
        assert language.source(Word(word)) == ("Form", "one:", written)
        assert language.target(Word(word)) == (word.upper(),)
        assert reader.read(("Form", "one:", written)) == [Word(word)]


@pytest.mark.parametrize(
    "wrong",
    [
        "Form two: A cup rolled .",  # prefix
        "Form one: A cup rolled",  # no end
        "Form one: Cup rolled .",  # no determiner
        "Form one: The Ann slept .",  # a name with one
        "Form one: A cup slept by Ann .",  # no such frame
        "Form one: A dog helped a cup said .",  # words left over
        "Form one: The girl slept that the boy ran .",  # verb of another class
        "Form one: The girl on ran .",
        "Form one: run ran",
        "Form one: .",
    ],
)
def test_what_is_not_in_the_language_has_no_derivation(reader, wrong):
    assert reader.read(tuple(wrong.split())) == []


def test_a_target_that_does_not_fit_is_refused(reader):
    with pytest.raises(InputError, match=r"0 derivations for .* expected one"):
        reader.read_pair(("Form", "one:", "A", "cup", "rolled", "."), ("ROLL", "(", "CUP", ")"))


def test_verbs_may_stand_in_every_frame_where_that_is_asked_for(mini_language):
    language, _ = mini_language
    reader = SentenceReader(language.frames, language.lexicon, language.spelling, any_frame=True)
    source = ("Form", "one:", "The", "girl", "slept", "a", "cup", ".")
    assert [language.source(tree) for tree in reader.read(source)] == [source]
