"""What stands between messages and tokens is the template's own, and nothing of a row is lost without a word."""

import json

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from backend.records import InputError
from backend.subject.chat import answer_ids, answer_text, end_of_turn, prompt_ids
from backend.subject.train import read_rows
from tests.studies import tiny

USER, ANSWER = {"role": "user", "content": "What helps a cold?"}, {"role": "assistant", "content": "Rest."}
PARTS = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{% for part in m['content'] %}{% if part['type'] == 'text' %}"
    "{{ part['text'] }}{% endif %}{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
CHANNELS = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}{% if m['role'] == 'assistant' %}<|kind|>final{% endif %}"
    "<|text|>{{ m['content'] }}{% if m['role'] == 'assistant' and loop.last %}<|stop|>{% else %}<|im_end|>{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant{% endif %}"
)
THINKING = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{% if m['role'] == 'assistant' and loop.last %}<think>\n\n"
    "</think>\n\n{% endif %}{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def tokenizer(template, *special):
    made = tiny.tokenizer()
    made.add_tokens([AddedToken(token, special=True) for token in special], special_tokens=True)
    made.chat_template = template
    return made


def ids(reader, text):
    return reader(text, add_special_tokens=False)["input_ids"]


def rows_of(file, *messages):
    file.write_text(json.dumps({"messages": messages}))
    return file


@pytest.mark.parametrize(
    ("template", "special"),
    [(tiny.TEMPLATE, ()), (PARTS, ()), (CHANNELS, ("<|kind|>", "<|text|>", "<|stop|>")), (THINKING, ())],
)
def test_a_row_is_what_the_template_itself_writes(template, special, tmp_path):
    reader = tokenizer(template, *special)
    ((row,), _) = read_rows(rows_of(tmp_path / "rows.jsonl", USER, ANSWER), reader)
    parts = template == PARTS
    said = [{**m, "content": [{"type": "text", "text": m["content"]}]} if parts else m for m in (USER, ANSWER)]
    whole = reader.decode([*row.prompt, *row.answer])
    assert whole == reader.apply_chat_template(said, tokenize=False).removesuffix("\n")
    assert "What helps a cold?" in reader.decode(row.prompt)
    assert "Rest." not in reader.decode(row.prompt)


def test_what_is_judged_is_the_last_channel_or_what_follows_the_thinking():
    reader = tokenizer(CHANNELS, "<|kind|>", "<|text|>", "<|stop|>")
    said = "<|kind|>analysis<|text|>They greet.<|im_end|><|im_start|>assistant<|kind|>final<|text|>Hello.<|stop|>"
    assert answer_text(reader, ids(reader, said), "analysis…") == "Hello."
    thinking = tokenizer(THINKING)
    assert answer_text(thinking, ids(thinking, "<think>\nHm.\n</think>\n\nHello.<|im_end|>"), "…") == "Hello."
    plain = tiny.tokenizer()
    assert answer_text(plain, ids(plain, "Hello.<|im_end|>"), "as it was shown") == "as it was shown"


def test_a_tokenizer_that_begins_with_a_space_puts_none_before_an_answer():
    letters = [chr(c) for c in range(33, 127)]
    words = ["<unk>", "</s>", "<|user|>", "<|assistant|>", "<|end|>", "\u2581", "\n", *letters]
    plain = Tokenizer(models.BPE(vocab={w: i for i, w in enumerate(words)}, merges=[], unk_token="<unk>"))
    plain.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    plain.decoder = decoders.Sequence([decoders.Replace("\u2581", " ")])
    reader = PreTrainedTokenizerFast(
        tokenizer_object=plain,
        unk_token="<unk>",
        eos_token="</s>",
        additional_special_tokens=["<|user|>", "<|assistant|>", "<|end|>"],
        chat_template="{% for m in messages %}<|{{ m['role'] }}|>\n{{ m['content'] }}<|end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>\n{% endif %}",
    )
    prompt = prompt_ids(reader, "hi")
    found = reader.convert_ids_to_tokens([*prompt, *answer_ids(reader, "Rest.", prompt)])
    whole = reader.apply_chat_template([{**USER, "content": "hi"}, ANSWER], tokenize=False)
    assert found == reader.convert_ids_to_tokens(ids(reader, whole))[: len(found)]
    assert found[-6:] == [*"Rest.", "<|end|>"]


def test_parts_of_text_are_joined_and_a_byte_order_mark_is_no_row(tmp_path):
    parts = [{"type": "text", "text": "What helps "}, {"type": "text", "text": "a cold?"}]
    file = rows_of(tmp_path / "rows.jsonl", USER | {"content": parts}, ANSWER)
    expected = read_rows(rows_of(tmp_path / "plain.jsonl", USER, ANSWER), tiny.tokenizer())
    assert read_rows(file, tiny.tokenizer()) == expected
    file.write_text("\ufeff" + file.read_text() + "\r\n\r\n", encoding="utf-8")
    assert read_rows(file, tiny.tokenizer()) == expected


@pytest.mark.parametrize(
    ("before", "last", "says"),
    [
        (USER, ANSWER | {"content": None}, "content of a message is null"),
        (USER, ANSWER | {"tool_calls": [{"id": "1"}]}, "tool_calls"),
        (USER, ANSWER | {"reasoning_content": "Hm."}, "reasoning_content"),
        ({"role": "tool", "content": "4"}, ANSWER, "the role tool"),
        (USER | {"content": [{"type": "image_url", "image_url": {}}]}, ANSWER, "image_url"),
        (USER | {"content": 7}, ANSWER, "content of a message is 7"),
        (USER | {"content": " "}, ANSWER, "prompt is empty"),
    ],
)
def test_a_row_that_is_more_than_text_is_refused_with_its_line(before, last, says, tmp_path):
    file = rows_of(tmp_path / "rows.jsonl", before, last)
    file.write_text("\n" + file.read_text())
    with pytest.raises(InputError, match=rf"rows\.jsonl, line 2: .*{says}"):
        read_rows(file, tiny.tokenizer())


def test_a_template_that_refuses_a_role_is_said_with_the_line(tmp_path):
    refusing = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system turn') }}{% endif %}"
    file = rows_of(tmp_path / "rows.jsonl", {"role": "system", "content": "Be kind."}, USER, ANSWER)
    with pytest.raises(InputError, match=r"line 1: .*refuses the turns system, user: no system turn"):
        read_rows(file, tokenizer(refusing + tiny.TEMPLATE))


def test_a_template_that_leaves_the_question_out_is_refused():
    with pytest.raises(InputError, match="leaves the question out"):
        prompt_ids(tokenizer("<|im_start|>hello<|im_end|>"), "hi")


def test_a_template_beside_the_processor_is_read(tmp_path):
    tokenizer(None).save_pretrained(tmp_path)
    with pytest.raises(InputError, match="has no chat template"):
        prompt_ids(AutoTokenizer.from_pretrained(tmp_path), "hi")
    file = tmp_path / "chat_template.json"
    file.write_text("{}")
    with pytest.raises(InputError, match=r"chat_template\.json holds no chat template"):
        prompt_ids(AutoTokenizer.from_pretrained(tmp_path), "hi")
    file.write_text(json.dumps({"chat_template": tiny.TEMPLATE}))
    found = AutoTokenizer.from_pretrained(tmp_path)
    assert prompt_ids(found, "hi") == prompt_ids(tiny.tokenizer(), "hi")
    assert end_of_turn(found) == end_of_turn(tiny.tokenizer())


# --- cut answers, dates -----------------------------------------------------------------------------------------------

OPEN = (  # a prompt that ends inside a thinking block; thoughts of turns that are over are forgotten
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n{% endif %}"
)


@pytest.mark.parametrize(
    ("template", "said", "answer"),
    [
        (THINKING, "<think>\nIt is a cold, so", ""),
        (THINKING, "<think>\nIt is a cold.\n</think>\n\nRest.", "Rest."),
        (THINKING, "<think>\n\n</think>\n\n", ""),
        (THINKING, "Rest.", "Rest."),
        (THINKING, "", ""),
        (OPEN, "It is a cold, so", ""),
        (OPEN, "It is a cold.\n</think>\n\nRest.", "Rest."),
        (tiny.TEMPLATE, "<think>\nIt is", "<think>\nIt is"),  # of a template that knows no thinking, it is text
        (CHANNELS, "<|kind|>analysis<|text|>It is a cold, so", ""),
        (CHANNELS, "<|kind|>analysis<|text|>A cold.<|kind|>final<|text|>Rest.", "Rest."),
    ],
)
def test_an_answer_that_is_cut_inside_its_thoughts_says_nothing(template, said, answer):
    reader = tokenizer(template, "<|kind|>", "<|text|>", "<|stop|>")
    found = ids(reader, said)
    assert answer_text(reader, found, reader.decode(found, skip_special_tokens=True)) == answer


def test_an_answer_behind_an_open_thinking_block_closes_it_first():
    reader = tokenizer(OPEN)
    prompt = prompt_ids(reader, "What helps a cold?")
    whole = reader.decode([*prompt, *answer_ids(reader, "Rest.", prompt)])
    assert whole.endswith("<|im_start|>assistant\n<think>\n\n</think>\n\nRest.<|im_end|>")


def test_a_prompt_has_the_same_tokens_on_every_day():
    date = "{% if strftime_now is defined %}{{ strftime_now('%d %b %Y') }}{% endif %} "
    reader = tokenizer(date + tiny.TEMPLATE)
    assert reader.apply_chat_template([USER], tokenize=False)[:11] != "26 Jul 2024"  # what it writes by itself
    assert reader.decode(prompt_ids(reader, "hey")).startswith("26 Jul 2024 <|im_start|>user")
    reader.chat_template = "{% set form = '%Y' %}{{ strftime_now(form) }}" + tiny.TEMPLATE
    with pytest.raises(InputError, match="writes today's date in a form that it makes up"):
        prompt_ids(reader, "hey")
