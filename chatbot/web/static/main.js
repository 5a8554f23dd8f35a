/** The page's entry point. The start page works as soon as its few modules are there; the rest is loaded behind it. */

import { shownView } from './page.js';
import { StartPage } from './start-page.js';

const RELOAD = 'A part of this page could not be loaded. Reload the page.';

const loading = import('./app.js').catch((error) => {
  reportError(error);
  return null;
});

const startPage = new StartPage(async (session) => {
  const app = await ready;
  if (app) app.openNew(session);
  else startPage.show({ problem: RELOAD });
});

/** The App, or null when it could not be loaded. */
const ready = loading.then((module) => {
  const app = module && new module.App(startPage);
  app?.openFirst();
  return app;
});

if (shownView() === 'start') startPage.begin();
ready.then((app) => {
  if (!app) startPage.show({ problem: RELOAD });
});
