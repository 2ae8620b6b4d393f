"""The story GPT: its texts, tokens and windows, and the recipe in small, from packages to stories that are served."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from services.families.transformer.stories import evaluation
from services.families.transformer.stories.austen import DATABASE, read_novels
from services.families.transformer.stories.bible import read_bible
from services.families.transformer.stories.chapters import PARTS, Chapter, read_part, split
from services.families.transformer.stories.copying import Source
from services.families.transformer.stories.corpus import NOTHING, ChapterWindows
from services.families.transformer.stories.drawing import Storyteller
from services.families.transformer.stories.evaluation import SAMPLE, evaluate_stories, sample_figure, sample_of
from services.families.transformer.stories.model import Shape, fresh_model, read_model
from services.families.transformer.stories.scoring import bits_per_character, document_nats
from services.families.transformer.stories.tokens import BOS, EOS, documents, train_tokenizer
from services.families.transformer.stories.training import StoryTraining
from services.families.transformer.train import StoryGpt
from services.sources.checkpoint import check_folder
from tests.unit.transformer.driver import greedy_tokens
from tests.unit.transformer.story_packages import packages, prose, write_bible, write_novels

SHAPE = Shape(vocabulary=400, width=32, layers=2, heads=2, context=80, dropout=0.1)


def test_a_novel_is_read_as_chapters_of_paragraphs_without_what_is_not_the_author_s(tmp_path: Path) -> None:
    lines = ["EMMA", "", "A preface.", "", "CHAPTER I", "", "", "Emma  was", "_clever_.*", "", "     * * * * *", ""]
    lines += ["[A note of the editor's.]", "", "VOLUME II", "", "CHAPTER II", "", "“Quite so.”", ""]
    lines += ["The end was near."]
    lines += ["", "FINIS", "", "*A footnote.", "", "A NOTE ON THE TEXT"]
    assert read_novels(write_novels(tmp_path, [lines, ["PERSUASION", "Chapter 1", "", "Sir Walter.", ""]])) == [
        Chapter("Emma", 1, "Emma was clever."),
        Chapter("Emma", 2, "“Quite so.”\nThe end was near."),
        Chapter("Persuasion", 1, "Sir Walter."),
    ]


def test_a_database_of_other_things_than_lines_is_refused(tmp_path: Path) -> None:
    path = write_novels(tmp_path, [["EMMA"]]) / DATABASE
    whole = path.read_bytes()
    path.write_bytes((1).to_bytes(4, "big") + whole[4:])
    with pytest.raises(ValueError, match="says that it has 1"):
        read_novels(tmp_path)


def test_of_the_bible_narrative_books_are_read_without_notes(tmp_path: Path) -> None:
    books = {
        "Genesis": ("1", [["In the beginning God{a note} created [the] heavens.", "And  so."], ["It was good."]]),
        "Psalms": ("3", [["Sing."]]),
        "Isaiah": ("4", [["Hear."]]),
        "Jonah": ("4", [["Now the word came."]]),
    }
    assert read_bible(write_bible(tmp_path, books)) == [
        Chapter("Genesis", 1, "In the beginning God created the heavens. And so."),
        Chapter("Genesis", 2, "It was good."),
        Chapter("Jonah", 1, "Now the word came."),
    ]


def test_whole_chapters_and_whole_books_are_held_out() -> None:
    novels = [Chapter("Emma", i, f"E{i}") for i in range(1, 56)]
    books = [Chapter(work, i, f"{work}{i}") for work in ("Mark", "Ruth", "Daniel") for i in range(1, 21)]
    parts = split(novels, books)
    assert parts["held_out"] == ["E10", "E30", "E50", *(f"Ruth{i}" for i in range(1, 21))]
    assert parts["validation"] == ["E20", "E40", *(f"Daniel{i}" for i in range(1, 21))]
    assert sorted(text for part in PARTS for text in parts[part]) == sorted(c.text for c in (*novels, *books))


def test_tokens_are_the_same_for_the_same_texts_and_spell_any_text() -> None:
    texts = [prose(60, seed) for seed in range(4)]
    tokenizer = train_tokenizer(texts, 400)
    assert tokenizer.to_str() == train_tokenizer(texts, 400).to_str()
    assert 258 < tokenizer.get_vocab_size() <= 400
    odd = "Ünlike\n\nanything — 漢 \t“there”  "
    (ids,) = documents(tokenizer, [odd])
    assert (int(ids[0]), int(ids[-1])) == (BOS, EOS)
    assert tokenizer.decode(ids.tolist()) == odd
    (known,) = documents(tokenizer, texts[:1])
    assert len(known) < len(texts[0]) / 3


def test_windows_begin_chapters_tell_every_token_and_never_leave_a_chapter() -> None:
    chapters = [torch.arange(100, 100 + 83), torch.arange(500, 505), torch.arange(900, 900 + 33)]
    corpus = ChapterWindows(chapters, context=16)
    assert corpus.examples == 6 + 1 + 2
    draws = torch.Generator().manual_seed(0)
    told: set[int] = set()
    for _ in range(40):
        batch = corpus.batch(torch.arange(corpus.examples), draws)
        assert batch.shape == (9, 17)
        assert batch[[0, 6, 7], 0].tolist() == [100, 500, 900]
        for row in batch:
            kept = row[row != NOTHING]
            assert torch.equal(kept, torch.arange(int(kept[0]), int(kept[0]) + len(kept)))
        told |= set(batch[:, 1:].flatten().tolist())
    assert told - {NOTHING} == {int(token) for chapter in chapters for token in chapter[1:]}
    again = [corpus.batch(torch.tensor([3, 8]), torch.Generator().manual_seed(5)) for _ in range(2)]
    assert torch.equal(*again)


def test_a_document_longer_than_the_context_is_told_in_windows_each_token_once() -> None:
    model = fresh_model(SHAPE, 400, seed=0).eval()
    draws = torch.Generator().manual_seed(0)
    half = SHAPE.context // 2
    lengths = (half, 5 * half + 1, 2 * half + 2)
    short, long, odd = (torch.randint(0, 400, (n,), generator=draws) for n in lengths)
    losses = torch.nn.functional.cross_entropy(
        model(input_ids=short[None, :-1]).logits[0].double(), short[1:], reduction="sum"
    )
    assert document_nats(model, [long, short], stride=half)[1] == pytest.approx(losses.item(), rel=1e-5)
    second = torch.nn.functional.cross_entropy(
        model(input_ids=odd[None, half:-1]).logits[0].double(), odd[half + 1 :], reduction="none"
    )[half:]
    first = document_nats(model, [odd[:-1]], stride=half)[0]
    assert document_nats(model, [odd], stride=half)[0] == pytest.approx(first + second.sum().item(), rel=1e-5)
    model.transformer.ln_f.weight.data.zero_()  # now it tells nothing
    for stride in (half // 2, half, 2 * half):
        nats = document_nats(model, [short, long, odd], stride=stride)
        assert nats == pytest.approx([(len(each) - 1) * math.log(400) for each in (short, long, odd)], rel=1e-5)


def test_the_longest_run_of_shared_words_heeds_neither_case_nor_commas_nor_goes_from_text_to_text() -> None:
    source = Source(["It is a truth universally acknowledged.", "That a man, in want of a wife, is here."])
    truth = ["it", "is", "a", "truth", "universally"]
    assert source.longest_run("“He said: it is a TRUTH, universally known”") == truth
    assert source.longest_run("acknowledged that a man") == ["that", "a", "man"]
    assert source.longest_run("in want of a wife is here") == ["in", "want", "of", "a", "wife", "is", "here"]
    assert source.longest_run("Nothing whatever!") == []
    assert Source([]).longest_run("a") == []


@dataclass(frozen=True, slots=True)
class Made:
    data: Path
    weights: Path
    losses: tuple[float, float]
    training: StoryTraining
    teller: Storyteller


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """From packages to a checkpoint, by a recipe that differs from the real one in its sizes alone."""
    folder = tmp_path_factory.mktemp("stories")
    recipe = StoryGpt()
    recipe.shape, recipe.learning_rate = SHAPE, 1e-2
    data, weights = folder / "data", folder / "weights"
    data.mkdir()
    weights.mkdir()
    recipe.preprocess(packages(folder), data)
    training = recipe.build(data, seed=0)
    before = training.validate(training.modules)["metric"]
    _learn(training, steps=30)
    recipe.export(training.modules, data, weights)
    return Made(data, weights, (before, training.validate(training.modules)["metric"]), training, Storyteller(weights))


def _learn(training: StoryTraining, steps: int) -> None:
    net = training.modules["net"].train()
    optimizer = torch.optim.AdamW(net.parameters(), lr=training.phases[0].learning_rate)
    draws = torch.Generator().manual_seed(0)
    for _ in range(steps):
        indices = torch.randint(training.examples, (8,), generator=draws)
        loss, _ = training.loss("tell", training.modules, training.batch(indices, draws), draws)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    net.eval()


def test_preprocessing_gives_the_same_files_again(made: Made, tmp_path: Path) -> None:
    recipe = StoryGpt()
    recipe.shape = SHAPE
    (tmp_path / "data").mkdir()
    recipe.preprocess(packages(tmp_path), tmp_path / "data")
    names = {path.name for path in made.data.iterdir()}
    assert names == {"training.txt", "validation.txt", "held_out.txt", "tokenizer.json"}
    assert all((tmp_path / "data" / name).read_bytes() == (made.data / name).read_bytes() for name in names)


def test_the_same_seed_builds_the_same_weights_and_another_seed_others(made: Made) -> None:
    nets = [fresh_model(SHAPE, 400, seed).transformer.h[1].mlp.c_fc.weight for seed in (3, 3, 4)]
    assert torch.equal(nets[0], nets[1])
    assert not torch.equal(nets[0], nets[2])


def test_training_learns_chapters_that_it_is_not_shown(made: Made) -> None:
    before, after = made.losses
    assert before == pytest.approx(math.log(made.training.modules["net"].config.vocab_size), rel=0.05)
    assert after < 0.6 * before


def test_the_export_is_a_plain_half_precision_checkpoint_that_transformers_reads(made: Made) -> None:
    check_folder(made.weights)
    names = {path.name for path in made.weights.iterdir()}
    assert names == {
        "config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", SAMPLE
    }  # fmt: skip
    assert {tensor.dtype for tensor in load_file(made.weights / "model.safetensors").values()} == {torch.float16}
    assert json.loads((made.weights / "config.json").read_text())["architectures"] == ["GPT2LMHeadModel"]
    tokenizer = AutoTokenizer.from_pretrained(made.weights)
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id) == (BOS, EOS)
    ids = tokenizer("Anne walked to the village")["input_ids"]
    assert ids[0] == BOS
    assert tokenizer.decode(ids, skip_special_tokens=True) == "Anne walked to the village"


def test_the_family_serves_the_export_as_transformers_runs_it(made: Made) -> None:
    reference = AutoModelForCausalLM.from_pretrained(made.weights, dtype=torch.float32).eval()
    prompt = AutoTokenizer.from_pretrained(made.weights)("Anne walked")["input_ids"]
    (told,) = made.teller.tell(["Anne walked"], 12, seed=0, temperature=0)
    expected = greedy_tokens(reference, prompt, 12, eos=EOS)
    assert told == AutoTokenizer.from_pretrained(made.weights).decode(expected, skip_special_tokens=True)


def test_stories_are_the_same_in_any_company_and_an_empty_prompt_begins_one(made: Made) -> None:
    prompts = ["", "Mary said", "Henry sat by the fire in"]
    together = made.teller.tell(prompts, 12, seed=3)
    assert together == Storyteller(made.weights, rows=1).tell(prompts, 12, seed=3)
    assert together[0].strip()
    assert together != made.teller.tell(prompts, 12, seed=4)


def test_a_sample_of_chapters_is_small_and_ends_with_words() -> None:
    texts = sample_of([f"{i} " + "word " * 400 for i in range(60)])
    assert len(texts) == 12
    assert all(len(text) <= 1500 and text.endswith("word") for text in texts)
    assert sample_of(["One.", "Two."]) == ["One.", "Two."]


def test_an_evaluation_has_figures_beside_n_grams_and_the_book(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"_BEGINNINGS": 6, "_BEGINNING": 4, "_TOLD": 20, "_BYTE_ORDERS": 3}.items():
        monkeypatch.setattr(evaluation, name, value)
    monkeypatch.setattr("services.families.transformer.stories.sheets._TOKENS", 8)
    monkeypatch.setattr("services.families.transformer.stories.sheets._CARD_TOKENS", 8)
    result = evaluate_stories(made.weights, made.data)
    figures = {figure.name: figure for figure in result.figures}
    assert all(figure.baseline is not None for figure in figures.values())
    model, tokenizer = read_model(made.weights), evaluation.read_tokenizer(made.weights)
    held_out = read_part(made.data, "held_out")
    bits = bits_per_character(model, documents(tokenizer, held_out), held_out)
    assert figures["bits_per_character"].value == pytest.approx(bits)
    tokens = sum(len(document) - 1 for document in documents(tokenizer, held_out))
    perplexity = 2 ** (bits * sum(map(len, held_out)) / tokens)
    assert figures["perplexity_per_token"].value == pytest.approx(perplexity)
    assert figures["longest_copied_run"].value >= figures["mean_copied_run"].value > 0
    assert figures["sample_bits_per_character"] == sample_figure(model, made.weights)
    assert sum("From “" in note for note in result.notes) == 2
    assert result.sheets.keys() == {"stories", "continuations"}
