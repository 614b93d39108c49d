// Sets the chosen theme before the first paint. Everything else about settings is in lib/settings.svelte.ts.
(function () {
  try {
    var theme = JSON.parse(localStorage.getItem('onebit.settings') || '{}').theme;
    if (theme === 'light' || theme === 'dark') document.documentElement.dataset.theme = theme;
  } catch (e) {
    // Storage may be blocked; the system's theme then holds.
  }
})();
