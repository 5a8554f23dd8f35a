/** The page's entry point. The start page works as soon as its few modules are there; the rest is loaded behind it. */

import { shownView } from './page.js';
import { StartPage } from './start-page.js';

const RELOAD = 'A part of this page could not be loaded. Try again, or reload the page.';

let loading = null;

/** The App; null when it cannot be loaded now, which the next call tries again. */
function loadApp() {
  loading ??= import('./app.js').then(
    ({ App }) => new App(startPage),
    (error) => {
      loading = null;
      console.warn(error);
      return null;
    },
  );
  return loading;
}

const startPage = new StartPage(async (session) => {
  const app = await loadApp();
  if (app) app.openNew(session);
  else startPage.show({ problem: RELOAD });
});

if (shownView() === 'start') startPage.begin();
const app = await loadApp();
if (app) app.openFirst();
else if (shownView() !== 'start') startPage.show({ problem: RELOAD });
