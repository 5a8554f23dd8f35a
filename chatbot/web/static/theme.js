/** Applies the stored theme before the page is drawn. A classic script: a module would run too late. */
try {
  const theme = localStorage.getItem('chat.theme');
  if (theme === 'light' || theme === 'dark') document.documentElement.dataset.theme = theme;
} catch {
  // The browser forbids storage: the system's theme counts.
}

// Its address is relative: the browser would look it up again under each chat's address.
const icon = document.querySelector('link[rel="icon"]');
icon.setAttribute('href', icon.href);
