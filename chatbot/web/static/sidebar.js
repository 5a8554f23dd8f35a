/** The list of chats: beside the conversation on wide screens, else a drawer over it. */

const side = document.getElementById('side');
const stage = document.getElementById('stage');
const shade = document.getElementById('shade');
const list = document.getElementById('chats');
const opener = document.getElementById('openChats');
const lifetime = document.getElementById('lifetime');

const wide = window.matchMedia('(min-width: 60rem)');
const clock = new Intl.DateTimeFormat(undefined, { hour: 'numeric', minute: '2-digit' });
const calendar = new Intl.DateTimeFormat(undefined, { day: 'numeric', month: 'short' });

/** The time of today's chats, the day of older ones. */
function when(time) {
  const then = new Date(time);
  return (then.toDateString() === new Date().toDateString() ? clock : calendar).format(then);
}

const UNITS = Object.entries({ day: 86_400, hour: 3600, minute: 60, second: 1 });

function duration(seconds) {
  for (const [unit, size] of UNITS) {
    const count = Math.round(seconds / size);
    if (count >= 1 && seconds >= size) return count === 1 ? `1 ${unit}` : `${count} ${unit}s`;
  }
  return 'a moment';
}

export class Sidebar {
  #drawn = ''; // as JSON

  /** `open(token)` is called for the chat that the user chooses. */
  constructor(open) {
    list.addEventListener('click', ({ target }) => {
      const button = target.closest('button[data-token]');
      if (!button) return;
      this.close();
      open(button.dataset.token);
    });
    opener.addEventListener('click', () => this.#open());
    shade.addEventListener('click', () => this.close());
    document.getElementById('closeChats').addEventListener('click', () => this.close());
    side.addEventListener('keydown', (event) => {
      if (event.key === 'Escape') this.close();
    });
    wide.addEventListener('change', () => this.close());
  }

  /** `entries` are those of Chats, `current` is the token of the shown chat, `ttl` is in seconds. */
  draw(entries, current, ttl) {
    const drawn = JSON.stringify([entries, current, ttl]);
    if (drawn === this.#drawn) return;
    this.#drawn = drawn;
    const focused = document.activeElement?.dataset?.token;
    list.replaceChildren(...entries.map((entry) => this.#item(entry, entry.token === current)));
    if (focused) list.querySelector(`[data-token="${CSS.escape(focused)}"]`)?.focus();
    lifetime.textContent = ttl ? `A chat is kept for ${duration(ttl)} after its last use.` : '';
  }

  close() {
    if (!side.classList.contains('open')) return;
    const inside = side.contains(document.activeElement);
    side.classList.remove('open');
    shade.hidden = true;
    stage.inert = false;
    opener.ariaExpanded = 'false';
    if (inside && !wide.matches) opener.focus();
  }

  #open() {
    side.classList.add('open');
    shade.hidden = false;
    stage.inert = true;
    opener.ariaExpanded = 'true';
    (list.querySelector('[aria-current]') ?? document.getElementById('closeChats')).focus();
  }

  #item({ token, title, used }, current) {
    const item = document.importNode(document.getElementById('chatEntry').content.firstElementChild, true);
    const button = item.querySelector('button');
    button.dataset.token = token;
    if (current) button.setAttribute('aria-current', 'true');
    button.querySelector('.title').textContent = title || 'New chat';
    button.querySelector('time').textContent = when(used);
    return item;
  }
}
