/** The menu's choice of a theme: as the system, light or dark. early.js applies it when the page is opened. */

import { page } from './page.js';
import { browserStorage } from './storage.js';

const KEY = 'chat.theme';

function draw() {
  const chosen = document.documentElement.dataset.theme ?? 'system';
  for (const button of page.themes.querySelectorAll('button')) {
    button.ariaPressed = String(button.dataset.theme === chosen);
  }
}

/** Applies what another tab or this one stored. */
export function applyTheme() {
  const theme = browserStorage.get(KEY);
  if (theme) document.documentElement.dataset.theme = theme;
  else delete document.documentElement.dataset.theme;
  draw();
}

export function setUpThemes() {
  page.themes.addEventListener('click', ({ target }) => {
    const theme = target.closest('button')?.dataset.theme;
    if (!theme) return;
    browserStorage.set(KEY, theme === 'system' ? null : theme);
    applyTheme();
  });
  draw();
}
