"""The demo reads other people's files in the shapes of its own, and says what is wrong with them."""

from pathlib import Path

import pytest

from worker.embedded.demo.inputs import (
    project_file,
    read_documents,
    read_inputs,
    read_messages,
    read_questions,
    sections,
)
from worker.errors import ConfigError


def test_the_projects_own_inputs_are_300_messages_in_20_categories_and_45_questions() -> None:
    inputs = read_inputs(messages=None, documents=None, questions=None)
    assert len(inputs.messages) == 300
    assert len({message.category for message in inputs.messages}) == 20
    assert len(inputs.questions) == 45
    assert len(inputs.documents) > 20


def test_sixty_of_the_messages_come_a_second_time_from_the_same_tenant() -> None:
    messages = read_messages(project_file("examples", "messages.csv"))
    assert messages[240:] == messages[:60]
    assert len(set(messages)) == 240


def test_other_peoples_data_sets_are_read_where_they_are(shared_data: Path) -> None:
    inputs = read_inputs(
        messages=shared_data / "banking77" / "test.csv",
        documents=shared_data / "celery_docs" / "documents.jsonl",
        questions=shared_data / "celery_docs" / "questions.jsonl",
    )
    assert (len(inputs.messages), len(inputs.documents), len(inputs.questions)) == (3080, 359, 45)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("message,label\nhello,x\n", "the first line must name the columns text and category"),
        ("text,category\n", "holds no message"),
        ("", "the first line must name"),
    ],
)
def test_a_csv_without_its_columns_is_refused_with_a_sentence(
    tmp_path: Path, content: str, sentence: str
) -> None:
    file = tmp_path / "messages.csv"
    file.write_text(content)
    with pytest.raises(ConfigError, match=sentence):
        read_messages(file)


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("not json", "line 2: this is not a line of JSON"),
        ("[1]", "line 2: this line must be a JSON object"),
        ('{"id": "a"}', 'line 2: the field "text" must be a text'),
        ('{"id": 7, "text": "x"}', 'line 2: the field "id" must be a text'),
    ],
)
def test_a_wrong_line_of_documents_is_named_with_its_number(tmp_path: Path, line: str, sentence: str) -> None:
    file = tmp_path / "documents.jsonl"
    file.write_text('{"id": "1", "text": "one"}\n' + line + "\n")
    with pytest.raises(ConfigError, match=sentence):
        read_documents(file)


def test_a_file_that_is_no_text_is_refused_with_a_sentence(tmp_path: Path) -> None:
    file = tmp_path / "questions.jsonl"
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="cannot be read"):
        read_questions(file)


def test_documents_without_questions_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="belong together"):
        read_inputs(messages=None, documents=tmp_path / "d.jsonl", questions=None)


def test_markdown_is_cut_at_its_headings_and_short_sections_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "guide.md").write_text(
        f"# Title\nshort\n## First\n{'words ' * 40}\n## Second\n{'more ' * 40}\n"
    )
    found = sections(tmp_path)
    assert [(one.id, one.title) for one in found] == [("guide#1", "First"), ("guide#2", "Second")]
