// Sets the chosen theme before the first paint; a classic script, so that nothing flashes. Without a choice the
// system's theme holds (color-scheme in page.css).
try {
  const theme = localStorage.getItem("autotag.theme");
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
} catch {
  // storage is switched off: the system's theme holds
}
