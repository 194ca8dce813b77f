// Languages. English is part of the script; any other is one small file, loaded when it is needed.

function chooseLanguage(element, fallback) {
  const asked = [element.getAttribute("lang") || [], navigator.languages || navigator.language || [], fallback || []].flat();
  for (const tag of asked) {
    const found = LANGUAGES.find((known) => known === tag.toLowerCase().split("-")[0]);
    if (found) return found;
  }
  return "en";
}

async function loadLanguage(base, language) {
  if (language === "en") return EN;
  try {
    const response = await fetch(`${base}/assets/hub/${language}.json?v=${VERSION}`, { credentials: "omit" });
    return response.ok ? await response.json() : EN;
  } catch {
    return EN;
  }
}

function translate(strings, key, values = {}) {
  const text = strings[key] ?? EN[key] ?? key;
  // A name such as "Acme Inc." may end the sentence with its own full stop.
  return text.replace(/\{(\w+)\}/g, (whole, name) => values[name] ?? whole).replace(/\.\.$/, ".").replace(/\.\. /g, ". ");
}
