/** Parts of the page that are loaded when they are first needed: for code, a formula, copying, files, a search. */

/** Calls the function `name` of a module: at once when it is loaded, else when it is. */
function later(load, name) {
  let part = null;
  let loading = null;
  return (...values) => {
    if (part) {
      part[name](...values);
      return;
    }
    loading ??= load().then(
      (module) => {
        part = module;
      },
      () => {
        loading = null; // offline: the next call tries again
      },
    );
    loading.then(() => part?.[name](...values));
  };
}

const colourNow = later(() => import('./code-colours.js'), 'colour');
const typesetNow = later(() => import('./maths.js'), 'typeset');

/** Colours the text of an element, soon; called again whenever the text has grown. */
export function colour(element, language) {
  if (language) colourNow(element, language);
}

/** Replaces the formulas of a fragment: at once when KaTeX is there, else when it is. */
export function typeset(fragment) {
  const nodes = [...fragment.querySelectorAll('code[data-maths]')];
  for (const node of nodes) node.className = 'tex';
  if (nodes.length) typesetNow(nodes);
}

/** A function that loads a module once, and returns it; undefined while it cannot be loaded. */
function once(load) {
  let loading = null;
  return () => {
    loading ??= load().catch(() => {
      loading = null; // offline: the next call tries again
    });
    return loading;
  };
}

/** The module export.js. Loaded with the first messages of a chat: it must be there when the server is not. */
export const loadExport = once(() => import('./export.js'));

/** The module clipboard.js; loaded with the first messages, too. */
export const loadClipboard = once(() => import('./clipboard.js'));

/** The module chat-import.js. */
export const loadImport = once(() => import('./chat-import.js'));

/** The module message-search.js, for the first search. */
export const loadSearch = once(() => import('./message-search.js'));
