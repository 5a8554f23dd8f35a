"""The order of the messages."""

from __future__ import annotations

from tests.support.page_user import PageUser

TRIMMED = """
async (base) => {
  const { Conversation } = await import(base + 'conversation.js');
  const conversation = new Conversation();
  const human = (id) => ({ id, source: 'human', msg: id, reply_to: null });
  const bot = (id) => ({ id: `r${id}`, source: 'bot', msg: `r${id}`, reply_to: id });
  const log = ['a', 'b', 'c'].flatMap((id) => [human(id), bot(id)]);
  conversation.merge(log);
  conversation.merge([...log.slice(3), human('d'), bot('d')]);
  return conversation.order.map((turn) => turn.id);
}
"""


def test_messages_that_the_server_has_dropped_keep_their_place(ada: PageUser) -> None:
    assert ada.page.evaluate(TRIMMED, ada.modules) == ["a", "b", "c", "d"]
