/**
 * Runs before the page is drawn: applies the stored theme, and shows the view that the modules will fill. A classic
 * script: a module would run too late.
 */
{
  const root = document.documentElement;
  let hasChats = false;
  try {
    const theme = localStorage.getItem('chat.theme');
    if (theme === 'light' || theme === 'dark') root.dataset.theme = theme;
    hasChats = Boolean(sessionStorage.getItem('chat.token') ?? localStorage.getItem('chat.chats'));
    hasChats ||= Boolean(localStorage.getItem('chat.token'));
  } catch {
    // The browser forbids storage: there are no chats, and the system's theme counts.
  }
  root.dataset.view = hasChats || location.pathname.includes('/c/') ? 'chat' : 'start';

  // A chat needs its modules at once. The start page is drawn first.
  const loadChat = () => document.head.append(document.getElementById('chatModules').content);
  if (root.dataset.view === 'chat') loadChat();
  else requestAnimationFrame(() => setTimeout(loadChat));

  // A name that is entered before the modules are there: start-page.js takes it when it runs.
  document.addEventListener('submit', (event) => {
    if (event.target.id !== 'startForm') return;
    event.preventDefault();
    root.dataset.submitted = '';
  });

  // Its address is relative: the browser would look it up again under each chat's address.
  const icon = document.querySelector('link[rel="icon"]');
  icon.setAttribute('href', icon.href);
}
