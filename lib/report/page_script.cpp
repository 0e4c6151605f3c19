#include "report/page.h"

namespace blockgtq {

const char* const kPageScript = R"((() => {
'use strict';
const all = (selector, root = document) => [...root.querySelectorAll(selector)];
const make = (name, text) => Object.assign(document.createElement(name), {textContent: text});

// A click on the head of a column sorts by it, the next one the other way round; what has no value stays last.
const key = (cell, number) => {
  const text = cell ? (cell.title || cell.textContent).trim() : '';
  if (!number) return text || null;
  const found = text.match(/[-+]?\d[\d.]*(e[-+]?\d+)?/i);
  return found ? parseFloat(found[0]) : null;
};
const order = (a, b, turn) => {
  if (a === null || b === null) return (a === null) - (b === null);
  return turn * (typeof a === 'number' ? a - b : a.localeCompare(b, undefined, {numeric: true}));
};
for (const table of all('table.sort')) {
  const heads = all('thead th', table);
  heads.forEach((head, column) => {
    const button = make('button', '');
    button.append(...head.childNodes);
    head.append(button);
    button.onclick = () => {
      const turn = head.getAttribute('aria-sort') === 'ascending' ? -1 : 1;
      for (const other of heads) other.removeAttribute('aria-sort');
      head.setAttribute('aria-sort', turn > 0 ? 'ascending' : 'descending');
      const rows = [...table.tBodies[0].rows].map(row => [key(row.cells[column], head.className === 'number'), row]);
      rows.sort((a, b) => order(a[0], b[0], turn));
      table.tBodies[0].append(...rows.map(row => row[1]));
    };
  });
}

// One of several parts is shown.
for (const box of all('[data-choose]')) {
  const parts = all('[data-choice]', box), names = [...new Set(parts.map(part => part.dataset.choice))];
  const select = document.createElement('select'), label = make('label', box.dataset.choose + ' ');
  select.autocomplete = 'off';
  select.append(...names.map(name => new Option(name)));
  select.onchange = () => {
    for (const part of parts) part.style.display = part.dataset.choice === select.value ? '' : 'none';
  };
  label.append(select);
  if (names.length > 1) box.prepend(label);
}

for (const code of all('pre.command code')) {
  const button = make('button', 'Copy');
  button.onclick = () => {
    getSelection().selectAllChildren(code);
    button.textContent = document.execCommand('copy') ? 'Copied' : 'Selected';
  };
  code.parentNode.after(button);
}

const data = document.getElementById('data'), link = make('a', 'Save the numbers as JSON');
link.href = URL.createObjectURL(new Blob([data.textContent], {type: 'application/json'}));
link.download = 'result.json';
document.getElementById('save').append(link);
})();
)";

}  // namespace blockgtq
