"""Answers from a folder of texts: SQLite's full-text search finds passages, and a model words the answer.

TEXTS is the folder with .txt and .md files, by default `texts` here. Without OPENAI_API_KEY it quotes them.
"""

import os
import re
import sqlite3
import threading
from collections.abc import AsyncIterator
from pathlib import Path

from chatbot.bot import Chunk, Message

FOLDER = Path(os.environ.get("TEXTS") or Path(__file__).with_name("texts"))
PROMPT = "Answer from these passages alone, and name the file.\n\n{passages}\n\nQuestion: {question}"


class Index:
    """The paragraphs of all files, in memory. The best are those with most of the question's rare words (BM25)."""

    def __init__(self, folder: Path) -> None:
        self._lock = threading.Lock()
        self._database = sqlite3.connect(":memory:", check_same_thread=False)
        self._database.execute("CREATE VIRTUAL TABLE passages USING fts5(file, text, tokenize = 'porter unicode61')")
        for file in sorted(path for path in folder.rglob("*") if path.suffix in (".txt", ".md")):
            paragraphs = (part.strip() for part in re.split(r"\n\s*\n", file.read_text("utf-8")))
            rows = ((file.name, paragraph) for paragraph in paragraphs if paragraph)
            self._database.executemany("INSERT INTO passages VALUES (?, ?)", rows)

    def find(self, question: str, limit: int = 3) -> list[tuple[str, str]]:
        """The best passages, each with its file."""
        # In quotation marks no word is an operator of the query language.
        query = " OR ".join(f'"{word}"' for word in re.findall(r"\w+", question))
        statement = "SELECT file, text FROM passages WHERE passages MATCH ? ORDER BY rank LIMIT ?"
        with self._lock:
            return self._database.execute(statement, (query, limit)).fetchall() if query else []


index = Index(FOLDER)


async def reply(conversation: list[Message]) -> AsyncIterator[str | Chunk]:
    *earlier, question = conversation
    found = index.find(question.text)
    if not found:
        yield "I have found nothing about that."
        return
    passages = "\n\n".join(f"{file}: {text}" for file, text in found)
    if not os.environ.get("OPENAI_API_KEY"):
        yield passages
        return
    from openai_bot import reply as ask

    prompt = Message("user", PROMPT.format(passages=passages, question=question.text))
    async for chunk in ask([*earlier, prompt]):
        yield chunk
