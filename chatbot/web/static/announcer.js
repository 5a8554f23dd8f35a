/** What a screen reader is told, one finished thing at a time. */

const LASTS = 20_000;

const region = document.getElementById('announcer');

export function announce(text) {
  const line = document.createElement('p');
  line.textContent = text;
  region.append(line);
  setTimeout(() => line.remove(), LASTS);
}
