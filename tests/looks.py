"""What is wrong with how a page looks: sideways scroll, contrast below WCAG's AA, what no key reaches."""

from pathlib import Path

SCHEMES = [(width, dark) for width in (375, 1200) for dark in (False, True)]

# contrast of every piece of text that is seen against the first background behind it that is not transparent
CONTRAST = """(() => {
  const parts = text => (text.match(/[\\d.]+/g) || [0, 0, 0, 0]).map(Number);
  const light = ([r, g, b]) => [r, g, b].map(v => (v /= 255) <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0);
  const over = (top, below) => { const a = top[3] ?? 1; return below.map((v, i) => a * top[i] + (1 - a) * v); };
  const ground = element => {
    const layers = [];
    for (let e = element; e; e = e.parentElement) {
      const c = parts(getComputedStyle(e).backgroundColor);
      if ((c[3] ?? 1) > 0) layers.push(c);
      if ((c[3] ?? 1) === 1) break;
    }
    const dark = matchMedia('(prefers-color-scheme: dark)').matches;
    const canvas = getComputedStyle(document.documentElement).colorScheme.includes('dark') && dark ? 18 : 255;
    return layers.reverse().reduce((below, top) => over(top, below), [canvas, canvas, canvas]);
  };
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT), low = new Set();
  for (let node; node = walk.nextNode();) {
    const e = node.parentElement, style = getComputedStyle(e);
    if (!node.data.trim() || ['SCRIPT', 'STYLE', 'TITLE', 'DESC'].includes(e.tagName.toUpperCase())) continue;
    if (!e.checkVisibility({opacityProperty: true, visibilityProperty: true})) continue;
    if (e.matches(':disabled, :disabled *')) continue;
    const box = e.getBoundingClientRect();
    if (box.width < 2 || box.height < 2) continue;
    const back = ground(e), drawn = e.closest('svg') ? style.fill : style.color;
    if (drawn === 'none') continue;
    const [a, b] = [light(over(parts(drawn), back)), light(back)].sort((x, y) => y - x);
    const size = parseFloat(style.fontSize), large = size >= 24 || size >= 18.66 && style.fontWeight >= 700;
    const ratio = (a + .05) / (b + .05);
    if (ratio < (large ? 3 : 4.5))
      low.add(`contrast ${ratio.toFixed(2)}: ${e.tagName} "${node.data.trim().slice(0, 40)}" ${drawn} on ${back}`);
  }
  return [...low];
})()"""

# what a click does something to, and no key reaches
KEYS = """[...document.querySelectorAll('a, button, summary, input, select, textarea, [onclick], [role=button]')]
  .filter(e => e.checkVisibility() && !e.disabled && e.tabIndex < 0 && e.type !== 'file')
  .map(e => `no key reaches ${e.outerHTML.slice(0, 80)}`)"""

WIDE = """(() => {
  const seen = document.documentElement.clientWidth, all = document.documentElement.scrollWidth;
  if (all <= seen) return [];
  const far = [...document.body.querySelectorAll('*')].filter(e => e.getBoundingClientRect().right > seen + 1);
  return [`wider than the window: ${all} > ${seen}: ` + far.slice(0, 3).map(e => e.outerHTML.slice(0, 80)).join(' ')];
})()"""


def faults(page, name, shots=None):
    """What is wrong in the page that is open, each with the width and the scheme. shots: a folder for its pictures."""
    found = []
    for width, dark in SCHEMES:
        page.size(width, dark=dark)
        where = f"{width} px, {'dark' if dark else 'light'}"
        found += [f"{name}, {where}: {said}" for code in (WIDE, CONTRAST, KEYS) for said in page.js(code)]
        if shots:
            page.shoot(Path(shots) / f"{name}-{width}-{'dark' if dark else 'light'}.png")
    return found
